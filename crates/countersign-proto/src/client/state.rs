//! The states of a client's conversation, each with exactly the data that is valid then.

use std::{collections::VecDeque, fmt, time::Instant};

use super::{
    Action, Context, ServerMessage,
    consult::{Bench, Consult, Consulted, Proof, base_name, unproved},
    failure::{Failure, FailureKind, OPEN_WIRE},
};
use crate::{
    challenge::{Challenge, Response},
    mechanism::{Hash, Mechanism, scram::Stage},
};

/// What the conversation waits for.
pub(super) enum State {
    /// The stream.
    Idle { bench: Bench },
    /// What follows a hello.
    AwaitReply { bench: Bench, answered: Vec<Mechanism>, until: Instant },
    /// Responders that are asked for an initial response. They come back with it, or without.
    Preparing { ticket: u64 },
    /// Responders that are asked elsewhere. They come back with the answer.
    Consulting { ticket: u64, answered: Vec<Mechanism>, mechanism: Mechanism, is_last: bool },
    /// Nothing: it is over.
    Closed,
}

type Actions = VecDeque<Action>;

impl State {
    pub(super) fn start(self, context: &mut Context, now: Instant, actions: &mut Actions) -> Self {
        let Self::Idle { bench } = self else { return self };
        let Some(challenge) = context.implied_challenge() else {
            return say_hello(context, now, bench, None, actions);
        };
        let proof = Proof::OfSecret { client_salt: context.salt(), salt_hash: Hash::Sha512 };
        // Only a countersign server looks at it.
        let consult =
            Consult { is_initial: true, countersign: true, ..context.consult(bench, challenge, proof, 0) };
        let ticket = consult.ticket;
        actions.push_back(Action::Consult(consult));
        Self::Preparing { ticket }
    }

    pub(super) fn handle(self, context: &mut Context, message: ServerMessage, actions: &mut Actions) -> Self {
        match (self, message) {
            (Self::Closed, _) => Self::Closed,
            (_, ServerMessage::Disconnect(words)) => fail(Failure::of_disconnect(&words), actions),
            (_, ServerMessage::Malformed(why)) => fail(misbehaved(why), actions),
            (_, ServerMessage::Closed) => {
                let cause = "the server closed the connection without a word";
                fail(Failure::new(FailureKind::Closed, cause), actions)
            }
            (Self::Idle { .. } | Self::Preparing { .. } | Self::Consulting { .. }, _) => {
                fail(misbehaved("it speaks out of turn"), actions)
            }
            (Self::AwaitReply { mut bench, mut answered, until }, ServerMessage::TookInitialResponse) => {
                if bench.spend_initial() {
                    answered.push(Mechanism::Hmac(Hash::Sha512));
                }
                Self::AwaitReply { bench, answered, until }
            }
            (Self::AwaitReply { bench, .. }, ServerMessage::Welcome) if bench.is_owed() => {
                fail(unproved(), actions)
            }
            (Self::AwaitReply { answered, .. }, ServerMessage::Welcome) => {
                welcome(context, answered, actions)
            }
            (
                Self::AwaitReply { mut bench, answered, .. },
                ServerMessage::Challenge { challenge, countersign },
            ) => match context.allow(&challenge, answered.len()) {
                Ok(proof) => {
                    bench.take_initial_back();
                    let (mechanism, is_last) = (challenge.mechanism.clone(), challenge.is_last);
                    let consult = context.consult(bench, challenge, proof, answered.len());
                    let consult = Consult { countersign, ..consult };
                    let ticket = consult.ticket;
                    actions.push_back(Action::Consult(consult));
                    Self::Consulting { ticket, answered, mechanism, is_last }
                }
                Err(failure) => fail(failure, actions),
            },
        }
    }

    pub(super) fn handle_consulted(
        self,
        context: &Context,
        now: Instant,
        done: Consulted,
        actions: &mut Actions,
    ) -> Self {
        if let Self::Preparing { ticket } = self {
            if done.ticket != ticket {
                return self;
            }
            return say_hello(context, now, done.bench, done.outcome.ok().flatten(), actions);
        }
        let Self::Consulting { ticket, mut answered, mechanism, is_last } = self else { return self };
        if done.ticket != ticket {
            return Self::Consulting { ticket, answered, mechanism, is_last };
        }
        match done.outcome {
            Ok(Some(response)) => {
                // What follows SCRAM's first round is the same answer going on.
                if mechanism.scram().is_none_or(|(_, stage)| stage == Stage::ClientFirst) {
                    answered.push(mechanism.recorded());
                }
                let hello = context.hello().with_response(Some(response));
                // To a server that still owes its proof nothing is said that is not for the login.
                let is_last = is_last && !done.bench.is_owed();
                actions.push_back(Action::Send { hello: Box::new(hello), is_last });
                let until = now + context.settings.reply_timeout;
                Self::AwaitReply { bench: done.bench, answered, until }
            }
            Ok(None) => fail(nothing_to_say(&mechanism, answered.len()), actions),
            Err(failure) => fail(failure, actions),
        }
    }

    pub(super) fn handle_timeout(self, now: Instant, actions: &mut Actions) -> Self {
        match self {
            Self::AwaitReply { until, .. } if until <= now => {
                fail(Failure::new(FailureKind::Timeout, "the server did not answer in time"), actions)
            }
            other => other,
        }
    }
}

/// The first hello.
fn say_hello(
    context: &Context,
    now: Instant,
    bench: Bench,
    initial: Option<Response>,
    actions: &mut Actions,
) -> State {
    let hello = context.hello().expecting_challenge(context.has_secret_at_hand());
    let hello = Box::new(hello.with_initial_response(initial));
    actions.push_back(Action::Send { hello, is_last: false });
    State::AwaitReply { bench, answered: Vec::new(), until: now + context.settings.reply_timeout }
}

impl Context {
    /// How `challenge` may be answered, if at all. Nothing is asked of anybody before this.
    fn allow(&mut self, challenge: &Challenge, before: usize) -> Result<Proof, Failure> {
        if before >= MOST_CHALLENGES {
            return Err(misbehaved("it asks without end"));
        }
        let name = &challenge.mechanism;
        let forbidden = |cause: String| Failure::new(FailureKind::Forbidden, cause);
        if *name == Mechanism::Xor && !self.server.confidential {
            // S-33. It was not offered either, but the reason that helps is this one.
            let cause = "the server asks for the password itself, and the connection is not encrypted";
            return Err(forbidden(cause.to_owned()).with_fix(OPEN_WIRE));
        }
        if matches!(name, Mechanism::Other(_)) {
            let base = base_name(name);
            let answered = self.responders.iter().any(|responder| responder.answers(&base));
            return match answered && self.offer.mechanisms.contains(&base) {
                true => Ok(Proof::OfExchange { nonce: self.salt() }),
                false => Err(forbidden(not_offered(name))),
            };
        }
        // W35: what was not offered is not answered, also where it could be.
        if !self.offer.mechanisms.contains(&name.to_string()) {
            return Err(forbidden(not_offered(name)));
        }
        let salt_digest = Some(&challenge.salt_digest).filter(|name| self.offer.salt_digests.contains(name));
        let salt_hash = salt_digest.and_then(|name| Hash::strongest_in(std::slice::from_ref(name)));
        match salt_hash {
            Some(salt_hash) => Ok(Proof::OfSecret { client_salt: self.salt(), salt_hash }),
            None => {
                let cause = "the server combines the salts in a way that does not protect the password";
                Err(forbidden(cause.to_owned()).with_fix("bring the server up to date"))
            }
        }
    }
}

fn welcome(context: &Context, answered: Vec<Mechanism>, actions: &mut Actions) -> State {
    if context.settings.require_auth && answered.is_empty() {
        let cause = "the server lets everybody in, and a login is required";
        let failure = Failure::new(FailureKind::Forbidden, cause)
            .with_fix("check the address; without the requirement any server is taken");
        return fail(failure, actions);
    }
    actions.push_back(Action::Established { answered });
    State::Closed
}

fn fail(failure: Failure, actions: &mut Actions) -> State {
    actions.push_back(Action::Fail(failure));
    State::Closed
}

fn misbehaved(why: impl fmt::Display) -> Failure {
    Failure::new(FailureKind::Misbehaved, format!("the server broke the protocol: {why}"))
}

fn not_offered(mechanism: &Mechanism) -> String {
    let name = super::quotable(&mechanism.to_string());
    format!("the server asks for \"{name}\", which this client did not offer")
}

fn nothing_to_say(mechanism: &Mechanism, answered: usize) -> Failure {
    let cause = match (mechanism, answered) {
        (Mechanism::Other(_), _) if mechanism.scram().is_none() => {
            "the server asks for a proof that no handler can give"
        }
        (_, 0) => "the server asks for a password, and none was found",
        (_, _) => "the server asks for one more password, and none is left",
    };
    let fix = "give one with --password-file or XPRA_PASSWORD, or run this on a terminal";
    Failure::new(FailureKind::NoCredential, cause).with_fix(fix)
}

/// More questions than any chain has; an exchange could otherwise be kept busy for ever.
const MOST_CHALLENGES: usize = 32;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle { .. } => "Idle",
            Self::AwaitReply { .. } => "AwaitReply",
            Self::Preparing { .. } => "Preparing",
            Self::Consulting { .. } => "Consulting",
            Self::Closed => "Closed",
        })
    }
}
