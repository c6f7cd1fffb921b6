//! The gateway's own certificate: made at first start, kept, renewed; or the operator's files.
//!
//! Called at start, and once a day for the renewal. In `STATE_DIR/tls/` (0700) there are
//!
//! | file | holds |
//! |---|---|
//! | `root.pem` | the key and certificate of our own authority (0600, ten years) |
//! | `server.pem` | the key and chain of the server (0600, one year) |
//! | `root.crt` | the authority's certificate alone, to be given to clients |
//!
//! A key and its certificate are one file, so that no crash leaves one without the other (S-62). A
//! renewal keeps the key: clients that remember it notice nothing.
//!
//! The certificate holds `localhost`, the loopback addresses, and whatever else clients call the gateway
//! (M18). A name that is new has it made anew; one that is gone leaves with the next renewal.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    asn1_rs::FromDer,
    prelude::{GeneralName, X509Certificate},
};
use zeroize::Zeroizing;

use super::durable;
use crate::{
    error::ConfigError,
    transport::tls::{Fingerprint, certified_key},
};

/// The certificate that the gateway shows, and its key.
#[derive(Clone)]
pub struct ServerIdentity {
    key: Arc<CertifiedKey>,
    source: Source,
    not_after: SystemTime,
}

/// Where an identity comes from, and goes to when it is renewed.
#[derive(Clone, Debug)]
enum Source {
    /// Our own files in this directory.
    Own { directory: PathBuf, names: Names },
    /// The operator's.
    Files { certificate: PathBuf, key: PathBuf },
}

impl ServerIdentity {
    /// [`ServerIdentity::open_for`] one name.
    ///
    /// # Errors
    /// As there.
    pub fn open(state_directory: &Path, host: &str, now: SystemTime) -> Result<Self, ConfigError> {
        Self::open_for(state_directory, &[host], now)
    }

    /// The identity in `state_directory/tls`, made now if this is the first start.
    ///
    /// `hosts` are the names and addresses that clients call this gateway, beside `localhost` and the
    /// loopback addresses; what no certificate can hold is left out. A certificate that is due, or
    /// lacks one of them, is made anew here, for the same key.
    ///
    /// # Errors
    /// A file that others can read (S-41), is damaged, or cannot be written.
    pub fn open_for(state_directory: &Path, hosts: &[&str], now: SystemTime) -> Result<Self, ConfigError> {
        let directory = state_directory.join("tls");
        durable::private_directory(&directory)?;
        let names = Names::of(hosts);
        make_missing(&directory, &names, now)?;
        let mut identity = Self::load(Source::Own { directory: directory.clone(), names: names.clone() })?;
        let present = Names::in_certificate(identity.leaf());
        if !names.0.is_subset(&present.0) {
            // With those that are there: gateways of one directory do not take them from each other.
            sign_anew(&directory, &Names(&names.0 | &present.0), now)?;
            identity = Self::load(identity.source)?;
        }
        Ok(identity.renewed(now)?.unwrap_or(identity))
    }

    /// The identity in the operator's files (`ssl-cert=`, `ssl-key=`); both may be the same file.
    ///
    /// # Errors
    /// A file that is unreadable, a key that others can read (S-41) or that does not belong to the
    /// certificate (S-42).
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, ConfigError> {
        Self::load(Source::Files { certificate: certificate.to_owned(), key: key.to_owned() })
    }

    /// What to show from now on, if something else than this: our own certificate with less than 30
    /// days left is renewed, and the operator's files are read again (S-42).
    ///
    /// # Errors
    /// As [`ServerIdentity::open`] and [`ServerIdentity::from_files`]; then this one stays.
    pub fn renewed(&self, now: SystemTime) -> Result<Option<Self>, ConfigError> {
        if let Source::Own { directory, names } = &self.source {
            if now + RENEWAL_AHEAD < self.not_after {
                return Ok(None);
            }
            sign_anew(directory, names, now)?;
        }
        let read = Self::load(self.source.clone())?;
        Ok((read.key.cert != self.key.cert).then_some(read))
    }

    /// The chain and key, for [`crate::transport::tls::ServerTls`].
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(self.leaf())
    }

    /// SHA-256 of the public key, which stays the same over renewals.
    pub fn key_fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::of_key(self.leaf())
    }

    /// When the certificate ends, for `status` and metrics.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    fn leaf(&self) -> &[u8] {
        self.key.cert.first().map(|der| &**der).unwrap_or_default()
    }

    fn load(source: Source) -> Result<Self, ConfigError> {
        let (what, chain, key) = match &source {
            Source::Own { directory, .. } => {
                let path = directory.join(SERVER);
                let pem = Zeroizing::new(durable::read_private(&path)?);
                (path, pem.clone(), pem)
            }
            Source::Files { certificate, key } => {
                let key = Zeroizing::new(durable::read_private(key)?);
                (certificate.clone(), Zeroizing::new(durable::read_public(certificate)?), key)
            }
        };
        let what = format!("certificate file {}", what.display());
        let key = certified_key(&what, &chain, &key)?;
        let not_after = key.cert.first().and_then(|der| end_of(der)).ok_or_else(|| {
            ConfigError::new(what, "its first certificate cannot be read", "give an X.509 certificate in PEM")
        })?;
        Ok(Self { key, source, not_after })
    }
}

/// No key in it.
impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("fingerprint", &self.fingerprint())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Host names in lower case and addresses as they are written, each of which a certificate can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names(BTreeSet<String>);

impl Names {
    fn of(hosts: &[&str]) -> Self {
        let always = ["localhost", "127.0.0.1", "::1"];
        let hosts = always.iter().chain(hosts).map(|host| host.strip_suffix('.').unwrap_or(host));
        Self(hosts.filter_map(|host| ServerName::try_from(host).ok()).filter_map(written).collect())
    }

    fn in_certificate(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Self(BTreeSet::new()) };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let text = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        };
        Self(names.filter_map(text).collect())
    }

    fn to_subject(&self) -> Vec<SanType> {
        let names = self.0.iter().map(|name| match name.parse() {
            Ok(address) => Some(SanType::IpAddress(address)),
            Err(_) => name.as_str().try_into().ok().map(SanType::DnsName),
        });
        names.flatten().collect()
    }
}

fn written(name: ServerName<'_>) -> Option<String> {
    match name {
        ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
        ServerName::IpAddress(address) => Some(IpAddr::from(address).to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Makes what is not there. Of two gateways that start at once one makes each file, and both use it.
fn make_missing(directory: &Path, names: &Names, now: SystemTime) -> Result<(), ConfigError> {
    let io = |error| cannot(directory, error);
    make(&directory.join(ROOT), || root_pem(&generate()?, now)).map_err(io)?;
    let root = Zeroizing::new(durable::read_private(&directory.join(ROOT))?);
    let root = key_of(ROOT, &root)?;
    make(&directory.join(SERVER), || server_pem(&root, &generate()?, names, now)).map_err(io)?;
    make(&directory.join(ROOT_CERTIFICATE), || root_certificate(&root, now).map(Zeroizing::new)).map_err(io)
}

/// Puts another certificate in place, for the key that is there.
fn sign_anew(directory: &Path, names: &Names, now: SystemTime) -> Result<(), ConfigError> {
    let key = |name| key_of(name, &Zeroizing::new(durable::read_private(&directory.join(name))?));
    let pem = server_pem(&key(ROOT)?, &key(SERVER)?, names, now).map_err(|error| cannot(directory, error))?;
    durable::replace(&directory.join(SERVER), pem.as_bytes(), 0o600).map_err(|error| cannot(directory, error))
}

fn make(path: &Path, content: impl FnOnce() -> io::Result<Zeroizing<String>>) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let mode = if path.ends_with(ROOT_CERTIFICATE) { 0o644 } else { 0o600 };
    match durable::create(path, content()?.as_bytes(), mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn root_pem(key: &KeyPair, now: SystemTime) -> io::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(key.serialize_pem() + &root_certificate(key, now)?))
}

fn root_certificate(key: &KeyPair, now: SystemTime) -> io::Result<String> {
    let mut params = root_params(key);
    (params.not_before, params.not_after) = validity(now, 10 * YEAR);
    Ok(params.self_signed(key).map_err(io::Error::other)?.pem())
}

/// What the root is called and may do. It follows from its key, so that a renewal needs nothing else.
fn root_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let digest = Sha256::digest(key.der_bytes());
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("countersign root {tag}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The server's key, its certificate, and the root's certificate, so that the chain is whole.
fn server_pem(
    root: &KeyPair,
    key: &KeyPair,
    names: &Names,
    now: SystemTime,
) -> io::Result<Zeroizing<String>> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_subject();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "countersign");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    (params.not_before, params.not_after) = validity(now, YEAR);
    let issuer = root_params(root);
    let certificate = params.signed_by(key, &Issuer::from_params(&issuer, root)).map_err(io::Error::other)?;
    Ok(Zeroizing::new(key.serialize_pem() + &certificate.pem() + &root_certificate(root, now)?))
}

/// A new key, EC on P-256.
pub(crate) fn generate() -> io::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)
}

/// Random, so that a renewal for the same key differs (RFC 5280 4.1.2.2: positive, at most 20 bytes).
pub(crate) fn serial() -> io::Result<SerialNumber> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn key_of(name: &str, pem: &[u8]) -> Result<KeyPair, ConfigError> {
    let text = std::str::from_utf8(pem).ok();
    text.and_then(|text| KeyPair::from_pem(text).ok()).ok_or_else(|| {
        ConfigError::new(
            format!("key file {name} in the state directory"),
            "it holds no readable private key",
            "put a backup back; or remove it, and the clients that know it have to learn the new one",
        )
    })
}

fn end_of(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// A day before `now`, for clients whose clock is behind, until `length` after it.
pub(crate) fn validity<T: From<SystemTime>>(now: SystemTime, length: Duration) -> (T, T) {
    ((now - DAY).into(), (now + length).into())
}

fn cannot(directory: &Path, error: io::Error) -> ConfigError {
    let what = format!("server certificate in {}", directory.display());
    ConfigError::new(what, error.to_string(), "make the state directory writable, with space left")
}

const ROOT: &str = "root.pem";
const SERVER: &str = "server.pem";
const ROOT_CERTIFICATE: &str = "root.crt";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const RENEWAL_AHEAD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
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
}
