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

mod certificates;
mod first_words;
mod silent;

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
