//! Where configuration, state and sockets are, for root and for everybody else.

use std::path::{Path, PathBuf};

use etcetera::{BaseStrategy as _, base_strategy::Xdg};

use crate::{error::ConfigError, sys::accounts::own_uid};

/// The directories of one gateway. Made once, at start, and handed to whoever needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paths {
    /// Whether the gateway runs as root.
    pub root: bool,
    /// Where `countersign.toml` and `conf.d` are.
    pub config_dir: PathBuf,
    /// Where the state is unless it is configured.
    pub state_dir: PathBuf,
    runtime_dir: Option<PathBuf>,
}

impl Paths {
    /// Directories of the caller's choice.
    pub fn new(
        root: bool,
        config_dir: impl Into<PathBuf>,
        runtime_dir: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
    ) -> Self {
        let (config_dir, state_dir) = (config_dir.into(), state_dir.into());
        Self { root, config_dir, state_dir, runtime_dir: Some(runtime_dir.into()) }
    }

    /// Those of the system: `/etc`, `/run` and `/var/lib` for root, the XDG directories for others.
    ///
    /// # Errors
    /// The user has no home directory.
    pub fn system() -> Result<Self, ConfigError> {
        if own_uid() == 0 {
            return Ok(Self::new(true, "/etc/countersign", "/run/countersign", "/var/lib/countersign"));
        }
        let xdg = Xdg::new().map_err(|_| {
            ConfigError::new("the home directory", "there is none", "set HOME, or --config and --state-dir")
        })?;
        let state = xdg.state_dir().unwrap_or_else(|| xdg.home_dir().join(".local/state"));
        Ok(Self {
            root: false,
            config_dir: xdg.config_dir().join(NAME),
            state_dir: state.join(NAME),
            runtime_dir: xdg.runtime_dir().map(|dir| dir.join(NAME)),
        })
    }

    /// Where the control socket is made: as [`Paths::runtime_dir`], if the place for it exists.
    pub(super) fn control_dir(&self) -> Option<&PathBuf> {
        self.runtime_dir.as_ref().filter(|dir| dir.parent().is_some_and(Path::is_dir))
    }

    /// Where the gateway's own sockets are made.
    ///
    /// # Errors
    /// The session has no runtime directory.
    pub fn runtime_dir(&self) -> Result<&Path, ConfigError> {
        self.runtime_dir.as_deref().ok_or_else(|| {
            ConfigError::new(
                "the runtime directory",
                "XDG_RUNTIME_DIR is not set",
                "set it, or write the path of the socket: --bind=/PATH",
            )
        })
    }
}

const NAME: &str = "countersign";
