//! Which principals are users here, and by what name: a stated rule, never the claimed name (S-68, S-75, W24).

use crate::{
    Claim, Identity, Refusal, Username,
    error::ConfigError,
    modules::{OptionSpec, Options},
    proto::error::Reason,
    sys::krb5::Krb5,
};

/// The rule, as `realm`, `principal` and `name` state it.
#[derive(Debug)]
pub(super) struct Naming {
    realm: String,
    /// What stands before and after a user's name in their principal.
    around: (String, String),
    rule: Rule,
}

#[derive(Debug, PartialEq, Eq)]
enum Rule {
    /// Whoever has a principal of that form, by the name in it.
    Local,
    /// Whom `auth_to_local` in `krb5.conf` names.
    AuthToLocal,
    /// Everybody, by the whole principal.
    Principal,
}

impl Naming {
    /// Takes its options out.
    ///
    /// # Errors
    /// One of them is wrong, or there is no realm.
    pub(super) fn configure(options: &mut Options, library: &'static Krb5) -> Result<Self, ConfigError> {
        let realm = match options.take("realm")? {
            Some(realm) if is_plain(&realm, "") => realm.to_string(),
            Some(_) => {
                return Err(options.error("realm", "no realm has that name", "write realm=EXAMPLE.ORG"));
            }
            None => library.default_realm().map_err(|error| {
                options.error("realm", format!("krb5.conf names none: {error}"), "write realm=EXAMPLE.ORG")
            })?,
        };
        let template = options.take("principal")?;
        let template = template.as_ref().map_or(USERNAME, |template| template.as_str());
        let around = template.split_once(USERNAME);
        let around = around.filter(|(before, after)| is_plain(&format!("x{before}{after}"), "/"));
        let Some((before, after)) = around else {
            let fix = "write {username}, or as principal={username}/gate what goes with it; no realm";
            return Err(options.error("principal", "it is not the form of a user's principal", fix));
        };
        let rule = match options.take("name")?.as_ref().map(|rule| rule.as_str()) {
            None | Some("local") => Rule::Local,
            Some("auth-to-local") => Rule::AuthToLocal,
            Some("principal") => Rule::Principal,
            Some(_) => {
                let fix = "write name=local, name=auth-to-local or name=principal";
                return Err(options.error("name", "there is no such rule", fix));
            }
        };
        Ok(Self { realm, around: (before.to_owned(), after.to_owned()), rule })
    }

    /// The principal of a user.
    ///
    /// # Errors
    /// The name holds what means something else in a principal: no user has it.
    pub(super) fn principal_of(&self, user: &Username) -> Result<String, Refusal> {
        if user.as_str().contains(['@', '\\']) {
            return Err(Refusal::new(Reason::UnknownUser, "no principal has such a name"));
        }
        let (before, after) = &self.around;
        Ok(format!("{before}{user}{after}@{}", self.realm))
    }

    /// Who holds `principal`, which was proved.
    ///
    /// # Errors
    /// By the rule, nobody here.
    pub(super) fn identity(&self, principal: &str, library: &'static Krb5) -> Result<Identity, Refusal> {
        let nobody = |why| Err(Refusal::new(Reason::UnknownUser, format!("{principal}: {why}")));
        // The library writes what would be misread with a backslash before it: such names are nobody's.
        if principal.contains('\\') {
            return nobody("the principal has characters that no name has here");
        }
        let name = match self.rule {
            Rule::Local => match self.strip(principal) {
                Some(name) => name.to_owned(),
                None => return nobody("it is not a principal of the realm, or not a user's"),
            },
            Rule::AuthToLocal => match library.local_name(principal) {
                Ok(Some(name)) => name,
                Ok(None) => return nobody("auth_to_local gives it no name"),
                Err(error) => return Err(Refusal::module_failed(error.to_string())),
            },
            Rule::Principal => principal.to_owned(),
        };
        let user = Username::parse(&name)?;
        // Another spelling of the same letters would be another principal by the same name.
        if user.as_str() != name {
            return nobody("its name is not in the normal form");
        }
        Ok(Identity::new(user))
    }

    /// The same, of whom nobody else may be claimed: not the name, nor the principal in its place (W24).
    ///
    /// # Errors
    /// By the rule nobody here, or another than the client says.
    pub(super) fn identity_as_claimed(
        &self,
        principal: &str,
        claim: &Claim,
        library: &'static Krb5,
    ) -> Result<Identity, Refusal> {
        let identity = self.identity(principal, library)?;
        let agrees = claim.username.as_ref().is_none_or(|claimed| {
            *claimed == identity.name || self.principal_of(claimed).is_ok_and(|claimed| claimed == principal)
        });
        if agrees {
            return Ok(identity);
        }
        let cause = format!("the ticket is of {principal}, and the client says that it is somebody else");
        Err(Refusal::new(Reason::UsernameMismatch, cause))
    }

    /// The user's name in a principal of the realm and the form.
    fn strip<'a>(&self, principal: &'a str) -> Option<&'a str> {
        let (before, after) = &self.around;
        let of_realm = principal.strip_suffix(&self.realm)?.strip_suffix('@')?;
        let name = of_realm.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
        Some(name).filter(|name| !name.is_empty() && !name.contains(['/', '@']))
    }
}

/// Whether these are characters that need no thought in a principal.
fn is_plain(text: &str, more: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || more.contains(c);
    !text.is_empty() && text.chars().all(plain)
}

const USERNAME: &str = "{username}";

/// The options of every module of Kerberos about names.
pub(super) const REALM: OptionSpec =
    OptionSpec::new("realm", "REALM", "", "the realm of the users; krb5.conf's own unless it is written");
pub(super) const PRINCIPAL: OptionSpec = OptionSpec::new(
    "principal",
    "TEMPLATE",
    USERNAME,
    "the form of a user's principal in that realm, such as {username}/gate",
);
pub(super) const NAME: OptionSpec = OptionSpec::new(
    "name",
    "local|auth-to-local|principal",
    "local",
    "who it is: the user's name in the principal, what krb5.conf says, or the whole principal",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(values: &[(&str, &str)]) -> Result<Naming, ConfigError> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Naming::configure(&mut Options::new("gss", values), Krb5::load().unwrap())
    }

    fn name(naming: &Naming, principal: &str) -> Result<String, Reason> {
        let identity = naming.identity(principal, Krb5::load().unwrap());
        identity.map(|identity| identity.name.to_string()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn s_075_w24_a_user_of_the_realm_is_known_by_name_and_nobody_else_is() {
        let naming = naming(&[("realm", "EXAMPLE.TEST")]).unwrap();
        assert_eq!(name(&naming, "alice@EXAMPLE.TEST").as_deref(), Ok("alice"));
        for nobody in [
            "alice@OTHER.TEST",
            "alice@example.test",
            "alice@SUB.EXAMPLE.TEST",
            "alice@XEXAMPLE.TEST",
            "alice/admin@EXAMPLE.TEST",
            "host/localhost@EXAMPLE.TEST",
            "alice\\@OTHER.TEST@EXAMPLE.TEST",
            "alice@OTHER.TEST@EXAMPLE.TEST",
            "ali\\/ce@EXAMPLE.TEST",
            "@EXAMPLE.TEST",
            "alice",
            "EXAMPLE.TEST",
            "",
            "Zoe\u{308}@EXAMPLE.TEST",
        ] {
            assert_eq!(name(&naming, nobody), Err(Reason::UnknownUser), "{nobody:?}");
        }
        assert_eq!(name(&naming, "-rf@EXAMPLE.TEST"), Err(Reason::BadUsername));
    }

    #[test]
    fn a_form_of_ones_own_counts_both_ways() {
        let naming = naming(&[("realm", "R"), ("principal", "{username}/gate")]).unwrap();
        let alice = Username::parse("alice").unwrap();
        assert_eq!(naming.principal_of(&alice).unwrap(), "alice/gate@R");
        assert_eq!(name(&naming, "alice/gate@R").as_deref(), Ok("alice"));
        for nobody in ["alice@R", "alice/admin@R", "a/b/gate@R", "/gate@R"] {
            assert_eq!(name(&naming, nobody), Err(Reason::UnknownUser), "{nobody}");
        }
    }

    #[test]
    fn s_068_the_whole_principal_keeps_realms_apart() {
        let naming = naming(&[("realm", "R"), ("name", "principal")]).unwrap();
        assert_eq!(name(&naming, "alice@R").as_deref(), Ok("alice@R"));
        assert_eq!(name(&naming, "alice@OTHER").as_deref(), Ok("alice@OTHER"));
        assert_eq!(name(&naming, "alice/admin@R"), Err(Reason::BadUsername));
        assert_eq!(name(&naming, "a\\@R@OTHER"), Err(Reason::UnknownUser));
    }

    #[test]
    fn w24_whoever_claims_to_be_another_is_refused() {
        let naming = naming(&[("realm", "R")]).unwrap();
        let claimed = |name: &str, principal: &str| {
            let claim = Claim::named(name).unwrap();
            naming.identity_as_claimed(principal, &claim, Krb5::load().unwrap()).map_err(|no| no.reason)
        };
        assert_eq!(claimed("alice", "alice@R").unwrap().name.as_str(), "alice");
        assert_eq!(claimed("", "alice@R").unwrap().name.as_str(), "alice");
        for other in ["bob", "Alice", "alice@OTHER"] {
            assert_eq!(claimed(other, "alice@R"), Err(Reason::UsernameMismatch), "{other}");
        }
    }

    #[test]
    fn s_065_names_that_would_be_read_as_more_than_a_name_are_refused() {
        let naming = naming(&[("realm", "R")]).unwrap();
        for odd in ["alice@OTHER", "a\\b", "a@b@c"] {
            let refusal = naming.principal_of(&Username::parse(odd).unwrap()).unwrap_err();
            assert_eq!(refusal.reason, Reason::UnknownUser, "{odd}");
        }
        for wrong in [
            ("realm", ""),
            ("realm", "A@B"),
            ("realm", "A B"),
            ("principal", ""),
            ("principal", "alice"),
            ("principal", "{username}@OTHER"),
            ("principal", "{username}\\"),
            ("principal", "{username}{username}"),
            ("name", "claimed"),
        ] {
            let error = super::Naming::configure(
                &mut Options::new("gss", [("realm", "R"), wrong].map(|(k, v)| (k.to_owned(), v.to_owned()))),
                Krb5::load().unwrap(),
            );
            assert!(error.is_err(), "{wrong:?}");
        }
    }
}
