//! The places our client finds its answers in: one file each, and the registry.
//!
//! To add one, write its file and add its two lines here. The tests below walk the registry, so a
//! new entry is tested by being listed. The client driver asks what comes out of it.
#![forbid(unsafe_code)]

mod env;
mod fido2;
mod file;
#[cfg(unix)]
mod kerberos;
mod oauth;
mod otp;
mod prompt;
mod scram;
mod security_key;
mod selection;
mod sources;
mod ssh_key;
mod u2f;
mod uri;

use std::sync::Arc;

pub use sources::Sources;

use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::client::Responder,
};

/// An entry of the registry: what it is, what options it has, and how it is made.
pub trait Handler: Sync {
    /// The name to write in `--challenge-handlers=NAME`, in lower case.
    fn name(&self) -> &'static str;

    /// Other names that are read for it.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where it finds its answer, in one line without a full stop.
    fn summary(&self) -> &'static str;

    /// Its options.
    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    /// The manual: a paragraph or a few, about what it answers, when it has nothing, and its traps.
    fn manual(&self) -> &'static str;

    /// A complete entry of `--challenge-handlers=` that works after its names are replaced.
    fn example(&self) -> &'static str;

    /// Makes the responder; `None` where it has nothing to answer with, and then it is left out.
    ///
    /// # Errors
    /// An option that is wrong.
    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError>;
}

/// The handlers that can be named.
#[derive(Clone)]
pub struct Registry {
    handlers: Vec<&'static dyn Handler>,
}

impl Registry {
    /// The handlers of this crate.
    pub fn builtin() -> Self {
        Self { handlers: HANDLERS.to_vec() }
    }

    /// The same registry with one more. It takes precedence over a builtin of the same name, and
    /// is asked after all others where nobody says which and in what order.
    #[must_use]
    pub fn with(mut self, handler: &'static dyn Handler) -> Self {
        self.handlers.retain(|builtin| builtin.name() != handler.name());
        self.handlers.push(handler);
        self
    }

    /// The handlers in the order in which they are asked.
    pub fn handlers(&self) -> impl Iterator<Item = &'static dyn Handler> {
        self.handlers.iter().copied()
    }

    /// The handler of that name or alias. Case and the choice between `-` and `_` do not matter.
    ///
    /// # Errors
    /// There is none; the error names the nearest one.
    pub fn find(&self, name: &str) -> Result<&'static dyn Handler, ConfigError> {
        let wanted = name.trim().to_ascii_lowercase().replace('_', "-");
        let is = |handler: &&&dyn Handler| handler.name() == wanted || handler.aliases().contains(&&*wanted);
        self.handlers.iter().find(is).copied().ok_or_else(|| {
            let names: Vec<&str> = self.handlers.iter().map(|handler| handler.name()).collect();
            ConfigError::unknown(SWITCH, &wanted, names)
        })
    }

    /// All handlers in their order, as far as they have something to answer with.
    ///
    /// # Errors
    /// As [`Handler::configure`].
    pub fn all(&self, sources: Sources) -> Result<Arc<[Responder]>, ConfigError> {
        self.make(self.handlers().map(|handler| Options::new(handler.name(), [])), sources)
    }

    /// The handlers of a list such as `file(filename=secret), prompt`, in its order. `all` stands
    /// for all of them in theirs, and `none` is a list of nothing.
    ///
    /// # Errors
    /// A list that cannot be read, an unknown handler or option, or what a handler finds wrong.
    pub fn select(&self, list: &str, sources: Sources) -> Result<Arc<[Responder]>, ConfigError> {
        match list.trim() {
            "all" => self.all(sources),
            "none" => Ok(Arc::new([])),
            list => self.make(selection::parse(list)?, sources),
        }
    }

    fn make(
        &self,
        entries: impl IntoIterator<Item = Options>,
        mut sources: Sources,
    ) -> Result<Arc<[Responder]>, ConfigError> {
        let mut responders = Vec::new();
        for mut options in entries {
            let handler = self.find(options.module())?;
            responders.extend(handler.configure(&mut options, &mut sources)?);
            let known: Vec<&str> = handler.options().iter().map(|option| option.name).collect();
            options.finish(&known)?;
        }
        Ok(responders.into())
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.handlers.iter().map(|handler| handler.name())).finish()
    }
}

/// What errors about the list are said of.
const SWITCH: &str = "challenge-handlers";

/// All builtin handlers, in the order in which they are asked: what knows its question first, so that
/// no password is spent on it, then what was given for this server, and a person last.
const HANDLERS: &[&dyn Handler] = &[
    // One line each, so that a new entry is one line of a change.
    &otp::Otp,
    &uri::Uri,
    &file::File,
    &env::Env,
    #[cfg(unix)]
    &kerberos::Kerberos,
    #[cfg(unix)]
    &kerberos::Gss,
    &scram::Scram,
    &ssh_key::SshKey,
    &fido2::Fido2,
    &u2f::U2f,
    &oauth::OAuth,
    &prompt::Prompt,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_has_the_order_of_the_manual_and_unique_names() {
        let names: Vec<&str> = HANDLERS.iter().map(|handler| handler.name()).collect();
        assert_eq!(
            names,
            [
                "otp", "uri", "file", "env", "kerberos", "gss", "scram", "ssh-key", "fido2", "u2f", "oauth",
                "prompt"
            ]
        );
        for name in &names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(Registry::builtin().find(&name.to_ascii_uppercase()).is_ok());
        }
    }

    #[test]
    fn every_handler_explains_itself_and_each_of_its_options() {
        for handler in HANDLERS {
            let name = handler.name();
            assert!(!handler.summary().is_empty() && !handler.summary().ends_with('.'), "{name}");
            assert!(handler.manual().len() > 80, "{name}");
            for option in handler.options() {
                assert!(!option.help.is_empty() && !option.help.ends_with('.'), "{name} {}", option.name);
                assert!(!option.value.is_empty(), "{name} {}", option.name);
            }
            let [entry] = &mut selection::parse(handler.example()).unwrap()[..] else { panic!("{name}") };
            assert_eq!(entry.module(), name);
            handler.configure(entry, &mut Sources::nowhere()).unwrap();
        }
    }

    #[test]
    fn s_065_unknown_handlers_and_options_are_errors_with_the_nearest_right_name() {
        let select = |list: &str| Registry::builtin().select(list, Sources::nowhere());
        let error = select("file,promt").unwrap_err();
        assert_eq!(error.to_string(), "challenge-handlers: there is no `promt`");
        assert_eq!(error.fix(), "did you mean `prompt`?");
        for handler in HANDLERS {
            let error = select(&format!("{}(nmae=hunter2)", handler.name())).unwrap_err();
            assert!(!format!("{error}{}", error.fix()).contains("hunter2"));
        }
        assert!(select("none").unwrap().is_empty());
        assert!(select("").is_err());
    }

    #[test]
    fn the_list_gives_the_order_and_what_has_nothing_is_left_out() {
        let sources = || Sources::nowhere().with_password_file("one").with_password_file("two");
        let names = |list: &str| -> Vec<&str> {
            let responders = Registry::builtin().select(list, sources()).unwrap();
            responders.iter().map(|responder| responder.handler).collect()
        };
        assert_eq!(names("all"), ["file", "kerberos", "gss", "prompt"]);
        assert_eq!(names("prompt, file"), ["prompt", "file"]);
        assert_eq!(names("file(filename=three), uri, file"), ["file", "file"]);
    }
}
