//! Keys in software at both modules: right, wrong, copied, and somebody else's.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    Secret,
    keys::{Authenticator as _, KeyFile, NewKey, client_data},
    modules::{
        Registry,
        login::{Login, chain, converse},
    },
    proto::{Chain, challenge::Challenge, challenge::Response},
};

/// A gateway's state, and the keys of its users.
struct Bench {
    folder: TempDir,
    trust: Trust,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::at(folder.path().join("state"));
        trust.open().unwrap();
        Self { folder, trust }
    }

    fn restarted(self) -> Self {
        let Self { folder, trust } = self;
        drop(trust);
        let trust = Trust::at(folder.path().join("state"));
        trust.open().unwrap();
        Self { folder, trust }
    }

    /// A key that is nobody's yet.
    fn made(&self, name: &str, algorithm: Algorithm) -> (KeyFile, PublicKey) {
        let mut file = KeyFile::at(self.folder.path().join(name));
        let new = NewKey { kind: Kind::Fido2, app_id: APP_ID, user: "any", algorithm };
        let made = file.register(&new).unwrap();
        (file, made.key)
    }

    /// A key of a user's.
    fn key(&self, kind: Kind, user: &str, name: &str, algorithm: Algorithm) -> KeyFile {
        let (file, key) = self.made(&format!("{kind}-{user}-{name}"), algorithm);
        let folder = KeyFolder::at(self.keys());
        folder.add(&Username::parse(user).unwrap(), kind, &name.parse().unwrap(), &key).unwrap();
        file
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("state/keys")
    }

    fn configured(&self, kind: Kind, options: &[(&str, &str)]) -> Result<Arc<Chain>, ConfigError> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let context = Context::with_trust(self.trust.clone());
        Registry::builtin().link(Options::new(kind.name(), options), &context).map(chain)
    }

    fn chain(&self, kind: Kind, options: &[(&str, &str)]) -> Arc<Chain> {
        self.configured(kind, options).unwrap()
    }
}

/// How an answer differs from a right one.
#[derive(Clone)]
struct Answering {
    app_id: &'static str,
    origin: &'static str,
    flags: u8,
    counter: Option<u32>,
    /// Client data in a browser's form, with this challenge in place of the right one.
    browser: Option<Option<Vec<u8>>>,
}

const RIGHT: Answering =
    Answering { app_id: APP_ID, origin: "laptop", flags: Assertion::PRESENT, counter: None, browser: None };

/// A login at `chain` in which `key` signs.
fn log_in(chain: &Arc<Chain>, user: &str, key: &KeyFile, how: &Answering) -> Login {
    log_in_with(chain, user, |challenge| answer(key, how, challenge))
}

fn log_in_with(chain: &Arc<Chain>, user: &str, answer: impl Fn(&Challenge) -> Response) -> Login {
    let random = |bytes: &mut [u8]| getrandom::fill(bytes).unwrap();
    // Whoever reads the wire learns nothing that could be used again.
    let tcp = "127.0.0.1:1".parse().unwrap();
    converse(Peer::tcp(tcp, tcp), chain, user, random, answer)
}

fn answer(key: &KeyFile, how: &Answering, challenge: &Challenge) -> Response {
    let beside = match &how.browser {
        None => how.origin.as_bytes().to_vec(),
        Some(other) => {
            let challenge = URL_SAFE_NO_PAD.encode(other.as_ref().unwrap_or(&challenge.salt));
            let origin = how.origin;
            format!(r#"{{"type":"webauthn.get","challenge":"{challenge}","origin":"{origin}"}}"#).into_bytes()
        }
    };
    let data = if how.browser.is_some() {
        beside.clone()
    } else {
        client_data(&challenge.salt, how.origin).unwrap()
    };
    let client_data_hash: [u8; 32] = Sha256::digest(data).into();
    let assertion = key.sign_as(how.app_id, how.flags, how.counter, &client_data_hash);
    Response::new(Secret::new(assertion.to_bytes()), beside)
}

fn reason(login: Login) -> Reason {
    assert_eq!(login.seen.last().unwrap(), "authentication failed");
    login.end.unwrap_err().reason
}

#[test]
fn each_of_several_keys_proves_its_user_over_any_wire() {
    let bench = Bench::new();
    for kind in [Kind::U2f, Kind::Fido2] {
        let blue = bench.key(kind, "alice", "blue", Algorithm::Es256);
        let red = bench.key(kind, "alice", "red", Algorithm::Es256);
        let chain = bench.chain(kind, &[]);
        for key in [&blue, &red, &blue] {
            let login = log_in(&chain, "alice", key, &RIGHT);
            assert_eq!(login.seen, [format!("{kind}:xor security key"), "accepted".to_owned()]);
            assert_eq!(login.end.unwrap().identity().unwrap().name.as_str(), "alice");
        }
    }
    let ed25519 = bench.key(Kind::Fido2, "bob", "blue", Algorithm::EdDsa);
    assert!(log_in(&bench.chain(Kind::Fido2, &[]), "bob", &ed25519, &RIGHT).end.is_ok());
}

#[test]
fn s_026_s_076_unknown_user_unknown_key_and_anothers_key_look_the_same() {
    let bench = Bench::new();
    for kind in [Kind::U2f, Kind::Fido2] {
        let alice = bench.key(kind, "alice", "blue", Algorithm::Es256);
        let bob = bench.key(kind, "bob", "blue", Algorithm::Es256);
        let (strange, _) = bench.made(&format!("{kind}-strange"), Algorithm::Es256);
        let chain = bench.chain(kind, &[]);
        let cases = [
            ("carol", &alice, Reason::UnknownUser),
            ("", &alice, Reason::UnknownUser),
            ("Alice", &alice, Reason::UnknownUser),
            ("alice", &bob, Reason::WrongSecret),
            ("alice", &strange, Reason::WrongSecret),
        ];
        for (user, key, expected) in cases {
            let login = log_in(&chain, user, key, &RIGHT);
            assert_eq!(login.seen, [format!("{kind}:xor security key"), "authentication failed".to_owned()]);
            assert_eq!(login.end.unwrap_err().reason, expected, "{user}");
        }
        assert!(log_in(&chain, "alice", &alice, &RIGHT).end.is_ok());
    }
    // A key for one module is none for the other.
    let only_u2f = bench.key(Kind::U2f, "dora", "blue", Algorithm::Es256);
    assert_eq!(
        reason(log_in(&bench.chain(Kind::Fido2, &[]), "dora", &only_u2f, &RIGHT)),
        Reason::UnknownUser
    );
}

#[test]
fn s_076_application_origin_presence_and_user_are_all_checked() {
    let bench = Bench::new();
    for kind in [Kind::U2f, Kind::Fido2] {
        let key = bench.key(kind, "alice", "blue", Algorithm::Es256);
        let chain = bench.chain(kind, &[("app_id", "our-app"), ("origins", "tls://a.example:443, laptop")]);
        let right = Answering { app_id: "our-app", ..RIGHT };
        assert!(log_in(&chain, "alice", &key, &right).end.is_ok());
        assert!(
            log_in(&chain, "alice", &key, &Answering { origin: "tls://a.example:443", ..right.clone() })
                .end
                .is_ok()
        );
        let wrong = [
            RIGHT,
            Answering { origin: "evil.example", ..right.clone() },
            Answering { flags: 0, ..right.clone() },
            Answering { flags: Assertion::VERIFIED, ..right.clone() },
        ];
        for wrong in &wrong {
            assert_eq!(reason(log_in(&chain, "alice", &key, wrong)), Reason::WrongSecret);
        }
    }
    let key = bench.key(Kind::Fido2, "bob", "blue", Algorithm::EdDsa);
    let chain = bench.chain(Kind::Fido2, &[("user-verification", "yes")]);
    assert_eq!(reason(log_in(&chain, "bob", &key, &RIGHT)), Reason::WrongSecret);
    let verified = Answering { flags: Assertion::PRESENT | Assertion::VERIFIED, ..RIGHT };
    assert!(log_in(&chain, "bob", &key, &verified).end.is_ok());
}

#[test]
fn s_076_a_counter_that_does_not_rise_is_refused_also_after_a_restart() {
    let mut bench = Bench::new();
    for kind in [Kind::U2f, Kind::Fido2] {
        let key = bench.key(kind, "alice", "blue", Algorithm::Es256);
        let at = |counter| Answering { counter: Some(counter), ..RIGHT };
        let chain = bench.chain(kind, &[]);
        assert!(log_in(&chain, "alice", &key, &at(5)).end.is_ok());
        for old in [5, 4, 0] {
            assert_eq!(reason(log_in(&chain, "alice", &key, &at(old))), Reason::WrongSecret, "{old}");
        }
        drop(chain);
        bench = bench.restarted();
        let chain = bench.chain(kind, &[]);
        assert_eq!(reason(log_in(&chain, "alice", &key, &at(5))), Reason::WrongSecret);
        assert!(log_in(&chain, "alice", &key, &at(6)).end.is_ok());
        assert!(log_in(&chain, "alice", &key, &at(u32::MAX)).end.is_ok());
    }
}

#[test]
fn s_076_a_fido2_key_that_never_counts_passes_and_a_u2f_key_has_to() {
    let bench = Bench::new();
    let silent = Answering { counter: Some(0), ..RIGHT };
    let key = bench.key(Kind::Fido2, "alice", "blue", Algorithm::EdDsa);
    let chain = bench.chain(Kind::Fido2, &[]);
    for _ in 0..3 {
        assert!(log_in(&chain, "alice", &key, &silent).end.is_ok());
    }
    let key = bench.key(Kind::U2f, "alice", "blue", Algorithm::Es256);
    let chain = bench.chain(Kind::U2f, &[]);
    assert!(log_in(&chain, "alice", &key, &silent).end.is_ok());
    assert_eq!(reason(log_in(&chain, "alice", &key, &silent)), Reason::WrongSecret);
}

#[test]
fn s_028_s_076_an_answer_counts_for_its_own_challenge_only() {
    let bench = Bench::new();
    let key = bench.key(Kind::Fido2, "alice", "blue", Algorithm::Es256);
    let chain = bench.chain(Kind::Fido2, &[]);
    let kept = std::cell::RefCell::new(None);
    let first = log_in_with(&chain, "alice", |challenge| {
        let response = answer(&key, &RIGHT, challenge);
        let copy = (response.value.expose().to_vec(), response.client_salt.clone());
        *kept.borrow_mut() = Some(copy);
        response
    });
    assert!(first.end.is_ok());
    let (value, salt) = kept.take().unwrap();
    let replayed = log_in_with(&chain, "alice", |_| Response::new(Secret::new(value.clone()), salt.clone()));
    assert_eq!(reason(replayed), Reason::WrongSecret);
    // And never a challenge twice.
    let salts = std::cell::RefCell::new(Vec::new());
    for _ in 0..20 {
        log_in_with(&chain, "alice", |challenge| {
            salts.borrow_mut().push(challenge.salt.clone());
            answer(&key, &RIGHT, challenge)
        });
    }
    let mut salts = salts.into_inner();
    salts.sort();
    salts.dedup();
    assert!(salts.len() == 20 && salts.iter().all(|salt| salt.len() == 64));
}

#[test]
fn s_076_a_browsers_client_data_are_taken_by_fido2_for_the_right_challenge() {
    let bench = Bench::new();
    let key = bench.key(Kind::Fido2, "alice", "blue", Algorithm::Es256);
    let options = [("app-id", "a.example"), ("origins", "https://a.example")];
    let chain = bench.chain(Kind::Fido2, &options);
    let browser =
        Answering { app_id: "a.example", origin: "https://a.example", browser: Some(None), ..RIGHT };
    assert!(log_in(&chain, "alice", &key, &browser).end.is_ok());
    let wrong = [
        Answering { browser: Some(Some(vec![1; 64])), ..browser.clone() },
        Answering { origin: "https://evil.example", ..browser.clone() },
    ];
    for wrong in &wrong {
        assert_eq!(reason(log_in(&chain, "alice", &key, wrong)), Reason::WrongSecret);
    }
    let key = bench.key(Kind::U2f, "alice", "blue", Algorithm::Es256);
    let chain = bench.chain(Kind::U2f, &options);
    assert_eq!(reason(log_in(&chain, "alice", &key, &browser)), Reason::WrongSecret);
}

#[test]
fn w_07_responses_that_are_none_are_refused() {
    let bench = Bench::new();
    bench.key(Kind::U2f, "alice", "blue", Algorithm::Es256);
    let chain = bench.chain(Kind::U2f, &[]);
    for length in [1, 4, 5, 6, 77, 4096] {
        for salt in [&b""[..], b"laptop", b"{", &[0xff; 300]] {
            let response = |_: &Challenge| Response::new(Secret::new(vec![1; length]), salt.to_vec());
            assert_eq!(reason(log_in_with(&chain, "alice", response)), Reason::WrongSecret, "{length}");
        }
    }
}

#[test]
fn a_given_key_passes_whoever_comes_and_names_nobody() {
    let bench = Bench::new();
    let (file, key) = bench.made("given", Algorithm::Es256);
    let chain = bench.chain(Kind::U2f, &[("public_key", &key.to_hex())]);
    for user in ["", "alice"] {
        assert!(log_in(&chain, user, &file, &RIGHT).end.unwrap().identity().is_none());
    }
    let (_, edward) = bench.made("edward", Algorithm::EdDsa);
    let text = edward.to_hex();
    assert!(bench.configured(Kind::U2f, &[("public-key", &text)]).is_err());
    assert!(bench.configured(Kind::Fido2, &[("public-key", &text), ("keys", "/x")]).is_err());
    for (option, bad) in
        [("public-key", "04ff"), ("app-id", ""), ("origins", " , "), ("user-verification", "yes")]
    {
        assert!(bench.configured(Kind::U2f, &[(option, bad)]).is_err(), "{option}");
    }
}

#[test]
fn s_065_without_a_state_or_with_keys_that_others_can_add_nobody_passes() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let key = bench.key(Kind::U2f, "alice", "blue", Algorithm::Es256);
    let options = || Options::new("u2f", []);
    assert!(configure(Kind::U2f, &mut options(), &Context::default()).is_err());
    let closed = Context::with_trust(Trust::at(bench.folder.path().join("elsewhere")));
    let link = Registry::builtin().link(options(), &closed).unwrap();
    assert_eq!(reason(log_in(&chain(link), "alice", &key, &RIGHT)), Reason::ModuleFailed);
    let chain = bench.chain(Kind::U2f, &[]);
    std::fs::set_permissions(bench.keys().join("alice"), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(reason(log_in(&chain, "alice", &key, &RIGHT)), Reason::UnknownUser);
}
