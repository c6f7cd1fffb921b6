//! Keys made here, security keys among them, against files and certificates made here. Real ones of OpenSSH
//! are in the tests against real programs.

use std::{fs, os::unix::fs::PermissionsExt as _};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    Chain, Secret,
    modules::login::{Login as Ended, chain, link, meet},
    proto::{
        challenge::{Challenge, Response},
        client,
        mechanism::ssh_key::{put, to_be_signed},
        peer::TlsFacts,
    },
};

/// A key that signs in this process.
struct Key {
    blob: Vec<u8>,
    /// What it shows in place of its public key.
    shows: Option<Vec<u8>>,
    pair: Pair,
    /// What a security key says of the person.
    flags: u8,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Key {
    fn new(kind: &str) -> Self {
        let pair = match kind.contains("ed25519") {
            true => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            false => Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
        };
        let mut parts: Vec<&[u8]> = vec![kind.as_bytes()];
        match &pair {
            Pair::Ed25519(pair) => parts.push(pair.public_key().as_ref()),
            Pair::P256(pair) => parts.extend([b"nistp256", pair.public_key().as_ref()]),
        }
        if kind.starts_with("sk-") {
            parts.push(b"ssh:");
        }
        Self { blob: strings(&parts), shows: None, pair, flags: 1 }
    }

    fn kind(&self) -> &str {
        std::str::from_utf8(key_kind(&self.blob)).unwrap()
    }

    /// Its line in a file.
    fn line(&self, options: &str) -> String {
        format!("{options}{} {} somebody@somewhere\n", self.kind(), STANDARD.encode(&self.blob))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let counter = 7_u32.to_be_bytes();
        let is_hardware = self.kind().starts_with("sk-");
        let (application, hashed) = (Sha256::digest(b"ssh:"), Sha256::digest(message));
        let covered = match is_hardware {
            true => [&application[..], &[self.flags], &counter, &hashed].concat(),
            false => message.to_vec(),
        };
        let proof = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&covered).as_ref().to_vec(),
            Pair::P256(pair) => {
                let fixed = pair.sign(&SystemRandom::new(), &covered).unwrap();
                let (r, s) = fixed.as_ref().split_at(32);
                strings(&[&mpint(r), &mpint(s)])
            }
        };
        let mut signature = strings(&[self.kind().as_bytes(), &proof]);
        if is_hardware {
            signature.push(self.flags);
            signature.extend(counter);
        }
        signature
    }

    /// A certificate by `authority` for this key, shown in place of it.
    fn certified(mut self, authority: &Self, about: &About<'_>) -> Self {
        let kind = self.kind().trim_end_matches("@openssh.com");
        let mut blob = strings(&[format!("{kind}-cert-v01@openssh.com").as_bytes(), &[9; 32]]);
        blob.extend(&self.blob[self.kind().len() + 4..]);
        blob.extend(1_u64.to_be_bytes());
        blob.extend(about.kind.to_be_bytes());
        let principals: Vec<&[u8]> = about.principals.iter().map(|name| name.as_bytes()).collect();
        put(&mut blob, b"key id");
        put(&mut blob, &strings(&principals));
        blob.extend(about.valid.0.to_be_bytes());
        blob.extend(about.valid.1.to_be_bytes());
        for list in [about.critical, about.extensions] {
            let inside = list.iter().flat_map(|(name, value)| {
                let value = if value.is_empty() { Vec::new() } else { strings(&[value.as_bytes()]) };
                strings(&[name.as_bytes(), &value])
            });
            put(&mut blob, &inside.collect::<Vec<u8>>());
        }
        put(&mut blob, b"");
        put(&mut blob, &authority.blob);
        let signature = authority.sign(&blob);
        put(&mut blob, &signature);
        self.shows = Some(blob);
        self
    }
}

/// What a certificate says.
#[derive(Clone, Copy)]
struct About<'a> {
    kind: u32,
    principals: &'a [&'a str],
    valid: (u64, u64),
    critical: &'a [(&'a str, &'a str)],
    extensions: &'a [(&'a str, &'a str)],
}

const ALICE: About<'_> = About {
    kind: 1,
    principals: &["alice", "ops"],
    valid: (0, u64::MAX),
    critical: &[],
    extensions: &[("permit-pty", "")],
};

/// A client with these keys, which signs for another login if it is told to.
struct Signs {
    keys: Arc<Vec<Key>>,
    forge: fn(&mut Login<'_>),
}

impl client::OpenExchange for Signs {
    fn mechanisms(&self) -> &[&'static str] {
        &["ssh-key"]
    }

    fn open(&self, _: &client::Question<'_>) -> Result<Option<Box<dyn client::Exchange>>, client::Failure> {
        Ok(Some(Box::new(Signing { keys: Arc::clone(&self.keys), forge: self.forge, next: 0 })))
    }
}

struct Signing {
    keys: Arc<Vec<Key>>,
    forge: fn(&mut Login<'_>),
    next: usize,
}

impl client::Exchange for Signing {
    fn step(
        &mut self,
        challenge: &Challenge,
        question: &client::Question<'_>,
    ) -> Result<Option<Response>, client::Failure> {
        let Some(key) = self.keys.get(self.next) else { return Ok(None) };
        self.next += 1;
        let bound = Login::asked(challenge.mechanism.name()).unwrap();
        let mut login = Login {
            name: question.username.map_or("", Username::as_str),
            binding: question.server.channel_binding.as_deref().filter(|_| bound),
            server_salt: &challenge.salt,
            client_salt: question.nonce,
        };
        (self.forge)(&mut login);
        let signature = key.sign(&to_be_signed(&login.statement()));
        let shown = key.shows.as_ref().unwrap_or(&key.blob);
        let signed = Signed::new(shown, &signature).to_bytes();
        Ok(Some(Response::new(Secret::new(signed), question.nonce.to_vec())))
    }
}

fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|part| put(&mut out, part));
    out
}

fn mpint(number: &[u8]) -> Vec<u8> {
    let short: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
    if short.first().is_some_and(|first| first & 0x80 != 0) { [&[0], &short[..]].concat() } else { short }
}

fn key_kind(blob: &[u8]) -> &[u8] {
    crate::proto::mechanism::ssh_key::Reader::new(blob).string().unwrap()
}

fn file(content: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let text = path.to_str().unwrap().to_owned();
    (folder, text)
}

/// A socket where each user has a file of keys; alice's holds `content`.
fn users(content: &str) -> (TempDir, Arc<Chain>) {
    let (folder, path) = file(content);
    let path = path.replace("/alice", "/%u");
    (folder, chain(link("ssh-key", &[("filename", &path)]).unwrap()))
}

fn tcp() -> Peer {
    let address = "192.0.2.7:40000".parse().unwrap();
    Peer::tcp(address, address)
}

fn tls() -> Peer {
    tcp().encrypted(TlsFacts::default(), None, Some(b"session".as_slice().into()))
}

fn honest(_: &mut Login<'_>) {}

fn login(peer: Peer, chain: &Arc<Chain>, name: &str, keys: Vec<Key>) -> Ended {
    login_forging(peer, chain, name, keys, honest)
}

fn login_forging(
    peer: Peer,
    chain: &Arc<Chain>,
    name: &str,
    keys: Vec<Key>,
    forge: fn(&mut Login<'_>),
) -> Ended {
    let signs = client::Means::Exchange(Box::new(Signs { keys: Arc::new(keys), forge }));
    meet(peer, chain, name, vec![client::Responder::new("keys", signs)])
}

fn passes(ended: &Ended) -> bool {
    ended.end.is_ok()
}

#[test]
fn each_kind_of_key_logs_in_bound_and_unbound_and_proves_the_name() {
    for kind in [
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ] {
        let (mine, other) = (Key::new(kind), Key::new(kind));
        let (_folder, chain) = users(&mine.line(""));
        assert!(!passes(&login(tcp(), &chain, "alice", vec![other])), "{kind}");
        let keys = Arc::new(vec![mine]);
        for (peer, mechanism) in [(tls(), "ssh-key:tls-exporter"), (tcp(), "ssh-key:salts")] {
            let signs = Signs { keys: Arc::clone(&keys), forge: honest };
            let signs = client::Responder::new("keys", client::Means::Exchange(Box::new(signs)));
            let grant = meet(peer, &chain, "alice", vec![signs]).end.unwrap();
            assert_eq!(grant.identity().unwrap().name.as_str(), "alice");
            assert_eq!(grant.proofs()[0].mechanism.as_ref().unwrap().name(), mechanism);
        }
    }
}

#[test]
fn s_035_a_signature_for_another_login_is_none() {
    let forgeries: [fn(&mut Login<'_>); 5] = [
        |login| login.name = "bob",
        |login| login.binding = Some(b"another session"),
        |login| login.binding = None,
        |login| login.server_salt = &[0; 64],
        |login| login.client_salt = &[0; 32],
    ];
    for forge in forgeries {
        let key = Key::new("ssh-ed25519");
        let (_folder, chain) = users(&key.line(""));
        let refusal = login_forging(tls(), &chain, "alice", vec![key], forge).end.unwrap_err();
        assert_eq!(refusal.reason, Reason::WrongSecret);
    }
}

#[test]
fn s_026_an_unknown_name_and_an_unknown_key_are_asked_and_refused_alike() {
    let known = Key::new("ssh-ed25519");
    let (_folder, chain) = users(&known.line(""));
    let strangers = || (0..8).map(|_| Key::new("ssh-ed25519")).collect::<Vec<_>>();
    let alike = login(tcp(), &chain, "alice", strangers());
    assert_eq!(alike.seen.len(), MOST_TRIES + 1);
    for name in ["bob", ""] {
        assert_eq!(login(tcp(), &chain, name, strangers()).seen, alike.seen);
    }
    // The right one may come late, and not after the last try.
    let late = |before: usize, key: Key| {
        let mut keys = strangers();
        keys.truncate(before);
        keys.push(key);
        login(tcp(), &chain, "alice", keys)
    };
    let again = Key { pair: copy(&known), blob: known.blob.clone(), shows: None, flags: 1 };
    assert!(passes(&late(MOST_TRIES - 1, again)));
    assert!(!passes(&late(MOST_TRIES, known)));
}

fn copy(key: &Key) -> Pair {
    use aws_lc_rs::encoding::{AsBigEndian as _, Curve25519SeedBin};
    let Pair::Ed25519(pair) = &key.pair else { panic!("an Ed25519 key") };
    let seed = pair.seed().unwrap();
    let seed: Curve25519SeedBin<'static> = seed.as_be_bytes().unwrap();
    Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap())
}

#[test]
fn the_options_of_a_line_are_honoured_and_unknown_ones_refuse_it() {
    for (options, passing) in [
        ("", true),
        ("restrict,no-pty ", true),
        ("from=\"192.0.2.0/24\" ", true),
        ("from=\"10.0.0.0/8,192.0.2.*,!192.0.2.8\" ", true),
        ("from=\"10.0.0.0/8\" ", false),
        ("from=\"*,!192.0.2.7\" ", false),
        ("from=\"192.0.2.0/99\" ", false),
        ("expiry-time=\"20990101\" ", true),
        ("expiry-time=\"209901011200Z\" ", true),
        ("expiry-time=\"20200101\" ", false),
        ("expiry-time=\"20990101\",expiry-time=\"20200101Z\" ", false),
        ("expiry-time=\"20991301\" ", false),
        ("expiry-time=\"2099\" ", false),
        ("cert-authority ", false),
        ("principals=\"alice\" ", true),
        ("command=\"/bin/true\" ", false),
        ("environment=\"A=B\" ", false),
        ("no-such-option ", false),
        ("from=192.0.2.7 ", false),
        ("from=\"192.0.2.7 ", false),
        ("from ", false),
        ("restrict=\"x\" ", false),
        ("verify-required ", true),
    ] {
        let key = Key::new("ssh-ed25519");
        let (_folder, chain) = users(&key.line(options));
        let ended = login(tcp(), &chain, "alice", vec![key]);
        // An ordinary key cannot say that it knows the person.
        assert_eq!(passes(&ended), passing && options != "verify-required ", "{options}");
    }
}

#[test]
fn security_keys_must_be_touched_and_know_the_person_where_that_is_asked() {
    for (options, flags, passing) in [
        ("", 1, true),
        ("", 0, false),
        ("no-touch-required ", 0, true),
        ("verify-required ", 1, false),
        ("verify-required ", 5, true),
        ("verify-required,no-touch-required ", 4, true),
    ] {
        let mut key = Key::new("sk-ssh-ed25519@openssh.com");
        key.flags = flags;
        let (_folder, chain) = users(&key.line(options));
        assert_eq!(passes(&login(tcp(), &chain, "alice", vec![key])), passing, "{options}{flags}");
    }
}

#[test]
fn certificates_count_for_whom_when_and_where_they_say() {
    let now = crate::sys::clock::wall().as_secs();
    let good = |about: About<'_>, options: &str, kind: &str| {
        let (authority, key) = (Key::new("ecdsa-sha2-nistp256"), Key::new(kind));
        let (_folder, chain) = users(&authority.line(options));
        let key = key.certified(&authority, &about);
        passes(&login(tcp(), &chain, "alice", vec![key]))
    };
    for (about, options, passing) in [
        (ALICE, "cert-authority ", true),
        (ALICE, "", false),
        (ALICE, "cert-authority,principals=\"ops,other\" ", true),
        (ALICE, "cert-authority,principals=\"other\" ", false),
        (ALICE, "cert-authority,from=\"10.0.0.0/8\" ", false),
        (ALICE, "cert-authority,expiry-time=\"20200101\" ", false),
        (About { principals: &["bob"], ..ALICE }, "cert-authority ", false),
        (About { principals: &[], ..ALICE }, "cert-authority ", false),
        (About { principals: &["alic", "alice "], ..ALICE }, "cert-authority ", false),
        (About { kind: 2, ..ALICE }, "cert-authority ", false),
        (About { valid: (0, now - 1), ..ALICE }, "cert-authority ", false),
        (About { valid: (now + 1000, u64::MAX), ..ALICE }, "cert-authority ", false),
        (About { critical: &[("source-address", "192.0.2.0/24")], ..ALICE }, "cert-authority ", true),
        (About { critical: &[("source-address", "10.0.0.0/8")], ..ALICE }, "cert-authority ", false),
        (About { critical: &[("force-command", "true")], ..ALICE }, "cert-authority ", false),
        (About { critical: &[("verify-required", "")], ..ALICE }, "cert-authority ", false),
    ] {
        assert_eq!(good(about, options, "ssh-ed25519"), passing, "{options}{:?}", about.principals);
    }
    let untouched = |options, extensions| {
        let (authority, mut key) = (Key::new("ssh-ed25519"), Key::new("sk-ecdsa-sha2-nistp256@openssh.com"));
        key.flags = 0;
        let (_folder, chain) = users(&authority.line(options));
        let key = key.certified(&authority, &About { extensions, ..ALICE });
        passes(&login(tcp(), &chain, "alice", vec![key]))
    };
    // Both have to say that no touch is needed.
    assert!(!untouched("cert-authority ", &[("no-touch-required", "")]));
    assert!(!untouched("cert-authority,no-touch-required ", &[]));
    assert!(untouched("cert-authority,no-touch-required ", &[("no-touch-required", "")]));
}

#[test]
fn a_certificate_whose_authority_did_not_sign_it_is_none() {
    let (authority, stranger) = (Key::new("ssh-ed25519"), Key::new("ssh-ed25519"));
    let (_folder, chain) = users(&authority.line("cert-authority "));
    let by_stranger = Key::new("ssh-ed25519").certified(&stranger, &ALICE);
    assert!(!passes(&login(tcp(), &chain, "alice", vec![by_stranger])));
    // One that was changed after it was signed: another serial number.
    let mut changed = Key::new("ssh-ed25519").certified(&authority, &ALICE);
    let blob = changed.shows.as_mut().unwrap();
    let serial = blob.windows(8).position(|window| window == 1_u64.to_be_bytes()).unwrap() + 7;
    blob[serial] = 2;
    let refusal = login(tcp(), &chain, "alice", vec![changed]).end.unwrap_err();
    assert_eq!(refusal.reason, Reason::Malformed);
}

#[test]
fn a_file_for_everybody_names_whom_a_certificate_names_and_nobody_else() {
    let (key, authority) = (Key::new("ssh-ed25519"), Key::new("ssh-ed25519"));
    let (_folder, path) = file(&[key.line(""), authority.line("cert-authority ")].concat());
    let chain = chain(link("ssh-key", &[("filename", &path)]).unwrap());
    let grant = login(tcp(), &chain, "whoever", vec![key]).end.unwrap();
    assert!(grant.identity().is_none());
    let certified = Key::new("ssh-ed25519").certified(&authority, &ALICE);
    let grant = login(tcp(), &chain, "alice", vec![certified]).end.unwrap();
    assert_eq!(grant.identity().unwrap().name.as_str(), "alice");
}

#[test]
fn s_061_a_file_that_others_could_have_written_lets_nobody_in() {
    let key = Key::new("ssh-ed25519");
    let (_folder, path) = file(&key.line(""));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = link("ssh-key", &[("filename", &path)]).unwrap_err();
    assert!(error.fix().contains("chmod go-w"));
    let each = chain(link("ssh-key", &[("filename", &path.replace("/alice", "/%u"))]).unwrap());
    assert!(!passes(&login(tcp(), &each, "alice", vec![key])));
}

#[test]
fn s_045_what_must_be_bound_is_not_asked_for_where_it_cannot_be() {
    let key = Key::new("ssh-ed25519");
    let (_folder, path) = file(&key.line(""));
    let link = link("ssh-key", &[("filename", &path), ("channel-binding", "require")]).unwrap();
    let chain = chain(link);
    let refused = login(tcp(), &chain, "alice", vec![Key::new("ssh-ed25519")]);
    assert_eq!((refused.seen.len(), refused.end.unwrap_err().reason), (1, Reason::PeerDenied));
    assert!(passes(&login(tls(), &chain, "alice", vec![key])));
}

#[test]
fn paths_are_filled_in_and_what_cannot_be_is_an_error_at_start() {
    let expand = |text: &str| Template(text.to_owned()).expand("alice", Some("/home/alice".into()));
    assert_eq!(expand("/k/%u.%%").unwrap().to_str(), Some("/k/alice.%"));
    assert_eq!(expand("%h/.ssh/authorized_keys").unwrap().to_str(), Some("/home/alice/.ssh/authorized_keys"));
    assert!(!Template("/k/%%u".to_owned()).is_of_one_user());
    for bad in ["keys", "/k/%x", "/k/%", ""] {
        assert!(link("ssh-key", &[("filename", bad)]).is_err(), "{bad}");
    }
    assert!(link("ssh-key", &[("filename", "/no/such/file")]).is_err());
}
