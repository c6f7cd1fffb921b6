//! Whose certificates the two ends believe: servers met for the first time and again, and our own.

use super::*;

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
