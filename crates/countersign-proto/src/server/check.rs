//! The work of a link, on its way out of the conversation and back.
//!
//! A module may wait for a disk, a directory or a person. The conversation therefore never calls
//! one: it hands out a [`Check`], which any thread may [`Check::run`].

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::state;
use crate::{
    chain::{Answer, Ask, Chain, Exchange, Link, LookupSecret, Round, Verdict, Verifier, Walk, Watch},
    error::{Reason, Refusal},
    identity::{Claim, Identity},
    mechanism::{Hash, Mechanism, hmac},
    peer::Peer,
    stay::Stay,
};

/// A question to a module.
pub struct Check {
    ticket: u64,
    chain: Arc<Chain>,
    position: usize,
    peer: Arc<Peer>,
    claim: Claim,
    work: Work,
}

/// The result of a [`Check`], for [`super::Conversation::handle_checked`].
pub struct Checked {
    pub(super) ticket: u64,
    pub(super) outcome: CheckOutcome,
}

/// What a link is to do.
pub(super) enum Work {
    /// Judge the peer.
    Peer,
    /// Judge a response.
    Judge(Round),
    /// Start its own rounds.
    Open,
    /// Take the next answer of its own rounds.
    Step(Box<dyn Exchange>, Answer),
}

pub(super) enum CheckOutcome {
    Passed(Option<Identity>, Option<Box<dyn Watch>>, Option<Arc<dyn Stay>>),
    Asks(Box<dyn Exchange>, Ask),
    Refused(Refusal),
}

impl Check {
    pub(super) fn new(ticket: u64, walk: &Walk, position: usize, work: Work) -> Result<Self, Refusal> {
        let chain = Arc::clone(walk.chain());
        let Some(link) = chain.links().get(position) else {
            return Err(Refusal::new(Reason::EmptyChain, "no such link"));
        };
        let claim = link.judge(walk.claim())?;
        Ok(Self { ticket, position, peer: Arc::clone(walk.peer()), claim, work, chain })
    }

    /// Whether it may wait for something. If not, it takes microseconds and may run in place.
    pub fn may_block(&self) -> bool {
        match self.link().map(|link| &link.verifier) {
            Some(Verifier::Peer(check)) => check.may_block(),
            Some(Verifier::Secret(lookup)) => lookup.may_block(),
            Some(Verifier::Password(_) | Verifier::Exchange(_)) | None => true,
        }
    }

    /// The place in the chain of the link that will be asked, counted from 0.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The module that will be asked.
    pub fn module(&self) -> &'static str {
        self.link().map_or("", |link| link.module)
    }

    /// Whom the module is asked about.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Refuses without asking the module: it has too much to do.
    pub fn refuse(self, refusal: Refusal) -> Checked {
        Checked { ticket: self.ticket, outcome: CheckOutcome::Refused(refusal) }
    }

    /// Asks the module. A module that panics has refused (S-20, S-65).
    pub fn run(self) -> Checked {
        let ticket = self.ticket;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.ask())).unwrap_or_else(|_| {
            CheckOutcome::Refused(Refusal::new(Reason::ModulePanicked, "the module crashed"))
        });
        Checked { ticket, outcome }
    }

    fn link(&self) -> Option<&Link> {
        self.chain.links().get(self.position)
    }

    fn ask(self) -> CheckOutcome {
        let Some(link) = self.chain.links().get(self.position) else {
            return CheckOutcome::Refused(Refusal::new(Reason::EmptyChain, "no such link"));
        };
        let passed = |result: Result<Option<Identity>, Refusal>| match result {
            Ok(identity) => CheckOutcome::Passed(identity, None, None),
            Err(refusal) => CheckOutcome::Refused(refusal),
        };
        match (&link.verifier, self.work) {
            (Verifier::Peer(module), Work::Peer) => match module.check(&self.peer, &self.claim) {
                Ok(identity) => CheckOutcome::Passed(identity, module.watch(&self.peer, &self.claim), None),
                Err(refusal) => CheckOutcome::Refused(refusal),
            },
            (Verifier::Secret(module), Work::Judge(round)) => passed(prove(&**module, &self.claim, &round)),
            (Verifier::Password(module), Work::Judge(round)) => {
                let password = state::unmask(&round.challenge, &round.response).into_utf8();
                if password.is_empty() || password.expose().contains(&0) {
                    let cause = "the password is empty or holds a NUL byte";
                    return CheckOutcome::Refused(Refusal::new(Reason::WrongSecret, cause));
                }
                passed(module.check(&self.peer, &self.claim, &password))
            }
            (Verifier::Exchange(module), Work::Open) => match module.open(&self.peer, &self.claim) {
                Ok(exchange) => step(exchange, None),
                Err(refusal) => CheckOutcome::Refused(refusal),
            },
            (_, Work::Step(exchange, answer)) => step(exchange, Some(answer)),
            (_, Work::Peer | Work::Judge(_) | Work::Open) => {
                CheckOutcome::Refused(Refusal::module_failed("the link was asked what it cannot answer"))
            }
        }
    }
}

/// Verifies an HMAC response against every secret of the account, or against nobody's.
fn prove(module: &dyn LookupSecret, claim: &Claim, round: &Round) -> Result<Option<Identity>, Refusal> {
    let combined = state::combined(&round.challenge, &round.response);
    let response = round.response.value.expose();
    let Mechanism::Hmac(hash) = round.challenge.mechanism else {
        return Err(Refusal::module_failed("the link was asked what it cannot answer"));
    };
    let entry = module.lookup(claim).inspect_err(|_| {
        hmac::cover(hash, &combined, response);
    })?;
    match_candidate(entry.candidates, hash, &combined, response)
}

/// The identity of the first candidate whose secret `response` proves. All are computed.
fn match_candidate(
    candidates: Vec<(hmac::StoredSecret, Option<Identity>)>,
    hash: Hash,
    combined: &[u8],
    response: &[u8],
) -> Result<Option<Identity>, Refusal> {
    if candidates.is_empty() {
        hmac::cover(hash, combined, response);
        return Err(Refusal::new(Reason::AccountDisabled, "the account has no secret that can be used"));
    }
    let wrong = Err(Refusal::new(Reason::WrongSecret, "the response does not prove the secret"));
    candidates.into_iter().fold(wrong, |found, (secret, identity)| {
        let proved = secret.verifies(hash, combined, response);
        if found.is_err() && proved { Ok(identity) } else { found }
    })
}

fn step(mut exchange: Box<dyn Exchange>, answer: Option<Answer>) -> CheckOutcome {
    match exchange.step(answer) {
        Verdict::Pass(identity) => CheckOutcome::Passed(identity, None, None),
        Verdict::PassWith(identity, stay) => CheckOutcome::Passed(identity, None, Some(stay)),
        Verdict::Ask(ask) => CheckOutcome::Asks(exchange, ask),
        Verdict::Refuse(refusal) => CheckOutcome::Refused(refusal),
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("module", &self.module()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").finish_non_exhaustive()
    }
}
