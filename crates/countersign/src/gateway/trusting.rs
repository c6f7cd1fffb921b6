//! What the gateway does because of the trust store: the mode of a socket, the life of a session.
//!
//! [`super::serve`] makes a [`Guard`] for each Unix socket on which somebody may be first, and a
//! [`Reliance`] for each socket whose chain asks the store. The rules are in `trust`.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{
    Peer,
    config::SocketConfig,
    trust::{FirstUse, Place, Trust, TrustStore},
};

/// Keeps a Unix socket to the group of the first client until there is one.
#[derive(Debug)]
pub(super) struct Guard {
    pristine: watch::Receiver<bool>,
    rule: FirstUse,
    open: u32,
}

impl Guard {
    /// The guard of a socket that has a rule for the first client.
    pub(super) fn of(socket: &SocketConfig, store: &TrustStore) -> Option<Self> {
        let rule = socket.first_use?;
        Some(Self { pristine: store.pristine(), rule, open: socket.unix.mode })
    }

    /// The mode that the socket's file must have now. It is judged anew at every start, so that
    /// socket and store agree after a crash too (M17).
    pub(super) fn mode(&self) -> u32 {
        if *self.pristine.borrow() { self.rule.mode() } else { self.open }
    }

    /// The mode, whenever it is another one.
    pub(super) async fn changed(&mut self) -> u32 {
        if self.pristine.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.mode()
    }
}

/// That the sessions of a socket hold as long as their certificates are accepted (S-40).
#[derive(Clone, Debug)]
pub(super) struct Reliance {
    trust: Trust,
    place: Place,
    first_use: Option<FirstUse>,
}

impl Reliance {
    /// On the certificates of this socket's clients.
    pub(super) fn of(socket: &SocketConfig, trust: &Trust) -> Option<Self> {
        let (place, first_use) = (socket.trust_place.clone(), socket.first_use);
        socket.trusts.then(|| Self { trust: trust.clone(), place, first_use })
    }

    /// Where the certificates are kept.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The same, if it is open.
    pub(super) fn store(&self) -> Option<&TrustStore> {
        self.trust.store()
    }

    /// Who came first, for a peer that may know (M5).
    pub(super) async fn who_was_first(&self, peer: &Arc<Peer>) -> Option<String> {
        // Over a network the answer is known without a thread that may wait for a disk.
        peer.credentials()?;
        let rule = self.first_use.unwrap_or(FirstUse::OWNERS);
        let (trust, peer) = (self.trust.clone(), Arc::clone(peer));
        let look = move || rule.who_was_first(trust.store()?, &peer);
        spawn_blocking(look).await.ok().flatten()
    }

    /// Whether the next call of this peer would make it the first client, if nobody is faster.
    pub(super) async fn may_be_first(&self, peer: &Arc<Peer>) -> bool {
        let free = self.store().is_some_and(TrustStore::is_pristine) && peer.certificate.is_some();
        let Some(rule) = self.first_use.filter(|_| free) else { return false };
        let peer = Arc::clone(peer);
        // The database of groups may be asked.
        spawn_blocking(move || rule.admits(&peer).is_ok()).await.unwrap_or(false)
    }

    /// Returns when a certificate is accepted here no more.
    pub(super) async fn lost(&self, certificate: [u8; 32]) {
        if let Some(store) = self.trust.store() {
            store.lost(certificate, &self.place).await;
        }
    }
}

/// Writes down every now and then, until it is dropped, when certificates were last seen.
pub(super) async fn keep(trust: Trust) {
    loop {
        sleep(FLUSH).await;
        flush(&trust).await;
    }
}

/// The same, now.
pub(super) async fn flush(trust: &Trust) {
    let trust = trust.clone();
    let flushed = spawn_blocking(move || trust.store().map_or(Ok(()), TrustStore::flush)).await;
    if let Ok(Err(error)) = flushed {
        tracing::warn!("when certificates were last seen is not written down for now: {error}");
    }
}

/// How much of what was last seen a crash may lose.
const FLUSH: Duration = Duration::from_secs(30);
