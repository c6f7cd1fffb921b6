//! The client's own key and certificate: made when a server first asks for one, and kept.
//!
//! Called by [`super::Connector`] in the middle of a handshake, and by the command that shows them.
//! There is no name and no machine in the certificate: it says that whoever shows it is the one who
//! showed it before, and nothing else. It is shown to servers that are known (`dial`), and not to
//! those that say which authorities they want, for it has none (RFC 8446 4.2.4).

use std::{
    fmt, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use sha2::{Digest as _, Sha256};
use x509_parser::{asn1_rs::FromDer as _, prelude::X509Certificate};
use zeroize::Zeroizing;

use super::{
    error::{Cause, ConnectError},
    person::Person,
};
use crate::{
    sys::files,
    transport::tls::{Fingerprint, certified_key},
    trust::{durable, server_identity},
};

/// Where this user's key and certificate are kept, both in one file (S-62).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIdentity {
    path: PathBuf,
    /// Whether the directory is ours too, and not one that the caller chose.
    own_directory: bool,
}

impl OwnIdentity {
    /// The file at `path`, which need not exist yet. Its directory has to.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), own_directory: false }
    }

    /// The user's own file: `$XDG_DATA_HOME/countersign/client.pem`.
    ///
    /// # Errors
    /// There is no home directory.
    pub fn of_user() -> Result<Self, ConnectError> {
        use etcetera::{BaseStrategy as _, base_strategy::Xdg};
        let folders = Xdg::new().map_err(|_| {
            ConnectError::new(Cause::System, "client certificate", "there is no home directory to keep it in")
                .with_fix("set HOME, or name a file with --cert")
        })?;
        Ok(Self { path: folders.data_dir().join("countersign/client.pem"), own_directory: true })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key and certificate, made now if there are none. Of several clients that start at once one
    /// makes them, and all use those. What others could do with the files is taken from them, and
    /// `person` is told (S-41).
    ///
    /// # Errors
    /// They can be neither made nor read, are damaged, or belong to somebody else.
    pub fn open(&self, person: &dyn Person, now: SystemTime) -> Result<ClientIdentity, ConnectError> {
        if !self.exists() {
            self.make(now)?;
        }
        self.load(person, now)
    }

    pub(super) fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    pub(super) fn make(&self, now: SystemTime) -> Result<(), ConnectError> {
        let cannot = |error: io::Error| {
            let place = files::directory_of(&self.path).display();
            self.error(format!("it cannot be made: {error}"))
                .with_fix(format!("make {place} writable, or name another certificate with --cert"))
        };
        if self.own_directory {
            files::create_private_directory(files::directory_of(&self.path)).map_err(cannot)?;
        }
        match durable::create(&self.path, new_pair(now).map_err(cannot)?.as_bytes(), 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(cannot),
        }
    }

    pub(super) fn load(&self, person: &dyn Person, now: SystemTime) -> Result<ClientIdentity, ConnectError> {
        let identity = ClientIdentity::read(&self.path, self.own_directory, person)?;
        if identity.not_after <= now {
            person.tell(&format!(
                "the certificate in {} ended at {}: servers that look at the date refuse it. {REPAIR}",
                self.path.display(),
                identity.ends
            ));
        }
        Ok(identity)
    }

    /// The same where there may be none, or none any more: another client may have moved the file.
    pub(super) fn load_if_there(
        &self,
        person: &dyn Person,
        now: SystemTime,
    ) -> Result<Option<ClientIdentity>, ConnectError> {
        let written = || self.path.symlink_metadata().and_then(|file| file.modified()).ok();
        let before = written();
        match self.load(person, now) {
            Err(_) if !self.exists() => Ok(None),
            // It was moved and another one made while we read.
            Err(_) if written() != before => self.load(person, now).map(Some),
            loaded => loaded.map(Some),
        }
    }

    /// A file of another kind in the same place.
    pub(super) fn beside(&self, extension: &str) -> Self {
        Self { path: self.path.with_extension(extension), ..*self }
    }

    fn error(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> ConnectError {
        ConnectError::new(Cause::System, what(&self.path), why)
    }
}

/// A key and its certificate, read from their file.
#[derive(Clone)]
pub struct ClientIdentity {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
    ends: String,
}

impl ClientIdentity {
    fn read(path: &Path, own_directory: bool, person: &dyn Person) -> Result<Self, ConnectError> {
        let fault = |fault: files::FileFault| {
            ConnectError::new(Cause::System, what(path), fault.why()).with_fix(fault.fix())
        };
        let narrowed = |path: &Path, had: files::Rights| {
            person.tell(&format!(
                "{}: others than you could get at it ({had}); now they cannot. Whoever copied the key can \
                 be you: {REPAIR}",
                path.display()
            ));
        };
        if own_directory {
            let directory = files::directory_of(path);
            if let Some(had) = files::narrow_directory(directory).map_err(fault)? {
                narrowed(directory, had);
            }
        }
        let (file, had) = files::open_narrowed(path).map_err(fault)?;
        if let Some(had) = had {
            narrowed(path, had);
        }
        let mut pem = Zeroizing::new(Vec::new());
        file.take(MOST_BYTES).read_to_end(&mut pem).map_err(|error| {
            ConnectError::new(Cause::System, what(path), format!("it cannot be read: {error}"))
                .with_fix(format!("make {} readable for you", path.display()))
        })?;
        let damaged = |text: String| ConnectError::new(Cause::System, text, "").with_fix(REPAIR);
        let key = certified_key(&what(path), &pem, &pem).map_err(|error| damaged(error.to_string()))?;
        let end = key.cert.first().and_then(|der| end_of(der));
        let (not_after, ends) =
            end.ok_or_else(|| damaged(format!("{}: its certificate cannot be read", what(path))))?;
        Ok(Self { key, not_after, ends })
    }

    /// The certificate and key, for a handshake.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// SHA-256 of the certificate: what a server's list of accepted certificates is about.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(self.certificate())
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        self.key.cert.first().map(|der| &**der).unwrap_or_default()
    }

    /// The certificate in PEM, without the key: what may be given to anybody.
    pub fn certificate_pem(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = STANDARD.encode(self.certificate());
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The same as text (RFC 3339, UTC).
    pub fn ends(&self) -> &str {
        &self.ends
    }
}

/// No key in it.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("fingerprint", &self.fingerprint())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

/// What a client shows of itself to a server that asks for a certificate.
#[derive(Clone, Debug)]
pub(super) enum Shows {
    /// A certificate that the caller chose.
    Given(Arc<CertifiedKey>),
    /// The user's own, made if need be.
    Own(OwnIdentity),
}

/// Answers a server's question for a certificate, and remembers what was answered.
pub(super) struct WhenAsked {
    shows: Shows,
    /// The server's address: some have another certificate of ours than others.
    server: String,
    person: Arc<dyn Person>,
    answer: OnceLock<Result<Option<Arc<CertifiedKey>>, ConnectError>>,
}

impl WhenAsked {
    pub(super) fn new(shows: Shows, server: String, person: Arc<dyn Person>) -> Self {
        Self { shows, server, person, answer: OnceLock::new() }
    }

    /// The certificate that was shown; `None` if the server did not ask, or was shown none.
    ///
    /// # Errors
    /// It asked, and our certificate is there and not usable: a login without it would be refused for
    /// reasons that nobody would find.
    pub(super) fn shown(&self) -> Result<Option<Fingerprint>, ConnectError> {
        match self.answer.get() {
            None => Ok(None),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(key)) => {
                let leaf = key.as_ref().and_then(|key| key.cert.first());
                Ok(leaf.map(|der| Fingerprint::of_certificate(der)))
            }
        }
    }

    fn answer(&self, authorities_wanted: bool) -> Result<Option<Arc<CertifiedKey>>, ConnectError> {
        let own = match &self.shows {
            Shows::Given(key) => return Ok(Some(Arc::clone(key))),
            Shows::Own(_) if authorities_wanted => return Ok(None),
            Shows::Own(own) => own,
        };
        let now = SystemTime::now();
        if !own.exists()
            && let Err(error) = own.make(now)
        {
            // A home that cannot be written to: many servers let us in without a certificate.
            self.person.tell(&format!("no certificate is shown to the server: {error}"));
            return Ok(None);
        }
        own.for_server(&self.server, &*self.person, now).map(|identity| Some(identity.certified_key()))
    }
}

impl ResolvesClientCert for WhenAsked {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let answer = self.answer.get_or_init(|| self.answer(!authorities.is_empty()));
        answer.as_ref().ok().cloned().flatten()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for WhenAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhenAsked").field("shows", &self.shows).finish_non_exhaustive()
    }
}

/// A new key and a certificate for it, in PEM.
pub(super) fn new_pair(now: SystemTime) -> io::Result<Zeroizing<String>> {
    let key = server_identity::generate()?;
    let certificate = params(&key, now)?.self_signed(&key).map_err(io::Error::other)?;
    Ok(Zeroizing::new(key.serialize_pem() + &certificate.pem()))
}

fn params(key: &KeyPair, now: SystemTime) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let digest = Sha256::digest(key.der_bytes());
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("countersign client {tag}"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(server_identity::serial()?);
    (params.not_before, params.not_after) = server_identity::validity(now, LIFETIME);
    Ok(params)
}

/// When a certificate ends, as a moment and in words.
fn end_of(der: &[u8]) -> Option<(SystemTime, String)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let end = certificate.validity().not_after;
    let seconds = u64::try_from(end.timestamp()).ok()?;
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    let date = end.to_datetime();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (date.hour(), date.minute(), date.second());
    Some((moment, format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")))
}

fn what(path: &Path) -> String {
    format!("client certificate {}", path.display())
}

const REPAIR: &str =
    "Remove the file and the next connection makes another, which servers have to accept anew";

/// A year, as the server's own; long before its end the client makes the next one.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Bytes of the file that are read; a pair has 900.
const MOST_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
