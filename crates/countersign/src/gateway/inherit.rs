//! Sockets that the service manager opened: taken by name, and only where they let in nobody else.
//!
//! Called by [`super::Gateway::open`]. A chain is judged for the address that is configured: a
//! loopback socket may go without one (S-67), a Unix socket may ask for cleartext. The service
//! manager's socket must therefore not be open to anybody beyond that address, whatever its unit says.

use std::{net::IpAddr, os::fd::OwnedFd};

use super::StartError;
use crate::{
    config::SocketConfig,
    error::ConfigError,
    sys::inherited,
    transport::{Address, Listener, UnixOptions},
};

/// The sockets that were inherited and not taken yet.
pub(super) struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// All that the service manager passed on.
    ///
    /// # Errors
    /// It promises what is no open socket.
    pub(super) fn all() -> Result<Self, StartError> {
        inherited::sockets().map(Self).map_err(StartError::Inherited)
    }

    /// The one of `socket`'s name, if there is one.
    ///
    /// # Errors
    /// It is no listening stream socket, or it is open to more than the configured address is.
    pub(super) fn take(&mut self, socket: &SocketConfig) -> Result<Option<Listener>, StartError> {
        let position = self.0.iter().position(|(given, _)| socket.name.as_ref() == Some(given));
        let Some(position) = position else { return Ok(None) };
        let (name, fd) = self.0.remove(position);
        let listener = Listener::from_fd(fd).map_err(StartError::Inherited)?;
        judge(&name, socket, listener.local_address())?;
        Ok(Some(listener))
    }

    /// Judges the one that was taken by that name again, at the address that it has.
    ///
    /// # Errors
    /// It is open to more than the configured address is.
    pub(super) fn judge(name: &str, socket: &SocketConfig, given: &Address) -> Result<(), ConfigError> {
        judge(name, socket, given)
    }

    /// Sees to it that every one was taken.
    ///
    /// # Errors
    /// One has a name that no socket of the configuration has.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        self.0.first().map_or(Ok(()), |(name, _)| {
            let name = name.escape_debug();
            Err(ConfigError::new(
                "inherited sockets",
                format!("no socket of the configuration has name={name}"),
                format!("add name={name} to the socket that it is for"),
            ))
        })
    }
}

/// Compares an inherited socket's own address with the configured one.
fn judge(name: &str, socket: &SocketConfig, given: &Address) -> Result<(), ConfigError> {
    let (name, meant) = (name.escape_debug(), &socket.address);
    let wider = |why: String, fix: String| Err(ConfigError::new(format!("socket {name}"), why, fix));
    if !covers(meant, given) {
        let why = format!("it is configured as {meant}, and the service manager opened {given}");
        return wider(why, format!("write the same address in the .socket unit, or configure {given}"));
    }
    match given {
        Address::Unix(path) => match rustix::fs::stat(path) {
            Ok(file) if is_wider(&file, &socket.unix) => wider(
                format!("its file lets in more than mode={:o} with its owner and group", socket.unix.mode),
                "set SocketMode=, SocketUser= and SocketGroup= in the .socket unit, or mode=, owner= and group= here"
                    .to_owned(),
            ),
            Ok(_) => Ok(()),
            Err(error) => wider(format!("its file cannot be judged: {error}"), "start its unit again".to_owned()),
        },
        _ => Ok(()),
    }
}

/// Whether nobody reaches `given` whom `meant` would have kept away.
///
/// Any path stands for any other: who may open the file is judged by its mode. A name stands for one
/// address that is not known here, so never for all of them.
fn covers(meant: &Address, given: &Address) -> bool {
    let literal = |host: &str| {
        host.split('%').next().and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical())
    };
    match (meant, given) {
        (Address::Unix(_), Address::Unix(_)) | (Address::Abstract(_), Address::Abstract(_)) => true,
        (Address::Tcp { host: meant, .. }, Address::Tcp { host: given, .. }) => {
            match (literal(meant), literal(given)) {
                (Some(meant), Some(given)) => meant.is_unspecified() || given.is_loopback() || meant == given,
                (None, Some(given)) => !given.is_unspecified(),
                (_, None) => false,
            }
        }
        _ => false,
    }
}

/// Whether a socket's file can be opened by somebody whom these options would have kept out.
#[allow(clippy::useless_conversion, reason = "the width of a mode differs between systems")]
fn is_wider(file: &rustix::fs::Stat, meant: &UnixOptions) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let opens = |bit: u32| u32::from(file.st_mode) & bit != 0;
    let owner = file.st_uid != 0 && file.st_uid != meant.owner.unwrap_or(own);
    let group = file.st_gid != meant.group.unwrap_or_else(|| rustix::process::getegid().as_raw());
    (opens(0o222) && u32::from(file.st_mode) & 0o222 & !meant.mode != 0)
        || (opens(0o200) && owner)
        // The group is somebody else's: its members get in, unless everybody may.
        || (opens(0o020) && group && meant.mode & 0o002 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;

    fn tcp(host: &str) -> Address {
        Address::Tcp { host: host.into(), port: 80 }
    }

    #[test]
    fn s_067_an_inherited_socket_never_has_more_neighbours_than_the_configured_address() {
        for (meant, given) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "::1"),
            ("0.0.0.0", "::"),
            ("::", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "127.0.0.1"),
            ("192.0.2.1", "::ffff:192.0.2.1"),
            ("gate.example.org", "192.0.2.1"),
        ] {
            assert!(covers(&tcp(meant), &tcp(given)), "{meant} {given}");
        }
        for (meant, given) in [
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "::"),
            ("127.0.0.1", "::ffff:0.0.0.0"),
            ("::1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.2"),
            ("192.0.2.1", "0.0.0.0"),
            ("gate.example.org", "0.0.0.0"),
            ("gate.example.org", "::"),
        ] {
            assert!(!covers(&tcp(meant), &tcp(given)), "{meant} {given}");
        }
        let (path, named) = (Address::Unix("/run/x".into()), Address::Abstract("x".into()));
        assert!(covers(&path, &path) && covers(&named, &named));
        for (meant, given) in [(&path, &tcp("127.0.0.1")), (&tcp("0.0.0.0"), &path), (&path, &named)] {
            assert!(!covers(meant, given), "{meant} {given}");
        }
    }

    #[test]
    fn s_067_an_inherited_file_is_never_open_to_more_than_its_configured_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _socket = UnixListener::bind(&path).unwrap();
        let file = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            rustix::fs::stat(&path).unwrap()
        };
        let meant = |mode| UnixOptions { mode, ..UnixOptions::default() };
        for (meant_mode, mode) in
            [(0o600, 0o600), (0o660, 0o600), (0o660, 0o660), (0o666, 0o666), (0o600, 0o400)]
        {
            assert!(!is_wider(&file(mode), &meant(meant_mode)), "{meant_mode:o} {mode:o}");
        }
        for (meant_mode, mode) in [(0o600, 0o666), (0o600, 0o660), (0o660, 0o666), (0o600, 0o602)] {
            assert!(is_wider(&file(mode), &meant(meant_mode)), "{meant_mode:o} {mode:o}");
        }
        let another = UnixOptions { mode: 0o660, group: Some(54_321), ..UnixOptions::default() };
        assert!(is_wider(&file(0o660), &another));
        let owned = UnixOptions { mode: 0o600, owner: Some(54_321), ..UnixOptions::default() };
        assert_eq!(is_wider(&file(0o600), &owned), !rustix::process::geteuid().is_root());
    }
}
