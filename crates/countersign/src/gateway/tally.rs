//! What a socket has decided so far, counted: for `countersign status` and for whoever measures.
//!
//! Names, addresses and all else that a client says of itself is counted under nothing: what is counted under is
//! fixed when a socket is configured, so no stranger makes the numbers more (S-88).

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::audit::Decision;

/// The decisions of one socket.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Connections that were accepted, whatever became of them.
    pub(super) connections: u64,
    /// Those of them that are open now.
    pub(super) open: u64,
    /// Clients that were let in.
    pub(super) accepted: u64,
    /// Clients that were turned away, by the stable reason.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// What links decided: the module, and the reason of a refusal.
    pub(super) links: BTreeMap<(String, Option<&'static str>), u64>,
    /// How long logins took to be decided.
    pub(super) decided: Times,
    /// How long the checks of modules took, the wait for a turn included.
    pub(super) checked: BTreeMap<&'static str, Times>,
    /// Bytes that went to backends in sessions that have ended.
    pub(super) to_backend: u64,
    /// Bytes that went to clients in sessions that have ended.
    pub(super) to_client: u64,
}

/// How long something took, again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    /// How often no longer than each of [`BOUNDS`], and how often longer.
    pub(super) within: [u64; BOUNDS.len() + 1],
    /// All of them together, in seconds.
    pub(super) seconds: f64,
}

impl Times {
    fn note(&mut self, seconds: f64) {
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.within.get_mut(place) {
            *count += 1;
        }
        self.seconds += seconds;
    }
}

/// That a connection is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Tally>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().open -= 1;
    }
}

impl Tally {
    /// Counts a decision.
    pub(super) fn note(&self, decision: &Decision) {
        let mut counts = self.0.lock();
        for proof in &decision.proofs {
            let module = proof.split(':').next().unwrap_or_default();
            *counts.links.entry((module.to_owned(), None)).or_default() += 1;
        }
        match decision.reason {
            None => counts.accepted += 1,
            Some(reason) => {
                *counts.refused.entry(reason).or_default() += 1;
                let module = decision.link.as_ref().and_then(|link| link.split(' ').nth(1));
                if let Some(module) = module {
                    *counts.links.entry((module.to_owned(), Some(reason))).or_default() += 1;
                }
            }
        }
        counts.decided.note(decision.seconds);
    }

    /// Counts a check of a module that took so many seconds.
    pub(super) fn note_check(&self, module: &'static str, seconds: f64) {
        self.0.lock().checked.entry(module).or_default().note(seconds);
    }

    /// Counts a connection.
    pub(super) fn note_connection(self: &Arc<Self>) -> Open {
        let mut counts = self.0.lock();
        counts.connections += 1;
        counts.open += 1;
        Open(Arc::clone(self))
    }

    /// Counts what a session moved that has ended.
    pub(super) fn note_bytes(&self, to_backend: u64, to_client: u64) {
        let mut counts = self.0.lock();
        counts.to_backend = counts.to_backend.saturating_add(to_backend);
        counts.to_client = counts.to_client.saturating_add(to_client);
    }

    /// The numbers of now.
    pub(super) fn counts(&self) -> Counts {
        self.0.lock().clone()
    }
}

/// Seconds: from what a local socket takes to what a person at a prompt does.
pub(super) const BOUNDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0];
