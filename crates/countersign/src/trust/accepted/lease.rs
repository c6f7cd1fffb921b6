//! How the sessions of a certificate learn that its entry has changed, or has come to its end.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use super::TrustStore;
use crate::{
    Refusal,
    sys::clock::{seconds, since_1970},
    trust::entry::Place,
};

impl TrustStore {
    /// Returns when a certificate is accepted at `place` no more: it was taken back, restricted or
    /// forgotten, or its entry is over (S-40).
    pub async fn lost(&self, certificate: [u8; 32], place: &Place) {
        // The lease first: what changes between the two is seen.
        let mut lease = self.lease(certificate);
        while let Ok(left) = self.left(&certificate, place) {
            let end = async {
                match left {
                    // Timers do not follow the clock when that is set, or while the machine sleeps.
                    Some(left) => sleep(left.min(LOOK_AGAIN)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = lease.changed() => {}
                () = end => {}
            }
        }
    }

    /// How long a certificate is accepted at `place`, as things are; `None` for ever.
    fn left(&self, certificate: &[u8; 32], place: &Place) -> Result<Option<Duration>, Refusal> {
        let (since, view) = (since_1970(), self.view.read());
        let now = seconds(since);
        let expires = view.judged(certificate, place, now)?.expires;
        let end = u64::try_from(expires).ok().filter(|_| expires != i64::MAX).map(Duration::from_secs);
        Ok(end.map(|end| end.saturating_sub(since)))
    }
}

/// A hold on the changes of one certificate.
#[derive(Debug)]
pub struct Lease {
    certificate: [u8; 32],
    changes: watch::Receiver<()>,
    leases: Arc<Leases>,
}

impl Lease {
    /// Returns when the certificate's entry has changed since the lease was taken, or since this
    /// returned last: it may have been taken back, restricted, renamed or forgotten.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.0.lock();
        // This one is counted still.
        if leases.get(&self.certificate).is_some_and(|changes| changes.receiver_count() <= 1) {
            leases.remove(&self.certificate);
        }
    }
}

/// Who is to be told of changes, by certificate.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<[u8; 32], watch::Sender<()>>>);

impl Leases {
    pub(super) fn take(self: &Arc<Self>, certificate: [u8; 32]) -> Lease {
        let changes = self.0.lock().entry(certificate).or_default().subscribe();
        Lease { certificate, changes, leases: Arc::clone(self) }
    }

    pub(super) fn tell(&self, certificate: &[u8; 32]) {
        if let Some(changes) = self.0.lock().get(certificate) {
            changes.send_replace(());
        }
    }

    pub(super) fn tell_all(&self) {
        self.0.lock().values().for_each(|changes| changes.send_replace(()));
    }

    #[cfg(test)]
    pub(super) fn are_none(&self) -> bool {
        self.0.lock().is_empty()
    }
}

/// How late a session may learn that the clock was set beyond the end of its certificate's entry.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
