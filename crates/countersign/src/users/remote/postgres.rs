//! PostgreSQL.

use std::{str::FromStr as _, time::Duration};

use futures_util::TryStreamExt as _;
use sqlx::{
    Column as _, ConnectOptions as _, Executor as _, Row as _, SqlStr, TypeInfo as _, ValueRef as _,
    postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode},
};

use super::{Answer, Driver, Fault, Privacy, privacy};
use crate::Secret;

/// Where a PostgreSQL server is.
pub(crate) struct PostgreSql {
    options: PgConnectOptions,
    timeout: Duration,
}

impl PostgreSql {
    /// The server at `uri`, with a password that is not in it.
    ///
    /// # Errors
    /// What is wrong, and what to do about it. Nothing of the address is repeated.
    pub(crate) fn new(
        uri: &str,
        password: Option<&Secret>,
        privacy: &Privacy,
        timeout: Duration,
    ) -> Result<Self, privacy::Fault> {
        let keys = privacy::parameters(uri, KNOWN)?;
        let mut options = PgConnectOptions::from_str(uri).map_err(|_| privacy::no_address(EXAMPLE))?;
        if options.get_database().is_none() {
            return Err(privacy::no_database(EXAMPLE));
        }
        if let Some(password) = password {
            options = options.password(privacy::text(password)?);
        }
        let socket = options.get_socket().is_some() || options.get_host().starts_with('/');
        let said = keys.contains(&"sslmode").then(|| options.get_ssl_mode());
        let verified = said.map(|mode| matches!(mode, PgSslMode::VerifyFull));
        let authorities = privacy.judge(socket, options.get_host(), verified)?;
        if verified.is_none() {
            options = options.ssl_mode(match authorities {
                Some(_) => PgSslMode::VerifyFull,
                None if socket => PgSslMode::Disable,
                None => PgSslMode::Prefer,
            });
        }
        if let Some(pem) = authorities.filter(|_| !keys.contains(&"sslrootcert")) {
            options = options.ssl_root_cert_from_pem(pem);
        }
        let options = options.application_name("countersign").statement_cache_capacity(0);
        Ok(Self { options: options.disable_statement_logging(), timeout })
    }
}

impl Driver for PostgreSql {
    type Connection = PgConnection;

    const PASSWORD_QUERY: &'static str = "SELECT * FROM users WHERE username = $1";
    const SESSIONS_QUERY: &'static str = "SELECT uid, gid, displays, env_options, session_options FROM users \
                                          WHERE username = $1 AND password = $2";
    const COMPARES_LOOSELY: bool = false;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").await?;
        // Nobody waits longer for the answer.
        let most = format!("SET statement_timeout = {}", self.timeout.as_millis().max(1));
        connection.execute(sqlx::AssertSqlSafe(most)).await?;
        Ok(connection)
    }

    async fn ask(
        connection: &mut PgConnection,
        query: SqlStr,
        values: &[Option<&str>],
    ) -> Result<Answer, Fault> {
        let mut question = sqlx::query(query).persistent(false);
        for value in values {
            question = question.bind(*value);
        }
        let mut rows = question.fetch(connection);
        let mut answer = Answer::default();
        while let Some(row) = rows.try_next().await.map_err(Fault::Server)? {
            let read = (0..row.len()).map(|index| value(&row, index)).collect::<Result<_, _>>()?;
            answer.push(row.columns().iter().map(|column| column.name()), read)?;
        }
        Ok(answer)
    }
}

/// A value as the secret it is: numbers by their digits, NULL and nothing as none (W18, S-32).
fn value(row: &PgRow, index: usize) -> Result<Option<Secret>, Fault> {
    let raw = row.try_get_raw(index).map_err(Fault::Server)?;
    if raw.is_null() {
        return Ok(None);
    }
    let kind = raw.type_info().name().to_owned();
    let bytes = match kind.to_ascii_uppercase().as_str() {
        "BOOL" => row.try_get::<bool, _>(index).map(|value| value.to_string().into_bytes()),
        "INT2" => row.try_get::<i16, _>(index).map(|value| value.to_string().into_bytes()),
        "INT4" => row.try_get::<i32, _>(index).map(|value| value.to_string().into_bytes()),
        "INT8" => row.try_get::<i64, _>(index).map(|value| value.to_string().into_bytes()),
        "BYTEA" => row.try_get::<Vec<u8>, _>(index),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "CITEXT" => {
            row.try_get_unchecked::<String, _>(index).map(String::into_bytes)
        }
        _ => return Err(Fault::Answer(format!("a column is of the type {kind}: cast it to text"))),
    };
    let bytes = bytes.map_err(Fault::Server)?;
    Ok((!bytes.is_empty()).then(|| Secret::new(bytes)))
}

const EXAMPLE: &str = "postgres://USER@HOST/DATABASE";

/// What may stand behind the `?` of an address.
const KNOWN: &[&str] =
    &["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "dbname", "user"];
