//! How the sessions of a certificate learn that its entry has changed.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

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
