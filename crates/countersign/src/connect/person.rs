//! The person at the client's end, who is told things and asked whether a server is the right one.

use crate::transport::tls::Fingerprint;

/// Who is told and asked. Questions are asked where they may block.
pub trait Person: Send + Sync {
    /// Tells something that does not stop the connection: a warning, in one line.
    fn tell(&self, notice: &str);

    /// Asks whether the server that is seen for the first time is the right one (S-43).
    fn accepts(&self, server: &FirstContact) -> bool;
}

/// A server that nobody has verified and that was never seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstContact {
    /// Its address.
    pub server: String,
    /// SHA-256 of its public key.
    pub fingerprint: Fingerprint,
}

/// Nobody is there: notices go to the log, and no unknown server is accepted.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to say about nobody")]
pub struct Nobody;

impl Person for Nobody {
    fn tell(&self, notice: &str) {
        tracing::warn!("{notice}");
    }

    fn accepts(&self, _: &FirstContact) -> bool {
        false
    }
}
