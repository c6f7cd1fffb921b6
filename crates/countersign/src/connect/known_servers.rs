//! The servers that were accepted at first contact, by the fingerprint of their public key (S-43).
//!
//! A text file of lines `ADDRESS FINGERPRINT`, with `#` before comments, readable and writable by
//! its owner alone. A line is only ever added here; taking one out is a person's decision.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::error::{Cause, ConnectError};
use crate::{sys::files, transport::tls::Fingerprint};

/// Where accepted servers are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownServers {
    path: PathBuf,
}

impl KnownServers {
    /// The file at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The user's own file: `$XDG_STATE_HOME/countersign/known_servers`.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn of_user() -> Result<Self, ConnectError> {
        use etcetera::{BaseStrategy as _, base_strategy::Xdg};
        let folders = Xdg::new().map_err(|_| {
            ConnectError::new(Cause::System, "known servers", "there is no home directory to keep them in")
                .with_fix("set HOME, or name a file with --known-servers")
        })?;
        let state = folders.state_dir().unwrap_or_else(|| folders.home_dir().join(".local/state"));
        Ok(Self::at(state.join("countersign/known_servers")))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fingerprint that `server` had when it was accepted; `None` if it never was.
    ///
    /// # Errors
    /// The file cannot be read, others can write it, or a line in it cannot be understood: an
    /// unclear file never makes a known server unknown.
    pub fn find(&self, server: &str) -> Result<Option<Fingerprint>, ConnectError> {
        // The last line counts, so that a line added by hand replaces an older one.
        let lines = self.lines()?;
        let last = lines.iter().rev().find(|(address, _)| address == server);
        Ok(last.map(|(_, fingerprint)| *fingerprint))
    }

    /// Whether any server has this fingerprint.
    ///
    /// # Errors
    /// As [`KnownServers::find`].
    pub(super) fn any_has(&self, fingerprint: &Fingerprint) -> Result<bool, ConnectError> {
        Ok(self.lines()?.iter().any(|(_, found)| found == fingerprint))
    }

    fn lines(&self) -> Result<Vec<(String, Fingerprint)>, ConnectError> {
        let text = self.read()?;
        let mut found = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line.rsplit_once(' ').and_then(|(address, fingerprint)| {
                Some((address.trim_end().to_owned(), fingerprint.strip_prefix(PREFIX)?.parse().ok()?))
            });
            found.push(parsed.ok_or_else(|| {
                let why = format!("line {} is not ADDRESS {PREFIX}HEX", number + 1);
                self.error(why).with_fix("mend the line or take it out")
            })?);
        }
        Ok(found)
    }

    /// Remembers that `server` has this fingerprint.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(&self, server: &str, fingerprint: &Fingerprint) -> Result<(), ConnectError> {
        let failed = |error: io::Error| self.error(format!("it cannot be written: {error}"));
        let separator = if self.read()?.ends_with('\n') || !self.path.exists() { "" } else { "\n" };
        files::create_private_directory(files::directory_of(&self.path)).map_err(failed)?;
        let mut file = files::append_private(&self.path).map_err(failed)?;
        // One write, so that lines of two clients do not mix.
        file.write_all(format!("{separator}{server} {PREFIX}{fingerprint}\n").as_bytes()).map_err(failed)
    }

    /// The content; nothing if there is no file.
    fn read(&self) -> Result<String, ConnectError> {
        if matches!(self.path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return Ok(String::new());
        }
        let file = files::open_private(&self.path, false).map_err(|fault| {
            ConnectError::new(Cause::System, format!("known servers: {}", self.path.display()), fault.why())
                .with_fix(fault.fix())
        })?;
        let mut text = String::new();
        file.take(MOST_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| self.error(format!("it cannot be read: {error}")))?;
        Ok(text)
    }

    fn error(&self, why: String) -> ConnectError {
        ConnectError::new(Cause::System, format!("known servers: {}", self.path.display()), why)
    }
}

/// Before the hexadecimal digits, to say what they are.
pub(super) const PREFIX: &str = "sha256:";

/// Some ten thousand servers.
const MOST_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place() -> (tempfile::TempDir, KnownServers) {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownServers::at(folder.path().join("state/countersign/known_servers"));
        (folder, known)
    }

    #[test]
    fn s_043_what_was_accepted_is_found_again_in_a_file_of_ones_own() {
        let (_folder, known) = place();
        let (one, two) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        assert_eq!(known.find("tls://a:443").unwrap(), None);
        known.remember("tls://a:443", &one).unwrap();
        known.remember("tls://b:443", &two).unwrap();
        assert_eq!(known.find("tls://a:443").unwrap(), Some(one));
        assert_eq!(known.find("tls://b:443").unwrap(), Some(two));
        assert_eq!(known.find("tls://a:4430").unwrap(), None);
        known.remember("tls+unix:/run/app.sock", &one).unwrap();
        assert_eq!(known.find("tls+unix:/run/app.sock").unwrap(), Some(one));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(known.path()), mode(known.path().parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn s_043_a_file_that_is_unclear_or_others_can_write_stops_everything() {
        let (_folder, known) = place();
        known.remember("tls://a:443", &Fingerprint([1; 32])).unwrap();
        let good = std::fs::read_to_string(known.path()).unwrap();
        for bad in ["tls://a:443", "tls://a:443 1234", "tls://a:443 sha256:1234", "\u{fffd}x"] {
            std::fs::write(known.path(), format!("# mine\n\n{good}{bad}\n")).unwrap();
            let error = known.find("tls://a:443").unwrap_err();
            assert!(error.to_string().contains("line 4"), "{error}");
        }
        std::fs::write(known.path(), good.trim_end()).unwrap();
        known.remember("tls://b:443", &Fingerprint([2; 32])).unwrap();
        assert!(known.find("tls://a:443").unwrap().is_some() && known.find("tls://b:443").unwrap().is_some());
        std::fs::set_permissions(known.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(known.find("tls://a:443").unwrap_err().fix().unwrap().starts_with("chmod 600"));
    }
}
