//! Whole logins over sockets: our client at our own acceptor, and at servers that mean harm.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::{
    Peer,
    gateway::drive::{Acceptor, Speech},
    handlers::{Registry, Sources},
    proto::{client::FailureKind, server::Settings},
    transport::{
        Stream,
        tls::{Fingerprint, OldestVersion, ServerTls, certified_key},
    },
};

/// Listens on a free port and treats each connection with `serve`.
async fn listening<F>(serve: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, from)) = listener.accept().await {
            tokio::spawn(serve(socket, from));
        }
    });
    port
}

/// A daemon of ours behind these modules, that sends back what it is sent.
async fn echo(acceptor: Acceptor) -> u16 {
    let mut quick = Settings::default();
    quick.refusal_delay = std::time::Duration::ZERO;
    let acceptor = acceptor.with_settings(quick);
    listening(move |socket, from| {
        let acceptor = acceptor.clone();
        async move {
            let peer = Peer::tcp(from, socket.local_addr().unwrap());
            let Ok(admitted) = acceptor.accept(Stream::new(socket), peer).await else { return };
            if matches!(&admitted.speech, Speech::Xpra(client) if client.hello().requests("info")) {
                let Speech::Xpra(client) = admitted.speech else { return };
                return client.answer_info(admitted.stream, &serde_json::json!({})).await;
            }
            let Ok(stream) = admitted.into_stream().await else { return };
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        }
    })
    .await
}

fn password() -> Acceptor {
    Acceptor::of(&["password(value=one)"]).unwrap()
}

/// A new certificate of `localhost`, and what it is known by.
fn tls() -> (Arc<ServerTls>, Fingerprint, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = certified_key("test", pem.as_bytes(), key.as_bytes()).unwrap();
    let fingerprint = Fingerprint::of_key(made.cert.der()).unwrap();
    (Arc::new(ServerTls::new(identity, OldestVersion::default()).unwrap()), fingerprint, pem)
}

fn connector(address: &str) -> Connector {
    let uri: Uri = address.parse().unwrap();
    let sources = Sources::nowhere().with_address_password(uri.password.clone());
    Connector::new(uri).with_handlers(Registry::builtin().select("uri", sources).unwrap())
}

async fn refused(connector: Connector) -> ConnectError {
    connector.connect().await.expect_err("a refusal")
}

/// Says yes or no to every server, and remembers what it was asked and told.
struct Decided {
    accepts: bool,
    heard: Mutex<Vec<String>>,
}

impl Decided {
    fn to(accepts: bool) -> Arc<Self> {
        Arc::new(Self { accepts, heard: Mutex::new(Vec::new()) })
    }
}

impl Person for Decided {
    fn tell(&self, notice: &str) {
        self.heard.lock().push(notice.to_owned());
    }

    fn accepts(&self, server: &FirstContact) -> bool {
        self.heard.lock().push(server.fingerprint.to_string());
        self.accepts
    }
}

fn trust(known: &Path) -> ServerTrust {
    ServerTrust { known_servers: Some(KnownServers::at(known)), ..ServerTrust::default() }
}

#[tokio::test]
async fn bytes_follow_the_login_at_our_own_server() {
    let port = echo(password()).await;
    let connected = connector(&format!("tcp://alice:one@127.0.0.1:{port}")).connect().await.unwrap();
    assert!(connected.server.is_stream && connected.server.countersign.is_some());
    assert_eq!(connected.server.answered.len(), 1);
    let mut output = Vec::new();
    relay(connected.stream, &b"there and back"[..], &mut output).await.unwrap();
    assert_eq!(output, b"there and back");
}

#[tokio::test]
async fn each_end_has_its_exit_code() {
    let port = echo(password()).await;
    let at = |user: &str| connector(&format!("tcp://{user}127.0.0.1:{port}"));
    assert_eq!(refused(at("alice:two@")).await.exit_code(), 77);
    assert_eq!(refused(at("alice@")).await.exit_code(), 79);
    assert_eq!(refused(at("alice:one@").requiring_encryption(true)).await.exit_code(), 76);
    let open = echo(Acceptor::of(&["none"]).unwrap()).await;
    let at = || connector(&format!("tcp://127.0.0.1:{open}"));
    assert!(at().connect().await.unwrap().server.answered.is_empty());
    assert_eq!(refused(at().requiring_auth(true)).await.exit_code(), 76, "S-45");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(refused(connector(&format!("tcp://{nobody}"))).await.exit_code(), 69);
}

#[tokio::test]
async fn info_is_asked_without_a_session() {
    let port = echo(password()).await;
    let address = format!("tcp://alice:one@127.0.0.1:{port}");
    let server = connector(&address).requesting("info").connect().await.unwrap().server;
    assert!(!server.is_stream);
    let lines = server.lines();
    assert!(lines.contains(&"client.answered=hmac+sha512".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("countersign=")), "{lines:?}");
    assert_eq!(server.to_json()["client"]["verified"], "no");
}

#[tokio::test]
async fn s_043_an_unknown_server_is_asked_about_once_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known_servers");
    let (tls, fingerprint, _) = tls();
    let port = echo(password().requiring_tls(tls)).await;
    let at = |person: &Arc<Decided>| {
        let person: Arc<dyn Person> = Arc::<Decided>::clone(person);
        connector(&format!("tls://alice:one@localhost:{port}")).with_trust(trust(&known)).with_person(person)
    };
    let no = Decided::to(false);
    let error = refused(at(&no)).await;
    assert_eq!(error.exit_code(), 76);
    assert!(error.to_string().contains(&fingerprint.to_string()) && error.fix().unwrap().contains("--pin"));
    assert!(no.heard.lock().contains(&fingerprint.to_string()));

    let connected = at(&Decided::to(true)).connect().await.unwrap();
    assert!(connected.server.verified && connected.server.confidential);
    assert_eq!(connected.server.fingerprint, Some(fingerprint));
    // Nobody is asked again.
    assert!(at(&no).connect().await.is_ok());
}

#[tokio::test]
async fn s_043_a_changed_server_is_refused_with_both_keys_and_nothing_is_said_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known_servers");
    let (first, then, _) = tls();
    let (second, now, _) = tls();
    let said = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&said);
    let port = listening(move |socket, from| {
        let (second, said) = (Arc::clone(&second), Arc::clone(&heard));
        async move {
            let peer = Peer::tcp(from, socket.local_addr().unwrap());
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
            let Ok((mut stream, _)) = second.accept(Stream::new(socket), peer, deadline).await else {
                return;
            };
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            said.fetch_add(all.len(), Ordering::SeqCst);
        }
    })
    .await;
    drop(first);
    let address = format!("tls://localhost:{port}");
    KnownServers::at(&known).remember(&address, &then).unwrap();
    let mut eager = trust(&known);
    eager.on_first_use = true;
    let error = refused(connector(&address).with_trust(eager).with_person(Decided::to(true))).await;
    assert_eq!(error.exit_code(), 76);
    let (text, fix) = (error.to_string(), error.fix().unwrap());
    assert!(text.contains(&then.to_string()) && text.contains(&now.to_string()), "{text}");
    assert!(fix.contains(known.to_str().unwrap()), "{fix}");
    assert_eq!(said.load(Ordering::SeqCst), 0);
    assert_eq!(KnownServers::at(&known).find(&address).unwrap(), Some(then));
}

#[tokio::test]
async fn s_043_a_pin_an_authority_or_first_use_without_a_question() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, fingerprint, pem) = tls();
    let port = echo(password().requiring_tls(tls)).await;
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let known = folder.path().join("known_servers");
    let with = |trust| connector(&format!("tls://alice:one@localhost:{port}")).with_trust(trust);
    for pin in [fingerprint, Fingerprint([7; 32])] {
        let trust = ServerTrust { pin: Some(pin), ..trust(&known) };
        let end = with(trust).connect().await.map_err(|error| error.exit_code());
        assert_eq!(
            end.map(|connected| connected.server.verified),
            if pin == fingerprint { Ok(true) } else { Err(76) }
        );
    }
    assert!(with(ServerTrust { ca: Some(ca.clone()), ..trust(&known) }).connect().await.is_ok());
    let other = connector(&format!("tls://alice:one@127.0.0.1:{port}"));
    let wrong_name = ServerTrust { ca: Some(ca), ..trust(&known) };
    assert_eq!(refused(other.with_trust(wrong_name)).await.exit_code(), 76);
    assert!(!known.exists());
    let person = Decided::to(false);
    let first = ServerTrust { on_first_use: true, ..trust(&known) };
    assert!(with(first).with_person(Arc::<Decided>::clone(&person)).connect().await.is_ok());
    assert!(person.heard.lock().iter().any(|notice| notice.contains(&fingerprint.to_string())));
    assert!(known.exists());
}

/// A key and certificate of a client, and the certificate's fingerprint.
fn client_identity() -> (Arc<rustls::sign::CertifiedKey>, [u8; 32]) {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = certified_key("client", pem.as_bytes(), key.as_bytes()).unwrap();
    (identity, Fingerprint::of_certificate(made.cert.der()).0)
}

/// A gateway that lets everybody in over TLS, and tells which certificate each connection showed.
async fn curious(tls: Arc<ServerTls>) -> (u16, mpsc::Receiver<Option<[u8; 32]>>) {
    let acceptor = Acceptor::of(&["none"]).unwrap().requiring_tls(tls);
    let (tell, shown) = mpsc::channel(16);
    let port = listening(move |socket, from| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let peer = Peer::tcp(from, socket.local_addr().unwrap());
            let (peer, admitted) = match acceptor.accept(Stream::new(socket), peer).await {
                Ok(admitted) => (admitted.grant.peer().clone(), Some(admitted)),
                Err(turned) => ((*turned.peer).clone(), None),
            };
            tell.send(peer.certificate.map(|certificate| certificate.fingerprint)).await.unwrap();
            if let Some(admitted) = admitted {
                let _ = admitted.into_stream().await;
            }
        }
    })
    .await;
    (port, shown)
}

/// What these many connections showed, in no order that matters.
async fn shown(connections: usize, from: &mut mpsc::Receiver<Option<[u8; 32]>>) -> Vec<Option<[u8; 32]>> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(from.recv().await.unwrap());
    }
    all.sort();
    all
}

#[tokio::test]
async fn s_043_only_a_server_that_is_known_sees_who_we_are() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known_servers");
    let (tls, _, _) = tls();
    let (port, mut seen) = curious(tls).await;
    let (identity, ours) = client_identity();
    let address = format!("tls://localhost:{port}");
    let at = |accepts| {
        connector(&address)
            .with_identity(Arc::clone(&identity))
            .with_trust(trust(&known))
            .with_person(Decided::to(accepts))
    };
    // One connection for the system's authorities, one to look at the key.
    assert_eq!(refused(at(false)).await.exit_code(), 76);
    assert_eq!(shown(2, &mut seen).await, [None, None]);
    assert!(at(true).connect().await.is_ok());
    assert_eq!(shown(3, &mut seen).await, [None, None, Some(ours)]);
    // Known from now on.
    assert!(at(false).connect().await.is_ok());
    assert_eq!(shown(1, &mut seen).await, [Some(ours)]);
    // A server with another key in its place is told nothing.
    KnownServers::at(&known).remember(&address, &Fingerprint([7; 32])).unwrap();
    assert_eq!(refused(at(true)).await.exit_code(), 76);
    assert_eq!(shown(2, &mut seen).await, [None, None]);
}

#[tokio::test]
async fn tls_on_a_unix_socket_keeps_what_the_kernel_says_of_the_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let known = folder.path().join("known_servers");
    let place = crate::transport::Address::Unix(path.clone());
    let listener = crate::transport::Listener::bind(&place, &Default::default()).await.unwrap();
    let (tls, fingerprint, _) = tls();
    let acceptor = Acceptor::of(&["peercred"]).unwrap().requiring_tls(tls);
    let (identity, ours) = client_identity();
    let serving = tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        let admitted = acceptor.accept(stream, peer).await.unwrap();
        let peer = admitted.grant.peer().clone();
        admitted.into_stream().await.unwrap();
        (listener, peer)
    });
    let address = format!("tls+unix:{}", path.display());
    // Nobody is asked: the kernel says that the server is ours.
    let at = || connector(&address).with_trust(trust(&known)).with_person(Decided::to(false));
    let connected = at().with_identity(identity).connect().await.unwrap();
    assert!(connected.server.verified && connected.server.confidential && !known.exists());
    assert_eq!(connected.server.fingerprint, Some(fingerprint));
    let (_listener, peer) = serving.await.unwrap();
    let facts = peer.tls.as_ref().unwrap();
    assert_eq!((facts.version, facts.server_name.as_deref()), ("TLSv1.3", Some("localhost")));
    assert_eq!(peer.credentials().unwrap().uid, rustix::process::geteuid().as_raw());
    assert_eq!(peer.certificate.unwrap().fingerprint, ours);
}

#[tokio::test]
async fn s_039_a_certificate_of_an_authority_and_the_path_to_it_let_a_client_in() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let ((root, root_key), (below, below_key)) = (authority("root"), authority("below"));
    let mut client = CertificateParams::default();
    client.distinguished_name.push(DnType::CommonName, "alice");
    let key = KeyPair::generate().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, root.self_signed(&root_key).unwrap().pem()).unwrap();
    let leaf = client.signed_by(&key, &Issuer::from_params(&below, &below_key)).unwrap().pem();
    let chain =
        leaf.clone() + &below.signed_by(&below_key, &Issuer::from_params(&root, &root_key)).unwrap().pem();

    let (tls, pin, _) = tls();
    let module = format!("certificate(ca={},cn=alice)", ca.display());
    let port = echo(Acceptor::of(&[&module]).unwrap().requiring_tls(tls)).await;
    let with = |pem: &str| {
        let identity = certified_key("client", pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let trust = ServerTrust { pin: Some(pin), ..ServerTrust::default() };
        connector(&format!("tls://localhost:{port}")).with_trust(trust).with_identity(identity)
    };
    assert!(with(&chain).connect().await.is_ok());
    assert_eq!(refused(with(&leaf)).await.exit_code(), 77, "the path is not whole");
}

#[tokio::test]
async fn certificates_come_in_and_follow_each_other_at_our_own_gateway() {
    use crate::{Secret, config, gateway::Gateway, modules};
    let folder = tempfile::tempdir().unwrap();
    let (door, state) = (folder.path().join("door"), folder.path().join("state"));
    let mut layers = config::Layers::default();
    layers.flag("bind-rpc", &format!("unix:{},backend=unix:/nonexistent/daemon", door.display())).unwrap();
    layers.flag("state-dir", state.to_str().unwrap()).unwrap();
    let paths = config::Paths::new(true, "/nonexistent", "/nonexistent", "/nonexistent");
    let config = config::Config::new(&layers, &modules::Registry::builtin(), &paths).unwrap();
    let gateway = Gateway::open(&config).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        gateway.run(stopped, std::future::pending()).await
    });
    let uri = Uri::for_calls(&format!("unix:{}", door.display())).unwrap();
    let known = folder.path().join("known_servers");
    let calls = async |identity: &Arc<rustls::sign::CertifiedKey>| {
        let connector = Connector::new(uri.clone()).with_trust(trust(&known)).with_person(Decided::to(false));
        connector.with_identity(Arc::clone(identity)).calls().await.unwrap()
    };
    let [first, second, third] = [(); 3].map(|()| client_identity().0);
    let owner = calls(&first).await;
    let early = calls(&second).await.authenticate(Secret::new("four words of sense")).await.unwrap_err();
    assert!(early.exit_code() == 77 && early.fix().unwrap().contains("set local.passphrase"), "{early}");
    assert!(!owner.passphrase_is_set().await.unwrap(), "the first call takes the first place");
    owner.set_passphrase(Secret::new("four words of sense")).await.unwrap();
    assert!(owner.passphrase_is_set().await.unwrap());

    let other = calls(&second).await;
    let unknown = other.passphrase_is_set().await.unwrap_err();
    assert!(unknown.exit_code() == 77 && unknown.fix().unwrap().contains("authenticate"), "{unknown}");
    assert_eq!(other.authenticate(Secret::new("a guess")).await.unwrap_err().exit_code(), 77);
    other.authenticate(Secret::new("four words of sense")).await.unwrap();
    assert!(other.passphrase_is_set().await.unwrap(), "on the same connection");

    let newcomer = calls(&third).await;
    let vouched = newcomer.renew(&client_identity().0).await.unwrap_err();
    assert_eq!(vouched.exit_code(), 77, "a stranger vouches: {vouched}");
    newcomer.renew(&second).await.unwrap();
    assert!(other.passphrase_is_set().await.is_ok(), "both count until the new one is seen");
    assert!(newcomer.passphrase_is_set().await.unwrap());
    assert!(owner.passphrase_is_set().await.unwrap());
    drop((owner, other, newcomer));
    stop.send(()).unwrap();
    running.await.unwrap();
}

/// What a server of logins and calls does, whatever it is asked: lets every login in whose certificate
/// it accepts, and has the next one accepted that an accepted one vouches for.
#[derive(Default)]
struct Lenient {
    accepted: Mutex<Vec<[u8; 32]>>,
    shown: Mutex<Vec<[u8; 32]>>,
}

impl Lenient {
    async fn serve(self: Arc<Self>, tls: Arc<ServerTls>, socket: TcpStream, from: SocketAddr) {
        let peer = Peer::tcp(from, socket.local_addr().unwrap());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let Ok((stream, peer)) = tls.accept(Stream::new(socket), peer, deadline).await else { return };
        let shown = peer.certificate.as_ref().unwrap().fingerprint;
        let crate::transport::Wire::TlsServer(inside) = stream.wire() else { panic!("it is TLS") };
        if inside.get_ref().1.alpn_protocol().is_some() {
            return self.renew(stream, shown).await;
        }
        let modules = if self.accepted.lock().contains(&shown) { "none" } else { "fail" };
        let Ok(admitted) = Acceptor::of(&[modules]).unwrap().accept(stream, peer).await else { return };
        self.shown.lock().push(shown);
        let _ = admitted.into_stream().await;
    }

    /// The proof is looked at where calls are tested; here the newcomer is accepted.
    async fn renew(self: Arc<Self>, stream: Stream, newcomer: [u8; 32]) {
        use hyper::{Response, header::HeaderValue, server::conn::http2, service::service_fn};
        use hyper_util::rt::{TokioExecutor, TokioIo};
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            assert_eq!(request.uri().path(), "/countersign.Trust/Renew");
            self.accepted.lock().push(newcomer);
            let mut response = Response::new(http_body_util::Empty::<hyper::body::Bytes>::new());
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
            async { Ok::<_, std::convert::Infallible>(response) }
        });
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    }
}

#[tokio::test]
async fn s_042_a_login_near_the_end_of_a_certificate_has_the_next_one_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let own = OwnIdentity::at(folder.path().join("client.pem"));
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(340 * 24 * 60 * 60);
    let first = own.open(&Nobody, long_ago).unwrap().fingerprint().0;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = certified_key("test", pem.as_bytes(), key.as_bytes()).unwrap();
    let tls = Arc::new(ServerTls::speaking(identity, OldestVersion::Tls13, &["countersign"]).unwrap());
    let pin = Some(Fingerprint::of_certificate(made.cert.der()));
    let server = Arc::new(Lenient::default());
    server.accepted.lock().push(first);
    let serving = Arc::clone(&server);
    let port =
        listening(move |socket, from| Arc::clone(&serving).serve(Arc::clone(&tls), socket, from)).await;
    let log_in = async |host: &str| {
        let trust = ServerTrust { pin, ..ServerTrust::default() };
        let uri = format!("tls://{host}:{port}");
        connector(&uri).with_trust(trust).with_own_identity(own.clone()).connect().await.unwrap();
        server.shown.lock().last().copied().unwrap()
    };
    assert_eq!(log_in("localhost").await, first);
    let next = log_in("localhost").await;
    assert_ne!(next, first);
    assert_eq!(*server.accepted.lock(), [first, next]);
    // The old one counts no more. At another address the server refuses it, and knows the next one.
    server.accepted.lock().retain(|accepted| *accepted == next);
    assert_eq!(log_in("127.0.0.1").await, next);
    assert_eq!(*server.accepted.lock(), [next], "nothing is renewed twice");
}

#[tokio::test]
async fn s_043_a_unix_socket_is_known_by_its_address_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, known) = (folder.path().join("a b"), folder.path().join("known_servers"));
    let place = crate::transport::Address::Unix(path.clone());
    let listener = crate::transport::Listener::bind(&place, &Default::default()).await.unwrap();
    let (tls, fingerprint, _) = tls();
    let acceptor = Acceptor::of(&["none"]).unwrap().requiring_tls(tls);
    let serving = tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            if let Ok(admitted) = acceptor.accept(stream, peer).await {
                let _ = admitted.into_stream().await;
            }
        }
    });
    let address = format!("tls+unix:{}", path.display().to_string().replace(' ', "%20"));
    let at = || connector(&address).with_trust(trust(&known));
    KnownServers::at(&known).remember(&address, &Fingerprint([7; 32])).unwrap();
    let error = refused(at()).await;
    assert_eq!(error.exit_code(), 76);
    assert!(error.to_string().contains(&fingerprint.to_string()), "{error}");
    KnownServers::at(&known).remember(&address, &fingerprint).unwrap();
    assert!(at().connect().await.is_ok());
    // The clear is refused there, and TLS where a socket has none is told apart from a dead server.
    assert_eq!(refused(connector(&format!("unix:{}", path.display()))).await.exit_code(), 69);
    serving.abort();
}

#[tokio::test]
async fn a_server_that_cannot_read_an_encoder_is_asked_in_the_next() {
    use crate::proto::wire::xpra::{Caps, Decoder, Encoder, Limits, ServerHello};
    for reads in [Encoder::Rencode, Encoder::Bencode] {
        let port = listening(move |mut socket, _| async move {
            let mut buffer = Vec::new();
            let packet = loop {
                if let Some((packet, _)) = Decoder::new(Limits::default()).decode(&buffer).unwrap() {
                    break packet;
                }
                socket.read_buf(&mut buffer).await.unwrap();
            };
            let answer = match packet.encoder {
                _ if packet.encoder == reads => {
                    let hello = ServerHello::with_caps(Caps::default().with("version", "3.1.3")).unwrap();
                    hello.packet(reads).encode().unwrap()
                }
                // One legacy server says so, another only closes.
                Encoder::Rencodeplus => b"disconnect: failed to parse bencode packet\n".to_vec(),
                _ => Vec::new(),
            };
            let _ = socket.write_all(&answer).await;
        })
        .await;
        let connected = connector(&format!("tcp://127.0.0.1:{port}")).connect().await.unwrap();
        assert_eq!(connected.server.encoder, reads);
        assert!(!connected.server.is_stream && connected.server.countersign.is_none());
        // The packet that ended the login is the first thing the session's program reads.
        assert_eq!(connected.stream.pending().first(), Some(&b'P'));
    }
}

#[tokio::test]
async fn a_server_that_has_no_place_is_not_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let port = listening(move |mut socket, _| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            let _ = socket.read(&mut [0; 64]).await;
            let _ = socket.write_all(b"disconnect session busy\n").await;
        }
    })
    .await;
    assert_eq!(refused(connector(&format!("tcp://127.0.0.1:{port}"))).await.exit_code(), 75);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn s_046_words_of_what_is_no_server_are_shown_without_controls() {
    let port = listening(|mut socket, _| async move {
        let _ = socket.read(&mut [0; 64]).await;
        let _ = socket.write_all(b"HTTP/1.1 400 \x1b[31mno\r\n\r\n").await;
    })
    .await;
    let error = refused(connector(&format!("tcp://127.0.0.1:{port}"))).await;
    assert_eq!(error.cause(), Cause::Login(FailureKind::Misbehaved));
    let text = error.to_string();
    assert!(text.contains("HTTP/1.1 400") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn noise_from_a_server_ends_as_what_it_is() {
    for noise in [&b"P\x10\0\0\0\0\0\x01\xff"[..], b"P\xff\0\0\0\0\0\x01\xff", b"P\x10\0\0\xff\xff\xff\xff"] {
        let port = listening(move |mut socket, _| async move {
            let _ = socket.write_all(noise).await;
            let _ = socket.read(&mut [0; 4096]).await;
        })
        .await;
        let error = refused(connector(&format!("tcp://127.0.0.1:{port}"))).await;
        assert_eq!(error.cause(), Cause::Login(FailureKind::Misbehaved), "{error}");
    }
}

#[tokio::test]
async fn s_048_a_password_in_the_address_is_warned_about_and_never_repeated() {
    let port = echo(password()).await;
    let person = Decided::to(false);
    let wrong = connector(&format!("tcp://alice:hunter2@127.0.0.1:{port}"));
    let error = refused(wrong.clone().with_person(Arc::<Decided>::clone(&person))).await;
    let shown = format!("{wrong:?} {error:?} {error} {:?} {:?}", error.fix(), person.heard.lock());
    assert!(shown.contains("--password-file") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_door_logs_in_each_connection_made_to_it() {
    let port = echo(password()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door");
    let failures = Arc::new(AtomicUsize::new(0));
    for (place, right) in [
        ("127.0.0.1:0".to_owned(), true),
        (path.display().to_string(), true),
        ("127.0.0.1:0".to_owned(), false),
    ] {
        let door = Door::open(&place).await.unwrap();
        let address = door.address().clone();
        let secret = if right { "one" } else { "two" };
        let inside = connector(&format!("tcp://alice:{secret}@127.0.0.1:{port}"));
        let failed = Arc::clone(&failures);
        let serving = tokio::spawn(door.serve(inside, move |_| {
            failed.fetch_add(1, Ordering::SeqCst);
        }));
        for words in [&b"one"[..], b"POST / HTTP/1.1", b"P"] {
            let limit = std::time::Duration::from_secs(5);
            let mut local = crate::transport::connect(&address, limit).await.unwrap();
            local.write_all(words).await.unwrap();
            local.shutdown().await.unwrap();
            let mut all = Vec::new();
            let read = local.read_to_end(&mut all).await;
            assert_eq!(all, if right { words } else { b"" }, "{read:?}");
        }
        serving.abort();
    }
    assert_eq!(failures.load(Ordering::SeqCst), 3);
}
