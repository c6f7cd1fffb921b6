//! The store in a file and its copy, `STATE_DIR/state.db` and `state.copy`.
//!
//! [`TrustStore`](super::TrustStore) opens this one. Each change is durable in the copy before it is in the store,
//! and in both before anybody hears of it, so the copy holds all that was ever answered: what is made from it
//! brings no revoked certificate and no spent invitation back (decision 24). A store that is damaged, gone, or
//! older than its copy is put aside and made again from it; that is said as an error in the log.
//!
//! The copy of a store in which nobody was accepted is never taken: only a reset offers the first place (S-53).

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{
    TrustError,
    entry::Entry,
    sqlite::{FILE, SqliteStore, remove, set_aside},
    store::{Applied, Change, Contents, Known, Store},
};
use crate::{
    sys::{clock::now, files},
    transport::tls::Fingerprint,
};

/// A [`Store`] in two files of which each is whole.
#[derive(Debug)]
pub(super) struct Twofold {
    store: SqliteStore,
    /// `None` where there is none that is known to be whole: the next change makes one first.
    copy: Mutex<Option<SqliteStore>>,
    place: PathBuf,
}

impl Twofold {
    /// Opens both. A store that is older than its copy becomes what that is; a copy that is missing, damaged or
    /// older is made anew.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub(super) fn open(directory: &Path) -> Result<Self, TrustError> {
        let place = directory.join(COPY);
        let there = place.try_exists().unwrap_or(true);
        if there && !SqliteStore::is_in(directory) {
            return Err(TrustError::Missing(directory.join(FILE)));
        }
        // What a kill left behind.
        remove(&directory.join(UNDER_WAY))?;
        let mut store = SqliteStore::open(directory)?;
        let made = store.changes()?;
        let mut copy = None;
        if let Some((found, known)) = if there { found(&place)? } else { None } {
            let ahead = known.saturating_sub(made);
            if ahead > 0 && found.load(&mut |_| {}).is_ok() {
                drop(store);
                // One change is what a kill between the two leaves. More were taken away.
                let lost = (ahead > 1).then(|| format!("the last {ahead} changes are missing in it"));
                take(directory, &found, lost.as_deref())?;
                store = SqliteStore::open(directory)?;
                copy = Some(found);
            } else if known == made {
                copy = Some(found);
            }
        }
        let twofold = Self { store, copy: Mutex::new(None), place };
        let copy = copy.map_or_else(|| twofold.make_copy(), Ok);
        // An old one would be worse than none.
        *twofold.copy.lock() = usable(copy.inspect_err(|_| drop(remove(&twofold.place))));
        Ok(twofold)
    }

    /// Makes the store again from its copy, if `damage` is damage and the copy is whole. Says whether it did.
    ///
    /// # Errors
    /// There is no space, or the directory cannot be changed; the next start tries again.
    pub(super) fn restore(directory: &Path, damage: &TrustError) -> Result<bool, TrustError> {
        let why = match damage {
            TrustError::Damaged { why, .. } => format!("it is damaged: {why}"),
            TrustError::Missing(_) => "it is gone".to_owned(),
            _ => return Ok(false),
        };
        match SqliteStore::at(directory.join(COPY)) {
            Ok(copy) if copy.load(&mut |_| {}).is_ok_and(|contents| contents.initialised) => {
                take(directory, &copy, Some(&why))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Puts both aside and makes new ones, in which nobody is accepted and what was used up stays used up, as far as
    /// that can be read (S-76, S-77). Gives the new name of the store; `None` if there was none.
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub(super) fn reset(directory: &Path) -> Result<Option<PathBuf>, TrustError> {
        let marks = [FILE, COPY].into_iter().find_map(|name| {
            let path = Some(directory.join(name)).filter(|path| path.is_file())?;
            SqliteStore::at(path).and_then(|store| store.marks()).ok()
        });
        let now = now();
        let aside = set_aside(&directory.join(FILE), now)?;
        set_aside(&directory.join(COPY), now)?;
        // Last: without it an empty place would be taken for a first start.
        SqliteStore::unmark(directory)?;
        let new = Self::open(directory)?;
        for (key, to) in marks.into_iter().flatten() {
            let _ = new.apply(&Change::Raise { key: &key, to })?;
        }
        Ok(aside)
    }

    /// Makes a copy. One that is there stays until there is another.
    fn make_copy(&self) -> Result<SqliteStore, TrustError> {
        let directory = files::directory_of(&self.place);
        let made = directory.join(UNDER_WAY);
        self.store.write_to(&made)?;
        remove(&self.place)?;
        put(&made, &self.place)?;
        SqliteStore::at(self.place.clone())
    }

    /// Makes a change in both, and says how far it came in the copy.
    fn apply_with(&self, copy: &SqliteStore, change: &Change<'_>) -> (There, Result<Applied, TrustError>) {
        let mut there = There::Untouched;
        let done = self.store.apply_after(change, || {
            let why = match copy.apply(change) {
                Ok(Applied::Made) => {
                    there = There::Made;
                    return Ok(());
                }
                Err(error @ TrustError::Io { .. }) => {
                    there = There::Failed;
                    return Err(error);
                }
                Ok(Applied::Overtaken) => "it differs from the store".to_owned(),
                Err(error) => error.to_string(),
            };
            there = There::Useless;
            Err(TrustError::Damaged { path: self.place.clone(), why })
        });
        (there, done)
    }

    /// Whether a copy may be found by the next start. What is in it counts, so it may hold no change that was refused.
    fn may_stay(&self, copy: &SqliteStore, there: There, done: &Result<Applied, TrustError>) -> bool {
        match (done, there) {
            (Ok(_), _) | (Err(_), There::Untouched) => true,
            // It is the only one that can be read.
            (Err(error), There::Made) => matches!(error, TrustError::Damaged { .. }),
            // What had no room was taken back.
            (Err(_), There::Failed) => copy.changes().ok() == self.store.changes().ok(),
            (Err(_), There::Useless) => false,
        }
    }
}

/// How far a change came in the copy.
#[derive(Clone, Copy)]
enum There {
    Untouched,
    Made,
    Failed,
    /// It is damaged, or no copy of this store.
    Useless,
}

impl Store for Twofold {
    fn count(&self) -> Result<usize, TrustError> {
        self.store.count()
    }

    fn load(&self, each: &mut dyn FnMut(Known)) -> Result<Contents, TrustError> {
        self.store.load(each)
    }

    fn entries(&self) -> Result<Vec<Entry>, TrustError> {
        self.store.entries()
    }

    fn entry(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, TrustError> {
        self.store.entry(fingerprint)
    }

    fn first(&self) -> Result<Option<Entry>, TrustError> {
        self.store.first()
    }

    fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>, TrustError> {
        self.store.certificate(fingerprint)
    }

    fn mark(&self, key: &str) -> Result<Option<i64>, TrustError> {
        self.store.mark(key)
    }

    fn apply(&self, change: &Change<'_>) -> Result<Applied, TrustError> {
        let mut held = self.copy.lock();
        loop {
            let is_fresh = held.is_none();
            let copy = held.take().map_or_else(|| self.make_copy(), Ok)?;
            let (there, done) = self.apply_with(&copy, change);
            if self.may_stay(&copy, there, &done) {
                *held = Some(copy);
                return done;
            }
            drop(copy);
            remove(&self.place)?;
            match (&done, there) {
                (Err(error), There::Useless) if !is_fresh => tracing::error!("{error}: it is made anew"),
                _ => return done,
            }
        }
    }
}

/// Puts the copy's content in place of the store. With a reason, which is said, what was there is kept beside it.
fn take(directory: &Path, copy: &SqliteStore, why: Option<&str>) -> Result<(), TrustError> {
    let (path, made) = (directory.join(FILE), directory.join(UNDER_WAY));
    copy.write_to(&made)?;
    let aside = set_aside(&path, now())?;
    put(&made, &path)?;
    let Some(why) = why else { return aside.map_or(Ok(()), |aside| remove(&aside)) };
    let kept =
        aside.map_or(String::new(), |aside| format!(" What was there is kept as {}.", aside.display()));
    tracing::error!(
        "trust store {}: {why}. It was restored from its copy, which has every change that was answered: nothing is \
         lost.{kept} Look at the disk",
        path.display()
    );
    Ok(())
}

fn put(made: &Path, path: &Path) -> Result<(), TrustError> {
    std::fs::rename(made, path)
        .and_then(|()| files::sync_directory(files::directory_of(path)))
        .map_err(|error| TrustError::Io { path: path.to_owned(), why: error.to_string() })
}

/// The copy and how many changes it has, unless it is damaged.
fn found(place: &Path) -> Result<Option<(SqliteStore, i64)>, TrustError> {
    let found = SqliteStore::at(place.to_owned()).and_then(|copy| copy.changes().map(|made| (copy, made)));
    match found {
        // It may be whole, and nobody knows what is in it.
        Err(error @ TrustError::Io { .. }) => Err(error),
        found => Ok(usable(found)),
    }
}

/// What there is, or nothing, and why.
fn usable<T>(found: Result<T, TrustError>) -> Option<T> {
    found.map_err(|error| tracing::warn!("the copy of the trust store cannot be used: {error}")).ok()
}

/// The copy's file in the state directory.
const COPY: &str = "state.copy";

/// One of the two while it is made from the other.
const UNDER_WAY: &str = "state.half";

#[cfg(test)]
mod tests;
