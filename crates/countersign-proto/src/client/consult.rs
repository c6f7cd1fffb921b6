//! The asking of responders, on its way out of the conversation and back.
//!
//! A responder may wait for a disk, a device or a person. The conversation therefore never calls
//! one: it hands out a [`Consult`], which any thread may [`Consult::run`].

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    Server,
    failure::{Failure, FailureKind},
    responder::{Exchange, Means, Provided, Question, Responder},
    scram::Rounds,
};
use crate::{
    challenge::{Challenge, Response},
    identity::Username,
    mechanism::{Hash, Mechanism, hmac, scram::Stage, xor},
    secret::Secret,
};

/// A question to the responders.
pub struct Consult {
    pub(super) ticket: u64,
    pub(super) bench: Bench,
    pub(super) challenge: Challenge,
    pub(super) proof: Proof,
    pub(super) countersign: bool,
    pub(super) username: Option<Username>,
    pub(super) server: Arc<Server>,
    pub(super) number: usize,
    /// The server has not asked: only a secret that needs no person answers, and its turn may come back.
    pub(super) is_initial: bool,
}

/// The result of a [`Consult`], for [`super::Conversation::handle_consulted`].
pub struct Consulted {
    pub(super) ticket: u64,
    pub(super) bench: Bench,
    /// `Ok(None)`: nobody had an answer.
    pub(super) outcome: Result<Option<Response>, Failure>,
}

/// How an answer to a challenge is made, as the rules allow it.
pub(super) enum Proof {
    /// From a secret, with this client salt; the salts are combined under the hash.
    OfSecret { client_salt: Vec<u8>, salt_hash: Hash },
    /// By an exchange that declares the mechanism, with these random bytes. A secret answers nothing but
    /// SCRAM here (W34).
    OfExchange { nonce: Vec<u8> },
}

/// The responders and how often each was asked on this connection.
pub(super) struct Bench {
    responders: Arc<[Responder]>,
    asked: Vec<usize>,
    /// How often each was asked before the initial response, as long as nobody knows whether it counts.
    before_initial: Option<Vec<usize>>,
    /// The exchange under way, and whose it is.
    running: Option<(usize, Box<dyn Exchange>)>,
}

impl Bench {
    pub(super) fn new(responders: Arc<[Responder]>) -> Self {
        let asked = vec![0; responders.len()];
        Self { responders, asked, before_initial: None, running: None }
    }

    /// The first responder that `fits` and has a turn left; the turn is taken.
    fn call(&mut self, fits: impl Fn(&Responder) -> Option<usize>) -> Option<(usize, usize)> {
        let seats = self.responders.iter().zip(&mut self.asked).enumerate();
        for (seat, (responder, asked)) in seats {
            let turn = *asked;
            if fits(responder).is_some_and(|turns| turn < turns) {
                *asked += 1;
                return Some((seat, turn));
            }
        }
        None
    }

    /// The server judged the initial response; `false` if there was none to judge.
    pub(super) fn spend_initial(&mut self) -> bool {
        self.before_initial.take().is_some()
    }

    /// The server asks as if there had been no initial response: the secret in it answers again.
    pub(super) fn take_initial_back(&mut self) {
        if let Some(asked) = self.before_initial.take() {
            self.asked = asked;
        }
    }

    /// Whether the server owes a proof to the exchange under way.
    pub(super) fn is_owed(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, exchange)| exchange.is_owed())
    }

    /// A responder that had no answer is not asked again.
    fn dismiss(&mut self, seat: usize) {
        if let Some(asked) = self.asked.get_mut(seat) {
            *asked = usize::MAX;
        }
    }
}

impl Consult {
    /// Asks the responders in order until one answers. One that panics has no answer (S-20).
    pub fn run(mut self) -> Consulted {
        let outcome = match &self.proof {
            _ if self.bench.is_owed() && !self.goes_on() => Err(unproved()),
            _ if self.is_initial => Ok(self.answer_unasked()),
            Proof::OfSecret { .. } => self.ask_secrets(),
            Proof::OfExchange { .. } => self.ask_exchanges(),
        };
        Consulted { ticket: self.ticket, bench: self.bench, outcome }
    }

    /// What is asked, for whoever shows progress.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    fn question(&self, turn: usize) -> Question<'_> {
        let question = Question::new(&self.server, self.username.as_ref(), &self.challenge)
            .at(self.number, turn)
            .of_countersign(self.countersign);
        match &self.proof {
            Proof::OfSecret { .. } => question,
            Proof::OfExchange { nonce } => question.with_nonce(nonce),
        }
    }

    /// Whether this is the next round of the exchange under way, as far as its name tells.
    fn goes_on(&self) -> bool {
        let begins = matches!(self.challenge.mechanism.scram(), Some((_, Stage::ClientFirst)));
        let wanted = base_name(&self.challenge.mechanism);
        let seat = self.bench.running.as_ref().and_then(|(seat, _)| self.bench.responders.get(*seat));
        !begins && seat.is_some_and(|responder| responder.answers(&wanted))
    }

    /// The initial response. What goes wrong here is told when the server asks, if it does.
    fn answer_unasked(&mut self) -> Option<Response> {
        self.bench.before_initial = Some(self.bench.asked.clone());
        let response = self.ask_secrets().ok().flatten();
        if response.is_none() {
            self.bench.take_initial_back();
        }
        response
    }

    fn ask_secrets(&mut self) -> Result<Option<Response>, Failure> {
        let question =
            Question::new(&self.server, self.username.as_ref(), &self.challenge).at(self.number, 0);
        let turns = |responder: &Responder| match &responder.means {
            Means::Secret(source) => source.suits(&question).then(|| source.turns()),
            Means::Scram { .. } | Means::Exchange(_) => None,
        };
        while let Some((seat, turn)) = self.bench.call(turns) {
            let responders = Arc::clone(&self.bench.responders);
            let Some(Means::Secret(source)) = responders.get(seat).map(|r| &r.means) else { continue };
            if self.is_initial && !source.is_at_hand() {
                return Ok(None);
            }
            let provided = unless_panics(|| source.provide(&self.question(turn)))?;
            match provided.map(|provided: Provided| provided.spelled(self.countersign)) {
                // S-32: an empty secret is none.
                Some(secret) if !secret.is_empty() => return self.prove(&secret).map(Some),
                _ => self.bench.dismiss(seat),
            }
        }
        Ok(None)
    }

    fn prove(&self, secret: &Secret) -> Result<Response, Failure> {
        let Proof::OfSecret { client_salt, salt_hash } = &self.proof else { return Err(unprovable()) };
        let combined = hmac::combine_salts(*salt_hash, client_salt, &self.challenge.salt);
        let value = match self.challenge.mechanism {
            Mechanism::Hmac(hash) => hmac::respond(hash, secret, &combined),
            // The conversation allowed it: the wire is confidential (S-33).
            Mechanism::Xor if secret.expose().len() <= Response::MAX_BYTES => xor::mask(secret, &combined),
            Mechanism::Xor => {
                let cause = "the password is longer than the 4 KiB that a server reads";
                return Err(Failure::unusable(cause, "check that the right file is given"));
            }
            Mechanism::Other(_) => return Err(unprovable()),
        };
        Ok(Response::new(value, client_salt.clone()))
    }

    fn ask_exchanges(&mut self) -> Result<Option<Response>, Failure> {
        let goes_on = self.goes_on();
        if let Some((seat, exchange)) = self.bench.running.take().filter(|_| goes_on) {
            return self.step(seat, exchange);
        }
        let wanted = base_name(&self.challenge.mechanism);
        let (server, username, challenge) =
            (Arc::clone(&self.server), self.username.clone(), self.challenge.clone());
        let question = Question::new(&server, username.as_ref(), &challenge).at(self.number, 0);
        let turns = |responder: &Responder| match &responder.means {
            _ if !responder.answers(&wanted) => None,
            Means::Secret(source) | Means::Scram { source, .. } => {
                source.suits(&question).then(|| source.turns())
            }
            Means::Exchange(_) => Some(1),
        };
        while let Some((seat, turn)) = self.bench.call(turns) {
            if let Some(exchange) = self.open(seat, turn)?
                && let Some(response) = self.step(seat, exchange)?
            {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// The rounds of a responder, if it has anything for them.
    fn open(&mut self, seat: usize, turn: usize) -> Result<Option<Box<dyn Exchange>>, Failure> {
        let responders = Arc::clone(&self.bench.responders);
        let question = self.question(turn);
        match responders.get(seat).map(|responder| &responder.means) {
            Some(Means::Exchange(source)) => unless_panics(|| source.open(&question)),
            Some(Means::Secret(source) | Means::Scram { source, .. }) => {
                // SCRAM's own preparation is for UTF-8, so this has no other spelling (RFC 5802 section 2.2).
                let secret = unless_panics(|| source.provide(&question))?.map(|given| given.spelled(true));
                match secret.filter(|secret| !secret.is_empty()) {
                    Some(secret) => Ok(Some(Box::new(Rounds::new(secret)))),
                    None => {
                        self.bench.dismiss(seat);
                        Ok(None)
                    }
                }
            }
            None => Ok(None),
        }
    }

    fn step(&mut self, seat: usize, mut exchange: Box<dyn Exchange>) -> Result<Option<Response>, Failure> {
        let response = unless_panics(|| exchange.step(&self.challenge, &self.question(0)))?;
        if response.is_some() {
            self.bench.running = Some((seat, exchange));
        }
        Ok(response)
    }
}

/// The part of a mechanism's name before its argument.
pub(super) fn base_name(mechanism: &Mechanism) -> String {
    let name = mechanism.to_string();
    name.split(':').next().unwrap_or_default().to_owned()
}

fn unless_panics<T>(ask: impl FnOnce() -> Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or(Ok(None))
}

/// The server goes on without the proof that it knows the password, or has the service's key.
pub(super) fn unproved() -> Failure {
    let cause = "the server goes on without proving that it is the right one";
    Failure::new(FailureKind::Misbehaved, cause)
        .with_fix("check the address: this may not be the server it says")
}

fn unprovable() -> Failure {
    Failure::new(FailureKind::Forbidden, "the mechanism cannot be answered with a password")
}

impl fmt::Debug for Consult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consult").field("mechanism", &self.challenge.mechanism).finish_non_exhaustive()
    }
}

impl fmt::Debug for Consulted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consulted").finish_non_exhaustive()
    }
}
