//! Every setting as it was written, from files, environment and flags, with where it came from.
//!
//! Nothing is judged here but names: [`super::Config`] turns the texts into values. [`KEYS`] is the
//! one table of names (`keys.rs`); the files, the environment, the flags and `check --effective` share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use zeroize::Zeroizing;

mod keys;

pub use self::keys::{Form, KEYS, Key};

pub(super) use self::keys::find;
use self::keys::{masked_module, masked_socket, near_key};
use super::{backends, file, kind::Kind, spec::masked};
use crate::{error::ConfigError, modules::Registry, needs::place_of};

/// The settings of all layers. A flag wins over the environment, the environment over the files,
/// whatever the order in which they are read.
#[derive(Debug, Default)]
pub struct Layers {
    settings: BTreeMap<&'static str, Vec<Written>>,
    pub(super) backends: BTreeMap<String, Written>,
    pub(super) sockets: Vec<SocketTable>,
}

impl Layers {
    /// Reads the text of a configuration file; of several files, a later one wins, except that
    /// sockets and backends add up.
    ///
    /// # Errors
    /// It is no TOML, or holds an unknown key, with line and column.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        file::read(self, path, text)
    }

    /// Takes the `COUNTERSIGN_SECTION__KEY` variables out of an environment. A list is written as
    /// in the file: `["hosts", "file(filename=/etc/pw)"]`.
    ///
    /// # Errors
    /// A variable of a section that has no such key, one that is nearly a key, or one that is no text.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(variable) = variable.to_str() else { continue };
            let Some(name) = variable.strip_prefix(PREFIX) else { continue };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let origin = Origin::Environment(variable.into());
            let value = value.into_string().map_err(|_| {
                origin.told(ConfigError::new("its value", "it is not UTF-8", "write it in a file instead"))
            })?;
            self.variable(name, Zeroizing::new(value), &origin).map_err(|error| origin.told(error))?;
        }
        Ok(())
    }

    /// Takes a flag, named without its dashes: `tcp-auth`. A flag that is a list may be repeated.
    ///
    /// # Errors
    /// There is none of that name, or it is given twice.
    pub fn flag(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let key = find(name, |key| key.flag, "the flags")?;
        let origin = Origin::Flag(key.flag);
        let written = Written { text: Zeroizing::new(value.to_owned()), origin: origin.clone() };
        self.set(key, vec![written]).map_err(|error| origin.told(error))
    }

    /// What holds, key by key, with where it came from. Every value of a module's option is `<set>`.
    pub fn effective(&self, registry: &Registry) -> Vec<Effective> {
        let mut rows = Vec::new();
        let mut row = |key: String, value: String, origin: &Origin| {
            rows.push(Effective { key, value, origin: origin.to_string() });
        };
        for key in KEYS {
            match self.settings.get(key.name) {
                Some(written) => written.iter().for_each(|value| {
                    row(key.name.to_owned(), key.masked(&value.text, registry), &value.origin);
                }),
                None if key.default.is_empty() => {}
                None => row(key.name.to_owned(), key.default.to_owned(), &Origin::Default),
            }
        }
        for (name, backend) in &self.backends {
            row(format!("backends.{name}"), backends::masked(&backend.text).into_owned(), &backend.origin);
        }
        for (position, socket) in self.sockets.iter().enumerate() {
            for (name, value, origin) in socket.rows(registry) {
                row(format!("socket[{position}].{name}"), value, origin);
            }
        }
        rows
    }

    /// The folders of the files that something was read from.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let settings = self.settings.values().flatten().chain(self.backends.values());
        let written = settings.chain(self.sockets.iter().map(|socket| &socket.bind));
        let folder = |written: &Written| match &written.origin {
            Origin::File { path, .. } => Some(place_of(path.to_str()?)),
            _ => None,
        };
        written.filter_map(folder).collect()
    }

    /// The values of a key: none, one, or a list.
    pub(super) fn all(&self, name: &str) -> &[Written] {
        self.settings.get(name).map_or(&[], Vec::as_slice)
    }

    /// Sets a key's values, all from one place.
    pub(super) fn set(&mut self, key: &Key, values: Vec<Written>) -> Result<(), ConfigError> {
        let Some(new) = values.first().map(|value| value.origin.clone()) else {
            let fix = "remove the key, or write what it shall hold";
            return Err(ConfigError::new(key.name, "the list is empty", fix));
        };
        let held = self.settings.entry(key.name).or_default();
        let Some(old) = held.first().map(|value| value.origin.clone()) else {
            *held = values;
            return Ok(());
        };
        let twice = |fix| Err(ConfigError::new(key.name, format!("it is given twice, first in {old}"), fix));
        match (new.rank().cmp(&old.rank()), key.form) {
            (std::cmp::Ordering::Less, _) => {}
            (std::cmp::Ordering::Greater, _) => *held = values,
            (_, Form::One) if new.shares_source_with(&old) => return twice("write it once"),
            (_, Form::One) => *held = values,
            (_, Form::List) => held.extend(values),
            (_, Form::Chain) if matches!(new, Origin::Flag(_)) => held.extend(values),
            // Two files that each write a chain might mean either or both: neither guess is safe.
            (_, Form::Chain) => return twice("write the whole chain in one file"),
        }
        Ok(())
    }

    /// Sets a backend of that name.
    pub(super) fn backend(&mut self, name: String, written: Written) -> Result<(), ConfigError> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if name.is_empty() || !name.chars().all(word) {
            let fix = "use letters, digits, dashes and dots";
            return Err(ConfigError::new("a backend's name", "it is empty or holds other characters", fix));
        }
        match self.backends.get(&name).map(|old| &old.origin) {
            Some(old) if old.rank() > written.origin.rank() => return Ok(()),
            Some(old) if old.rank() == written.origin.rank() => {
                let why = format!("it is given twice, first in {old}");
                return Err(ConfigError::new(format!("backend {name}"), why, "remove one of the two"));
            }
            _ => {}
        }
        self.backends.insert(name, written);
        Ok(())
    }

    fn variable(&mut self, name: &str, value: Zeroizing<String>, origin: &Origin) -> Result<(), ConfigError> {
        let name = name.to_ascii_lowercase().replace("__", ".").replace('_', "-");
        if let Some(backend) = name.strip_prefix("backends.") {
            return self.backend(backend.to_owned(), Written { text: value, origin: origin.clone() });
        }
        let name = if name == "log" { "log.level" } else { &name };
        match find(name, |key| key.name, "the keys") {
            Ok(key) if key.form != Form::One && value.trim_start().starts_with("[\"") => {
                let texts = file::list(&value)?;
                self.set(
                    key,
                    texts.into_iter().map(|text| Written { text, origin: origin.clone() }).collect(),
                )
            }
            Ok(key) => self.set(key, vec![Written { text: value, origin: origin.clone() }]),
            // Programs started by a gateway inherit variables of this prefix that are no settings.
            Err(_) if !name.contains('.') && near_key(name).is_none() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// One row of `check --effective`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Effective {
    /// The key, with its section: `limits.login-timeout`.
    pub key: String,
    /// Its value, without secrets.
    pub value: String,
    /// Where it came from.
    pub origin: String,
}

/// A `[[socket]]` of a file.
#[derive(Debug)]
pub(super) struct SocketTable {
    pub(super) kind: Kind,
    pub(super) bind: Written,
    pub(super) auth: Vec<Written>,
    pub(super) options: Vec<(String, Written)>,
}

impl SocketTable {
    fn rows(&self, registry: &Registry) -> Vec<(&str, String, &Origin)> {
        let mut rows = vec![(self.kind.key(), masked_socket(&self.bind.text, registry), &self.bind.origin)];
        for (name, value) in &self.options {
            rows.push((name, masked(name, &value.text).into_owned(), &value.origin));
        }
        rows.extend(self.auth.iter().map(|auth| ("auth", masked_module(&auth.text, registry), &auth.origin)));
        rows
    }
}

/// A text and the place it was written at. The text may hold secrets.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) text: Zeroizing<String>,
    pub(super) origin: Origin,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<set in {}>", self.origin)
    }
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nowhere: it holds unless something else is written.
    Default,
    /// In a file, at a line and a column counted in characters from 1.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// In this variable of the environment.
    Environment(Arc<str>),
    /// In this flag.
    Flag(&'static str),
}

impl Origin {
    /// The error, with the place in front.
    pub(super) fn told(&self, error: ConfigError) -> ConfigError {
        error.within(&self.to_string())
    }

    /// Whether others may read it: arguments and environments are not private (S-90).
    pub(super) fn is_exposed(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Flag(_))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment(_) => 2,
            Self::Flag(_) => 3,
        }
    }

    fn shares_source_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: one, .. }, Self::File { path: other, .. }) => one == other,
            _ => true,
        }
    }
}

/// `FILE:LINE:COLUMN`, the variable's name, or `--FLAG`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

const PREFIX: &str = "COUNTERSIGN_";

/// Variables of our prefix that are read elsewhere or set for backends.
const OTHER_VARIABLES: [&str; 8] =
    ["CONFIG", "SERVER_ADDRESS", "USER", "UID", "GID", "PROOFS", "PEER", "TRANSPORT"];

#[cfg(test)]
mod tests;
