//! Reading accounts from SQLite: our own tables, Xpra's as they are, and any that a query can read.
//!
//! Every look opens the file read-only (S-73): another program may write to it or replace it at any
//! time, and a look that waits for its lock holds up nobody else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Statement, ffi::SQLITE_READONLY_ROLLBACK, types::ValueRef};

use super::{
    columns::{self, Columns},
    error::{UserError, message},
    row::Row,
};
use crate::{
    Secret,
    sys::files::{directory_of, open_private},
};

/// A database of accounts and the queries that read it, all found good at start.
pub(crate) struct Database {
    path: PathBuf,
    insecure: bool,
    password_query: String,
    sessions: Sessions,
}

/// Where the columns of the session come from.
enum Sessions {
    /// The row that holds the password.
    SameRow,
    /// A query of its own, with the name and the password.
    Query(String),
    /// Nowhere: the table has none.
    Nowhere,
}

/// How a [`Database`] is read; `None` is Xpra's own table.
#[derive(Default)]
pub(crate) struct Queries {
    pub(crate) password: Option<String>,
    pub(crate) sessions: Option<String>,
}

impl Database {
    /// Opens the file once and judges the queries against it.
    ///
    /// # Errors
    /// The file is absent or open to others; a query does not fit, or takes another number of
    /// parameters than one (the name) or two (the name and the password).
    pub(crate) fn new(path: PathBuf, insecure: bool, queries: Queries) -> Result<Self, UserError> {
        let connection = open_read_only(&path, insecure)?;
        let password_query = queries.password.unwrap_or_else(|| PASSWORD_QUERY.to_owned());
        let prepared = prepare(&connection, "password-query", &password_query, 1)?;
        let sessions = match queries.sessions {
            Some(query) => {
                prepare(&connection, "sessions-query", &query, 2)?;
                Sessions::Query(query)
            }
            None if prepared.column_index("uid").is_ok() => Sessions::SameRow,
            None if prepare(&connection, "sessions-query", SESSIONS_QUERY, 2).is_ok() => {
                Sessions::Query(SESSIONS_QUERY.to_owned())
            }
            None => Sessions::Nowhere,
        };
        Ok(Self { path, insecure, password_query, sessions })
    }

    /// The rows of that name, in the order of the database. A row without a name of its own gets
    /// the one that was asked for.
    ///
    /// # Errors
    /// The file is gone, locked for longer than [`BUSY`], or has changed its columns.
    pub(crate) fn rows(&self, name: &str) -> Result<Vec<Row>, UserError> {
        let connection = open_read_only(&self.path, self.insecure)?;
        let mut statement = prepare(&connection, "password-query", &self.password_query, 1)?;
        let mut rows = read_rows(&mut statement, [name])?;
        for row in &mut rows {
            if row.username.is_empty() {
                name.clone_into(&mut row.username);
            }
            if let Sessions::Query(query) = &self.sessions {
                add_session(&connection, query, name, row)?;
            }
        }
        Ok(rows)
    }
}

/// Every row of a table of users, Xpra's or ours.
pub(super) fn all_rows(connection: &Connection) -> Result<Vec<Row>, UserError> {
    read_rows(&mut connection.prepare("SELECT * FROM users ORDER BY username")?, [])
}

/// The first row of that name in a table of users.
pub(super) fn row_of(connection: &Connection, name: &str) -> Result<Option<Row>, UserError> {
    Ok(read_rows(&mut connection.prepare(PASSWORD_QUERY)?, [name])?.into_iter().next())
}

/// Opens a database that only we may read, for reading.
///
/// A program that was killed while it wrote leaves a journal, by which its change has to be taken back before anybody
/// reads (S-97). SQLite does that when the file is opened for writing, so it is, once.
pub(super) fn open_read_only(path: &Path, insecure: bool) -> Result<Connection, UserError> {
    let look = |connection: &Connection| {
        connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
    };
    let connection = open(path, insecure, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match look(&connection) {
        Err(rusqlite::Error::SqliteFailure(code, _)) if code.extended_code == SQLITE_READONLY_ROLLBACK => {
            look(&open(path, insecure, OpenFlags::SQLITE_OPEN_READ_WRITE)?)?;
            open(path, insecure, OpenFlags::SQLITE_OPEN_READ_ONLY)
        }
        _ => Ok(connection),
    }
}

/// Opens a database that only we may read. It must exist: SQLite never creates it here.
pub(super) fn open(path: &Path, insecure: bool, access: OpenFlags) -> Result<Connection, UserError> {
    // SQLite opens by path, so the descriptor that is judged is not the one it uses; but the
    // directory is judged too, and in it nobody else can exchange the file in between.
    open_private(path, insecure)?;
    // SQLite's own rule against links holds for the whole path, where ours holds for the last component.
    let directory =
        directory_of(path).canonicalize().map_err(|error| UserError::Database(error.to_string()))?;
    let path = path.file_name().map_or_else(|| directory.clone(), |name| directory.join(name));
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Prepares a query that reads and takes `parameters` positional parameters.
fn prepare<'c>(
    connection: &'c Connection,
    option: &'static str,
    query: &str,
    parameters: usize,
) -> Result<Statement<'c>, UserError> {
    let fault = |why| UserError::Query { option, why };
    let statement = connection.prepare(query).map_err(|error| match &error {
        // All but SQLITE_ERROR is about the file, and no other query would help.
        rusqlite::Error::SqliteFailure(code, _) if code.code != rusqlite::ErrorCode::Unknown => error.into(),
        _ => fault(message(&error)),
    })?;
    let positional = (1..=statement.parameter_count())
        .all(|index| statement.parameter_name(index).is_none_or(|name| name.starts_with('?')));
    if statement.parameter_count() != parameters || !positional {
        return Err(fault(format!(
            "it takes {} parameters, where {parameters} positional are given",
            statement.parameter_count()
        )));
    }
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(fault("it is no query that reads".to_owned()));
    }
    Ok(statement)
}

/// Runs a query and reads the columns that it has.
fn read_rows(
    statement: &mut Statement<'_>,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Row>, UserError> {
    let names: Vec<&str> = statement.column_names().collect();
    let columns = Columns::of(&names);
    let mut found = Vec::new();
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        found.push(columns.row(|index| row.get_ref(index).map(secret))?);
    }
    Ok(found)
}

/// Fills in the columns that a sessions query gives for the row.
fn add_session(connection: &Connection, query: &str, name: &str, row: &mut Row) -> Result<(), UserError> {
    let mut statement = prepare(connection, "sessions-query", query, 2)?;
    let columns = statement.column_count();
    let password = row.password_text();
    let mut rows = statement.query((name, password.as_deref()))?;
    if let Some(found) = rows.next()? {
        columns::add_session(row, columns, |index| found.get_ref(index).map(secret))?;
    }
    Ok(())
}

/// A value as the secret it is: numbers by their digits, NULL and nothing as none (W18, S-32).
fn secret(value: ValueRef<'_>) -> Option<Secret> {
    let bytes = match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => format!("{number:?}").into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    };
    (!bytes.is_empty()).then(|| Secret::new(bytes))
}

/// How long a look waits for another program's lock (S-73).
const BUSY: Duration = Duration::from_secs(2);

const PASSWORD_QUERY: &str = "SELECT * FROM users WHERE username = ?";

const SESSIONS_QUERY: &str = "SELECT uid, gid, displays, env_options, session_options FROM users \
                              WHERE username = ? AND password = ?";
