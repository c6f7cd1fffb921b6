//! `reject`: asks for a password and refuses every answer.

use super::{Context, Module, Options};
use crate::{
    Claim, Refusal, Verifier,
    error::ConfigError,
    proto::{
        chain::{Entry, LookupSecret},
        error::Reason,
    },
};

pub(super) struct Reject;

impl Module for Reject {
    fn name(&self) -> &'static str {
        "reject"
    }

    fn summary(&self) -> &'static str {
        "asks for a password and refuses every answer"
    }

    fn manual(&self) -> &'static str {
        "It asks as `file` does and then refuses, whatever the answer. A client cannot tell it from a module that \
         knows no such user: same packets, same text, same time, same hashing."
    }

    fn example(&self) -> &'static str {
        "reject"
    }

    fn configure(&self, _: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Secret(Box::new(Nobody)))
    }
}

struct Nobody;

impl LookupSecret for Nobody {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Err(Refusal::new(Reason::Denied, "the module `reject` refuses every answer"))
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_passes() {
        assert_eq!(Nobody.lookup(&Claim::named("alice").unwrap()).unwrap_err().reason, Reason::Denied);
    }
}
