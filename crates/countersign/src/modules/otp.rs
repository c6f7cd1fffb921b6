//! `otp`: one-time codes by time, as authenticator apps show them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Context, Module, OptionSpec, Options,
    secret_file::{SecretFile, Unusable},
};
use crate::{
    Claim, ConfigError, Identity, Peer, Refusal, Secret, Username, Verifier,
    proto::{chain::CheckPassword, error::Reason, mechanism::otp::OtpSecret},
    sys::clock,
    trust::{Trust, TrustStore},
    users::multifile,
};

pub(super) struct Otp;

impl Module for Otp {
    fn name(&self) -> &'static str {
        "otp"
    }

    fn summary(&self) -> &'static str {
        "one-time codes of authenticator apps and tokens"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The client sends the code that its authenticator shows (TOTP, RFC 6238), only over TLS, SSH or a local \
         socket. A code counts once: the step it is of is kept in the state directory, so that it is refused again \
         after a restart, and under a clock that was set back. Codes of one step before and after now are taken, or \
         of as many as valid-window says.\n\n\
         With filename=FILE each user has a secret, and a right code proves the user: a line is name|secret, with the \
         further columns of `multifile` if they are wanted. With secret= there is one secret, whoever asks, and a code \
         names nobody. A secret is base32 of 128 bits or more, or the otpauth://totp/ URI that an authenticator is \
         given, whose algorithm, digits and period count. The file must be closed to others (chmod 600 FILE); it is \
         read again when it changes.\n\n\
         Six digits can be guessed, so wrong codes are counted: after five from one source one more is looked at every \
         30 s, and after a hundred for one account likewise, wherever they come from. A code alone is a weak proof: \
         put the module behind one that asks for a password, so that strangers cannot use an account's attempts up."
    }

    fn example(&self) -> &'static str {
        "otp(filename=/etc/countersign/otp.txt)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn prompt(&self) -> Option<&'static str> {
        Some("OTP")
    }

    fn keeps_state(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError> {
        let window = u16::try_from(options.number("valid-window", 1, 0..=10)?).unwrap_or(0);
        // What Xpra's clients would be shown is no part of a login.
        let _ = options.take("issuer-name")?;
        let secrets = match options.take("secret")? {
            Some(text) => {
                let fix = "write base32 of 26 letters or more, or an otpauth:// URI";
                let secret = OtpSecret::parse(&Secret::new(text.as_bytes()), window);
                Secrets::One(Box::new(secret.map_err(|why| options.error("secret", why, fix))?))
            }
            None => {
                let file = SecretsFile { file: SecretFile::from_options(options)?, window };
                file.table().map_err(|unusable| unusable.at_start(options))?;
                Secrets::File(file)
            }
        };
        let fix = "give the chain a context with a state directory";
        let missing =
            || ConfigError::new("module otp", "there is nowhere to keep which codes were used", fix);
        let trust = context.trust.clone().ok_or_else(missing)?;
        Ok(Verifier::Password(Box::new(Codes { secrets, trust })))
    }
}

/// Judges codes.
struct Codes {
    secrets: Secrets,
    trust: Trust,
}

/// Whose secrets there are.
enum Secrets {
    /// The same for everybody.
    One(Box<OtpSecret>),
    /// One for each name.
    File(SecretsFile),
}

impl CheckPassword for Codes {
    fn check(&self, peer: &Peer, claim: &Claim, code: &Secret) -> Result<Option<Identity>, Refusal> {
        let store =
            self.trust.store().ok_or_else(|| Refusal::module_failed("the state directory is not open"))?;
        let account = match &self.secrets {
            // Many names would be many attempts.
            Secrets::One(_) => "",
            // As it is claimed, known or not, so that nothing tells the two apart (S-26).
            Secrets::File(_) => claim.username.as_ref().map_or("", Username::as_str),
        };
        store.guess_at_account(peer, "otp", account, || match &self.secrets {
            Secrets::One(secret) => spend(store, secret, code).map(|()| None),
            Secrets::File(file) => {
                let table = file.table().map_err(|unusable| unusable.at_login())?;
                let known = claim.username.as_ref().and_then(|name| table.accounts.get(name.as_str()));
                // The same work for nobody, and never a step of anybody's.
                let (identity, secret) =
                    known.map_or((None, &table.nobody), |(whom, secret)| (Some(whom), secret));
                match identity {
                    Some(whom) => spend(store, secret, code).map(|()| Some(whom.clone())),
                    None => {
                        let _ = secret.check(code, seconds());
                        Err(Refusal::unknown_user())
                    }
                }
            }
        })
    }
}

/// Takes a code that is right, for good.
fn spend(store: &TrustStore, secret: &OtpSecret, code: &Secret) -> Result<(), Refusal> {
    let wrong = |why| Refusal::new(Reason::WrongSecret, why);
    let step = secret.check(code, seconds()).ok_or_else(|| wrong("the code is of no step near now"))?;
    let step = i64::try_from(step).map_err(|_| wrong("the code is of no step near now"))?;
    // S-77: raised before anybody passes, so that of two logins with one code one passes.
    let raised = store.raise(&format!("otp:{}", secret.fingerprint()), step);
    match raised.map_err(|error| Refusal::module_failed(error.to_string()))? {
        true => Ok(()),
        false => Err(wrong("the code, or a later one, was used before")),
    }
}

/// As the clock says, for an authenticator has one too. If it was set back, the mark refuses what was used.
fn seconds() -> u64 {
    clock::wall().as_secs()
}

/// A file of names and secrets, read again when it changes.
struct SecretsFile {
    file: SecretFile<Table>,
    window: u16,
}

/// What stands in it.
struct Table {
    accounts: BTreeMap<String, (Identity, OtpSecret)>,
    /// A secret that nobody has.
    nobody: OtpSecret,
}

impl SecretsFile {
    /// The accounts of the file as it is now, or was when it was last good.
    fn table(&self) -> Result<Arc<Table>, Unusable> {
        self.file.load(|content, before| match (self.read(&content), before) {
            (Ok(table), _) => Ok(Arc::new(table)),
            (Err(why), None) => Err(why),
            (Err(why), Some(before)) => {
                tracing::error!("otp: {why}; the secrets read before stay in use");
                Ok(before)
            }
        })
    }

    /// Reads all lines. Errors name a line and repeat nothing of it (S-79).
    fn read(&self, content: &Secret) -> Result<Table, String> {
        let lines = multifile::parse(content);
        if let Some((line, why)) = lines.malformed.first() {
            return Err(format!("line {line}: {why}"));
        }
        let mut accounts = BTreeMap::new();
        for (line, row) in lines.rows {
            let wrong = |why: &dyn std::fmt::Display| format!("line {line}: {why}");
            let name = Username::parse(&row.username).map_err(|_| wrong(&"the user name"))?;
            let text = row.password.as_ref().ok_or_else(|| wrong(&"it has no secret"))?;
            let secret =
                OtpSecret::parse(text, self.window).map_err(|why| wrong(&format!("the secret: {why}")))?;
            let identity = row.identity(name).map_err(|why| wrong(&why))?;
            if accounts.insert(row.username, (identity, secret)).is_some() {
                return Err(wrong(&"its user name stands in an earlier line"));
            }
        }
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(|_| "the system gives no random bytes".to_owned())?;
        let letters: Vec<u8> =
            random.iter().flat_map(|byte| [b'A' + (byte & 15), b'A' + (byte >> 4)]).collect();
        let nobody = OtpSecret::parse(&Secret::new(letters), self.window)?;
        Ok(Table { accounts, nobody })
    }
}

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "names and secrets, a line each: name|secret"),
    OptionSpec::new("secret", "SECRET", "", "one secret for everybody, in place of a file"),
    OptionSpec::new(
        "valid-window",
        "STEPS",
        "1",
        "by how many steps a clock may be off, either way, up to 10",
    ),
    OptionSpec::new(
        "issuer-name",
        "NAME",
        "",
        "read for the sake of Xpra's configurations; it changes nothing",
    ),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use tempfile::TempDir;

    use super::*;
    use crate::{
        modules::{
            Registry,
            login::{chain, login, login_from},
        },
        proto::{chain::Chain, peer::Credentials},
    };

    const ALICE: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    const BOB: &str =
        "otpauth://totp/x:bob?secret=MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U&algorithm=SHA256&digits=8&period=60";

    struct Bench {
        folder: TempDir,
        trust: Trust,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bench = Self { trust: Trust::at(folder.path().join("state")), folder };
            bench.trust.open().unwrap();
            bench.write(&format!("# names\nalice|{ALICE}|1000|1000|:1||\nbob|{BOB}\n"));
            bench
        }

        /// The gateway again, in the same state directory.
        fn restarted(self) -> Self {
            let Self { folder, trust } = self;
            drop(trust);
            let trust = Trust::at(folder.path().join("state"));
            trust.open().unwrap();
            Self { folder, trust }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("secrets")
        }

        fn write(&self, lines: &str) {
            fs::write(self.path(), lines).unwrap();
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn configured(&self, options: &[(&str, &str)]) -> Result<Arc<Chain>, ConfigError> {
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let context = Context::with_trust(self.trust.clone());
            Registry::builtin().link(Options::new("otp", options), &context).map(chain)
        }

        fn chain(&self) -> Arc<Chain> {
            self.configured(&[("filename", self.path().to_str().unwrap())]).unwrap()
        }
    }

    /// The code of `steps` from now.
    fn code(secret: &str, steps: i64) -> String {
        let secret = OtpSecret::parse(&Secret::new(secret), 0).unwrap();
        let at = seconds().checked_add_signed(steps * i64::try_from(secret.period()).unwrap()).unwrap();
        String::from_utf8(secret.code(at).expose().to_vec()).unwrap()
    }

    fn reason(chain: &Arc<Chain>, name: &str, code: &str) -> Reason {
        let refused = login(chain, name, code);
        assert_eq!(refused.seen[0], "xor OTP");
        refused.end.unwrap_err().reason
    }

    #[test]
    fn a_code_proves_its_user_with_what_the_file_says_of_them() {
        let bench = Bench::new();
        let chain = bench.chain();
        let alice = login(&chain, "alice", &code(ALICE, 0)).end.unwrap().identity().unwrap().clone();
        assert_eq!((alice.name.as_str(), alice.uid), ("alice", Some(1000)));
        assert_eq!(alice.sessions, [":1"]);
        assert_eq!(login(&chain, "bob", &code(BOB, 0)).seen, ["xor OTP", "accepted"]);
        assert_eq!(reason(&chain, "bob", &code(ALICE, 1)), Reason::WrongSecret);
    }

    #[test]
    fn s_077_a_code_counts_once_also_after_a_restart_and_an_earlier_one_never_after_it() {
        let bench = Bench::new();
        let chain = bench.chain();
        let (before, now, after) = (code(ALICE, -1), code(ALICE, 0), code(ALICE, 1));
        assert!(login(&chain, "alice", &now).end.is_ok());
        assert_eq!(reason(&chain, "alice", &now), Reason::WrongSecret);
        assert_eq!(reason(&chain, "alice", &before), Reason::WrongSecret);
        drop(chain);
        let bench = bench.restarted();
        let chain = bench.chain();
        assert_eq!(reason(&chain, "alice", &now), Reason::WrongSecret);
        assert!(login(&chain, "alice", &after).end.is_ok());
        drop(chain);
        assert_eq!(reason(&bench.restarted().chain(), "alice", &after), Reason::WrongSecret);
    }

    #[test]
    fn s_077_one_secret_for_everybody_is_spent_by_everybody_and_names_nobody() {
        let bench = Bench::new();
        let chain =
            bench.configured(&[("secret", ALICE), ("valid-window", "0"), ("issuer-name", "x")]).unwrap();
        // A step may end between the two looks at the clock.
        let passed = [0, 1].into_iter().find_map(|_| login(&chain, "", &code(ALICE, 0)).end.ok()).unwrap();
        assert!(passed.identity().is_none());
        assert_eq!(reason(&chain, "somebody-else", &code(ALICE, 0)), Reason::WrongSecret);
        assert_eq!(reason(&chain, "alice", &code(ALICE, 2)), Reason::WrongSecret);
    }

    #[test]
    fn s_077_the_window_is_as_wide_as_it_is_written() {
        let bench = Bench::new();
        let path = bench.path();
        let wide = [("filename", path.to_str().unwrap()), ("valid-window", "3")];
        let chain = bench.configured(&wide).unwrap();
        assert_eq!(reason(&chain, "alice", &code(ALICE, -5)), Reason::WrongSecret);
        assert!(login(&chain, "alice", &code(ALICE, -2)).end.is_ok());
        assert!(login(&chain, "alice", &code(ALICE, 2)).end.is_ok());
        for bad in ["11", "-1", "one"] {
            assert!(bench.configured(&[("secret", ALICE), ("valid-window", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn s_026_s_032_unknown_wrong_and_empty_look_the_same() {
        let bench = Bench::new();
        let chain = bench.chain();
        let right = code(ALICE, 0);
        let cases = [
            ("carol", right.as_str(), Reason::UnknownUser),
            ("", &right, Reason::UnknownUser),
            ("Alice", &right, Reason::UnknownUser),
            ("alice", "00000", Reason::WrongSecret),
        ];
        for (name, code, reason) in cases {
            let refused = login(&chain, name, code);
            assert_eq!(refused.seen, ["xor OTP", "authentication failed"], "{name}");
            assert_eq!(refused.end.unwrap_err().reason, reason, "{name}");
        }
        let empty = login(&chain, "alice", "").end.unwrap_err();
        assert_eq!((empty.reason, empty.public()), (Reason::WrongSecret, "authentication failed"));
    }

    #[test]
    fn s_027_s_077_wrong_codes_are_counted_known_name_or_not_and_over_a_restart() {
        let mut bench = Bench::new();
        for (uid, name) in [(1, "alice"), (2, "carol")] {
            let chain = bench.chain();
            let at = |uid| Peer::unix(Some(Credentials::new(uid, 7)));
            let (peer, other) = (|| at(uid), || at(9));
            let seen = |peer, code: &str| login_from(peer, &chain, name, code);
            for _ in 0..5 {
                assert_eq!(seen(peer(), "000000").seen, ["xor OTP", "authentication failed"]);
            }
            assert_eq!(seen(peer(), &code(ALICE, 0)).end.unwrap_err().reason, Reason::Busy, "{name}");
            assert_ne!(seen(other(), "000000").end.unwrap_err().reason, Reason::Busy, "{name}");
            drop(chain);
            bench = bench.restarted();
            let refused = login_from(peer(), &bench.chain(), name, &code(ALICE, 0));
            assert_eq!(refused.end.unwrap_err().reason, Reason::Busy, "{name}");
        }
    }

    #[test]
    fn s_033_codes_travel_on_a_private_wire_only() {
        let bench = Bench::new();
        let tcp = "127.0.0.1:1".parse().unwrap();
        let open = login_from(Peer::tcp(tcp, tcp), &bench.chain(), "alice", &code(ALICE, 0));
        assert_eq!((open.end.unwrap_err().reason, open.seen.len()), (Reason::NotConfidential, 1));
    }

    #[test]
    fn s_079_a_file_that_is_not_good_stops_the_start_and_later_changes_nothing() {
        let bench = Bench::new();
        let path = bench.path();
        let configure = || bench.configured(&[("filename", path.to_str().unwrap())]);
        for bad in ["alice|canary", "alice", &format!("alice|{ALICE}\nalice|{ALICE}"), "a/b|canary", "alice|"]
        {
            bench.write(bad);
            let error = configure().unwrap_err().to_string();
            assert!(error.contains("line ") && !error.contains("canary"), "{error}");
        }
        bench.write(&format!("alice|{ALICE}"));
        let chain = configure().unwrap();
        bench.write("alice|canary");
        assert!(login(&chain, "alice", &code(ALICE, 0)).end.is_ok());
        bench.write("bob|GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR");
        assert_eq!(reason(&chain, "alice", &code(ALICE, 1)), Reason::UnknownUser);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(configure().unwrap_err().fix(), format!("chmod 600 {}", path.display()));
        assert_eq!(reason(&chain, "bob", "000000"), Reason::ModuleFailed);
    }

    #[test]
    fn s_065_without_a_state_that_is_open_nobody_passes() {
        let bench = Bench::new();
        let options = || Options::new("otp", [("secret".to_owned(), ALICE.to_owned())]);
        assert!(Otp.configure(&mut options(), &Context::default()).is_err());
        let closed = Context::with_trust(Trust::at(bench.folder.path().join("elsewhere")));
        let link = Registry::builtin().link(options(), &closed).unwrap();
        assert_eq!(reason(&chain(link), "alice", &code(ALICE, 0)), Reason::ModuleFailed);
        for short in ["foo", "JBSWY3DPEHPK3PXP", ""] {
            let error = bench.configured(&[("secret", short)]).unwrap_err().to_string();
            assert!(short.is_empty() || !error.contains(short), "{error}");
        }
        assert!(bench.configured(&[]).is_err());
    }
}
