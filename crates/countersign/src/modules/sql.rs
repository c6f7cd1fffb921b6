//! `sql`: the accounts of a PostgreSQL or MariaDB server, by the rules of `sqlite`.

use std::{path::Path, time::Duration};

use super::{Context, Module, OptionSpec, Options, secret_file};
use crate::{
    ConfigError, Refusal, Username, Verifier,
    users::{
        database::Queries,
        remote::{Driver, MariaDb, PostgreSql, Privacy, Remote},
        source::{Account, Accounts, verifier},
    },
};

pub(super) struct Sql;

impl Module for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["mysql"]
    }

    fn summary(&self) -> &'static str {
        "the accounts of a PostgreSQL or MariaDB server"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It reads a table like the one of `sqlite`, Xpra's or ours, and everything that `countersign modules show \
         sqlite` says of rows, verifiers, cleartext and closed accounts holds here. Queries of your own have the \
         server's places for values: $1 and $2 for PostgreSQL, `?` for MariaDB and MySQL. They run on connections \
         that may only read. MariaDB takes ALICE for alice, so its query has to give the column username too; the \
         identity is always the row's spelling.\n\n\
         The address is postgres://USER@HOST:PORT/DATABASE or mysql://USER@HOST:PORT/DATABASE. A Unix socket is named \
         by ?host=/run/postgresql or ?socket=/run/mysqld/mysqld.sock. The password is best kept in password-file. A \
         server on another machine has to show a certificate for its name, from the authorities of the system or \
         of ca, which are trusted beside the public ones. Any other mode of TLS (sslmode=, ssl-mode=) needs \
         insecure=yes there.\n\n\
         Up to eight connections are kept. A server that was restarted is found again without a login being \
         refused; one that is gone or slow refuses after timeout and holds up only those who wait for it."
    }

    fn example(&self) -> &'static str {
        "sql(uri=postgres://gateway@db.example.com/accounts, password-file=/etc/countersign/db-password)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let uri = options.required("uri")?;
        let password = options.take("password-file")?;
        let password = password.map(|path| secret_file::password_in(Path::new(path.as_str()))).transpose();
        let password = password.map_err(|(why, fix)| options.error("password-file", why, fix))?;
        let ca = options.take("ca")?.map(|path| path.as_str().into());
        let privacy = Privacy { ca, insecure: options.flag("insecure", false)? };
        let cleartext = options.flag("cleartext", false)?;
        let mut query = |name| options.take(name).map(|query| query.map(|query| query.to_string()));
        let queries = Queries { password: query("password-query")?, sessions: query("sessions-query")? };
        judge_places(options, &queries)?;
        let timeout = options.duration("timeout", TIMEOUT)?;
        if timeout.is_zero() || timeout > LONGEST {
            return Err(options.error("timeout", "a check must end", "write a time of up to a minute"));
        }
        let scheme = uri.split("://").next().unwrap_or_default().to_ascii_lowercase();
        let told =
            |fault: crate::users::remote::AddressFault| options.error(fault.option, fault.why, fault.fix);
        match (options.module().to_ascii_lowercase().as_str(), scheme.as_str()) {
            (_, "mysql" | "mariadb") => {
                let server = MariaDb::new(&uri, password.as_ref(), &privacy).map_err(told)?;
                Ok(verifier(Remote::new(server, queries, timeout), cleartext))
            }
            ("sql", "postgres" | "postgresql") => {
                let server = PostgreSql::new(&uri, password.as_ref(), &privacy, timeout).map_err(told)?;
                Ok(verifier(Remote::new(server, queries, timeout), cleartext))
            }
            ("mysql", _) => {
                Err(options.error("uri", "it is no address of MariaDB", "write mysql://, or sql(uri=...)"))
            }
            (_, "sqlite") => Err(options.error("uri", "it is a file", "write sqlite(filename=FILE)")),
            _ => Err(options.error(
                "uri",
                "it is no address of a database",
                "write postgres://... or mysql://...",
            )),
        }
    }
}

impl<D: Driver> Accounts for Remote<D> {
    fn find(&self, name: &Username) -> Result<Vec<Account>, Refusal> {
        Account::from_rows(self.rows(name.as_str()))
    }
}

/// Nothing but the server knows whether a query is good. That one without a place for the name would
/// find everybody can be seen without it.
fn judge_places(options: &Options, queries: &Queries) -> Result<(), ConfigError> {
    for (option, query) in [("password-query", &queries.password), ("sessions-query", &queries.sessions)] {
        if query.as_ref().is_some_and(|query| !query.contains("$1") && !query.contains('?')) {
            let fix = "write $1 (PostgreSQL) or ? (MariaDB) where the user name belongs";
            return Err(options.error(option, "it has no place for the user name", fix));
        }
    }
    Ok(())
}

/// Below the 8 seconds after which some clients give up.
const TIMEOUT: Duration = Duration::from_secs(7);

const LONGEST: Duration = Duration::from_secs(60);

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "uri",
        "URI",
        "",
        "the database, postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE",
    ),
    OptionSpec::new("password-file", "FILE", "", "the password for the database, on one line"),
    OptionSpec::new("ca", "FILE", "", "authorities that vouch for the server, in place of the system's"),
    OptionSpec::new("password-query", "SQL", "", "the SELECT that gives the password of a name"),
    OptionSpec::new("sessions-query", "SQL", "", "the SELECT that gives the sessions of a name and password"),
    OptionSpec::new(
        "cleartext",
        "yes|no",
        "no",
        "let the client send the password itself, over a private wire",
    ),
    OptionSpec::new(
        "insecure",
        "yes|no",
        "no",
        "let others read what a server elsewhere is asked, and answer",
    ),
    OptionSpec::new("timeout", "TIME", "7s", "how long all questions of a login may take"),
];

#[cfg(test)]
mod tests;
