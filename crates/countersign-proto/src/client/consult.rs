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
};
use crate::{
    challenge::{Challenge, Response},
    identity::Username,
    mechanism::{Hash, Mechanism, hmac, xor},
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
    /// By an exchange that declares the mechanism. No secret responder is asked (W34).
    OfExchange,
}

/// The responders and how often each was asked on this connection.
pub(super) struct Bench {
    responders: Arc<[Responder]>,
    asked: Vec<usize>,
    /// The exchange under way, and whose it is.
    running: Option<(usize, Box<dyn Exchange>)>,
}

impl Bench {
    pub(super) fn new(responders: Arc<[Responder]>) -> Self {
        let asked = vec![0; responders.len()];
        Self { responders, asked, running: None }
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
            Proof::OfSecret { .. } => self.ask_secrets(),
            Proof::OfExchange => self.ask_exchanges(),
        };
        Consulted { ticket: self.ticket, bench: self.bench, outcome }
    }

    /// What is asked, for whoever shows progress.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    fn question(&self, turn: usize) -> Question<'_> {
        Question::new(&self.server, self.username.as_ref(), &self.challenge).at(self.number, turn)
    }

    fn ask_secrets(&mut self) -> Result<Option<Response>, Failure> {
        let turns = |responder: &Responder| match &responder.means {
            Means::Secret(source) => Some(source.turns()),
            Means::Exchange(_) => None,
        };
        while let Some((seat, turn)) = self.bench.call(turns) {
            let responders = Arc::clone(&self.bench.responders);
            let Some(Means::Secret(source)) = responders.get(seat).map(|r| &r.means) else { continue };
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
        let wanted = base_name(&self.challenge.mechanism);
        let declares = |responder: &Responder| responder.mechanisms().contains(&&*wanted).then_some(1);
        if let Some((seat, exchange)) = self.bench.running.take()
            && self.bench.responders.get(seat).is_some_and(|responder| declares(responder).is_some())
        {
            return self.step(seat, exchange);
        }
        while let Some((seat, turn)) = self.bench.call(declares) {
            let responders = Arc::clone(&self.bench.responders);
            let Some(Means::Exchange(source)) = responders.get(seat).map(|r| &r.means) else { continue };
            if let Some(exchange) = unless_panics(|| source.open(&self.question(turn)))?
                && let Some(response) = self.step(seat, exchange)?
            {
                return Ok(Some(response));
            }
        }
        Ok(None)
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
