//! `fido2`: security keys by FIDO2, of browsers and of our client.

use super::{Context, Module, OptionSpec, Options, security_key};
use crate::{ConfigError, Verifier, keys::Kind};

pub(super) struct Fido2;

impl Module for Fido2 {
    fn name(&self) -> &'static str {
        Kind::Fido2.name()
    }

    fn summary(&self) -> &'static str {
        "security keys by FIDO2, with ES256 or EdDSA"
    }

    fn options(&self) -> &'static [OptionSpec] {
        security_key::OPTIONS
    }

    fn manual(&self) -> &'static str {
        "As `u2f`, for keys that speak CTAP2: the files are keys/NAME/fido2-*-pub.hex, with ES256 or EdDSA. The \
         application id is the relying party's id, which a browser takes from the page's host name: write \
         app-id=HOST for browsers, and origins=https://HOST. An answer carries Xpra's client data or a browser's.\n\n\
         With user-verification=yes the key must know its user by a PIN or a finger, else a touch is enough. A key that \
         does not count its signatures always says 0, which passes as long as it never said more."
    }

    fn example(&self) -> &'static str {
        "fido2(app-id=app.example.com, origins=https://app.example.com)"
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
        security_key::configure(Kind::Fido2, options, context)
    }
}
