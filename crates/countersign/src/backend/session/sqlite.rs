//! `sqlite`: the displays of a user in a table of users, Xpra's or ours.

use super::{
    super::BackendError,
    Found, Kind, Owner, Router,
    directory::{Directories, SOCKET_DIRS_OPTION},
    table,
};
use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
    users::database::{Database, Queries},
};

pub(super) const SQLITE: Kind = Kind { name: "sqlite", options: OPTIONS, configure };

struct Sqlite {
    database: Database,
    directories: Directories,
}

impl Router for Sqlite {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let rows = self.database.rows(owner.name.as_str());
        let rows = rows.map_err(|error| BackendError::unavailable(format!("sqlite: {error}")))?;
        table::found(rows, owner, &self.directories)
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let path = options.path("filename")?;
    let insecure = options.flag("insecure", false)?;
    let query = options.take("query")?.map(|query| query.to_string());
    let directories = Directories::take(options, false)?;
    let queries = Queries { password: query, sessions: None };
    let database = Database::new(path, insecure, queries).map_err(|error| {
        let fix = error.fix();
        options.error("filename", error.to_string(), fix)
    })?;
    Ok(Box::new(Sqlite { database, directories }))
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the database"),
    OptionSpec::new(
        "query",
        "SQL",
        "",
        "in place of Xpra's table: gives username, uid and displays for the name in ?",
    ),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
    SOCKET_DIRS_OPTION,
];
