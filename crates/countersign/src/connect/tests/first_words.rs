//! What the daemon hears first, and when it is sent.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use tokio::time::timeout;

use super::*;
use crate::proto::wire::xpra::{Caps, Challenge, Decoder, Encoder, Hello, Limits, ServerHello, Value};

#[tokio::test]
async fn s_017_first_words_reach_the_daemon_once_and_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = |password: &str| {
        let path = folder.path().join(password);
        std::fs::write(&path, password).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    for modules in [&["none"][..], &["password(value=one)"], &["password(value=one)", "password(value=two)"]]
    {
        let address = format!("tcp://alice@127.0.0.1:{}", echo(Acceptor::of(modules).unwrap()).await);
        let passwords = Sources::nowhere().with_password_file(file("one")).with_password_file(file("two"));
        let handlers = Registry::builtin().select("all", passwords).unwrap();
        let connector = connector(&address).with_handlers(handlers);
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

async fn hello(socket: &mut TcpStream, inbox: &mut Vec<u8>) -> Hello {
    loop {
        if let Some((packet, length)) = Decoder::new(Limits::default()).decode(inbox).unwrap() {
            inbox.drain(..length);
            return Hello::read(packet).unwrap();
        }
        assert!(socket.read_buf(inbox).await.unwrap() > 0, "the client closed");
    }
}

async fn say(socket: &mut TcpStream, packet: crate::proto::wire::xpra::Packet) {
    socket.write_all(&packet.encode().unwrap()).await.unwrap();
}
