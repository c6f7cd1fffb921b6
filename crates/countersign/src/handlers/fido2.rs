//! `fido2`: a security key signs, by FIDO2.

use super::{Handler, Sources, security_key};
use crate::{
    error::ConfigError,
    keys::Kind,
    options::{OptionSpec, Options},
    proto::client::Responder,
};

pub(super) struct Fido2;

impl Handler for Fido2 {
    fn name(&self) -> &'static str {
        Kind::Fido2.name()
    }

    fn summary(&self) -> &'static str {
        "a security key, by FIDO2"
    }

    fn options(&self) -> &'static [OptionSpec] {
        security_key::OPTIONS
    }

    fn manual(&self) -> &'static str {
        "As `u2f`, with files that begin with fido2 and the variable COUNTERSIGN_FIDO2_KEY_HANDLE. A key that speaks \
         CTAP2 is asked that way, and checks a finger where it can; an older one is asked by U2F, as Xpra's client \
         does. A key that wants a PIN for each use cannot be used: no PIN is asked for."
    }

    fn example(&self) -> &'static str {
        "fido2(keyfile=/home/alice/.app-key)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        security_key::configure(Kind::Fido2, options, sources)
    }
}
