//! The store in one SQLite file, `STATE_DIR/state.db`.
//!
//! A change is one transaction in a write-ahead log that is synced before it counts (`synchronous =
//! FULL`), so that a kill at any moment leaves the state before or after it (S-50). The file is held
//! exclusively.
//!
//! `twofold` keeps two of them. Damage never empties one (S-53): each row carries a checksum, the number of
//! rows is kept beside them, and a second file, made when the store was, says that there must be one. `rows`
//! holds what rows mean and how damage to one is seen, `place` how files come and go; this file holds the
//! steps and the life of a store.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};
mod place;
mod rows;

pub(super) use place::{remove, set_aside};

use place::appear;
use rows::{
    DECIDES, TELLS, read_entry, read_invitation, read_known, read_passphrase, write_entry, write_invitation,
    write_passphrase,
};

use super::{
    TrustError, durable,
    entry::Entry,
    guesses::Guess,
    store::{Admission, Applied, Change, Contents, Known, Store},
};
use crate::{sys::files, transport::tls::Fingerprint};

/// A [`Store`] in a file.
#[derive(Debug)]
pub(super) struct SqliteStore {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the store in `directory`, made now if there was none ever.
    ///
    /// # Errors
    /// [`TrustError`]; nothing is made in place of a store that is missing or damaged.
    pub(super) fn open(directory: &Path) -> Result<Self, TrustError> {
        durable::private_directory(directory).map_err(TrustError::Exposed)?;
        let (path, marker) = (directory.join(FILE), directory.join(MARKER));
        let io = |error: std::io::Error| TrustError::Io { path: path.clone(), why: error.to_string() };
        let marked = marker.try_exists().map_err(io)?;
        if !path.try_exists().map_err(io)? {
            if marked {
                return Err(TrustError::Missing(path));
            }
            create(&path)?;
        }
        // Only where it is missing: on a full disk not even a try has room, and is no reason not to start.
        if !marked {
            durable::create(&marker, MARKER_TEXT, 0o600).map_err(io)?;
        }
        Self::at(path)
    }

    /// Opens a store that is there.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub(super) fn at(path: PathBuf) -> Result<Self, TrustError> {
        files::open_private(&path, false).map_err(|fault| {
            let what = format!("trust store {}", path.display());
            TrustError::Exposed(crate::ConfigError::new(what, fault.why(), fault.fix()))
        })?;
        let connection = connect(&path).map_err(|error| fault(&path, &error))?;
        let store = Self { connection: Mutex::new(connection), path };
        store.check_form()?;
        // What came to the tables after the first release is made where it is missing.
        store.looking(|connection| connection.execute_batch(LATER))?;
        store.looking(note_first)?;
        Ok(store)
    }

    /// Whether there is a store, or the mark of one, or a directory that we may not look into.
    pub(super) fn is_in(directory: &Path) -> bool {
        [FILE, MARKER].iter().any(|name| directory.join(name).try_exists().unwrap_or(true))
    }

    /// Forgets that there ever was a store, so that the next [`SqliteStore::open`] makes one.
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub(super) fn unmark(directory: &Path) -> Result<(), TrustError> {
        let marker = directory.join(MARKER);
        match std::fs::remove_file(&marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TrustError::Io { path: marker, why: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Writes all there is to another file, which appears whole or not at all, in place of what is there.
    ///
    /// # Errors
    /// There is no space for it, or this store is damaged.
    pub(super) fn write_to(&self, path: &Path) -> Result<(), TrustError> {
        appear(path, |unfinished| {
            // A name that is not UTF-8 would be another name.
            let unfinished = unfinished.to_str().ok_or(rusqlite::Error::InvalidPath(unfinished.into()))?;
            self.connection.lock().execute("VACUUM INTO ?1", [unfinished]).map(drop)
        })
    }

    /// How many changes were ever made in it: of two that were one, that with more has what the other lacks.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub(super) fn changes(&self) -> Result<i64, TrustError> {
        self.looking(|connection| connection.query_row("SELECT made FROM changes", [], |row| row.get(0)))
    }

    /// Every mark, for a store that takes the place of this one.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub(super) fn marks(&self) -> Result<Vec<(String, i64)>, TrustError> {
        self.looking(|connection| {
            rows_of(connection, "SELECT key, height FROM marks", |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }

    /// Makes a change, and between the moment when it can be made and that when it is, does `first`. What that
    /// fails with leaves the store as it was.
    ///
    /// # Errors
    /// As [`Store::apply`], and those of `first`.
    pub(super) fn apply_after(
        &self,
        change: &Change<'_>,
        first: impl FnOnce() -> Result<(), TrustError>,
    ) -> Result<Applied, TrustError> {
        let failed = |error: rusqlite::Error| fault(&self.path, &error);
        let mut connection = self.connection.lock();
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let applied = make(&step, change).map_err(failed)?;
        match applied {
            Applied::Made => {
                step.execute("UPDATE changes SET made = made + 1", []).map_err(failed)?;
                first()?;
                step.commit().map_err(failed)?;
            }
            Applied::Overtaken => step.rollback().map_err(failed)?,
        }
        Ok(applied)
    }

    fn check_form(&self) -> Result<(), TrustError> {
        let connection = self.connection.lock();
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) = (pragma("application_id"), pragma("user_version"));
        match (application.map_err(|error| fault(&self.path, &error))?, version) {
            (APPLICATION, Ok(VERSION)) => Ok(()),
            (APPLICATION, Ok(version)) if version > VERSION => {
                Err(TrustError::TooNew { path: self.path.clone(), version })
            }
            _ => Err(self.damaged("it is no trust store")),
        }
    }

    fn damaged(&self, why: impl Into<String>) -> TrustError {
        TrustError::Damaged { path: self.path.clone(), why: why.into() }
    }

    pub(super) fn looking<T>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, TrustError> {
        look(&self.connection.lock()).map_err(|error| fault(&self.path, &error))
    }

    /// Reads these columns of every certificate, and says how many there were.
    fn rows(
        &self,
        columns: &str,
        mut read: impl FnMut(&Row<'_>) -> Result<(), String>,
    ) -> Result<usize, TrustError> {
        let connection = self.connection.lock();
        let failed = |error: rusqlite::Error| fault(&self.path, &error);
        let mut statement =
            connection.prepare(&format!("SELECT {columns} FROM certificates")).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            read(row).map_err(|why| self.damaged(format!("row {}: {why}", count + 1)))?;
            count += 1;
        }
        Ok(count)
    }

    fn contents(&self, connection: &Connection) -> Result<(Contents, i64), rusqlite::Error> {
        let (initialised, rows) =
            connection.query_row("SELECT initialised, certificates FROM meta", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let passphrase = connection.query_row("SELECT * FROM passphrase", [], read_passphrase).optional()?;
        let contents = Contents {
            initialised,
            passphrase,
            invitations: rows_of(connection, "SELECT * FROM invitations ORDER BY made", read_invitation)?,
            guesses: rows_of(connection, "SELECT key, until FROM guesses", |row| {
                Ok(Guess { key: row.get(0)?, until: row.get(1)? })
            })?,
        };
        Ok((contents, rows))
    }
}

impl Store for SqliteStore {
    fn count(&self) -> Result<usize, TrustError> {
        self.looking(|connection| {
            connection.query_row("SELECT certificates FROM meta", [], |row| row.get::<_, u32>(0))
        })
        .map(|count| count as usize)
    }

    fn load(&self, each: &mut dyn FnMut(Known)) -> Result<Contents, TrustError> {
        let read = self.rows(DECIDES, |row| read_known(row).map(&mut *each))?;
        let (contents, written) = self.looking(|connection| self.contents(connection))?;
        if i64::try_from(read).ok() != Some(written) {
            return Err(self.damaged(format!("{read} certificates are left of {written}")));
        }
        Ok(contents)
    }

    fn entries(&self) -> Result<Vec<Entry>, TrustError> {
        let mut entries = Vec::new();
        self.rows(&format!("{DECIDES}, {TELLS}"), |row| {
            entries.push(read_entry(row)?);
            Ok(())
        })?;
        Ok(entries)
    }

    fn entry(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, TrustError> {
        let sql = format!("SELECT {DECIDES}, {TELLS} FROM certificates WHERE fingerprint = ?1");
        let found = self.looking(|connection| {
            connection.query_row(&sql, [fingerprint.0], |row| Ok(read_entry(row))).optional()
        })?;
        found.transpose().map_err(|why| self.damaged(why))
    }

    fn first(&self) -> Result<Option<Entry>, TrustError> {
        let sql = "SELECT fingerprint FROM first WHERE fingerprint IS NOT NULL";
        let first = self.looking(|connection| connection.query_row(sql, [], |row| row.get(0)).optional())?;
        first.map_or(Ok(None), |fingerprint| self.entry(&Fingerprint(fingerprint)))
    }

    fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>, TrustError> {
        let sql = "SELECT der FROM documents WHERE fingerprint = ?1";
        self.looking(|connection| connection.query_row(sql, [fingerprint.0], |row| row.get(0)).optional())
    }

    fn mark(&self, key: &str) -> Result<Option<i64>, TrustError> {
        let sql = "SELECT height FROM marks WHERE key = ?1";
        self.looking(|connection| connection.query_row(sql, [key], |row| row.get(0)).optional())
    }

    fn apply(&self, change: &Change<'_>) -> Result<Applied, TrustError> {
        self.apply_after(change, || Ok(()))
    }
}

fn make(step: &Transaction<'_>, change: &Change<'_>) -> Result<Applied, rusqlite::Error> {
    let changed = match change {
        Change::Admit { entry, certificate, by } => {
            if !use_up(step, entry, by)? {
                return Ok(Applied::Overtaken);
            }
            accept(step, entry, certificate)?
        }
        Change::AdmitAll(many) => {
            for (entry, certificate) in *many {
                accept(step, entry, certificate)?;
            }
            1
        }
        Change::Amend(entry) => match exists(step, &entry.fingerprint)? {
            true => write_entry(step, entry)?,
            false => 0,
        },
        Change::Forget(fingerprint) => {
            step.execute("DELETE FROM documents WHERE fingerprint = ?1", [fingerprint.0])?;
            let gone = step.execute("DELETE FROM certificates WHERE fingerprint = ?1", [fingerprint.0])?;
            // Where nothing is gone, nothing of this step stays.
            step.execute("UPDATE meta SET certificates = certificates - 1", [])?;
            // The place stays taken, and nobody else is said to have taken it.
            step.execute("UPDATE first SET fingerprint = NULL WHERE fingerprint = ?1", [fingerprint.0])?;
            gone
        }
        Change::SetPassphrase(passphrase) => {
            step.execute("DELETE FROM passphrase", [])?;
            match passphrase {
                Some(passphrase) => write_passphrase(step, passphrase)?,
                None => 1,
            }
        }
        Change::Invite(invitation) => write_invitation(step, invitation)?,
        Change::Withdraw(id) => step.execute("DELETE FROM invitations WHERE id = ?1", [id])?,
        Change::Seen(seen) => {
            let mut note =
                step.prepare_cached("UPDATE certificates SET last_seen = ?2 WHERE fingerprint = ?1")?;
            for (fingerprint, at) in *seen {
                note.execute(params![fingerprint.0, at])?;
            }
            1
        }
        Change::Guessed(guesses) => {
            let mut note =
                step.prepare_cached("INSERT OR REPLACE INTO guesses (key, until) VALUES (?1, ?2)")?;
            for guess in *guesses {
                note.execute(params![guess.key, guess.until])?;
            }
            let keep = "DELETE FROM guesses WHERE until < (SELECT max(until) FROM guesses) - 86400";
            step.execute(keep, [])?;
            1
        }
        Change::Raise { key, to } => step.execute(
            "INSERT INTO marks (key, height) VALUES (?1, ?2) \
             ON CONFLICT (key) DO UPDATE SET height = excluded.height WHERE height < excluded.height",
            params![key, to],
        )?,
        Change::Reset => {
            for table in ["certificates", "documents", "passphrase", "invitations", "guesses", "first"] {
                step.execute(&format!("DELETE FROM {table}"), [])?;
            }
            step.execute("UPDATE meta SET initialised = 0, certificates = 0", [])?
        }
    };
    Ok(if changed == 0 { Applied::Overtaken } else { Applied::Made })
}

/// Whether what an admission needs is there; it is used up by asking.
fn use_up(step: &Transaction<'_>, entry: &Entry, by: &Admission<'_>) -> Result<bool, rusqlite::Error> {
    let changed = match by {
        Admission::Owner => 1,
        Admission::First => step.execute("UPDATE meta SET initialised = 1 WHERE initialised = 0", [])?,
        Admission::Passphrase { revision } => step.execute(
            "UPDATE passphrase SET uses = uses - 1 WHERE revision = ?1 AND (uses IS NULL OR uses > 0)",
            [revision],
        )?,
        Admission::Invitation { id } => step.execute(
            "UPDATE invitations SET spent = ?2, spent_by = ?3 WHERE id = ?1 AND spent IS NULL",
            params![id, entry.added, entry.fingerprint.0],
        )?,
        Admission::Renewal { of } => step.query_row(
            "SELECT count(*) FROM certificates WHERE fingerprint = ?1 AND revoked IS NULL",
            [of.0],
            |row| row.get::<_, u32>(0).map(|count| count as usize),
        )?,
    };
    Ok(changed > 0)
}

fn accept(step: &Transaction<'_>, entry: &Entry, certificate: &[u8]) -> Result<usize, rusqlite::Error> {
    let is_new = !exists(step, &entry.fingerprint)?;
    write_entry(step, entry)?;
    step.prepare_cached("INSERT OR REPLACE INTO documents (fingerprint, der) VALUES (?1, ?2)")?
        .execute(params![entry.fingerprint.0, certificate])?;
    step.prepare_cached("INSERT OR IGNORE INTO first (place, fingerprint) VALUES (1, ?1)")?
        .execute([entry.fingerprint.0])?;
    step.prepare_cached("UPDATE meta SET initialised = 1, certificates = certificates + ?1")?
        .execute([is_new])
}

/// Notes who was first in a store of an earlier version, which did not: the oldest entry that there is.
fn note_first(connection: &Connection) -> Result<(), rusqlite::Error> {
    let noted: u32 = connection.query_row("SELECT count(*) FROM first", [], |row| row.get(0))?;
    if noted == 0 {
        let oldest = "INSERT INTO first SELECT 1, fingerprint FROM certificates ORDER BY added LIMIT 1";
        connection.execute(oldest, [])?;
    }
    Ok(())
}

fn exists(step: &Transaction<'_>, fingerprint: &Fingerprint) -> Result<bool, rusqlite::Error> {
    step.prepare_cached("SELECT 1 FROM certificates WHERE fingerprint = ?1")?.exists([fingerprint.0])
}

fn rows_of<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> Result<T, rusqlite::Error>,
) -> Result<Vec<T>, rusqlite::Error> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

/// Makes an empty store that appears whole or not at all.
fn create(path: &Path) -> Result<(), TrustError> {
    appear(path, |unfinished| {
        let connection = Connection::open(unfinished)?;
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        connection.close().map_err(|(_, error)| error)
    })
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    // Exclusive first: then the log needs no shared memory, and no second program gets in between.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What is removed is overwritten, so that a forgotten verifier does not stay in the file (S-92).
    connection.pragma_update(None, "secure_delete", true)?;
    // A cell that points outside its page is damage, and not followed.
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// What SQLite says, as what it means for the store.
fn fault(path: &Path, error: &rusqlite::Error) -> TrustError {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    let (path, why) = (path.to_owned(), super::message(error));
    match error.sqlite_error_code() {
        Some(
            CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | PermissionDenied | ReadOnly
            | SystemIoFailure,
        ) => TrustError::Io { path, why },
        _ => TrustError::Damaged { path, why },
    }
}

/// Its file in the state directory.
pub(super) const FILE: &str = "state.db";

/// Says that there was a store.
const MARKER: &str = "state.made";

const MARKER_TEXT: &[u8] =
    b"state.db was made here. Without it the gateway does not start: accepted clients would be forgotten.\n";

/// `SQLite` files of this kind: the bytes `cosi`.
const APPLICATION: i64 = 0x636f_7369;

/// The form of the tables below.
const VERSION: i64 = 1;

/// Certificates are read at every start, their documents only to be shown: they are apart.
const SCHEMA: &str = "
BEGIN;
CREATE TABLE meta (initialised INTEGER NOT NULL, certificates INTEGER NOT NULL);
INSERT INTO meta VALUES (0, 0);
CREATE TABLE certificates (
    fingerprint BLOB PRIMARY KEY, name TEXT NOT NULL, last_seen INTEGER, expires INTEGER, scope TEXT,
    revoked INTEGER, replaces BLOB, checksum INTEGER NOT NULL, way TEXT NOT NULL, by TEXT NOT NULL, uid INTEGER,
    added INTEGER NOT NULL, revoked_why TEXT
) WITHOUT ROWID;
CREATE TABLE documents (fingerprint BLOB PRIMARY KEY, der BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE passphrase (
    revision INTEGER PRIMARY KEY, verifier TEXT NOT NULL, expires INTEGER, uses INTEGER, at INTEGER NOT NULL,
    by TEXT NOT NULL
);
CREATE TABLE invitations (
    id TEXT PRIMARY KEY, hash BLOB NOT NULL, name TEXT NOT NULL, scope TEXT, expires INTEGER NOT NULL,
    entry_expires INTEGER, made INTEGER NOT NULL, by TEXT NOT NULL, spent INTEGER, spent_by BLOB
);
CREATE TABLE guesses (key TEXT PRIMARY KEY, until INTEGER NOT NULL);
COMMIT;
";

/// Made at every opening, in stores of earlier versions too. It changes nothing that those read.
/// `first` has one row once there was an entry, which tells and decides nothing; `changes` counts them.
const LATER: &str = "
CREATE TABLE IF NOT EXISTS marks (key TEXT PRIMARY KEY, height INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS first (place INTEGER PRIMARY KEY CHECK (place = 1), fingerprint BLOB) STRICT;
CREATE TABLE IF NOT EXISTS changes (one INTEGER PRIMARY KEY CHECK (one = 1), made INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO changes VALUES (1, 0);
";

#[cfg(test)]
mod tests;
