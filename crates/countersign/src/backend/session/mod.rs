//! `session:KIND(options)`: the daemon of whoever has logged in, reached for one user at a time.
//!
//! The chain of a socket says *who* it is; a router says *where* the sessions of that user are, and is
//! configured apart from it (W29). Called by [`super::Backend`] with a grant. To add a router: one file, one
//! line of [`ROUTERS`].
//!
//! Whatever a router answers, these hold for every session:
//!
//! - Only a grant with a name gets one, and the name and the uid are those that a link proved (S-68).
//! - No uid below `min-uid`, least of all root's, and never ours for want of another (S-70).
//! - What a client asks for is compared with the names of the user's own sessions and used for nothing else: no
//!   path, address or command is ever made of it (S-85).
//! - A Unix socket has to lie in a directory of the user or root, belong to the user, and be served by a process of
//!   that user, as the kernel says of the open connection (S-84, W39).
//!
//! | file | holds |
//! |---|---|
//! | `owner` | whose session it is |
//! | `pattern` | texts with `{user}`, `{uid}`, `{home}` |
//! | `choice` | which of several sessions |
//! | `door` | a session's address, and that it is the user's |
//! | `start` | daemons that do not run yet |
//! | `elsewhere` | all of this by the privileged helper, where the gateway has one |
//! | `table` | displays of a table of users |
//! | `live` | daemons that dial in |

use std::{sync::Arc, time::Duration};

mod choice;
mod directory;
mod door;
mod elsewhere;
mod exec;
mod live;
mod multifile;
mod owner;
mod pattern;
mod spec;
mod sql;
mod sqlite;
mod start;
mod table;
mod template;

pub(super) use door::Door;
pub(super) use elsewhere::offer;
pub(super) use live::Registration;
pub(super) use owner::Owner;
pub(super) use spec::parse;

pub(super) use start::Lease;
use start::{Order, Starter};

use super::{BackendError, Opened};
use crate::{
    Grant, Identity,
    error::ConfigError,
    helper,
    options::{OptionSpec, Options},
};

/// An entry of the registry of routers.
pub(super) struct Kind {
    /// The name to write in `session:NAME(...)`.
    pub(super) name: &'static str,
    /// Its own options; those that every router has are [`COMMON_OPTIONS`].
    pub(super) options: &'static [OptionSpec],
    /// Makes the router, once, at start.
    pub(super) configure: fn(&mut Options) -> Result<Box<dyn Router>, ConfigError>,
}

/// Says where the sessions of a user are.
pub(super) trait Router: Send + Sync {
    /// All of them, whether they run or not. May wait: a disk, a database, a program.
    ///
    /// # Errors
    /// It cannot say.
    fn find(&self, owner: &Owner) -> Result<Found, BackendError>;

    /// Where daemons that dial in are entered; only `live` has that.
    fn registry(&self) -> Option<&Arc<live::Registry>> {
        None
    }
}

/// What a router says of a user.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The uid of the user by the router's own source, if that has one.
    pub(super) uid: Option<u32>,
    /// The sessions, in the order in which they are listed.
    pub(super) sessions: Vec<Session>,
}

impl From<Vec<Session>> for Found {
    fn from(sessions: Vec<Session>) -> Self {
        Self { uid: None, sessions }
    }
}

/// One session of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// What a client calls it: `:10`, `mail`.
    pub(super) name: String,
    /// Where it is.
    pub(super) door: Door,
}

/// A router, and the rules that hold for all.
pub(super) struct Sessions {
    kind: &'static Kind,
    rules: Arc<Rules>,
    starter: Option<Starter>,
    /// What the helper calls it.
    ordered_as: helper::Name,
}

/// What is needed to find a session, also by those that go on when a login has ended.
struct Rules {
    router: Box<dyn Router>,
    min_uid: u32,
}

impl Sessions {
    pub(super) fn configure(
        kind: &'static Kind,
        mut options: Options,
        ordered_as: helper::Name,
    ) -> Result<Self, ConfigError> {
        let min_uid = options.number("min-uid", DEFAULT_MIN_UID, 0..=u64::from(u32::MAX - 1))?;
        let min_uid = u32::try_from(min_uid).unwrap_or(u32::MAX);
        let starter = Starter::take(&mut options)?;
        let router = (kind.configure)(&mut options)?;
        let known: Vec<&str> = kind.options.iter().chain(COMMON_OPTIONS).map(|option| option.name).collect();
        if starter.is_some() && router.registry().is_some() {
            return Err(options.error("start", "its daemons dial in by themselves", "leave it out"));
        }
        options.finish(&known)?;
        Ok(Self { kind, rules: Arc::new(Rules { router, min_uid }), starter, ordered_as })
    }

    /// The router's name.
    pub(super) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// How long a login may take from the grant to an open stream.
    pub(super) fn patience(&self) -> Duration {
        if self.starter.is_some() { START_DEADLINE } else { super::CONNECT_DEADLINE }
    }

    /// Whether its daemons come to the gateway by themselves, so that nobody else knows of them.
    pub(super) fn is_dialled_in(&self) -> bool {
        self.rules.router.registry().is_some()
    }

    /// What is told of it in `explain`.
    pub(super) fn explain(&self) -> String {
        if self.takes_daemons() {
            return format!(
                "the daemon that dialled in and registered as the same user, of accounts from uid {} on",
                self.rules.min_uid
            );
        }
        let started = self.starter.as_ref().map(|starter| format!("; {}", starter.explain()));
        format!(
            "the session of whoever logs in, of accounts from uid {} on; its socket has to be theirs{}",
            self.rules.min_uid,
            started.unwrap_or_default()
        )
    }

    /// Whether daemons may dial in.
    pub(super) fn takes_daemons(&self) -> bool {
        self.rules.router.registry().is_some()
    }

    /// Enters a daemon that has dialled in as one of the user it has logged in as. The name is its own choice.
    pub(super) async fn register(&self, grant: &Grant) -> Result<Registration, BackendError> {
        let identity = grant.identity().cloned().ok_or_else(BackendError::nobody)?;
        let claim = grant.claim();
        let name = claim.session.clone().or_else(|| claim.display.clone()).unwrap_or_default();
        let (rules, enters) = (Arc::clone(&self.rules), Arc::clone(&self.rules));
        let (owner, _) = rules.find(identity).await?;
        let registry = enters.router.registry();
        let registry = registry
            .ok_or_else(|| BackendError::told("no daemon can register here".to_owned(), "not live"))?;
        registry.register(&owner, &name)
    }

    /// Opens the session that the client asks for, or its only one.
    pub(super) async fn open(&self, grant: &Grant) -> Result<Opened, BackendError> {
        let identity = grant.identity().cloned().ok_or_else(BackendError::nobody)?;
        let claim = grant.claim();
        let wanted = claim.display.clone().or_else(|| claim.session.clone());
        match helper::installed().filter(|_| !self.is_dialled_in()) {
            Some(helper) => elsewhere::open(helper, self.ordered_as, identity, wanted).await,
            None => self.open_here(identity, wanted).await,
        }
    }

    async fn open_here(&self, identity: Identity, wanted: Option<String>) -> Result<Opened, BackendError> {
        let (owner, sessions) = Arc::clone(&self.rules).find(identity).await?;
        if let Some(starter) = &self.starter {
            return self.open_or_start(starter, owner, sessions, wanted.as_deref()).await;
        }
        let session = choice::choose(&owner, &sessions, wanted.as_deref(), false).await?;
        Ok(Opened::stream(session.door.connect(owner.uid).await?))
    }

    async fn open_or_start(
        &self,
        starter: &Starter,
        owner: Owner,
        sessions: Vec<Session>,
        wanted: Option<&str>,
    ) -> Result<Opened, BackendError> {
        let session = match sessions.is_empty() {
            true => None,
            false => Some(choice::choose(&owner, &sessions, wanted, true).await?.clone()),
        };
        if let Some(session) = &session {
            // Held before it is used, so that it is not stopped in between.
            let uid = owner.uid()?;
            let lease = starter.held(uid, session);
            if !lease.as_ref().is_some_and(Lease::is_over) {
                match session.door.connect(owner.uid).await {
                    Err(shut) if shut.is_unserved() => {}
                    connected => {
                        // Another login may have started it meanwhile.
                        let lease = lease.or_else(|| starter.held(uid, session));
                        return Ok(Opened { lease, ..Opened::stream(connected?) });
                    }
                }
            }
        }
        let order = Order { rules: Arc::clone(&self.rules), owner: owner.clone(), session: session.clone() };
        let lease = Some(starter.start(order).await?);
        let session = match session {
            Some(session) => session,
            None => {
                let sessions = Arc::clone(&self.rules).sessions_of(owner.clone()).await?;
                choice::choose(&owner, &sessions, wanted, false).await?.clone()
            }
        };
        Ok(Opened { lease, ..Opened::stream(session.door.connect(owner.uid).await?) })
    }
}

impl Session {
    /// The path of its socket.
    fn path(&self) -> Option<String> {
        match &self.door {
            Door::Unix(name) => name.path()?.to_str().map(str::to_owned),
            Door::Tcp(_) | Door::Live(_) => None,
        }
    }
}

impl Rules {
    /// The user and all sessions of that user.
    async fn find(self: Arc<Self>, identity: Identity) -> Result<(Owner, Vec<Session>), BackendError> {
        aside(move || {
            let mut owner = Owner::of(&identity)?;
            owner.judge(self.min_uid)?;
            let found = self.router.find(&owner)?;
            owner.agree(found.uid)?;
            owner.judge(self.min_uid)?;
            Ok((owner, found.sessions))
        })
        .await
    }

    /// The sessions of a user that was found before.
    async fn sessions_of(self: Arc<Self>, owner: Owner) -> Result<Vec<Session>, BackendError> {
        aside(move || Ok(self.router.find(&owner)?.sessions)).await
    }
}

/// Runs what may wait where it may.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(BackendError::unavailable("the search for a session failed")))
}

/// The routers, in the order of their names.
pub(super) const ROUTERS: &[&Kind] = &[
    &directory::DIRECTORY,
    &exec::EXEC,
    &live::LIVE,
    &multifile::MULTIFILE,
    &sql::SQL,
    &sqlite::SQLITE,
    &template::TEMPLATE,
];

/// The options that every router has.
pub(super) const COMMON_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("min-uid", "NUMBER", "1000", "the lowest uid that has sessions; 0 lets root have one"),
    OptionSpec::new(
        "start",
        "COMMAND",
        "",
        "what starts the daemon of a user that does not run: a program that stays in the foreground",
    ),
    OptionSpec::new(
        "stop-when-idle",
        "DURATION",
        "",
        "stop what was started when nobody has used it for so long",
    ),
    OptionSpec::new("start-timeout", "DURATION", "30s", "how long it may take until its socket is there"),
    OptionSpec::new("runtime-dir", "PATH", "/run/user/{uid}", "its XDG_RUNTIME_DIR, made if it is missing"),
    OptionSpec::new(
        "pass-env",
        "NAME",
        "",
        "a variable that it is given as env_options of the login's table say; may be repeated",
    ),
];

/// Where a daemon may have to be started; what Xpra's clients wait for an answer.
const START_DEADLINE: Duration = Duration::from_secs(8);

/// What accounts of people begin at (`UID_MIN` of login.defs(5)).
const DEFAULT_MIN_UID: u64 = 1000;

#[cfg(test)]
mod tests;
