//! One account as a table or a password file spells it, and what its columns mean.

use std::sync::OnceLock;

use zeroize::Zeroizing;

use super::verifier::{Malformed, Secrets};
use crate::{
    Identity, Secret, Username,
    sys::{accounts, clock},
};

/// The columns of one account, as they stand. Absent and empty are the same.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) username: String,
    pub(crate) password: Option<Secret>,
    pub(crate) verifier: Option<Secret>,
    pub(crate) uid: String,
    pub(crate) gid: String,
    pub(crate) displays: String,
    pub(crate) env_options: String,
    pub(crate) session_options: String,
    pub(crate) disabled: bool,
    /// Seconds since 1970.
    pub(crate) expires: Option<i64>,
}

impl Row {
    /// What passes for this account. Where there is a verifier, the password column is not looked at.
    pub(crate) fn secrets(&self) -> Result<Secrets, Malformed> {
        match (&self.verifier, &self.password) {
            (Some(verifier), _) if !verifier.is_empty() => {
                Secrets::parse(std::str::from_utf8(verifier.expose()).map_err(|_| Malformed)?)
            }
            (_, Some(password)) => Secrets::from_password_column(password),
            (_, None) => Ok(Secrets::default()),
        }
    }

    /// The password column as text, for a query that takes it.
    pub(super) fn password_text(&self) -> Option<Zeroizing<String>> {
        let password = self.password.as_ref()?;
        Some(Zeroizing::new(String::from_utf8_lossy(password.expose()).into_owned()))
    }

    /// Whom a secret of this row proves.
    ///
    /// # Errors
    /// What is wrong with a column, without the values of options (they may hold a password).
    pub(crate) fn identity(&self, name: Username) -> Result<Identity, String> {
        let uid = match self.uid.trim() {
            "" => nobody().0,
            text => Some(accounts::parse_uid(text).map_err(|unknown| format!("uid: {}", unknown.unsaid()))?),
        };
        let gid = match self.gid.trim() {
            "" => nobody().1,
            text => Some(accounts::parse_gid(text).map_err(|unknown| format!("gid: {}", unknown.unsaid()))?),
        };
        let (environment, options) = (pairs(&self.env_options), pairs(&self.session_options));
        check_environment(&environment)?;
        let displays = self.displays.split(',').map(str::trim).filter(|display| !display.is_empty());
        let displays = displays.map(str::to_owned).collect();
        Ok(Identity::new(name).with_ids(uid, gid).with_session(displays, environment, options))
    }

    /// Whether the account may not log in now, and why.
    pub(crate) fn closed(&self) -> Option<&'static str> {
        match self.expires {
            _ if self.disabled => Some("the account is disabled"),
            Some(expires) if expires <= clock::now() => Some("the account has expired"),
            _ => None,
        }
    }
}

/// `key=value` items between semicolons, blanks around them trimmed; what has no `=` is left out
/// (`docs/protocol/accounts.md`).
fn pairs(column: &str) -> Vec<(String, String)> {
    let pairs = column.split(';').filter_map(|item| item.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Refuses variables that change which code a program runs, or who it thinks its user is.
///
/// # Errors
/// The variable's name, never its value.
pub(crate) fn check_environment(environment: &[(String, String)]) -> Result<(), String> {
    for (key, value) in environment {
        let begins = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_name = begins && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || value.contains('\0') {
            return Err("env_options holds what is no environment variable".to_owned());
        }
        if FORBIDDEN.contains(&key.as_str()) {
            return Err(format!("env_options may not set {key}"));
        }
        if let Some(prefix) = FORBIDDEN_PREFIXES.iter().find(|prefix| key.starts_with(**prefix)) {
            return Err(format!("env_options may set nothing that begins with {prefix}"));
        }
    }
    Ok(())
}

/// The ids of an account without any: `nobody` and `nogroup`, where this system has them. Looked up
/// once, so that a known name costs no more than an unknown one (S-26).
fn nobody() -> (Option<u32>, Option<u32>) {
    static IDS: OnceLock<(Option<u32>, Option<u32>)> = OnceLock::new();
    *IDS.get_or_init(|| (accounts::nobody(), accounts::nogroup()))
}

const FORBIDDEN: &[&str] = &[
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELL",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "HOME",
    "USER",
    "LOGNAME",
    "MAIL",
    "TMPDIR",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "TZDIR",
    "XDG_RUNTIME_DIR",
    "JAVA_TOOL_OPTIONS",
    "CLASSPATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
];

/// `BASH_FUNC_`: functions that a shell imports. `COUNTERSIGN_`: what the gateway alone may say (S-82).
const FORBIDDEN_PREFIXES: &[&str] = &[
    "LD_",
    "DYLD_",
    "BASH_FUNC_",
    "PYTHON",
    "PERL",
    "RUBY",
    "MALLOC_",
    "SUDO_",
    "GIT_",
    "COUNTERSIGN_",
    "SSL_",
    "OPENSSL_",
    "KRB5",
    "GTK_",
    "QT_",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Username {
        Username::parse("alice").unwrap()
    }

    #[test]
    fn columns_are_read_as_xpra_reads_them_with_displays_trimmed() {
        let row = Row {
            uid: "1000".into(),
            gid: "root".into(),
            displays: " :10 , ,tcp://host:1".into(),
            env_options: " A = 1 ;nothing; B=2=3".into(),
            session_options: "password=x;compression_level=1".into(),
            ..Row::default()
        };
        let identity = row.identity(alice()).unwrap();
        assert_eq!((identity.uid, identity.gid), (Some(1000), Some(0)));
        assert_eq!(identity.sessions, [":10", "tcp://host:1"]);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(identity.environment, [pair("A", "1"), pair("B", "2=3")]);
        assert_eq!(identity.session_options.len(), 2);
    }

    #[test]
    fn s_070_no_ids_are_nobodys_and_unknown_ones_an_error() {
        let identity = Row::default().identity(alice()).unwrap();
        assert_eq!((identity.uid, identity.gid), nobody());
        assert!(identity.uid != Some(0) && identity.gid != Some(0));
        for bad in ["no-such-account-here", "-1", "4294967295"] {
            assert!(Row { uid: bad.into(), ..Row::default() }.identity(alice()).is_err(), "{bad}");
            assert!(Row { gid: bad.into(), ..Row::default() }.identity(alice()).is_err(), "{bad}");
        }
    }

    /// Found by fuzzing: a password with a `|` in it has its rest in the columns behind.
    #[test]
    fn s_079_what_cannot_be_used_is_told_without_a_word_of_it() {
        let wrong = |change: fn(&mut Row)| {
            let mut row = Row::default();
            change(&mut row);
            row.identity(alice()).unwrap_err()
        };
        for error in [
            wrong(|row| row.uid = "canary".into()),
            wrong(|row| row.gid = "7canary".into()),
            wrong(|row| row.env_options = "LD_canary=1".into()),
            wrong(|row| row.env_options = "can ary=1".into()),
        ] {
            assert!(!error.contains("canary") && !error.contains("can ary"), "{error}");
        }
    }

    #[test]
    fn s_082_variables_that_choose_code_or_identity_are_refused_by_name_only() {
        for key in ["LD_PRELOAD", "PATH", "PYTHONPATH", "BASH_ENV", "COUNTERSIGN_USER", "A B", "1A", ""] {
            let row = Row { env_options: format!("OK=1;{key}=canary"), ..Row::default() };
            assert!(!row.identity(alice()).unwrap_err().contains("canary"), "{key}");
        }
        assert!(Row { env_options: "XPRA_X=1".into(), ..Row::default() }.identity(alice()).is_ok());
    }

    #[test]
    fn s_098_an_account_closes_when_it_is_disabled_or_its_time_has_come() {
        let row = |disabled, expires| Row { disabled, expires, ..Row::default() }.closed().is_some();
        assert!(!row(false, None) && !row(false, Some(4_000_000_000)));
        assert!(
            row(true, None) && row(false, Some(0)) && row(false, Some(-5)) && row(false, Some(1_000_000_000))
        );
    }
}
