//! `password`: one password for everybody, written in the configuration.

use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, ConfigError, Refusal, Secret, Verifier,
    proto::{
        chain::{Entry, LookupSecret},
        mechanism::hmac::StoredSecret,
    },
};

pub(super) struct Password;

impl Module for Password {
    fn name(&self) -> &'static str {
        "password"
    }

    fn summary(&self) -> &'static str {
        "one password for everybody, written in the configuration"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Everybody who knows the password passes, whatever name they claim: it proves no name.\n\n\
         A password on the command line can be read by every user of the machine while the program starts, and \
         stays in the shell's history. Write it in the configuration file, or better use `file`. A value with a \
         comma or a parenthesis needs quotes: value=\"a,b\"."
    }

    fn example(&self) -> &'static str {
        "password(value=\"correct horse battery staple\")"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let secret = options.secret("value")?;
        tracing::warn!("a password stands in the configuration; the module `file` keeps it out of sight");
        Ok(Verifier::Secret(Box::new(Shared(secret))))
    }
}

/// One secret for everybody.
pub(super) struct Shared(pub(super) Secret);

impl LookupSecret for Shared {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new(self.0.expose()))))
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// What can be set.
const OPTIONS: &[OptionSpec] = &[OptionSpec::new("value", "TEXT", "", "the password")];

#[cfg(test)]
mod tests {
    use crate::{
        modules::login::{chain, link, login},
        proto::error::Reason,
    };

    #[test]
    fn the_value_logs_in_and_names_nobody_and_nothing_else_does() {
        let chain = chain(link("password", &[("value", "a,b=c:d")]).unwrap());
        assert!(login(&chain, "anyone", "a,b=c:d").end.unwrap().identity().is_none());
        for wrong in ["a", "", "A,B=C:D"] {
            let wrong = login(&chain, "anyone", wrong);
            assert_eq!(wrong.seen, ["hmac+sha512 password", "authentication failed"]);
            assert_eq!(wrong.end.unwrap_err().reason, Reason::WrongSecret);
        }
    }

    #[test]
    fn s_032_an_empty_or_missing_value_stops_the_start() {
        assert!(link("password", &[]).is_err());
        assert!(link("password", &[("value", "")]).is_err());
    }
}
