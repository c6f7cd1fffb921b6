use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{control::Owner, trust::Place};

struct Rig {
    store: TrustStore,
    entrances: Vec<Entrance>,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let address = |text: &str| crate::transport::Address::Unix(text.into());
        let entrances = vec![
            Entrance::new("a", &address("/run/a"), Fingerprint([1; 32])),
            Entrance::new("b", &address("/run/b"), Fingerprint([2; 32])),
        ];
        Self { store: TrustStore::open(folder.path()).unwrap(), entrances, _folder: folder }
    }

    fn ask(&self, request: Request) -> Response {
        administer(&self.store, &self.entrances, request, "root")
    }

    fn entry(&self, request: Request) -> Listed {
        match self.ask(request) {
            Response::Entry(entry) => *entry,
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self, request: Request) -> Failure {
        match self.ask(request) {
            Response::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn add(&self, name: &str) -> Listed {
        self.entry(Request::Add {
            certificate: certificate(),
            name: Some(name.into()),
            uid: None,
            expires: None,
            scope: Scope::default(),
        })
    }

    fn names(&self) -> Vec<String> {
        let Response::Entries { entries, .. } = self.ask(Request::List) else { panic!() };
        entries.into_iter().map(|entry| format!("{} {}", entry.name, entry.standing)).collect()
    }
}

fn certificate() -> Der {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    Der(rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec())
}

/// What programs of that other kind kept, in every shape they ever made.
fn multipass_list() -> Vec<Der> {
    let pem = include_bytes!("../../../tests/certificates/store.pem");
    let all = Der::all_in("the list", pem).unwrap();
    let written: String = all.iter().map(Der::pem).collect();
    assert_eq!(written.trim(), std::str::from_utf8(pem).unwrap().trim(), "it is written as it is read");
    all
}

fn selector(text: &str) -> String {
    text.to_owned()
}

#[test]
fn s_058_every_state_has_a_way_back() {
    let rig = Rig::new();
    let alice = rig.add("alice");
    let fingerprint: Fingerprint = alice.fingerprint.parse().unwrap();
    let judged = || rig.store.judge(&fingerprint.0, &Place::new("s", "b"));
    assert!(judged().is_ok());

    let why = "the laptop is lost".to_owned();
    let removed = rig.entry(Request::Remove { selector: selector("alice"), why: why.clone() });
    assert_eq!((removed.standing.as_str(), removed.revoked.unwrap().why), ("revoked", why.clone()));
    assert!(judged().is_err());
    let again = rig.entry(Request::Remove { selector: selector("alice"), why: "x".into() });
    assert_eq!(again.revoked.unwrap().why, why, "the first reason stays");

    assert_eq!(rig.entry(Request::Restore { selector: selector("alice") }).standing, "accepted");
    assert!(judged().is_ok());

    let renamed = rig.entry(Request::Rename { selector: selector("alice"), name: "al".into() });
    assert_eq!((renamed.name.as_str(), renamed.fingerprint.as_str()), ("al", &*alice.fingerprint));

    let scope = Scope::new(vec!["other".into()], Vec::new());
    rig.entry(Request::Restrict { selector: selector("al"), scope: Some(scope), expires: None });
    assert!(judged().is_err());
    let everywhere = Some(Scope::default());
    let past = Some(Expiry::At(1));
    rig.entry(Request::Restrict { selector: selector("al"), scope: everywhere, expires: past });
    assert_eq!(rig.names(), ["al expired"]);
    rig.entry(Request::Restrict { selector: selector("al"), scope: None, expires: Some(Expiry::Never) });
    assert!(judged().is_ok());

    rig.entry(Request::Forget { selector: selector("al") });
    assert!(rig.names().is_empty() && !rig.store.is_pristine(), "the first place stays taken");
    assert!(matches!(rig.ask(Request::Reset), Response::Reset { aside: None }));
    assert!(rig.store.is_pristine());
}

#[test]
fn an_entry_is_meant_by_its_name_or_eight_digits_and_never_guessed() {
    let rig = Rig::new();
    let (one, two) = (rig.add("alice"), rig.add("alice"));
    let failure = rig.failure(Request::Show { selector: selector("alice") });
    assert_eq!(failure.code, FailureCode::Ambiguous);
    for candidate in [&one, &two] {
        assert!(failure.fix.contains(&candidate.fingerprint[..16]), "{}", failure.fix);
    }
    let spelled = one.fingerprint.to_uppercase();
    for selector in [
        one.fingerprint[..8].to_owned(),
        one.fingerprint.clone(),
        format!("sha256:{}", one.fingerprint),
        format!(
            "{}:{}:{}:{}:{}",
            &spelled[..2],
            &spelled[2..4],
            &spelled[4..6],
            &spelled[6..8],
            &spelled[8..10]
        ),
    ] {
        assert_eq!(rig.entry(Request::Show { selector }).fingerprint, one.fingerprint);
    }
    for selector in [&one.fingerprint[..7], "alic", "", "0000000000"] {
        let failure = rig.failure(Request::Remove { selector: selector.to_owned(), why: String::new() });
        assert_eq!(failure.code, FailureCode::Unknown, "{selector}");
    }
    // A certificate that was taken back does not stand in the way of its successor's name.
    rig.entry(Request::Remove { selector: one.fingerprint[..8].to_owned(), why: String::new() });
    assert_eq!(rig.entry(Request::Show { selector: selector("alice") }).fingerprint, two.fingerprint);
    assert_eq!(rig.entry(Request::Show { selector: one.fingerprint.clone() }).standing, "revoked");
}

#[test]
fn a_list_of_any_age_is_imported_once_and_exported_again() {
    let rig = Rig::new();
    let list = multipass_list();
    let twice = vec![list[1].clone(), list[1].clone()];
    assert!(matches!(
        rig.ask(Request::Import { certificates: twice }),
        Response::Imported { added: 1, known: 1, .. }
    ));
    rig.entry(Request::Forget { selector: Fingerprint::of_certificate(&list[1].0).to_string() });
    let import = || rig.ask(Request::Import { certificates: list.clone() });
    let number = list.len();
    assert!(number >= 5, "{number}");
    assert!(matches!(import(), Response::Imported { added, known: 0, .. } if added == number));
    assert!(matches!(import(), Response::Imported { added: 0, known, .. } if known == number));
    let mine = rig.add("mine");
    let taken_back = Fingerprint::of_certificate(&list[0].0).to_string();
    rig.entry(Request::Remove { selector: taken_back.clone(), why: String::new() });
    assert!(matches!(import(), Response::Imported { revoked, .. } if revoked == [taken_back]));
    let Response::Certificates(exported) = rig.ask(Request::Export) else { panic!() };
    let expected: Vec<&Der> = list[1..].iter().collect();
    assert_eq!(exported.len(), expected.len() + 1, "what is accepted, and nothing else");
    assert!(expected.iter().all(|der| exported.contains(der)));
    let shown = rig.entry(Request::Show { selector: mine.fingerprint });
    assert!(exported.contains(&shown.certificate.unwrap()));
}

#[test]
fn what_is_no_certificate_changes_nothing() {
    let rig = Rig::new();
    let wrong = [Der(Vec::new()), Der(b"no certificate".to_vec()), Der(vec![0x30; 20_000])];
    for bad in wrong {
        let certificates = vec![certificate(), bad];
        assert_eq!(rig.failure(Request::Import { certificates }).code, FailureCode::Unacceptable);
    }
    let certificates = vec![certificate(); MOST_AT_ONCE + 1];
    assert_eq!(rig.failure(Request::Import { certificates }).code, FailureCode::Unacceptable);
    assert!(rig.names().is_empty() && rig.store.is_pristine());
}

#[test]
fn the_passphrase_is_set_unset_and_never_told() {
    let rig = Rig::new();
    let set = |text: &str, uses| {
        rig.ask(Request::SetPassphrase { passphrase: Secret::new(text), expires: None, uses })
    };
    let facts = |response| match response {
        Response::Passphrase(facts) => facts,
        other => panic!("{other:?}"),
    };
    assert!(!facts(rig.ask(Request::Passphrase)).set);
    let done = set("therewillbesecrets", Some(3));
    assert!(!format!("{done:?}").contains("secrets"));
    assert_eq!(facts(done), PassphraseFacts { set: true, expires: None, uses: Some(3) });
    assert!(matches!(set("", None), Response::Failed(_)));
    assert!(matches!(set("x", Some(0)), Response::Failed(_)));
    assert!(facts(rig.ask(Request::Passphrase)).set, "the old one stays");
    assert!(!facts(rig.ask(Request::UnsetPassphrase)).set);
}

#[test]
fn s_056_an_invitation_names_the_entrance_of_its_scope_and_is_shown_once() {
    let rig = Rig::new();
    let end = rig.store.entries().map(|_| crate::trust::now() + 600).unwrap();
    let invite = |sockets: Vec<String>, address: Option<String>, pin: Option<String>| {
        rig.ask(Request::Invite {
            name: "alice".into(),
            expires: end,
            entry_expires: None,
            scope: Scope::new(sockets, Vec::new()),
            address,
            pin,
        })
    };
    let token = |response: Response| match response {
        Response::Invited { token, address, .. } => {
            let text = std::str::from_utf8(token.expose()).unwrap().to_owned();
            let token: crate::trust::Token = text.parse().unwrap();
            assert_eq!(token.address(), address);
            (token.address().to_owned(), token.server(), text)
        }
        other => panic!("{other:?}"),
    };
    let (address, server, text) = token(invite(Vec::new(), None, None));
    assert_eq!((address.as_str(), server), ("tls+unix:/run/a", Fingerprint([1; 32])));
    let (address, server, _) = token(invite(vec!["b".into()], None, None));
    assert_eq!((address.as_str(), server), ("tls+unix:/run/b", Fingerprint([2; 32])));
    let pin = Some(format!("sha256:{}", Fingerprint([9; 32])));
    let (address, server, _) = token(invite(Vec::new(), Some("tls://gate.example:443".into()), pin));
    assert_eq!((address.as_str(), server), ("tls://gate.example:443", Fingerprint([9; 32])));
    assert!(matches!(invite(Vec::new(), Some("tls://a\nb".into()), None), Response::Failed(_)));
    assert!(matches!(invite(vec!["a\u{1b}".into()], None, None), Response::Failed(_)));

    let Response::Invitations(all) = rig.ask(Request::Invitations) else { panic!() };
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|one| one.open && one.name == "alice" && one.by == "root"));
    assert!(!format!("{all:?}").contains(&text[4..]));
    let id = all[0].id.clone();
    assert!(matches!(rig.ask(Request::Withdraw { id: id.clone() }), Response::Done));
    assert_eq!(rig.failure(Request::Withdraw { id }).code, FailureCode::Unknown);
}

#[test]
fn without_a_gateway_an_invitation_needs_an_address() {
    let rig = Rig::new();
    let request = |address: Option<&str>| Request::Invite {
        name: "alice".into(),
        expires: crate::trust::now() + 600,
        entry_expires: None,
        scope: Scope::default(),
        address: address.map(str::to_owned),
        pin: None,
    };
    let folder = rig._folder;
    drop(rig.store);
    let owner = Owner::reach(folder.path(), None).unwrap();
    assert!(!owner.gateway_runs());
    let Response::Failed(failure) = owner.ask(request(None)).unwrap() else { panic!() };
    assert!(failure.fix.contains("--address"), "{failure:?}");
    let Response::Invited { token, .. } = owner.ask(request(Some("tls://gate:1"))).unwrap() else { panic!() };
    let token: crate::trust::Token = std::str::from_utf8(token.expose()).unwrap().parse().unwrap();
    let own = crate::trust::ServerIdentity::open(folder.path(), "x", std::time::SystemTime::now()).unwrap();
    assert_eq!(Some(token.server()), own.key_fingerprint());
}
