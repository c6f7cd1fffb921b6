//! One socket: from its text to a value that the gateway can open without another question.
//!
//! [`super::Config`] calls this for each socket; its chain is made in [`super::chain`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    address,
    backends::Backends,
    chain,
    encryption::EncryptionOptions,
    limits::clients,
    paths::Paths,
    spec::{ModuleSpec, SocketSpec, canonical},
    unix,
    warning::{Audience, Warning},
    websocket::WebSocketOptions,
    wires::{
        Accepts, Protocol, StartTls, TlsOptions, accepts, common_tls, protocol, starttls, tls_is_spoken,
    },
};
use crate::{
    backend::Backend,
    error::ConfigError,
    modules::{CERTIFICATE, Context, OptionSpec, Options, Registry},
    needs::{self, Need},
    proto::Chain,
    transport::{Address, UnixOptions},
    trust::{FirstUse, Place, Trust},
};

/// A socket that can be opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SocketConfig {
    /// Where it listens.
    pub address: Address,
    /// What it carries.
    pub kind: Kind,
    /// Its own name: of an inherited socket, and in logs.
    pub name: Option<String>,
    /// Who gets in, whatever the wire becomes (S-66).
    pub chain: Arc<Chain>,
    /// The daemon behind it.
    pub backend: Backend,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Which wires it takes.
    pub accepts: Accepts,
    /// What its clients say before TLS.
    pub starttls: Option<StartTls>,
    /// How it takes WebSocket, if it does.
    pub websocket: Option<WebSocketOptions>,
    /// What clients must encrypt their packets with, whatever the wire (S-66).
    pub encryption: Option<EncryptionOptions>,
    /// Mode, owner and group of a Unix socket's file, once somebody was first.
    pub unix: UnixOptions,
    /// Whether its chain asks the trust store.
    pub trusts: bool,
    /// Whether its chain needs the state directory.
    pub keeps_state: bool,
    /// What it is called in the scopes of certificates.
    pub trust_place: Place,
    /// Who may be the first client of the gateway here, and until then opens the socket.
    pub first_use: Option<FirstUse>,
    /// The certificate it shows, where TLS is among its wires.
    pub tls: TlsOptions,
    /// The file of the key that a socket of SSH is known by; the gateway's own where there is none.
    pub host_key: Option<PathBuf>,
    /// Within which time a first complete message is due (S-01).
    pub handshake_timeout: Duration,
    /// Within which time the login must have succeeded (S-01).
    pub login_timeout: Duration,
    /// How many clients may be logging in on it, if that is fewer than in all (S-04).
    pub max_unauthenticated: Option<usize>,
    /// Whether failed logins on it are counted, and have to wait (S-21).
    pub penalties: bool,
    /// What its chain and its files need of the system, and what of it does.
    pub needs: Vec<(String, Need)>,
    /// What is to be said about it at start.
    pub warnings: Vec<Warning>,
}

impl SocketConfig {
    /// Whether bytes in the clear are refused on it.
    pub fn require_tls(&self) -> bool {
        self.accepts == Accepts::Tls
    }

    /// What logs and reports call it: its name, or its place.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.place())
    }

    /// Where it listens and what it carries: `unix:/run/x`, `tcp:0.0.0.0:10000`, `tls:[::]:443`,
    /// `ws:[::]:80`, `wss:[::]:443`, `ssh:[::]:22`, `rpc:127.0.0.1:50051`, `rpc:unix:/run/y`.
    pub fn place(&self) -> String {
        place(self.kind, &self.address)
    }

    /// Judges a socket and configures its modules. `None` is `--bind=none`.
    ///
    /// # Errors
    /// Anything that is wrong with it, without the value of any option.
    pub(super) fn resolve(draft: Draft<'_>, registry: &Registry) -> Result<Option<Self>, ConfigError> {
        let Draft { kind, spec, common, .. } = draft;
        let mut warnings = Vec::new();
        let Some(address) = address::parse(spec.address(), kind, common.paths, &mut warnings)? else {
            return Ok(None);
        };
        applicable(&spec, kind)?;
        built_in(kind)?;
        let mut options = spec.settings(kind.key());
        let accepts = accepts(&mut options, kind)?;
        tls_is_spoken(&spec, kind, accepts)?;
        let protocol = protocol(&mut options, kind)?;
        let starttls = starttls(&mut options, accepts, protocol)?;
        let websocket = WebSocketOptions::take(&mut options, kind, (protocol, accepts))?;
        let encryption = EncryptionOptions::take(&mut options, protocol)?;
        let known: Vec<_> = SOCKET_OPTIONS.iter().map(|option| option.spec).collect();
        let mut needs: Vec<_> =
            needs::of_files(&known, &options).into_iter().map(|need| (place(kind, &address), need)).collect();
        let usual = usual_chain(kind, registry)?;
        let modules = [spec.auth(), draft.switch, &usual].into_iter().find(|modules| !modules.is_empty());
        let modules = modules.unwrap_or_default();
        for module in modules {
            let found = registry.find(module.name())?.needs(&module.to_options());
            needs.extend(found.into_iter().map(|need| (format!("auth={}", module.name()), need)));
        }
        let trusts = trusts(modules);
        let keeps = |module: &ModuleSpec| registry.find(module.name()).is_ok_and(|found| found.keeps_state());
        let keeps_state = trusts || modules.iter().any(keeps);
        if modules.iter().any(|module| module.name() == CERTIFICATE) && accepts == Accepts::Plain {
            return Err(certificate_without_tls(kind));
        }
        let (unix, first_use) = unix::options(&mut options, &address, wants_first_use(modules)?)?;
        if first_use.is_some() && !modules.last().is_some_and(is_of_store) {
            return Err(first_use_is_last());
        }
        let identity = options.take("identity")?;
        let name = name(&mut options)?;
        let backend = options.take("backend")?;
        let backend = backend.as_ref().map(|text| text.as_str());
        let context =
            context(common, &name.clone().unwrap_or_else(|| place(kind, &address)), backend, first_use)?;
        let written = chain::Written {
            modules,
            context: &context,
            identity: identity.as_ref().map(|name| name.as_str()),
            kind,
            asks_nothing: matches!(protocol, Protocol::Stream | Protocol::Rpc),
            http: websocket.is_some(),
            cleartext: matches!(kind, Kind::Tcp | Kind::Ws)
                && accepts != Accepts::Tls
                && encryption.is_none(),
            audience: audience(&address, &unix),
            open_without: address::is_local(&address),
        };
        let chain = chain::build(written, registry, &mut warnings)?;
        let backend = daemon(kind, common.backends.find(backend)?)?;
        if backend.is_each_users() && chain::names_nobody(&chain) {
            warnings.push(Warning::NamesNobody);
        }
        let penalties = options.flag("penalties", common.penalties)?;
        if !penalties && chain::can_be_guessed(&chain) {
            warnings.push(Warning::NoPenalties);
        }
        let socket = Self {
            name,
            chain: Arc::new(chain),
            backend,
            trusts,
            keeps_state,
            trust_place: context.place.clone(),
            first_use,
            protocol,
            starttls,
            websocket,
            encryption,
            tls: TlsOptions::take(&mut options, &common_tls(kind, common.tls))?,
            host_key: host_key(&mut options)?,
            handshake_timeout: timeout(&mut options, "handshake-timeout", common.handshake_timeout)?,
            login_timeout: timeout(&mut options, "login-timeout", common.login_timeout)?,
            max_unauthenticated: most(&mut options)?,
            penalties,
            unix,
            accepts,
            address,
            kind,
            needs,
            warnings,
        };
        options.finish(&[])?;
        Ok(Some(socket))
    }
}

/// A socket that is to be judged, with what holds for all.
pub(super) struct Draft<'a> {
    pub(super) kind: Kind,
    pub(super) spec: SocketSpec,
    /// The modules of the per-type switch, for a socket without `auth=`.
    pub(super) switch: &'a [ModuleSpec],
    pub(super) common: &'a Common<'a>,
}

/// What a socket has unless it says otherwise.
pub(super) struct Common<'a> {
    pub(super) paths: &'a Paths,
    pub(super) trust: &'a Trust,
    pub(super) backends: &'a Backends<'a>,
    pub(super) tls: &'a TlsOptions,
    pub(super) handshake_timeout: Duration,
    pub(super) login_timeout: Duration,
    pub(super) penalties: bool,
}

/// What a socket carries, by the option that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `--bind`: a Unix stream socket, which may carry TLS.
    Unix,
    /// `--bind-tcp`: TCP that may become TLS.
    Tcp,
    /// `--bind-ssl`, `--bind-tls`: TLS from the first byte.
    Tls,
    /// `--bind-ws`: WebSocket over TCP.
    Ws,
    /// `--bind-wss`: WebSocket in TLS.
    Wss,
    /// `--bind-ssh`: SSH over TCP.
    Ssh,
    /// `--bind-vsock`: vsock, from virtual machines or from the host.
    Vsock,
    /// `--bind-rpc`: gRPC calls in TLS, on a Unix socket or TCP.
    Rpc,
}

impl Kind {
    /// The option that makes such a socket.
    pub fn key(self) -> &'static str {
        match self {
            Self::Unix => "bind",
            Self::Tcp => "bind-tcp",
            Self::Tls => "bind-ssl",
            Self::Ws => "bind-ws",
            Self::Wss => "bind-wss",
            Self::Vsock => "bind-vsock",
            Self::Ssh => "bind-ssh",
            Self::Rpc => "bind-rpc",
        }
    }

    /// The switch that gives a chain to those that have none of their own.
    pub fn switch(self) -> &'static str {
        match self {
            Self::Unix => "auth",
            Self::Tcp => "tcp-auth",
            Self::Tls => "ssl-auth",
            Self::Ws => "ws-auth",
            Self::Wss => "wss-auth",
            Self::Vsock => "vsock-auth",
            Self::Ssh => "ssh-auth",
            Self::Rpc => "rpc-auth",
        }
    }

    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Unix, Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Ssh, Self::Vsock, Self::Rpc];
}

/// An option of a socket and the kinds that have it.
#[derive(Debug)]
#[non_exhaustive]
pub struct SocketOption {
    /// Its name and manual.
    pub spec: OptionSpec,
    /// Which sockets it is for.
    pub kinds: &'static [Kind],
}

/// Refuses options that a socket of that kind has no use for (S-65).
fn applicable(spec: &SocketSpec, kind: Kind) -> Result<(), ConfigError> {
    for key in spec.keys() {
        let kinds =
            SOCKET_OPTIONS.iter().find(|option| option.spec.name == key).map_or(ALL, |option| option.kinds);
        if !kinds.contains(&kind) {
            let right: Vec<&str> = kinds.iter().map(|kind| kind.key()).collect();
            return Err(ConfigError::new(
                format!("option {key} of {}", kind.key()),
                format!("only sockets of {} have it", right.join(" and ")),
                "remove it",
            ));
        }
    }
    Ok(())
}

/// The backend of a socket. One of calls needs a daemon that takes HTTP/2 connections.
fn daemon(kind: Kind, backend: Backend) -> Result<Backend, ConfigError> {
    match kind == Kind::Rpc && !backend.takes_calls() {
        true => Err(ConfigError::new(
            format!("option backend of {}", kind.key()),
            format!("{backend} takes no calls"),
            "use unix:PATH, tcp:HOST:PORT or tls:HOST:PORT",
        )),
        false => Ok(backend),
    }
}

/// The chain of a socket that has none written. A socket of calls has the one that Multipass has.
fn usual_chain(kind: Kind, registry: &Registry) -> Result<Vec<ModuleSpec>, ConfigError> {
    match kind {
        Kind::Rpc => Ok(vec![ModuleSpec::parse(CERTIFICATE, registry)?]),
        Kind::Unix | Kind::Tcp | Kind::Tls | Kind::Ws | Kind::Wss | Kind::Ssh | Kind::Vsock => Ok(Vec::new()),
    }
}

fn place(kind: Kind, address: &Address) -> String {
    match kind {
        Kind::Tls => address.to_string().replacen("tcp:", "tls:", 1),
        Kind::Ws => address.to_string().replacen("tcp:", "ws:", 1),
        Kind::Wss => address.to_string().replacen("tcp:", "wss:", 1),
        Kind::Ssh => address.to_string().replacen("tcp:", "ssh:", 1),
        Kind::Rpc => format!("rpc:{}", address.to_string().trim_start_matches("tcp:")),
        Kind::Unix | Kind::Tcp | Kind::Vsock => address.to_string(),
    }
}

/// Whether one of the modules asks the trust store: `certificate` without authorities of its own.
fn trusts(modules: &[ModuleSpec]) -> bool {
    modules.iter().any(is_of_store)
}

fn is_of_store(module: &ModuleSpec) -> bool {
    module.name() == CERTIFICATE && module.options().all(|(key, _)| canonical(key) != "ca")
}

/// Whether the first client may come in where a socket can have such a rule.
fn wants_first_use(modules: &[ModuleSpec]) -> Result<bool, ConfigError> {
    match modules.iter().find(|module| is_of_store(module)) {
        Some(module) => module.to_options().flag("first-use", true),
        None => Ok(false),
    }
}

/// Whoever takes the first place has it for good, so nothing may refuse it afterwards.
fn first_use_is_last() -> ConfigError {
    ConfigError::new(
        format!("auth={CERTIFICATE}"),
        "it accepts the first client, and modules behind it could still refuse that one",
        "write it last, or first-use=no",
    )
}

fn certificate_without_tls(kind: Kind) -> ConfigError {
    ConfigError::new(
        format!("auth={CERTIFICATE} of {}", kind.key()),
        "certificates come with TLS, which this socket does not speak",
        match kind {
            Kind::Ws => "use bind-wss",
            Kind::Ssh => "use auth=ssh-key, or bind-ssl",
            _ => "add require-tls=yes",
        },
    )
}

fn context(
    common: &Common<'_>,
    socket: &str,
    backend: Option<&str>,
    first_use: Option<FirstUse>,
) -> Result<Context, ConfigError> {
    let mut context = Context::with_trust(common.trust.clone());
    // A backend is called by its name where it has one, so that scopes outlive a change of its address.
    let backend = match backend {
        Some(name) if !name.contains(':') => canonical(name),
        other => common.backends.find(other)?.to_string(),
    };
    context.place = Place::new(socket, backend);
    context.first_use = first_use;
    Ok(context)
}

/// Refuses sockets that this build leaves out.
fn built_in(kind: Kind) -> Result<(), ConfigError> {
    match kind == Kind::Ssh && !cfg!(feature = "ssh") {
        true => Err(ConfigError::new(kind.key(), NOT_YET, "build it with the feature ssh")),
        false => Ok(()),
    }
}

fn host_key(options: &mut Options) -> Result<Option<PathBuf>, ConfigError> {
    match options.take("host-key")? {
        Some(path) if path.is_empty() => Err(options.error("host-key", "it is empty", "write a path")),
        path => Ok(path.map(|path| PathBuf::from(path.as_str()))),
    }
}

fn name(options: &mut Options) -> Result<Option<String>, ConfigError> {
    let Some(name) = options.take("name")? else { return Ok(None) };
    // systemd.socket(5), FileDescriptorName=: at most 255 characters, no control character, no colon.
    let valid = |c: char| c.is_ascii_graphic() && c != ':';
    if name.is_empty() || name.len() > 255 || !name.chars().all(valid) {
        let fix = "use up to 255 letters, digits and signs other than the colon";
        return Err(options.error("name", "it is empty, too long, or holds other characters", fix));
    }
    Ok(Some(name.to_string()))
}

/// How many clients may be logging in, if that is written.
fn most(options: &mut Options) -> Result<Option<usize>, ConfigError> {
    let most = clients(options, "max-unauthenticated", 0)?;
    Ok(Some(most).filter(|most| *most > 0))
}

/// A deadline. None may be switched off (S-01).
pub(super) fn timeout(options: &mut Options, name: &str, default: Duration) -> Result<Duration, ConfigError> {
    let duration = options.duration(name, default)?;
    if duration.is_zero() || duration > LONGEST_TIMEOUT {
        return Err(options.error(name, "it is zero or longer than a day", "write a time as in 10s or 2m"));
    }
    Ok(duration)
}

pub(super) fn audience(address: &Address, unix: &UnixOptions) -> Audience {
    match address {
        Address::Unix(_) if unix.mode & 0o002 == 0 => Audience::FileMode,
        _ if address::is_local(address) => Audience::LocalUsers,
        _ => Audience::Network,
    }
}

/// Everything that can stand behind the address of a socket.
pub const SOCKET_OPTIONS: &[SocketOption] = &[
    option("auth", "MODULE", "", "a module of the chain; repeat it, all must pass in order", ALL),
    option(
        "backend",
        "BACKEND",
        "the global one",
        "the daemon behind: an address or a name from [backends]",
        ALL,
    ),
    option("encryption", "AES|AES-MODE", "", "Xpra's encryption, without which nobody gets in", HANDED_OVER),
    option("group", "NAME|GID", "", "the group of the socket's file", FILES),
    option("handshake-timeout", "TIME", "limits.handshake-timeout", "when the first message is due", ALL),
    option("host-key", "FILE", "the gateway's own", "the key it is known by, as OpenSSH keeps keys", SSH),
    option("identity", "MODULE", "the last that names anybody", "the module whose name counts", ALL),
    option("keydata", "0xHEX|b64:BASE64", "", "the key of encryption, in the option itself", HANDED_OVER),
    option("keyfile", "FILE", "", "a file with the key of encryption", HANDED_OVER),
    option("login-page", "yes|no", "no", "give browsers a page to log in with; in TLS only", HANDED_OVER),
    option("login-timeout", "TIME", "limits.login-timeout", "when the login must have succeeded", ALL),
    option(
        "max-unauthenticated",
        "NUMBER",
        "limits.max-unauthenticated",
        "clients that may be logging in on it",
        ALL,
    ),
    option("mode", "OCTAL", "600, 660 with group", "the permissions of the socket's file", FILES),
    option("name", "NAME", "", "its name in logs, and the FileDescriptorName= of an inherited socket", ALL),
    option("owner", "NAME|UID", "", "the owner of the socket's file", FILES),
    option(
        "penalties",
        "yes|no",
        "limits.penalties",
        "count failed logins on it, and refuse who has many",
        ALL,
    ),
    option("protocol", "auto|xpra|stream", "auto", "what is spoken on it", HANDED_OVER),
    option("protocols", "plain|tls|plain+tls", "plain+tls, on Unix plain", "the wires it takes", BY_CHOICE),
    option("require-tls", "yes|no", "no", "refuse connections without TLS", STREAMS),
    option("ssl-cert", "FILE", "the gateway's own", "the certificate it shows, in PEM", SECURED),
    option("ssl-key", "FILE", "in ssl-cert", "the key of the certificate, in PEM", SECURED),
    option("starttls", "postgres", "", "what clients say before TLS; with protocol=stream", STREAMS),
    option(
        "tls-min",
        "1.2|1.3",
        "1.3, for bind-rpc 1.2",
        "the oldest version of TLS that is spoken",
        SECURED,
    ),
    option("websocket", "yes|no", "yes with protocol=auto", "take WebSocket too", UPGRADED),
    option(
        "websocket-origins",
        "ORIGINS",
        "none",
        "the pages whose scripts may connect: https://HOST https://HOST:PORT",
        HANDED_OVER,
    ),
    option("websocket-path", "/PATH", "/", "where WebSocket is, for HTTP", HANDED_OVER),
];

const fn option(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
    kinds: &'static [Kind],
) -> SocketOption {
    SocketOption { spec: OptionSpec::new(name, value, default, help), kinds }
}

const ALL: &[Kind] = &Kind::ALL;

/// Sockets whose first bytes may or may not be TLS.
const BY_CHOICE: &[Kind] = &[Kind::Unix, Kind::Tcp];

/// Those that take streams, which may become others.
const STREAMS: &[Kind] = &[Kind::Unix, Kind::Tcp, Kind::Tls];

/// Those that take streams, which may become WebSocket.
const UPGRADED: &[Kind] = &[Kind::Unix, Kind::Tcp, Kind::Tls, Kind::Vsock];

/// Those whose bytes are handed over as they are.
const HANDED_OVER: &[Kind] = &[Kind::Unix, Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::Vsock];

/// Those that speak SSH.
const SSH: &[Kind] = &[Kind::Ssh];

/// Those that may speak TLS.
const SECURED: &[Kind] = &[Kind::Unix, Kind::Tcp, Kind::Tls, Kind::Wss, Kind::Rpc];

/// Those that may have a file.
const FILES: &[Kind] = &[Kind::Unix, Kind::Rpc];

/// Said of words that are known and not served.
pub(super) const NOT_YET: &str = "this build does not have it yet";

const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);
