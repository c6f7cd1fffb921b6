//! `u2f`: a security key signs, by FIDO U2F.

use super::{Handler, Sources, security_key};
use crate::{
    error::ConfigError,
    keys::Kind,
    options::{OptionSpec, Options},
    proto::client::Responder,
};

pub(super) struct U2f;

impl Handler for U2f {
    fn name(&self) -> &'static str {
        Kind::U2f.name()
    }

    fn summary(&self) -> &'static str {
        "a security key, by FIDO U2F"
    }

    fn options(&self) -> &'static [OptionSpec] {
        security_key::OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The security key that is plugged in signs when it is touched; `countersign keys add` makes it ready and \
         writes its handle. The handle is read from key-handle=FILE, from the variable \
         COUNTERSIGN_U2F_KEY_HANDLE, or from u2f-keyhandle-HOST.hex, then u2f-keyhandle.hex in the user's \
         configuration folders of countersign and of Xpra. Without one nothing is answered. With keyfile=FILE a key in \
         a file signs, which nobody has to touch: for programs.\n\n\
         The signature is for one server: the address that is dialled, unless origin= says otherwise. A server in \
         between cannot use it where the gateway names its own address in origins=."
    }

    fn example(&self) -> &'static str {
        "u2f(key-handle=/home/alice/.config/countersign/u2f-keyhandle.hex)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        security_key::configure(Kind::U2f, options, sources)
    }
}
