//! Certificates of every kind at an authority: made here, shown as the handshake hands them over.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData as _, RevokedCertParams, SanType, SerialNumber,
};

use super::*;
use crate::proto::{
    error::Reason,
    peer::{Certificate, TlsFacts},
};

/// An authority, or one below another.
struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
    der: Vec<u8>,
}

impl Ca {
    fn new(name: &str) -> Self {
        Self::with(name, None, |_| {})
    }

    fn below(&self, name: &str) -> Self {
        Self::with(name, Some(self), |_| {})
    }

    fn with(name: &str, above: Option<&Self>, adjust: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        adjust(&mut params);
        let made = match above {
            None => params.self_signed(&key).unwrap(),
            Some(above) => params.signed_by(&key, &above.issuer()).unwrap(),
        };
        Self { params, key, pem: made.pem(), der: made.der().to_vec() }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A list that is good for a day and names these serial numbers.
    fn revokes(&self, serials: &[u64], age: Duration) -> String {
        self.revokes_all(serials.iter().map(|serial| SerialNumber::from(*serial)), age)
    }

    fn revokes_all(&self, serials: impl Iterator<Item = SerialNumber>, age: Duration) -> String {
        let now = SystemTime::now() - age;
        let revoked = serials.map(|serial_number| RevokedCertParams {
            serial_number,
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    /// A client's certificate: alice of the unit web, serial number 7.
    fn client(&self) -> Vec<u8> {
        self.client_with(|_| {})
    }

    fn client_with(&self, adjust: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = called("alice", Some("web"));
        params.subject_alt_names = vec![
            SanType::DnsName("A1.agents.Example".try_into().unwrap()),
            SanType::Rfc822Name("Alice@Example.ORG".try_into().unwrap()),
            SanType::URI("spiffe://example.org/alice".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from(7));
        adjust(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer()).unwrap().der().to_vec()
    }
}

fn called(name: &str, unit: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    if let Some(unit) = unit {
        distinguished.push(DnType::OrganizationalUnitName, unit);
    }
    distinguished
}

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn configured(options: &[(&str, &str)]) -> Result<Option<Authority>, ConfigError> {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Authority::configure(&mut Options::new("certificate", options))
}

/// What trusts `ca`, with more options.
fn trusting(ca: &Ca, more: &[(&str, &str)]) -> Authority {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "ca.pem", &ca.pem);
    let mut authority = configured(&[&[("ca", path.as_str())], more].concat()).unwrap().unwrap();
    // The folder of the test may go: what was read stays as it is.
    authority.authorities.clear();
    authority.loaded.get_mut().stamps.clear();
    authority
}

fn check(authority: &Authority, leaf: &[u8], sent: &[&Ca]) -> Result<Option<Identity>, Refusal> {
    let certificate = Certificate::new(leaf).with_intermediates(sent.iter().map(|ca| &*ca.der));
    let peer = Peer::unix(None).encrypted(TlsFacts::default(), Some(certificate), None);
    authority.check(&peer, &Claim::anonymous())
}

fn name(passed: Result<Option<Identity>, Refusal>) -> Option<String> {
    passed.unwrap().map(|identity| identity.name.to_string())
}

fn cause(refused: Result<Option<Identity>, Refusal>) -> String {
    let refusal = refused.expect_err("a refusal");
    assert_ne!(refusal.reason, Reason::ModuleFailed, "{}", refusal.cause);
    refusal.cause.to_string()
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn s_039_only_a_valid_certificate_of_the_authority_passes() {
    let ca = Ca::new("root");
    let authority = trusting(&ca, &[]);
    assert_eq!(name(check(&authority, &ca.client(), &[])).as_deref(), Some("alice"));
    // Of the same name, with another key.
    let other = Ca::new("root");
    assert!(cause(check(&authority, &other.client(), &[])).contains("BadSignature"));
    assert!(cause(check(&authority, &Ca::new("else").client(), &[])).contains("UnknownIssuer"));
    let now = SystemTime::now();
    for (adjust, why) in [
        (
            &(|params: &mut CertificateParams| params.not_after = (now - DAY).into()) as &dyn Fn(&mut _),
            "expired",
        ),
        (&|params: &mut CertificateParams| params.not_before = (now + DAY).into(), "not valid yet"),
        (
            &|params: &mut CertificateParams| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            },
            "extended key usage",
        ),
    ] {
        let cause = cause(check(&authority, &ca.client_with(adjust), &[]));
        assert!(cause.contains(why), "{why}: {cause}");
    }
    assert!(cause(check(&authority, b"no certificate", &[])).contains("BadEncoding"));
    let without = Peer::unix(None).encrypted(TlsFacts::default(), None, None);
    assert!(cause(authority.check(&without, &Claim::anonymous())).contains("no certificate"));
}

#[test]
fn s_039_an_authority_speaks_for_the_names_it_may_and_no_others() {
    let permitted = |dns: &str| {
        let dns = dns.to_owned();
        Ca::with("root", None, move |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName(dns)],
                excluded_subtrees: Vec::new(),
            });
        })
    };
    let only_dns = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("a1.agents.example".try_into().unwrap())];
    };
    for (dns, passes) in [("agents.example", true), ("example", true), ("other.example", false)] {
        let ca = permitted(dns);
        assert_eq!(check(&trusting(&ca, &[]), &ca.client_with(only_dns), &[]).is_ok(), passes, "{dns}");
    }
    // Constraints that one below has count too.
    let root = Ca::new("root");
    let below = Ca::with("below", Some(&root), |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: Vec::new(),
            excluded_subtrees: vec![GeneralSubtree::DnsName("agents.example".to_owned())],
        });
    });
    let cause = cause(check(&trusting(&root, &[]), &below.client_with(only_dns), &[&below]));
    assert!(cause.contains("NameConstraint"), "{cause}");
}

#[test]
fn s_039_the_path_is_as_long_as_it_may_be_and_complete() {
    let root = Ca::new("root");
    let authority = trusting(&root, &[]);
    let mut path = vec![root.below("1")];
    for length in 2..=6 {
        path.push(path.last().unwrap().below(&length.to_string()));
    }
    for length in 1..=6 {
        let leaf = path[length - 1].client();
        let sent: Vec<&Ca> = path[..length].iter().rev().collect();
        assert_eq!(check(&authority, &leaf, &sent).is_ok(), length <= DEPTH, "{length}");
        if length > 1 {
            assert!(check(&authority, &leaf, &sent[1..]).is_err(), "{length}: one is missing");
        }
    }
    // A client's certificate makes no others, and an authority's path length counts.
    let client = Ca::with("mallory", Some(&root), |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(check(&authority, &client.client(), &[&client]).is_err());
    let short =
        Ca::with("short", Some(&root), |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = short.below("below");
    assert!(check(&authority, &short.client(), &[&short]).is_ok());
    assert!(check(&authority, &below.client(), &[&below, &short]).is_err());
}

#[test]
fn s_039_a_revoked_certificate_is_refused_from_the_moment_the_list_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = Ca::new("root");
    let below = root.below("below");
    let ca = write(&folder, "ca.pem", &root.pem);
    let (own, lower) =
        (write(&folder, "root.crl", &root.revokes(&[], Duration::ZERO)), folder.path().join("lower.crl"));
    fs::write(&lower, below.revokes(&[1, 2], Duration::ZERO)).unwrap();
    let lower_name = lower.display().to_string();
    let authority = configured(&[("ca", &ca), ("crl", &own), ("crl", &lower_name)]).unwrap().unwrap();
    let alice = below.client();
    let bob = below.client_with(|params| params.serial_number = Some(SerialNumber::from(8)));
    let at = |leaf: &[u8]| check(&authority, leaf, &[&below]);
    assert!(at(&alice).is_ok() && at(&bob).is_ok());

    // Replaced in one step, and written over in place: both are seen at the next login.
    let next = folder.path().join("next.crl");
    fs::write(&next, below.revokes(&[7], Duration::ZERO)).unwrap();
    fs::rename(&next, &lower).unwrap();
    assert!(cause(at(&alice)).contains("Revoked") && at(&bob).is_ok());
    fs::write(&lower, below.revokes(&[8], Duration::ZERO)).unwrap();
    assert!(at(&alice).is_ok() && cause(at(&bob)).contains("Revoked"));

    // One above that is revoked takes all below with it.
    let serial = {
        let (_, parsed) = X509Certificate::from_der(&below.der).unwrap();
        parsed.tbs_certificate.raw_serial().to_vec()
    };
    let list = root.revokes_all([SerialNumber::from(serial)].into_iter(), Duration::ZERO);
    fs::write(&own, &list).unwrap();
    assert!(cause(at(&alice)).contains("Revoked"));
    fs::write(&own, root.revokes(&[], Duration::ZERO)).unwrap();
    assert!(at(&alice).is_ok());

    // A list that is over, of somebody else, damaged or gone lets nobody in.
    for bad in [below.revokes(&[], 3 * DAY), Ca::new("else").revokes(&[], Duration::ZERO)] {
        fs::write(&lower, bad).unwrap();
        assert!(at(&alice).is_err());
    }
    fs::write(&lower, "damaged").unwrap();
    assert_eq!(at(&alice).unwrap_err().reason, Reason::ModuleFailed, "S-65");
    fs::remove_file(&lower).unwrap();
    assert_eq!(at(&alice).unwrap_err().reason, Reason::ModuleFailed, "S-65");
    fs::write(&lower, below.revokes(&[], Duration::ZERO)).unwrap();
    assert!(at(&alice).is_ok());
}

#[test]
fn s_039_an_authority_that_is_replaced_counts_from_the_next_login_on() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let path = write(&folder, "ca.pem", &old.pem);
    let authority = configured(&[("ca", &path)]).unwrap().unwrap();
    assert!(check(&authority, &old.client(), &[]).is_ok() && check(&authority, &new.client(), &[]).is_err());
    write(&folder, "ca.pem", &format!("{}{}", old.pem, new.pem));
    assert!(check(&authority, &old.client(), &[]).is_ok() && check(&authority, &new.client(), &[]).is_ok());
    write(&folder, "ca.pem", &new.pem);
    assert!(check(&authority, &old.client(), &[]).is_err() && check(&authority, &new.client(), &[]).is_ok());
}

#[test]
fn s_039_where_some_are_listed_only_those_pass() {
    let ca = Ca::new("root");
    let key = KeyPair::generate().unwrap();
    let leaf = ca.client_with(|_| {});
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    let own: String =
        Sha256::digest(parsed.public_key().raw).iter().map(|byte| format!("{byte:02X}:")).collect();
    let other: String =
        Sha256::digest(key.subject_public_key_info()).iter().map(|byte| format!("{byte:02x}")).collect();
    for (option, right, wrong) in [
        ("cn", "alice", "Alice"),
        ("ou", "web", "we"),
        ("san", "a1.AGENTS.example", "a2.agents.example"),
        ("san", "dns:a1.agents.example", "email:a1@agents.example"),
        ("san", "*.agents.example", "*.example"),
        ("san", "dns:*.agents.EXAMPLE", "*.1.agents.example"),
        ("san", "email:Alice@example.org", "email:alice@example.org"),
        ("san", "uri:spiffe://example.org/alice", "uri:spiffe://example.org/"),
        ("san", "ip:192.0.2.7", "ip:192.0.2.8"),
        ("san", "192.0.2.7", "2001:db8::1"),
        ("spki", own.trim_end_matches(':'), &other),
    ] {
        assert!(check(&trusting(&ca, &[(option, right)]), &leaf, &[]).is_ok(), "{option}={right}");
        let refused = cause(check(&trusting(&ca, &[(option, wrong)]), &leaf, &[]));
        assert!(refused.contains("none of those that are listed"), "{option}={wrong}: {refused}");
        let either = trusting(&ca, &[(option, wrong), ("cn", "bob"), (option, right)]);
        assert!(check(&either, &leaf, &[]).is_ok(), "{option}: any of them");
        // What is listed says nothing for certificates of others.
        assert!(check(&trusting(&Ca::new("else"), &[(option, right)]), &leaf, &[]).is_err());
    }
    // A wildcard in a certificate stands for nobody, and neither does the domain itself.
    for name in ["*.agents.example", "agents.example"] {
        let wild = ca.client_with(|params| {
            params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        });
        assert!(check(&trusting(&ca, &[("san", "*.agents.example")]), &wild, &[]).is_err(), "{name}");
    }
}

#[test]
fn s_068_the_certificate_names_one_client_or_it_is_refused() {
    let ca = Ca::new("root");
    let leaf = ca.client();
    for (by, expected) in [
        ("cn", Some("alice")),
        ("dns", Some("a1.agents.example")),
        ("email", Some("Alice@example.org")),
        ("none", None),
    ] {
        assert_eq!(name(check(&trusting(&ca, &[("name", by)]), &leaf, &[])).as_deref(), expected, "{by}");
    }
    // S-69: what no user may be called is nobody's name.
    assert_eq!(
        check(&trusting(&ca, &[("name", "uri")]), &leaf, &[]).unwrap_err().reason,
        Reason::BadUsername
    );
    let urn = ca
        .client_with(|params| params.subject_alt_names = vec![SanType::URI("urn:x:bob".try_into().unwrap())]);
    assert_eq!(name(check(&trusting(&ca, &[("name", "uri")]), &urn, &[])).as_deref(), Some("urn:x:bob"));
    for bad in ["../alice", "alice\u{1b}[2J", "-rf"] {
        let bad = ca.client_with(|params| params.distinguished_name = called(bad, None));
        assert_eq!(check(&trusting(&ca, &[]), &bad, &[]).unwrap_err().reason, Reason::BadUsername);
    }
    let none = ca.client_with(|params| {
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.clear();
    });
    let two = ca.client_with(|params| {
        params.subject_alt_names =
            ["a.example", "b.example"].map(|name| SanType::DnsName(name.try_into().unwrap())).to_vec();
    });
    assert!(cause(check(&trusting(&ca, &[]), &none, &[])).contains("no common name"));
    assert!(cause(check(&trusting(&ca, &[("name", "dns")]), &two, &[])).contains("more than one DNS name"));
}

#[test]
fn s_065_options_and_files_that_cannot_be_used_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("root");
    let path = write(&folder, "ca.pem", &ca.pem);
    let (list, empty) =
        (write(&folder, "list.crl", &ca.revokes(&[], Duration::ZERO)), write(&folder, "empty", ""));
    assert!(configured(&[]).unwrap().is_none());
    assert!(configured(&[("ca", &path), ("crl", &list)]).unwrap().is_some());
    for useless in [("crl", list.as_str()), ("cn", "a"), ("ou", "a"), ("san", "a"), ("name", "cn")] {
        assert_eq!(configured(&[useless]).err().unwrap().fix(), NO_CA, "{useless:?}");
    }
    for wrong in [
        ("ca", ""),
        ("ca", empty.as_str()),
        ("ca", "/nonexistent/ca.pem"),
        ("ca", list.as_str()),
        ("crl", empty.as_str()),
        ("crl", path.as_str()),
        ("cn", ""),
        ("san", ""),
        ("san", "*"),
        ("san", "a.*.example"),
        ("san", "a..example"),
        ("san", "upn:alice"),
        ("san", "email:alice"),
        ("san", "uri:alice"),
        ("san", "ip:alice"),
        ("spki", "1234"),
        ("spki", &"g".repeat(64)),
        ("name", "ou"),
        ("first-use", "no"),
    ] {
        assert!(configured(&[("ca", &path), wrong]).is_err(), "{wrong:?}");
    }
    // S-61: an authority that others can write is anybody's.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let error = configured(&[("ca", &path)]).err().unwrap();
    assert_eq!(error.fix(), format!("chmod go-w {path}"));
}
