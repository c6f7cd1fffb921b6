//! A gateway with a socket of calls, a daemon behind it that knows nothing of countersign, and clients.

use std::{
    collections::VecDeque,
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http2 as client,
    header::{HeaderName, HeaderValue},
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::sign::CertifiedKey;
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    Peer,
    config::{Config, Layers, Paths},
    gateway::Gateway,
    modules::Registry,
    proto::wire::multipass::{Code, Frames, Message, Status, framed},
    transport::{
        Stream, Wire,
        tls::{self, ClientTls, OldestVersion, ServerTls, Trust as Known},
    },
    trust::{ServerIdentity, Trust, TrustStore},
};

/// Everything of one test. It ends with it.
pub(super) struct Rig {
    folder: tempfile::TempDir,
    pub(super) trust: Trust,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    daemon: Option<JoinHandle<()>>,
    /// What the daemon saw.
    pub(super) seen: mpsc::Receiver<Seen>,
    see: mpsc::Sender<Seen>,
}

/// What a daemon sees.
#[derive(Debug)]
pub(super) enum Seen {
    Call(String, HeaderMap),
    Trailers(HeaderMap),
    Cancelled,
}

impl Rig {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With more options of the socket.
    pub(super) async fn with(options: &[&str]) -> Self {
        Self::at("bind-rpc", "unix:", options).await
    }

    /// At a socket of another kind, whose addresses have another prefix.
    pub(super) async fn at(kind: &str, prefix: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = format!("unix:{}", folder.path().join("daemon").display());
        let mut rig = Self::before(folder, &backend, kind, prefix, options).await;
        rig.start_daemon();
        rig
    }

    /// With a daemon that is reached over TLS.
    pub(super) async fn with_secured_daemon() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = std::time::SystemTime::now();
        let identity = ServerIdentity::open(&folder.path().join("daemons"), "localhost", now).unwrap();
        let tls = ServerTls::speaking(identity.certified_key(), OldestVersion::Tls13, &["h2"]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, root) =
            (listener.local_addr().unwrap().port(), folder.path().join("daemons/tls/root.crt"));
        let backend = format!("\"tls:localhost:{port},ca={}\"", root.display());
        let mut rig = Self::before(folder, &backend, "bind-rpc", "unix:", &[]).await;
        rig.daemon = Some(tokio::spawn(serve_secured(listener, tls, rig.see.clone())));
        rig
    }

    /// Whose daemon does not run yet.
    async fn before(
        folder: tempfile::TempDir,
        backend: &str,
        kind: &str,
        prefix: &str,
        options: &[&str],
    ) -> Self {
        let state = folder.path().join("state");
        let (see, seen) = mpsc::channel(4096);
        let mut layers = Layers::default();
        let mut bind = format!("{prefix}{},backend={backend}", folder.path().join("door").display());
        for option in options {
            bind.push(',');
            bind.push_str(option);
        }
        layers.flag(kind, &bind).unwrap();
        layers.flag("state-dir", state.to_str().unwrap()).unwrap();
        let paths = Paths::new(true, "/nonexistent", "/nonexistent", "/nonexistent");
        let config = Config::new(&layers, &Registry::builtin(), &paths).unwrap();
        let gateway = Gateway::open(&config).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            gateway.run(stopped, std::future::pending()).await;
        });
        Self { folder, trust: config.trust, stop: Some(stop), running, daemon: None, seen, see }
    }

    pub(super) fn store(&self) -> &TrustStore {
        self.trust.open().unwrap()
    }

    pub(super) fn door(&self) -> PathBuf {
        self.folder.path().join("door")
    }

    pub(super) fn start_daemon(&mut self) {
        let path = self.folder.path().join("daemon");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        self.daemon = Some(tokio::spawn(serve(listener, self.see.clone())));
    }

    pub(super) async fn stop_daemon(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.abort();
        let _ = daemon.await;
    }

    /// Asks the gateway to end, and waits until it has.
    pub(super) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), &mut self.running).await.unwrap().unwrap();
    }

    /// What the daemon sees next.
    pub(super) async fn sees(&mut self) -> Seen {
        tokio::time::timeout(Duration::from_secs(5), self.seen.recv()).await.unwrap().unwrap()
    }

    /// A TLS connection, before HTTP/2.
    pub(super) async fn secured(&self, key: Option<&Arc<CertifiedKey>>) -> Stream {
        self.naming(&["h2"], key).await
    }

    /// The same by a client that names other protocols (ALPN).
    pub(super) async fn naming(&self, protocols: &[&str], key: Option<&Arc<CertifiedKey>>) -> Stream {
        let root = self.folder.path().join("state/tls/root.crt");
        let stream = Stream::new(UnixStream::connect(self.door()).await.unwrap());
        let tls = ClientTls::new(&Known::CaFile(root), key.cloned(), OldestVersion::Tls13).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let connected = tls.speaking(protocols).connect(stream, "localhost", deadline).await.unwrap();
        connected.into_stream().unwrap()
    }

    /// The same by a client that speaks TLS 1.2 only, and no group but P-256.
    pub(super) async fn secured_by_old_client(&self, key: &Arc<CertifiedKey>) -> Stream {
        use rustls::crypto::aws_lc_rs as provider;
        let mut known = rustls::RootCertStore::empty();
        let root = std::fs::read(self.folder.path().join("state/tls/root.crt")).unwrap();
        known.add_parsable_certificates(tls::certificates("root", &root).unwrap());
        let groups = vec![provider::kx_group::SECP256R1];
        let provider = rustls::crypto::CryptoProvider { kx_groups: groups, ..provider::default_provider() };
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(known)
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(key))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = Stream::new(UnixStream::connect(self.door()).await.unwrap());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect("localhost".try_into().unwrap(), Box::new(stream)).await.unwrap();
        Stream::new(Wire::TlsClient(Box::new(tls)))
    }

    pub(super) async fn connect(&self, key: &Arc<CertifiedKey>) -> Client {
        self.connect_as(Some(key)).await
    }

    pub(super) async fn connect_as(&self, key: Option<&Arc<CertifiedKey>>) -> Client {
        Self::calling(self.secured(key).await).await
    }

    /// Calls over a TLS connection.
    pub(super) async fn calling(stream: Stream) -> Client {
        let stream = TokioIo::new(stream);
        let (sender, connection) =
            client::Builder::new(TokioExecutor::new()).handshake::<_, Feed>(stream).await.unwrap();
        Client { sender, connection: tokio::spawn(async move { connection.await.is_ok() }) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.running.abort();
        if let Some(daemon) = &self.daemon {
            daemon.abort();
        }
    }
}

/// A client's key and certificate.
pub(super) fn key() -> Arc<CertifiedKey> {
    pair().0
}

/// The same, and the key for signing.
pub(super) fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certified = tls::certified_key("client", certificate.as_bytes(), key.as_bytes()).unwrap();
    Pair(certified, made.signing_key)
}

pub(super) struct Pair(pub(super) Arc<CertifiedKey>, rcgen::KeyPair);

impl Pair {
    /// ECDSA of P-256 with SHA-256, in ASN.1.
    pub(super) fn sign(&self, statement: &[u8]) -> Vec<u8> {
        rcgen::SigningKey::sign(&self.1, statement).unwrap()
    }
}

/// The channel binding as the client has it.
pub(super) fn client_binding(stream: &Stream) -> Vec<u8> {
    let Wire::TlsClient(tls) = stream.wire() else { panic!("no TLS") };
    let binding = tls.get_ref().1.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    binding.unwrap().to_vec()
}

pub(super) struct Client {
    pub(super) sender: client::SendRequest<Feed>,
    pub(super) connection: JoinHandle<bool>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) head: HeaderMap,
    pub(super) data: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

impl Ended {
    pub(super) fn status(&self) -> Status {
        let of = |name: &str| self.trailers.get(name).or_else(|| self.head.get(name));
        let code = of(Status::CODE_HEADER).unwrap_or_else(|| panic!("no status: {self:?}"));
        Status::read(code.as_bytes(), of(Status::MESSAGE_HEADER).map_or(b"", |text| text.as_bytes()))
    }

    pub(super) fn code(&self) -> Code {
        self.status().code
    }

    pub(super) fn message<M: Message>(&self) -> M {
        let message = Frames::new().read(&mut &*self.data).unwrap().unwrap();
        M::decode(message.expose()).unwrap()
    }
}

impl Client {
    /// A call with one message that ends with it.
    pub(super) async fn call(&mut self, path: &str, message: &impl Message) -> Ended {
        self.send(path, HeaderMap::new(), Feed::whole(framed(message).expose())).await
    }

    /// The same with bytes for a message.
    pub(super) async fn unary(&mut self, path: &str, data: &[u8]) -> Ended {
        self.send(path, HeaderMap::new(), Feed::whole(data)).await
    }

    pub(super) async fn send(&mut self, path: &str, headers: HeaderMap, body: Feed) -> Ended {
        let response = self.start(path, headers, body).await.unwrap();
        assert_eq!(response.status(), 200);
        finish(response).await.unwrap()
    }

    pub(super) async fn start(
        &mut self,
        path: &str,
        headers: HeaderMap,
        body: Feed,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::post(format!("https://localhost{path}")).body(body).unwrap();
        *request.headers_mut() = headers;
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

pub(super) async fn finish(response: Response<Incoming>) -> hyper::Result<Ended> {
    let (head, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned().unwrap_or_default();
    Ok(Ended { head: head.headers, data: whole.to_bytes().to_vec(), trailers })
}

/// A body whose frames are given while it is sent.
pub(super) enum Feed {
    Ready(VecDeque<Frame<Bytes>>),
    Later(mpsc::Receiver<Frame<Bytes>>),
}

impl Feed {
    pub(super) fn whole(data: &[u8]) -> Self {
        Self::Ready([Frame::data(Bytes::copy_from_slice(data))].into())
    }

    pub(super) fn later() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self::Later(receiver))
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Ready(frames) => Poll::Ready(frames.pop_front().map(Ok)),
            Self::Later(frames) => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ready(frames) if frames.is_empty())
    }
}

pub(super) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

pub(super) async fn serve(listener: UnixListener, see: mpsc::Sender<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(converse(Stream::new(stream), see.clone()));
    }
}

async fn serve_secured(listener: TcpListener, tls: ServerTls, see: mpsc::Sender<Seen>) {
    let (tls, mut connections) = (Arc::new(tls), tokio::task::JoinSet::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, see) = (Arc::clone(&tls), see.clone());
        connections.spawn(async move {
            let (stream, _) = tls.handshake(Stream::new(stream), Peer::unix(None)).await.unwrap();
            converse(stream, see).await;
        });
    }
}

async fn converse(stream: Stream, see: mpsc::Sender<Seen>) {
    let service = service_fn(move |request| {
        let see = see.clone();
        async move { Ok::<_, Infallible>(answer(request, see).await) }
    });
    let http = server::Builder::new(TokioExecutor::new()).max_concurrent_streams(4000).clone();
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// `/test.T/Echo` gives every piece back as it comes; `/test.T/Fail` fails in its head; `/test.T/Hang` never answers.
/// `/test.T/Count` says at the end how many pieces came, `/test.T/Repeat` sends its only piece ten times, and
/// `/test.T/Late` fails at the deadline that the client set, in milliseconds.
async fn answer(request: Request<Incoming>, see: mpsc::Sender<Seen>) -> Response<Feed> {
    let (parts, mut body) = request.into_parts();
    let _ = see.send(Seen::Call(parts.uri.to_string(), parts.headers.clone())).await;
    match parts.uri.path() {
        "/test.T/Fail" => {
            let mut response = Response::new(Feed::Ready(VecDeque::new()));
            response.headers_mut().extend(headers(&[
                ("grpc-status", "5"),
                ("grpc-message", "no%20such"),
                ("grpc-status-details-bin", "CAUS"),
            ]));
            return response;
        }
        "/test.T/Hang" => {
            let _cancelled = Cancelled(see);
            return std::future::pending().await;
        }
        "/test.T/Count" => {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            return Response::new(Feed::Ready([Frame::data(bytes.to_string().into()), fine()].into()));
        }
        "/test.T/Repeat" => {
            let piece = body.collect().await.unwrap().to_bytes();
            let pieces = (0..10).map(|_| Frame::data(piece.clone())).chain([fine()]);
            return Response::new(Feed::Ready(pieces.collect()));
        }
        "/test.T/Late" => {
            let patience = parts.headers["grpc-timeout"].to_str().unwrap();
            let patience = patience.strip_suffix('m').unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_millis(patience)).await;
            let mut response = Response::new(Feed::Ready(VecDeque::new()));
            response.headers_mut().extend(headers(&[("grpc-status", "4"), ("grpc-message", "too%20late")]));
            return response;
        }
        _ => {}
    }
    let (reply, feed) = Feed::later();
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Cancelled(see).noted() };
            match frame.into_trailers() {
                Ok(trailers) => drop(see.send(Seen::Trailers(trailers)).await),
                // How the library tells an end.
                Err(data) if data.data_ref().is_some_and(Bytes::is_empty) => {}
                Err(data) => {
                    if reply.send(data).await.is_err() {
                        return Cancelled(see).noted();
                    }
                }
            }
        }
        let trailers = headers(&[("grpc-status", "0"), ("x-end-bin", "AAEC")]);
        let _ = reply.send(Frame::trailers(trailers)).await;
    });
    let mut response = Response::new(feed);
    response.headers_mut().insert("x-begin", HeaderValue::from_static("here"));
    response
}

fn fine() -> Frame<Bytes> {
    Frame::trailers(headers(&[("grpc-status", "0")]))
}

struct Cancelled(mpsc::Sender<Seen>);

impl Cancelled {
    fn noted(self) {}
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        let _ = self.0.try_send(Seen::Cancelled);
    }
}
