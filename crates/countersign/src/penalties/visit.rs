//! One connection as the penalties see it, from accept to its end.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::{
    Penalties,
    ledger::{Fault, Who},
};
use crate::{
    Claim, Grant, Peer, Refusal, Secret,
    proto::{chain::Watch, error::Reason, mechanism::Mechanism},
};

/// A connection that may guess. One that is dropped before its end was cut, or gave its place up.
#[derive(Debug)]
pub(crate) struct Visit {
    penalties: Arc<Penalties>,
    stage: Mutex<Stage>,
}

/// How far it has come.
#[derive(Debug, Default)]
struct Stage {
    /// Since the first hello.
    who: Option<Who>,
    /// Something was asked and not answered yet.
    asked: bool,
    /// An answer was or is judged.
    judged: bool,
    /// A password of it was judged: what else it is asked belongs to the same login.
    allowed: bool,
    /// The answer that is judged is a password; its digest, where it can be read.
    password: Option<Option<u64>>,
    /// It is counted, or is not to be.
    settled: bool,
}

impl Visit {
    pub(crate) fn new(penalties: Arc<Penalties>) -> Self {
        Self { penalties, stage: Mutex::default() }
    }

    /// A client says who it is, or says it again.
    ///
    /// # Errors
    /// The refusal before a challenge, if it has to wait.
    pub(crate) fn hello(&self, peer: &Peer, claim: &Claim) -> Result<(), Refusal> {
        let mut stage = self.stage.lock();
        if stage.who.is_none() {
            stage.who = self.penalties.who(peer, claim.username.as_ref());
        }
        stage.who.as_ref().map_or(Ok(()), |who| self.penalties.admit(who))
    }

    /// It is sent a challenge.
    pub(crate) fn asked(&self) {
        self.stage.lock().asked = true;
    }

    /// Counts nothing whatever comes: it is another's to judge.
    pub(crate) fn release(&self) {
        self.stage.lock().settled = true;
    }

    /// It was refused. Only the first end of a connection counts.
    pub(crate) fn refused(&self, peer: &Peer, refusal: &Refusal) {
        let mut stage = self.stage.lock();
        if std::mem::replace(&mut stage.settled, true) {
            return;
        }
        let who = stage.who.or_else(|| self.penalties.who(peer, None));
        let fault = fault(refusal.reason, stage.asked, stage.judged);
        if let Some((who, fault)) = who.zip(fault) {
            self.count(&who, fault, &stage);
        }
    }

    /// The watch of its conversation, which tells what is judged and how it ends, before the client knows.
    pub(crate) fn follow(self: &Arc<Self>, peer: Arc<Peer>) -> Box<dyn Watch> {
        Box::new(Follow { visit: Arc::clone(self), peer })
    }

    fn count(&self, who: &Who, fault: Fault, stage: &Stage) {
        let wrong = stage.password.filter(|_| fault == Fault::Failure);
        self.penalties.change(|ledger, now| {
            if ledger.fail(who, fault, wrong.flatten(), now) && wrong.is_some() {
                ledger.fail_in_row(who, now);
            }
        });
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let stage = self.stage.get_mut();
        let Some(who) = stage.who.filter(|_| !stage.settled) else { return };
        let fault = match (stage.judged, stage.asked) {
            // Whoever lets its place be taken while it is judged shall not guess for nothing.
            (true, _) => Fault::Failure,
            (false, true) => Fault::Abandoned,
            (false, false) => return,
        };
        let stage = std::mem::take(stage);
        self.count(&who, fault, &stage);
    }
}

struct Follow {
    visit: Arc<Visit>,
    peer: Arc<Peer>,
}

impl Watch for Follow {
    fn judging(&mut self, mechanism: &Mechanism, secret: Option<&Secret>) -> Result<(), Refusal> {
        let Visit { penalties, stage } = &*self.visit;
        let mut stage = stage.lock();
        let Some(who) = stage.who else { return Ok(()) };
        // What holds is the moment, not when the connection was opened (S-24).
        penalties.admit(&who)?;
        let password = is_password(mechanism);
        // Once for all the rounds of a login (S-23).
        if password && !stage.allowed && !penalties.ledger.lock().may_judge(&who, Instant::now()) {
            let cause = "too many logins of this account failed in a row: its password is judged every 30 s";
            return Err(penalties.busy(cause.to_owned()));
        }
        (stage.asked, stage.judged, stage.allowed) = (false, true, stage.allowed || password);
        stage.password = password.then(|| secret.map(|secret| penalties.digest(secret)));
        Ok(())
    }

    fn ended(self: Box<Self>, end: Result<&Grant, &Refusal>) {
        match end {
            Err(refusal) => self.visit.refused(&self.peer, refusal),
            Ok(grant) => {
                let mut stage = self.visit.stage.lock();
                stage.settled = true;
                let proved = stage.judged && self.visit.penalties.is_claimed(grant);
                if let Some(who) = stage.who.filter(|_| proved) {
                    self.visit.penalties.succeed(&who);
                }
            }
        }
    }
}

/// What a refusal counts for (S-21).
fn fault(reason: Reason, asked: bool, judged: bool) -> Option<Fault> {
    match reason {
        // A limit or a breakdown of our own is nobody's guess.
        Reason::Busy | Reason::ModuleFailed | Reason::EmptyChain => None,
        Reason::PeerLeft => asked.then_some(Fault::Abandoned),
        Reason::Timeout => Some(Fault::Late),
        Reason::Malformed | Reason::BadClientSalt | Reason::NoResponse | Reason::ClaimChanged => {
            Some(Fault::Malformed)
        }
        // S-20: a crash counts too, or it would be a way to guess.
        Reason::WrongSecret | Reason::UnknownUser | Reason::AccountDisabled | Reason::ModulePanicked => {
            Some(Fault::Failure)
        }
        // An address or a client that may not come in has guessed at nothing.
        _ => judged.then_some(Fault::Failure),
    }
}

/// Whether answers by a mechanism can be guessed: keys and tickets cannot, and are not slowed (S-23).
fn is_password(mechanism: &Mechanism) -> bool {
    matches!(mechanism, Mechanism::Hmac(_) | Mechanism::Xor) || mechanism.scram().is_some()
}
