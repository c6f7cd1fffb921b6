//! `u2f`: security keys by FIDO U2F, as Xpra's clients use them.

use super::{Context, Module, OptionSpec, Options, security_key};
use crate::{ConfigError, Verifier, keys::Kind};

pub(super) struct U2f;

impl Module for U2f {
    fn name(&self) -> &'static str {
        Kind::U2f.name()
    }

    fn summary(&self) -> &'static str {
        "security keys by FIDO U2F"
    }

    fn options(&self) -> &'static [OptionSpec] {
        // What only FIDO2 knows comes last.
        security_key::OPTIONS.split_last().map_or(&[], |(_, options)| options)
    }

    fn manual(&self) -> &'static str {
        "The client's security key signs the challenge, and the touch of a hand with it. `countersign keys add NAME` \
         keeps a user's public key as the file keys/NAME/u2f-*-pub.hex of the state directory, or of keys=DIR; each \
         user may have several, and the key that signed proves its user. With public-key=HEX the holder of that key \
         passes, whoever it is, and nobody is named. Files of Xpra's own tool are read.\n\n\
         A key counts its signatures. The last count is kept in the state directory, and an answer that does not go \
         beyond it is refused and logged as an error: the key may have been copied. The client says which server it \
         believes to log in at; with origins= only those named there are taken, which defeats a server in between: our \
         client says the address it dials, as in tls://host:443, Xpra's says the name of its own machine.\n\n\
         Nothing that travels can be used again, so it may be asked for on any wire."
    }

    fn example(&self) -> &'static str {
        "u2f(origins=tls://app.example.com:443)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn prompt(&self) -> Option<&'static str> {
        Some("security key")
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError> {
        security_key::configure(Kind::U2f, options, context)
    }
}
