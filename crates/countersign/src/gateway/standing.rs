//! What the gateway's process may do: root splits off the privileged helper, becomes a plain user while it opens its
//! sockets, and one for good before it accepts the first client (S-94).
//!
//! ```text
//! root --split--> helper: waits, reads the configuration as root, serves until the gateway is gone
//!   `--lower--> the account with the rights to open sockets --begin, confine, open, settle--> the account, nothing else
//! ```
//!
//! The command calls it in this order. All of a configuration but its text is read as the account, so that what the
//! running gateway could not read again is a start error.

use std::{io, os::fd::OwnedFd, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{Config, Layers, Paths, RunAs, Sandbox, StatePlace},
    error::ConfigError,
    helper,
    modules::Registry,
    sys::{
        accounts::own_uid,
        descendants, files, memory,
        privilege::{Child, Half, Ids, receive, send, split},
        sandbox::{lets_through, open_only, refuse_calls},
    },
};

/// Which of the two processes this is.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "there are these two")]
pub enum Role {
    /// The one that listens.
    Gateway(Standing),
    /// The one that it asks.
    Helper(Privileged),
}

/// The standing of the process that listens.
#[derive(Debug)]
pub struct Standing {
    becomes: Option<(RunAs, Ids)>,
    /// The helper, until it begins.
    waiting: Option<(OwnedFd, Child)>,
    /// The helper, from then on.
    serving: Option<Child>,
}

impl Standing {
    /// Splits the helper off, where root is to become somebody else or there is to be a sandbox: what it starts has
    /// rights that this process has not. Before there are threads.
    ///
    /// # Errors
    /// There is no such account, or the system refuses.
    pub fn take(layers: &Layers) -> Result<Role, ConfigError> {
        let account = RunAs::read(layers)?.filter(|account| account.uid != 0);
        let becomes = account.map(|account| {
            let ids = Ids::new(account.uid, account.gid, account.groups.clone());
            (account, ids)
        });
        if becomes.is_none() && Sandbox::read(layers)? == Sandbox::Off {
            return Ok(Role::Gateway(Self { becomes, waiting: None, serving: None }));
        }
        match split() {
            Ok(Half::Second(channel)) => {
                let gateways = becomes.map(|(account, _)| account.uid);
                Ok(Role::Helper(Privileged { channel, gateways }))
            }
            Ok(Half::First(channel, child)) => {
                Ok(Role::Gateway(Self { becomes, waiting: Some((channel, child)), serving: None }))
            }
            // Where nothing has to be changed, the system may be one without such things.
            Err(_) if becomes.is_none() => Ok(Role::Gateway(Self { becomes, waiting: None, serving: None })),
            Err(error) => Err(refused("the helper cannot be split off", &error)),
        }
    }

    /// Becomes the account, but for opening sockets. Directories for the state and the control socket that are missing
    /// are made for it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn lower(&self, layers: &Layers, paths: &Paths) -> Result<(), ConfigError> {
        let Some((_, ids)) = &self.becomes else { return Ok(()) };
        let place = StatePlace::read(layers, paths)?;
        let made = ids.make_directory(&place.state_dir, 0o700).and_then(|()| {
            let control = place.control.as_deref().and_then(std::path::Path::parent);
            control.map_or(Ok(()), |directory| ids.make_directory(directory, 0o755))
        });
        made.map_err(|error| refused("its directories cannot be made", &error))?;
        ids.lower().map_err(|error| refused("the user cannot be changed", &error))
    }

    /// Has the helper begin, if what was configured meanwhile takes one.
    ///
    /// # Errors
    /// The helper cannot use the configuration.
    pub fn begin(&mut self) -> Result<(), ConfigError> {
        let Some((channel, child)) = self.waiting.take() else { return Ok(()) };
        if !helper::is_wanted() {
            // Without a word it ends.
            drop(channel);
            child.reap();
            if self.becomes.is_some() {
                helper::settle();
            }
            return Ok(());
        }
        let gone = |error: io::Error| refused("the helper does not begin", &error);
        send(&channel, BEGIN, None).map_err(gone)?;
        let mut room = [0; 4096];
        let (length, _) = receive(&channel, &mut room).map_err(gone)?;
        match room.get(..length) {
            Some(BEGIN) => {
                helper::settle();
                helper::Channel::install(channel).map_err(gone)?;
                self.serving = Some(child);
                Ok(())
            }
            Some(why) if !why.is_empty() => {
                let why = String::from_utf8_lossy(why).into_owned();
                Err(ConfigError::new("the helper", why, "mend the configuration, or write user=root"))
            }
            _ => Err(gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Holds the process to what `config` needs, and says to what it is held. Before there are threads.
    ///
    /// # Errors
    /// `sandbox=required`, and the system cannot do all of it.
    pub fn confine(&self, config: &Config) -> Result<(), ConfigError> {
        if config.sandbox == Sandbox::Off {
            tracing::warn!("the process is held to nothing (sandbox=off)");
            return Ok(());
        }
        let needs = config.needs();
        let missing = |why: String| match config.sandbox {
            Sandbox::Required => {
                Err(ConfigError::new("sandbox=required", why, "mend that, or write sandbox=on to go without"))
            }
            _ => {
                tracing::warn!("{why}");
                Ok(())
            }
        };
        if let Some(who) = needs.helper.filter(|_| helper::installed().is_none()) {
            return missing(format!("no sandbox: {who} takes a helper, and this system has none"));
        }
        // What is made later could not be named now. Who cannot make it is told so where it is used.
        let _ = files::create_private_directory(&config.state_dir);
        if let Some(directory) = config.control.as_deref().and_then(std::path::Path::parent) {
            let _ = files::create_directory(directory);
        }
        let files = match needs.programs {
            Some(who) => Err(format!("{who} starts programs, whose files nobody knows")),
            None => open_only(&needs.openable),
        };
        let calls = refuse_calls();
        match &files {
            Ok(number) => {
                tracing::info!("sandbox: other files are closed (Landlock {number})");
                if let Some(why) = lets_through(*number) {
                    missing(format!("{why} (Landlock {number})"))?;
                }
            }
            Err(why) => missing(format!("no sandbox for files: {why}"))?,
        }
        match calls {
            Ok(number) => tracing::info!("sandbox: {number} system calls are refused (seccomp)"),
            Err(why) => missing(format!("no sandbox for system calls: {why}"))?,
        }
        Ok(())
    }

    /// Gives up the rest, in all threads: the sockets are open.
    ///
    /// # Errors
    /// The system refuses, or there is a way back.
    pub fn settle(&self) -> Result<(), ConfigError> {
        let Some((account, ids)) = &self.becomes else {
            if own_uid() == 0 {
                tracing::warn!(
                    "the gateway stays root: create the account `countersign`, or write user=NAME"
                );
            }
            return Ok(());
        };
        ids.settle().map_err(|error| refused("the user cannot be changed for good", &error))?;
        let helper = if helper::installed().is_some() { "asks a helper of root's" } else { "has no helper" };
        tracing::info!("the gateway is user {} without capabilities now, and {helper}", account.name);
        Ok(())
    }

    /// Has the helper end, and waits until it and what it had started have ended, or have been given their time. A
    /// service manager that kills what is left when this process ends kills nothing then that would have ended by itself.
    pub fn end(self) {
        if let Some((channel, child)) = helper::installed().zip(self.serving) {
            channel.close();
            child.reap();
        }
        descendants::gone_within(LAST_SECONDS);
    }
}

/// The process that is asked.
#[derive(Debug)]
pub struct Privileged {
    channel: OwnedFd,
    /// The user that the gateway becomes.
    gateways: Option<u32>,
}

impl Privileged {
    /// Waits for its beginning, and serves until the gateway is gone.
    ///
    /// # Errors
    /// The channel is broken.
    pub fn serve(self, layers: &Layers, registry: &Registry, paths: &Paths) -> io::Result<()> {
        let mut room = [0; 16];
        if receive(&self.channel, &mut room)?.0 == 0 {
            return Ok(());
        }
        memory::keep_to_ourselves()?;
        // Where it cannot be, the gateway says so for itself.
        let _ = memory::keep_off_the_disk();
        if let Some(uid) = self.gateways {
            files::share_secrets_with(uid);
        }
        // What is to be warned about, the gateway says.
        let quiet = tracing::subscriber::NoSubscriber::default();
        let config = tracing::subscriber::with_default(quiet, || Config::new(layers, registry, paths));
        // It holds what is offered.
        let _config = match config {
            Ok(config) => config,
            Err(error) => return send(&self.channel, error.to_string().as_bytes(), None),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let entered = runtime.enter();
        // Whoever asks a group of processes to end means the gateway: this one ends with it, and after it. They are
        // handled and not ignored, for what is ignored programs inherit.
        for kind in [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
        ] {
            drop(signal(kind)?);
        }
        drop(entered);
        send(&self.channel, BEGIN, None)?;
        let served = helper::serve(&self.channel, runtime.handle());
        // Daemons that it started are asked to end when their tasks are dropped.
        runtime.shutdown_timeout(LAST_SECONDS);
        descendants::gone_within(LAST_SECONDS);
        served
    }
}

fn refused(what: &'static str, error: &io::Error) -> ConfigError {
    ConfigError::new(what, error.to_string(), "start the gateway as root, or write user=root to stay root")
}

/// What programs have that are asked to end.
const LAST_SECONDS: Duration = Duration::from_secs(2);

const BEGIN: &[u8] = b"begin";
