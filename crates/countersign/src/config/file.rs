//! Configuration files: TOML into [`Layers`], with line and column, and where the files are.
//!
//! The document is walked with [`super::layers::KEYS`] as its schema, so that one table names the
//! keys of files, environment and flags, and every key and value keeps its place.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use zeroize::Zeroizing;

use super::{
    kind::{Kind, SOCKET_OPTIONS},
    layers::{Form, KEYS, Layers, Origin, SocketTable, Written, find},
    paths::Paths,
    spec::canonical,
};
use crate::error::ConfigError;

/// Reads the file that the operator names, or the usual ones: `countersign.toml`, then
/// `conf.d/*.toml` in the order of their names. The usual ones may be missing.
///
/// # Errors
/// A file cannot be read, or as [`Layers::file`].
pub(super) fn load(layers: &mut Layers, named: Option<&Path>, paths: &Paths) -> Result<(), ConfigError> {
    let failed = |path: &Path, error: &io::Error| {
        let what = path.display().to_string();
        ConfigError::new(
            what,
            format!("it cannot be read: {error}"),
            "write the path of a file that the gateway may read",
        )
    };
    if let Some(path) = named {
        let text = std::fs::read_to_string(path).map_err(|error| failed(path, &error))?;
        return layers.file(path, &Zeroizing::new(text));
    }
    let directory = paths.config_dir.join("conf.d");
    let more = in_directory(&directory).map_err(|error| failed(&directory, &error))?;
    for path in std::iter::once(paths.config_dir.join("countersign.toml")).chain(more) {
        match std::fs::read_to_string(&path) {
            Ok(text) => layers.file(&path, &Zeroizing::new(text))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    Ok(())
}

/// The `*.toml` of a directory, sorted; none where there is no directory.
fn in_directory(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    files.sort();
    Ok(files)
}

/// Reads one document into `layers`.
pub(super) fn read(layers: &mut Layers, path: &Path, text: &str) -> Result<(), ConfigError> {
    let document = Document { path: path.into(), text };
    let table = document.parse()?;
    for (name, value) in table.get_ref() {
        let at = document.at(name.span().start);
        match (canonical(name.get_ref()).as_str(), value.get_ref()) {
            ("backends", DeValue::Table(table)) => document.backends(layers, table)?,
            ("socket", DeValue::Array(sockets)) => {
                for socket in sockets.iter() {
                    let table = document.socket(socket)?;
                    layers.sockets.push(table);
                }
            }
            ("socket", _) => return Err(at.told(wrong_kind("socket", "write [[socket]], once for each"))),
            (section, DeValue::Table(table)) if is_section(section) => {
                for (name, value) in table {
                    let key = format!("{section}.{}", name.get_ref());
                    document.setting(layers, &key, name.span().start, value)?;
                }
            }
            (section, value) if is_table(value) => {
                let sections = ["backends", "limits", "log", "socket"];
                return Err(at.told(ConfigError::unknown("the sections", section, sections)));
            }
            (key, _) => document.setting(layers, key, name.span().start, value)?,
        }
    }
    Ok(())
}

/// The strings of a TOML array, for a variable of the environment.
pub(super) fn list(text: &str) -> Result<Vec<Zeroizing<String>>, ConfigError> {
    let wrong = || ConfigError::new("the list", "it is no array of strings", "write [\"one\", \"two\"]");
    let value = DeValue::parse(text).map_err(|_| wrong())?;
    let items = value.get_ref().as_array().ok_or_else(wrong)?;
    items.iter().map(|item| scalar(item.get_ref()).ok_or_else(wrong)).collect()
}

/// A file's text, and its name for errors.
struct Document<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl<'a> Document<'a> {
    fn parse(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            // `Display` would print the line, which may hold a secret; the message does not (S-88).
            let at = self.at(error.span().map_or(0, |span| span.start));
            at.told(ConfigError::new(
                "TOML",
                error.message().to_owned(),
                "mend this line; strings are in quotes",
            ))
        })
    }

    fn at(&self, byte: usize) -> Origin {
        let before = self.text.get(..byte).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Origin::File { path: Arc::clone(&self.path), line, column }
    }

    /// A key outside `[[socket]]` and `[backends]`.
    fn setting(
        &self,
        layers: &mut Layers,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let at = self.at(at);
        let key = find(name, |key| key.name, "the configuration").map_err(|error| at.told(error))?;
        let values = match key.form {
            Form::One => vec![self.one(key.name, value)?],
            Form::List | Form::Chain => self.several(key.name, value)?,
        };
        layers.set(key, values).map_err(|error| at.told(error))
    }

    fn backends(&self, layers: &mut Layers, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let at = self.at(name.span().start);
            let name = canonical(name.get_ref());
            let backend = self.one(&name, value)?;
            layers.backend(name, backend).map_err(|error| at.told(error))?;
        }
        Ok(())
    }

    fn socket(&self, value: &Spanned<DeValue<'_>>) -> Result<SocketTable, ConfigError> {
        let at = self.at(value.span().start);
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| at.told(wrong_kind("socket", "write [[socket]], once for each")))?;
        let (mut bind, mut auth, mut options) = (None, Vec::new(), Vec::new());
        for (name, value) in table {
            let at = self.at(name.span().start);
            let name = socket_key(name.get_ref()).map_err(|error| at.told(error))?;
            if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.key() == name) {
                if bind.replace((kind, self.one(name, value)?)).is_some() {
                    let fix = "write a [[socket]] for each address";
                    return Err(at.told(ConfigError::new("a socket", "it has two addresses", fix)));
                }
            } else if name == "auth" {
                auth.extend(self.several(name, value)?);
            } else {
                options.push((name.to_owned(), self.one(name, value)?));
            }
        }
        let (kind, bind) = bind.ok_or_else(|| {
            at.told(ConfigError::new(
                "a socket",
                "its address is missing",
                "add bind, bind-tcp, bind-ssl, bind-ws, bind-wss or bind-rpc = \"...\"",
            ))
        })?;
        Ok(SocketTable { kind, bind, auth, options })
    }

    fn one(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Written, ConfigError> {
        let origin = self.at(value.span().start);
        match scalar(value.get_ref()) {
            Some(text) => Ok(Written { text, origin }),
            None => Err(origin.told(wrong_kind(name, "write one text, number, true or false"))),
        }
    }

    /// A text, or a list of texts with at least one in it.
    fn several(&self, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Written>, ConfigError> {
        match value.get_ref().as_array() {
            Some(list) if list.is_empty() => {
                let fix = "remove it, or write what it shall hold: an empty chain is never meant as one";
                Err(self.at(value.span().start).told(ConfigError::new(
                    name.to_owned(),
                    "the list is empty",
                    fix,
                )))
            }
            Some(list) => list.iter().map(|item| self.one(name, item)).collect(),
            None => Ok(vec![self.one(name, value)?]),
        }
    }
}

/// A value as the text that would be written for it in a flag.
fn scalar(value: &DeValue<'_>) -> Option<Zeroizing<String>> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => {
            i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()?.to_string()
        }
        DeValue::Float(number) => number.as_str().replace('_', ""),
        DeValue::Boolean(true) => "yes".to_owned(),
        DeValue::Boolean(false) => "no".to_owned(),
        _ => return None,
    };
    Some(Zeroizing::new(text))
}

/// `[name]` or `[[name]]`.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Array(items) => items.first().is_some_and(|item| item.get_ref().is_table()),
        value => value.is_table(),
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The canonical name of a key of `[[socket]]`.
fn socket_key(name: &str) -> Result<&'static str, ConfigError> {
    let wanted = canonical(name);
    if let Ok(key) = find(&wanted, |key| key.name, "a socket") {
        if key.form == Form::List {
            return Ok(key.name);
        }
    } else if wanted.starts_with("bind-") {
        return find(&wanted, |key| key.name, "a socket").map(|key| key.name);
    }
    let names =
        Kind::ALL.iter().map(|kind| kind.key()).chain(SOCKET_OPTIONS.iter().map(|option| option.spec.name));
    let found = names.clone().find(|name| *name == wanted);
    found.ok_or_else(|| ConfigError::unknown("a socket", &wanted, names))
}

fn wrong_kind(name: &str, fix: &'static str) -> ConfigError {
    ConfigError::new(name.to_owned(), "the value is of another kind", fix)
}
