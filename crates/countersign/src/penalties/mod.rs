//! Penalties for failed logins, at every socket of a gateway and without a module (S-21 to S-25).
//!
//! One [`Penalties`] for all doors. Each connection is a visit: it asks whether it may be judged when its client
//! says hello and again when an answer comes, and says in the end what became of it. The counts and their
//! rules are in `ledger.rs`, which knows no clock; `keep.rs` and `record.rs` carry them over a restart.
#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    future::pending,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::{Mutex, RwLock};
use sha2::Sha256;
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};

mod keep;
mod ledger;
mod record;
mod visit;

pub use self::ledger::Penalised;
pub(crate) use self::visit::Visit;
use self::{
    keep::Keeper,
    ledger::{Account, Fault, Ledger, Who},
    record::Record,
};
use crate::{
    Grant, Peer, Refusal, Secret, Username,
    config::{Limits, Listed},
    proto::error::Reason,
    source::Source,
    trust::{Standing, Trust},
};

/// What sources and accounts have to wait for.
#[derive(Debug)]
pub struct Penalties {
    ledger: Mutex<Ledger>,
    known: RwLock<Known>,
    /// What names are hashed with, over restarts.
    key: [u8; 32],
    /// What wrong secrets are hashed with, by this process alone.
    hasher: RandomState,
    refused: AtomicU64,
    keeper: Option<Mutex<Keeper>>,
    /// Something is to be written down.
    changed: Notify,
}

/// Who is told apart from other sources, and who is not counted. A reload brings others.
#[derive(Debug)]
struct Known {
    exempt: Listed,
    /// Who holds an accepted certificate is known by that and not by an address (S-22).
    trust: Option<Trust>,
}

impl Penalties {
    /// Nobody is penalised yet. `trust` is the store of accepted certificates, if the gateway has one.
    pub fn new(limits: &Limits, trust: Option<Trust>) -> Self {
        let mut key = [0; 32];
        #[expect(clippy::expect_used, reason = "names that are hashed without a key can be tried out")]
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self {
            ledger: Mutex::new(Ledger::new(limits.penalty_min, limits.penalty_max)),
            known: RwLock::new(Known { exempt: limits.penalty_exempt.clone(), trust }),
            key,
            hasher: RandomState::new(),
            refused: AtomicU64::new(0),
            keeper: None,
            changed: Notify::new(),
        }
    }

    /// The same, going on from what the last gateway wrote down in `directory`. A file that cannot be read, or a
    /// directory that cannot be written, is said in the log and keeps nobody from counting.
    #[must_use]
    pub fn kept_in(mut self, directory: &Path) -> Self {
        let keeper = Keeper::of(directory);
        if let Some(Record { key, at, kept }) = keeper.read() {
            // A clock that was set back prolongs nothing beyond what was left, and one that was set forward
            // takes off at most that.
            let elapsed = Duration::from_secs(seconds_now().saturating_sub(at));
            self.ledger = Mutex::new(self.ledger.into_inner().with(kept, elapsed, Instant::now()));
            self.key = key;
        }
        keeper.prepare();
        self.keeper = Some(Mutex::new(keeper));
        self
    }

    /// Counts by other limits from now on. What is counted already stays.
    pub(super) fn amend(&self, limits: &Limits, trust: Trust) {
        self.ledger.lock().amend(limits.penalty_min, limits.penalty_max);
        *self.known.write() = Known { exempt: limits.penalty_exempt.clone(), trust: Some(trust) };
    }

    /// Writes down what changes until it is dropped: a crash loses a second's guesses at most.
    pub(super) async fn keep(self: Arc<Self>) -> Infallible {
        if self.keeper.is_none() {
            return pending().await;
        }
        loop {
            self.changed.notified().await;
            let start = Instant::now();
            if self.write_down().await {
                // A flood of guesses shall not keep the disk busy.
                sleep((start.elapsed() * 20).max(BETWEEN_WRITES)).await;
            } else {
                self.changed.notify_one();
                sleep(BETWEEN_TRIES).await;
            }
        }
    }

    /// Writes everything down now, and says whether that worked.
    pub(super) async fn write_down(self: &Arc<Self>) -> bool {
        let penalties = Arc::clone(self);
        spawn_blocking(move || penalties.write()).await.unwrap_or(false)
    }

    fn write(&self) -> bool {
        let Some(keeper) = &self.keeper else { return true };
        // Held over both: of two writers the later one writes the later counts.
        let keeper = keeper.lock();
        let kept = self.ledger.lock().kept(Instant::now());
        keeper.write(&Record { key: self.key, at: seconds_now(), kept })
    }

    /// Everybody who has one now, the longest first.
    pub fn list(&self) -> Vec<Penalised> {
        self.ledger.lock().list(Instant::now())
    }

    /// How many that are.
    pub fn count(&self) -> usize {
        self.ledger.lock().count(Instant::now())
    }

    /// Forgets those of a source, and says whether there were any.
    pub fn clear(&self, source: &Source) -> bool {
        self.change(|ledger, _| ledger.clear(source))
    }

    /// Forgets all, those of accounts too.
    pub fn clear_all(&self) {
        self.change(|ledger, _| ledger.clear_all());
    }

    /// How many logins were refused for one so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Under what a login is counted; `None` if it is not.
    fn who(&self, peer: &Peer, name: Option<&Username>) -> Option<Who> {
        let account = self.account(name);
        let known = self.known.read();
        if let Some(certificate) = &peer.certificate {
            let store = known.trust.as_ref().and_then(Trust::store);
            if store.is_some_and(|store| store.standing(&certificate.fingerprint) == Standing::Accepted) {
                return Some(Who { source: Source::holder(&certificate.fingerprint), account });
            }
        }
        (!peer.hop && !known.exempt.holds(peer)).then(|| Who { source: Source::of(peer), account })
    }

    fn account(&self, name: Option<&Username>) -> Account {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return Account(0) };
        // A client that claims no name is none of those that claim one.
        mac.update(&[u8::from(name.is_some())]);
        name.iter().for_each(|name| mac.update(name.as_str().as_bytes()));
        let digest = mac.finalize().into_bytes();
        Account(digest.first_chunk().copied().map_or(0, u64::from_be_bytes))
    }

    /// Changes the counts, and has that written down.
    fn change<T>(&self, change: impl FnOnce(&mut Ledger, Instant) -> T) -> T {
        let done = change(&mut self.ledger.lock(), Instant::now());
        self.changed.notify_one();
        done
    }

    /// Whether a login was that of the name it claimed. Where a door lets somebody in without asking, or as somebody
    /// else, claiming a name shall not undo what was guessed at it elsewhere (S-24).
    fn is_claimed(&self, grant: &Grant) -> bool {
        let proved = grant.identity().map(|identity| self.account(Some(&identity.name)));
        proved.is_none_or(|proved| proved == self.account(grant.claim().username.as_ref()))
    }

    /// A login of `who` succeeded.
    fn succeed(&self, who: &Who) {
        // Most logins are nobody's who failed before: nothing is to be written for them.
        if self.ledger.lock().succeed(who, Instant::now()) {
            self.changed.notify_one();
        }
    }

    /// Whether anything of `who` may be judged now.
    fn admit(&self, who: &Who) -> Result<(), Refusal> {
        match self.ledger.lock().wait(who, Instant::now()) {
            None => Ok(()),
            Some(wait) => {
                Err(self.busy(format!("it failed too often a moment ago: {} s to wait", wait.as_secs() + 1)))
            }
        }
    }

    fn busy(&self, cause: String) -> Refusal {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Refusal::new(Reason::Busy, cause)
    }

    /// What is kept of a wrong secret: enough to know it again while this process lives, and no more.
    pub(super) fn digest(&self, secret: &Secret) -> u64 {
        self.hasher.hash_one(secret.expose())
    }

    /// A caller of the door for calls, who claims no name, may guess at the passphrase.
    ///
    /// # Errors
    /// How long to wait.
    pub(super) fn admit_caller(&self, peer: &Peer) -> Result<(), Duration> {
        let Some(who) = self.who(peer, None) else { return Ok(()) };
        match self.ledger.lock().wait(&who, Instant::now()) {
            None => Ok(()),
            Some(wait) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(wait)
            }
        }
    }

    /// How a caller's guess at the passphrase ended: the digest of a wrong one, or `None` if it was right.
    pub(super) fn caller_guessed(&self, peer: &Peer, wrong: Option<u64>) {
        let Some(who) = self.who(peer, None) else { return };
        match wrong {
            None => self.succeed(&who),
            wrong => _ = self.change(|ledger, now| ledger.fail(&who, Fault::Failure, wrong, now)),
        }
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long what has changed waits at most to be written down.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// How soon a disk that failed is tried again.
const BETWEEN_TRIES: Duration = Duration::from_secs(30);
