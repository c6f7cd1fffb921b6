//! Somebody who shows a certificate that is to be accepted.

use std::sync::Arc;

use super::entry::{Entry, Way};
use crate::{Peer, Username, proto::peer::Certificate, sys::accounts::Account, transport::tls::Fingerprint};

/// A client whose handshake proved that it holds the key of its certificate.
#[derive(Clone, Debug)]
pub struct Newcomer {
    peer: Arc<Peer>,
    certificate: Certificate,
    name: Username,
}

impl Newcomer {
    /// The client at the other end of a connection; `None` if it showed no certificate (S-51).
    ///
    /// It is called by its account on a local socket, and after its certificate elsewhere.
    pub fn of(peer: &Arc<Peer>) -> Option<Self> {
        let certificate = peer.certificate.clone()?;
        Some(Self::with_certificate(peer, certificate))
    }

    /// The client at the other end, with another certificate than the one it showed. The caller has
    /// verified that it holds that key.
    pub fn with_certificate(peer: &Arc<Peer>, certificate: Certificate) -> Self {
        let name = name(peer, &certificate);
        Self { peer: Arc::clone(peer), certificate, name }
    }

    /// The SHA-256 of its certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.certificate.fingerprint)
    }

    /// Where it is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.certificate.der
    }

    /// Where it is, in words for listings.
    pub(super) fn from(&self) -> String {
        match (self.peer.address(), self.peer.credentials()) {
            (Some(address), _) => address.ip().to_string(),
            (None, Some(credentials)) => format!("uid {}", credentials.uid),
            (None, None) => "a local socket".to_owned(),
        }
    }

    pub(super) fn entry(&self, way: Way, by: String, now: i64) -> Entry {
        let mut entry = Entry::new(self.fingerprint(), self.name.clone(), way, by, now);
        entry.uid = self.peer.credentials().map(|credentials| credentials.uid);
        entry
    }
}

/// The account's name where the kernel vouches for one. What a certificate calls itself proves
/// nothing, so a stranger is named after what nobody can choose.
fn name(peer: &Peer, certificate: &Certificate) -> Username {
    let account = peer.credentials().and_then(|known| Account::of_uid(known.uid).ok().flatten());
    let named = account.and_then(|account| Username::parse(&account.name).ok());
    named.unwrap_or_else(|| {
        let digits: String =
            certificate.fingerprint.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        stranger(&format!("client-{digits}"))
    })
}

fn stranger(name: &str) -> Username {
    #[expect(clippy::expect_used, reason = "a word and eight hexadecimal digits make a valid name")]
    Username::parse(name).expect("a valid name")
}
