//! Who is accepted: every entry of the store in memory.
//!
//! A login only looks ([`TrustStore::judge`]), and never waits for a disk. Whatever changes trust is
//! made durable in the store first, one change after the other, and then seen by every login; the
//! sessions of a certificate learn of it by their [`Lease`].
//!
//! | file | holds |
//! |---|---|
//! | `enrol` | what a client can do to be accepted |
//! | `owner` | what the owner can do about it |
//! | `lease` | how sessions learn of it |
//! | `attempts` | what modules keep in it: guesses, and marks that only rise |
//! | `roster`, `name` | the entries in memory; their names |

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

mod attempts;
mod enrol;
mod lease;
mod name;
mod owner;
mod roster;

pub use lease::Lease;

use lease::Leases;
use name::Name;
use roster::Roster;

use super::{
    TrustError,
    entry::{Entry, Place, Revocation, Scope, Standing},
    guesses::Guesses,
    invitation::Invitation,
    lock::Lock,
    passphrase::Passphrase,
    sqlite::SqliteStore,
    store::{Change, Known, Store},
    twofold::Twofold,
};
use crate::{Identity, Refusal, proto::error::Reason, sys::clock::now, transport::tls::Fingerprint};

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
    certificates: Roster,
    passphrase: Option<Arc<Passphrase>>,
    invitations: HashMap<String, Invitation>,
}

/// What a login must know of an entry. There may be a million of them.
struct Accepted {
    name: Name,
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
    /// Opens the store in a state directory, for this process alone. One that is damaged or gone is made
    /// again from its copy, which holds all that was ever answered, and the log says so.
    ///
    /// # Errors
    /// Another process has it, or the store is missing, damaged or unreadable, and its copy as well (S-53,
    /// S-64).
    pub fn open(directory: &Path) -> Result<Self, TrustError> {
        super::durable::private_directory(directory).map_err(TrustError::Exposed)?;
        let lock = Lock::take(directory)?;
        let opened = || Self::over(Box::new(Twofold::open(directory)?), None);
        let store = match opened() {
            Err(damage) if Twofold::restore(directory, &damage)? => opened(),
            opened => opened,
        };
        Ok(Self { _lock: Some(lock), ..store? })
    }

    /// Whether there is, or was, a store in a state directory; also where we may not look.
    pub fn is_in(directory: &Path) -> bool {
        SqliteStore::is_in(directory)
    }

    /// Puts away whatever store there is in a state directory, also a damaged one, and makes an empty
    /// one: the first place is free again; one-time codes that were used stay used. Gives the new name of
    /// the old file.
    ///
    /// # Errors
    /// Another process has it, or the directory cannot be changed.
    pub fn reset_in(directory: &Path) -> Result<Option<std::path::PathBuf>, TrustError> {
        super::durable::private_directory(directory).map_err(TrustError::Exposed)?;
        let _lock = Lock::take(directory)?;
        Twofold::reset(directory)
    }

    fn over(store: Box<dyn Store>, lock: Option<Lock>) -> Result<Self, TrustError> {
        let (certificates, contents) = Roster::filled(store.count()?, |put| {
            store.load(&mut |entry| put(entry.fingerprint.0, Accepted::of(entry)))
        });
        let contents = contents?;
        let invitations = contents.invitations.into_iter().map(|one| (one.id.clone(), one)).collect();
        let view = View { certificates, passphrase: contents.passphrase.map(Arc::new), invitations };
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
        let accepted = view.judged(certificate, place, now)?;
        let before = accepted.last_seen.load(Ordering::Relaxed);
        if now.saturating_sub(before) >= SIGHT || before > now {
            accepted.last_seen.store(now, Ordering::Relaxed);
            self.seen.lock().push(Fingerprint(*certificate));
        }
        accepted.name.username().map(Identity::new)
    }

    /// What a certificate is worth, wherever.
    pub fn standing(&self, certificate: &[u8; 32]) -> Standing {
        let view = self.view.read();
        view.certificates.find(certificate).map_or(Standing::Unknown, |accepted| accepted.standing(now()))
    }

    /// How many entries are accepted, have expired, and were taken back. It only looks into memory, at all of them.
    pub fn count(&self) -> [usize; 3] {
        let (now, view) = (now(), self.view.read());
        view.certificates.all().fold([0; 3], |[accepted, expired, revoked], entry| {
            match entry.standing(now) {
                Standing::Expired => [accepted, expired + 1, revoked],
                Standing::Revoked => [accepted, expired, revoked + 1],
                _ => [accepted + 1, expired, revoked],
            }
        })
    }

    /// Whether the store can be read now. Logins are judged from memory, but nothing could be changed or kept.
    pub fn is_up(&self) -> bool {
        self.store.first().is_ok()
    }

    /// A lease on a certificate: whoever relies on it judges again when it [changes](Lease::changed).
    /// Take it before judging.
    pub fn lease(&self, certificate: [u8; 32]) -> Lease {
        self.leases.take(certificate)
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
            if let Some(accepted) = self.view.read().certificates.find(&fingerprint.0) {
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

    /// Lets logins and sessions see an entry that is durable.
    fn put(&self, entry: Entry) {
        let fingerprint = entry.fingerprint;
        self.view.write().certificates.put(fingerprint.0, Accepted::of(entry.into()));
        self.pristine.send_if_modified(|pristine| std::mem::replace(pristine, false));
        self.leases.tell(&fingerprint.0);
    }
}

impl View {
    fn judged(&self, certificate: &[u8; 32], place: &Place, now: i64) -> Result<&Accepted, Refusal> {
        let Some(accepted) = self.certificates.find(certificate) else {
            return Err(Refusal::new(Reason::PeerDenied, "the certificate is not in the trust store"));
        };
        let why = match accepted.standing(now) {
            Standing::Revoked => "the certificate was taken back",
            Standing::Expired => "the certificate's entry has expired",
            _ if accepted.rest.as_ref().is_some_and(|rest| !rest.scope.covers(place)) => {
                "the certificate does not count for this socket or backend"
            }
            _ => return Ok(accepted),
        };
        Err(Refusal::new(Reason::PeerDenied, why))
    }
}

impl Accepted {
    fn of(known: Known) -> Self {
        let Known { name, last_seen, expires, scope, revoked, replaces, .. } = known;
        let plain = !revoked && scope.is_everything() && replaces.is_none();
        Self {
            name: Name::of(&name),
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

fn unknown(fingerprint: &Fingerprint) -> TrustError {
    TrustError::Unknown(format!("certificate {fingerprint}: it is not in the trust store"))
}

/// How exactly a last sight is kept, in seconds: not every login is worth a write.
const SIGHT: i64 = 60;

#[cfg(test)]
mod tests;
