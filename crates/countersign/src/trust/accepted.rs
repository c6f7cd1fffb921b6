//! Who is accepted: every entry of the store in memory, and the ways to become one.
//!
//! A login only looks ([`TrustStore::judge`]), and never waits for a disk. Whatever changes trust is
//! made durable in the store first, one change after the other, and then seen by every login; the
//! sessions of a certificate learn of it by their [`Lease`].

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    TrustError,
    entry::{Entry, Place, Revocation, Scope, Standing, Way},
    error::EnrolError,
    guesses::{self, Guesses},
    invitation::{Invitation, NewInvitation, Token},
    lock::Lock,
    newcomer::Newcomer,
    passphrase::{NewPassphrase, Passphrase},
    sqlite::SqliteStore,
    store::{Admission, Applied, Change, Known, Store},
};
use crate::{Identity, Refusal, Secret, Username, proto::error::Reason, transport::tls::Fingerprint};

/// The accepted certificates of one gateway.
pub struct TrustStore {
    store: Box<dyn Store>,
    view: RwLock<View>,
    guesses: Mutex<Guesses>,
    /// Held while trust changes: first the store, then the view, one change after the other.
    changing: Mutex<()>,
    /// The certificates whose last sight the store does not have yet.
    seen: Mutex<Vec<Fingerprint>>,
    leases: Arc<Leases>,
    pristine: watch::Sender<bool>,
    _lock: Option<Lock>,
}

/// What logins look at.
#[derive(Default)]
struct View {
    certificates: HashMap<[u8; 32], Accepted>,
    passphrase: Option<Arc<Passphrase>>,
    invitations: HashMap<String, Invitation>,
}

/// What a login must know of an entry. There may be a million of them.
struct Accepted {
    name: Username,
    /// `i64::MAX` for never.
    expires: i64,
    /// `i64::MIN` for never.
    last_seen: AtomicI64,
    /// What few entries have, apart, so that a million others are small.
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    revoked: bool,
    scope: Scope,
    replaces: Option<Fingerprint>,
}

impl TrustStore {
    /// Opens the store in a state directory, for this process alone.
    ///
    /// # Errors
    /// Another process has it, or the store is missing, damaged or unreadable (S-53, S-64).
    pub fn open(directory: &Path) -> Result<Self, TrustError> {
        super::durable::private_directory(directory).map_err(TrustError::Exposed)?;
        let lock = Lock::take(directory)?;
        Self::over(Box::new(SqliteStore::open(directory)?), Some(lock))
    }

    /// Whether there is, or was, a store in a state directory; also where we may not look.
    pub fn is_in(directory: &Path) -> bool {
        SqliteStore::is_in(directory)
    }

    /// Puts away whatever store there is in a state directory, also a damaged one, and makes an empty
    /// one: the first place is free again. Gives the new name of the old file.
    ///
    /// # Errors
    /// Another process has it, or the directory cannot be changed.
    pub fn reset_in(directory: &Path) -> Result<Option<std::path::PathBuf>, TrustError> {
        super::durable::private_directory(directory).map_err(TrustError::Exposed)?;
        let _lock = Lock::take(directory)?;
        let aside = SqliteStore::set_aside(directory, now())?;
        SqliteStore::open(directory)?;
        Ok(aside)
    }

    fn over(store: Box<dyn Store>, lock: Option<Lock>) -> Result<Self, TrustError> {
        let mut view = View::default();
        view.certificates.reserve(store.count()?);
        let contents = store.load(&mut |entry| {
            view.certificates.insert(entry.fingerprint.0, Accepted::of(entry));
        })?;
        view.passphrase = contents.passphrase.map(Arc::new);
        view.invitations = contents.invitations.into_iter().map(|one| (one.id.clone(), one)).collect();
        Ok(Self {
            store,
            view: RwLock::new(view),
            guesses: Mutex::new(Guesses::remembered(contents.guesses)),
            changing: Mutex::new(()),
            seen: Mutex::default(),
            leases: Arc::default(),
            pristine: watch::Sender::new(!contents.initialised),
            _lock: lock,
        })
    }

    /// Whether no certificate was ever accepted: the first place is free.
    pub fn is_pristine(&self) -> bool {
        *self.pristine.borrow()
    }

    /// The same, and whenever it changes: what the mode of a socket follows.
    pub fn pristine(&self) -> watch::Receiver<bool> {
        self.pristine.subscribe()
    }

    /// Who holds a certificate that is accepted at `place`. It only looks into memory.
    ///
    /// # Errors
    /// The certificate is unknown, has expired, was taken back, or does not count there.
    pub fn judge(&self, certificate: &[u8; 32], place: &Place) -> Result<Identity, Refusal> {
        let now = now();
        let view = self.view.read();
        let Some(accepted) = view.certificates.get(certificate) else {
            return Err(Refusal::new(Reason::PeerDenied, "the certificate is not in the trust store"));
        };
        let why = match accepted.standing(now) {
            Standing::Revoked => "the certificate was taken back",
            Standing::Expired => "the certificate's entry has expired",
            _ if accepted.rest.as_ref().is_some_and(|rest| !rest.scope.covers(place)) => {
                "the certificate does not count for this socket or backend"
            }
            _ => {
                let before = accepted.last_seen.load(Ordering::Relaxed);
                if now.saturating_sub(before) >= SIGHT || before > now {
                    accepted.last_seen.store(now, Ordering::Relaxed);
                    self.seen.lock().push(Fingerprint(*certificate));
                }
                return Ok(Identity::new(accepted.name.clone()));
            }
        };
        Err(Refusal::new(Reason::PeerDenied, why))
    }

    /// What a certificate is worth, wherever.
    pub fn standing(&self, certificate: &[u8; 32]) -> Standing {
        let view = self.view.read();
        view.certificates.get(certificate).map_or(Standing::Unknown, |accepted| accepted.standing(now()))
    }

    /// A lease on a certificate: whoever relies on it judges again when it [changes](Lease::changed).
    /// Take it before judging.
    pub fn lease(&self, certificate: [u8; 32]) -> Lease {
        let changes = self.leases.0.lock().entry(certificate).or_default().subscribe();
        Lease { certificate, changes, leases: Arc::clone(&self.leases) }
    }

    /// Accepts the first certificate ever (S-49, S-50). The caller has checked that this client may
    /// be the first.
    ///
    /// # Errors
    /// Another one was first, or it cannot be kept.
    pub fn take_first_place(&self, newcomer: &Newcomer) -> Result<Identity, EnrolError> {
        let _one_at_a_time = self.changing.lock();
        if !self.is_pristine() {
            return Err(EnrolError::Taken);
        }
        let entry = newcomer.entry(Way::FirstUse, newcomer.from(), now());
        self.admit(entry, newcomer, Admission::First, EnrolError::Taken)
    }

    /// Accepts a certificate whose holder knows the passphrase. It computes Argon2id and syncs a disk.
    ///
    /// # Errors
    /// No passphrase is set, it is another, too many were wrong, or the certificate cannot be kept.
    pub fn enrol_by_passphrase(
        &self,
        newcomer: &Newcomer,
        passphrase: &Secret,
    ) -> Result<Identity, EnrolError> {
        self.guessed(newcomer, || {
            let set = self.view.read().passphrase.clone().filter(|set| set.is_open(now()));
            let set = set.ok_or(EnrolError::NoPassphrase)?;
            if !set.verifies(passphrase) {
                return Err(EnrolError::Wrong);
            }
            let _one_at_a_time = self.changing.lock();
            self.may_enrol(newcomer)?;
            let entry = newcomer.entry(Way::Passphrase, newcomer.from(), now());
            let by = Admission::Passphrase { revision: set.revision };
            let done = self.admit(entry, newcomer, by, EnrolError::NoPassphrase);
            if let Some(uses) = set.uses.filter(|_| done.is_ok()) {
                let left = Passphrase { uses: Some(uses.saturating_sub(1)), ..Passphrase::clone(&set) };
                self.view.write().passphrase = Some(Arc::new(left));
            }
            done
        })
    }

    /// Accepts a certificate whose holder has the token of an invitation, and spends that.
    ///
    /// # Errors
    /// It is no token of ours, was spent, too many were wrong, or the certificate cannot be kept.
    pub fn enrol_by_token(&self, newcomer: &Newcomer, token: &Secret) -> Result<Identity, EnrolError> {
        self.guessed(newcomer, || {
            let token: Option<Token> =
                std::str::from_utf8(token.expose()).ok().and_then(|text| text.parse().ok());
            let token = token.ok_or(EnrolError::Wrong)?;
            let found = self.view.read().invitations.get(&token.id()).cloned();
            let invitation = found.filter(|invitation| invitation.is_of(&token)).ok_or(EnrolError::Wrong)?;
            let _one_at_a_time = self.changing.lock();
            self.may_enrol(newcomer)?;
            let now = now();
            if !invitation.is_open(now) {
                return Err(EnrolError::Spent);
            }
            let by = format!("invitation {} of {}, from {}", invitation.id, invitation.by, newcomer.from());
            let mut entry = newcomer.entry(Way::Invitation, by, now);
            entry.name = invitation.name.clone();
            entry.scope = invitation.scope.clone();
            entry.expires = invitation.entry_expires;
            let fingerprint = entry.fingerprint;
            let by = Admission::Invitation { id: &invitation.id };
            let identity = self.admit(entry, newcomer, by, EnrolError::Spent)?;
            if let Some(kept) = self.view.write().invitations.get_mut(&invitation.id) {
                (kept.spent, kept.spent_by) = (Some(now), Some(fingerprint));
            }
            Ok(identity)
        })
    }

    /// Accepts a certificate in place of an accepted one, whose holder asks for it. Both count until
    /// the new one was seen.
    ///
    /// # Errors
    /// The old one is not accepted, or the new one cannot be kept.
    pub fn renew(&self, old: &[u8; 32], newcomer: &Newcomer) -> Result<Identity, EnrolError> {
        let _one_at_a_time = self.changing.lock();
        self.may_enrol(newcomer)?;
        let old = Fingerprint(*old);
        let replaced = self.store.entry(&old)?.filter(|entry| entry.standing(now()) == Standing::Accepted);
        let replaced = replaced.ok_or(EnrolError::Revoked)?;
        let mut entry = newcomer.entry(Way::Renewal, format!("renewal of {old}"), now());
        (entry.name, entry.scope, entry.expires) = (replaced.name, replaced.scope, replaced.expires);
        (entry.uid, entry.replaces) = (replaced.uid, Some(old));
        self.admit(entry, newcomer, Admission::Renewal { of: &old }, EnrolError::Revoked)
    }

    /// Accepts a certificate because the owner says so, also one that was taken back.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn add(&self, entry: Entry, certificate: &[u8]) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let change = Change::Admit { entry: &entry, certificate, by: Admission::Owner };
        // The owner's word has no condition that could be overtaken.
        let _ = self.store.apply(&change)?;
        self.put(entry);
        Ok(())
    }

    /// Accepts many certificates because the owner says so: all of them, or none.
    ///
    /// # Errors
    /// They cannot be kept.
    pub fn add_all(&self, many: Vec<(Entry, Vec<u8>)>) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::AdmitAll(&many))?;
        many.into_iter().for_each(|(entry, _)| self.put(entry));
        Ok(())
    }

    /// Changes an entry: its name, scope, end, or that it was taken back. Its sessions learn of it.
    ///
    /// # Errors
    /// There is none, or it cannot be kept.
    pub fn amend(
        &self,
        fingerprint: &Fingerprint,
        change: impl FnOnce(&mut Entry),
    ) -> Result<Entry, TrustError> {
        let _one_at_a_time = self.changing.lock();
        let mut entry = self.store.entry(fingerprint)?.ok_or_else(|| unknown(fingerprint))?;
        change(&mut entry);
        match self.store.apply(&Change::Amend(&entry))? {
            Applied::Overtaken => return Err(unknown(fingerprint)),
            Applied::Made => self.put(entry.clone()),
        }
        Ok(entry)
    }

    /// Takes a certificate back. Its live sessions end.
    ///
    /// # Errors
    /// As [`TrustStore::amend`].
    pub fn revoke(&self, fingerprint: &Fingerprint, why: &str) -> Result<Entry, TrustError> {
        self.amend(fingerprint, |entry| entry.revoked = Some(Revocation::new(now(), why)))
    }

    /// Forgets a certificate as if it had never been. Its live sessions end; the first place stays
    /// taken.
    ///
    /// # Errors
    /// There is none, or the store cannot be written.
    pub fn forget(&self, fingerprint: &Fingerprint) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Forget(fingerprint))? {
            Applied::Overtaken => Err(unknown(fingerprint)),
            Applied::Made => {
                self.view.write().certificates.remove(&fingerprint.0);
                self.leases.tell(&fingerprint.0);
                Ok(())
            }
        }
    }

    /// Forgets everything: the first place is free again, and every session of a certificate ends.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn reset(&self) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::Reset)?;
        *self.view.write() = View::default();
        *self.guesses.lock() = Guesses::default();
        self.pristine.send_replace(true);
        self.leases.tell_all();
        Ok(())
    }

    /// Every entry, by name and then by age.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, TrustError> {
        self.flush()?;
        let mut entries = self.store.entries()?;
        entries.sort_by(|a: &Entry, b| (a.name.as_str(), a.added).cmp(&(b.name.as_str(), b.added)));
        Ok(entries)
    }

    /// The certificate of an entry in DER.
    ///
    /// # Errors
    /// The store cannot be read, or did not keep it.
    pub fn certificate(&self, fingerprint: &Fingerprint) -> Result<Vec<u8>, TrustError> {
        self.store.certificate(fingerprint)?.ok_or_else(|| unknown(fingerprint))
    }

    /// Whether a passphrase is set that would be taken now.
    pub fn has_passphrase(&self) -> bool {
        self.view.read().passphrase.as_ref().is_some_and(|set| set.is_open(now()))
    }

    /// The passphrase's facts, without the passphrase.
    pub fn passphrase(&self) -> Option<Arc<Passphrase>> {
        self.view.read().passphrase.clone()
    }

    /// Sets the passphrase, or unsets it. It computes Argon2id and syncs a disk.
    ///
    /// # Errors
    /// It is empty or too long, or cannot be kept; then the old one stays.
    pub fn set_passphrase(&self, new: Option<&NewPassphrase>, by: &str) -> Result<(), TrustError> {
        let mut revision = [0; 8];
        getrandom::fill(&mut revision).map_err(|_| TrustError::NoRandomness)?;
        let revision = i64::from_le_bytes(revision);
        let made = new.map(|new| Passphrase::make(new, revision, now(), by)).transpose()?;
        let _one_at_a_time = self.changing.lock();
        let _ = self.store.apply(&Change::SetPassphrase(made.as_ref()))?;
        self.view.write().passphrase = made.map(Arc::new);
        Ok(())
    }

    /// Invites somebody. The token is not kept: it can be shown now and never again.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn invite(&self, new: NewInvitation, by: &str) -> Result<(Invitation, Token), TrustError> {
        let (invitation, token) = Invitation::make(new, now(), by)?;
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Invite(&invitation))? {
            Applied::Overtaken => Err(TrustError::NoRandomness),
            Applied::Made => {
                self.view.write().invitations.insert(invitation.id.clone(), invitation.clone());
                Ok((invitation, token))
            }
        }
    }

    /// Every invitation that was not withdrawn, spent ones included, oldest first.
    pub fn invitations(&self) -> Vec<Invitation> {
        let mut all: Vec<Invitation> = self.view.read().invitations.values().cloned().collect();
        all.sort_by(|one, other| (one.made, &one.id).cmp(&(other.made, &other.id)));
        all
    }

    /// Withdraws an invitation. What it let in stays.
    ///
    /// # Errors
    /// There is none of that id, or the store cannot be written.
    pub fn withdraw(&self, id: &str) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        match self.store.apply(&Change::Withdraw(id))? {
            Applied::Overtaken => {
                Err(TrustError::Unknown(format!("invitation {}: there is none", id.escape_debug())))
            }
            Applied::Made => {
                self.view.write().invitations.remove(id);
                Ok(())
            }
        }
    }

    /// Writes down when certificates were last seen, and forgets those whose renewal was. Called now
    /// and then, and at the end.
    ///
    /// # Errors
    /// The store cannot be written; the next call tries again.
    pub fn flush(&self) -> Result<(), TrustError> {
        let _one_at_a_time = self.changing.lock();
        let pending = std::mem::take(&mut *self.seen.lock());
        if pending.is_empty() {
            return Ok(());
        }
        let (mut seen, mut replaced) = (Vec::new(), Vec::new());
        for fingerprint in &pending {
            if let Some(accepted) = self.view.read().certificates.get(&fingerprint.0) {
                seen.push((*fingerprint, accepted.last_seen.load(Ordering::Relaxed)));
                let old = accepted.rest.as_ref().and_then(|rest| rest.replaces);
                replaced.extend(old.map(|old| (*fingerprint, old)));
            }
        }
        if let Err(error) = self.store.apply(&Change::Seen(&seen)) {
            self.seen.lock().extend(pending);
            return Err(error);
        }
        for (new, old) in replaced {
            self.finish_renewal(&new, &old)?;
        }
        Ok(())
    }

    /// The new certificate was seen: its holder needs the old one no more.
    fn finish_renewal(&self, new: &Fingerprint, old: &Fingerprint) -> Result<(), TrustError> {
        if let Some(mut entry) = self.store.entry(old)?.filter(|entry| entry.revoked.is_none()) {
            entry.revoked = Some(Revocation::new(now(), format!("renewed as {new}")));
            let _ = self.store.apply(&Change::Amend(&entry))?;
            self.put(entry);
        }
        if let Some(mut entry) = self.store.entry(new)? {
            entry.replaces = None;
            let _ = self.store.apply(&Change::Amend(&entry))?;
            self.put(entry);
        }
        Ok(())
    }

    /// Counts a guess, has it judged, and takes the count back if it was right.
    fn guessed(
        &self,
        newcomer: &Newcomer,
        judge: impl FnOnce() -> Result<Identity, EnrolError>,
    ) -> Result<Identity, EnrolError> {
        let keys = guesses::keys(newcomer.peer(), &newcomer.fingerprint());
        let charged = self.guesses.lock().charge(&keys, now());
        charged.map_err(|retry_after| EnrolError::TooMany { retry_after })?;
        let judged = judge();
        let notes = {
            let mut guesses = self.guesses.lock();
            if !matches!(judged, Err(EnrolError::Wrong | EnrolError::NoPassphrase | EnrolError::Spent)) {
                guesses.refund(&keys, now());
            }
            guesses.notes(&keys)
        };
        // A guess that cannot be remembered over a restart still counts until then.
        if let Err(error) = self.store.apply(&Change::Guessed(&notes)) {
            tracing::warn!("a wrong guess is not remembered over a restart: {error}");
        }
        judged
    }

    /// A certificate that was taken back does not come back by itself: only the owner adds it again.
    fn may_enrol(&self, newcomer: &Newcomer) -> Result<(), EnrolError> {
        match self.standing(&newcomer.fingerprint().0) {
            Standing::Revoked => Err(EnrolError::Revoked),
            _ => Ok(()),
        }
    }

    /// Makes an admission durable, then seen. `changing` is held.
    fn admit(
        &self,
        mut entry: Entry,
        newcomer: &Newcomer,
        by: Admission<'_>,
        overtaken: EnrolError,
    ) -> Result<Identity, EnrolError> {
        // Authenticating twice changes nothing that the owner has set since (`authenticate` is idempotent).
        if let (Some(known), false) =
            (self.store.entry(&entry.fingerprint)?, matches!(by, Admission::Invitation { .. }))
        {
            let expires = entry.expires;
            entry = Entry { expires, ..known };
        }
        match self.store.apply(&Change::Admit { entry: &entry, certificate: newcomer.der(), by })? {
            Applied::Overtaken => Err(overtaken),
            Applied::Made => {
                let identity = Identity::new(entry.name.clone());
                self.put(entry);
                Ok(identity)
            }
        }
    }

    /// Lets logins and sessions see an entry that is durable.
    fn put(&self, entry: Entry) {
        let fingerprint = entry.fingerprint;
        self.view.write().certificates.insert(fingerprint.0, Accepted::of(entry.into()));
        self.pristine.send_if_modified(|pristine| std::mem::replace(pristine, false));
        self.leases.tell(&fingerprint.0);
    }
}

impl Accepted {
    fn of(known: Known) -> Self {
        let Known { name, last_seen, expires, scope, revoked, replaces, .. } = known;
        let plain = !revoked && scope.is_everything() && replaces.is_none();
        Self {
            name,
            expires: expires.unwrap_or(i64::MAX),
            last_seen: AtomicI64::new(last_seen.unwrap_or(i64::MIN)),
            rest: (!plain).then(|| Box::new(Rest { revoked, scope, replaces })),
        }
    }

    fn standing(&self, now: i64) -> Standing {
        match &self.rest {
            Some(rest) if rest.revoked => Standing::Revoked,
            _ if self.expires <= now => Standing::Expired,
            _ => Standing::Accepted,
        }
    }
}

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustStore").field("store", &self.store).finish_non_exhaustive()
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
struct Leases(Mutex<HashMap<[u8; 32], watch::Sender<()>>>);

impl Leases {
    fn tell(&self, certificate: &[u8; 32]) {
        if let Some(changes) = self.0.lock().get(certificate) {
            changes.send_replace(());
        }
    }

    fn tell_all(&self) {
        self.0.lock().values().for_each(|changes| changes.send_replace(()));
    }
}

/// Seconds since 1970 by the system's clock: entries end by the calendar.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn unknown(fingerprint: &Fingerprint) -> TrustError {
    TrustError::Unknown(format!("certificate {fingerprint}: it is not in the trust store"))
}

/// How exactly a last sight is kept, in seconds: not every login is worth a write.
const SIGHT: i64 = 60;

#[cfg(test)]
mod tests;
