//! Raw clients at a real socket: what is said, what is answered, and when the connection closes.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Mutex,
};

use super::*;
use crate::{
    Claim, Identity, Secret, Verifier,
    modules::{Context, Options, Registry},
    proto::wire::xpra::{Challenge, ClientHello, Decoder, Disconnect, Encoder, Kind, Limits, Packet, Reply},
    proto::{
        chain::{CHECKS_AT_ONCE, CheckPeer, Exchange, Link, OpenExchange},
        challenge::Response,
    },
    transport::tls::{ClientTls, OldestVersion, Trust},
    trust::ServerIdentity,
};

mod encryption;
mod exhaustive;
mod hops;
mod upgrades;

fn acceptor(modules: &[&str]) -> Acceptor {
    let links = modules
        .iter()
        .map(|name| Registry::builtin().link(Options::new(*name, []), &Context::default()).unwrap())
        .collect();
    let mut settings = Settings::default();
    settings.handshake_timeout = Duration::from_millis(600);
    settings.login_timeout = Duration::from_millis(1200);
    settings.refusal_delay = Duration::from_millis(100);
    Acceptor::new(Arc::new(Chain::new(links).unwrap())).with_settings(settings)
}

/// A client at `acceptor`, and what the acceptor makes of it.
fn meet(acceptor: Acceptor) -> (UnixStream, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    meet_as(acceptor, Peer::unix(None))
}

fn meet_as(
    acceptor: Acceptor,
    peer: Peer,
) -> (UnixStream, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    let (theirs, ours) = UnixStream::pair().unwrap();
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

async fn read_packet(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> Packet {
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

/// As Xpra's clients leave that find no password for a challenge, before they close the connection.
#[tokio::test]
async fn a_client_that_says_goodbye_has_left_and_has_not_misbehaved() {
    for packets in [1, 2] {
        let (mut client, server) = meet(acceptor(&["allow"]));
        if packets == 2 {
            client.write_all(&hello().packet(Encoder::Rencode).encode().unwrap()).await.unwrap();
            assert_eq!(read_packet(&mut client).await.kind, Kind::Challenge);
        }
        let goodbye = Disconnect::new("authentication required").packet(Encoder::Rencode);
        client.write_all(&goodbye.encode().unwrap()).await.unwrap();
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::PeerLeft, "{packets}");
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
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0xff; 64], b"P\xff\0\0\0\0\0\x01"] {
        let (mut client, server) = meet(acceptor(&["allow"]));
        client.write_all(garbage).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"disconnect protocol error\n", "{garbage:?}");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
    }
}

#[tokio::test]
async fn s_038_tls_on_a_plain_socket_and_plaintext_on_a_tls_socket_are_closed_without_an_answer() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let plain = hello().packet(Encoder::Rencodeplus).encode().unwrap();
    for (acceptor, sent) in [
        (acceptor(&["allow"]), &[0x16, 3, 1, 0, 5][..]),
        (acceptor(&["allow"]).requiring_tls(Arc::clone(&tls)), &plain),
        (acceptor(&["none"]).requiring_tls(Arc::clone(&tls)), b"GET / HTTP/1.1\r\n\r\n"),
        (acceptor(&["none"]).with_protocol(Protocol::Stream).requiring_tls(tls), b"x"),
    ] {
        let (mut client, server) = meet(acceptor);
        client.write_all(sent).await.unwrap();
        assert!(read_to_end(&mut client).await.is_empty(), "{sent:?}");
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
    }
}

/// A module with rounds of its own that tells which channel binding it was given.
struct Tells {
    binds: bool,
    told: std::sync::mpsc::Sender<Option<Arc<[u8]>>>,
}

impl OpenExchange for Tells {
    fn open(&self, peer: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        self.told.send(peer.channel_binding.clone()).unwrap();
        Err(Refusal::peer_denied("it only listens"))
    }

    fn binds_channel(&self) -> bool {
        self.binds
    }
}

#[tokio::test]
async fn s_035_a_link_that_compares_the_channel_binding_has_the_clients() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let dial = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
    for binds in [true, false] {
        let (told, tells) = std::sync::mpsc::channel();
        let link = Link::new("tells", Verifier::Exchange(Box::new(Tells { binds, told })));
        let chain = Arc::new(Chain::new(vec![link]).unwrap());
        let (client, server) = meet(Acceptor::new(chain).requiring_tls(Arc::clone(&tls)));
        let deadline = Instant::now() + Duration::from_secs(10);
        let connected = dial.connect(Stream::new(client), "gate", deadline).await.unwrap();
        let ours = connected.channel_binding().cloned();
        assert!(ours.is_some());
        let mut stream = connected.into_stream_of_judged_server();
        stream.write_all(&hello().packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
        assert!(server.await.unwrap().is_err());
        assert_eq!(tells.recv().unwrap(), ours.filter(|_| binds));
    }
}

#[tokio::test]
async fn clients_of_postgres_ask_for_tls_or_start_it() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let postgres = acceptor(&["none"])
        .with_protocol(Protocol::Stream)
        .requiring_tls(tls)
        .starting_tls(StartTls::Postgres);
    let (for_tls, for_gssapi) = (&[0, 0, 0, 8, 4, 0xd2, 22, 47], &[0, 0, 0, 8, 4, 0xd2, 22, 48]);
    for requests in [&[][..], &[(for_tls, b'S')], &[(for_gssapi, b'N'), (for_tls, b'S')]] {
        let (mut client, server) = meet(postgres.clone());
        for (request, answer) in requests {
            client.write_all(*request).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), *answer);
        }
        let tls = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
        let tls = tls
            .connect(Stream::new(client), "localhost", Instant::now() + Duration::from_secs(10))
            .await
            .unwrap();
        let mut client = tls.into_stream_of_judged_server();
        client.write_all(b"hello").await.unwrap();
        let mut admitted = server.await.unwrap().unwrap();
        let mut heard = [0; 5];
        admitted.stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}

#[tokio::test]
async fn s_038_nothing_said_in_the_clear_before_tls_is_taken_for_the_client_s() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let postgres = acceptor(&["none"])
        .with_protocol(Protocol::Stream)
        .requiring_tls(tls)
        .starting_tls(StartTls::Postgres);
    let request = [0, 0, 0, 8, 4, 0xd2, 22, 47];
    let startup = [0, 0, 0, 9, 0, 3, 0, 0, 0];
    let gssapi = [0, 0, 0, 8, 4, 0xd2, 22, 48];
    for (sent, answer) in [
        ([&request[..], &startup].concat(), &b"S"[..]),
        ([&request[..], &request].concat(), b"S"),
        ([&gssapi[..], &startup].concat(), b"N"),
        ([&gssapi[..], &gssapi, &gssapi].concat(), b"NN"),
        (startup.to_vec(), b""),
        (request[..4].to_vec(), b""),
    ] {
        let (mut client, server) = meet(postgres.clone());
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut client).await, answer, "{sent:?}");
        let reason = server.await.unwrap().unwrap_err().refusal.reason;
        assert!(matches!(reason, Reason::Malformed | Reason::PeerLeft), "{sent:?}: {reason:?}");
    }
}

/// A module that decides nothing before its lock is free.
struct Hangs(Arc<Mutex<()>>);

impl CheckPeer for Hangs {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        drop(self.0.blocking_lock());
        Ok(None)
    }
}

fn asking(module: Hangs) -> Acceptor {
    let link = Link::new("hangs", Verifier::Peer(Box::new(module)));
    let mut settings = Settings::default();
    settings.refusal_delay = Duration::ZERO;
    Acceptor::new(Arc::new(Chain::new(vec![link]).unwrap())).with_settings(settings)
}

#[tokio::test]
async fn s_081_a_module_that_hangs_takes_no_thread_from_another_link() {
    let (stuck, free) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let (slow, quick) = (asking(Hangs(Arc::clone(&stuck))), asking(Hangs(free)));
    let held = stuck.lock().await;
    let bytes = hello().packet(Encoder::Rencodeplus).encode().unwrap();
    let mut waiting = Vec::new();
    // As many as run and wait at most.
    for _ in 0..512 {
        let (mut client, server) = meet(slow.clone());
        client.write_all(&bytes).await.unwrap();
        waiting.push((client, server));
    }
    while slow.lanes[0].running() < CHECKS_AT_ONCE {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let (mut client, server) = meet(quick);
    client.write_all(&bytes).await.unwrap();
    assert!(server.await.unwrap().is_ok());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // One more than run and wait: it is told at once to come again.
    while slow.lanes[0].waiting() < CHECKS_AT_ONCE {
        tokio::task::yield_now().await;
    }
    let (mut client, server) = meet(slow.clone());
    client.write_all(&bytes).await.unwrap();
    let turned = server.await.unwrap().unwrap_err();
    assert_eq!((turned.refusal.reason, turned.refusal.link), (Reason::Busy, Some((1, "hangs"))));
    drop(held);
    for (_client, server) in waiting {
        assert!(server.await.unwrap().is_ok(), "whoever waited is served in the end");
    }
}

/// Programs are dear: no more run than may, and whoever starts many waits behind everybody who starts few.
#[tokio::test]
async fn s_081_sources_take_turns_at_the_places_of_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let (go, log) = (folder.path().join("go"), folder.path().join("log"));
    let script = format!(
        "printenv COUNTERSIGN_REMOTE_ADDRESS >>{}; while ! test -e {}; do sleep 0.02; done",
        log.display(),
        go.display()
    );
    let acceptor = Acceptor::of(&[&format!("exec(command=\"sh -c '{script}'\",max-concurrent=1)")]).unwrap();
    let bytes = hello().packet(Encoder::Rencodeplus).encode().unwrap();
    let mut logins = Vec::new();
    for (number, host) in [7, 7, 7, 7, 8].into_iter().enumerate() {
        let peer =
            Peer::tcp(format!("192.0.2.{host}:5").parse().unwrap(), "192.0.2.1:10000".parse().unwrap());
        let (mut client, server) = meet_as(acceptor.clone(), peer);
        client.write_all(&bytes).await.unwrap();
        logins.push((client, server));
        while acceptor.lanes[0].running() + acceptor.lanes[0].waiting() <= number {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!((acceptor.lanes[0].running(), acceptor.lanes[0].waiting()), (1, 4));
    std::fs::write(&go, "").unwrap();
    for (_client, server) in logins {
        assert!(server.await.unwrap().is_ok(), "whoever waited is served in the end");
    }
    let ran = std::fs::read_to_string(&log).unwrap();
    let hosts: Vec<char> = ran.lines().filter_map(|address| address.chars().last()).collect();
    assert_eq!(hosts, ['7', '7', '8', '7', '7'], "{ran}");
}

#[tokio::test]
async fn s_081_a_check_that_nobody_waits_for_keeps_its_place_until_it_ends() {
    let stuck = Arc::new(Mutex::new(()));
    let slow = asking(Hangs(Arc::clone(&stuck)));
    let held = stuck.lock().await;
    let (mut client, server) = meet(slow.clone());
    client.write_all(&hello().packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
    while slow.lanes[0].running() == 0 {
        tokio::task::yield_now().await;
    }
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    assert_eq!(slow.lanes[0].running(), 1);
    drop(held);
    while slow.lanes[0].running() > 0 {
        tokio::task::yield_now().await;
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
