//! The store in one SQLite file, `STATE_DIR/state.db`.
//!
//! A change is one transaction in a write-ahead log that is synced before it counts (`synchronous =
//! FULL`), so that a kill at any moment leaves the state before or after it (S-50). The file is held
//! exclusively.
//!
//! Damage never empties it (S-53): each row carries a checksum, the number of rows is kept beside
//! them, and a second file, made when the store was, says that there must be one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};
use zeroize::Zeroizing;

use super::{
    TrustError, durable,
    entry::{Entry, Revocation, Scope},
    guesses::Guess,
    invitation::Invitation,
    passphrase::Passphrase,
    store::{Admission, Applied, Change, Contents, Known, Store},
};
use crate::{Username, sys::files, transport::tls::Fingerprint};

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
        if !path.try_exists().map_err(io)? {
            if marker.try_exists().map_err(io)? {
                return Err(TrustError::Missing(path));
            }
            create(&path)?;
        }
        match durable::create(&marker, MARKER_TEXT, 0o600) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        files::open_private(&path, false).map_err(|fault| {
            let what = format!("trust store {}", path.display());
            TrustError::Exposed(crate::ConfigError::new(what, fault.why(), fault.fix()))
        })?;
        let connection = connect(&path).map_err(|error| fault(&path, &error))?;
        let store = Self { connection: Mutex::new(connection), path };
        store.check_form()?;
        Ok(store)
    }

    /// Whether there is a store, or the mark of one, or a directory that we may not look into.
    pub(super) fn is_in(directory: &Path) -> bool {
        [FILE, MARKER].iter().any(|name| directory.join(name).try_exists().unwrap_or(true))
    }

    /// Puts a store that cannot be used aside, and the files that belong to it, so that the next
    /// [`SqliteStore::open`] makes a new one. Gives the new name; `None` if there was none.
    ///
    /// # Errors
    /// The directory cannot be changed.
    pub(super) fn set_aside(directory: &Path, now: i64) -> Result<Option<PathBuf>, TrustError> {
        let path = directory.join(FILE);
        let io = |error: std::io::Error| TrustError::Io { path: path.clone(), why: error.to_string() };
        let aside = directory.join(format!("{FILE}.aside-{now}"));
        let found = path.try_exists().map_err(io)?;
        if found {
            for suffix in ["-wal", "-shm"] {
                let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
                match std::fs::rename(beside(&path), beside(&aside)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
                    _ => {}
                }
            }
            std::fs::rename(&path, &aside).map_err(io)?;
        }
        // Last: without it an empty place would be taken for a first start.
        match std::fs::remove_file(directory.join(MARKER)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(error)),
            _ => Ok(found.then_some(aside)),
        }
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

    fn looking<T>(
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

    fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>, TrustError> {
        let sql = "SELECT der FROM documents WHERE fingerprint = ?1";
        self.looking(|connection| connection.query_row(sql, [fingerprint.0], |row| row.get(0)).optional())
    }

    fn apply(&self, change: &Change<'_>) -> Result<Applied, TrustError> {
        let mut connection = self.connection.lock();
        let mut step = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let applied = make(&transaction, change)?;
            match applied {
                Applied::Made => transaction.commit()?,
                Applied::Overtaken => transaction.rollback()?,
            }
            Ok(applied)
        };
        step().map_err(|error| fault(&self.path, &error))
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
            step.execute("UPDATE meta SET certificates = certificates - ?1", [gone > 0])?;
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
        Change::Reset => {
            for table in ["certificates", "documents", "passphrase", "invitations", "guesses"] {
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
    step.prepare_cached("UPDATE meta SET initialised = 1, certificates = certificates + ?1")?
        .execute([is_new])
}

fn exists(step: &Transaction<'_>, fingerprint: &Fingerprint) -> Result<bool, rusqlite::Error> {
    step.prepare_cached("SELECT 1 FROM certificates WHERE fingerprint = ?1")?.exists([fingerprint.0])
}

fn write_entry(step: &Transaction<'_>, entry: &Entry) -> Result<usize, rusqlite::Error> {
    let scope = scope_text(&entry.scope);
    let mut write = step.prepare_cached(&format!(
        "INSERT OR REPLACE INTO certificates ({DECIDES}, {TELLS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    ))?;
    write.execute(params![
        entry.fingerprint.0,
        entry.name.as_str(),
        entry.last_seen,
        entry.expires,
        scope,
        entry.revoked.as_ref().map(|revoked| revoked.at),
        entry.replaces.map(|fingerprint| fingerprint.0),
        checksum(&Known::from(entry.clone()), scope.as_deref()),
        entry.way.code(),
        entry.by,
        entry.uid,
        entry.added,
        entry.revoked.as_ref().map(|revoked| revoked.why.as_str()),
    ])
}

/// The first columns of a row, or what is wrong with them, in words that a damaged store is refused with.
fn read_known(row: &Row<'_>) -> Result<Known, String> {
    let name = row.get_ref(1).and_then(|value| Ok(value.as_str()?)).map_err(odd)?;
    let scope: Option<&str> = row.get_ref(4).and_then(|value| Ok(value.as_str_or_null()?)).map_err(odd)?;
    let known = Known {
        fingerprint: Fingerprint(row.get(0).map_err(odd)?),
        name: Username::parse(name).map_err(|refusal| refusal.cause.to_string())?,
        last_seen: row.get(2).map_err(odd)?,
        expires: row.get(3).map_err(odd)?,
        scope: match scope {
            None => Scope::default(),
            Some(scope) => serde_json::from_str(scope).map_err(|error| error.to_string())?,
        },
        revoked: row.get::<_, Option<i64>>(5).map_err(odd)?.is_some(),
        replaces: row.get::<_, Option<[u8; 32]>>(6).map_err(odd)?.map(Fingerprint),
    };
    let written: u32 = row.get(7).map_err(odd)?;
    if checksum(&known, scope) == written { Ok(known) } else { Err("it was altered".to_owned()) }
}

fn read_entry(row: &Row<'_>) -> Result<Entry, String> {
    let known = read_known(row)?;
    let text = |index| row.get_ref(index).and_then(|value| Ok(value.as_str()?)).map_err(odd);
    let revoked: Option<i64> = row.get(5).map_err(odd)?;
    Ok(Entry {
        fingerprint: known.fingerprint,
        name: known.name,
        way: text(8)?.parse().map_err(|()| "an unknown way in".to_owned())?,
        by: text(9)?.to_owned(),
        uid: row.get(10).map_err(odd)?,
        added: row.get(11).map_err(odd)?,
        last_seen: known.last_seen,
        expires: known.expires,
        scope: known.scope,
        revoked: match revoked {
            None => None,
            Some(at) => Some(Revocation::new(at, text(12)?)),
        },
        replaces: known.replaces,
    })
}

fn odd(error: rusqlite::Error) -> String {
    super::message(&error)
}

/// Over all that decides. When it was last seen does not.
fn checksum(known: &Known, scope: Option<&str>) -> u32 {
    let Known { fingerprint, name, expires, revoked, replaces, .. } = known;
    let ends = expires.unwrap_or_default().to_le_bytes();
    let marks = [u8::from(expires.is_some()), u8::from(*revoked), u8::from(replaces.is_some())];
    let replaces = replaces.map_or([0; 32], |fingerprint| fingerprint.0);
    // Between two texts there is a byte that neither can hold.
    let parts: [&[u8]; 8] = [
        &fingerprint.0,
        name.as_str().as_bytes(),
        &[0xff],
        scope.unwrap_or_default().as_bytes(),
        &[0xff],
        &ends,
        &marks,
        &replaces,
    ];
    parts.iter().fold(0, |sum, part| if part.is_empty() { sum } else { crc32c::crc32c_append(sum, part) })
}

/// `None` for the scope that nearly all have, so that a million rows are read without a parser.
fn scope_text(scope: &Scope) -> Option<String> {
    (!scope.is_everything()).then(|| serde_json::to_string(scope).unwrap_or_default())
}

fn write_passphrase(step: &Transaction<'_>, passphrase: &Passphrase) -> Result<usize, rusqlite::Error> {
    step.execute(
        "INSERT INTO passphrase (revision, verifier, expires, uses, at, by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            passphrase.revision,
            *passphrase.verifier,
            passphrase.expires,
            passphrase.uses,
            passphrase.set,
            passphrase.by
        ],
    )
}

fn read_passphrase(row: &Row<'_>) -> Result<Passphrase, rusqlite::Error> {
    Ok(Passphrase {
        revision: row.get("revision")?,
        verifier: Zeroizing::new(row.get("verifier")?),
        expires: row.get("expires")?,
        uses: row.get("uses")?,
        set: row.get("at")?,
        by: row.get("by")?,
    })
}

fn write_invitation(step: &Transaction<'_>, invitation: &Invitation) -> Result<usize, rusqlite::Error> {
    step.execute(
        "INSERT OR IGNORE INTO invitations \
         (id, hash, name, scope, expires, entry_expires, made, by, spent, spent_by) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            invitation.id,
            invitation.hash,
            invitation.name.as_str(),
            scope_text(&invitation.scope),
            invitation.expires,
            invitation.entry_expires,
            invitation.made,
            invitation.by,
            invitation.spent,
            invitation.spent_by.map(|fingerprint| fingerprint.0),
        ],
    )
}

fn read_invitation(row: &Row<'_>) -> Result<Invitation, rusqlite::Error> {
    let odd = |column: &str, why: String| {
        rusqlite::Error::InvalidColumnType(0, format!("{column}: {why}"), rusqlite::types::Type::Text)
    };
    let name: String = row.get("name")?;
    let scope: Option<String> = row.get("scope")?;
    let scope = scope.map_or_else(|| Ok(Scope::default()), |text| serde_json::from_str(&text));
    Ok(Invitation {
        id: row.get("id")?,
        hash: row.get("hash")?,
        name: Username::parse(&name).map_err(|refusal| odd("name", refusal.cause.to_string()))?,
        scope: scope.map_err(|error| odd("scope", error.to_string()))?,
        expires: row.get("expires")?,
        entry_expires: row.get("entry_expires")?,
        made: row.get("made")?,
        by: row.get("by")?,
        spent: row.get("spent")?,
        spent_by: row.get::<_, Option<[u8; 32]>>("spent_by")?.map(Fingerprint),
    })
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
    let io = |error: std::io::Error| TrustError::Io { path: path.to_owned(), why: error.to_string() };
    let unfinished = path.with_extension("new");
    // A start that was killed may have left one. Nobody else makes one: the directory is locked.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    files::create_private(&unfinished).map_err(io)?;
    let made = Connection::open(&unfinished).and_then(|connection| {
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        connection.close().map_err(|(_, error)| error)
    });
    made.map_err(|error| fault(path, &error))?;
    std::fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&unfinished, path).map_err(io)?;
    std::fs::File::open(files::directory_of(path)).and_then(|directory| directory.sync_all()).map_err(io)
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

const FILE: &str = "state.db";

/// Says that there was a store.
const MARKER: &str = "state.made";

const MARKER_TEXT: &[u8] =
    b"state.db was made here. Without it the gateway does not start: accepted clients would be forgotten.\n";

/// `SQLite` files of this kind: the bytes `cosi`.
const APPLICATION: i64 = 0x636f_7369;

/// The form of the tables below.
const VERSION: i64 = 1;

/// The columns that a start reads.
const DECIDES: &str = "fingerprint, name, last_seen, expires, scope, revoked, replaces, checksum";

/// Those that only a listing shows.
const TELLS: &str = "way, by, uid, added, revoked_why";

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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::trust::{entry::Way, store::tests::conforms};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn with_one(directory: &Path) {
        let store = SqliteStore::open(directory).unwrap();
        let name = Username::parse("alice-in-the-store").unwrap();
        let entry = Entry::new(Fingerprint([7; 32]), name, Way::FirstUse, "uid 1000", 1);
        let change = Change::Admit { entry: &entry, certificate: b"der", by: Admission::First };
        assert_eq!(store.apply(&change).unwrap(), Applied::Made);
    }

    #[test]
    fn it_is_a_store() {
        let folder = folder();
        conforms(&|| Box::new(SqliteStore::open(folder.path()).unwrap()));
    }

    #[test]
    fn s_061_its_files_are_its_owners_alone() {
        let folder = folder();
        with_one(folder.path());
        let store = SqliteStore::open(folder.path()).unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
        }
        drop(store);
        fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
        let error = SqliteStore::open(folder.path()).unwrap_err();
        assert!(error.fix().starts_with("chmod 600"), "{error}");
    }

    #[test]
    fn s_053_a_store_that_is_gone_cut_altered_foreign_or_too_new_is_never_an_empty_one() {
        type Damage = (&'static str, fn(&Path));
        let damage: [Damage; 6] = [
            ("gone", |path| fs::remove_file(path).unwrap()),
            ("empty", |path| fs::write(path, b"").unwrap()),
            ("cut", |path| {
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("altered", |path| {
                let mut bytes = fs::read(path).unwrap();
                let name = b"alice-in-the-store";
                let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
                bytes[at] = b'm';
                fs::write(path, bytes).unwrap();
            }),
            ("foreign", |path| fs::write(path, b"SQLite format 3 it is not").unwrap()),
            ("too new", |path| {
                let connection = Connection::open(path).unwrap();
                connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
            }),
        ];
        for (what, damage) in damage {
            let folder = folder();
            with_one(folder.path());
            damage(&folder.path().join(FILE));
            for _ in 0..2 {
                let opened = SqliteStore::open(folder.path());
                let error = match opened {
                    Ok(store) => store.load(&mut |_| {}).expect_err(what),
                    Err(error) => error,
                };
                assert!(!error.fix().is_empty(), "{what}: {error}");
            }
        }
    }

    #[test]
    fn s_053_rows_that_vanish_are_missed() {
        let folder = folder();
        with_one(folder.path());
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        connection.execute("DELETE FROM certificates", []).unwrap();
        drop(connection);
        let error = SqliteStore::open(folder.path()).unwrap().load(&mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("0 certificates are left of 1"), "{error}");
    }

    #[test]
    fn s_053_what_was_set_aside_makes_room_for_a_new_one() {
        let folder = folder();
        assert_eq!(SqliteStore::set_aside(folder.path(), 5).unwrap(), None);
        with_one(folder.path());
        fs::write(folder.path().join(FILE), b"broken").unwrap();
        let aside = SqliteStore::set_aside(folder.path(), 5).unwrap().unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"broken");
        let store = SqliteStore::open(folder.path()).unwrap();
        assert!(!store.load(&mut |_| {}).unwrap().initialised);
    }
}
