//! The table of users: Xpra's columns, so that its tools can read it, and ours beside them.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, params};
use zeroize::Zeroizing;

use super::{
    UserError,
    database::{all_rows, open, open_read_only, row_of},
    row::{Row, check_environment},
    verifier::Secrets,
};
use crate::{
    Secret, Username,
    sys::{
        accounts,
        files::{check_directory, create_private, directory_of, sync_directory},
    },
};

/// A table of users in a SQLite file that nobody else can read.
///
/// Passwords are kept as verifiers only (S-92). Every change is one transaction.
#[derive(Debug)]
pub struct UserTable {
    pub(super) connection: Connection,
}

/// A user who is to be added.
#[derive(Debug)]
#[non_exhaustive]
pub struct NewUser {
    /// The login name.
    pub name: Username,
    /// User id or account name; `nobody` if there is none.
    pub uid: Option<String>,
    /// Group id or group name; `nogroup` if there is none.
    pub gid: Option<String>,
    /// The displays or addresses of the user's sessions.
    pub displays: Vec<String>,
    /// Environment entries for the user's session.
    pub environment: Vec<(String, String)>,
    /// Options for the user's session.
    pub session_options: Vec<(String, String)>,
    /// When the account ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// Whether to keep what verifies Xpra's digests. Without it the user can log in by SCRAM, and where
    /// the password may travel in the clear (`sqlite(cleartext=yes)`), and a stolen table helps less.
    pub legacy: bool,
}

impl NewUser {
    /// A user with a name, able to log in by Xpra's digests, and nothing else.
    pub fn new(name: Username) -> Self {
        Self {
            name,
            uid: None,
            gid: None,
            displays: Vec::new(),
            environment: Vec::new(),
            session_options: Vec::new(),
            expires: None,
            legacy: true,
        }
    }
}

/// A user as a listing shows it. Never any secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct UserRow {
    /// The login name.
    pub username: String,
    /// User id or account name; `None` means `nobody`.
    pub uid: Option<String>,
    /// Group id or group name; `None` means `nogroup`.
    pub gid: Option<String>,
    /// Whether logins are switched off.
    pub disabled: bool,
    /// When the account ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// Whether there is an Argon2id verifier, for passwords that arrive in the clear.
    pub has_argon2: bool,
    /// Whether there are keys for SCRAM.
    pub has_scram: bool,
    /// Whether there is what verifies Xpra's `hmac+sha512`.
    pub has_legacy: bool,
    /// Whether the password itself is kept, as Xpra's tool writes it.
    pub has_cleartext: bool,
}

/// The answer of [`UserTable::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "each needs its own words and exit code")]
pub enum Standing {
    /// The password is right and the user may log in.
    Passes,
    /// The password is wrong.
    WrongPassword,
    /// The password is right, and the account is disabled or has expired.
    Closed(&'static str),
}

impl UserTable {
    /// Makes a new, empty table. The file has mode 0600 from its first moment, and appears whole or
    /// not at all (S-62).
    ///
    /// # Errors
    /// Something is there already, or the directory is not ours to write to.
    pub fn create(path: &Path) -> Result<Self, UserError> {
        if path.symlink_metadata().is_ok() {
            return Err(UserError::Exists(path.to_owned()));
        }
        check_directory(path)?;
        let unfinished = Unfinished::beside(path)?;
        let connection = open(&unfinished.0, false, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.execute_batch(SCHEMA)?;
        connection.close().map_err(|(_, error)| error)?;
        // A link fails where a rename would replace what somebody else put there in between.
        std::fs::hard_link(&unfinished.0, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => UserError::Exists(path.to_owned()),
            _ => UserError::Database(error.to_string()),
        })?;
        drop(unfinished);
        sync_directory(directory_of(path)).map_err(|error| UserError::Database(error.to_string()))?;
        Self::open(path)
    }

    /// Opens a table to change it.
    ///
    /// # Errors
    /// The file is absent, others can get at it, or it is none of our tables: those of Xpra are
    /// read by the module `sqlite` as they are, and by [`UserTable::import`].
    pub fn open(path: &Path) -> Result<Self, UserError> {
        let connection = open(path, false, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // What is removed is overwritten, so that a forgotten verifier does not stay in the file (S-92).
        connection.pragma_update(None, "secure_delete", true)?;
        Self::over(connection, path)
    }

    /// Opens a table for looking only.
    ///
    /// # Errors
    /// As [`UserTable::open`].
    pub fn open_read_only(path: &Path) -> Result<Self, UserError> {
        Self::over(open_read_only(path, false)?, path)
    }

    fn over(connection: Connection, path: &Path) -> Result<Self, UserError> {
        if connection.prepare("SELECT username, password, verifier, disabled, expires FROM users").is_err() {
            return Err(UserError::NotATable(path.to_owned()));
        }
        Ok(Self { connection })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// The name is taken, the password is empty, or a column holds what the module `sqlite` would
    /// refuse at a login.
    pub fn add(&mut self, user: &NewUser, password: &Secret) -> Result<(), UserError> {
        let verifier = verifier(password, user.legacy)?;
        let row = row(user)?;
        self.insert(&user.name, &row, Some(&verifier))
    }

    /// Removes a user.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove(&mut self, name: &Username) -> Result<(), UserError> {
        self.change(name, "DELETE FROM users WHERE username = ?1", params![name.as_str()])
    }

    /// Gives a user a new password. Every older one, also one in the clear, is forgotten.
    ///
    /// # Errors
    /// There is none of that name, or the password is empty.
    pub fn set_password(
        &mut self,
        name: &Username,
        password: &Secret,
        legacy: bool,
    ) -> Result<(), UserError> {
        let verifier = verifier(password, legacy)?;
        let update = "UPDATE users SET password = NULL, verifier = ?2 WHERE username = ?1";
        self.change(name, update, params![name.as_str(), *verifier])
    }

    /// Switches a user's logins off.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn disable(&mut self, name: &Username) -> Result<(), UserError> {
        self.change(name, "UPDATE users SET disabled = 1 WHERE username = ?1", params![name.as_str()])
    }

    /// Switches a user's logins on again.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn enable(&mut self, name: &Username) -> Result<(), UserError> {
        self.change(name, "UPDATE users SET disabled = 0 WHERE username = ?1", params![name.as_str()])
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self) -> Result<Vec<UserRow>, UserError> {
        Ok(all_rows(&self.connection)?.iter().map(listed).collect())
    }

    /// Judges a password as `sqlite(cleartext=yes)` would.
    ///
    /// # Errors
    /// There is none of that name, or its verifier is damaged.
    pub fn check(&self, name: &Username, password: &Secret) -> Result<Standing, UserError> {
        let row = row_of(&self.connection, name.as_str())?;
        let row = row.ok_or_else(|| UserError::Unknown(name.clone()))?;
        let damaged = |_| UserError::Column { column: "password", why: "its verifier is damaged".to_owned() };
        let right = row.secrets().map_err(damaged)?.verifies(password);
        Ok(match row.closed() {
            _ if !right => Standing::WrongPassword,
            Some(why) => Standing::Closed(why),
            None => Standing::Passes,
        })
    }

    /// Adds a row whose columns were judged.
    pub(super) fn insert(
        &self,
        name: &Username,
        row: &Row,
        verifier: Option<&Zeroizing<String>>,
    ) -> Result<(), UserError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let columns = params![
            name.as_str(),
            some(&row.uid),
            some(&row.gid),
            some(&row.displays),
            some(&row.env_options),
            some(&row.session_options),
            verifier.map(|text| text.as_str()),
            row.disabled,
            row.expires,
        ];
        self.connection.execute(INSERT, columns).map(drop).map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => UserError::Taken(name.clone()),
            _ => error.into(),
        })
    }

    fn change(&self, name: &Username, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), UserError> {
        match self.connection.execute(sql, values)? {
            0 => Err(UserError::Unknown(name.clone())),
            _ => Ok(()),
        }
    }
}

/// A file that is being made, removed if that ends early.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Result<Self, UserError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| UserError::NoRandomness)?;
        let name = format!(".countersign-{:016x}.tmp", u64::from_be_bytes(random));
        let unfinished = directory_of(path).join(name);
        create_private(&unfinished).map_err(|error| UserError::Database(error.to_string()))?;
        Ok(Self(unfinished))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed is an empty table under a name that nothing reads.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The text that is kept for a new password.
fn verifier(password: &Secret, legacy: bool) -> Result<Zeroizing<String>, UserError> {
    if password.is_empty() {
        return Err(UserError::EmptyPassword);
    }
    Secrets::derive(password, legacy).and_then(|secrets| secrets.to_verifier()).ok_or(UserError::NoRandomness)
}

/// The columns of a new user, judged as a login will judge them.
fn row(user: &NewUser) -> Result<Row, UserError> {
    let fault = |column, why: String| UserError::Column { column, why };
    if let Some(uid) = &user.uid {
        accounts::parse_uid(uid).map_err(|unknown| fault("uid", unknown.to_string()))?;
    }
    if let Some(gid) = &user.gid {
        accounts::parse_gid(gid).map_err(|unknown| fault("gid", unknown.to_string()))?;
    }
    if user.displays.iter().any(|display| display.contains([',', '\0'])) {
        return Err(fault("displays", "a display holds a comma".to_owned()));
    }
    check_environment(&user.environment).map_err(|why| fault("env_options", why))?;
    Ok(Row {
        username: user.name.as_str().to_owned(),
        uid: user.uid.clone().unwrap_or_default(),
        gid: user.gid.clone().unwrap_or_default(),
        displays: user.displays.join(","),
        env_options: joined("env_options", &user.environment)?,
        session_options: joined("session_options", &user.session_options)?,
        expires: user.expires,
        ..Row::default()
    })
}

/// The pairs as one column, if they can be read back from it.
fn joined(column: &'static str, pairs: &[(String, String)]) -> Result<String, UserError> {
    let holds = |text: &str, signs: &[char]| text.contains(signs);
    if pairs.iter().any(|(key, value)| key.is_empty() || holds(key, &['=', ';']) || holds(value, &[';'])) {
        return Err(UserError::Column { column, why: "a key or value holds a semicolon".to_owned() });
    }
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Ok(pairs.join(";"))
}

fn listed(row: &Row) -> UserRow {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let [has_argon2, has_scram, has_legacy, has_cleartext] =
        row.secrets().map_or([false; 4], |secrets| secrets.kinds());
    UserRow {
        username: row.username.clone(),
        uid: some(&row.uid),
        gid: some(&row.gid),
        disabled: row.disabled,
        expires: row.expires,
        has_argon2,
        has_scram,
        has_legacy,
        has_cleartext,
    }
}

/// Xpra's columns with its types, then ours.
const SCHEMA: &str = "
    BEGIN;
    CREATE TABLE users (
        username VARCHAR(255) NOT NULL UNIQUE,
        password VARCHAR(255),
        uid VARCHAR(63),
        gid VARCHAR(63),
        displays VARCHAR(8191),
        env_options VARCHAR(8191),
        session_options VARCHAR(8191),
        verifier TEXT,
        disabled INTEGER NOT NULL DEFAULT 0,
        expires INTEGER
    );
    PRAGMA user_version = 1;
    COMMIT;
";

const INSERT: &str = "INSERT INTO users \
    (username, uid, gid, displays, env_options, session_options, verifier, disabled, expires) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

#[cfg(test)]
mod tests;
