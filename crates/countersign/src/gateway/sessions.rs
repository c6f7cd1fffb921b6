//! Who is inside: the sessions that are open, for their owner to see and to end.
//!
//! Every door enters those that it lets in, calls of gRPC as one for each connection; [`super::desk`] shows them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::Instant,
};

use parking_lot::Mutex;

use super::handover::Control;
use crate::{
    Grant,
    control::{OpenSession, Which},
};

/// The open sessions of a gateway, by their ids.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<String, Open>>);

/// A session that is counted and can be ended.
pub(super) trait Traffic: fmt::Debug + Send + Sync {
    /// Bytes that the backend was given so far, and those that the client was given.
    fn moved(&self) -> (u64, u64);

    /// Ends it now.
    fn kill(&self);
}

impl Traffic for Control {
    fn moved(&self) -> (u64, u64) {
        (self.to_backend(), self.to_client())
    }

    fn kill(&self) {
        Self::kill(self);
    }
}

#[derive(Debug)]
struct Open {
    socket: String,
    user: Option<String>,
    source: String,
    transport: &'static str,
    since: Instant,
    traffic: Arc<dyn Traffic>,
}

/// That a session is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Weak<Sessions>,
    id: String,
}

impl Sessions {
    /// Enters a client that `grant` let in at `socket`.
    pub(super) fn enter(
        self: &Arc<Self>,
        id: &str,
        socket: &str,
        grant: &Grant,
        transport: &'static str,
        traffic: Arc<dyn Traffic>,
    ) -> Entry {
        let user = grant.identity().map(|identity| identity.name.to_string());
        let (socket, source) = (socket.to_owned(), grant.peer().to_string());
        let open = Open { socket, user, source, transport, since: Instant::now(), traffic };
        self.0.lock().insert(id.to_owned(), open);
        Entry { sessions: Arc::downgrade(self), id: id.to_owned() }
    }

    /// All of them, the oldest first.
    pub(super) fn list(&self) -> Vec<OpenSession> {
        let now = crate::trust::now();
        let open = self.0.lock();
        let mut all: Vec<_> = open.iter().collect();
        all.sort_by_key(|(_, open)| open.since);
        let shown = all.into_iter().map(|(id, open)| {
            let seconds = open.since.elapsed().as_secs();
            let (to_backend, to_client) = open.traffic.moved();
            OpenSession {
                id: id.clone(),
                socket: open.socket.clone(),
                user: open.user.clone(),
                source: open.source.clone(),
                transport: open.transport.to_owned(),
                since: now.saturating_sub(seconds.try_into().unwrap_or(i64::MAX)),
                to_backend,
                to_client,
            }
        });
        shown.collect()
    }

    /// How many there are on each socket.
    pub(super) fn count(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for open in self.0.lock().values() {
            *counts.entry(open.socket.clone()).or_default() += 1;
        }
        counts
    }

    /// Ends those, and gives their ids.
    pub(super) fn end(&self, which: &Which) -> Vec<String> {
        let open = self.0.lock();
        let meant = open.iter().filter(|(id, open)| match which {
            Which::Id(meant) => *id == meant,
            Which::User(meant) => open.user.as_ref() == Some(meant),
        });
        meant
            .map(|(id, open)| {
                open.traffic.kill();
                id.clone()
            })
            .collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.0.lock().remove(&self.id);
        }
    }
}
