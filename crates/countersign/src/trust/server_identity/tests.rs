use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn now() -> SystemTime {
    SystemTime::now()
}

fn held(identity: &ServerIdentity) -> Vec<String> {
    Names::in_certificate(identity.leaf()).0.into_iter().collect()
}

#[test]
fn the_identity_is_made_once_and_kept() {
    let state = tempfile::tempdir().unwrap();
    let first = ServerIdentity::open(state.path(), "gate.example", now()).unwrap();
    let second = ServerIdentity::open(state.path(), "gate.example", now()).unwrap();
    assert_eq!(first.fingerprint(), second.fingerprint());
    assert_eq!(first.fingerprint().to_string().len(), 64);
    assert_eq!(first.certified_key().cert.len(), 2, "the chain holds the root");
    let all = ["127.0.0.1", "::1", "gate.example", "localhost"];
    assert_eq!(held(&first), all);
}

/// M18, S-42: under the same root and for the same key, so that no client notices.
#[test]
fn s_042_a_name_that_is_new_has_the_certificate_made_anew_and_none_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let open = |hosts: &[&str]| ServerIdentity::open_for(state.path(), hosts, now()).unwrap();
    let root = || fs::read(state.path().join("tls").join(ROOT)).unwrap();
    let (first, authority) = (open(&["gate"]), root());
    let hosts = ["Gate", "gate.example.", "192.0.2.7", "2001:DB8::7", "fe80::1%eth0", "no name", ""];
    let more = open(&hosts);
    assert_ne!(more.fingerprint(), first.fingerprint());
    assert_eq!(more.key_fingerprint(), first.key_fingerprint());
    assert_eq!(root(), authority);
    let expected = ["127.0.0.1", "192.0.2.7", "2001:db8::7", "::1", "gate", "gate.example", "localhost"];
    assert_eq!(held(&more), expected);
    for fewer in [&hosts[..], &["192.0.2.7"], &[]] {
        assert_eq!(open(fewer).fingerprint(), more.fingerprint(), "{fewer:?}");
    }
    let other = open(&["other.example"]);
    assert_eq!(held(&other).len(), expected.len() + 1);
    // What nobody asks for any more leaves with the next one.
    let later = now() + YEAR;
    let next = ServerIdentity::open_for(state.path(), &["gate"], later).unwrap();
    assert_eq!(held(&next), ["127.0.0.1", "::1", "gate", "localhost"]);
    assert_eq!(next.key_fingerprint(), first.key_fingerprint());
}

#[test]
fn s_041_the_keys_are_private_and_others_reading_them_stop_the_start() {
    let state = tempfile::tempdir().unwrap();
    ServerIdentity::open(state.path(), "localhost", now()).unwrap();
    let tls = state.path().join("tls");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&tls), 0o700);
    for name in [ROOT, SERVER] {
        let path = tls.join(name);
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = ServerIdentity::open(state.path(), "localhost", now()).unwrap_err();
        assert_eq!(error.fix(), format!("chmod 600 {}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(mode(&tls.join(ROOT_CERTIFICATE)), 0o644);
}

#[test]
fn s_042_a_certificate_is_renewed_30_days_ahead_for_the_same_key_under_the_same_root() {
    let state = tempfile::tempdir().unwrap();
    let start = now();
    let first = ServerIdentity::open(state.path(), "localhost", start).unwrap();
    assert!(first.renewed(start + YEAR - 31 * DAY).unwrap().is_none());
    let later = start + YEAR - 29 * DAY;
    let renewed = first.renewed(later).unwrap().expect("less than 30 days are left");
    assert_ne!(renewed.fingerprint(), first.fingerprint());
    assert_eq!(renewed.key_fingerprint(), first.key_fingerprint());
    assert!(renewed.not_after() > later + 364 * DAY);
    assert!(renewed.renewed(later).unwrap().is_none());
    let again = ServerIdentity::open(state.path(), "localhost", later).unwrap();
    assert_eq!(again.fingerprint(), renewed.fingerprint());
    let root = fs::read(state.path().join("tls").join(ROOT_CERTIFICATE)).unwrap();
    let root = crate::transport::tls::certificates("root", &root).unwrap();
    let (_, root) = X509Certificate::from_der(&root[0]).unwrap();
    let (_, leaf) = X509Certificate::from_der(renewed.leaf()).unwrap();
    assert_eq!(leaf.issuer(), root.subject());
}

#[test]
fn s_042_a_key_of_another_certificate_is_refused_and_files_are_read_again() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ServerIdentity::open(ours.path(), "localhost", now()).unwrap();
    ServerIdentity::open(theirs.path(), "localhost", now()).unwrap();
    let (cert, key) = (ours.path().join("tls").join(SERVER), theirs.path().join("tls").join(SERVER));
    let error = ServerIdentity::from_files(&cert, &key).unwrap_err();
    assert!(error.to_string().contains("does not belong"), "{error}");

    let identity = ServerIdentity::from_files(&cert, &cert).unwrap();
    assert!(identity.renewed(now()).unwrap().is_none());
    fs::copy(&key, &cert).unwrap();
    assert!(identity.renewed(now()).unwrap().is_some());
    fs::write(&cert, "damaged").unwrap();
    assert!(identity.renewed(now()).is_err());
}

#[test]
fn s_088_neither_debug_nor_errors_show_a_key() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "localhost", now()).unwrap();
    let path = state.path().join("tls").join(SERVER);
    let pem = fs::read_to_string(&path).unwrap();
    let line = pem.lines().nth(1).unwrap();
    assert!(!format!("{identity:?}").contains(line));
    fs::write(&path, format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END")).unwrap();
    let error = ServerIdentity::open(state.path(), "localhost", now()).unwrap_err();
    assert!(!format!("{error}{}", error.fix()).contains(line));
}

#[test]
fn two_gateways_that_start_at_once_show_the_same_certificate() {
    let state = tempfile::tempdir().unwrap();
    let found: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| ServerIdentity::open(state.path(), "localhost", now()).unwrap()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap().fingerprint()).collect()
    });
    assert!(found.iter().all(|fingerprint| *fingerprint == found[0]));
}

#[test]
fn a_serial_number_is_random_positive_and_of_one_length() {
    let numbers: BTreeSet<_> = (0..64).map(|_| serial().unwrap().to_bytes()).collect();
    assert_eq!(numbers.len(), 64);
    for number in numbers {
        assert_eq!((number.len(), number[0] & 0xc0), (16, 0x40), "{number:?}");
    }
}

#[test]
fn a_certificate_counts_from_a_day_ago_for_clocks_that_are_behind() {
    let now = now();
    assert_eq!(validity::<SystemTime>(now, YEAR), (now - DAY, now + YEAR));
}

#[test]
fn s_042_thirty_days_before_its_end_it_is_renewed_and_not_a_moment_earlier() {
    let state = tempfile::tempdir().unwrap();
    let first = ServerIdentity::open(state.path(), "localhost", now()).unwrap();
    let due = first.not_after() - RENEWAL_AHEAD;
    assert!(first.renewed(due - Duration::from_secs(1)).unwrap().is_none());
    assert!(first.renewed(due).unwrap().is_some());
}

/// Clients are told to trust the root: it vouches for servers, and makes no other authority.
#[test]
fn the_root_has_a_name_of_its_own_and_makes_no_other_authority() {
    let (one, other) = (generate().unwrap(), generate().unwrap());
    let name = |key: &KeyPair| {
        let pem = root_certificate(key, now()).unwrap();
        let der = crate::transport::tls::certificates("root", pem.as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&der[0]).unwrap();
        let rights = root.basic_constraints().unwrap().unwrap().value;
        assert_eq!((rights.ca, rights.path_len_constraint), (true, Some(0)));
        assert!(root.key_usage().unwrap().unwrap().value.key_cert_sign());
        root.subject().to_string()
    };
    assert!(name(&one).starts_with("CN=countersign root "));
    assert_ne!(name(&one), name(&other));
}

#[test]
fn a_file_that_cannot_be_made_is_an_error_and_one_that_another_made_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let text = || Ok(Zeroizing::new("text".to_owned()));
    assert!(make(&folder.path().join("absent").join("file"), text).is_err());
    let path = folder.path().join("file");
    // Another gateway makes it between the look and the writing.
    let overtaken = || {
        fs::write(&path, "theirs")?;
        text()
    };
    make(&path, overtaken).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[test]
fn an_identity_shows_its_fingerprints() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "localhost", now()).unwrap();
    assert_eq!(identity.key_fingerprint(), Fingerprint::of_key(identity.leaf()));
    assert_ne!(identity.key_fingerprint(), None);
    assert!(format!("{identity:?}").contains(&format!("{:?}", identity.fingerprint())));
}
