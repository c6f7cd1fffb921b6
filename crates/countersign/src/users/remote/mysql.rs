//! MariaDB and MySQL.

use std::str::FromStr as _;

use futures_util::TryStreamExt as _;
use sqlx::{
    Column as _, ConnectOptions as _, Executor as _, Row as _, SqlStr, TypeInfo as _, ValueRef as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode},
};

use super::{Answer, Driver, Fault, Privacy, privacy};
use crate::Secret;

/// Where a MariaDB or MySQL server is.
pub(crate) struct MariaDb {
    options: MySqlConnectOptions,
}

impl MariaDb {
    /// The server at `uri`, with a password that is not in it.
    ///
    /// # Errors
    /// What is wrong, and what to do about it. Nothing of the address is repeated.
    pub(crate) fn new(
        uri: &str,
        password: Option<&Secret>,
        privacy: &Privacy,
    ) -> Result<Self, privacy::Fault> {
        let keys = privacy::parameters(uri, KNOWN)?;
        let mut options = MySqlConnectOptions::from_str(uri).map_err(|_| privacy::no_address(EXAMPLE))?;
        if options.get_database().is_none() {
            return Err(privacy::no_database(EXAMPLE));
        }
        if let Some(password) = password {
            options = options.password(privacy::text(password)?);
        }
        let socket = options.get_socket().is_some();
        let said = keys.contains(&"ssl-mode").then(|| options.get_ssl_mode());
        let verified = said.map(|mode| matches!(mode, MySqlSslMode::VerifyIdentity));
        let authorities = privacy.judge(socket, options.get_host(), verified)?;
        if verified.is_none() {
            options = options.ssl_mode(match authorities {
                Some(_) => MySqlSslMode::VerifyIdentity,
                None if socket => MySqlSslMode::Disabled,
                None => MySqlSslMode::Preferred,
            });
        }
        if let Some(pem) = authorities.filter(|_| !keys.contains(&"ssl-ca")) {
            options = options.ssl_ca_from_pem(pem);
        }
        Ok(Self { options: options.statement_cache_capacity(0).disable_statement_logging() })
    }
}

impl Driver for MariaDb {
    type Connection = MySqlConnection;

    const PASSWORD_QUERY: &'static str = "SELECT * FROM users WHERE username = ?";
    const SESSIONS_QUERY: &'static str = "SELECT uid, gid, displays, env_options, session_options FROM users \
                                          WHERE username = ? AND password = ?";
    /// Without case, accents and blanks at the end, unless the column says otherwise.
    const COMPARES_LOOSELY: bool = true;

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
        Ok(connection)
    }

    async fn ask(
        connection: &mut MySqlConnection,
        query: SqlStr,
        values: &[Option<&str>],
    ) -> Result<Answer, Fault> {
        let mut question = sqlx::query(query).persistent(false);
        for value in values {
            question = question.bind(*value);
        }
        // The library counts the places itself; PostgreSQL leaves that to the server.
        let fault = |error| match &error {
            sqlx::Error::Protocol(why) if why.starts_with("prepared statement expected") => {
                Fault::Answer(format!("it takes another number of values than {}", values.len()))
            }
            _ => Fault::Server(error),
        };
        let mut rows = question.fetch(connection);
        let mut answer = Answer::default();
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            let read = (0..row.len()).map(|index| value(&row, index)).collect::<Result<_, _>>()?;
            answer.push(row.columns().iter().map(|column| column.name()), read)?;
        }
        Ok(answer)
    }
}

/// A value as the secret it is: numbers by their digits, NULL and nothing as none (W18, S-32).
fn value(row: &MySqlRow, index: usize) -> Result<Option<Secret>, Fault> {
    let raw = row.try_get_raw(index).map_err(Fault::Server)?;
    if raw.is_null() {
        return Ok(None);
    }
    let kind = raw.type_info().name().to_owned();
    let bytes = match kind.as_str() {
        "VARCHAR" | "CHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" => {
            row.try_get_unchecked::<String, _>(index).map(String::into_bytes)
        }
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
            row.try_get_unchecked::<Vec<u8>, _>(index)
        }
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            row.try_get_unchecked::<i64, _>(index).map(|value| value.to_string().into_bytes())
        }
        unsigned if unsigned.ends_with("UNSIGNED") => {
            row.try_get_unchecked::<u64, _>(index).map(|value| value.to_string().into_bytes())
        }
        _ => return Err(Fault::Answer(format!("a column is of the type {kind}: cast it to char"))),
    };
    let bytes = bytes.map_err(Fault::Server)?;
    Ok((!bytes.is_empty()).then(|| Secret::new(bytes)))
}

const EXAMPLE: &str = "mysql://USER@HOST/DATABASE";

/// What may stand behind the `?` of an address.
const KNOWN: &[&str] = &["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];
