//! Raw clients at a real socket: what is said, what is answered, and when the connection closes.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::*;
use crate::{
    Secret,
    modules::{Options, Registry},
    proto::challenge::Response,
    proto::wire::xpra::{Challenge, ClientHello, Decoder, Disconnect, Encoder, Kind, Limits, Packet, Reply},
};

fn acceptor(modules: &[&str]) -> Acceptor {
    let links =
        modules.iter().map(|name| Registry::builtin().link(Options::new(*name, [])).unwrap()).collect();
    let mut settings = Settings::default();
    settings.handshake_timeout = Duration::from_millis(600);
    settings.login_timeout = Duration::from_millis(1200);
    settings.refusal_delay = Duration::from_millis(100);
    Acceptor::new(Arc::new(Chain::new(links).unwrap())).with_settings(settings)
}

/// A client at `acceptor`, and what the acceptor makes of it.
fn meet(acceptor: Acceptor) -> (UnixStream, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let peer = Peer::unix(None);
    (theirs, tokio::spawn(async move { acceptor.accept(Stream::new(ours), peer).await }))
}

fn hello() -> ClientHello {
    let digests: Vec<String> = ["hmac+sha512", "hmac+sha256", "xor"].map(str::to_owned).to_vec();
    ClientHello {
        version: "6.5".into(),
        username: "alice".into(),
        uuid: "00".repeat(16),
        salt_digests: digests.clone(),
        digests,
        ..ClientHello::default()
    }
}

async fn read_packet(client: &mut UnixStream) -> Packet {
    let decoder = Decoder::new(Limits::default());
    let mut bytes = Vec::new();
    loop {
        if let Some((Reply::Packet(packet), _)) = decoder.decode_reply(&bytes).unwrap() {
            return packet;
        }
        assert!(client.read_buf(&mut bytes).await.unwrap() > 0, "the server closed: {bytes:?}");
    }
}

async fn read_to_end(client: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn a_hello_is_challenged_and_answered_in_its_own_encoder() {
    for encoder in [Encoder::Rencodeplus, Encoder::Rencode, Encoder::Bencode] {
        let (mut client, server) = meet(acceptor(&["allow"]));
        client.write_all(&hello().packet(encoder).encode().unwrap()).await.unwrap();
        let packet = read_packet(&mut client).await;
        assert_eq!(packet.encoder, encoder);
        let challenge = Challenge::read(packet).unwrap();
        assert_eq!((challenge.digest.as_str(), challenge.salt.len()), ("hmac+sha512", 64));
        let response = Response::new(Secret::new(vec![b'0'; 128]), vec![7; 32]);
        let second = ClientHello { response: Some(response), ..hello() };
        let mut bytes = second.packet(encoder).encode().unwrap();
        bytes.extend_from_slice(b"the daemon's first bytes");
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut admitted = server.await.unwrap().unwrap();
        assert_eq!(admitted.grant.identity().unwrap().name.as_str(), "alice");
        let mut behind = Vec::new();
        admitted.stream.read_to_end(&mut behind).await.unwrap();
        assert_eq!(behind, b"the daemon's first bytes", "s_017: once and whole");
    }
}

#[tokio::test]
async fn a_refusal_is_a_disconnect_in_the_clients_encoder_after_the_pause() {
    let (mut client, server) = meet(acceptor(&["fail"]));
    let start = Instant::now();
    client.write_all(&hello().packet(Encoder::Rencode).encode().unwrap()).await.unwrap();
    let packet = read_packet(&mut client).await;
    assert!(start.elapsed() >= Duration::from_millis(100), "s_026");
    assert_eq!(packet.kind, Kind::Disconnect);
    assert!(Disconnect::read(&packet).unwrap().is_authentication_failure());
    assert!(read_to_end(&mut client).await.is_empty());
    drop(client);
    let turned = server.await.unwrap().unwrap_err();
    assert_eq!((turned.refusal.reason, turned.username.as_deref()), (Reason::Denied, Some("alice")));
}

#[tokio::test]
async fn s_001_silence_halves_and_trickles_end_at_the_handshake_deadline() {
    let whole = hello().packet(Encoder::Rencodeplus).encode().unwrap();
    for sent in [&b""[..], &whole[..4], &whole[..60]] {
        let (mut client, server) = meet(acceptor(&["allow"]));
        let start = Instant::now();
        client.write_all(sent).await.unwrap();
        let trickle = tokio::spawn(async move {
            // A byte now and then does not move the deadline.
            while client.write_all(&[0]).await.is_ok() && start.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if sent.is_empty() {
            trickle.abort();
        }
        let turned = server.await.unwrap().unwrap_err();
        let took = start.elapsed();
        let expected = [Reason::Timeout, Reason::PeerLeft, Reason::Malformed];
        assert!(expected.contains(&turned.refusal.reason), "{turned}");
        assert!(took < Duration::from_millis(1800), "{took:?}");
        trickle.abort();
    }
}

#[tokio::test]
async fn s_014_only_hello_is_listened_to_and_version_alone_is_answered() {
    let (mut client, server) = meet(acceptor(&["reject"]));
    let mut asks = hello();
    asks.request = Some("version".into());
    client.write_all(&asks.packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
    let packet = read_packet(&mut client).await;
    assert_eq!(packet.kind, Kind::Hello);
    drop(client);
    assert!(server.await.unwrap().is_err());

    let (mut client, server) = meet(acceptor(&["allow"]));
    let other = Packet::new(Encoder::Rencodeplus, Kind::Other("ping".into()), Vec::new());
    client.write_all(&other.encode().unwrap()).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"disconnect protocol error\n");
    drop(client);
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
}

#[tokio::test]
async fn what_is_no_packet_gets_one_line_of_text_and_is_closed() {
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[0x16, 3, 1, 0, 5],
        &[0xff; 64],
        b"P\xff\0\0\0\0\0\x01",
    ] {
        let (mut client, server) = meet(acceptor(&["allow"]));
        client.write_all(garbage).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"disconnect protocol error\n", "{garbage:?}");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
    }
}

#[tokio::test]
async fn a_silent_socket_decides_by_facts_and_touches_no_byte() {
    let (mut client, server) = meet(acceptor(&["none"]).with_protocol(Protocol::Stream));
    let admitted = server.await.unwrap().unwrap();
    client.write_all(b"first").await.unwrap();
    let mut stream = admitted.into_stream().await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"first");

    let (_client, server) = meet(acceptor(&["reject"]).with_protocol(Protocol::Stream));
    assert!(server.await.unwrap().is_err());
}

#[tokio::test]
async fn s_017_nothing_sent_before_the_login_is_in_the_stream_behind_it() {
    let (mut client, server) = meet(acceptor(&["none"]));
    let mut bytes = hello().packet(Encoder::Rencodeplus).encode().unwrap();
    bytes.extend_from_slice(b"behind");
    client.write_all(&bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut behind = Vec::new();
    server.await.unwrap().unwrap().stream.read_to_end(&mut behind).await.unwrap();
    assert_eq!(behind, b"behind");
}
