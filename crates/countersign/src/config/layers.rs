//! Every setting as it was written, from files, environment and flags, with where it came from.
//!
//! Nothing is judged here but names: [`super::Config`] turns the texts into values. [`KEYS`] is the
//! one table of names; the files, the environment, the flags and `check --effective` share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    backends, file,
    socket::{Kind, NOT_YET},
    spec::{ModuleSpec, SocketSpec, canonical, masked},
};
use crate::{
    error::{ConfigError, nearest},
    modules::Registry,
    needs::place_of,
};

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

/// A setting: what it is called in a file, in the environment and as a flag.
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name in a file, after its section and a dot. In the environment the dot is `__`.
    pub name: &'static str,
    /// The flag without its dashes.
    pub flag: &'static str,
    /// Whether it may be repeated.
    pub form: Form,
    /// What stands for its value in a manual.
    pub value: &'static str,
    /// What holds if it is not written; empty if nothing does.
    pub default: &'static str,
    /// What it does, in one sentence without a full stop.
    pub help: &'static str,
}

impl Key {
    fn masked(&self, text: &str, registry: &Registry) -> String {
        match self.form {
            Form::Chain => masked_module(text, registry),
            Form::List if self.value == "SOCKET" => masked_socket(text, registry),
            Form::One if self.name == "backend" => backends::masked(text).into_owned(),
            Form::One | Form::List => text.to_owned(),
        }
    }
}

/// How often a [`Key`] may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Once.
    One,
    /// Any number of times: files add up.
    List,
    /// Any number of times, in order, in one place.
    Chain,
}

/// The key of that name, whatever the case and the dashes.
pub(super) fn find(
    name: &str,
    of: fn(&Key) -> &'static str,
    among: &'static str,
) -> Result<&'static Key, ConfigError> {
    let wanted = canonical(name);
    let wanted = ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(&*wanted, |(_, name)| name);
    if NOT_SERVED.contains(&wanted) {
        return Err(ConfigError::new(
            wanted.to_owned(),
            NOT_YET,
            "use bind, bind-tcp, bind-ssl, bind-ws, bind-wss, bind-vsock or bind-rpc",
        ));
    }
    KEYS.iter()
        .find(|key| of(key) == wanted)
        .ok_or_else(|| ConfigError::unknown(among, wanted, KEYS.iter().map(of)))
}

fn near_key(name: &str) -> Option<&'static str> {
    nearest(name, KEYS.iter().map(|key| key.name))
}

fn masked_socket(text: &str, registry: &Registry) -> String {
    SocketSpec::parse(text, registry).map_or_else(|_| "<set>".to_owned(), |spec| spec.to_string())
}

fn masked_module(text: &str, registry: &Registry) -> String {
    ModuleSpec::parse(text, registry).map_or_else(|_| "<set>".to_owned(), |spec| spec.to_string())
}

/// Every setting but `[backends]` and `[[socket]]`, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    list("bind", "bind", "SOCKET", "a Unix socket: PATH, @NAME, DIR/, auto or none, with its options"),
    list("bind-tcp", "bind-tcp", "SOCKET", "a TCP socket, [HOST]:PORT, with its options"),
    list("bind-ssl", "bind-ssl", "SOCKET", "a TLS socket, [HOST]:PORT, with its options"),
    list("bind-ws", "bind-ws", "SOCKET", "a WebSocket, [HOST]:PORT, with its options"),
    list("bind-wss", "bind-wss", "SOCKET", "a WebSocket in TLS, [HOST]:PORT, with its options"),
    list("bind-ssh", "bind-ssh", "SOCKET", "a socket of SSH, [HOST]:PORT, with its options"),
    list(
        "bind-vsock",
        "bind-vsock",
        "SOCKET",
        "a vsock socket, CID:PORT (a number, any, host or hypervisor), with its options",
    ),
    list(
        "bind-rpc",
        "bind-rpc",
        "SOCKET",
        "a socket of gRPC calls: unix:PATH, auto or [HOST]:PORT, with its options",
    ),
    chain("auth", "a module of the chain of Unix sockets without auth="),
    chain("tcp-auth", "a module of the chain of TCP sockets without auth="),
    chain("ssl-auth", "a module of the chain of TLS sockets without auth="),
    chain("ws-auth", "a module of the chain of WebSockets without auth="),
    chain("wss-auth", "a module of the chain of WebSockets in TLS without auth="),
    chain("ssh-auth", "a module of the chain of sockets of SSH without auth="),
    chain("vsock-auth", "a module of the chain of vsock sockets without auth="),
    chain("rpc-auth", "a module of the chain of sockets of calls without auth="),
    one("backend", "backend", "BACKEND", "builtin:whoami", "the daemon behind every socket without its own"),
    one("state-dir", "state-dir", "DIR", "", "where the state is kept"),
    one(
        "control",
        "control",
        "PATH|none",
        "",
        "the socket of the owner's commands [default: control.sock in the runtime directory, or in DIR]",
    ),
    one(
        "admin",
        "admin",
        "HOST:PORT|PATH",
        "none",
        "where /metrics, /livez and /readyz are read over HTTP, on this machine only",
    ),
    one(
        "user",
        "user",
        "NAME",
        "",
        "whom a gateway of root's becomes when its sockets are open [default: countersign, where there is that account]",
    ),
    one(
        "sandbox",
        "sandbox",
        "on|off|required",
        "on",
        "hold the process to the files and calls that it needs; required: in full, or do not start",
    ),
    one("group", "group", "NAME", "", "its group, if not the user's own"),
    one("ssl-cert", "ssl-cert", "FILE", "", "the certificate of every socket without its own, in PEM"),
    one("ssl-key", "ssl-key", "FILE", "", "the key of that certificate, if it is in another file"),
    one("tls-min", "tls-min", "1.2|1.3", "1.3", "the oldest version of TLS that is spoken"),
    one(
        "limits.handshake-timeout",
        "handshake-timeout",
        "TIME",
        "10s",
        "when a client's first message is due",
    ),
    one("limits.login-timeout", "login-timeout", "TIME", "120s", "when a login must have succeeded"),
    one("limits.refusal-delay", "refusal-delay", "TIME", "1s", "how long every refusal takes, at most 8s"),
    one(
        "limits.drain-timeout",
        "drain-timeout",
        "TIME",
        "30s",
        "how long sessions may go on after the end is asked",
    ),
    one(
        "limits.max-unauthenticated",
        "max-unauthenticated",
        "NUMBER",
        "4096",
        "clients that may be logging in; from half of them on some are dropped at random",
    ),
    one(
        "limits.max-per-source",
        "max-per-source",
        "NUMBER",
        "20",
        "how many of them may be of one IPv4 address, one IPv6 /64 or one uid",
    ),
    one(
        "limits.penalties",
        "penalties",
        "yes|no",
        "yes",
        "count failed logins at every socket, and refuse for a while who has many",
    ),
    one(
        "limits.penalty-min",
        "penalty-min",
        "TIME",
        "15s",
        "from which penalty on a name is refused at its source, and from four times that on the source",
    ),
    one("limits.penalty-max", "penalty-max", "TIME", "10m", "the longest penalty"),
    list(
        "limits.penalty-exempt",
        "penalty-exempt",
        "SOURCE",
        "never counted or penalised by where it comes from, a proxy for example: an address, a network or uid:UID",
    ),
    one(
        "log.level",
        "log-level",
        "LEVEL",
        "info",
        "how much is logged: off, error, warn, info, debug, trace",
    ),
    one(
        "audit.file",
        "audit-file",
        "FILE",
        "",
        "the audit trail, chained so that no change of it goes unseen",
    ),
    one(
        "audit.policy",
        "audit",
        "required|best-effort",
        "",
        "required: nobody gets in without a record on the disk [default: best-effort, with a file]",
    ),
    one("log.format", "log-format", "auto|text|json", "auto", "text for people, json for programs"),
];

const fn list(name: &'static str, flag: &'static str, value: &'static str, help: &'static str) -> Key {
    Key { name, flag, form: Form::List, value, default: "", help }
}

const fn chain(name: &'static str, help: &'static str) -> Key {
    Key { name, flag: name, form: Form::Chain, value: "MODULE", default: "", help }
}

const fn one(
    name: &'static str,
    flag: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, flag, form: Form::One, value, default, help }
}

/// Other spellings of keys.
const ALIASES: [(&str, &str); 2] = [("bind-tls", "bind-ssl"), ("tls-auth", "ssl-auth")];

/// Sockets and switches of the design that are known words and not served.
const NOT_SERVED: [&str; 1] = ["bind-pipe"];

const PREFIX: &str = "COUNTERSIGN_";

/// Variables of our prefix that are read elsewhere or set for backends.
const OTHER_VARIABLES: [&str; 8] =
    ["CONFIG", "SERVER_ADDRESS", "USER", "UID", "GID", "PROOFS", "PEER", "TRANSPORT"];

#[cfg(test)]
mod tests;
