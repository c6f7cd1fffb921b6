//! What the daemon hears first, and when it is sent.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::*;
use crate::proto::wire::xpra::{Caps, Challenge, Decoder, Encoder, Hello, Limits, ServerHello, Value};

#[tokio::test]
async fn s_017_first_words_reach_the_daemon_once_and_first() {
    let folder = tempfile::tempdir().unwrap();
    let chains = [&["none"][..], &["password(value=one)"], &["password(value=one)", "password(value=two)"]];
    // Over TLS they go with the hello.
    for (modules, scheme) in chains.into_iter().flat_map(|modules| [(modules, "tcp"), (modules, "tls")]) {
        let (tls, fingerprint, _) = tls();
        let port = echo(Acceptor::of(modules).unwrap().offering_tls(tls)).await;
        let address = format!("{scheme}://alice@127.0.0.1:{port}");
        let handlers = Registry::builtin().select("all", one_and_two(folder.path())).unwrap();
        let connector = connector(&address).with_handlers(handlers).with_trust(pinned(fingerprint));
        let mut connected = connector.connect_and_say(b"first ").await.unwrap();
        assert!(connected.server.answered.len() <= modules.len());
        connected.stream.write_all(b"second").await.unwrap();
        connected.stream.shutdown().await.unwrap();
        let mut echoed = String::new();
        connected.stream.read_to_string(&mut echoed).await.unwrap();
        assert_eq!(echoed, "first second", "{modules:?}");
    }
}

/// S-17: they go with the answer to a question that our own gateway calls its last, and to no other.
#[tokio::test]
async fn s_017_first_words_go_ahead_of_the_welcome_only_where_the_server_said_so() {
    let announced = |caps: Caps| caps.with("countersign", "1");
    let last = |caps: Caps| caps.with("last", Value::Bool(true));
    for (caps, ahead) in [
        (last(announced(Caps::default())), true),
        (announced(Caps::default()), false),
        (last(Caps::default()), false),
        (Caps::default(), false),
    ] {
        let (heard, mut hears) = mpsc::channel(2);
        let port = listening(move |mut socket, _| {
            let (caps, heard) = (caps.clone(), heard.clone());
            async move {
                let mut inbox = Vec::new();
                hello(&mut socket, &mut inbox).await;
                let challenge = Challenge {
                    salt: vec![7; 64],
                    caps,
                    digest: "hmac+sha512".into(),
                    salt_digest: Some("hmac+sha512".into()),
                    prompt: None,
                };
                say(&mut socket, challenge.packet(Encoder::Rencodeplus)).await;
                assert!(hello(&mut socket, &mut inbox).await.response.is_some());
                let more = timeout(Duration::from_millis(300), socket.read_buf(&mut inbox));
                let _ = more.await;
                heard.send(inbox.clone()).await.unwrap();
                let caps = Caps::default().with("countersign", "1").with("stream", Value::Bool(true));
                say(&mut socket, ServerHello::with_caps(caps).unwrap().packet(Encoder::Rencodeplus)).await;
                while inbox.len() < 5 && socket.read_buf(&mut inbox).await.unwrap() > 0 {}
                heard.send(inbox).await.unwrap();
            }
        })
        .await;
        let at = connector(&format!("tcp://alice:one@127.0.0.1:{port}"));
        let _connected = at.connect_and_say(b"words").await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), if ahead { &b"words"[..] } else { b"" });
        assert_eq!(hears.recv().await.unwrap(), b"words");
    }
}

/// S-17: a server that does not say that it judged the initial response hears them once, after its welcome.
#[tokio::test]
async fn s_017_first_words_that_went_with_the_hello_are_said_again_unless_they_were_taken() {
    let initial = |caps: Caps| caps.with("initial", Value::Bool(true));
    for (asks, marks, again) in [(false, true, false), (false, false, true), (true, true, true)] {
        let (heard, mut hears) = mpsc::channel(2);
        let (tls, fingerprint, _) = tls();
        let port = listening(move |socket, from| {
            let (tls, heard) = (Arc::clone(&tls), heard.clone());
            async move {
                let peer = Peer::tcp(from, socket.local_addr().unwrap());
                let deadline = std::time::Instant::now() + Duration::from_secs(10);
                let (mut stream, _) = tls.accept(Stream::new(socket), peer, deadline).await.unwrap();
                let mut inbox = Vec::new();
                let first = hello(&mut stream, &mut inbox).await;
                heard.send(first.first_words).await.unwrap();
                let marked = |caps: Caps| if marks { initial(caps) } else { caps };
                let caps = marked(Caps::default().with("countersign", "1"));
                if asks {
                    let challenge = Challenge {
                        salt: vec![7; 64],
                        caps: caps.clone(),
                        digest: "xor".into(),
                        salt_digest: Some("hmac+sha512".into()),
                        prompt: None,
                    };
                    say(&mut stream, challenge.packet(Encoder::Rencodeplus)).await;
                    let second = hello(&mut stream, &mut inbox).await;
                    assert!(second.first_words.is_empty() && second.response.is_some());
                }
                let welcome = ServerHello::with_caps(caps.with("stream", Value::Bool(true))).unwrap();
                say(&mut stream, welcome.packet(Encoder::Rencodeplus)).await;
                stream.read_to_end(&mut inbox).await.unwrap();
                heard.send(inbox).await.unwrap();
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let at = connector(&format!("tls://alice@127.0.0.1:{port}"))
            .with_handlers(Registry::builtin().select("all", one_and_two(folder.path())).unwrap())
            .with_trust(pinned(fingerprint));
        let mut connected = at.connect_and_say(b"words").await.unwrap();
        connected.stream.shutdown().await.unwrap();
        assert_eq!(hears.recv().await.unwrap(), b"words");
        assert_eq!(hears.recv().await.unwrap(), if again { &b"words"[..] } else { b"" });
    }
}

fn pinned(fingerprint: Fingerprint) -> ServerTrust {
    ServerTrust { pin: Some(fingerprint), ..ServerTrust::default() }
}

/// The passwords `one` and `two`, each in a file of its own.
fn one_and_two(folder: &Path) -> Sources {
    ["one", "two"].into_iter().fold(Sources::nowhere(), |sources, password| {
        let path = folder.join(password);
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        sources.with_password_file(path)
    })
}

async fn hello(socket: &mut (impl AsyncRead + Unpin), inbox: &mut Vec<u8>) -> Hello {
    loop {
        if let Some((packet, length)) = Decoder::new(Limits::default()).decode(inbox).unwrap() {
            inbox.drain(..length);
            return Hello::read(packet).unwrap();
        }
        assert!(socket.read_buf(inbox).await.unwrap() > 0, "the client closed");
    }
}

async fn say(socket: &mut (impl AsyncWrite + Unpin), packet: crate::proto::wire::xpra::Packet) {
    socket.write_all(&packet.encode().unwrap()).await.unwrap();
    socket.flush().await.unwrap();
}
