//! `live`: daemons that have dialled in and registered themselves, so that they may be behind whatever lets nobody in.
//!
//! The gateway registers them ([`Registry::register`]); a client's login finds them like any other session. A daemon is
//! its user's: the login that it registered by and the client's have proved the same name and uid, or neither knows
//! of the other (W40). Nobody can replace what another has registered, for names are each user's own.
//!
//! A registration is one stream and serves one client. A daemon that wants more than one registers again as soon as
//! it is called, as our client does; a login that comes in between waits a moment for it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    net::UnixStream,
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{super::BackendError, Door, Found, Kind, Owner, Router, Session, spec::is_session_name};
use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
    transport::Stream,
};

pub(super) const LIVE: Kind = Kind { name: "live", options: OPTIONS, configure };

/// The daemons that have dialled in.
pub(in crate::backend) struct Registry {
    users: Mutex<HashMap<User, HashMap<String, Daemon>>>,
    /// Told whenever a daemon registers.
    more: Notify,
    most: usize,
    next: AtomicU64,
}

/// Whose a daemon is: both count, so that no two logins are one user by half.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    uid: Option<u32>,
}

/// The registrations of one name.
#[derive(Default)]
struct Daemon {
    /// In the order in which they came, each with its number.
    waiting: VecDeque<(u64, oneshot::Sender<Stream>)>,
    /// When the last one was taken: its daemon may be on its way back.
    taken: Option<Instant>,
}

impl Daemon {
    fn is_known(&self) -> bool {
        !self.waiting.is_empty() || self.taken.is_some_and(|taken| taken.elapsed() < RETURN)
    }
}

impl Registry {
    /// Enters a daemon of this user under a name.
    ///
    /// # Errors
    /// The name is none, or as many wait as the user may have.
    pub(super) fn register(
        self: &Arc<Self>,
        owner: &Owner,
        name: &str,
    ) -> Result<Registration, BackendError> {
        if !is_session_name(name) {
            let public = "a session's name has 1 to 64 bytes, none of them a control character or a backtick";
            return Err(BackendError::told(
                public.to_owned(),
                "the name of a daemon that dialled in is none",
            ));
        }
        let (user, number) = (User::of(owner), self.next.fetch_add(1, Ordering::Relaxed));
        let (call, called) = oneshot::channel();
        let mut users = self.users.lock();
        let daemons = users.entry(user.clone()).or_default();
        daemons.retain(|_, daemon| daemon.is_known());
        if daemons.values().map(|daemon| daemon.waiting.len().max(1)).sum::<usize>() >= self.most
            && !daemons.get(name).is_some_and(|daemon| daemon.waiting.is_empty())
        {
            let public = format!("you have {} daemons waiting here, and may have no more", self.most);
            return Err(BackendError::told(public, "a user has as many daemons waiting as most= allows"));
        }
        daemons.entry(name.to_owned()).or_default().waiting.push_back((number, call));
        drop(users);
        self.more.notify_waiters();
        Ok(Registration { registry: Arc::clone(self), user, name: name.to_owned(), number, called })
    }

    /// Takes the daemon that has waited longest and gives it the far end of a new stream.
    fn call(&self, line: &Line) -> Option<Stream> {
        loop {
            let call = {
                let mut users = self.users.lock();
                let daemon = users.get_mut(&line.user)?.get_mut(&line.name)?;
                let (_, call) = daemon.waiting.pop_front()?;
                daemon.taken = Some(Instant::now());
                call
            };
            let (near, far) = UnixStream::pair().ok()?;
            // One that has left in this moment is passed over.
            if call.send(Stream::new(far)).is_ok() {
                return Some(Stream::new(near));
            }
        }
    }

    fn forget(&self, user: &User, name: &str, number: u64) {
        let mut users = self.users.lock();
        let Some(daemons) = users.get_mut(user) else { return };
        if let Some(daemon) = daemons.get_mut(name) {
            daemon.waiting.retain(|(other, _)| *other != number);
        }
        daemons.retain(|_, daemon| daemon.is_known());
        if daemons.is_empty() {
            users.remove(user);
        }
    }
}

impl User {
    fn of(owner: &Owner) -> Self {
        Self { name: owner.name.to_string(), uid: owner.uid }
    }
}

/// A daemon's place in the registry, which it leaves when this is dropped.
pub(in crate::backend) struct Registration {
    registry: Arc<Registry>,
    user: User,
    name: String,
    number: u64,
    called: oneshot::Receiver<Stream>,
}

impl Registration {
    /// Waits for a client: the stream on which it will be. `None` if nobody can come any more.
    pub(in crate::backend) async fn called(&mut self) -> Option<Stream> {
        (&mut self.called).await.ok()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.forget(&self.user, &self.name, self.number);
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The way to the daemons of one name of one user.
#[derive(Clone)]
pub(in crate::backend) struct Line {
    registry: Arc<Registry>,
    user: User,
    name: String,
}

impl Line {
    /// A stream to the one that has waited longest, or to the next that comes back.
    pub(super) async fn connect(&self) -> Option<Stream> {
        let coming = async {
            loop {
                let mut more = std::pin::pin!(self.registry.more.notified());
                // Before the look, so that none that comes after it is missed.
                more.as_mut().enable();
                if let Some(stream) = self.registry.call(self) {
                    return stream;
                }
                more.await;
            }
        };
        timeout(RETURN_AWAITED, coming).await.ok()
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry) && self.user == other.user && self.name == other.name
    }
}

impl Eq for Line {}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("user", &self.user).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The router.
struct Live(Arc<Registry>);

impl Router for Live {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let user = User::of(owner);
        let users = self.0.users.lock();
        let known = users.get(&user).into_iter().flatten().filter(|(_, daemon)| daemon.is_known());
        let session = |(name, _): (&String, &Daemon)| {
            let line = Line { registry: Arc::clone(&self.0), user: user.clone(), name: name.clone() };
            Session { name: name.clone(), door: Door::Live(line) }
        };
        let mut sessions: Vec<Session> = known.map(session).collect();
        sessions.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(sessions.into())
    }

    fn registry(&self) -> Option<&Arc<Registry>> {
        Some(&self.0)
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let most = usize::try_from(options.number("most", MOST, 1..=1024)?).unwrap_or(usize::MAX);
    Ok(Box::new(Live(Arc::new(Registry {
        users: Mutex::default(),
        more: Notify::new(),
        most,
        next: AtomicU64::new(0),
    }))))
}

const OPTIONS: &[OptionSpec] =
    &[OptionSpec::new("most", "NUMBER", "16", "how many daemons of one user may wait for clients at a time")];

const MOST: u64 = 16;

/// How long a daemon that was called counts as on its way back.
const RETURN: Duration = Duration::from_secs(5);

/// How long a login waits for it: within the time that a backend has.
const RETURN_AWAITED: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{Identity, Username};

    fn registry(most: usize) -> Arc<Registry> {
        Arc::new(Registry { users: Mutex::default(), more: Notify::new(), most, next: AtomicU64::new(0) })
    }

    fn owner(name: &str, uid: u32) -> Owner {
        Owner::of(&Identity::new(Username::parse(name).unwrap()).with_ids(Some(uid), None)).unwrap()
    }

    fn names(registry: &Arc<Registry>, owner: &Owner) -> Vec<String> {
        let found = Live(Arc::clone(registry)).find(owner).unwrap();
        found.sessions.into_iter().map(|session| session.name).collect()
    }

    async fn reach(registry: &Arc<Registry>, owner: &Owner, name: &str) -> Option<Stream> {
        let line = Line { registry: Arc::clone(registry), user: User::of(owner), name: name.to_owned() };
        line.connect().await
    }

    #[tokio::test]
    async fn s_085_a_daemon_that_dialled_in_is_its_users_alone() {
        let registry = registry(4);
        let (alice, bob) = (owner("alice", 4_000_001), owner("bob", 4_000_002));
        let mut hers = registry.register(&alice, "mail").unwrap();
        // Neither the same name with another uid nor the same uid under another name is alice.
        for other in [&bob, &owner("alice", 4_000_002), &owner("bob", 4_000_001)] {
            assert!(names(&registry, other).is_empty(), "{other:?}");
            assert!(
                registry
                    .call(&Line {
                        registry: Arc::clone(&registry),
                        user: User::of(other),
                        name: "mail".to_owned()
                    })
                    .is_none()
            );
        }
        // Bob's of the same name takes nobody's place.
        let _his = registry.register(&bob, "mail").unwrap();
        assert_eq!((names(&registry, &alice).len(), names(&registry, &bob).len()), (1, 1));
        let mut client = reach(&registry, &alice, "mail").await.unwrap();
        let mut daemon = hers.called().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        daemon.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test]
    async fn a_daemon_leaves_when_it_is_gone_and_is_awaited_when_it_was_called() {
        let registry = registry(4);
        let alice = owner("alice", 4_000_001);
        let gone = registry.register(&alice, "mail").unwrap();
        drop(gone);
        assert!(names(&registry, &alice).is_empty() && registry.users.lock().is_empty());
        let mut first = registry.register(&alice, "mail").unwrap();
        assert!(reach(&registry, &alice, "mail").await.is_some() && first.called().await.is_some());
        drop(first);
        assert_eq!(names(&registry, &alice), ["mail"], "it may come back");
        let (second, reached) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                registry.register(&alice, "mail").unwrap()
            },
            reach(&registry, &alice, "mail")
        );
        assert!(reached.is_some());
        drop(second);
        let line = Line { registry: Arc::clone(&registry), user: User::of(&alice), name: "mail".to_owned() };
        assert!(registry.call(&line).is_none(), "it is not there yet");
    }

    #[tokio::test]
    async fn a_user_has_a_number_of_daemons_and_another_user_has_their_own() {
        let registry = registry(2);
        let (alice, bob) = (owner("alice", 4_000_001), owner("bob", 4_000_002));
        let first = registry.register(&alice, "a").unwrap();
        let _second = registry.register(&alice, "a").unwrap();
        for name in ["a", "b"] {
            let refused = registry.register(&alice, name).unwrap_err();
            assert!(refused.to_string().contains("may have no more"), "{refused}");
        }
        let _his = registry.register(&bob, "b").unwrap();
        drop(first);
        let _again = registry.register(&alice, "b").unwrap();
        for wrong in ["", "a\nb", "`", &"x".repeat(65)] {
            assert!(registry.register(&bob, wrong).is_err(), "{wrong:?}");
        }
    }
}
