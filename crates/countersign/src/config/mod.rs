//! Turns text into values that cannot be wrong, once, at start.
//!
//! ```text
//! files, environment, flags --layers.rs, file.rs--> Layers (texts and where they came from)
//!   --spec.rs--> SocketSpec, ModuleSpec (the grammar)
//!   --address.rs, chain.rs, socket.rs--> SocketConfig   --this file--> Config
//! ```
//!
//! The command reads [`Layers`], makes a [`Config`] and hands it to the gateway, or to [`explain`].
//! Every error is a [`ConfigError`] and ends the start before a socket is opened (exit code 78).
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsString,
    path::{Path, PathBuf},
};

mod account;
mod address;
mod admin;
mod backends;
mod chain;
mod encryption;
pub mod explain;
mod file;
mod kind;
mod layers;
mod limits;
mod listed;
mod paths;
mod sandbox;
mod socket;
mod spec;
mod state;
mod unix;
mod warning;
mod websocket;
mod wires;

pub use account::RunAs;
use backends::Backends;
pub use encryption::{EncryptionOptions, read_key};
pub use kind::{Kind, SOCKET_OPTIONS, SocketOption};
use layers::Written;
pub use layers::{Effective, Form, KEYS, Key, Layers, Origin};
pub use limits::Limits;
pub use listed::Listed;
pub use paths::Paths;
pub use sandbox::{Needs, Sandbox};
pub use socket::SocketConfig;
use socket::{Common, Draft};
pub use spec::{ModuleSpec, SocketSpec};
pub use state::StatePlace;
pub use warning::{Audience, Warning};
pub use websocket::WebSocketOptions;
pub use wires::{Accepts, Protocol, StartTls, TlsOptions};

use crate::{
    error::ConfigError,
    modules::{Options, Registry},
    trail::{Policy, TrailOptions},
    transport::Address,
    trust::Trust,
};

/// A whole configuration, checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The sockets, at least one, no two at one address or of one name.
    pub sockets: Vec<SocketConfig>,
    /// Times and numbers that hold for all sockets.
    pub limits: Limits,
    /// Where the state is kept.
    pub state_dir: PathBuf,
    /// Where the owner's commands reach the gateway, if anywhere.
    pub control: Option<PathBuf>,
    /// Whether somebody wrote that down; it is the usual place otherwise.
    pub control_written: bool,
    /// Where numbers and health are read, if anywhere.
    pub admin: Option<Address>,
    /// The accepted certificates that are kept there, opened when the gateway is.
    pub trust: Trust,
    /// What is logged and how.
    pub log: Log,
    /// The audit trail, if one is kept.
    pub audit: Option<TrailOptions>,
    /// Whether the process is held to what all of this needs.
    pub sandbox: Sandbox,
    /// The user and the group to become, as they are written. Who that is was read at the start ([`RunAs`]).
    pub run_as: [Option<String>; 2],
    /// Where it was read.
    folders: BTreeSet<PathBuf>,
}

impl Config {
    /// Judges what was written and configures every module of every chain.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place it was written at.
    pub fn new(layers: &Layers, registry: &Registry, paths: &Paths) -> Result<Self, ConfigError> {
        let limits = Limits::read(layers)?;
        let backends = Backends::read(layers)?;
        let tls = tls(layers)?;
        let StatePlace { state_dir, control, control_written, .. } = StatePlace::read(layers, paths)?;
        let trust = Trust::at(&state_dir);
        let common = Common {
            paths,
            trust: &trust,
            backends: &backends,
            tls: &tls,
            handshake_timeout: limits.handshake_timeout,
            login_timeout: limits.login_timeout,
            penalties: limits.penalties,
        };
        let sockets = Sockets { layers, registry, common: &common }.read()?;
        let audit = audit_trail(layers, &state_dir)?;
        let mut folders = layers.folders();
        folders.insert(paths.config_dir.clone());
        let (log, sandbox, admin) = (Log::new(layers)?, Sandbox::read(layers)?, admin::read(layers, paths)?);
        Ok(Self {
            sockets,
            limits,
            state_dir,
            control,
            control_written,
            admin,
            trust,
            log,
            audit,
            sandbox,
            run_as: RunAs::written(layers)?,
            folders,
        })
    }

    /// Reads files and environment (`std::env::vars_os`) into layers; flags are the caller's to add.
    ///
    /// # Errors
    /// A file cannot be read, or a name in it or in the environment is unknown.
    pub fn layers(
        named: Option<&Path>,
        paths: &Paths,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Layers, ConfigError> {
        let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
        let variable =
            environment.iter().find(|(name, value)| name == "COUNTERSIGN_CONFIG" && !value.is_empty());
        let named = named.or_else(|| variable.map(|(_, value)| Path::new(value)));
        let mut layers = Layers::default();
        file::load(&mut layers, named, paths)?;
        layers.environment(environment)?;
        Ok(layers)
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or filter directives as in `auth=debug`.
    pub level: String,
    /// Who is to read it.
    pub format: LogFormat,
}

impl Log {
    /// Reads the part of the configuration that must be in force before the rest is judged, for that may warn.
    ///
    /// # Errors
    /// A level or a format that there is not.
    pub fn new(layers: &Layers) -> Result<Self, ConfigError> {
        let level = one(layers, "log.level", |options, key| {
            let level = options
                .take(key)?
                .map_or_else(|| "info".to_owned(), |level| level.trim().to_ascii_lowercase());
            // A word without `=` is a level: as the name of a target it would silence the log.
            let known = |word: &str| LEVELS.contains(&word.trim()) || word.contains('=');
            match level.split(',').all(known) {
                true => Ok(level),
                false => {
                    Err(options.error(key, "there is no such level", format!("write {}", LEVELS.join(", "))))
                }
            }
        })?;
        let format = one(layers, "log.format", |options, key| {
            match options.take(key)?.as_ref().map(|format| format.trim().to_ascii_lowercase()).as_deref() {
                None | Some("auto") => Ok(LogFormat::Auto),
                Some("text") => Ok(LogFormat::Text),
                Some("json") => Ok(LogFormat::Json),
                Some(_) => Err(options.error(key, "there is no such format", "write auto, text or json")),
            }
        })?;
        Ok(Self { level, format })
    }
}

/// Who a log is written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogFormat {
    /// People on a terminal, programs elsewhere.
    #[default]
    Auto,
    /// People.
    Text,
    /// Programs: one JSON object a line.
    Json,
}

/// All sockets on their way from text to values.
struct Sockets<'a> {
    layers: &'a Layers,
    registry: &'a Registry,
    common: &'a Common<'a>,
}

impl Sockets<'_> {
    fn read(&self) -> Result<Vec<SocketConfig>, ConfigError> {
        let mut sockets = Vec::new();
        for kind in Kind::ALL {
            let switch = self.switch(kind)?;
            let mut used = switch.modules.is_empty();
            for (spec, origin) in self.specs(kind)? {
                used |= spec.auth().is_empty();
                let resolved = self.resolve(kind, spec, &switch, &origin);
                sockets.extend(resolved.map_err(|error| origin.told(error))?.map(|socket| (socket, origin)));
            }
            if !used {
                return Err(unused(kind, &switch.origins));
            }
        }
        distinct(&sockets)?;
        if sockets.is_empty() {
            let fix = "add bind, bind-tcp, bind-ssl, bind-ws, bind-wss or bind-rpc, as in --bind=auto or --bind-tcp=127.0.0.1:14500";
            return Err(ConfigError::new("the configuration", "there is no socket to listen on", fix));
        }
        Ok(sockets.into_iter().map(|(socket, _)| socket).collect())
    }

    /// The sockets of a kind as they were written: lists first, then `[[socket]]`.
    fn specs(&self, kind: Kind) -> Result<Vec<(SocketSpec, Origin)>, ConfigError> {
        let read = |written: &Written| {
            let spec = SocketSpec::parse(&written.text, self.registry)
                .map_err(|error| written.origin.told(error))?;
            Ok((spec, written.origin.clone()))
        };
        let mut specs =
            self.layers.all(kind.key()).iter().map(read).collect::<Result<Vec<_>, ConfigError>>()?;
        for table in self.layers.sockets.iter().filter(|table| table.kind == kind) {
            let (mut spec, origin) = read(&table.bind)?;
            if let (false, Some(auth)) = (spec.auth().is_empty(), table.auth.first()) {
                let error =
                    ConfigError::new("auth", "the socket's address has a chain too", "write the chain once");
                return Err(auth.origin.told(error));
            }
            for auth in &table.auth {
                let module = ModuleSpec::parse(&auth.text, self.registry);
                spec.push_auth(module.map_err(|error| auth.origin.told(error))?);
            }
            for (name, value) in &table.options {
                spec.set(name, &value.text).map_err(|error| value.origin.told(error))?;
            }
            specs.push((spec, origin));
        }
        Ok(specs)
    }

    fn switch(&self, kind: Kind) -> Result<Switch, ConfigError> {
        let written = self.layers.all(kind.switch());
        let read = |written: &Written| {
            ModuleSpec::parse(&written.text, self.registry).map_err(|error| written.origin.told(error))
        };
        Ok(Switch {
            modules: written.iter().map(read).collect::<Result<_, _>>()?,
            origins: written.iter().map(|written| written.origin.clone()).collect(),
        })
    }

    fn resolve(
        &self,
        kind: Kind,
        spec: SocketSpec,
        switch: &Switch,
        origin: &Origin,
    ) -> Result<Option<SocketConfig>, ConfigError> {
        let own = !spec.auth().is_empty();
        let exposed = match own {
            true => origin.is_exposed(),
            false => switch.origins.iter().any(Origin::is_exposed),
        };
        let holds_secret = |module: &&ModuleSpec| module.name() == "password";
        let modules = if own { spec.auth() } else { &switch.modules };
        let secret = modules.iter().find(holds_secret).filter(|_| exposed).map(ModuleSpec::name);
        let draft = Draft { kind, spec, switch: &switch.modules, common: self.common };
        let Some(mut socket) = SocketConfig::resolve(draft, self.registry)? else { return Ok(None) };
        let key = socket.encryption.as_ref().and_then(EncryptionOptions::written_key);
        let key = key.filter(|_| origin.is_exposed());
        socket.warnings.extend(secret.into_iter().chain(key).map(Warning::SecretInArgument));
        Ok(Some(socket))
    }
}

/// The modules of a per-type switch, and where they were written.
struct Switch {
    modules: Vec<ModuleSpec>,
    origins: Vec<Origin>,
}

/// A chain that guards nothing: its writer believes that it does (S-65).
fn unused(kind: Kind, origins: &[Origin]) -> ConfigError {
    let others: Vec<&str> =
        Kind::ALL.iter().filter(|other| **other != kind).map(|other| other.switch()).collect();
    let error = ConfigError::new(
        kind.switch(),
        format!("no socket of {} is left that it would guard", kind.key()),
        format!("remove it, or use the switch of the sockets you have: {}", others.join(", ")),
    );
    origins.iter().take(1).fold(error, |error, origin| origin.told(error))
}

/// No two sockets at one address, nor of one name. Port 0 is another port each time.
fn distinct(sockets: &[(SocketConfig, Origin)]) -> Result<(), ConfigError> {
    let (mut addresses, mut names) = (HashSet::new(), HashSet::new());
    for (socket, origin) in sockets {
        let free = matches!(
            socket.address,
            Address::Tcp { port: 0, .. } | Address::Vsock { port: crate::sys::vsock::ANY, .. }
        );
        if !free && !addresses.insert(&socket.address) {
            let error =
                ConfigError::new(socket.address.to_string(), "it is given twice", "write each address once");
            return Err(origin.told(error));
        }
        if !names.insert(socket.name.as_ref()) && socket.name.is_some() {
            let error = ConfigError::new("option name", "two sockets have the same", "give each its own");
            return Err(origin.told(error));
        }
    }
    Ok(())
}

fn tls(layers: &Layers) -> Result<TlsOptions, ConfigError> {
    let written = || {
        ["ssl-cert", "ssl-key", "tls-min"]
            .into_iter()
            .flat_map(|key| layers.all(key).iter().map(move |value| (key, value)))
    };
    let values = written().map(|(key, value)| (key.to_owned(), value.text.to_string()));
    let read = TlsOptions::take(&mut Options::new("all sockets", values), &TlsOptions::default());
    read.map_err(|error| written().take(1).fold(error, |error, (_, value)| value.origin.told(error)))
}

/// A trail is kept where its file or its policy is written; without a file it lies in the state directory.
///
/// # Errors
/// The path is empty, or there is no such policy.
pub fn audit_trail(layers: &Layers, state_dir: &Path) -> Result<Option<TrailOptions>, ConfigError> {
    let file = one(layers, "audit.file", |options, key| match options.take(key)? {
        Some(path) if path.is_empty() => Err(options.error(key, "it is empty", "write a path")),
        path => Ok(path.map(|path| PathBuf::from(path.as_str()))),
    })?;
    let policy = one(layers, "audit.policy", |options, key| {
        match options.take(key)?.as_ref().map(|policy| policy.as_str()) {
            None => Ok(None),
            Some("best-effort") => Ok(Some(Policy::BestEffort)),
            Some("required") => Ok(Some(Policy::Required)),
            Some(_) => Err(options.error(key, "there is no such policy", "write required or best-effort")),
        }
    })?;
    if file.is_none() && policy.is_none() {
        return Ok(None);
    }
    let file = file.unwrap_or_else(|| state_dir.join("audit.jsonl"));
    Ok(Some(TrailOptions::new(file).with_policy(policy.unwrap_or_default())))
}

/// Reads one setting by its last name, as an option of its section.
fn one<T>(
    layers: &Layers,
    key: &str,
    read: impl FnOnce(&mut Options, &str) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let (section, name) = key.split_once('.').unwrap_or(("the configuration", key));
    let written = layers.all(key).first();
    let value = written.map(|written| (name.to_owned(), written.text.to_string()));
    read(&mut Options::new(section, value), name).map_err(|error| match written {
        Some(written) => written.origin.told(error),
        None => error,
    })
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

#[cfg(test)]
mod tests;
