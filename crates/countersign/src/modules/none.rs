//! `none`: asks nothing and lets everybody in.

use super::{Context, Module, Options};
use crate::{Claim, Identity, Peer, Refusal, Verifier, error::ConfigError, proto::chain::CheckPeer};

pub(super) struct None;

impl Module for None {
    fn name(&self) -> &'static str {
        "none"
    }

    fn summary(&self) -> &'static str {
        "asks nothing and lets everybody in"
    }

    fn manual(&self) -> &'static str {
        "Every client that reaches the socket is let in, and nobody is named by it. It is the way to say that a \
         network socket shall be open: without it, such a socket is refused at start. A warning is printed at start \
         and for every connection."
    }

    fn example(&self) -> &'static str {
        "none"
    }

    fn configure(&self, _: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Peer(Box::new(Everybody)))
    }
}

struct Everybody;

impl CheckPeer for Everybody {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Ok(Option::None)
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_passes_and_nobody_is_named() {
        let passed = Everybody.check(&Peer::unix(Option::None), &Claim::named("alice").unwrap());
        assert_eq!(passed, Ok(Option::None));
    }
}
