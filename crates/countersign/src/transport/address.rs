//! Where to listen or to connect, and why a place could not be listened on.

use std::{borrow::Cow, fmt, io, path::PathBuf};

use crate::sys::vsock;

/// A place that byte streams come from or go to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A Unix stream socket in the file system.
    Unix(PathBuf),
    /// A Unix stream socket of that name in Linux's abstract namespace, which has no permissions:
    /// every process of the network namespace may connect.
    Abstract(String),
    /// A TCP port.
    Tcp {
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// The port; 0 lets the system choose one to listen on.
        port: u16,
    },
    /// A port of vsock.
    Vsock {
        /// The machine's context id: 0 the hypervisor, 1 this machine, 2 its host; [`vsock::ANY`] to listen as each
        /// that this machine is.
        cid: u32,
        /// The port; [`vsock::ANY`] lets the system choose one to listen on.
        port: u32,
    },
}

/// `unix:/run/x`, `unix:@name`, `tcp:127.0.0.1:80`, `tcp:[::1]:80`, `vsock:2:80`, `vsock:any:80`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Vsock { cid: vsock::ANY, port } => write!(f, "vsock:any:{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// Who may connect to a Unix socket in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixOptions {
    /// Permission bits, at most `0o777`; connecting needs the bit for writing.
    pub mode: u32,
    /// The numeric owner; our own uid if `None`.
    pub owner: Option<u32>,
    /// The numeric group; our own gid (or the directory's, if it hands its group down) if `None`.
    pub group: Option<u32>,
}

/// Nobody but the gateway's own user.
impl Default for UnixOptions {
    fn default() -> Self {
        Self { mode: 0o600, owner: None, group: None }
    }
}

/// Why an address cannot be listened on, told so that it can be mended.
#[derive(Debug)]
pub struct BindError {
    address: String,
    why: Cow<'static, str>,
    fix: Cow<'static, str>,
    kind: io::ErrorKind,
}

impl BindError {
    /// The place is as it should not be; `kind` says in which way.
    pub(super) fn new(
        address: &Address,
        kind: io::ErrorKind,
        why: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { address: address.to_string(), why: why.into(), fix: fix.into(), kind }
    }

    /// The system said no to `step`.
    pub(super) fn system(address: &Address, step: &str, error: &io::Error) -> Self {
        let fix = match error.kind() {
            io::ErrorKind::PermissionDenied => "run it as a user who may, or choose another address",
            io::ErrorKind::NotFound => "create what is missing, or choose another address",
            io::ErrorKind::AddrInUse => "stop the program that listens there, or choose another address",
            io::ErrorKind::AddrNotAvailable => "write an address that this machine has",
            _ => "choose another address",
        };
        Self::new(address, error.kind(), format!("{step}: {error}"), fix)
    }

    /// How to mend it.
    pub fn fix(&self) -> &str {
        &self.fix
    }

    /// What sort of failure it is: `AddrInUse` if somebody listens there already (S-64).
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

/// `address: why`; [`BindError::fix`] belongs on a line of its own.
impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.why)
    }
}

impl std::error::Error for BindError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let tcp = |host: &str| Address::Tcp { host: host.into(), port: 80 }.to_string();
        assert_eq!(tcp("127.0.0.1"), "tcp:127.0.0.1:80");
        assert_eq!(tcp("::1"), "tcp:[::1]:80");
        assert_eq!(Address::Unix("/run/x".into()).to_string(), "unix:/run/x");
        assert_eq!(Address::Abstract("name".into()).to_string(), "unix:@name");
        assert_eq!(Address::Vsock { cid: 2, port: 80 }.to_string(), "vsock:2:80");
        assert_eq!(Address::Vsock { cid: vsock::ANY, port: 80 }.to_string(), "vsock:any:80");
    }
}
