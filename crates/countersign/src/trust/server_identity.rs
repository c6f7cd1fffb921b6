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

#[cfg(test)]
mod tests;

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
