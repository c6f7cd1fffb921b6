//! `env`: the password in an environment variable.

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::client::{Failure, ProvideSecret, Provided, Question, Responder},
};

pub(super) struct Env;

impl Handler for Env {
    fn name(&self) -> &'static str {
        "env"
    }

    fn summary(&self) -> &'static str {
        "the password in an environment variable"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It answers one question with the value of the variable. One that is not set, or empty, answers nothing. \
         Programs that this one starts inherit the variable, and root can read it while it runs, so a file is the \
         better place for a password that lasts."
    }

    fn example(&self) -> &'static str {
        "env(name=APP_PASSWORD)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        let name = options.take("name")?;
        let name = name.as_ref().map_or(DEFAULT, |name| name.as_str());
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(options.error("name", "no variable can have that name", "write name=VARIABLE"));
        }
        let value = sources.variable(name);
        Ok(value.map(|value| Responder::secret("env", Variable(Secret::new(value.into_encoded_bytes())))))
    }
}

/// The value as it was when the program started.
struct Variable(Secret);

impl ProvideSecret for Variable {
    fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
        let secret = Secret::new(self.0.expose());
        // What is no UTF-8 is no text, so it has one spelling.
        let text = std::str::from_utf8(secret.expose()).is_ok();
        Ok(Some(if text { Provided::Text(secret) } else { Provided::Bytes(secret) }))
    }
}

/// The variable that Xpra's clients read.
const DEFAULT: &str = "XPRA_PASSWORD";

const OPTIONS: &[OptionSpec] =
    &[OptionSpec::new("name", "VARIABLE", DEFAULT, "the variable that holds the password")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_answers_nothing_and_another_may_be_named() {
        let configure = |options: &[(&str, &str)]| {
            let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let mut sources = Sources::nowhere().with_env(|name| match name {
                "XPRA_PASSWORD" => Some("one".into()),
                "EMPTY" => Some("".into()),
                _ => None,
            });
            Env.configure(&mut Options::new("env", options), &mut sources)
        };
        assert!(configure(&[]).unwrap().is_some());
        for nothing in ["EMPTY", "UNSET"] {
            assert!(configure(&[("name", nothing)]).unwrap().is_none());
        }
        assert!(configure(&[("name", "")]).is_err());
        assert!(configure(&[("name", "A=B")]).is_err());
    }
}
