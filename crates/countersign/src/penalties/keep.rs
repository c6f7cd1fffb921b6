//! The file in the state directory that penalties outlive a restart in, and the task that writes it.
//!
//! No login waits for a disk: what changes is written a moment later, by a thread, whole and in place of the old
//! file. A file that cannot be read or written costs the counts of before and is said in the log; the counts in
//! memory go on.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::record::Record;
use crate::{
    error::ConfigError,
    sys::files::open_key,
    trust::durable::{private_directory, replace},
};

/// The file of one state directory.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// Whether the last try to write failed, which is said once.
    failing: AtomicBool,
}

impl Keeper {
    pub(super) fn of(directory: &Path) -> Self {
        Self { path: directory.join(NAME), failing: AtomicBool::new(false) }
    }

    /// What is written there, if anything is. Says what is wrong with it.
    pub(super) fn read(&self) -> Option<Record> {
        if !self.path.exists() {
            return None;
        }
        match self.try_read() {
            Ok(record) => Some(record),
            Err(why) => {
                let path = self.path.display();
                tracing::warn!("penalties file {path}: {why}. Failed logins are counted anew");
                None
            }
        }
    }

    fn try_read(&self) -> Result<Record, String> {
        let file = open_key(&self.path).map_err(|fault| fault.why().into_owned())?;
        let mut text = String::new();
        File::take(file, LARGEST).read_to_string(&mut text).map_err(|error| error.to_string())?;
        Record::parse(&text).ok_or_else(|| "it is damaged, or of a later version".to_owned())
    }

    /// Makes the directory where there is none, so that the log says at the start what cannot be kept.
    pub(super) fn prepare(&self) {
        let made = self.path.parent().map_or(Ok(()), private_directory);
        self.tell(&made);
    }

    /// Writes a record, and says whether that worked. The log hears of it when that changes.
    pub(super) fn write(&self, record: &Record) -> bool {
        let written = self.try_write(record);
        self.tell(&written);
        written.is_ok()
    }

    fn tell(&self, done: &Result<(), ConfigError>) {
        let failed = self.failing.swap(done.is_err(), Ordering::Relaxed);
        match (done, failed) {
            (Err(error), false) => tracing::warn!(
                "penalties are kept in memory alone, and forgotten at the next start: {error}. To mend it: {}",
                error.fix()
            ),
            (Ok(()), true) => tracing::info!("penalties are written down again"),
            _ => {}
        }
    }

    fn try_write(&self, record: &Record) -> Result<(), ConfigError> {
        self.path.parent().map_or(Ok(()), private_directory)?;
        replace(&self.path, record.to_text().as_bytes(), 0o600).map_err(|error| {
            let what = format!("file {}", self.path.display());
            ConfigError::new(
                what,
                error.to_string(),
                "make room, or name a writable directory: --state-dir=PATH",
            )
        })
    }
}

/// The file in the state directory.
const NAME: &str = "penalties";

/// Bytes that are read of it: more than the most that is ever written.
const LARGEST: u64 = 8 * 1024 * 1024;
