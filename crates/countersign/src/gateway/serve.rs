//! The whole gateway: every socket of a configuration, from opening to the last session's end.

use std::{borrow::Cow, fmt, future::Future, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Crowd, Door, Orders, Penalties, admin,
    certificates::Certificates,
    desk::{Desk, Shown, View},
    inherit::Inherited,
    orders::Order,
    plan::{self, Known, Plan},
    reload::{Fixed, Reread},
    trusting::{flush, keep},
};
use crate::{
    config::{Config, Limits},
    control::ControlSocket,
    error::ConfigError,
    sys::notify,
    trail::Trail,
    transport::{Address, BindError, Listener, UnixOptions},
    trust::{Trust, TrustError},
};

/// A gateway whose sockets are open.
#[derive(Debug)]
pub struct Gateway {
    doors: Vec<Door>,
    pub(super) known: Vec<Known>,
    pub(super) desk: Arc<Desk>,
    pub(super) limits: Limits,
    pub(super) crowd: Arc<Crowd>,
    /// Of whom a socket counts failed logins; once there are some, for as long as the gateway lives.
    pub(super) penalties: Option<Arc<Penalties>>,
    pub(super) trust: Option<Trust>,
    control: Option<ControlSocket>,
    admin: Option<Listener>,
    pub(super) trail: Option<Trail>,
    pub(super) certificates: Certificates,
    pub(super) fixed: Fixed,
    reread: Option<Arc<dyn Reread>>,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    announces: bool,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Sessions that were cut because the time to drain was over.
    pub cut: usize,
}

impl Gateway {
    /// Opens every socket of `config`, or none: what can be judged is judged before the first one.
    ///
    /// # Errors
    /// [`StartError`], by what has to be mended.
    pub async fn open(config: &Config) -> Result<Self, StartError> {
        let keeps_state = keeps_state(config);
        if keeps_state {
            config.trust.open()?;
        }
        let open_trail = |options| Trail::open(options, &config.state_dir);
        let trail = config.audit.as_ref().map(open_trail).transpose()?;
        let sessions = Arc::default();
        let mut plan = Plan::of(config, trail.as_ref(), &sessions, None)?;
        let mut inherited = Inherited::all()?;
        let (mut doors, mut known) = (Vec::new(), Vec::new());
        for (socket, terms) in config.sockets.iter().zip(plan.terms) {
            let (listener, is_inherited) = match inherited.take(socket)? {
                Some(listener) => (listener, true),
                None => (plan::bind(socket, &terms).await?, false),
            };
            let (door, new) = Known::open(socket, terms, listener, is_inherited);
            doors.push(door);
            known.push(new);
        }
        inherited.finish()?;
        let limits = config.limits.clone();
        let crowd = Crowd::new(limits.max_unauthenticated);
        let crowd = Arc::new(crowd.per_source(limits.max_per_source, limits.penalty_exempt.clone()));
        let trust = keeps_state.then(|| config.trust.clone());
        let penalties = plan.penalties.take();
        let addresses = known.iter().map(|known| &known.address);
        let entrances = plan.certificates.entrances(config, addresses)?;
        let view = View {
            doors: known.iter().map(Shown::of).collect(),
            trust: config.trust.clone(),
            penalties: penalties.clone(),
            entrances: plan.certificates.invite_to(entrances),
            reload: None,
            draining: false,
            certificate_ends: plan.certificates.end(),
        };
        let orders = mpsc::channel(ORDERS);
        let to_us = Orders::new(orders.0.clone());
        let desk = Arc::new(Desk::new(view, sessions, Arc::clone(&crowd), trail.clone(), to_us));
        let control = control(config, keeps_state, &desk, trail.as_ref()).await?;
        let admin = match &config.admin {
            Some(address) => {
                let bound = Listener::bind(address, &UnixOptions::default()).await;
                Some(bound.map_err(StartError::Bind)?)
            }
            None => None,
        };
        Ok(Self {
            doors,
            known,
            desk,
            limits,
            crowd,
            penalties,
            trust,
            control,
            admin,
            trail,
            certificates: plan.certificates,
            fixed: Fixed::of(config),
            reread: None,
            orders,
            announces: false,
        })
    }

    /// The same; it can read its configuration again.
    #[must_use]
    pub fn rereading(mut self, reread: Arc<dyn Reread>) -> Self {
        self.reread = Some(reread);
        self
    }

    /// The same; it tells the service manager how it is (`NOTIFY_SOCKET`).
    #[must_use]
    pub fn announcing(mut self) -> Self {
        self.announces = true;
        self
    }

    /// By which it is told what to do while it runs.
    pub fn orders(&self) -> Orders {
        Orders::new(self.orders.0.clone())
    }

    /// How many threads a runtime has to let checks block, so that no socket waits for another's
    /// module (S-81); they are started only when they are needed.
    pub fn blocking_threads(config: &Config) -> usize {
        let links = config.sockets.iter().flat_map(|socket| socket.chain.links());
        let checks: usize = links.map(|link| link.verifier.at_once()).sum();
        /// For all else that waits: names of hosts, files.
        const OTHERS: usize = 64;
        /// The number stays when the configuration is read again, which may bring more links by then.
        const LATER: usize = 512;
        checks.saturating_add(OTHERS).max(LATER)
    }

    /// The open sockets: their names, and the addresses with the ports that the system chose.
    pub fn sockets(&self) -> impl Iterator<Item = (&str, &Address)> {
        self.doors.iter().map(|door| (door.name(), door.listener.local_address()))
    }

    /// The audit trail, if one is kept: to be told when its file was moved away.
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }

    /// Serves until `stop`, or until it is told to end; then accepts nothing new and waits for the sessions, until
    /// `drain_timeout`, the time that it was told, or `now` is over (S-97). `stop` after it was told to end leaves the
    /// sessions no more than `drain_timeout`.
    pub async fn run(mut self, stop: impl Future<Output = ()>, now: impl Future<Output = ()>) -> Outcome {
        let mut life =
            Life { phase: watch::channel(Phase::Serve).0, doors: JoinSet::new(), others: JoinSet::new() };
        for (door, known) in std::mem::take(&mut self.doors).into_iter().zip(&mut self.known) {
            life.admit(door, known, &self.crowd);
        }
        let over = reach(life.phase.subscribe(), Phase::Over);
        let control = self.control.take().map(|control| tokio::spawn(control.serve(over)));
        self.start_others(&mut life);
        self.show();
        self.announce(notify::ready);
        let mut stop = pin!(stop);
        let told = tokio::select! {
            () = &mut stop => None,
            told = self.tend(&mut life) => Some(told),
        };
        // Nobody gives orders any more: whoever waits for an answer hears that.
        self.orders.1.close();
        while self.orders.1.try_recv().is_ok() {}
        self.desk.amend(|view| view.draining = true);
        self.announce(notify::stopping);
        let usual = self.limits.drain_timeout;
        let cut = match told {
            None => life.drain(usual, now).await,
            Some((patience, begun)) => {
                let _ = begun.send(());
                let stopped = async {
                    stop.await;
                    sleep(usual).await;
                };
                let now = async {
                    tokio::select! { () = now => {} () = stopped => {} }
                };
                life.drain(patience.unwrap_or(usual), now).await
            }
        };
        // Until here the owner could see who is still there, and take certificates back.
        let _ = life.phase.send_replace(Phase::Over);
        if let Some(control) = control {
            let _ = control.await;
        }
        life.others.shutdown().await;
        if let Some(penalties) = &self.penalties {
            penalties.write_down().await;
        }
        if let Some(trust) = &self.trust {
            flush(trust).await;
        }
        Outcome { cut }
    }

    /// What goes on beside the doors until the end.
    fn start_others(&mut self, life: &mut Life) {
        if let Some(penalties) = self.penalties.clone() {
            life.others.spawn(async { match penalties.keep().await {} });
        }
        if let Some(listener) = self.admin.take() {
            tracing::info!("numbers and health are at {}", listener.local_address());
            life.others.spawn(admin::serve(listener, Arc::clone(&self.desk)));
        }
        if let Some(limit) = notify::watchdog().filter(|_| self.announces) {
            life.others.spawn(Arc::clone(&self.desk).watch(limit));
        }
        if let Some(trust) = self.trust.clone() {
            life.others.spawn(keep(trust));
        }
    }

    /// What there is to do while others serve, until it is told to end: with which patience, and whom to tell that
    /// it does.
    async fn tend(&mut self, life: &mut Life) -> (Option<Duration>, oneshot::Sender<()>) {
        loop {
            let order = tokio::select! {
                never = self.certificates.keep() => match never {},
                // It is never closed: `self` could give orders too.
                Some(order) = self.orders.1.recv() => order,
            };
            while life.doors.try_join_next().is_some() {}
            let done = match order {
                Order::Reload(done) => done,
                Order::Drain(patience, begun) => return (patience, begun),
            };
            if self.announces {
                notify::reloading();
            }
            let reloaded = self.reload(life).await;
            let refused = reloaded.as_ref().err();
            self.desk.note_reload(refused.map(|error| (error.to_string(), error.fix().into_owned())));
            self.announce(notify::ready);
            let _ = done.send(reloaded);
        }
    }

    /// Tells the service manager, where somebody wants that.
    fn announce(&self, tell: fn(&str)) {
        if self.announces {
            tell(&self.desk.line());
        }
    }

    /// Shows the doors that are served now.
    pub(super) fn show(&self) {
        let doors = self.known.iter().map(Shown::of).collect();
        let certificate_ends = self.certificates.end();
        self.desk.amend(|view| (view.doors, view.certificate_ends) = (doors, certificate_ends));
    }

    async fn reload(&mut self, life: &mut Life) -> Result<(), StartError> {
        let Some(reread) = self.reread.clone() else {
            let fix = "restart it";
            return Err(
                ConfigError::new("the configuration", "this gateway cannot read it again", fix).into()
            );
        };
        let reloaded = self.reload_from(&reread, life).await;
        match &reloaded {
            Ok(()) => {
                tracing::info!(sockets = self.known.len(), "the configuration was read again and holds")
            }
            Err(error) => tracing::error!(
                "the configuration was read again and is refused, the old one holds: {error} ({})",
                error.fix()
            ),
        }
        reloaded
    }
}

/// The tasks of a gateway that runs.
#[derive(Debug)]
pub(super) struct Life {
    phase: watch::Sender<Phase>,
    doors: JoinSet<usize>,
    pub(super) others: JoinSet<()>,
}

impl Life {
    /// Serves at a door from now on.
    pub(super) fn admit(&mut self, door: Door, known: &mut Known, crowd: &Arc<Crowd>) {
        let (stop, cut) =
            (reach(self.phase.subscribe(), Phase::Drain), reach(self.phase.subscribe(), Phase::Cut));
        let (words, heard) = mpsc::channel(1);
        known.words = words;
        self.doors.spawn(door.serve_told(Arc::clone(crowd), heard, stop, cut));
    }

    /// Waits for the sessions until `patience` or `now` is over, and says how many were cut.
    async fn drain(&mut self, patience: Duration, now: impl Future<Output = ()>) -> usize {
        let phase = self.phase.clone();
        let _ = phase.send_replace(Phase::Drain);
        let mut cut = 0;
        let drained = async {
            while let Some(ended) = self.doors.join_next().await {
                cut += ended.unwrap_or_default();
            }
        };
        let impatience = async {
            let _ = timeout(patience, now).await;
            let _ = phase.send_replace(Phase::Cut);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = drained => {}
            () = impatience => {}
        }
        cut
    }
}

/// Why a gateway did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration, or a file it names.
    Config(ConfigError),
    /// A socket cannot be listened on.
    Bind(BindError),
    /// The control socket cannot be listened on.
    Control(BindError),
    /// The sockets that the service manager passed on.
    Inherited(io::Error),
    /// The trust store cannot be opened now.
    Trust(TrustError),
}

impl StartError {
    /// How to mend it.
    pub fn fix(&self) -> Cow<'_, str> {
        match self {
            Self::Config(error) => error.fix().into(),
            Self::Bind(error) => error.fix().into(),
            Self::Control(error) => {
                format!("{}; --control=PATH names another, --control=none goes without", error.fix()).into()
            }
            Self::Inherited(_) => "compare the .socket units with name= of the sockets".into(),
            Self::Trust(error) => error.fix().into(),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Bind(error) => error.fmt(f),
            Self::Control(error) => write!(f, "control socket {error}"),
            Self::Inherited(error) => write!(f, "inherited sockets: {error}"),
            Self::Trust(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<TrustError> for StartError {
    fn from(error: TrustError) -> Self {
        match error {
            error @ (TrustError::Held { .. } | TrustError::Io { .. }) => Self::Trust(error),
            error => Self::Config(error.into()),
        }
    }
}

/// The gateway's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Serve,
    Drain,
    Cut,
    Over,
}

/// Ends when the gateway is in `phase` or a later one, or gone.
async fn reach(mut phases: watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}

/// The owner's way in. A gateway that keeps no state goes without rather than not at all, if nobody wrote where it
/// shall be: another one may have the usual place.
async fn control(
    config: &Config,
    keeps_state: bool,
    desk: &Arc<Desk>,
    trail: Option<&Trail>,
) -> Result<Option<ControlSocket>, StartError> {
    let Some(path) = &config.control else { return Ok(None) };
    let running = Arc::<Desk>::clone(desk);
    match ControlSocket::open(path.clone(), running).await {
        Ok(socket) => Ok(Some(socket.recording(trail.cloned()))),
        Err(error) if !keeps_state && !config.control_written => {
            tracing::warn!(
                "there is no control socket: {error} ({}); --control=PATH names another place",
                error.fix()
            );
            Ok(None)
        }
        Err(error) => Err(StartError::Control(error)),
    }
}

/// Whether one of the sockets needs the state directory.
pub(super) fn keeps_state(config: &Config) -> bool {
    config.sockets.iter().any(|socket| socket.keeps_state)
}

/// Orders that wait; each takes the whole configuration, so more would say the same again.
const ORDERS: usize = 8;
