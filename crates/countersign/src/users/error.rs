//! What can go wrong with a table of users.

use std::{fmt, path::PathBuf};

use crate::{Username, sys::files::FileFault};

/// An operation on a table of users that was not done. Reads `what: why`; see [`UserError::fix`].
///
/// It repeats no secret, and of a query nothing but what SQLite says about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum UserError {
    /// The file is absent, or others can get at it.
    File(FileFault),
    /// There is something where a table was to be created.
    Exists(PathBuf),
    /// The file is no table of users of this program.
    NotATable(PathBuf),
    /// A query of the configuration cannot be used.
    Query {
        /// Which option.
        option: &'static str,
        /// Why.
        why: String,
    },
    /// The table has no such user.
    Unknown(Username),
    /// The table has that user already.
    Taken(Username),
    /// A name, id or option that is not accepted.
    Column {
        /// Which column.
        column: &'static str,
        /// Why.
        why: String,
    },
    /// The password is empty, which would be no password at all (S-32).
    EmptyPassword,
    /// The database is locked, damaged, or has no space.
    Database(String),
    /// The system gives no random bytes for a salt.
    NoRandomness,
}

impl UserError {
    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::File(fault) => fault.fix(),
            Self::Exists(_) => "choose another path, or remove what is there".to_owned(),
            Self::NotATable(_) => {
                "create one with `countersign users init` and read the old one with `countersign users import`".to_owned()
            }
            Self::Query { option, .. } if *option == "sessions-query" => {
                "write a SELECT with two `?`: the user name and the password".to_owned()
            }
            Self::Query { .. } => "write a SELECT with one `?`: the user name".to_owned(),
            Self::Unknown(_) => "see `countersign users list` for the names".to_owned(),
            Self::Taken(_) => "change it with `countersign users passwd`, or remove it first".to_owned(),
            Self::Column { column, .. } => format!("give another {column}"),
            Self::EmptyPassword => "give a password of at least one character".to_owned(),
            Self::Database(_) => "look at the file, its directory and the space left, then try again".to_owned(),
            Self::NoRandomness => "look at the system's random device".to_owned(),
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(fault) => fault.fmt(f),
            Self::Exists(path) => write!(f, "{}: it exists", path.display()),
            Self::NotATable(path) => write!(f, "{}: it is no table of users of countersign", path.display()),
            Self::Query { option, why } => write!(f, "{option}: {why}"),
            Self::Unknown(name) => write!(f, "user {name:?}: there is none of that name"),
            Self::Taken(name) => write!(f, "user {name:?}: there is one of that name already"),
            Self::Column { column, why } => write!(f, "{column}: {why}"),
            Self::EmptyPassword => f.write_str("password: it is empty"),
            Self::Database(why) => write!(f, "database: {why}"),
            Self::NoRandomness => f.write_str("password: the system gives no random bytes"),
        }
    }
}

impl std::error::Error for UserError {}

impl From<FileFault> for UserError {
    fn from(fault: FileFault) -> Self {
        Self::File(fault)
    }
}

impl From<rusqlite::Error> for UserError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(message(&error))
    }
}

/// What SQLite says, without the text of the statement, which is an option's value (S-88).
pub(super) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(code, None) => code.to_string(),
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
