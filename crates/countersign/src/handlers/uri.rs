//! `uri`: the password of the address.

use std::sync::Arc;

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::Options,
    proto::client::{Failure, ProvideSecret, Provided, Question, Responder},
};

pub(super) struct Uri;

impl Handler for Uri {
    fn name(&self) -> &'static str {
        "uri"
    }

    fn summary(&self) -> &'static str {
        "the password of the address, as in tcp://user:password@host/"
    }

    fn manual(&self) -> &'static str {
        "It answers the first question with the password that the address holds. Everybody on this machine can read \
         a command line while the program runs, and the shell keeps it in its history: use a file, a variable \
         or the prompt where that matters."
    }

    fn example(&self) -> &'static str {
        "uri"
    }

    fn configure(&self, _: &mut Options, sources: &mut Sources) -> Result<Option<Responder>, ConfigError> {
        Ok(sources.address_password.take().map(|password| Responder::secret("uri", Given(password))))
    }
}

struct Given(Arc<Secret>);

impl ProvideSecret for Given {
    fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
        Ok(Some(Provided::Text(Secret::new(self.0.expose()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_out_unless_the_address_has_a_password() {
        let configure = |password| {
            let mut sources = Sources::nowhere().with_address_password(password);
            Uri.configure(&mut Options::new("uri", []), &mut sources).unwrap()
        };
        assert!(configure(None).is_none());
        assert!(configure(Some(Arc::new(Secret::new("one")))).is_some());
    }
}
