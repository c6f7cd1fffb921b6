//! `start=COMMAND`: a user's daemon that does not run is started, watched, and stopped when nobody uses it.
//!
//! ```text
//! (none) --login--> Starting --socket is there--> Running --idle--> Stopping --gone--> (none)
//!                      `--ended, or too late--> Failed --> (none)
//! ```
//!
//! One task for each daemon, which nothing but its end ends: a client that leaves while its daemon starts does not
//! take it away from the next. The entry of a daemon stays until its process is gone, so no two of them are ever
//! there for one user and session. It is one file because the states are one machine.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Weak},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    super::{BackendError, exec, spec},
    Owner, Rules, Session,
    pattern::Pattern,
};
use crate::{
    error::ConfigError,
    options::Options,
    sys::{
        accounts::Account,
        descriptors,
        user::{run_as, runtime_directory},
    },
    users::row::check_environment,
};

/// What starts the daemons of a router, and those that it has started.
pub(super) struct Starter {
    words: Vec<Pattern>,
    /// The command names the session, so that each has a daemon of its own.
    each: bool,
    idle: Option<Duration>,
    patience: Duration,
    runtime: Pattern,
    /// The variables of the login's table that a daemon is given.
    passed: Vec<String>,
    daemons: Arc<Mutex<Daemons>>,
}

type Daemons = HashMap<Key, Daemon>;

/// A user, and the session where each has its own daemon.
type Key = (u32, String);

/// A daemon, as logins see it.
struct Daemon {
    state: watch::Receiver<State>,
    leases: Arc<watch::Sender<()>>,
}

#[derive(Clone, Debug)]
enum State {
    Starting,
    Running,
    Stopping,
    Failed(String),
}

/// Keeps a daemon from being idle.
#[derive(Debug)]
pub(in crate::backend) struct Lease {
    _held: watch::Receiver<()>,
    state: watch::Receiver<State>,
}

impl Lease {
    /// Whether the daemon is on its way out, so that nothing new may be begun with it.
    pub(super) fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Stopping | State::Failed(_))
    }
}

/// What is to be started, and how it is seen that it runs.
pub(super) struct Order {
    pub(super) rules: Arc<Rules>,
    pub(super) owner: Owner,
    /// The session that has to be there; `None` for any of the user's.
    pub(super) session: Option<Session>,
}

impl Starter {
    /// Takes `start` and what belongs to it; without `start` there is nothing to take.
    ///
    /// # Errors
    /// The command is none, or an option has no use.
    pub(super) fn take(options: &mut Options) -> Result<Option<Self>, ConfigError> {
        let Some(command) = options.take("start")? else {
            let unused = STARTING.into_iter().find(|name| options.has(name));
            return match unused {
                Some(name) => {
                    Err(options.error(name, "nothing is started", "add start=COMMAND, or leave it out"))
                }
                None => Ok(None),
            };
        };
        let words = spec::words(&command)?;
        if !words.first().is_some_and(|program| program.starts_with('/')) {
            let fix =
                "write start=\"/PATH/TO/PROGRAM ARGUMENT ...\", of a program that stays in the foreground";
            return Err(options.error("start", "its program is no absolute path", fix));
        }
        let pattern = |word: &String| Pattern::parse_with(options, "start", word, &[SESSION, SOCKET]);
        let each = words.iter().any(|word| word.contains(SESSION) || word.contains(SOCKET));
        let words = words.iter().map(pattern).collect::<Result<_, _>>()?;
        let idle = options.has("stop-when-idle").then(|| options.duration("stop-when-idle", Duration::ZERO));
        let runtime = options.take("runtime-dir")?;
        let runtime = runtime.as_ref().map_or(RUNTIME_DIR, |path| path.as_str());
        Ok(Some(Self {
            words,
            each,
            idle: idle.transpose()?,
            patience: options.duration("start-timeout", PATIENCE)?,
            runtime: Pattern::parse(options, "runtime-dir", runtime)?,
            passed: passed(options)?,
            daemons: daemons_of(command.to_string()),
        }))
    }

    /// What is told of it in `explain`: no argument, of which one may be secret.
    pub(super) fn explain(&self) -> String {
        let end = match self.idle {
            Some(idle) => format!("stopped when nobody has used it for {idle:?}"),
            None => "kept until the gateway ends".to_owned(),
        };
        format!("one that does not run is started as its user and {end}")
    }

    /// Holds the daemon of a session, if it was started here.
    pub(super) fn held(&self, uid: u32, session: &Session) -> Option<Lease> {
        let daemons = self.daemons.lock();
        daemons.get(&self.key(uid, Some(session))).map(Daemon::lease)
    }

    /// Starts the daemon, or waits for the one that another login has started.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or takes longer than a client waits; then it goes on starting.
    pub(super) async fn start(&self, order: Order) -> Result<Lease, BackendError> {
        let uid = order.owner.uid()?;
        let key = self.key(uid, order.session.as_ref());
        let order = Arc::new(order);
        let wait = async {
            loop {
                let (mut state, lease) = self.enter(&key, &order).await?;
                let settled = state.wait_for(|state| !matches!(state, State::Starting)).await;
                match settled.map(|state| state.clone()) {
                    Ok(State::Running) => return Ok(lease),
                    Ok(State::Failed(why)) => return Err(BackendError::unavailable(why)),
                    // It is on its way out. The next one is started when it has gone.
                    Ok(State::Starting | State::Stopping) => {
                        drop(lease);
                        while state.changed().await.is_ok() {}
                    }
                    Err(_) => return Err(BackendError::unavailable("the daemon of the user has ended")),
                }
            }
        };
        let late = || {
            let public = "your session is still being started, try again in a moment".to_owned();
            Err(BackendError::told(public, "the daemon of the user takes long to start"))
        };
        timeout(CLIENTS_PATIENCE, wait).await.unwrap_or_else(|_| late())
    }

    fn key(&self, uid: u32, session: Option<&Session>) -> Key {
        (uid, session.filter(|_| self.each).map(|session| session.name.clone()).unwrap_or_default())
    }

    /// The daemon that there is, or a new one: under one lock, so that a race of logins starts one.
    async fn enter(
        &self,
        key: &Key,
        order: &Arc<Order>,
    ) -> Result<(watch::Receiver<State>, Lease), BackendError> {
        if let Some(daemon) = self.daemons.lock().get(key) {
            return Ok((daemon.state.clone(), daemon.lease()));
        }
        // Looking accounts up may wait, which nothing may under the lock.
        let command = self.command(Arc::clone(order)).await?;
        let mut daemons = self.daemons.lock();
        if let Some(daemon) = daemons.get(key) {
            return Ok((daemon.state.clone(), daemon.lease()));
        }
        let child = Command::from(command).spawn();
        let child = child.map_err(|error| {
            BackendError::unavailable(format!("the daemon of the user cannot be started: {error}"))
        })?;
        let (state, seen) = watch::channel(State::Starting);
        let daemon = Daemon { state: seen.clone(), leases: Arc::new(watch::Sender::new(())) };
        let lease = daemon.lease();
        let task = Supervised {
            leader: Leader(Some(child)),
            name: order.owner.name.to_string(),
            state,
            leases: Arc::clone(&daemon.leases),
            idle: self.idle,
            key: key.clone(),
            daemons: Arc::clone(&self.daemons),
        };
        daemons.insert(key.clone(), daemon);
        tokio::spawn(task.live(Arc::clone(order), self.patience));
        Ok((seen, lease))
    }

    /// The command as the user runs it after a login: nothing of ours is in it (S-84).
    async fn command(&self, order: Arc<Order>) -> Result<std::process::Command, BackendError> {
        let owner = &order.owner;
        let no_account = || BackendError::no_session("the user has no account to start a daemon as");
        let account = owner.account.clone().filter(|account| Some(account.uid) == owner.uid);
        let account = account.ok_or_else(no_account)?;
        let session = order.session.as_ref();
        let name = session.map_or("", |session| session.name.as_str());
        let socket = session.and_then(Session::path).unwrap_or_default();
        let word = |word: &Pattern| Ok(word.of(owner)?.replace(SESSION, name).replace(SOCKET, &socket));
        let words = self.words.iter().map(word).collect::<Result<Vec<String>, BackendError>>()?;
        let runtime = PathBuf::from(self.runtime.of(owner)?);
        let environment = self.variables(owner);
        let prepare = move || {
            let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
            let mut command = std::process::Command::new(program);
            command.args(arguments).env_clear().envs(environment).envs(login(&account));
            match runtime_directory(&runtime, &account) {
                Ok(()) => _ = command.env("XDG_RUNTIME_DIR", &runtime),
                Err(error) => tracing::warn!(user = account.name, "no XDG_RUNTIME_DIR: {error}"),
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            descriptors::keep_only_standard(&mut command);
            run_as(&mut command, &account)?;
            std::io::Result::Ok(command)
        };
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let failed = |why: String| {
            BackendError::unavailable(format!("the daemon of the user cannot be started: {why}"))
        };
        prepared.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// What is told of the user, which may be the word of a gateway that was taken over, as far as the configuration
    /// names it: which variables choose the code of some program is known of no list.
    fn variables(&self, owner: &Owner) -> Vec<(String, String)> {
        let is_passed = |(name, _): &(String, String)| self.passed.contains(name);
        let (passed, left): (Vec<_>, Vec<_>) = owner.environment.iter().cloned().partition(is_passed);
        if !left.is_empty() {
            let (user, left) = (owner.name.as_str(), left.len());
            tracing::warn!(user, "{left} variables of env_options are left out: no pass-env= names them");
        }
        passed
    }
}

impl Daemon {
    fn lease(&self) -> Lease {
        Lease { _held: self.leases.subscribe(), state: self.state.clone() }
    }
}

/// The daemons of a command. A reload, and another socket with the same command, find those that run.
fn daemons_of(command: String) -> Arc<Mutex<Daemons>> {
    static ALL: Mutex<BTreeMap<String, Weak<Mutex<Daemons>>>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock();
    all.retain(|_, daemons| daemons.strong_count() > 0);
    let daemons = all.get(&command).and_then(Weak::upgrade).unwrap_or_default();
    all.insert(command, Arc::downgrade(&daemons));
    daemons
}

/// The names in `pass-env`.
///
/// # Errors
/// One chooses which code a program runs, or is none.
fn passed(options: &mut Options) -> Result<Vec<String>, ConfigError> {
    let names: Vec<String> = options.take_all("pass-env").iter().map(|name| name.to_string()).collect();
    let pairs: Vec<_> = names.iter().map(|name| (name.clone(), String::new())).collect();
    match check_environment(&pairs) {
        Ok(()) => Ok(names),
        Err(_) => Err(options.error(
            "pass-env",
            "no user's table may set that",
            "name variables as LANG, one with each pass-env=, and none that chooses which code a program runs",
        )),
    }
}

/// What login(1) sets.
fn login(account: &Account) -> [(&'static str, std::ffi::OsString); 5] {
    [
        ("HOME", account.home.clone().into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
        ("PATH", PATH.into()),
    ]
}

/// A daemon's task.
struct Supervised {
    leader: Leader,
    name: String,
    state: watch::Sender<State>,
    leases: Arc<watch::Sender<()>>,
    idle: Option<Duration>,
    key: Key,
    daemons: Arc<Mutex<Daemons>>,
}

impl Supervised {
    /// From the start of the process to its end.
    async fn live(mut self, order: Arc<Order>, patience: Duration) {
        let user = self.name.clone();
        if let Some(stderr) = self.leader.0.as_mut().and_then(|child| child.stderr.take()) {
            tokio::spawn(exec::log(stderr, format!("of {user}")));
        }
        let deadline = Instant::now() + patience;
        let begun = tokio::select! {
            ended = self.leader.ended() => Err(format!("the daemon of the user {ended} before its socket was there")),
            ready = timeout_at(deadline, order.is_there()) => {
                ready.map_err(|_| "the daemon of the user has made no socket in time".to_owned())
            }
        };
        match begun {
            Ok(()) => {
                tracing::info!(user, "the daemon of a user was started");
                self.state.send_replace(State::Running);
                self.run().await;
            }
            Err(why) => {
                tracing::warn!(user, "{why}");
                // Those who wait are told at once, and whoever comes next waits until it has gone.
                self.state.send_replace(State::Failed(why));
            }
        }
        if let Some(child) = self.leader.0.take() {
            exec::end(child).await;
        }
        self.daemons.lock().remove(&self.key);
    }

    /// Until it ends by itself or nobody has used it for a while.
    async fn run(&mut self) {
        loop {
            tokio::select! {
                ended = self.leader.ended() => {
                    tracing::info!(user = self.name, "the daemon of a user {ended}");
                    return;
                }
                () = unused(&self.leases, self.idle) => {
                    // Whoever takes a lease does it under this lock.
                    let _daemons = self.daemons.lock();
                    if self.leases.receiver_count() == 0 {
                        tracing::info!(user = self.name, "the daemon of a user is idle and stopped");
                        self.state.send_replace(State::Stopping);
                        return;
                    }
                }
            }
        }
    }
}

/// Ends when nobody has had a lease for so long; never, without a time.
async fn unused(leases: &watch::Sender<()>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        leases.closed().await;
        let mut waited = Duration::ZERO;
        while waited < idle && leases.receiver_count() == 0 {
            let step = LOOK.min(idle - waited);
            sleep(step).await;
            waited += step;
        }
        if leases.receiver_count() == 0 {
            return;
        }
    }
}

impl Order {
    /// Ends when the session can be reached as the user's own.
    async fn is_there(&self) {
        loop {
            let there = match &self.session {
                Some(session) => session.door.connect(self.owner.uid).await.is_ok(),
                None => self.any_is_there().await,
            };
            if there {
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn any_is_there(&self) -> bool {
        let sessions = Arc::clone(&self.rules).sessions_of(self.owner.clone()).await.unwrap_or_default();
        for session in &sessions {
            if session.door.connect(self.owner.uid).await.is_ok() {
                return true;
            }
        }
        false
    }
}

/// The first process of a daemon, which leads its group. Dropped, with the gateway, it asks the group to end.
struct Leader(Option<Child>);

impl Leader {
    /// How it ended. Whatever it left in its group is ended by who calls this.
    async fn ended(&mut self) -> String {
        let Some(child) = &mut self.0 else { return "has ended".to_owned() };
        let group = pid(child);
        let status = child.wait().await;
        // What it has left in its group. The group's number is nobody else's while one of it lives, and right after.
        if let Some(group) = group {
            let _ = killpg(group, Signal::SIGTERM);
        }
        status.map_or_else(|error| format!("was lost: {error}"), |status| format!("ended with {status}"))
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Without an id it has been reaped.
        if let Some(group) = self.0.as_ref().and_then(pid) {
            let _ = killpg(group, Signal::SIGTERM);
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}

const SESSION: &str = "{session}";
const SOCKET: &str = "{socket}";
const STARTING: [&str; 4] = ["stop-when-idle", "start-timeout", "runtime-dir", "pass-env"];

/// Where `pam_systemd` has it.
const RUNTIME_DIR: &str = "/run/user/{uid}";

/// How long a daemon may take until its socket is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a login waits for that: within what Xpra's clients wait for an answer.
const CLIENTS_PATIENCE: Duration = Duration::from_millis(7500);

/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(50);

/// As login(1) sets it for users.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_are_found_by_their_command_as_long_as_one_of_them_runs() {
        let first = daemons_of("/bin/own --of-this-test".to_owned());
        let again = daemons_of("/bin/own --of-this-test".to_owned());
        assert!(Arc::ptr_eq(&first, &again), "a reload finds what runs");
        assert!(!Arc::ptr_eq(&first, &daemons_of("/bin/other --of-this-test".to_owned())));
    }
}
