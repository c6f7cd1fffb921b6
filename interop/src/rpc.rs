//! gRPC clients by the hundred, each with a key of its own and one connection: for what needs all of them at one
//! instant. [`crate::grpc`] has the client that real programs use.

use std::{io, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _},
};
use tokio::{net::UnixStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::PATIENCE;

/// Somebody with a key and a self-signed certificate of its own.
#[derive(Debug)]
pub struct Caller {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Caller {
    /// Makes a key and a certificate.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// A connection to a Unix socket on which the next thing is a call.
    ///
    /// # Errors
    /// The kernel refuses, or the handshake fails or lasts longer than the test's patience.
    pub async fn connect(&self, socket: &Path, root: &Path) -> io::Result<Line> {
        timeout(PATIENCE, self.connect_patiently(socket, root)).await.map_err(io::Error::from)?
    }

    async fn connect_patiently(&self, socket: &Path, root: &Path) -> io::Result<Line> {
        let stream = UnixStream::connect(socket).await?;
        let connector = TlsConnector::from(Arc::new(self.config(root)?));
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TokioIo::new(connector.connect(name, stream).await?);
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
        // Its end is seen by the calls.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Line { sender })
    }

    fn config(&self, root: &Path) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(root).map_err(io::Error::other)?;
        roots.add(root).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
        let mut config = config
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection that is ready for calls.
#[derive(Debug)]
pub struct Line {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Line {
    /// Sends one message and waits for the status: its number, or `None` if the call did not come to one.
    pub async fn call(&mut self, path: &str, message: &[u8]) -> Option<u32> {
        self.call_within(path, message, PATIENCE).await
    }

    /// The same with a patience of its own.
    pub async fn call_within(&mut self, path: &str, message: &[u8], patience: Duration) -> Option<u32> {
        timeout(patience, self.status(path, message)).await.ok().flatten()
    }

    async fn status(&mut self, path: &str, message: &[u8]) -> Option<u32> {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).ok()?.to_be_bytes());
        body.extend(message);
        let request = Request::post(format!("https://localhost{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(Full::new(body.into()))
            .ok()?;
        self.sender.ready().await.ok()?;
        let (head, body) = self.sender.send_request(request).await.ok()?.into_parts();
        let trailers = body.collect().await.ok()?.trailers().cloned();
        // A call that fails at once has its status in the only block of headers.
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        status.or_else(|| head.headers.get("grpc-status"))?.to_str().ok()?.parse().ok()
    }
}

/// Status 0.
pub const OK: u32 = 0;
/// The status of whoever is not accepted.
pub const UNAUTHENTICATED: u32 = 16;
