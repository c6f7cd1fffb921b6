//! What a module keeps in the store beside certificates: how often was guessed, and how far something
//! was used up.
//!
//! A mark is a number under a key that only rises: the last time step of a one-time code (S-77), the
//! counter of a security key (S-76). Raising it is the proof that nobody else did before.

use std::time::Duration;

use super::TrustStore;
use crate::{
    Peer, Refusal,
    proto::error::Reason,
    sys::clock::{seconds, steady},
    trust::{
        TrustError, guesses,
        store::{Applied, Change},
    },
};

impl TrustStore {
    /// Judges a guess at something of an account, unless its source or the account had too many wrong ones
    /// (S-27). `what` is the kind of thing, such as `otp`.
    ///
    /// # Errors
    /// What `judge` says, or that it was not asked.
    pub fn guess_at_account<T>(
        &self,
        peer: &Peer,
        what: &str,
        account: &str,
        judge: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let keys = guesses::account_keys(peer, what, account);
        // What the module could not judge was no guess.
        let counts = |refusal: &Refusal| refusal.reason != Reason::ModuleFailed;
        self.guess(&keys, judge, counts).map_err(|wait| {
            let wait = wait.as_secs();
            Refusal::new(Reason::Busy, format!("too many wrong ones: the next is judged in {wait} s"))
        })?
    }

    /// How high a mark stands; `None` if it was never raised.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mark(&self, key: &str) -> Result<Option<i64>, TrustError> {
        self.store.mark(key)
    }

    /// Raises a mark, durably, and says whether it was lower before. Of several calls with the same
    /// number one gets `true`, also over restarts.
    ///
    /// # Errors
    /// It could not be kept; nothing has changed then.
    pub fn raise(&self, key: &str, to: i64) -> Result<bool, TrustError> {
        Ok(self.store.apply(&Change::Raise { key, to })? == Applied::Made)
    }

    /// Counts a guess under `keys`, has it judged, and takes the count back unless it `counts`.
    ///
    /// # Errors
    /// How long to wait until one is judged.
    pub(super) fn guess<T, E>(
        &self,
        keys: &[String],
        judge: impl FnOnce() -> Result<T, E>,
        counts: impl FnOnce(&E) -> bool,
    ) -> Result<Result<T, E>, Duration> {
        self.guesses.lock().charge(keys, seconds(steady()))?;
        let judged = judge();
        let notes = {
            let mut guesses = self.guesses.lock();
            if !judged.as_ref().err().is_some_and(counts) {
                guesses.refund(keys, seconds(steady()));
            }
            guesses.notes(keys)
        };
        // A guess that cannot be remembered over a restart still counts until then.
        if let Err(error) = self.store.apply(&Change::Guessed(&notes)) {
            tracing::warn!("a wrong guess is not remembered over a restart: {error}");
        }
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> TrustStore {
        TrustStore::open(&folder.path().join("state")).unwrap()
    }

    #[test]
    fn s_077_a_mark_is_raised_once_whoever_asks_and_whenever() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        assert!(store.raise("otp:a", 5).unwrap() && !store.raise("otp:a", 5).unwrap());
        drop(store);
        let store = open(&folder);
        assert!(!store.raise("otp:a", 5).unwrap() && store.raise("otp:a", 6).unwrap());
        assert_eq!(store.mark("otp:a").unwrap(), Some(6));
        assert_eq!(store.mark("otp:b").unwrap(), None);
    }

    #[test]
    fn s_027_wrong_guesses_count_over_a_restart_and_failures_of_ours_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let peer = Peer::unix(None);
        let wrong = || Err::<(), _>(Refusal::new(Reason::WrongSecret, "another code"));
        let store = open(&folder);
        for _ in 0..50 {
            let failed = || Err::<(), _>(Refusal::module_failed("the file is gone"));
            let refusal = store.guess_at_account(&peer, "otp", "alice", failed).unwrap_err();
            assert_eq!(refusal.reason, Reason::ModuleFailed);
            store.guess_at_account(&peer, "otp", "alice", || Ok(())).unwrap();
        }
        for _ in 0..5 {
            let refusal = store.guess_at_account(&peer, "otp", "alice", wrong).unwrap_err();
            assert_eq!(refusal.reason, Reason::WrongSecret);
        }
        let asked = std::cell::Cell::new(false);
        let right = || {
            asked.set(true);
            Ok(())
        };
        let refusal = store.guess_at_account(&peer, "otp", "alice", right).unwrap_err();
        assert_eq!((refusal.reason, asked.get()), (Reason::Busy, false));
        drop(store);
        let refusal = open(&folder).guess_at_account(&peer, "otp", "alice", || Ok(())).unwrap_err();
        assert_eq!(refusal.reason, Reason::Busy);
    }
}
