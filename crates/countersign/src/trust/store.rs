//! Where trust is kept: what a store must do, whatever it is made of.
//!
//! [`TrustStore`](super::TrustStore) is the only caller. A store decides nothing about who may come
//! in; it makes each [`Change`] in one step that is durable when it returns, or not at all, and says
//! whether the change's own condition still held. `tests::conforms` is what every store must pass.

use std::fmt;

use super::{
    TrustError,
    entry::{Entry, Scope},
    guesses::Guess,
    invitation::Invitation,
    passphrase::Passphrase,
};
use crate::{Username, transport::tls::Fingerprint};

/// Keeps accepted certificates, the passphrase, invitations, wrong guesses, and marks.
pub trait Store: fmt::Debug + Send + Sync {
    /// How many entries there are, for whoever makes room for them.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn count(&self) -> Result<usize, TrustError>;

    /// Reads what decides of every entry, and everything else, in one consistent look.
    ///
    /// # Errors
    /// It cannot be read, or is damaged: then it says so and gives nothing (S-53).
    fn load(&self, each: &mut dyn FnMut(Known)) -> Result<Contents, TrustError>;

    /// Every entry, whole.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn entries(&self) -> Result<Vec<Entry>, TrustError>;

    /// The entry of a certificate.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn entry(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, TrustError>;

    /// The entry that took the first place, whatever became of it since. `None` if nobody has taken it,
    /// or the entry was forgotten.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn first(&self) -> Result<Option<Entry>, TrustError>;

    /// The certificate of an entry in DER, where it was kept.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>, TrustError>;

    /// How high a mark stands: a number under a key that only rises. `None` if it never did.
    ///
    /// # Errors
    /// As [`Store::load`].
    fn mark(&self, key: &str) -> Result<Option<i64>, TrustError>;

    /// Makes a change in one durable step.
    ///
    /// # Errors
    /// It could not be made, for example for want of space; nothing has changed then (S-54).
    fn apply(&self, change: &Change<'_>) -> Result<Applied, TrustError>;
}

/// What decides of an entry: all that a login must know, and nothing more, for there may be a million
/// of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// [`Entry::fingerprint`].
    pub fingerprint: Fingerprint,
    /// [`Entry::name`].
    pub name: Username,
    /// [`Entry::last_seen`].
    pub last_seen: Option<i64>,
    /// [`Entry::expires`].
    pub expires: Option<i64>,
    /// [`Entry::scope`].
    pub scope: Scope,
    /// Whether it was taken back.
    pub revoked: bool,
    /// [`Entry::replaces`].
    pub replaces: Option<Fingerprint>,
}

impl From<Entry> for Known {
    fn from(entry: Entry) -> Self {
        Self {
            fingerprint: entry.fingerprint,
            name: entry.name,
            last_seen: entry.last_seen,
            expires: entry.expires,
            scope: entry.scope,
            revoked: entry.revoked.is_some(),
            replaces: entry.replaces,
        }
    }
}

/// What a store holds beside its entries.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Contents {
    /// Whether a certificate was ever accepted: the first place is taken for good.
    pub initialised: bool,
    /// The passphrase, if one is set.
    pub passphrase: Option<Passphrase>,
    /// Invitations, spent ones included.
    pub invitations: Vec<Invitation>,
    /// What is remembered of wrong guesses.
    pub guesses: Vec<Guess>,
}

/// One step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change<'a> {
    /// Accepts a certificate. An entry of that certificate is replaced.
    Admit {
        /// The new entry.
        entry: &'a Entry,
        /// Its certificate in DER.
        certificate: &'a [u8],
        /// What must hold for it, and is used up by it.
        by: Admission<'a>,
    },
    /// Accepts many certificates, whole or not at all, because the owner says so.
    AdmitAll(&'a [(Entry, Vec<u8>)]),
    /// Replaces an entry that is there.
    Amend(&'a Entry),
    /// Forgets an entry as if it had never been. The first place stays taken.
    Forget(&'a Fingerprint),
    /// Sets or unsets the passphrase.
    SetPassphrase(Option<&'a Passphrase>),
    /// Keeps a new invitation.
    Invite(&'a Invitation),
    /// Forgets an invitation, spent or not.
    Withdraw(&'a str),
    /// Notes when certificates were last accepted.
    Seen(&'a [(Fingerprint, i64)]),
    /// Notes wrong guesses, each in place of an older note of the same key.
    Guessed(&'a [Guess]),
    /// Raises a mark, if it stands lower than this or nowhere (S-76, S-77).
    Raise {
        /// Whose it is: `otp:..`, `key:..`.
        key: &'a str,
        /// Where it will stand.
        to: i64,
    },
    /// Forgets everything but the marks: the first place is free again, and what was used up before
    /// stays used up.
    Reset,
}

/// What must hold for an admission.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Admission<'a> {
    /// Nothing was ever accepted before (S-49).
    First,
    /// The owner says so.
    Owner,
    /// This passphrase is set and not used up; one use is taken off.
    Passphrase {
        /// [`Passphrase::revision`].
        revision: i64,
    },
    /// This invitation is there and unspent; it is spent.
    Invitation {
        /// [`Invitation::id`].
        id: &'a str,
    },
    /// This entry is there and not revoked.
    Renewal {
        /// Of the certificate that is replaced.
        of: &'a Fingerprint,
    },
}

/// What became of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a change is made or not")]
pub enum Applied {
    /// It is made, and durable.
    Made,
    /// Its condition did not hold (any more): nothing has changed.
    Overtaken,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::trust::entry::{Revocation, Way};

    fn entry(byte: u8) -> Entry {
        let name = Username::parse(&format!("user-{byte}")).unwrap();
        let mut entry = Entry::new(Fingerprint([byte; 32]), name, Way::Added, "root", 1000);
        entry.uid = Some(u32::from(byte));
        entry.scope = Scope::new(vec!["a".into(), "b \"quoted\"".into()], Vec::new());
        entry
    }

    fn admit(store: &dyn Store, entry: &Entry, by: Admission<'_>) -> Applied {
        store.apply(&Change::Admit { entry, certificate: &[entry.fingerprint.0[0]; 400], by }).unwrap()
    }

    fn all(store: &dyn Store) -> (Vec<Entry>, Contents) {
        let (mut entries, mut known) = (store.entries().unwrap(), Vec::new());
        let contents = store.load(&mut |entry| known.push(entry)).unwrap();
        entries.sort_by_key(|entry| entry.fingerprint.0);
        known.sort_by_key(|known| known.fingerprint.0);
        assert_eq!(known, entries.iter().cloned().map(Known::from).collect::<Vec<_>>());
        assert_eq!(store.count().unwrap(), entries.len());
        (entries, contents)
    }

    /// What every store must do. `open` opens the same store again, as after a restart.
    pub(in crate::trust) fn conforms(open: &dyn Fn() -> Box<dyn Store>) {
        the_first_place_is_taken_once(open);
        entries_are_kept_as_they_are(open);
        passphrases_and_invitations_are_used_up(open);
        seen_and_guesses_are_notes(open);
        marks_only_rise(open);
        a_reset_forgets_everything(open);
    }

    fn the_first_place_is_taken_once(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        assert!(!all(&*store).1.initialised);
        assert_eq!(store.first().unwrap(), None);
        assert_eq!(admit(&*store, &entry(1), Admission::First), Applied::Made);
        assert_eq!(admit(&*store, &entry(2), Admission::First), Applied::Overtaken);
        drop(store);
        let store = open();
        assert_eq!(admit(&*store, &entry(3), Admission::First), Applied::Overtaken);
        let (entries, contents) = all(&*store);
        assert!(contents.initialised);
        assert_eq!(entries, [entry(1)]);
        assert_eq!(admit(&*store, &entry(0), Admission::Owner), Applied::Made);
        assert_eq!(store.first().unwrap(), Some(entry(1)), "whoever comes later");
        assert_eq!(store.apply(&Change::Forget(&Fingerprint([0; 32]))).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Forget(&Fingerprint([1; 32]))).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Forget(&Fingerprint([1; 32]))).unwrap(), Applied::Overtaken);
        assert_eq!(admit(&*store, &entry(3), Admission::First), Applied::Overtaken, "empty is not first");
        assert_eq!(admit(&*store, &entry(3), Admission::Owner), Applied::Made);
        assert_eq!(store.first().unwrap(), None, "as if it had never been, and nobody in its place");
        assert_eq!(store.apply(&Change::Forget(&Fingerprint([3; 32]))).unwrap(), Applied::Made);
    }

    fn entries_are_kept_as_they_are(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        assert_eq!(admit(&*store, &entry(1), Admission::Owner), Applied::Made);
        let mut changed = entry(1);
        changed.name = Username::parse("grüße").unwrap();
        changed.expires = Some(-5);
        changed.scope = Scope::default();
        changed.revoked = Some(Revocation::new(7, "l'ordinateur est perdu"));
        changed.replaces = Some(Fingerprint([9; 32]));
        assert_eq!(store.apply(&Change::Amend(&changed)).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Amend(&entry(7))).unwrap(), Applied::Overtaken);
        let renewal = |of| Admission::Renewal { of };
        assert_eq!(admit(&*store, &entry(2), renewal(&Fingerprint([1; 32]))), Applied::Overtaken, "revoked");
        assert_eq!(admit(&*store, &entry(2), renewal(&Fingerprint([8; 32]))), Applied::Overtaken, "unknown");
        assert_eq!(admit(&*store, &entry(2), Admission::Owner), Applied::Made);
        assert_eq!(admit(&*store, &entry(3), renewal(&Fingerprint([2; 32]))), Applied::Made);
        drop(store);
        let store = open();
        assert_eq!(all(&*store).0, [changed.clone(), entry(2), entry(3)]);
        assert_eq!(store.entry(&changed.fingerprint).unwrap(), Some(changed.clone()));
        assert_eq!(store.certificate(&changed.fingerprint).unwrap(), Some(vec![1; 400]));
        assert_eq!(store.entry(&Fingerprint([99; 32])).unwrap(), None);
        assert_eq!(store.certificate(&Fingerprint([99; 32])).unwrap(), None);
        let many: Vec<(Entry, Vec<u8>)> = (3..6).map(|byte| (entry(byte), vec![byte])).collect();
        assert_eq!(store.apply(&Change::AdmitAll(&many)).unwrap(), Applied::Made);
        assert_eq!(all(&*store).0, [changed, entry(2), entry(3), entry(4), entry(5)]);
    }

    fn passphrases_and_invitations_are_used_up(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        let by = |revision| Admission::Passphrase { revision };
        assert_eq!(admit(&*store, &entry(10), by(1)), Applied::Overtaken, "none is set");
        let mut passphrase = Passphrase::for_tests(1);
        passphrase.uses = Some(1);
        assert_eq!(store.apply(&Change::SetPassphrase(Some(&passphrase))).unwrap(), Applied::Made);
        assert_eq!(admit(&*store, &entry(10), by(2)), Applied::Overtaken, "another one");
        assert_eq!(admit(&*store, &entry(10), by(1)), Applied::Made);
        assert_eq!(admit(&*store, &entry(11), by(1)), Applied::Overtaken, "used up");
        assert_eq!(all(&*store).1.passphrase.unwrap().uses, Some(0));
        assert_eq!(store.apply(&Change::SetPassphrase(None)).unwrap(), Applied::Made);
        assert!(all(&*store).1.passphrase.is_none());

        let invitation = Invitation::for_tests("0011");
        assert_eq!(store.apply(&Change::Invite(&invitation)).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Invite(&invitation)).unwrap(), Applied::Overtaken, "same id");
        let by = |id| Admission::Invitation { id };
        assert_eq!(admit(&*store, &entry(12), by("ffff")), Applied::Overtaken, "unknown");
        assert_eq!(admit(&*store, &entry(12), by("0011")), Applied::Made);
        assert_eq!(admit(&*store, &entry(13), by("0011")), Applied::Overtaken, "spent");
        drop(store);
        let store = open();
        assert_eq!(admit(&*store, &entry(13), by("0011")), Applied::Overtaken, "spent for good");
        assert_eq!(all(&*store).1.invitations[0].spent_by, Some(Fingerprint([12; 32])));
        assert_eq!(store.apply(&Change::Withdraw("0011")).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Withdraw("0011")).unwrap(), Applied::Overtaken);
    }

    fn seen_and_guesses_are_notes(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        let seen = [(Fingerprint([2; 32]), 5000), (Fingerprint([77; 32]), 1)];
        assert_eq!(store.apply(&Change::Seen(&seen)).unwrap(), Applied::Made);
        let guess = |until| Guess { key: "ip:192.0.2.7".into(), until };
        assert_eq!(store.apply(&Change::Guessed(&[guess(10)])).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Guessed(&[guess(20)])).unwrap(), Applied::Made);
        drop(store);
        let store = open();
        let (entries, contents) = all(&*store);
        assert_eq!(entries.iter().find(|entry| entry.fingerprint.0[0] == 2).unwrap().last_seen, Some(5000));
        assert!(entries.iter().all(|entry| entry.fingerprint.0[0] != 77));
        assert_eq!(contents.guesses, [guess(20)]);
    }

    fn marks_only_rise(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        let raise = |store: &dyn Store, key, to| store.apply(&Change::Raise { key, to }).unwrap();
        assert_eq!(store.mark("otp:a").unwrap(), None);
        assert_eq!(raise(&*store, "otp:a", 0), Applied::Made, "nothing is lower than zero");
        assert_eq!(raise(&*store, "otp:a", 0), Applied::Overtaken, "as high is not higher");
        assert_eq!(raise(&*store, "otp:a", i64::MAX), Applied::Made);
        assert_eq!(raise(&*store, "otp:b", 7), Applied::Made, "another one's");
        drop(store);
        let store = open();
        assert_eq!(raise(&*store, "otp:b", 7), Applied::Overtaken, "after a restart");
        assert_eq!(raise(&*store, "otp:b", 6), Applied::Overtaken);
        assert_eq!(store.mark("otp:a").unwrap(), Some(i64::MAX));
        assert_eq!(store.mark("otp:b").unwrap(), Some(7));
        // At one instant: exactly one of many.
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| raise(&*store, "otp:b", 8))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(made.iter().filter(|applied| **applied == Applied::Made).count(), 1);
    }

    fn a_reset_forgets_everything(open: &dyn Fn() -> Box<dyn Store>) {
        let store = open();
        assert_eq!(store.apply(&Change::Invite(&Invitation::for_tests("22"))).unwrap(), Applied::Made);
        assert_eq!(store.apply(&Change::Reset).unwrap(), Applied::Made);
        drop(store);
        let store = open();
        let (entries, contents) = all(&*store);
        assert!(entries.is_empty() && !contents.initialised && contents.passphrase.is_none());
        assert!(contents.invitations.is_empty() && contents.guesses.is_empty());
        assert_eq!(store.mark("otp:b").unwrap(), Some(8), "a code that was used stays used");
        assert_eq!(store.certificate(&Fingerprint([2; 32])).unwrap(), None);
        assert_eq!(admit(&*store, &entry(3), Admission::First), Applied::Made);
        assert_eq!(store.first().unwrap(), Some(entry(3)));
    }
}
