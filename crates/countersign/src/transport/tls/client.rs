//! Our end as a TLS client.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::{
    EXPORTER_LABEL, Fingerprint, OldestVersion, TlsError, certificates, channel_binding, facts, possession,
    provider,
};
use crate::{
    error::ConfigError,
    proto::peer::{Certificate, TlsFacts},
    transport::{Stream, Wire},
};

/// How a server is known (S-43).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// By the certificate authorities of the system, and its name.
    SystemRoots,
    /// By the authorities in this PEM file and no others, and its name.
    CaFile(PathBuf),
    /// By its certificate or its public key, whatever its name.
    Pin(Fingerprint),
    /// Not yet: whoever connects looks at [`Connected::certificate`] and decides before anything is
    /// sent. The handshake proves that the server holds the key of the certificate.
    Unverified,
}

/// What a client needs to speak TLS to servers that it knows in one way.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    verified: bool,
}

impl ClientTls {
    /// A client that shows `identity` to servers that ask for a certificate.
    ///
    /// # Errors
    /// The authorities cannot be read, or there are none.
    pub fn new(
        trust: &Trust,
        identity: Option<Arc<CertifiedKey>>,
        oldest: OldestVersion,
    ) -> Result<Self, ConfigError> {
        let broken =
            |error: Error| ConfigError::new("tls", error.to_string(), "use a build with its provider");
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(oldest.versions())
            .map_err(broken)?
            .dangerous()
            .with_custom_certificate_verifier(verifier(trust)?);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), verified: *trust != Trust::Unverified })
    }

    /// The same client, naming the application protocols it speaks (ALPN), best first.
    #[must_use]
    pub fn speaking(mut self, protocols: &[&str]) -> Self {
        let names = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::make_mut(&mut self.config).alpn_protocols = names;
        self
    }

    /// The same client, showing what `resolver` chooses when a server asks for a certificate.
    #[must_use]
    pub fn showing(mut self, resolver: Arc<dyn ResolvesClientCert>) -> Self {
        Arc::make_mut(&mut self.config).client_auth_cert_resolver = resolver;
        self
    }

    /// Runs the handshake with the server that is called `name`: a host name or an address.
    ///
    /// # Errors
    /// The server broke the protocol, left, is not who it must be, or `deadline` passed.
    pub async fn connect(
        &self,
        stream: Stream,
        name: &str,
        deadline: std::time::Instant,
    ) -> Result<Connected, TlsError> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(name, Box::new(stream));
        let tls =
            timeout_at(Instant::from_std(deadline), handshake).await.map_err(|_| TlsError::Timeout)??;
        let (_, connection) = tls.get_ref();
        let Some(der) = connection.peer_certificates().and_then(|chain| chain.first()) else {
            return Err(TlsError::Unverified);
        };
        let certificate = Certificate::new(der);
        let key_fingerprint = Fingerprint::of_key(der);
        let facts = facts(connection, None);
        let channel_binding = channel_binding(connection, |space| {
            connection.export_keying_material(space, EXPORTER_LABEL, Some(b""))
        });
        let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
        let stream = Stream::new(Wire::TlsClient(Box::new(tls)));
        Ok(Connected {
            stream,
            verified: self.verified,
            certificate,
            key_fingerprint,
            facts,
            channel_binding,
            protocol,
        })
    }
}

#[cfg(test)]
impl ClientTls {
    pub(super) fn replace_config(&mut self, config: ClientConfig) {
        self.config = Arc::new(config);
    }

    pub(super) fn allow_resumption(&mut self) {
        Arc::make_mut(&mut self.config).resumption = Resumption::default();
    }
}

/// A finished handshake with a server, nothing sent yet.
#[derive(Debug)]
pub struct Connected {
    stream: Stream,
    verified: bool,
    certificate: Certificate,
    key_fingerprint: Option<Fingerprint>,
    facts: TlsFacts,
    channel_binding: Option<Arc<[u8]>>,
    protocol: Option<Vec<u8>>,
}

impl Connected {
    /// Whether the server is known. It is not under [`Trust::Unverified`].
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// The server's certificate. The server holds its key, verified or not.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// SHA-256 of the server's public key: what to remember a server by, for it outlives renewals.
    pub fn key_fingerprint(&self) -> Option<Fingerprint> {
        self.key_fingerprint
    }

    /// TLS version and cipher.
    pub fn facts(&self) -> &TlsFacts {
        &self.facts
    }

    /// The `tls-exporter` channel binding (RFC 9266), with TLS 1.3.
    pub fn channel_binding(&self) -> Option<&Arc<[u8]>> {
        self.channel_binding.as_ref()
    }

    /// The application protocol that the server chose (ALPN); `None` if it looks at none.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
    }

    /// The stream to a server that is known.
    ///
    /// # Errors
    /// [`TlsError::Unverified`]: nobody has verified it.
    pub fn into_stream(self) -> Result<Stream, TlsError> {
        if self.verified { Ok(self.stream) } else { Err(TlsError::Unverified) }
    }

    /// The stream to a server that the caller has just judged by [`Connected::certificate`].
    pub fn into_stream_of_judged_server(self) -> Stream {
        self.stream
    }
}

fn verifier(trust: &Trust) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    let roots = match trust {
        Trust::SystemRoots => system_roots()?,
        Trust::CaFile(path) => roots_of(path)?,
        Trust::Pin(pin) => return Ok(by_key(Some(*pin))),
        Trust::Unverified => return Ok(by_key(None)),
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()))
        .build()
        .map_err(|error| {
            ConfigError::new("ca", error.to_string(), "name a file of CA certificates: ca=FILE")
        })?;
    Ok(verifier)
}

pub(super) fn by_key(pin: Option<Fingerprint>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(ByKey { pin, algorithms: provider().signature_verification_algorithms })
}

fn system_roots() -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    // One broken file among the system's hundreds is the system's affair; none at all is ours.
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(ConfigError::new(
            "system certificate authorities",
            "there are none",
            "install ca-certificates, or name a file (ca=FILE) or the server's fingerprint (pin=HEX)",
        ));
    }
    Ok(roots)
}

fn roots_of(path: &std::path::Path) -> Result<RootCertStore, ConfigError> {
    let what = format!("ca file {}", path.display());
    let pem = std::fs::read(path).map_err(|error| {
        ConfigError::new(what.clone(), error.to_string(), "name a readable PEM file: ca=FILE")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&what, &pem)? {
        roots.add(certificate).map_err(|error| {
            ConfigError::new(what.clone(), error.to_string(), "leave only CA certificates in it")
        })?;
    }
    Ok(roots)
}

/// Knows a server by a fingerprint, or not at all; verifies that it holds its key either way.
#[derive(Debug)]
struct ByKey {
    pin: Option<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ByKey {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        possession::readable(certificate)?;
        let is = |pin| {
            Fingerprint::of_certificate(certificate) == pin || Fingerprint::of_key(certificate) == Some(pin)
        };
        if self.pin.is_none_or(is) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls12(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        possession::verify_tls13(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
