//! The whole gateway: every socket of a configuration, from opening to the last session's end.

use std::{borrow::Cow, fmt, future::Future, io, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    Crowd, Door, Penalties, Quota,
    audit::Auditor,
    certificates::Certificates,
    drive::Acceptor,
    inherit::Inherited,
    trusting::{Guard, Reliance, flush, keep},
};
use crate::{
    config::{Accepts, Config, Kind, SocketConfig},
    control::ControlSocket,
    error::ConfigError,
    proto::server::Settings,
    trail::Trail,
    transport::{Address, BindError, Listener},
    trust::{Trust, TrustError},
};

/// A gateway whose sockets are open.
#[derive(Debug)]
pub struct Gateway {
    doors: Vec<Door>,
    drain_timeout: Duration,
    crowd: Arc<Crowd>,
    penalties: Option<Arc<Penalties>>,
    trust: Option<Trust>,
    control: Option<ControlSocket>,
    trail: Option<Trail>,
    pub(super) certificates: Certificates,
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
        let keeps_state = config.sockets.iter().any(|socket| socket.keeps_state);
        let store = if keeps_state { Some(config.trust.open()?) } else { None };
        let open_trail = |options| Trail::open(options, &config.state_dir);
        let trail = config.audit.as_ref().map(open_trail).transpose()?;
        let mut certificates = Certificates::of(config);
        let penalties = config.sockets.iter().any(|socket| socket.penalties).then(|| {
            let penalties = Penalties::new(&config.limits, Some(config.trust.clone()));
            Arc::new(penalties.kept_in(&config.state_dir))
        });
        let mut prepared = Vec::new();
        for socket in &config.sockets {
            let acceptor = acceptor(socket, config, &mut certificates)?;
            let acceptor = match &penalties {
                Some(penalties) if socket.penalties => acceptor.with_penalties(Arc::clone(penalties)),
                _ => acceptor,
            };
            prepared.push((socket, acceptor, Arc::new(socket.backend.clone())));
        }
        let mut inherited = Inherited::all()?;
        let mut doors = Vec::new();
        for (number, (socket, acceptor, backend)) in prepared.into_iter().enumerate() {
            let guard = store.and_then(|store| Guard::of(socket, store));
            let mut unix = socket.unix;
            unix.mode = guard.as_ref().map_or(unix.mode, Guard::mode);
            let listener = match inherited.take(socket)? {
                Some(listener) => listener,
                None => Listener::bind(&socket.address, &unix).await.map_err(StartError::Bind)?,
            };
            let name = socket.name.clone().unwrap_or_else(|| listener.local_address().to_string());
            let warning = socket.warnings.iter().find(|warning| warning.at_each_connection());
            let auditor = Auditor::new(trail.clone());
            let door = Door::new(name, listener, acceptor, backend).recorded_by(auditor);
            let quota = socket.max_unauthenticated.map(|most| Quota::new(number, most));
            doors.push(
                door.with_warning(warning.map(ToString::to_string))
                    .with_quota(quota)
                    .trusting(guard, Reliance::of(socket, &config.trust)),
            );
        }
        inherited.finish()?;
        let limits = &config.limits;
        let crowd = Crowd::new(limits.max_unauthenticated);
        let crowd = Arc::new(crowd.per_source(limits.max_per_source, limits.penalty_exempt.clone()));
        let trust = keeps_state.then(|| config.trust.clone());
        let control = match &config.control {
            Some(path) if keeps_state || penalties.is_some() => {
                let entrances = certificates.entrances(config, &doors)?;
                match ControlSocket::open(path.clone(), config.trust.clone(), entrances).await {
                    Ok(socket) => Some(socket.recording(trail.clone()).showing(penalties.clone())),
                    Err(error) if keeps_state => return Err(StartError::Control(error)),
                    // All that its owner cannot do without it is to look at penalties.
                    Err(error) => {
                        tracing::warn!("control socket {error}. The gateway goes on without it");
                        None
                    }
                }
            }
            _ => None,
        };
        let drain_timeout = config.limits.drain_timeout;
        Ok(Self { doors, drain_timeout, crowd, penalties, trust, control, trail, certificates })
    }

    /// How many threads a runtime has to let checks block, so that no socket waits for another's
    /// module (S-81); they are started only when they are needed.
    pub fn blocking_threads(config: &Config) -> usize {
        let links = config.sockets.iter().flat_map(|socket| socket.chain.links());
        let checks: usize = links.map(|link| link.verifier.at_once()).sum();
        /// For all else that waits: names of hosts, files.
        const OTHERS: usize = 64;
        checks.saturating_add(OTHERS)
    }

    /// The open sockets: their names, and the addresses with the ports that the system chose.
    pub fn sockets(&self) -> impl Iterator<Item = (&str, &Address)> {
        self.doors.iter().map(|door| (door.name.as_str(), door.listener.local_address()))
    }

    /// The audit trail, if one is kept: to be told when its file was moved away.
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }

    /// Serves until `stop`; then accepts nothing new and waits for the sessions, until `drain_timeout`
    /// or `now` is over (S-97).
    pub async fn run(mut self, stop: impl Future<Output = ()>, now: impl Future<Output = ()>) -> Outcome {
        let (phase, phases) = watch::channel(Phase::Serve);
        let mut doors = JoinSet::new();
        for door in self.doors {
            let crowd = Arc::clone(&self.crowd);
            let (stop, cut) = (reach(phases.clone(), Phase::Drain), reach(phases.clone(), Phase::Cut));
            doors.spawn(door.serve(crowd, stop, cut));
        }
        let mut aside = JoinSet::new();
        if let Some(control) = self.control {
            aside.spawn(control.serve());
        }
        if let Some(penalties) = self.penalties.clone() {
            aside.spawn(async { match penalties.keep().await {} });
        }
        let keeping = async {
            match self.trust.clone() {
                Some(trust) => keep(trust).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            () = keeping => {}
            never = self.certificates.keep() => match never {},
        }
        let _ = phase.send(Phase::Drain);
        let mut cut = 0;
        let drained = async {
            while let Some(ended) = doors.join_next().await {
                cut += ended.unwrap_or_default();
            }
        };
        let patience = async {
            let _ = timeout(self.drain_timeout, now).await;
            let _ = phase.send(Phase::Cut);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = drained => {}
            () = patience => {}
        }
        // Until here the owner could see who is still there, and take certificates back.
        aside.shutdown().await;
        if let Some(penalties) = &self.penalties {
            penalties.write_down().await;
        }
        if let Some(trust) = &self.trust {
            flush(trust).await;
        }
        Outcome { cut }
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
}

/// Ends when the gateway is in `phase` or a later one, or gone.
async fn reach(mut phases: watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}

fn acceptor(
    socket: &SocketConfig,
    config: &Config,
    certificates: &mut Certificates,
) -> Result<Acceptor, ConfigError> {
    let mut settings = Settings::default();
    settings.handshake_timeout = socket.handshake_timeout;
    settings.login_timeout = socket.login_timeout;
    settings.refusal_delay = config.limits.refusal_delay;
    let mut acceptor =
        Acceptor::new(Arc::clone(&socket.chain)).with_settings(settings).with_protocol(socket.protocol);
    if socket.kind == Kind::Ssh {
        return speaking_ssh(acceptor, socket, config);
    }
    if let Some(starttls) = socket.starttls {
        acceptor = acceptor.starting_tls(starttls);
    }
    if let Some(websocket) = &socket.websocket {
        acceptor = acceptor.taking_websocket(websocket.clone());
    }
    if let Some(encryption) = &socket.encryption {
        acceptor = acceptor.requiring_encryption(encryption.terms.clone());
    }
    Ok(match socket.accepts {
        Accepts::Plain => acceptor,
        Accepts::Tls => acceptor.requiring_tls(certificates.tls(socket)?),
        Accepts::PlainAndTls => acceptor.offering_tls(certificates.tls(socket)?),
    })
}

/// The socket's own key, or the gateway's.
#[cfg(feature = "ssh")]
fn speaking_ssh(acceptor: Acceptor, socket: &SocketConfig, config: &Config) -> Result<Acceptor, ConfigError> {
    use crate::trust::host_key;
    acceptor.speaking_ssh(match &socket.host_key {
        Some(file) => host_key::from_file(file)?,
        None => host_key::open(&config.state_dir)?,
    })
}

/// Such a socket is refused where it is configured.
#[cfg(not(feature = "ssh"))]
fn speaking_ssh(acceptor: Acceptor, _: &SocketConfig, _: &Config) -> Result<Acceptor, ConfigError> {
    Ok(acceptor)
}
