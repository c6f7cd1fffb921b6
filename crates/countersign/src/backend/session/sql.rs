//! `sql`: the displays of a user in a table of a PostgreSQL or MariaDB server.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    super::BackendError,
    Found, Kind, Owner, Router,
    directory::{Directories, SOCKET_DIRS_OPTION},
    table,
};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    sys::files::open_private,
    users::{
        UserError,
        database::Queries,
        remote::{AddressFault, MariaDb, PostgreSql, Privacy, Remote},
        row::Row,
    },
};

pub(super) const SQL: Kind = Kind { name: "sql", options: OPTIONS, configure };

/// The rows of a name, from whichever server.
type Rows = Box<dyn Fn(&str) -> Result<Vec<Row>, UserError> + Send + Sync>;

struct Sql {
    rows: Rows,
    directories: Directories,
}

impl Router for Sql {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let rows = (self.rows)(owner.name.as_str());
        let rows = rows.map_err(|error| BackendError::unavailable(format!("sql: {error}")))?;
        table::found(rows, owner, &self.directories)
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let uri = options.required("uri")?;
    let password = options.take("password-file")?.map(|path| password_in(options, Path::new(path.as_str())));
    let password = password.transpose()?;
    let ca = options.take("ca")?.map(|path| PathBuf::from(path.as_str()));
    let privacy = Privacy { ca, insecure: options.flag("insecure", false)? };
    let query = options.take("query")?.map(|query| query.to_string());
    if query.as_ref().is_some_and(|query| !query.contains("$1") && !query.contains('?')) {
        let fix = "write $1 (PostgreSQL) or ? (MariaDB) where the user name belongs";
        return Err(options.error("query", "it has no place for the user name", fix));
    }
    let directories = Directories::take(options, false)?;
    let queries = Queries { password: query, sessions: None };
    let told = |fault: AddressFault| options.error(fault.option, fault.why, fault.fix);
    let rows: Rows = match uri.split("://").next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "mysql" | "mariadb" => {
            let server = MariaDb::new(&uri, password.as_ref(), &privacy).map_err(told)?;
            let remote = Remote::new(server, queries, TIMEOUT);
            Box::new(move |name| remote.rows(name))
        }
        "postgres" | "postgresql" => {
            let server = PostgreSql::new(&uri, password.as_ref(), &privacy, TIMEOUT).map_err(told)?;
            let remote = Remote::new(server, queries, TIMEOUT);
            Box::new(move |name| remote.rows(name))
        }
        _ => {
            let fix = "write postgres://... or mysql://...";
            return Err(options.error("uri", "it is no address of a database server", fix));
        }
    };
    Ok(Box::new(Sql { rows, directories }))
}

/// The password of the database, in the only line of a file that nobody else reads.
fn password_in(options: &Options, path: &Path) -> Result<Secret, ConfigError> {
    let wrong = |why: String, fix: String| options.error("password-file", why, fix);
    let file = open_private(path, false).map_err(|fault| wrong(fault.to_string(), fault.fix()))?;
    let mut content = Zeroizing::new(Vec::new());
    let read = file.take(MOST_LINE).read_to_end(&mut content);
    let line = content.strip_suffix(b"\n").unwrap_or(&content);
    if read.is_err() || line.is_empty() || line.contains(&b'\n') || content.len() as u64 == MOST_LINE {
        return Err(wrong(
            "it holds no password of one line".to_owned(),
            "write the password into it".to_owned(),
        ));
    }
    Ok(Secret::new(line))
}

/// Below the time in which a session has to be open.
const TIMEOUT: Duration = Duration::from_secs(4);

const MOST_LINE: u64 = 4096;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("uri", "URI", "", "postgres://USER@HOST/DATABASE or mysql://USER@HOST/DATABASE"),
    OptionSpec::new("password-file", "FILE", "", "a file whose only line is the password of the database"),
    OptionSpec::new("ca", "FILE", "", "authorities of the server's certificate, beside those of the system"),
    OptionSpec::new(
        "insecure",
        "yes|no",
        "no",
        "take a server on another machine as the address says, without TLS too",
    ),
    OptionSpec::new(
        "query",
        "SQL",
        "",
        "in place of Xpra's table: gives username, uid and displays for the name in $1 or ?",
    ),
    SOCKET_DIRS_OPTION,
];
