//! `allow`: asks for a password and takes every answer.

use super::{Context, Module, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Verifier,
    error::ConfigError,
    proto::chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
};

pub(super) struct Allow;

impl Module for Allow {
    fn name(&self) -> &'static str {
        "allow"
    }

    fn summary(&self) -> &'static str {
        "asks for a password and takes every answer: for tests only"
    }

    fn manual(&self) -> &'static str {
        "A client has to answer, and any answer will do. The identity is the name that the client claims, so \
         everybody can be anybody: never use it where a backend acts on the name. A warning is printed at start and \
         for every connection."
    }

    fn example(&self) -> &'static str {
        "allow"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, _: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Exchange(Box::new(Anybody)))
    }
}

struct Anybody;

impl OpenExchange for Anybody {
    fn open(&self, _: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(AnyAnswer(claim.username.clone().map(Identity::new))))
    }
}

struct AnyAnswer(Option<Identity>);

impl Exchange for AnyAnswer {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        match answer {
            None => Verdict::Ask(Ask::Hmac),
            Some(_) => Verdict::Pass(self.0.take()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_first_and_names_whom_the_client_claims_to_be() {
        let mut exchange = Anybody.open(&Peer::unix(None), &Claim::named("alice").unwrap()).unwrap();
        assert!(matches!(exchange.step(None), Verdict::Ask(Ask::Hmac)));
    }
}
