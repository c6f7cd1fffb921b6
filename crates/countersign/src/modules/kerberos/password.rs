//! `kerberos-password`: a password that the KDC judges, and a KDC that proves itself.

use super::{Calls, INSECURE, KEYTAB, TIMEOUT, keytab, principal, principal::Naming, service};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    error::ConfigError,
    modules::{Context, Module, OptionSpec, Options},
    needs::Need,
    proto::{chain::CheckPassword, error::Reason},
    sys::krb5::{Krb5, Krb5Error, Krb5ErrorKind, PasswordLogin},
};

pub(in crate::modules) struct KerberosPassword;

impl Module for KerberosPassword {
    fn name(&self) -> &'static str {
        "kerberos-password"
    }

    fn summary(&self) -> &'static str {
        "passwords that a Kerberos KDC takes"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The client sends the password, over TLS, SSH or a local socket only, and the KDC of the realm judges it. \
         Then the KDC has to prove itself: whoever can answer in its place could take any password. So a ticket for \
         a service is asked for, which only the KDC can make for a key that is in the keytab of this machine: for \
         service, or for any service in it. Without a keytab the gateway does not start. Locked and expired \
         principals and passwords that have to be changed are refused.\n\n\
         The claimed name becomes a principal by realm and principal, and the principal in the KDC's own spelling a \
         name by name: local takes the name out of alice@REALM and refuses all other forms, auth-to-local asks the \
         rules in krb5.conf, principal takes the whole.\n\n\
         Needs libkrb5.so.3 (Debian: libkrb5-3). The library reads /etc/krb5.conf, or what KRB5_CONFIG names, at \
         each login. A KDC that is silent is asked for longer than anybody waits: after timeout the client is \
         refused, and when 64 such questions are still open, more are refused as busy."
    }

    fn example(&self) -> &'static str {
        "kerberos-password(service=host/gate.example.org, keytab=/etc/countersign/gate.keytab)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn needs(&self, options: &Options) -> Vec<Need> {
        super::needs(self.options(), options)
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let library = Krb5::load().map_err(|error| error.within("module kerberos-password"))?;
        let calls = Calls::configure(options)?;
        let naming = Naming::configure(options, library)?;
        let service = service(options)?.map(|service| service.to_string());
        let keytab = keytab(options)?;
        library.check_keytab(keytab.as_deref(), service.as_deref()).map_err(|error| {
            let why = format!("no KDC could prove itself: {error}");
            let fix = "write keytab=FILE with the key of a service, as kadmin's ktadd makes it";
            options.error("keytab", why, fix)
        })?;
        Ok(Verifier::Password(Box::new(Passwords { library, calls, naming, service, keytab })))
    }
}

/// Judges by the KDC.
struct Passwords {
    library: &'static Krb5,
    calls: Calls,
    naming: Naming,
    service: Option<String>,
    keytab: Option<String>,
}

impl CheckPassword for Passwords {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        // S-32: an empty password is none, whatever a KDC thinks of it.
        if password.is_empty() {
            return Err(Refusal::new(Reason::WrongSecret, "the password is empty"));
        }
        let user = claim.username.as_ref().ok_or_else(Refusal::unknown_user)?;
        let login = PasswordLogin {
            principal: self.naming.principal_of(user)?,
            password: Secret::new(password.expose()),
            keytab: self.keytab.clone(),
            service: self.service.clone(),
        };
        let library = self.library;
        let principal = self.calls.run(move || library.check_password(&login))?.map_err(refused)?;
        self.naming.identity(&principal, library).map(Some)
    }
}

fn refused(error: Krb5Error) -> Refusal {
    let reason = match error.kind {
        Krb5ErrorKind::Unknown => Reason::UnknownUser,
        Krb5ErrorKind::Locked => Reason::AccountDisabled,
        Krb5ErrorKind::Wrong => Reason::WrongSecret,
        Krb5ErrorKind::Undecided => Reason::ModuleFailed,
    };
    Refusal::new(reason, error.to_string())
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "service",
        "NAME/HOST",
        "",
        "the service of the keytab by which the KDC proves itself; any of them unless it is written",
    ),
    KEYTAB,
    principal::REALM,
    principal::PRINCIPAL,
    principal::NAME,
    TIMEOUT,
    INSECURE,
];

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::modules::login::link;

    #[test]
    fn s_075_without_a_key_to_prove_a_kdc_by_the_gateway_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keytab");
        let configured = |more: &[(&str, &str)]| {
            let mut options = vec![("realm", "EXAMPLE.TEST"), ("keytab", path.to_str().unwrap())];
            options.extend_from_slice(more);
            link("kerberos_password", &options).map(|_| ())
        };
        assert!(configured(&[]).is_err(), "it is absent");
        // The head of a keytab and nothing in it.
        fs::write(&path, [5, 2]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = configured(&[]).unwrap_err();
        assert!(error.to_string().contains("no KDC could prove itself"), "{error}");
        assert!(configured(&[("service", "host/localhost")]).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(configured(&[]).unwrap_err().fix(), format!("chmod 600 {}", path.display()), "S-61");
    }

    #[test]
    fn s_032_an_empty_password_and_no_name_are_refused_before_the_kdc_hears_of_them() {
        let mut options =
            Options::new("kerberos-password", [("realm".to_owned(), "NOWHERE.INVALID".to_owned())]);
        let library = Krb5::load().unwrap();
        let passwords = Passwords {
            library,
            calls: Calls::configure(&mut options).unwrap(),
            naming: Naming::configure(&mut options, library).unwrap(),
            service: None,
            keytab: None,
        };
        let reason = |name, password: &str| {
            let (claim, password) = (Claim::named(name).unwrap(), Secret::new(password));
            passwords.check(&Peer::unix(None), &claim, &password).unwrap_err().reason
        };
        assert_eq!(reason("alice", ""), Reason::WrongSecret);
        assert_eq!(reason("", "secret"), Reason::UnknownUser);
        assert_eq!(reason("alice@OTHER", "secret"), Reason::UnknownUser);
        assert_eq!(reason("alice", "sec\0ret"), Reason::ModuleFailed);
    }

    #[test]
    fn s_065_options_that_cannot_work_are_start_errors_that_repeat_no_value() {
        for wrong in [
            ("service", "secret-value"),
            ("timeout", "0"),
            ("timeout", "2m"),
            ("keytab", "secret:value"),
            ("insecure", "secret-value"),
        ] {
            let error = link("kerberos-password", &[("realm", "R"), wrong]).unwrap_err();
            assert!(!format!("{error}{}", error.fix()).contains("secret-value"), "{error}");
        }
    }
}
