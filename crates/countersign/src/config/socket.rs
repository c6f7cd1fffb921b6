//! One socket: from its text to a value that the gateway can open without another question.
//!
//! [`super::Config`] calls this for each socket; its chain is made in [`super::chain`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    Listed, address,
    backends::Backends,
    chain,
    encryption::EncryptionOptions,
    kind::{Kind, SOCKET_OPTIONS, applicable, built_in},
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
    modules::{CERTIFICATE, Context, Options, Registry},
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
    /// Through which hops its clients come, if they do. Where they are is what these say (S-83).
    pub hops: Option<Arc<Listed>>,
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
        let hops = Listed::take(&mut options, "accept-proxy")?.map(Arc::new);
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
        let (unix, first_use) =
            unix::options(&mut options, &address, hops.is_none() && wants_first_use(modules)?)?;
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
            // Who is behind a hop is not on this machine, however near the hop is.
            cleartext: (hops.is_some() || matches!(kind, Kind::Tcp | Kind::Ws))
                && accepts != Accepts::Tls
                && encryption.is_none(),
            audience: audience(&address, &unix, hops.is_some()),
            open_without: hops.is_none() && address::is_local(&address),
            behind_hops: hops.is_some(),
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
            hops,
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

pub(super) fn audience(address: &Address, unix: &UnixOptions, behind_hops: bool) -> Audience {
    match address {
        _ if behind_hops => Audience::Network,
        Address::Unix(_) if unix.mode & 0o002 == 0 => Audience::FileMode,
        _ if address::is_local(address) => Audience::LocalUsers,
        _ => Audience::Network,
    }
}

const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);
