//! `env`: one password for everybody, taken out of the environment at start.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{Context, Module, OptionSpec, Options, password::Shared};
use crate::{
    ConfigError, Secret, Verifier,
    sys::environment::{Scrubbed, scrub_env},
};

pub(super) struct Env;

impl Module for Env {
    fn name(&self) -> &'static str {
        "env"
    }

    fn summary(&self) -> &'static str {
        "one password for everybody, taken from an environment variable"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The whole value is the password, nothing is trimmed; a newline at its end is warned about. Everybody who \
         knows it passes, whatever name they claim: it proves no name.\n\n\
         The variable is read once, when the configuration is first read, and removed from the environment, so that \
         no program started later sees it. It cannot be changed without a restart, and a reload finds the value of \
         the start. Whoever starts the gateway still has it in their own environment: `file` keeps it in fewer places."
    }

    fn example(&self) -> &'static str {
        "env(name=APP_PASSWORD)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let name = options.take("name")?.map_or_else(|| DEFAULT.to_owned(), |name| name.to_string());
        let secret = take(&name).ok_or_else(|| {
            let fix = "set the variable before the start, or write env(name=...) with the right one";
            options.error("name", "that variable is unset or empty", fix)
        })?;
        if secret.expose().ends_with(b"\n") {
            tracing::warn!("the password of the module `env` ends in a newline, which is part of it");
        }
        Ok(Verifier::Secret(Box::new(Shared(secret))))
    }
}

/// The value of the variable, which leaves the environment at the first call (S-80).
///
/// It is kept for the next: a second socket and a reload configure the module again. `None` if it
/// is unset or empty (S-32).
fn take(name: &str) -> Option<Secret> {
    let mut taken = TAKEN.lock();
    if !taken.contains_key(name) {
        let impossible = name.is_empty() || name.contains(['=', '\0']);
        let value = if impossible { None } else { std::env::var_os(name) };
        let value = Secret::new(value?.into_encoded_bytes());
        if scrub_env(name) == Scrubbed::Kept {
            tracing::warn!(
                "the password of the module `env` stays in the environment, because threads run already: configure \
                 before starting them, or use the module `file`"
            );
        }
        taken.insert(name.to_owned(), value);
    }
    taken.get(name).filter(|value| !value.is_empty()).map(|value| Secret::new(value.expose()))
}

/// What was taken out of the environment by this process.
static TAKEN: Mutex<BTreeMap<String, Secret>> = Mutex::new(BTreeMap::new());

/// Xpra's variable.
const DEFAULT: &str = "XPRA_PASSWORD";

/// What can be set.
const OPTIONS: &[OptionSpec] =
    &[OptionSpec::new("name", "VARIABLE", "XPRA_PASSWORD", "the variable that holds the password")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        modules::login::{chain, link, login},
        proto::error::Reason,
    };

    /// Puts a value where [`take`] puts it, since a test cannot set a variable while others run.
    fn taken(name: &str, value: &str) {
        TAKEN.lock().insert(name.to_owned(), Secret::new(value));
    }

    #[test]
    fn the_value_logs_in_and_names_nobody_and_nothing_else_does() {
        taken("COUNTERSIGN_TEST_ENV", "correct-horse\n");
        let chain = chain(link("env", &[("name", "COUNTERSIGN_TEST_ENV")]).unwrap());
        assert!(login(&chain, "anyone", "correct-horse\n").end.unwrap().identity().is_none());
        for wrong in ["correct-horse", "", "COUNTERSIGN_TEST_ENV"] {
            let wrong = login(&chain, "anyone", wrong);
            assert_eq!(wrong.seen, ["hmac+sha512 password", "authentication failed"]);
            assert_eq!(wrong.end.unwrap_err().reason, Reason::WrongSecret);
        }
    }

    #[test]
    fn s_032_an_unset_empty_or_impossible_variable_stops_the_start() {
        taken("COUNTERSIGN_TEST_EMPTY", "");
        for name in ["COUNTERSIGN_TEST_UNSET", "COUNTERSIGN_TEST_EMPTY", "", "A=B", "A\0B"] {
            assert!(link("env", &[("name", name)]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn s_080_a_variable_is_read_once_and_its_value_kept_for_a_reload() {
        let at_start = take("PATH").unwrap();
        assert!(TAKEN.lock().contains_key("PATH"));
        assert!(at_start.matches(take("PATH").unwrap().expose()));
        assert!(link("env", &[("name", "PATH")]).is_ok());
    }
}
