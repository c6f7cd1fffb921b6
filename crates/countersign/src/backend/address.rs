//! Daemons at an address: Unix sockets, TCP, TLS.

use std::{fmt, io, str::FromStr};

use tokio::net::TcpStream;

use super::{BackendError, CONNECT_DEADLINE, spec::error};
use crate::{
    error::ConfigError,
    transport::{
        Address, Stream, connect,
        tls::{ClientTls, OldestVersion, TlsError, Trust},
    },
};

/// A Unix socket by path, or by a name in the abstract namespace (`@NAME`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixName(Address);

impl UnixName {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        if !(text.starts_with('/') || text.starts_with('@') && text.len() > 1) {
            return Err(error(
                "it is no absolute path",
                "write unix:/PATH, or unix:@NAME for an abstract socket",
            ));
        }
        // sockaddr_un holds 108 bytes with the final NUL (unix(7)).
        if text.len() > 107 {
            return Err(error(
                "the path is longer than a socket's may be",
                "use a path of at most 107 bytes",
            ));
        }
        Ok(Self(match text.strip_prefix('@') {
            Some(name) => Address::Abstract(name.to_owned()),
            None => Address::Unix(text.into()),
        }))
    }

    /// Its file; a name in the abstract namespace has none.
    #[cfg(unix)]
    pub(super) fn path(&self) -> Option<&std::path::Path> {
        match &self.0 {
            Address::Unix(path) => Some(path),
            _ => None,
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        connect(&self.0, CONNECT_DEADLINE).await
    }
}

/// As it was written, `unix:` in front.
impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        socket.set_nodelay(true)?;
        Ok(Stream::new(socket))
    }
}

impl FromStr for HostPort {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let no_address =
            || error("it is no address", "write HOST:PORT, an IPv6 address in brackets: [::1]:22");
        let (host, port) = text.rsplit_once(':').ok_or_else(no_address)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().map_err(|_| no_address())?.to_string(),
            None if is_host(host) => host.to_owned(),
            None => return Err(no_address()),
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        let port =
            port.ok_or_else(|| error("its port is none", "write a port from 1 to 65535: HOST:PORT"))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A TLS server, and how it is known.
pub(super) struct TlsAddress {
    address: HostPort,
    name: String,
    tls: ClientTls,
}

impl TlsAddress {
    pub(super) fn new(address: HostPort, trust: Trust, name: Option<String>) -> Result<Self, ConfigError> {
        let name = name.unwrap_or_else(|| address.host.clone());
        if !is_host(&name) && name.parse::<std::net::IpAddr>().is_err() {
            return Err(error("its server-name is no host name", "write server-name=HOST"));
        }
        let tls = ClientTls::new(&trust, None, OldestVersion::Tls12).map_err(|e| e.within("backend"))?;
        Ok(Self { address, name, tls })
    }

    /// The same server, with which HTTP/2 is agreed on (RFC 9113 3.3).
    pub(super) fn for_calls(&self) -> Self {
        let tls = self.tls.clone().speaking(&["h2"]);
        Self { address: self.address.clone(), name: self.name.clone(), tls }
    }

    pub(super) async fn connect(&self, deadline: std::time::Instant) -> Result<Stream, BackendError> {
        let stream = self.address.connect().await?;
        let connected = self.tls.connect(stream, &self.name, deadline).await;
        connected.and_then(|connected| connected.into_stream()).map_err(|error| match error {
            TlsError::Timeout => BackendError::timeout(),
            error => BackendError::unavailable(error.to_string()),
        })
    }
}

impl fmt::Display for TlsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)
    }
}

/// Whether this may be a host name or an IPv4 address: no user, path, port or space in it.
fn is_host(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(fits) && !text.starts_with('-')
}
