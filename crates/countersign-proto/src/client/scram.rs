//! A secret, proved by SCRAM. [`super::consult`] runs it for whatever responder holds the secret.

use super::{
    Failure, FailureKind,
    responder::{Exchange, Question},
};
use crate::{
    challenge::{Challenge, Response},
    identity::Username,
    mechanism::scram::{ClientFirst, DONE, Expected, Fault, Stage, Variant},
    secret::Secret,
};

/// The rounds of one login.
pub(super) struct Rounds {
    secret: Secret,
    stands: Stands,
}

/// What the server has to say next.
enum Stands {
    Begun,
    Named(Variant, ClientFirst),
    Proved(Variant, Expected),
    /// Nothing: it has proved itself, or broke the rules.
    Over,
}

impl Rounds {
    /// Rounds that prove `secret`, which is not empty.
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, stands: Stands::Begun }
    }
}

impl Exchange for Rounds {
    fn step(&mut self, challenge: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        let Some((variant, stage)) = challenge.mechanism.scram() else { return Err(out_of_turn()) };
        let message = match (std::mem::replace(&mut self.stands, Stands::Over), stage) {
            (Stands::Begun, Stage::ClientFirst) => {
                let name = question.username.map_or("", Username::as_str);
                let binding = question.server.channel_binding.as_deref();
                let first = ClientFirst::new(variant, name, question.nonce, binding).map_err(broken)?;
                let message = first.message();
                self.stands = Stands::Named(variant, first);
                message
            }
            (Stands::Named(same, first), Stage::ServerFirst) if same == variant => {
                let (message, expected) = first.prove(&challenge.salt, &self.secret).map_err(broken)?;
                self.stands = Stands::Proved(variant, expected);
                message
            }
            (Stands::Proved(same, expected), Stage::ServerFinal) if same == variant => {
                expected.confirm(&challenge.salt).map_err(broken)?;
                DONE.to_vec()
            }
            _ => return Err(out_of_turn()),
        };
        Ok(Some(Response::new(Secret::new(message), Vec::new())))
    }

    fn is_owed(&self) -> bool {
        matches!(self.stands, Stands::Named(..) | Stands::Proved(..))
    }
}

fn broken(fault: Fault) -> Failure {
    if fault == Fault::Wrong {
        let cause = "the server does not prove that it knows the password";
        return Failure::new(FailureKind::Misbehaved, cause)
            .with_fix("check the address: this may not be the server it says");
    }
    Failure::new(FailureKind::Misbehaved, format!("the server broke the protocol: {fault}"))
}

fn out_of_turn() -> Failure {
    Failure::new(FailureKind::Misbehaved, "the server broke the protocol: it asks out of turn")
}
