//! `fail`: refuses everybody without a question.

use super::{Context, Module, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Verifier,
    error::ConfigError,
    proto::{chain::CheckPeer, error::Reason},
};

pub(super) struct Fail;

impl Module for Fail {
    fn name(&self) -> &'static str {
        "fail"
    }

    fn summary(&self) -> &'static str {
        "refuses everybody without a question"
    }

    fn manual(&self) -> &'static str {
        "Every client is refused as soon as the chain reaches this link; nothing is asked. It serves tests of what \
         happens after a refusal, and closes a socket without taking it away. `reject` does the same after it has \
         asked for a password."
    }

    fn example(&self) -> &'static str {
        "fail"
    }

    fn configure(&self, _: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Peer(Box::new(Nobody)))
    }
}

struct Nobody;

impl CheckPeer for Nobody {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Err(Refusal::new(Reason::Denied, "the module `fail` refuses everybody"))
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes() {
        let refusal = Nobody.check(&Peer::unix(None), &Claim::anonymous()).unwrap_err();
        assert_eq!(refusal.reason, Reason::Denied);
    }
}
