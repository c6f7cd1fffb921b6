//! What others than clients learn of a gateway that runs: its owner, the service manager, whoever measures it.
//!
//! [`super::serve`] keeps it up to date; the control socket and the operator's listener ask it.

use std::{sync::Arc, time::Instant};

use parking_lot::RwLock;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::spawn_blocking,
    time::{Duration, timeout},
};

use super::{
    Crowd, Orders, Penalties,
    plan::Known,
    sessions::Sessions,
    tally::{Counts, Tally},
};
use crate::{
    control::{Entrance, Failure, FailureCode, OpenSession, Reloaded, Running, SocketStatus, Status, Which},
    sys::notify,
    trail::Trail,
    trust::{Trust, TrustStore, now},
};

/// A gateway as it is seen from outside.
#[derive(Debug)]
pub(super) struct Desk {
    started: Instant,
    view: RwLock<View>,
    pub(super) sessions: Arc<Sessions>,
    crowd: Arc<Crowd>,
    trail: Option<Trail>,
    orders: Orders,
}

/// What changes when the configuration is read again.
#[derive(Debug)]
pub(super) struct View {
    pub(super) doors: Vec<Shown>,
    pub(super) trust: Trust,
    pub(super) penalties: Option<Arc<Penalties>>,
    pub(super) entrances: watch::Receiver<Vec<Entrance>>,
    pub(super) reload: Option<Reloaded>,
    pub(super) draining: bool,
    pub(super) certificate_ends: Option<i64>,
}

/// A door that is served.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) name: String,
    address: String,
    since: Instant,
    tally: Arc<Tally>,
    /// Nobody hears what is said to a door that has ended.
    words: tokio::sync::mpsc::Sender<super::listen::Word>,
}

impl Shown {
    pub(super) fn of(known: &Known) -> Self {
        Self {
            name: known.name.clone(),
            address: known.address.to_string(),
            since: known.since,
            tally: Arc::clone(&known.tally),
            words: known.words.clone(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tally, &other.tally)
    }

    pub(super) fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Whether its loop goes round: it says so itself, within `patience`.
    pub(super) async fn answers(&self, patience: Duration) -> bool {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let ping = async {
            self.words.send(super::listen::Word::Ping(answer)).await.is_ok() && answered.await.is_ok()
        };
        tokio::time::timeout(patience, ping).await.unwrap_or(false)
    }
}

impl Desk {
    pub(super) fn new(
        view: View,
        sessions: Arc<Sessions>,
        crowd: Arc<Crowd>,
        trail: Option<Trail>,
        orders: Orders,
    ) -> Self {
        Self { started: Instant::now(), view: RwLock::new(view), sessions, crowd, trail, orders }
    }

    /// Something of it is different now.
    pub(super) fn amend(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write());
    }

    /// The doors that are served now.
    pub(super) fn doors(&self) -> Vec<Shown> {
        self.view.read().doors.clone()
    }

    /// How a configuration that was read again was taken, after those before it.
    pub(super) fn note_reload(&self, refused: Option<(String, String)>) {
        let mut view = self.view.write();
        let (taken, failed) = view.reload.as_ref().map_or((0, 0), |before| (before.taken, before.failed));
        let bad = u64::from(refused.is_some());
        let (refused, fix) = refused.unzip();
        view.reload =
            Some(Reloaded { at: now(), refused, fix, taken: taken + 1 - bad, failed: failed + bad });
    }

    /// Whether the loops of all doors go round: each says so itself, within `patience`. At the end there are none.
    pub(super) async fn lives(&self, patience: Duration) -> bool {
        if self.view.read().draining {
            return true;
        }
        for door in self.doors() {
            // One that was closed meanwhile, because the configuration was read again, is not missed.
            if !door.answers(patience).await && self.doors().iter().any(|other| other.is(&door)) {
                return false;
            }
        }
        true
    }

    /// Whether clients can log in, and what that takes can be kept.
    pub(super) async fn is_ready(&self, patience: Duration) -> bool {
        if self.view.read().draining || !self.lives(patience).await {
            return false;
        }
        let trust = self.view.read().trust.clone();
        let is_up = spawn_blocking(move || trust.store().is_none_or(TrustStore::is_up));
        timeout(patience, is_up).await.is_ok_and(|is_up| is_up.unwrap_or(false))
    }

    /// How many audit records were kept, if there is a trail.
    pub(super) fn kept(&self) -> Option<u64> {
        self.trail.as_ref().map(Trail::kept)
    }

    /// Tells the service manager now and then, as long as all doors are served, that this process lives.
    pub(super) async fn watch(self: Arc<Self>, limit: Duration) {
        // Twice within the limit, also where a door takes as long as it may.
        let part = limit / 4;
        loop {
            if self.lives(part).await {
                notify::alive(&self.line());
            } else if !self.view.read().draining {
                tracing::error!("a door is not served any more: the service manager is told nothing");
            }
            tokio::time::sleep(part).await;
        }
    }

    /// A line for the service manager.
    pub(super) fn line(&self) -> String {
        let view = self.view.read();
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        let open: usize = self.sessions.count().values().sum();
        let mut line = format!("{}, {}", count(view.doors.len(), "socket"), count(open, "session"));
        if view.draining {
            line.push_str(", ending");
        }
        if let Some(why) = view.reload.as_ref().and_then(|reload| reload.refused.as_ref()) {
            line.push_str("; the last configuration was refused: ");
            line.push_str(why);
        }
        line
    }
}

impl Running for Desk {
    fn trust(&self) -> Trust {
        self.view.read().trust.clone()
    }

    fn entrances(&self) -> Vec<Entrance> {
        self.view.read().entrances.borrow().clone()
    }

    fn status(&self) -> Status {
        let sessions = self.sessions.count();
        let view = self.view.read();
        let sockets = view.doors.iter().map(|door| {
            let counts = door.counts();
            SocketStatus {
                name: door.name.clone(),
                address: door.address.clone(),
                since: ago(door.since),
                serves: !view.draining && !door.words.is_closed(),
                sessions: sessions.get(&door.name).copied().unwrap_or_default(),
                accepted: counts.accepted,
                refused: counts.refused.values().sum(),
            }
        });
        let (logging_in, places, given_up) = self.crowd.count();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: ago(self.started),
            draining: view.draining,
            reload: view.reload.clone(),
            sockets: sockets.collect(),
            sessions: sessions.values().sum(),
            logging_in,
            places,
            given_up,
            penalised: view.penalties.as_ref().map(|penalties| penalties.count()),
            penalty_refusals: view.penalties.as_ref().map(|penalties| penalties.refused()),
            audit_lost: self.trail.as_ref().map(Trail::lost),
            certificate_ends: view.certificate_ends,
        }
    }

    fn sessions(&self) -> Vec<OpenSession> {
        self.sessions.list()
    }

    fn end(&self, which: &Which) -> Vec<String> {
        self.sessions.end(which)
    }

    fn penalties(&self) -> Option<Arc<Penalties>> {
        self.view.read().penalties.clone()
    }

    fn reload(&self) -> Result<(), Failure> {
        match Handle::current().block_on(self.orders.reload()) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let fix = error.fix().into_owned();
                Err(Failure::new(FailureCode::Configuration, error.to_string(), fix))
            }
            None => Err(ending()),
        }
    }

    fn drain(&self, patience: Option<Duration>) -> Result<(), Failure> {
        Handle::current().block_on(self.orders.drain(patience)).ok_or_else(ending)
    }
}

fn ending() -> Failure {
    Failure::new(FailureCode::NotRunning, "the gateway: it is ending", "wait for the next one")
}

/// When that was, in seconds since 1970.
fn ago(moment: Instant) -> i64 {
    now().saturating_sub(moment.elapsed().as_secs().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::gateway::listen::Word;

    fn desk(words: mpsc::Sender<Word>) -> Desk {
        let door = Shown {
            name: "door".to_owned(),
            address: String::new(),
            since: Instant::now(),
            tally: Arc::default(),
            words,
        };
        let view = View {
            doors: vec![door],
            trust: Trust::at("/nonexistent"),
            penalties: None,
            entrances: watch::channel(Vec::new()).1,
            reload: None,
            draining: false,
            certificate_ends: None,
        };
        let orders = Orders::new(mpsc::channel(1).0);
        Desk::new(view, Arc::default(), Arc::new(Crowd::new(1)), None, orders)
    }

    #[tokio::test]
    async fn a_gateway_lives_as_long_as_each_door_answers_and_is_ready_until_it_ends() {
        let (patience, (words, mut heard)) = (Duration::from_secs(30), mpsc::channel(1));
        let well = desk(words);
        let served = tokio::spawn(async move {
            while let Some(Word::Ping(answer)) = heard.recv().await {
                let _ = answer.send(true);
            }
        });
        assert!(well.lives(patience).await && well.is_ready(patience).await);
        served.abort();
        let _ = served.await;
        assert!(!well.lives(patience).await && !well.is_ready(patience).await, "its loop has ended");
        well.amend(|view| view.draining = true);
        assert!(well.lives(patience).await && !well.is_ready(patience).await);

        let (words, _stuck) = mpsc::channel(1);
        assert!(!desk(words).lives(Duration::from_millis(10)).await, "its loop does not go round");
    }

    #[test]
    fn the_line_says_what_there_is_and_what_was_refused() {
        let desk = desk(mpsc::channel(1).0);
        assert_eq!(desk.line(), "1 socket, 0 sessions");
        desk.note_reload(Some(("file:1: no".to_owned(), "mend it".to_owned())));
        assert_eq!(desk.line(), "1 socket, 0 sessions; the last configuration was refused: file:1: no");
        desk.note_reload(None);
        desk.amend(|view| view.draining = true);
        assert_eq!(desk.line(), "1 socket, 0 sessions, ending");
        let reload = desk.status().reload.unwrap();
        assert_eq!((reload.taken, reload.failed, reload.refused), (1, 1, None));
    }
}
