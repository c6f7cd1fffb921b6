//! What the command line and the address give the handlers to work with.

use std::{collections::VecDeque, ffi::OsString, fmt, path::PathBuf, sync::Arc};

use crate::Secret;

/// Looks a variable up.
type Environment = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The secrets, files and variables that a user named for one server. Each handler takes its own.
#[derive(Clone)]
pub struct Sources {
    pub(super) address_password: Option<Arc<Secret>>,
    pub(super) password_files: VecDeque<PathBuf>,
    pub(super) env: Arc<Environment>,
}

impl Sources {
    /// The environment of this process, and nothing else.
    pub fn new() -> Self {
        Self { env: Arc::new(|name| std::env::var_os(name)), ..Self::nowhere() }
    }

    /// Nothing at all.
    pub fn nowhere() -> Self {
        Self { address_password: None, password_files: VecDeque::new(), env: Arc::new(|_| None) }
    }

    /// The same sources with the password of an address.
    #[must_use]
    pub fn with_address_password(mut self, password: Option<Arc<Secret>>) -> Self {
        self.address_password = password;
        self
    }

    /// The same sources with one more password file. The files answer in order, one question each.
    #[must_use]
    pub fn with_password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password_files.push_back(path.into());
        self
    }

    /// The same sources with another environment.
    #[must_use]
    pub fn with_env(mut self, env: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// The value of a variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("address_password", &self.address_password)
            .field("password_files", &self.password_files)
            .finish_non_exhaustive()
    }
}
