//! Our end as a TLS server.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, UnixTime},
    server::{
        Acceptor, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::{EXPORTER_LABEL, OldestVersion, TlsError, channel_binding, facts, possession, provider};
use crate::{
    Peer,
    error::ConfigError,
    proto::peer::Certificate,
    transport::{Stream, Wire},
};

/// What a listener needs to speak TLS. Shared by its connections.
#[derive(Debug)]
pub struct ServerTls {
    config: RwLock<Arc<ServerConfig>>,
    /// For clients that come to enrol, where they may.
    enrolling: Option<RwLock<Arc<ServerConfig>>>,
    oldest: OldestVersion,
    protocols: Vec<Vec<u8>>,
}

impl ServerTls {
    /// A server that shows `identity`.
    ///
    /// # Errors
    /// The versions and the provider do not fit together, which is an error of this build.
    pub fn new(identity: Arc<CertifiedKey>, oldest: OldestVersion) -> Result<Self, ConfigError> {
        Self::speaking(identity, oldest, &[])
    }

    /// The same, with the application protocols it chooses from (ALPN, RFC 7301), best first. A
    /// client that names protocols and none of these is refused by the handshake.
    ///
    /// # Errors
    /// As [`ServerTls::new`].
    pub fn speaking(
        identity: Arc<CertifiedKey>,
        oldest: OldestVersion,
        protocols: &[&str],
    ) -> Result<Self, ConfigError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = RwLock::new(server_config(identity, oldest, protocols.clone())?);
        Ok(Self { config, enrolling: None, oldest, protocols })
    }

    /// The same for a socket at which certificates may enrol: [`ENROLMENT`] is chosen for clients that name
    /// it, and everybody else is served as if it did not exist.
    #[must_use]
    pub fn enrolling(mut self) -> Self {
        let config = for_enrolment(&self.config.read());
        self.enrolling = Some(RwLock::new(config));
        self
    }

    /// Shows another certificate from the next connection on (S-42). Those that are open stay.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; the old certificate stays.
    pub fn replace(&self, identity: Arc<CertifiedKey>) -> Result<(), ConfigError> {
        let config = server_config(identity, self.oldest, self.protocols.clone())?;
        if let Some(enrolling) = &self.enrolling {
            *enrolling.write() = for_enrolment(&config);
        }
        *self.config.write() = config;
        Ok(())
    }

    /// Runs the handshake as [`ServerTls::handshake`] does, until `deadline`; the peer has its channel
    /// binding too.
    ///
    /// # Errors
    /// As [`ServerTls::handshake`], and [`TlsError::Timeout`].
    pub async fn accept(
        &self,
        stream: Stream,
        peer: Peer,
        deadline: std::time::Instant,
    ) -> Result<(Stream, Peer), TlsError> {
        let handshake = self.handshake(stream, peer);
        let secured = timeout_at(Instant::from_std(deadline), handshake).await;
        let (stream, mut peer) = secured.map_err(|_| TlsError::Timeout)??;
        peer.channel_binding = stream.channel_binding();
        Ok((stream, peer))
    }

    /// Runs the handshake on an accepted connection, and adds what it proved to `peer`: TLS facts and
    /// the client's certificate if it showed one. The channel binding is left to who needs it
    /// ([`Stream::channel_binding`]). It waits for the client as long as it is let.
    ///
    /// Whatever certificate is shown is taken here, if the client holds its key. The chain judges it.
    ///
    /// # Errors
    /// The client broke the protocol, left, or cannot prove its key.
    pub async fn handshake(&self, stream: Stream, peer: Peer) -> Result<(Stream, Peer), TlsError> {
        let config = Arc::clone(&self.config.read());
        let tls = match &self.enrolling {
            None => TlsAcceptor::from(config).accept(Box::new(stream)).await?,
            Some(enrolling) => {
                let hello = LazyConfigAcceptor::new(Acceptor::default(), Box::new(stream)).await?;
                let named = hello.client_hello().alpn();
                let enrols = named.is_some_and(|mut names| names.any(|name| name == ENROLMENT.as_bytes()));
                let config = if enrols { Arc::clone(&enrolling.read()) } else { config };
                hello.into_stream(config).await?
            }
        };
        let (_, connection) = tls.get_ref();
        let facts = facts(connection, connection.server_name());
        let shown = connection.peer_certificates().and_then(<[_]>::split_first);
        let certificate = shown.map(|(leaf, sent)| {
            Certificate::new(leaf).with_intermediates(sent.iter().map(|certificate| &**certificate))
        });
        let peer = peer.encrypted(facts, certificate, None);
        Ok((Stream::new(Wire::TlsServer(Box::new(tls))), peer))
    }
}

impl Stream {
    /// Whether its client has come to enrol its certificate ([`ENROLMENT`]).
    pub fn enrols(&self) -> bool {
        let Wire::TlsServer(tls) = self.wire() else { return false };
        tls.get_ref().1.alpn_protocol() == Some(ENROLMENT.as_bytes())
    }

    /// The `tls-exporter` channel binding (RFC 9266) of TLS 1.3, our end being the server.
    pub fn channel_binding(&self) -> Option<Arc<[u8]>> {
        let Wire::TlsServer(tls) = self.wire() else { return None };
        let (_, connection) = tls.get_ref();
        channel_binding(connection, |space| {
            connection.export_keying_material(space, EXPORTER_LABEL, Some(b""))
        })
    }
}

fn server_config(
    identity: Arc<CertifiedKey>,
    oldest: OldestVersion,
    protocols: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let algorithms = provider().signature_verification_algorithms;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(oldest.versions())
        .map_err(|error| ConfigError::new("tls", error.to_string(), "use a build with its provider"))?
        .with_client_cert_verifier(Arc::new(AnyClient { algorithms }))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = protocols;
    // A resumed session would bring a certificate whose key was proved on another connection.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn for_enrolment(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![ENROLMENT.as_bytes().to_vec()];
    Arc::new(config)
}

/// What a client names as its application protocol (ALPN) that wants to enrol at a socket of another protocol.
pub const ENROLMENT: &str = "countersign";

/// Asks every client for a certificate, demands none, and takes any whose key the client holds.
#[derive(Debug)]
struct AnyClient {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // One that cannot be read is refused when the signature is verified with its key, without
        // which no handshake with a certificate ends (RFC 8446 4.4.3, RFC 5246 7.4.8).
        Ok(ClientCertVerified::assertion())
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
