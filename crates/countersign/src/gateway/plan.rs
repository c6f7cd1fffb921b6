//! From a configuration to doors: all that can be judged before a socket is opened, and the doors themselves.
//!
//! [`super::serve`] takes this way at start, [`super::reload`] whenever the configuration is read again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    Door, Penalties, Quota, StartError,
    audit::Auditor,
    certificates::Certificates,
    drive::Acceptor,
    listen::{Terms, Word},
    sessions::Sessions,
    tally::Tally,
    trusting::{Guard, Reliance},
};
use crate::{
    config::{Accepts, Config, Kind, SocketConfig},
    error::ConfigError,
    proto::server::Settings,
    trail::Trail,
    transport::{Address, Listener, UnixOptions},
};

/// What the sockets of a configuration will do, in their order.
pub(super) struct Plan {
    pub(super) terms: Vec<Terms>,
    pub(super) certificates: Certificates,
    pub(super) penalties: Option<Arc<Penalties>>,
}

impl Plan {
    /// The plan of `config`, whose trust store is open where one is needed. It goes on with those `penalties` that
    /// there are.
    ///
    /// # Errors
    /// A certificate or a key cannot be had.
    pub(super) fn of(
        config: &Config,
        trail: Option<&Trail>,
        sessions: &Arc<Sessions>,
        penalties: Option<Arc<Penalties>>,
    ) -> Result<Self, ConfigError> {
        let mut certificates = Certificates::of(config);
        let penalties = penalties.or_else(|| counting(config));
        let terms = config.sockets.iter().map(|socket| {
            let acceptor = acceptor(socket, config, &mut certificates)?;
            let acceptor = match &penalties {
                Some(penalties) if socket.penalties => acceptor.with_penalties(Arc::clone(penalties)),
                _ => acceptor,
            };
            let warning = socket.warnings.iter().find(|warning| warning.at_each_connection());
            Ok(Terms {
                name: socket.label(),
                acceptor,
                backend: Arc::new(socket.backend.clone()),
                warning: warning.map(ToString::to_string),
                quota: None,
                guard: config.trust.store().and_then(|store| Guard::of(socket, store)),
                reliance: Reliance::of(socket, &config.trust),
                auditor: Auditor::new(trail.cloned()),
                sessions: Arc::clone(sessions),
            })
        });
        let terms = terms.collect::<Result<_, ConfigError>>()?;
        Ok(Self { terms, certificates, penalties })
    }
}

/// A door as the gateway that serves it knows it.
#[derive(Debug)]
pub(super) struct Known {
    /// Counts its clients, whatever it is called later.
    number: usize,
    pub(super) name: String,
    pub(super) configured: Address,
    pub(super) options: UnixOptions,
    /// The name by which the service manager passed it on.
    pub(super) inherited: Option<String>,
    /// The address with the port that the system chose.
    pub(super) address: Address,
    /// Since when it listens.
    pub(super) since: Instant,
    /// What it has decided so far.
    pub(super) tally: Arc<Tally>,
    pub(super) words: mpsc::Sender<Word>,
}

impl Known {
    /// Makes a door of a socket that listens.
    pub(super) fn open(
        socket: &SocketConfig,
        mut terms: Terms,
        listener: Listener,
        inherited: bool,
    ) -> (Door, Self) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let known = Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            name: String::new(),
            configured: socket.address.clone(),
            options: socket.unix,
            inherited: socket.name.clone().filter(|_| inherited),
            address: listener.local_address().clone(),
            since: Instant::now(),
            tally: Arc::default(),
            // Nobody hears it before it is served.
            words: mpsc::channel(1).0,
        };
        let known = Self { name: known.settle(socket, &mut terms), ..known };
        (Door { listener, terms }, known)
    }

    /// Fills in what depends on the door itself, and says what it is called.
    pub(super) fn settle(&self, socket: &SocketConfig, terms: &mut Terms) -> String {
        terms.name = socket.name.clone().unwrap_or_else(|| self.address.to_string());
        terms.quota = socket.max_unauthenticated.map(|most| Quota::new(self.number, most));
        terms.auditor = terms.auditor.clone().counting(Arc::clone(&self.tally));
        terms.acceptor = terms.acceptor.clone().timed_by(Arc::clone(&self.tally));
        terms.name.clone()
    }
}

/// Listens where `socket` says, as open as the trust store allows now.
pub(super) async fn bind(socket: &SocketConfig, terms: &Terms) -> Result<Listener, StartError> {
    Listener::bind(&socket.address, &options(socket, terms)).await.map_err(StartError::Bind)
}

/// The options of a socket's file: while nobody was first, those of its guard.
pub(super) fn options(socket: &SocketConfig, terms: &Terms) -> UnixOptions {
    let mut options = socket.unix;
    options.mode = terms.guard.as_ref().map_or(options.mode, Guard::mode);
    options
}

/// Where failed logins are counted, if any socket does.
fn counting(config: &Config) -> Option<Arc<Penalties>> {
    config.sockets.iter().any(|socket| socket.penalties).then(|| {
        let penalties = Penalties::new(&config.limits, Some(config.trust.clone()));
        Arc::new(penalties.kept_in(&config.state_dir))
    })
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
    if let Some(hops) = &socket.hops {
        acceptor = acceptor.behind(Arc::clone(hops));
    }
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
