//! Remembers accepted certificates and how one is admitted, and keeps the gateway's own.
//!
//! | file | holds |
//! |---|---|
//! | `accepted` | [`TrustStore`]: who is accepted, and the ways in |
//! | `entry` | an accepted certificate, and where it counts |
//! | `passphrase`, `invitation`, `guesses` | what lets a certificate in, and how often it may be tried |
//! | `multipass` | a passphrase's verifier that comes over from Multipass |
//! | `newcomer`, `first_use` | who wants to come in; who may be the first |
//! | `store`, `sqlite`, `twofold` | where it is kept: what a store must do; one in a file; that one and its copy |
//! | `lock`, `durable` | one program for a state directory; files that survive a crash |
//! | `server_identity` | the gateway's own certificate |
#![forbid(unsafe_code)]

mod accepted;
pub(crate) mod durable;
mod entry;
mod error;
mod first_use;
mod guesses;
#[cfg(feature = "ssh")]
pub mod host_key;
mod invitation;
mod lock;
mod multipass;
mod newcomer;
mod passphrase;
pub mod server_identity;
mod sqlite;
mod store;
mod twofold;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub use accepted::{Lease, TrustStore};
pub use entry::{Entry, Place, Revocation, Scope, Standing, Way};
pub use error::{EnrolError, TrustError};
pub use first_use::FirstUse;
pub use guesses::Guess;
pub use invitation::{Invitation, NewInvitation, Token};
pub use multipass::MultipassVerifier;
pub use newcomer::Newcomer;
pub use passphrase::{ADVISED_LENGTH, NewPassphrase, Passphrase};
pub use server_identity::ServerIdentity;
pub use store::{Admission, Applied, Change, Contents, Known, Store};

pub(crate) use crate::sys::clock::now;

/// The trust store of a state directory, opened when the gateway is and not before: a configuration
/// is judged without touching it. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Trust(Arc<Held>);

#[derive(Debug)]
struct Held {
    directory: PathBuf,
    store: OnceLock<Arc<TrustStore>>,
}

impl Trust {
    /// The one in this directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Held { directory: directory.into(), store: OnceLock::new() }))
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Opens it, or gives the store that was opened before.
    ///
    /// # Errors
    /// As [`TrustStore::open`].
    pub fn open(&self) -> Result<&TrustStore, TrustError> {
        if let Some(store) = self.store() {
            return Ok(store);
        }
        let opened = TrustStore::open(&self.0.directory)?;
        Ok(self.0.store.get_or_init(|| Arc::new(opened)))
    }

    /// The store, if it was opened.
    pub fn store(&self) -> Option<&TrustStore> {
        self.0.store.get().map(Arc::as_ref)
    }

    /// Goes on with the store that `other` has open, if both are in one directory: a configuration that is
    /// read again finds the certificates where they are.
    pub fn share(&self, other: &Self) {
        if let (Some(open), true) = (other.0.store.get(), self.0.directory == other.0.directory) {
            // Whoever opened one of their own already keeps it.
            let _ = self.0.store.set(Arc::clone(open));
        }
    }
}

/// What SQLite says.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, None) => code.to_string(),
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_of_a_directory_is_opened_once_and_shared_with_who_names_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Trust::at(folder.path().join(name));
        let (first, again, other) = (at("one"), at("one"), at("other"));
        assert!(first.store().is_none(), "a configuration is judged without touching it");
        again.share(&first);
        assert!(again.store().is_none(), "there is nothing to share yet");
        let opened: *const TrustStore = first.open().unwrap();
        assert!(std::ptr::eq(opened, first.open().unwrap()), "a second one would find it locked");
        for trust in [&again, &other] {
            trust.share(&first);
        }
        assert!(again.store().is_some_and(|shared| std::ptr::eq(opened, shared)));
        assert!(other.store().is_none(), "it is another directory's");
    }

    #[test]
    fn what_sqlite_says_reaches_the_reader() {
        let said = |sql: &str| {
            message(&rusqlite::Connection::open_in_memory().unwrap().execute_batch(sql).unwrap_err())
        };
        assert!(said("SELECT * FROM nowhere").contains("nowhere"));
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        assert!(message(&rusqlite::Error::SqliteFailure(code, None)).contains("malformed"));
        assert_eq!(message(&rusqlite::Error::InvalidQuery), rusqlite::Error::InvalidQuery.to_string());
    }
}
