//! `multifile`: the displays of a user in a text file of Xpra's format.

use std::{io::Read, path::PathBuf};

use super::{
    super::BackendError,
    Found, Kind, Owner, Router,
    directory::{Directories, SOCKET_DIRS_OPTION},
    table,
};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    sys::files::open_private,
    users::{multifile, row::Row},
};

pub(super) const MULTIFILE: Kind = Kind { name: "multifile", options: OPTIONS, configure };

struct Multifile {
    path: PathBuf,
    insecure: bool,
    directories: Directories,
}

impl Multifile {
    /// All rows of the file as it is now.
    ///
    /// # Errors
    /// What is wrong with the file, and how to mend it. Lines are named by their numbers (S-79).
    fn rows(&self) -> Result<Vec<Row>, (String, String)> {
        let file =
            open_private(&self.path, self.insecure).map_err(|fault| (fault.to_string(), fault.fix()))?;
        let mut content = zeroize::Zeroizing::new(Vec::new());
        let read = file.take(MAX_BYTES + 1).read_to_end(&mut content);
        let fix = "write at most 65536 bytes of USER|PASSWORD|UID|GID|DISPLAYS lines";
        match read {
            Err(error) => return Err((format!("it cannot be read: {error}"), fix.to_owned())),
            Ok(length) if length as u64 > MAX_BYTES => {
                return Err(("it is too long".to_owned(), fix.to_owned()));
            }
            Ok(_) => {}
        }
        let lines = multifile::parse(&Secret::new(content.as_slice()));
        for (line, why) in lines.malformed {
            tracing::warn!("multifile: line {line} is left out: {why}");
        }
        Ok(lines.rows.into_iter().map(|(_, row)| row).collect())
    }
}

impl Router for Multifile {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let rows = self.rows().map_err(|(why, _)| BackendError::unavailable(format!("multifile: {why}")))?;
        let own = rows.into_iter().filter(|row| row.username == owner.name.as_str()).collect();
        table::found(own, owner, &self.directories)
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let router = Multifile {
        path: options.path("filename")?,
        insecure: options.flag("insecure", false)?,
        directories: Directories::take(options, false)?,
    };
    router.rows().map_err(|(why, fix)| options.error("filename", why, fix))?;
    Ok(Box::new(router))
}

/// As the module of this name has it (S-79).
const MAX_BYTES: u64 = 65_536;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file with the users and their displays"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
    SOCKET_DIRS_OPTION,
];
