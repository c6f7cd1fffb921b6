//! Files of stores, and what SQLite keeps beside them: how they appear, go aside and go. Called by `sqlite`
//! and `twofold`.

use std::path::{Path, PathBuf};

use crate::{
    sys::files,
    trust::{TrustError, sqlite::fault},
};

/// Has a store written under another name, and puts it in place when it is whole and on the disk.
pub(super) fn appear(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), rusqlite::Error>,
) -> Result<(), TrustError> {
    let io = |error: std::io::Error| TrustError::Io { path: path.to_owned(), why: error.to_string() };
    let unfinished = path.with_extension("new");
    // A start that was killed may have left one. Nobody else makes one: the directory is locked.
    remove(&unfinished)?;
    files::create_private(&unfinished).map_err(io)?;
    let written = write(&unfinished)
        .map_err(|error| fault(path, &error))
        .and_then(|()| files::open_to_write(&unfinished).and_then(|file| file.sync_all()).map_err(io));
    if written.is_err() {
        // The error that matters is the first one; on a full disk the space is wanted.
        let _ = remove(&unfinished);
    }
    written?;
    std::fs::rename(&unfinished, path).map_err(io)?;
    files::sync_directory(files::directory_of(path)).map_err(io)
}

/// Removes a store and its log, if there is one.
pub(in crate::trust) fn remove(path: &Path) -> Result<(), TrustError> {
    for suffix in [""].into_iter().chain(LOGS) {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrustError::Io { path: path.to_owned(), why: error.to_string() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts what is at this place aside, with the log that belongs to it. Gives the new name; `None` if
/// there was no store.
///
/// # Errors
/// The directory cannot be changed.
pub(in crate::trust) fn set_aside(path: &Path, now: i64) -> Result<Option<PathBuf>, TrustError> {
    let aside = beside(path, &format!(".aside-{now}"));
    let moved = |suffix: &str| match std::fs::rename(beside(path, suffix), beside(&aside, suffix)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(TrustError::Io { path: path.to_owned(), why: error.to_string() }),
    };
    // The log last: a store without it looks whole, and is an older one. But it may not stay for the next.
    let found = moved("")?;
    for suffix in LOGS {
        moved(suffix)?;
    }
    Ok(found.then_some(aside))
}

/// What SQLite keeps beside a file: its write-ahead log, and what programs that share it agree by.
const LOGS: [&str; 2] = ["-wal", "-shm"];
