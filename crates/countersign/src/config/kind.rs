//! The kinds of sockets, and what may stand behind the address of each.
//!
//! One table, [`SOCKET_OPTIONS`]: the parser, the manual and the check of a socket share it.

use super::spec::SocketSpec;
use crate::{error::ConfigError, modules::OptionSpec};

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
pub(super) fn applicable(spec: &SocketSpec, kind: Kind) -> Result<(), ConfigError> {
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
/// Refuses sockets that this build leaves out.
pub(super) fn built_in(kind: Kind) -> Result<(), ConfigError> {
    match kind == Kind::Ssh && !cfg!(feature = "ssh") {
        true => Err(ConfigError::new(kind.key(), NOT_YET, "build it with the feature ssh")),
        false => Ok(()),
    }
}

/// Everything that can stand behind the address of a socket.
pub const SOCKET_OPTIONS: &[SocketOption] = &[
    option(
        "accept-proxy",
        "HOPS",
        "",
        "the proxies it is behind, each of which has to say by the PROXY protocol where its client is: addresses, networks, uid:UID",
        ROUTED,
    ),
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

/// Those that a proxy may stand in front of.
const ROUTED: &[Kind] = &[Kind::Unix, Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::Ssh, Kind::Rpc];

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
