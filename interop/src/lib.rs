//! The harness of the tests in `tests/`: real programs started on loopback, each with a deadline.
//!
//! One test file per real program. Every process is started in its own process group and ends with the value that
//! holds it; every wait is for an event, never for a fixed time; every port is chosen by the system. The tests pass
//! side by side, twice in a row, as root and as a plain user (what needs root says so and is left out).

#![forbid(unsafe_code)]

pub mod account;
pub mod browser;
pub mod certificate;
pub mod dialogue;
pub mod doors;
pub mod faults;
pub mod fido;
pub mod gateway;
pub mod grid;
pub mod grpc;
pub mod haproxy;
pub mod inside;
pub mod issuer;
pub mod kdc;
pub mod mariadb;
pub mod modules;
pub mod net;
pub mod nginx;
pub mod onlooker;
pub mod pam;
pub mod postgres;
pub mod process;
pub mod rpc;
pub mod sasl;
pub mod slapd;
pub mod ssh;
pub mod sshd;
pub mod timing;
pub mod wire;
pub mod xpra;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

/// How long anything may take before a test gives up on it. Generous: a loaded machine is not a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of one test, removed with the value.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Makes an empty folder, 0700.
    #[must_use]
    pub fn new() -> Self {
        // A short prefix: a socket path holds 107 bytes.
        Self { dir: tempfile::Builder::new().prefix("cs").tempdir().expect("a temporary folder") }
    }

    /// The path of `name` inside the folder; nothing is created.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text, for command lines.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a temporary path is UTF-8").to_owned()
    }

    /// Writes a file that only its owner reads and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.file_with_mode(name, content, 0o600)
    }

    /// Writes a file with the given permissions and returns its path.
    pub fn file_with_mode(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file in the test's own folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions of an own file");
        self.text(name)
    }

    /// Lets other accounts reach what lies in the folder, as far as its own permissions allow.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755))
            .expect("permissions of an own folder");
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}
