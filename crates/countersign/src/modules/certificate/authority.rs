//! `certificate(ca=FILE)`: certificates that an authority vouches for, by the rules of RFC 5280.
//!
//! Called by the module when `ca` is among its options. The handshake proved that the client holds the
//! key of its certificate; here the path to the authority is validated (S-39): signatures, dates,
//! `clientAuth`, name constraints, revocation lists, at most [`DEPTH`] certificates in between. Then the
//! certificate has to be one of those that are listed, if any are, and says who the client is.

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use x509_parser::{
    asn1_rs::FromDer as _,
    extensions::GeneralName,
    prelude::{AttributeTypeAndValue, X509Certificate},
};

use super::{Options, no_certificate};
use crate::{
    Claim, Identity, Peer, Refusal, Username,
    error::ConfigError,
    proto::chain::CheckPeer,
    sys::{
        clock,
        files::{self, FileFault, Stamp},
    },
};

/// Lets in who shows a certificate of one of these authorities.
pub(super) struct Authority {
    authorities: Vec<PathBuf>,
    revocations: Vec<PathBuf>,
    loaded: Mutex<Loaded>,
    /// Any of them admits; none listed admits every certificate of the authorities.
    listed: Vec<Listed>,
    named_by: NamedBy,
}

/// What was last made of the files.
struct Loaded {
    stamps: Vec<Stamp>,
    path: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// Takes the options of this kind of checking. `None` if there is no `ca` among them.
    ///
    /// # Errors
    /// An option that is wrong or has no use, or a file that cannot be used.
    pub(super) fn configure(options: &mut Options) -> Result<Option<Self>, ConfigError> {
        let authorities = paths(options, "ca")?;
        let revocations = paths(options, "crl")?;
        let listed = listed(options)?;
        let named_by = options.take("name")?;
        if authorities.is_empty() {
            let unused = [("crl", !revocations.is_empty()), ("name", named_by.is_some())];
            let unused = unused.into_iter().chain([("cn, ou, san or spki", !listed.is_empty())]);
            return match unused.into_iter().find(|(_, given)| *given) {
                Some((name, _)) => {
                    Err(options.error(name, "it is about certificates of an authority", NO_CA))
                }
                None => Ok(None),
            };
        }
        if options.take("first-use")?.is_some() {
            return Err(options.error(
                "first-use",
                "authorities decide, and nobody is the first",
                "remove it",
            ));
        }
        let named_by = match named_by {
            Some(name) => NamedBy::parse(&name).ok_or_else(|| {
                options.error(
                    "name",
                    "it is none of the names in a certificate",
                    "write cn, dns, email, uri or none",
                )
            })?,
            None => NamedBy::CommonName,
        };
        let unusable = |unusable: Unusable| options.error(unusable.option, unusable.why, unusable.fix);
        let opened = open(&authorities, &revocations).map_err(unusable)?;
        let loaded = Mutex::new(load(opened).map_err(unusable)?);
        Ok(Some(Self { authorities, revocations, loaded, listed, named_by }))
    }

    /// The verifier of paths, made anew if a file is another one since (S-39: a revocation counts from
    /// the next login on).
    fn path(&self) -> Result<Arc<dyn ClientCertVerifier>, Refusal> {
        // S-65: what cannot be read decides nothing, and so nobody passes.
        let failed = |unusable: Unusable| {
            Refusal::module_failed(format!("{}: {}. {}", unusable.option, unusable.why, unusable.fix))
        };
        let opened = open(&self.authorities, &self.revocations).map_err(failed)?;
        let mut loaded = self.loaded.lock();
        if !opened.iter().map(|file| &file.now).eq(&loaded.stamps) {
            *loaded = load(opened).map_err(failed)?;
        }
        Ok(Arc::clone(&loaded.path))
    }
}

impl CheckPeer for Authority {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        let shown = peer.certificate.as_ref().ok_or_else(no_certificate)?;
        let sent: Vec<CertificateDer<'_>> =
            shown.intermediates.iter().take(DEPTH).map(|der| CertificateDer::from(&**der)).collect();
        let leaf = CertificateDer::from(&*shown.der);
        let now = UnixTime::since_unix_epoch(clock::since_1970());
        let verified = self.path()?.verify_client_cert(&leaf, &sent, now);
        verified.map_err(|error| Refusal::peer_denied(error.to_string()))?;
        let names = Names::of(&shown.der).ok_or_else(|| Refusal::peer_denied("its names cannot be read"))?;
        if !self.listed.is_empty() && !self.listed.iter().any(|listed| listed.admits(&names)) {
            return Err(Refusal::peer_denied(
                "the certificate is a good one and none of those that are listed",
            ));
        }
        self.named_by.identity(&names)
    }
}

/// Which certificates of the authorities are let in.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    CommonName(String),
    Unit(String),
    /// A name in lower case.
    Dns(String),
    /// What follows the `*` of a pattern, in lower case: `.agents.example`.
    AnyIn(String),
    /// The domain in lower case.
    Email(String),
    Uri(String),
    Ip(IpAddr),
    /// SHA-256 of the public key.
    Key([u8; 32]),
}

impl Listed {
    fn admits(&self, names: &Names) -> bool {
        match self {
            Self::CommonName(name) => names.common.contains(name),
            Self::Unit(name) => names.units.contains(name),
            Self::Dns(name) => names.dns.contains(name),
            Self::AnyIn(domain) => names.dns.iter().any(|name| is_label_in(name, domain)),
            Self::Email(address) => names.email.contains(address),
            Self::Uri(uri) => names.uri.contains(uri),
            Self::Ip(ip) => names.ip.contains(ip),
            Self::Key(digest) => names.key == *digest,
        }
    }

    /// A subject alternative name: `dns:`, `email:`, `uri:` or `ip:` before it, or a DNS name.
    fn alternative(text: &str) -> Result<Self, &'static str> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let (kind, name) = text.split_once(':').unwrap_or(("dns", text));
        match kind.to_ascii_lowercase().as_str() {
            "dns" => dns(name),
            "email" => match name.rsplit_once('@') {
                Some((person, domain)) if !person.is_empty() && !domain.is_empty() => {
                    Ok(Self::Email(email(name)))
                }
                _ => Err("it is no e-mail address"),
            },
            "uri" if name.contains(':') => Ok(Self::Uri(name.to_owned())),
            "uri" => Err("it is no URI"),
            "ip" => name.parse().map(Self::Ip).map_err(|_| "it is no IP address"),
            _ => Err("what stands before the `:` is no kind of name"),
        }
    }
}

/// Which name of a certificate says who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    CommonName,
    Dns,
    Email,
    Uri,
    Nothing,
}

impl NamedBy {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "cn" => Self::CommonName,
            "dns" => Self::Dns,
            "email" => Self::Email,
            "uri" => Self::Uri,
            "none" => Self::Nothing,
            _ => return None,
        })
    }

    /// The one name of that kind: which of two is meant, nobody can tell (S-68).
    fn identity(self, names: &Names) -> Result<Option<Identity>, Refusal> {
        let (kind, found) = match self {
            Self::CommonName => ("common name", &names.common),
            Self::Dns => ("DNS name", &names.dns),
            Self::Email => ("e-mail address", &names.email),
            Self::Uri => ("URI", &names.uri),
            Self::Nothing => return Ok(None),
        };
        match &found[..] {
            [name] => Ok(Some(Identity::new(Username::parse(name)?))),
            [] => Err(Refusal::peer_denied(format!("the certificate has no {kind} to name the client by"))),
            _ => Err(Refusal::peer_denied(format!("the certificate has more than one {kind}"))),
        }
    }
}

/// The names in a certificate whose path was validated.
struct Names {
    common: Vec<String>,
    units: Vec<String>,
    dns: Vec<String>,
    email: Vec<String>,
    uri: Vec<String>,
    ip: Vec<IpAddr>,
    /// SHA-256 of `SubjectPublicKeyInfo`.
    key: [u8; 32],
}

impl Names {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        // A name in an encoding that is not read here might be a second one: then none counts.
        let texts = |names: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>| -> Option<Vec<String>> {
            names.map(|name| name.as_str().ok().map(str::to_owned)).collect()
        };
        let subject = certificate.subject();
        let mut names = Self {
            common: texts(&mut subject.iter_common_name())?,
            units: texts(&mut subject.iter_organizational_unit())?,
            dns: Vec::new(),
            email: Vec::new(),
            uri: Vec::new(),
            ip: Vec::new(),
            key: Sha256::digest(certificate.public_key().raw).into(),
        };
        let alternative = certificate.subject_alternative_name().ok()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push(name.to_ascii_lowercase()),
                GeneralName::RFC822Name(address) => names.email.push(email(address)),
                GeneralName::URI(uri) => names.uri.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => names.ip.extend(ip(bytes)),
                GeneralName::Invalid(..) => return None,
                _ => {}
            }
        }
        Some(names)
    }
}

/// An address with its domain in lower case (RFC 5321 2.4: the part before it is the domain's affair).
fn email(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((person, domain)) => format!("{person}@{}", domain.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// Whether a name is one label before `domain`. A `*` in a certificate stands for no client.
fn is_label_in(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|label| !label.is_empty() && !label.contains(['.', '*']))
}

fn dns(text: &str) -> Result<Listed, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (pattern, name) = match lower.strip_prefix("*.") {
        Some(domain) => (true, domain),
        None => (false, &*lower),
    };
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !name.split('.').all(label) {
        return Err("it is no DNS name, nor one with `*.` in front");
    }
    Ok(if pattern { Listed::AnyIn(format!(".{name}")) } else { Listed::Dns(lower) })
}

/// The options that list certificates.
fn listed(options: &mut Options) -> Result<Vec<Listed>, ConfigError> {
    let mut all = Vec::new();
    for (name, make) in [("cn", Listed::CommonName as fn(String) -> Listed), ("ou", Listed::Unit)] {
        for text in options.take_all(name) {
            if text.is_empty() {
                return Err(options.error(
                    name,
                    "it is empty",
                    "write the whole name as the certificate has it",
                ));
            }
            all.push(make(text.to_string()));
        }
    }
    for text in options.take_all("san") {
        let fix = "write NAME, *.DOMAIN, dns:NAME, email:USER@DOMAIN, uri:URI or ip:ADDRESS";
        all.push(Listed::alternative(&text).map_err(|why| options.error("san", why, fix))?);
    }
    for text in options.take_all("spki") {
        let fix = "write the SHA-256 of the public key's DER: openssl pkey -pubin -outform DER | sha256sum";
        let digest =
            digest(&text).ok_or_else(|| options.error("spki", "it is not 64 hexadecimal digits", fix));
        all.push(Listed::Key(digest?));
    }
    Ok(all)
}

/// Sixty-four digits, with colons or without.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text).chars().filter(|c| *c != ':');
    let digits: Vec<u8> = digits.map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks(2).filter_map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

fn paths(options: &mut Options, name: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let given = options.take_all(name);
    if given.iter().any(|path| path.is_empty()) {
        return Err(options.error(name, "it is empty", format!("write the path of a file: {name}=FILE")));
    }
    Ok(given.iter().map(|path| PathBuf::from(path.as_str())).collect())
}

/// A file of authorities or revocations, opened and judged.
struct Opened {
    file: File,
    now: Stamp,
    /// The same, unless the file was written a moment ago: then it is read again next time.
    settled: Stamp,
    what: What,
    path: PathBuf,
}

#[derive(Clone, Copy)]
enum What {
    Authorities,
    Revocations,
}

/// Why there is nothing to check with.
struct Unusable {
    option: &'static str,
    why: String,
    fix: String,
}

impl Unusable {
    fn of(what: What, path: &Path, why: &str) -> Self {
        let (option, fix) = match what {
            What::Authorities => ("ca", "name a PEM file of CA certificates"),
            What::Revocations => ("crl", "name a revocation list, in PEM or DER"),
        };
        Self { option, why: format!("{}: {why}", path.display()), fix: fix.to_owned() }
    }
}

fn open(authorities: &[PathBuf], revocations: &[PathBuf]) -> Result<Vec<Opened>, Unusable> {
    let each = |what| move |path: &PathBuf| open_one(what, path);
    let all = authorities.iter().map(each(What::Authorities));
    all.chain(revocations.iter().map(each(What::Revocations))).collect()
}

fn open_one(what: What, path: &Path) -> Result<Opened, Unusable> {
    let fault = |fault: FileFault| {
        let fix = fault.fix();
        Unusable { fix, ..Unusable::of(what, path, &fault.why()) }
    };
    let file = files::open_unforged(path).map_err(fault)?;
    let stamps = Stamp::of(&file).and_then(|now| Ok((now, Stamp::settled(&file)?)));
    let (now, settled) = stamps.map_err(|error| Unusable::of(what, path, &error.to_string()))?;
    Ok(Opened { file, now, settled, what, path: path.to_owned() })
}

/// Reads the files and makes of them what validates paths.
fn load(opened: Vec<Opened>) -> Result<Loaded, Unusable> {
    let (mut roots, mut lists, mut stamps) = (RootCertStore::empty(), Vec::new(), Vec::new());
    for Opened { file, settled, what, path, .. } in opened {
        stamps.push(settled);
        let bad = |why: &str| Unusable::of(what, &path, why);
        let bytes = read(file).map_err(|error| bad(&format!("it cannot be read: {error}")))?;
        match what {
            What::Authorities => {
                let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
                let found = found.map_err(|_| bad("it is no readable PEM file"))?;
                if found.is_empty() {
                    return Err(bad("it holds no certificate"));
                }
                for certificate in found {
                    roots.add(certificate).map_err(|error| bad(&error.to_string()))?;
                }
            }
            What::Revocations => {
                lists.extend(revocation_lists(&bytes).ok_or_else(|| bad("it holds no list"))?)
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let path = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(lists)
        // As OpenSSL does: a list that is over says nothing of those who were revoked since.
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| Unusable {
            option: "ca or crl",
            why: error.to_string(),
            fix: "name files of CA certificates and of their revocation lists".to_owned(),
        })?;
    Ok(Loaded { stamps, path })
}

fn revocation_lists(bytes: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    // DER begins with the tag of a SEQUENCE, PEM with a letter or a dash.
    if bytes.first() == Some(&0x30) {
        return Some(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let found = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().ok()?;
    Some(found).filter(|found| !found.is_empty())
}

fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

const NO_CA: &str = "add ca=FILE, or remove it";

/// Certificates between the client's and the authority's that are looked at (S-39).
const DEPTH: usize = 5;

/// Bytes of a file that are read.
const MOST_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests;
