//! A client and a backend around a relay, over each kind of wire.

use std::{io, sync::Arc, time::Instant};

use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    Peer,
    transport::tls::{ClientTls, OldestVersion, ServerTls, Trust, certified_key},
};

/// What carries one side.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Unix,
    Tcp,
    Tls,
}

/// The far end and the relay's end of a connection.
async fn pair(kind: Kind) -> (Stream, Stream) {
    match kind {
        Kind::Unix => {
            let (far, near) = UnixStream::pair().unwrap();
            (Stream::new(far), Stream::new(near))
        }
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            (Stream::new(far), Stream::new(listener.accept().await.unwrap().0))
        }
        Kind::Tls => {
            let (far, near) = Box::pin(pair(Kind::Tcp)).await;
            let server = ServerTls::new(identity(), OldestVersion::Tls13).unwrap();
            let client = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            let (near, far) = tokio::join!(
                server.accept(near, Peer::unix(None), deadline),
                client.connect(far, "localhost", deadline)
            );
            (far.unwrap().into_stream_of_judged_server(), near.unwrap().0)
        }
    }
}

fn identity() -> Arc<CertifiedKey> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    certified_key("test", cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap()
}

struct Relayed {
    client: Stream,
    backend: Stream,
    control: Arc<Control>,
    ended: JoinHandle<Ended>,
}

impl Relayed {
    async fn between(client: Kind, backend: Kind, idle: Option<Duration>) -> Self {
        let (client, near_client) = pair(client).await;
        let (backend, near_backend) = pair(backend).await;
        let control = Arc::new(Control::new());
        let theirs = Arc::clone(&control);
        let ended = tokio::spawn(async move { relay(near_client, near_backend, idle, &theirs).await });
        Self { client, backend, control, ended }
    }

    async fn end(ended: JoinHandle<Ended>) -> Ended {
        timeout(Duration::from_secs(10), ended).await.expect("the relay ends").unwrap()
    }
}

const EVERY: [(Kind, Kind); 5] = [
    (Kind::Unix, Kind::Unix),
    (Kind::Tcp, Kind::Tcp),
    (Kind::Tcp, Kind::Unix),
    (Kind::Tls, Kind::Unix),
    (Kind::Tls, Kind::Tls),
];

/// Bytes that repeat at no power of two.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ seed).collect()
}

#[tokio::test]
async fn s_086_the_clients_end_passes_and_the_backend_still_answers() {
    for (client, backend) in EVERY {
        let mut relayed = Relayed::between(client, backend, None).await;
        relayed.client.write_all(b"question").await.unwrap();
        relayed.client.shutdown().await.unwrap();
        let mut question = Vec::new();
        relayed.backend.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question");
        sleep(Duration::from_millis(20)).await;
        assert!(!relayed.ended.is_finished(), "{client:?} {backend:?}");
        relayed.backend.write_all(b"the answer").await.unwrap();
        relayed.backend.shutdown().await.unwrap();
        let mut answer = Vec::new();
        relayed.client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"the answer");
        let ended = Relayed::end(relayed.ended).await;
        assert_eq!(ended, Ended { reason: EndReason::ClientClosed, to_backend: 8, to_client: 10 });
        assert_eq!((relayed.control.to_backend(), relayed.control.to_client()), (8, 10));
    }
}

#[tokio::test]
async fn s_086_the_backends_end_passes_and_the_client_goes_on() {
    for (client, backend) in EVERY {
        let mut relayed = Relayed::between(client, backend, None).await;
        relayed.backend.write_all(b"bye").await.unwrap();
        relayed.backend.shutdown().await.unwrap();
        let mut farewell = Vec::new();
        relayed.client.read_to_end(&mut farewell).await.unwrap();
        assert_eq!(farewell, b"bye");
        relayed.client.write_all(b"last words").await.unwrap();
        relayed.client.shutdown().await.unwrap();
        let mut last = Vec::new();
        relayed.backend.read_to_end(&mut last).await.unwrap();
        assert_eq!(last, b"last words");
        let ended = Relayed::end(relayed.ended).await;
        assert_eq!(ended, Ended { reason: EndReason::BackendClosed, to_backend: 10, to_client: 3 });
    }
}

/// Both directions at once, in uneven pieces, until both have ended.
async fn checksums(client: Kind, backend: Kind, bytes: usize) {
    let relayed = Relayed::between(client, backend, None).await;
    let (client_read, client_write) = tokio::io::split(relayed.client);
    let (backend_read, backend_write) = tokio::io::split(relayed.backend);
    let send = |mut sink: tokio::io::WriteHalf<Stream>, seed: u8| async move {
        let mut digest = Sha256::new();
        let (block, mut sent) = (pattern(100_003, seed), 0);
        while sent < bytes {
            let piece = &block[..block.len().min(bytes - sent)];
            digest.update(piece);
            sink.write_all(piece).await.unwrap();
            sent += piece.len();
        }
        sink.shutdown().await.unwrap();
        (sink, digest.finalize())
    };
    let receive = |mut source: tokio::io::ReadHalf<Stream>| async move {
        let (mut digest, mut space, mut received) = (Sha256::new(), vec![0; 70_001], 0);
        loop {
            let read = source.read(&mut space).await.unwrap();
            if read == 0 {
                return (source, received, digest.finalize());
            }
            digest.update(&space[..read]);
            received += read;
        }
    };
    let (up, down, at_backend, at_client) = tokio::join!(
        tokio::spawn(send(client_write, 1)),
        tokio::spawn(send(backend_write, 2)),
        tokio::spawn(receive(backend_read)),
        tokio::spawn(receive(client_read))
    );
    let (up, down, at_backend, at_client) =
        (up.unwrap(), down.unwrap(), at_backend.unwrap(), at_client.unwrap());
    assert_eq!((at_backend.1, at_client.1), (bytes, bytes), "{client:?} {backend:?}");
    assert!(at_backend.2 == up.1 && at_client.2 == down.1, "{client:?} {backend:?}");
    let ended = Relayed::end(relayed.ended).await;
    assert_eq!((ended.to_backend, ended.to_client), (bytes as u64, bytes as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn s_086_256_mib_between_tcp_sockets_arrive_unchanged() {
    checksums(Kind::Tcp, Kind::Tcp, 256 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_086_256_mib_from_tcp_to_unix_arrive_unchanged() {
    checksums(Kind::Tcp, Kind::Unix, 256 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_086_256_mib_between_unix_sockets_arrive_unchanged() {
    checksums(Kind::Unix, Kind::Unix, 256 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_086_256_mib_through_tls_arrive_unchanged() {
    checksums(Kind::Tls, Kind::Unix, 256 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_086_a_reset_arrives_as_a_reset_on_the_other_side() {
    for (client, backend) in [(Kind::Tcp, Kind::Tcp), (Kind::Tls, Kind::Tcp), (Kind::Tcp, Kind::Tls)] {
        for from_client in [true, false] {
            let relayed = Relayed::between(client, backend, None).await;
            let (breaks, mut sees) = match from_client {
                true => (relayed.client, relayed.backend),
                false => (relayed.backend, relayed.client),
            };
            tcp(&breaks).unwrap().set_zero_linger().unwrap();
            drop(breaks);
            let error = sees.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{client:?} {backend:?}");
            let reason = if from_client { EndReason::ClientReset } else { EndReason::BackendReset };
            assert_eq!(Relayed::end(relayed.ended).await.reason, reason);
        }
    }
}

/// Whoever cuts the wire must not make a part look like the whole (RFC 8446 6.1).
#[tokio::test(flavor = "multi_thread")]
async fn s_086_tls_that_is_cut_is_a_reset_after_what_had_arrived() {
    let mut relayed = Relayed::between(Kind::Tls, Kind::Tcp, None).await;
    relayed.client.write_all(b"half a mess").await.unwrap();
    let mut text = [0; 11];
    relayed.backend.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"half a mess");
    // A plain end of the TCP connection under the TLS one.
    drop(relayed.client);
    assert!(relayed.backend.read(&mut text).await.is_err());
    assert_eq!(Relayed::end(relayed.ended).await.reason, EndReason::ClientReset);
}

/// A backend that answers early and leaves loses nothing of its answer.
#[tokio::test(flavor = "multi_thread")]
async fn s_086_an_answer_given_before_the_question_was_read_still_arrives() {
    let mut relayed = Relayed::between(Kind::Tcp, Kind::Unix, None).await;
    relayed.backend.write_all(b"too large").await.unwrap();
    drop(relayed.backend);
    let big = pattern(1 << 20, 0);
    let _ = relayed.client.write_all(&big).await;
    relayed.client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    relayed.client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"too large");
    assert_eq!(Relayed::end(relayed.ended).await.reason, EndReason::BackendClosed);
}

/// S-86, S-87: whichever end does not read, backend or client, stops the other, and the gateway holds little.
#[tokio::test]
async fn s_086_a_slow_reader_stops_the_sender_within_a_bound() {
    for (client, backend, from_client) in [
        (Kind::Unix, Kind::Unix, true),
        (Kind::Unix, Kind::Unix, false),
        (Kind::Tls, Kind::Unix, true),
        (Kind::Tls, Kind::Unix, false),
    ] {
        let relayed = Relayed::between(client, backend, None).await;
        let (mut sender, mut reader) = match from_client {
            true => (relayed.client, relayed.backend),
            false => (relayed.backend, relayed.client),
        };
        let block = pattern(10_007, 3);
        let mut sent = 0;
        loop {
            let piece = &block[sent % block.len()..];
            match timeout(Duration::from_millis(200), sender.write(piece)).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
            assert!(sent < 64 << 20, "nothing stops the sender");
        }
        // What the kernel holds: 208 KiB for each Unix socket, several MiB for a TCP one.
        let in_sockets = if matches!(client, Kind::Unix) { 2 * (208 << 10) } else { 16 << 20 };
        assert!(sent <= in_sockets + (256 << 10), "{sent} bytes are on their way");
        // Then everything arrives, in order.
        let read = async {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            all
        };
        let (all, ended) = tokio::join!(read, sender.shutdown());
        ended.unwrap();
        assert_eq!(all.len(), sent);
        assert!(all.iter().zip(block.iter().cycle()).all(|(a, b)| a == b));
        drop((sender, reader));
        Relayed::end(relayed.ended).await;
    }
}

#[tokio::test]
async fn s_017_bytes_that_were_read_ahead_reach_the_backend_once_and_first() {
    let (mut client, mut near_client) = pair(Kind::Unix).await;
    let (near_backend, mut backend) = pair(Kind::Unix).await;
    near_client.unread(b"first ".to_vec());
    client.write_all(b"second").await.unwrap();
    client.shutdown().await.unwrap();
    let ended = tokio::spawn(async move { relay(near_client, near_backend, None, &Control::new()).await });
    let mut all = Vec::new();
    backend.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"first second");
    drop(backend);
    assert_eq!(Relayed::end(ended).await.to_backend, 12);
}

#[tokio::test]
async fn s_040_a_killed_relay_ends_both_sides_at_once_even_before_it_starts() {
    let mut relayed = Relayed::between(Kind::Tcp, Kind::Tcp, None).await;
    relayed.client.write_all(b"x").await.unwrap();
    relayed.backend.read_exact(&mut [0]).await.unwrap();
    relayed.control.kill();
    assert_eq!(Relayed::end(relayed.ended).await.reason, EndReason::Killed);
    assert!(relayed.client.read(&mut [0]).await.is_err());
    assert!(relayed.backend.read(&mut [0]).await.is_err());

    let (_client, near_client) = pair(Kind::Unix).await;
    let (_backend, near_backend) = pair(Kind::Unix).await;
    let control = Control::new();
    control.kill();
    assert_eq!(relay(near_client, near_backend, None, &control).await.reason, EndReason::Killed);
}

#[tokio::test]
async fn an_idle_relay_ends_when_nothing_moved_for_the_time_and_not_before() {
    let idle = Duration::from_millis(400);
    let mut relayed = Relayed::between(Kind::Unix, Kind::Unix, Some(idle)).await;
    for _ in 0..4 {
        sleep(idle / 2).await;
        relayed.client.write_all(b"x").await.unwrap();
        relayed.backend.read_exact(&mut [0]).await.unwrap();
    }
    let last = Instant::now();
    let ended = Relayed::end(relayed.ended).await;
    assert_eq!((ended.reason, ended.to_backend), (EndReason::Idle, 4));
    assert!(last.elapsed() >= idle * 9 / 10, "{:?}", last.elapsed());
}
