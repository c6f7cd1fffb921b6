//! The backends that sockets may name.
//!
//! [`super::Config`] reads them once; [`super::socket`] asks for the one of a socket.

use std::{borrow::Cow, cell::RefCell, collections::BTreeMap};

use super::{layers::Layers, spec::canonical};
use crate::{
    backend::Backend,
    error::{ConfigError, nearest},
};

/// Those of `[backends]`, and the one of every socket that names none.
pub(super) struct Backends<'a> {
    named: BTreeMap<&'a str, Backend>,
    default: Backend,
    /// Those that sockets write out, by their text: what is written twice is one backend, so that two sockets do not
    /// start two daemons for one user.
    written: RefCell<BTreeMap<String, Backend>>,
}

impl<'a> Backends<'a> {
    /// Reads all of them, so that one that nobody names is judged too.
    ///
    /// # Errors
    /// One is wrong, or the default names none of the others.
    pub(super) fn read(layers: &'a Layers) -> Result<Self, ConfigError> {
        let mut named = BTreeMap::new();
        for (name, written) in &layers.backends {
            let backend = written.text.parse().map_err(|error| written.origin.told(error))?;
            named.insert(name.as_str(), backend);
        }
        let mut backends = Self { named, default: Backend::whoami(), written: RefCell::default() };
        if let Some(written) = layers.all("backend").first() {
            backends.default =
                backends.find(Some(&written.text)).map_err(|error| written.origin.told(error))?;
        }
        Ok(backends)
    }

    /// The backend that a text means: a name, or a backend itself, which has a colon.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn find(&self, text: Option<&str>) -> Result<Backend, ConfigError> {
        let Some(text) = text else { return Ok(self.default.clone()) };
        if text.contains(':') {
            if let Some(known) = self.written.borrow().get(text) {
                return Ok(known.clone());
            }
            let backend: Backend = text.parse()?;
            self.written.borrow_mut().insert(text.to_owned(), backend.clone());
            return Ok(backend);
        }
        let name = canonical(text);
        self.named.get(name.as_str()).cloned().ok_or_else(|| {
            let fix = match nearest(&name, self.named.keys().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => FORMS.to_owned(),
            };
            ConfigError::new("option backend", "it is neither a backend nor the name of one", fix)
        })
    }
}

/// A backend's text as it may be shown: without the words of a command, of which one may be secret.
pub(super) fn masked(text: &str) -> Cow<'_, str> {
    match text.parse::<Backend>() {
        Ok(backend) => backend.to_string().into(),
        Err(_) if text.contains(':') => "<set>".into(),
        Err(_) => text.into(),
    }
}

const FORMS: &str = "write unix:PATH, tcp:HOST:PORT, tls:HOST:PORT, exec:COMMAND, session:KIND(...), builtin:whoami or a name from [backends]";
