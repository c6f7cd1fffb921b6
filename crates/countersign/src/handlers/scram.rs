//! `scram`: a password that is proved by SCRAM and by nothing less.

use super::{Handler, Sources, env::Env, file::File, prompt::Prompt, uri::Uri};
use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::client::{Means, Responder},
};

pub(super) struct Scram;

impl Handler for Scram {
    fn name(&self) -> &'static str {
        "scram"
    }

    fn summary(&self) -> &'static str {
        "a password that is proved by SCRAM, never by less, to a server that proves itself too"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Every source of passwords answers SCRAM where a server asks for it; but a server chooses what it asks for, and \
         one that is not what it seems would choose less. A password that is given to this handler is proved by SCRAM \
         (SHA-512 or SHA-256) or not at all: no server learns the password or anything quick to guess at, and one that \
         does not know the password is left. With channel-binding=require it is also only proved through a TLS session \
         that nobody sits in between.\n\n\
         The password is that of the file or variable that is named, else that of the address, else that of the next \
         --password-file; with prompt=yes a person is asked. Choose it alone, as in --challenge-handlers=scram, or in \
         front of others: handlers behind it may answer what it does not."
    }

    fn example(&self) -> &'static str {
        "scram(filename=/home/alice/.app-password, strip=yes, channel-binding=require)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        let bound = options.choice("channel-binding", ["prefer", "require"])? == "require";
        let source = if options.flag("prompt", false)? {
            Prompt.configure(options, sources)?
        } else if options.has("name") {
            Env.configure(options, sources)?
        } else if options.has("filename") || sources.address_password.is_none() {
            File.configure(options, sources)?
        } else {
            Uri.configure(options, sources)?
        };
        Ok(source.and_then(|responder| match responder.means {
            Means::Secret(source) => Some(Responder::new("scram", Means::Scram { source, bound })),
            Means::Scram { .. } | Means::Exchange(_) => None,
        }))
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file that holds the password"),
    OptionSpec::new("strip", "yes|no", "no", "leave one newline at the end of the file out"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
    OptionSpec::new("name", "VARIABLE", "", "the variable that holds the password"),
    OptionSpec::new("prompt", "yes|no", "no", "ask a person"),
    OptionSpec::new(
        "channel-binding",
        "prefer|require",
        "prefer",
        "answer only through TLS 1.3, bound to it",
    ),
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Secret;

    fn configure(options: &[(&str, &str)], sources: &mut Sources) -> Option<Means> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut options = Options::new("scram", options);
        let responder = Scram.configure(&mut options, sources).unwrap();
        options.finish(&[]).unwrap();
        responder.map(|responder| responder.means)
    }

    #[test]
    fn the_password_has_one_place_and_is_left_to_others_where_none_is_named() {
        let address = Some(Arc::new(Secret::new("one")));
        let mut sources = Sources::nowhere().with_address_password(address).with_password_file("two");
        sources = sources.with_env(|name| (name == "SET").then(|| "three".into()));
        assert!(configure(&[("filename", "x")], &mut sources).is_some());
        assert!(configure(&[("name", "SET")], &mut sources).is_some());
        assert!(configure(&[("name", "UNSET")], &mut sources).is_none());
        assert!(sources.address_password.is_some() && sources.password_files.len() == 1);
        for left in [1, 0] {
            let made = configure(&[], &mut sources);
            assert!(matches!(made, Some(Means::Scram { bound: false, .. })));
            assert_eq!(sources.password_files.len(), left);
        }
        assert!(configure(&[], &mut sources).is_none());
        let bound = configure(&[("prompt", "yes"), ("channel-binding", "require")], &mut sources);
        assert!(matches!(bound, Some(Means::Scram { bound: true, .. })));
    }
}
