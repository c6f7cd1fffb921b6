//! What is spoken on a socket: its wires, what clients say before TLS, the protocol above.
//!
//! [`super::socket`] reads these options of each socket, and [`super::Config`] the certificate of all.

use std::path::PathBuf;

use super::{kind::Kind, spec::SocketSpec};
use crate::{error::ConfigError, modules::Options};

/// What is spoken above the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The first bytes tell.
    #[default]
    Auto,
    /// Xpra's packets, which our own client speaks too.
    Xpra,
    /// Nothing is said: the chain decides from the transport.
    Stream,
    /// SSH, whose login asks what the chain asks. All that `--bind-ssh` speaks.
    Ssh,
    /// Calls of gRPC, each of which the chain decides from the transport. All that `--bind-rpc` speaks.
    Rpc,
}

/// Which wires a socket takes. One chain holds for all of them (S-66).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepts {
    /// Bytes as they are.
    Plain,
    /// TLS only.
    Tls,
    /// Either, as the first bytes tell.
    PlainAndTls,
}

/// How clients ask for TLS that do not start it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartTls {
    /// As PostgreSQL's clients do. A client that starts TLS at once is served too.
    Postgres,
}

/// The certificate of a socket, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// A PEM file with the certificate and its chain; the gateway's own is used where there is none.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the key; `certificate` holds it too where there is none.
    pub key: Option<PathBuf>,
    /// Whether TLS 1.2 is spoken besides 1.3.
    pub allow_tls12: bool,
}

impl TlsOptions {
    pub(super) fn take(options: &mut Options, common: &Self) -> Result<Self, ConfigError> {
        let mut path = |name: &str| match options.take(name)? {
            Some(path) if path.is_empty() => Err(options.error(name, "it is empty", "write a path")),
            path => Ok(path.map(|path| PathBuf::from(path.as_str()))),
        };
        let (certificate, key) = (path("ssl-cert")?, path("ssl-key")?);
        let allow_tls12 = match options.take("tls-min")?.as_ref().map(|version| version.trim()) {
            None => common.allow_tls12,
            Some("1.3") => false,
            Some("1.2") => true,
            Some(_) => return Err(options.error("tls-min", "there is no such version", "write 1.2 or 1.3")),
        };
        match (certificate, key) {
            (None, Some(_)) => {
                Err(options.error("ssl-key", "its certificate is missing", "write ssl-cert=FILE beside it"))
            }
            (None, None) => Ok(Self { allow_tls12, ..common.clone() }),
            (certificate, key) => Ok(Self { certificate, key, allow_tls12 }),
        }
    }
}

pub(super) fn accepts(options: &mut Options, kind: Kind) -> Result<Accepts, ConfigError> {
    let required = options.flag("require-tls", matches!(kind, Kind::Tls | Kind::Wss))?;
    let listed = options.take("protocols")?.map(|list| wires(&list, options)).transpose()?;
    match (kind, required, listed) {
        (Kind::Rpc | Kind::Wss, ..) => Ok(Accepts::Tls),
        // Only the hypervisor is between the ends of vsock, and it reads the memory of its machines anyway.
        (Kind::Ws | Kind::Ssh | Kind::Vsock, ..) => Ok(Accepts::Plain),
        (Kind::Tls, false, _) => Err(options.error(
            "require-tls",
            "this socket speaks nothing but TLS",
            "use bind-tcp, or remove it",
        )),
        (Kind::Unix | Kind::Tcp, true, Some(Accepts::Plain)) => Err(options.error(
            "protocols",
            "require-tls=yes leaves none of them",
            "add tls, or remove one of the two",
        )),
        (_, true, _) => Ok(Accepts::Tls),
        (Kind::Tcp, false, listed) => Ok(listed.unwrap_or(Accepts::PlainAndTls)),
        // Nobody else reads a Unix socket: TLS is there for those who want a certificate on it.
        (Kind::Unix, false, listed) => Ok(listed.unwrap_or(Accepts::Plain)),
    }
}

/// Refuses a certificate on a socket that never shows one: its writer believes that it does (S-65).
pub(super) fn tls_is_spoken(spec: &SocketSpec, kind: Kind, accepts: Accepts) -> Result<(), ConfigError> {
    let unused = spec.keys().find(|key| ["ssl-cert", "ssl-key", "tls-min"].contains(key));
    match unused.filter(|_| accepts == Accepts::Plain) {
        Some(key) => Err(ConfigError::new(
            format!("option {key} of {}", kind.key()),
            "this socket does not speak TLS",
            "add require-tls=yes or protocols=plain+tls, or remove it",
        )),
        None => Ok(()),
    }
}

/// `plain`, `tls` or both, separated by commas (then in quotes), `+`, `|` or blanks.
fn wires(list: &str, options: &Options) -> Result<Accepts, ConfigError> {
    let (mut plain, mut tls) = (false, false);
    for word in list.split([',', '+', '|', ' ']).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "plain" | "tcp" => plain = true,
            "tls" | "ssl" => tls = true,
            "rpc" => {
                let why = "calls have sockets of their own: bind-rpc";
                return Err(options.error("protocols", why, "write plain, tls or plain+tls"));
            }
            "ws" | "wss" | "websocket" => {
                let why = "WebSocket is spoken over each of them";
                return Err(options.error("protocols", why, "write websocket=yes or websocket=no beside it"));
            }
            "ssh" => {
                let why = "SSH has sockets of its own: bind-ssh";
                return Err(options.error("protocols", why, "write plain, tls or plain+tls"));
            }
            _ => {
                return Err(options.error("protocols", "a word is unknown", "write plain, tls or plain+tls"));
            }
        }
    }
    match (plain, tls) {
        (true, true) => Ok(Accepts::PlainAndTls),
        (true, false) => Ok(Accepts::Plain),
        (false, true) => Ok(Accepts::Tls),
        (false, false) => {
            Err(options.error("protocols", "the list is empty", "write plain, tls or plain+tls"))
        }
    }
}

/// What holds for the TLS of a kind unless the socket says otherwise: Multipass's clients speak 1.2 too.
pub(super) fn common_tls(kind: Kind, common: &TlsOptions) -> TlsOptions {
    TlsOptions { allow_tls12: common.allow_tls12 || kind == Kind::Rpc, ..common.clone() }
}

pub(super) fn protocol(options: &mut Options, kind: Kind) -> Result<Protocol, ConfigError> {
    match kind {
        Kind::Rpc => return Ok(Protocol::Rpc),
        Kind::Ssh => return Ok(Protocol::Ssh),
        _ => {}
    }
    match options.take("protocol")?.as_ref().map(|name| name.trim().to_ascii_lowercase()).as_deref() {
        None | Some("auto") => Ok(Protocol::Auto),
        Some("xpra") => Ok(Protocol::Xpra),
        Some("stream") => Ok(Protocol::Stream),
        Some("rpc") => Err(options.error("protocol", "calls have sockets of their own", "use bind-rpc")),
        Some("http" | "ws" | "wss" | "websocket") => {
            Err(options.error("protocol", "WebSocket has an option of its own", "write websocket=yes or no"))
        }
        Some(_) => Err(options.error("protocol", "there is no such protocol", "write auto, xpra or stream")),
    }
}

/// Asked only where TLS follows in any case, and where the daemon is the one that is asked.
pub(super) fn starttls(
    options: &mut Options,
    accepts: Accepts,
    protocol: Protocol,
) -> Result<Option<StartTls>, ConfigError> {
    match options.take("starttls")?.as_ref().map(|name| name.trim().to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        Some("postgres") if accepts == Accepts::Tls && protocol == Protocol::Stream => {
            Ok(Some(StartTls::Postgres))
        }
        Some("postgres") => {
            let fix = "use bind-ssl, or add require-tls=yes, and write protocol=stream";
            Err(options.error("starttls", "this socket is not for a daemon's own protocol in TLS", fix))
        }
        Some(_) => Err(options.error("starttls", "there is no such protocol", "write postgres")),
    }
}
