//! Where the state is, and the socket by which its owner reaches the gateway.
//!
//! Both the gateway and the owner's commands read it, so that they meet at the same place.

use std::path::PathBuf;

use super::{Layers, Paths, one};
use crate::{error::ConfigError, transport::HAS_UNIX_SOCKETS};

/// The state directory and the control socket of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatePlace {
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// Whether somebody wrote that down; it is the usual one otherwise.
    pub written: bool,
    /// The control socket; `None` if there is to be none.
    pub control: Option<PathBuf>,
    /// Whether somebody wrote that down.
    pub control_written: bool,
}

impl StatePlace {
    /// Reads both out of what was written.
    ///
    /// # Errors
    /// One of them is empty.
    pub fn read(layers: &Layers, paths: &Paths) -> Result<Self, ConfigError> {
        let path = |key: &str| {
            one(layers, key, |options, key| match options.take(key)? {
                Some(path) if path.is_empty() => Err(options.error(key, "it is empty", "write a path")),
                path => Ok(path.map(|path| PathBuf::from(path.as_str()))),
            })
        };
        let written = path("state-dir")?;
        let control = path("control")?;
        let control_written = control.is_some();
        let control = match control {
            Some(none) if none.as_os_str() == "none" => None,
            Some(path) => Some(path),
            None if !HAS_UNIX_SOCKETS => None,
            // Two gateways with states of their own do not meet at one socket.
            None => Some(
                written.as_ref().or_else(|| paths.control_dir()).unwrap_or(&paths.state_dir).join(SOCKET),
            ),
        };
        let is_written = written.is_some();
        Ok(Self {
            written: is_written,
            state_dir: written.unwrap_or_else(|| paths.state_dir.clone()),
            control,
            control_written,
        })
    }
}

/// The control socket's file.
const SOCKET: &str = "control.sock";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)], paths: &Paths) -> StatePlace {
        let mut layers = Layers::default();
        for (flag, value) in flags {
            layers.flag(flag, value).unwrap();
        }
        StatePlace::read(&layers, paths).unwrap()
    }

    #[test]
    fn the_control_socket_lies_beside_a_written_state_and_in_the_runtime_directory_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(true, "/etc/c", folder.path().join("run"), "/var/lib/c");
        let control = |flags: &[(&str, &str)]| read(flags, &paths).control;
        assert_eq!(control(&[]), Some(folder.path().join("run/control.sock")));
        assert_eq!(control(&[("state-dir", "/srv/s")]), Some("/srv/s/control.sock".into()));
        assert_eq!(control(&[("state-dir", "/srv/s"), ("control", "/x/c")]), Some("/x/c".into()));
        assert_eq!(control(&[("control", "none")]), None);
        assert_eq!(read(&[], &paths).state_dir, PathBuf::from("/var/lib/c"));
        assert!(!read(&[], &paths).written && read(&[("state-dir", "/var/lib/c")], &paths).written);

        let nowhere = Paths::new(true, "/etc/c", "/nonexistent/run/c", "/var/lib/c");
        assert_eq!(read(&[], &nowhere).control, Some("/var/lib/c/control.sock".into()));
        let mut layers = Layers::default();
        layers.flag("control", "").unwrap();
        assert!(StatePlace::read(&layers, &paths).is_err());
    }
}
