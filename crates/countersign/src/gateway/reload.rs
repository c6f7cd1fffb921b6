//! The configuration is read again, while the gateway serves (S-96).
//!
//! A reload has two halves. In the first everything is judged that a start would judge, and new sockets are opened;
//! whatever goes wrong there is told, and nothing has changed. The second cannot fail: doors that stay get
//! new terms, new ones are served, those that are not wanted any more close. Whoever is inside stays, on the terms
//! on which it came in.

use std::{fmt, io::ErrorKind, path::PathBuf, sync::Arc};

use tokio::{sync::oneshot, task::spawn_blocking};

use super::{
    Door, Penalties, StartError,
    inherit::Inherited,
    listen::{Terms, Word},
    plan::{self, Known, Plan},
    serve::{Gateway, Life, keeps_state},
    sessions::Sessions,
    trusting::keep,
};
use crate::{
    config::{Config, Sandbox, SocketConfig},
    control::Running as _,
    error::ConfigError,
    sys::accounts::own_uid,
    trail::{Trail, TrailOptions},
    transport::{Address, UnixOptions},
    trust::Trust,
};

/// Reads the configuration of a gateway again, from where it was read first.
pub trait Reread: fmt::Debug + Send + Sync {
    /// Reads and judges it. It may wait for disks.
    ///
    /// # Errors
    /// As [`Config::new`].
    fn read(&self) -> Result<Config, ConfigError>;

    /// Follows a configuration that is in force now.
    fn holds(&self, config: &Config);
}

/// What stays as it is while a gateway runs.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    state_dir: PathBuf,
    control: Option<PathBuf>,
    audit: Option<TrailOptions>,
    admin: Option<Address>,
    sandbox: Sandbox,
    run_as: [Option<String>; 2],
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        let Config { state_dir, control, audit, admin, sandbox, run_as, .. } = config.clone();
        Self { state_dir, control, audit, admin, sandbox, run_as }
    }

    /// # Errors
    /// One of them is another one in `config`.
    fn judge(&self, config: &Config) -> Result<(), ConfigError> {
        let ([user, group], [other_user, other_group]) = (&self.run_as, &config.run_as);
        let changed = [
            ("state-dir", self.state_dir != config.state_dir),
            ("control", self.control != config.control),
            ("audit", self.audit != config.audit),
            ("admin", self.admin != config.admin),
            ("sandbox", self.sandbox != config.sandbox),
            ("user", user != other_user),
            ("group", group != other_group),
        ];
        match changed.into_iter().find(|(_, changed)| *changed) {
            Some((key, _)) => Err(ConfigError::new(
                key,
                "it is another one, which a gateway that runs cannot take over",
                "restart the gateway, or write it as it was",
            )),
            None => Ok(()),
        }
    }
}

/// A socket of the new configuration.
enum Place {
    /// The door at this position among those that are served, and its new terms.
    Stays(usize, Box<Terms>),
    /// A door that listens already and is not served yet.
    New(Box<(Door, Known)>),
}

impl Gateway {
    /// Both halves. It may be dropped in the middle if the gateway ends then.
    pub(super) async fn reload_from(
        &mut self,
        reread: &Arc<dyn Reread>,
        life: &mut Life,
    ) -> Result<(), StartError> {
        let kept = Kept {
            fixed: self.fixed.clone(),
            trust: self.desk.trust(),
            trail: self.trail.clone(),
            sessions: Arc::clone(&self.desk.sessions),
            penalties: self.penalties.clone(),
        };
        let (config, plan) = judged(Arc::clone(reread), kept).await?;
        let Plan { terms, mut certificates, penalties } = plan;
        let mut places = Vec::new();
        let mut left: Vec<usize> = (0..self.known.len()).collect();
        for (socket, terms) in config.sockets.iter().zip(terms) {
            places.push(self.place(socket, terms, &mut left).await?);
        }
        let addresses = places.iter().filter_map(|place| match place {
            Place::Stays(position, _) => self.known.get(*position).map(|known| &known.address),
            Place::New(new) => Some(&new.1.address),
        });
        let entrances = certificates.entrances(&config, addresses)?;
        // Nothing fails from here on.
        certificates.succeed(&mut self.certificates, entrances);
        self.certificates = certificates;
        let limits = config.limits.clone();
        self.crowd.amend(limits.max_unauthenticated, limits.max_per_source, limits.penalty_exempt.clone());
        if let Some(penalties) = penalties {
            penalties.amend(&limits, config.trust.clone());
            self.count_with(penalties, life);
        }
        self.limits = limits;
        if keeps_state(&config) && self.trust.is_none() {
            life.others.spawn(keep(config.trust.clone()));
            self.trust = Some(config.trust.clone());
        }
        self.settle(&config.sockets, places, life).await;
        self.show();
        self.desk.amend(|view| view.trust = config.trust.clone());
        reread.holds(&config);
        Ok(())
    }

    /// Has the first penalties kept, where no socket counted before.
    fn count_with(&mut self, penalties: Arc<Penalties>, life: &mut Life) {
        if self.penalties.is_none() {
            let kept = Arc::clone(&penalties);
            life.others.spawn(async { match kept.keep().await {} });
            self.desk.amend(|view| view.penalties = Some(Arc::clone(&penalties)));
            self.penalties = Some(penalties);
        }
    }

    /// The door that goes on as `socket`, or a new one that listens.
    async fn place(
        &self,
        socket: &SocketConfig,
        terms: Terms,
        left: &mut Vec<usize>,
    ) -> Result<Place, StartError> {
        for (index, position) in left.iter().copied().enumerate() {
            let Some(known) = self.known.get(position).filter(|known| known.is_of(socket)) else { continue };
            // Somebody removed its file: nobody finds it any more.
            if !known.is_there().await {
                continue;
            }
            known.judge(socket)?;
            left.remove(index);
            return Ok(Place::Stays(position, Box::new(terms)));
        }
        let listener = plan::bind(socket, &terms).await.map_err(|error| match error {
            StartError::Bind(error) if error.kind() == ErrorKind::AddrInUse && self.has_port_of(socket) => {
                let why = "this gateway listens on its port already, under an address that overlaps with it";
                let fix = "restart the gateway, or write the address as it was";
                ConfigError::new(format!("socket {}", socket.label()), why, fix).into()
            }
            error => error,
        })?;
        Ok(Place::New(Box::new(Known::open(socket, terms, listener, false))))
    }

    /// Whether a door has the port of `socket`: both cannot listen while the one takes over from the other.
    fn has_port_of(&self, socket: &SocketConfig) -> bool {
        let Address::Tcp { port, .. } = socket.address else { return false };
        self.known
            .iter()
            .any(|known| matches!(known.address, Address::Tcp { port: open, .. } if open == port))
    }

    /// Puts the new configuration in force, door by door.
    async fn settle(&mut self, sockets: &[SocketConfig], places: Vec<Place>, life: &mut Life) {
        let mut old: Vec<Option<Known>> = std::mem::take(&mut self.known).into_iter().map(Some).collect();
        for (socket, place) in sockets.iter().zip(places) {
            match place {
                Place::Stays(position, mut terms) => {
                    let Some(mut known) = old.get_mut(position).and_then(Option::take) else { continue };
                    known.name = known.settle(socket, &mut terms);
                    known.options = socket.unix;
                    let options = plan::options(socket, &terms);
                    known.become_on(terms, options).await;
                    self.known.push(known);
                }
                Place::New(new) => {
                    let (door, mut known) = *new;
                    tracing::info!(socket = known.name, "listening on {}", known.address);
                    life.admit(door, &mut known, &self.crowd);
                    self.known.push(known);
                }
            }
        }
        for known in old.into_iter().flatten() {
            tracing::info!(socket = known.name, "no longer listening on {}", known.address);
            known.close().await;
        }
    }
}

impl Known {
    /// Whether this door can go on as `socket`.
    fn is_of(&self, socket: &SocketConfig) -> bool {
        match &self.inherited {
            Some(name) => socket.name.as_ref() == Some(name),
            None => self.configured == socket.address,
        }
    }

    /// # Errors
    /// It is open to more than `socket` says and cannot be closed to them, or its file cannot be given away.
    fn judge(&self, socket: &SocketConfig) -> Result<(), ConfigError> {
        if let Some(name) = &self.inherited {
            return Inherited::judge(name, socket, &self.address);
        }
        let UnixOptions { owner, group, .. } = self.options;
        if (owner, group) != (socket.unix.owner, socket.unix.group) && own_uid() != 0 {
            let fix = "restart the gateway, or write owner= and group= as they were";
            let why = "only root gives the file of a socket that is open to somebody else";
            return Err(ConfigError::new(format!("socket {}", socket.label()), why, fix));
        }
        Ok(())
    }

    /// Whether clients still find the socket. A door that does not answer has ended.
    async fn is_there(&self) -> bool {
        let (answer, is_there) = oneshot::channel();
        self.words.send(Word::Ping(answer)).await.is_ok() && is_there.await.unwrap_or(false)
    }

    async fn become_on(&self, terms: Box<Terms>, options: UnixOptions) {
        let (done, is_done) = oneshot::channel();
        if self.words.send(Word::Become(terms, options, done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Returns when another socket can have its address. One that does not hear it has ended.
    async fn close(self) {
        let (done, is_done) = oneshot::channel();
        if self.words.send(Word::Close(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

/// What the new configuration takes over from the old one.
struct Kept {
    fixed: Fixed,
    trust: Trust,
    trail: Option<Trail>,
    sessions: Arc<Sessions>,
    penalties: Option<Arc<Penalties>>,
}

/// The first half, as far as no socket is needed for it.
async fn judged(reread: Arc<dyn Reread>, kept: Kept) -> Result<(Config, Plan), StartError> {
    let judging = spawn_blocking(move || {
        let Kept { fixed, trust, trail, sessions, penalties } = kept;
        let config = reread.read()?;
        fixed.judge(&config)?;
        config.trust.share(&trust);
        if keeps_state(&config) {
            config.trust.open()?;
        }
        let plan = Plan::of(&config, trail.as_ref(), &sessions, penalties)?;
        Ok((config, plan))
    });
    judging.await.unwrap_or_else(|lost| {
        Err(ConfigError::new("the configuration", lost.to_string(), "look at the gateway's log").into())
    })
}
