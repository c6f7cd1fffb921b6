//! `win32` (`sys` on Windows): accounts of this machine and its domains, by Windows' own logon.
//!
//! What ran, and what did not:
//!
//! | part | |
//! |---|---|
//! | forms of names, refusals, identities, guests | ran in the tests below, on Linux, against a Windows made up there |
//! | `LogonUserW` | type-checked, linked for `x86_64-pc-windows-gnu`, and called under Wine 8, which takes every password and gives a token that stands for nobody; that is refused (`tests/windows.rs`) |
//! | from a token to its SID, its domain and name | ran under Wine, with the token of the process itself |
//! | a password judged by a real Windows, a domain controller, a locked or expired account, a guest | never |
//! | a build for MSVC | never |

use std::time::Duration;

use super::{Context, Module, OptionSpec, Options};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    error::ConfigError,
    proto::{chain::CheckPassword, error::Reason},
    sys::{
        detached::{Detached, Lost},
        logon::{self, Account, Attempt, Fault, LogonKind},
    },
};

pub(super) struct Win32;

impl Module for Win32 {
    fn name(&self) -> &'static str {
        "win32"
    }

    fn aliases(&self) -> &'static [&'static str] {
        // Elsewhere that is `pam`.
        if cfg!(windows) { &["sys"] } else { &[] }
    }

    fn summary(&self) -> &'static str {
        "checks passwords of Windows accounts, of this machine or of a domain"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "On Windows only; `sys` is this module there and `pam` elsewhere. The client sends the password, over TLS, SSH \
         or a local socket only, and Windows judges it by a network logon: locked, disabled and expired accounts, \
         passwords that have to be changed and accounts that may not use this machine over the network are refused, \
         and nothing is left behind by which other machines could be entered in the account's name. logon=batch asks \
         for the right to run unattended instead.\n\n\
         Names are taken as alice, DOMAIN\\alice and alice@corp.example; alice alone is looked for in domain, which \
         is this machine without that option. The identity is what Windows calls the account that the password was \
         taken for: alice in that domain, DOMAIN\\alice in any other, so write domain as `whoami` prints it. Windows \
         may let unknown names in as its guest, with any password: guests are refused.\n\n\
         The password is erased when it is judged, and neither it nor the logon is kept. Windows that is silent, \
         because a domain controller is, is left after timeout; when 64 such questions are still open, more are \
         refused as busy. Windows itself may lock accounts after some wrong passwords, wherever they come from: \
         ratelimit in front leaves fewer to a stranger."
    }

    fn example(&self) -> &'static str {
        "win32(domain=CORP)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        if !logon::IS_HERE {
            let fix = "write auth=pam here, or auth=sys, which is the right one on either system";
            return Err(ConfigError::new("module win32", "this system is not Windows", fix));
        }
        Ok(Verifier::Password(Box::new(Passwords::configure(options)?)))
    }
}

/// Judges by Windows.
struct Passwords {
    /// Where a name alone is looked for: `.` is this machine.
    domain: String,
    /// The domain whose accounts are called by their name alone.
    home: String,
    kind: LogonKind,
    timeout: Duration,
    calls: Detached,
    ask: fn(Attempt, &Detached, Duration) -> Result<Account, Fault>,
}

impl Passwords {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let domain =
            options.take("domain")?.map_or_else(|| HERE.to_owned(), |domain| domain.trim().to_owned());
        if domain.is_empty() || domain.contains(['\\', '@', '\0']) {
            let fix = "write domain=NAME as `whoami` prints it before the backslash";
            return Err(options.error("domain", "it is no name of a domain", fix));
        }
        let kind = match options.take("logon")?.as_deref().map(|kind| kind.trim().to_owned()).as_deref() {
            None | Some("network") => LogonKind::Network,
            Some("batch") => LogonKind::Batch,
            Some(_) => return Err(options.error("logon", "there is no such kind", "write network or batch")),
        };
        let timeout = options.duration("timeout", Duration::from_secs(30))?;
        if timeout.is_zero() || timeout > LONGEST {
            let fix = "write a length of time up to a minute, as timeout=30s";
            return Err(options.error("timeout", "a check must end", fix));
        }
        let home = if domain == HERE { logon::machine() } else { domain.clone() };
        Ok(Self { domain, home, kind, timeout, calls: Detached::new(AT_ONCE), ask: logon::check })
    }

    /// Who the account is, whatever name was claimed for it.
    fn identity(&self, account: &Account) -> Result<Identity, Refusal> {
        if is_guest(&account.sid) {
            return Err(Refusal::new(Reason::UnknownUser, "Windows takes the client for its guest"));
        }
        let at_home = account.domain.to_lowercase() == self.home.to_lowercase();
        let name = match at_home {
            true => Username::parse(&account.name),
            false => Username::parse(&format!("{}\\{}", account.domain, account.name)),
        };
        name.map(Identity::new)
    }
}

impl CheckPassword for Passwords {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        // S-32: Windows lets accounts have no password. What follows a NUL it would not see.
        if password.is_empty() || password.expose().contains(&0) {
            return Err(Refusal::new(Reason::WrongSecret, "the password is empty or holds a NUL byte"));
        }
        let claimed = claim.username.as_ref().ok_or_else(Refusal::unknown_user)?;
        let (domain, user) = parts(claimed.as_str(), &self.domain)
            .ok_or_else(|| Refusal::new(Reason::UnknownUser, "that is no name of an account"))?;
        // Erased with the attempt, whatever comes of it (W16).
        let password = Secret::new(password.expose()).into_utf8();
        let attempt = Attempt { domain, user, password, kind: self.kind };
        let account = (self.ask)(attempt, &self.calls, self.timeout).map_err(refused)?;
        self.identity(&account).map(Some)
    }
}

/// Domain and account of `USER`, `DOMAIN\USER` and `USER@DOMAIN`. The last one is a name of its own, which
/// Windows resolves: it has no domain beside it.
fn parts(name: &str, usual: &str) -> Option<(Option<String>, String)> {
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None if name.contains('@') => (None, name),
        None => (Some(usual), name),
    };
    let whole = match domain {
        Some(domain) => !domain.trim().is_empty() && !domain.contains('@'),
        // An `@` at either end is part of no such name.
        None => user.split('@').all(|part| !part.trim().is_empty()),
    };
    let fits = |text: &str| !text.contains(['\\', '\0']) && text.chars().count() <= LONGEST_NAME;
    let named = whole && !user.trim().is_empty() && fits(user) && domain.is_none_or(fits);
    named.then(|| (domain.map(str::to_owned), user.to_owned()))
}

/// The guest of a machine or domain: the account with the well-known number 501 (MS-DTYP 2.4.2.4).
fn is_guest(sid: &str) -> bool {
    sid.starts_with("S-1-5-21-") && sid.ends_with("-501")
}

/// The reason for what Windows says; the client is told the same for each (S-26).
fn refused(fault: Fault) -> Refusal {
    let code = match fault {
        Fault::Denied(code) => code,
        Fault::Nameless => return Refusal::module_failed("Windows does not say whose the password is"),
        Fault::Lost(Lost::Full) => {
            return Refusal::new(Reason::Busy, "as many questions to Windows wait as may");
        }
        Fault::Lost(Lost::Late) => return Refusal::module_failed("Windows gives no answer in time"),
        Fault::Lost(Lost::Crashed) => {
            return Refusal::new(Reason::ModulePanicked, "the call of Windows crashed");
        }
    };
    let (reason, words) = match DENIALS.iter().find(|(known, ..)| *known == code) {
        Some((_, reason, words)) => (*reason, *words),
        None => (Reason::ModuleFailed, "it cannot tell"),
    };
    Refusal::new(reason, format!("Windows says {code}: {words}"))
}

/// What Windows answers (`winerror.h`), and what that means here.
const DENIALS: &[(u32, Reason, &str)] = &[
    // It does not tell an unknown name from a wrong password.
    (1326, Reason::WrongSecret, "unknown name or wrong password"),
    (1317, Reason::UnknownUser, "there is no such account"),
    (1355, Reason::UnknownUser, "there is no such domain"),
    (1315, Reason::UnknownUser, "that is no name of an account"),
    (1327, Reason::AccountDisabled, "the account is restricted"),
    (1328, Reason::AccountDisabled, "the account may not come in at this time"),
    (1329, Reason::AccountDisabled, "the account may not come in from here"),
    (1330, Reason::AccountDisabled, "the password has expired"),
    (1331, Reason::AccountDisabled, "the account is disabled"),
    (1385, Reason::AccountDisabled, "the account lacks the right to this kind of logon"),
    (1793, Reason::AccountDisabled, "the account has expired"),
    (1907, Reason::AccountDisabled, "the password has to be changed first"),
    (1909, Reason::AccountDisabled, "the account is locked out"),
    (1311, Reason::ModuleFailed, "no domain controller answers"),
    (1314, Reason::ModuleFailed, "the gateway's account lacks a privilege"),
    (1789, Reason::ModuleFailed, "the domain does not trust this machine"),
];

/// This machine, for Windows.
const HERE: &str = ".";

/// A user principal name's limit in characters, the longest of the forms.
const LONGEST_NAME: usize = 256;

/// Questions that may wait at one time.
const AT_ONCE: usize = 64;

/// A login has ended by then.
const LONGEST: Duration = Duration::from_secs(60);

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("domain", "NAME", ".", "where names without a domain are looked for; . is this machine"),
    OptionSpec::new("logon", "network|batch", "network", "which right the account needs"),
    OptionSpec::new("timeout", "TIME", "30s", "how long Windows may take for one password"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::Registry;

    /// A Windows that knows one account and its guest.
    fn windows(attempt: Attempt, _: &Detached, _: Duration) -> Result<Account, Fault> {
        let account = |sid: &str, domain: &str, name: &str| {
            Ok(Account { sid: sid.to_owned(), domain: domain.to_owned(), name: name.to_owned() })
        };
        let Attempt { domain, user, password, .. } = attempt;
        let place = domain.unwrap_or_default();
        match (&*place, &*user.to_lowercase()) {
            (".", "guest" | "stranger") => account("S-1-5-21-1-2-3-501", "GATE", "Guest"),
            (".", "closed") => Err(Fault::Denied(1331)),
            ("." | "GATE", "alice") if password.matches("straße".as_bytes()) => {
                account("S-1-5-21-1-2-3-1001", "GATE", "Alice")
            }
            ("CORP", "alice") | ("", "alice@corp.example") if password.matches(b"corporate") => {
                account("S-1-5-21-9-9-9-1001", "CORP", "alice")
            }
            ("", "nobody@corp.example") => Err(Fault::Nameless),
            ("", "slow@corp.example") => Err(Fault::Lost(Lost::Late)),
            ("NOWHERE", _) => Err(Fault::Denied(1355)),
            _ => Err(Fault::Denied(1326)),
        }
    }

    fn passwords(domain: &str) -> Passwords {
        let mut options = Options::new("win32", [("domain".to_owned(), domain.to_owned())]);
        let home = if domain == HERE { "gate".to_owned() } else { domain.to_owned() };
        Passwords { home, ask: windows, ..Passwords::configure(&mut options).unwrap() }
    }

    fn judged(domain: &str, name: &str, password: &[u8]) -> Result<Option<Identity>, Refusal> {
        let (claim, password) = (Claim::named(name).unwrap(), Secret::new(password));
        passwords(domain).check(&Peer::unix(None), &claim, &password)
    }

    fn known(domain: &str, name: &str, password: &[u8]) -> String {
        judged(domain, name, password).unwrap().unwrap().name.to_string()
    }

    #[test]
    fn s_068_the_identity_is_the_account_of_the_token_in_windows_own_spelling() {
        let (local, corporate) = ("straße".as_bytes(), b"corporate");
        assert_eq!(known(".", "ALICE", local), "Alice");
        assert_eq!(known(".", "GATE\\alice", local), "Alice");
        // The name alone is another account's here, so it is never given to one from elsewhere.
        assert_eq!(known(".", "CORP\\alice", corporate), "CORP\\alice");
        assert_eq!(known(".", "alice@corp.example", corporate), "CORP\\alice");
        assert_eq!(known("CORP", "alice", corporate), "alice");
        assert_eq!(known("corp", "CORP\\alice", corporate), "alice");
        assert_eq!(known("CORP", "GATE\\alice", local), "GATE\\Alice");
        // As Xpra's clients send what is typed.
        assert_eq!(known(".", "alice", b"stra\xdfe"), "Alice");
    }

    #[test]
    fn names_are_split_in_three_ways_and_no_other() {
        let split = |name| parts(name, "USUAL").map(|(domain, user)| (domain.unwrap_or_default(), user));
        let as_text = |domain: &str, user: &str| Some((domain.to_owned(), user.to_owned()));
        assert_eq!(split("alice"), as_text("USUAL", "alice"));
        assert_eq!(split("CORP\\alice"), as_text("CORP", "alice"));
        assert_eq!(split("alice@corp.example"), as_text("", "alice@corp.example"));
        assert_eq!(split("alice b@corp.example"), as_text("", "alice b@corp.example"));
        for wrong in
            ["\\alice", "CORP\\", "A\\B\\alice", "@corp", "alice@", "a@b\\c", " \\alice", "CORP\\ ", ""]
        {
            assert_eq!(split(wrong), None, "{wrong}");
        }
        assert_eq!(split(&"x".repeat(257)), None);
    }

    #[test]
    fn s_026_unknown_wrong_and_disabled_differ_in_the_log_alone() {
        let cases: [(&str, &[u8], Reason); 8] = [
            ("alice", b"wrong", Reason::WrongSecret),
            ("nobody", b"wrong", Reason::WrongSecret),
            ("NOWHERE\\alice", b"corporate", Reason::UnknownUser),
            ("A\\B\\alice", b"corporate", Reason::UnknownUser),
            ("", b"corporate", Reason::UnknownUser),
            ("closed", b"right", Reason::AccountDisabled),
            ("nobody@corp.example", b"x", Reason::ModuleFailed),
            ("slow@corp.example", b"x", Reason::ModuleFailed),
        ];
        for (name, password, reason) in cases {
            let refusal = judged(".", name, password).unwrap_err();
            assert_eq!((refusal.reason, refusal.public()), (reason, "authentication failed"), "{name}");
        }
        for (code, ..) in DENIALS {
            assert_eq!(refused(Fault::Denied(*code)).public(), "authentication failed", "{code}");
        }
        assert_eq!(refused(Fault::Denied(4711)).reason, Reason::ModuleFailed);
        assert_eq!(refused(Fault::Lost(Lost::Full)).reason, Reason::Busy);
    }

    #[test]
    fn a_guest_is_nobody_whatever_the_password() {
        for name in ["guest", "stranger"] {
            assert_eq!(judged(".", name, b"anything").unwrap_err().reason, Reason::UnknownUser);
        }
        assert!(is_guest("S-1-5-21-1-2-3-501") && !is_guest("S-1-5-21-1-2-3-1501") && !is_guest("S-1-5-18"));
    }

    #[test]
    fn s_032_an_empty_password_and_one_with_a_nul_are_refused_before_windows_hears_of_them() {
        for password in [&b""[..], b"\0", "straße\0".as_bytes()] {
            assert_eq!(judged(".", "alice", password).unwrap_err().reason, Reason::WrongSecret);
        }
    }

    #[test]
    fn s_065_options_that_cannot_work_are_start_errors_that_repeat_no_value() {
        for wrong in
            [("domain", "secret\\value"), ("domain", ""), ("logon", "secret-value"), ("timeout", "2m")]
        {
            let mut options = Options::new("win32", [(wrong.0.to_owned(), wrong.1.to_owned())]);
            let error = Passwords::configure(&mut options).err().unwrap();
            assert!(!format!("{error}{}", error.fix()).contains("value"), "{error}");
        }
    }

    #[test]
    fn sys_is_the_module_of_this_system() {
        let found = Registry::builtin().find("sys").unwrap().name();
        assert_eq!(found, if cfg!(windows) { "win32" } else { "pam" });
        let here = Win32.configure(&mut Options::new("win32", []), &Context::default());
        assert_eq!(here.is_ok(), cfg!(windows));
    }
}
