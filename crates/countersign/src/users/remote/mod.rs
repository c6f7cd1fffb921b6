//! Reading accounts from a database server: the same tables and queries as from SQLite.
//!
//! | file | holds |
//! |---|---|
//! | `postgres.rs`, `mysql.rs` | how each kind of server is reached, and how its values read |
//! | `pool.rs` | connections that wait for the next login |
//! | `privacy.rs` | what keeps others from reading, and from answering |
//!
//! Nothing is written (S-73): every connection is told to refuse that. One that broke is replaced
//! once within a look, so that a restart of the server is noticed by nobody.

mod mysql;
mod pool;
mod postgres;
mod privacy;

use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

pub(crate) use self::{
    mysql::MariaDb,
    postgres::PostgreSql,
    privacy::{Fault as AddressFault, Privacy},
};

use self::pool::Pool;
use super::{
    columns::{self, Columns},
    database::Queries,
    error::UserError,
    row::Row,
};
use crate::{Secret, sys::waiting};

/// A kind of server, and where one of it is.
pub(crate) trait Driver: Send + Sync + 'static {
    /// A connection that only reads.
    type Connection: Send + 'static;

    /// The rows of a name in a table as Xpra has it, and the sessions of a name and password.
    const PASSWORD_QUERY: &'static str;
    const SESSIONS_QUERY: &'static str;

    /// Whether it may take one name for another, so that a row has to say whose it is.
    const COMPARES_LOOSELY: bool;

    /// A new connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, sqlx::Error>>;

    /// Runs a query with these values in its places.
    fn ask(
        connection: &mut Self::Connection,
        query: SqlStr,
        values: &[Option<&str>],
    ) -> impl Future<Output = Result<Answer, Fault>>;
}

/// What a query gives, whatever the server.
#[derive(Default)]
pub(crate) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Option<Secret>>>,
}

impl Answer {
    /// Adds a row. `columns` are its names.
    fn push<'n>(
        &mut self,
        columns: impl Iterator<Item = &'n str>,
        row: Vec<Option<Secret>>,
    ) -> Result<(), Fault> {
        if self.rows.is_empty() {
            self.columns = columns.map(str::to_owned).collect();
        }
        if self.rows.len() == MOST_ROWS {
            return Err(Fault::Answer(format!("it gives more than {MOST_ROWS} rows")));
        }
        self.rows.push(row);
        Ok(())
    }
}

/// Why there is no answer.
pub(crate) enum Fault {
    /// The server, or the way to it.
    Server(sqlx::Error),
    /// The answer is none that can be used.
    Answer(String),
}

/// A database of accounts on a server, and the queries that read it.
pub(crate) struct Remote<D: Driver> {
    pool: Pool<D>,
    password_query: SqlStr,
    sessions: Sessions,
    timeout: Duration,
}

/// Where the columns of the session come from.
enum Sessions {
    /// A query of its own.
    Query(SqlStr),
    /// The row that holds the password, or else Xpra's table, if there is one.
    Found(SqlStr),
}

impl<D: Driver> Remote<D> {
    /// A database that is first asked at the first login: it may start later than we do.
    pub(crate) fn new(driver: D, queries: Queries, timeout: Duration) -> Self {
        let safe = |query: String| AssertSqlSafe(query).into_sql_str();
        let password = queries.password.unwrap_or_else(|| D::PASSWORD_QUERY.to_owned());
        let sessions = match queries.sessions {
            Some(query) => Sessions::Query(safe(query)),
            None => Sessions::Found(D::SESSIONS_QUERY.into_sql_str()),
        };
        Self { pool: Pool::new(driver), password_query: safe(password), sessions, timeout }
    }

    /// The rows of that name, in the order of the server. A row without a name of its own gets the one
    /// that was asked for, where the server compares names exactly.
    ///
    /// # Errors
    /// The server is gone, slow, or says no; a query does not fit.
    pub(crate) fn rows(&self, name: &str) -> Result<Vec<Row>, UserError> {
        let late = || UserError::Database(format!("no answer within {:?}", self.timeout));
        waiting::wait(self.timeout, self.look(name))
            .map_err(|error| UserError::Database(error.to_string()))?
            .ok_or_else(late)?
    }

    async fn look(&self, name: &str) -> Result<Vec<Row>, UserError> {
        let answer = self.ask("password-query", &self.password_query, &[Some(name)]).await?;
        let names: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
        let columns = Columns::of(&names);
        let mut rows = Vec::with_capacity(answer.rows.len());
        for mut values in answer.rows {
            let Ok(mut row) = columns.row(|index| Ok::<_, Never>(take(&mut values, index)));
            if row.username.is_empty() {
                if D::COMPARES_LOOSELY {
                    return Err(UserError::Query {
                        option: "password-query",
                        why: "it gives no username, and this server takes one name for another".to_owned(),
                    });
                }
                name.clone_into(&mut row.username);
            }
            self.add_session(name, &mut row, columns.has_uid()).await?;
            rows.push(row);
        }
        Ok(rows)
    }

    async fn add_session(&self, name: &str, row: &mut Row, is_complete: bool) -> Result<(), UserError> {
        let password = row.password_text();
        let values = [Some(name), password.as_deref().map(String::as_str)];
        let answer = match &self.sessions {
            Sessions::Query(query) => self.ask("sessions-query", query, &values).await?,
            Sessions::Found(_) if is_complete => return Ok(()),
            Sessions::Found(query) => match self.pool.ask(query, &values).await {
                Ok(answer) => answer,
                Err(Fault::Server(error)) if is_absent(&error) => return Ok(()),
                Err(fault) => return Err(told("sessions-query", &fault)),
            },
        };
        let count = answer.columns.len();
        if let Some(mut values) = answer.rows.into_iter().next() {
            let Ok(()) = columns::add_session(row, count, |index| Ok::<_, Never>(take(&mut values, index)));
        }
        Ok(())
    }

    async fn ask(
        &self,
        option: &'static str,
        query: &SqlStr,
        values: &[Option<&str>],
    ) -> Result<Answer, UserError> {
        self.pool.ask(query, values).await.map_err(|fault| told(option, &fault))
    }
}

/// An error that there is none of.
type Never = std::convert::Infallible;

fn take(values: &mut [Option<Secret>], index: usize) -> Option<Secret> {
    values.get_mut(index).and_then(Option::take)
}

fn told(option: &'static str, fault: &Fault) -> UserError {
    match fault {
        Fault::Answer(why) => UserError::Query { option, why: why.clone() },
        Fault::Server(error) => match state(error) {
            // Syntax, access rules, a write in a transaction that only reads, the number of values.
            Some(state) if ["42", "25", "07", "08P01", "HY"].iter().any(|class| state.starts_with(class)) => {
                UserError::Query { option, why: message(error) }
            }
            _ => UserError::Database(message(error)),
        },
    }
}

/// What the server says. Not where it may repeat a value: class 22 quotes what it could not read, which
/// may be a password (S-88).
fn message(error: &sqlx::Error) -> String {
    match (error, state(error)) {
        (sqlx::Error::Database(said), Some(state)) if !state.starts_with("22") => {
            format!("{} ({state})", said.message())
        }
        (_, Some(state)) => format!("the server answers with SQLSTATE {state}"),
        (sqlx::Error::Io(error), _) => error.to_string(),
        (sqlx::Error::Tls(error), _) => format!("TLS: {error}"),
        (other, None) => other.to_string(),
    }
}

fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// Whether a table or a column does not exist, or is not ours to read.
fn is_absent(error: &sqlx::Error) -> bool {
    state(error).is_some_and(|state| state.starts_with("42"))
}

/// More rows than any name has.
const MOST_ROWS: usize = 100;
