//! Every way from one wire to another, and whoever asks for a way that there is not.

use super::*;
use crate::{
    config::{Config, Layers, Paths, WebSocketOptions},
    gateway::Gateway,
    proto::chain::CheckPassword,
    proto::wire::websocket::{Opcode, write_frame},
    proto::wire::xpra::{Caps, Value, cipher::Cipher},
    transport::{self, Address, WebSocket, upgrade_to_websocket},
};

/// The wires that one connection may become, each in clear and under Xpra's encryption.
const WAYS: [(&str, bool, bool); 4] = [
    ("packets", false, false),
    ("TLS", true, false),
    ("WebSocket", false, true),
    ("WebSocket in TLS", true, true),
];

#[tokio::test]
async fn s_066_every_upgrade_of_every_socket_has_the_chain_and_the_encryption_of_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a key of this test").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (chain, passes) in [("fail", false), ("none", true)] {
        let mut layers = Layers::default();
        // Which of the ways lead in at a socket of that kind.
        let kinds = [
            ("bind", [true; 4]),
            ("bind-tcp", [true; 4]),
            ("bind-ssl", [false, true, false, true]),
            ("bind-ws", [false, false, true, false]),
            ("bind-wss", [false, false, false, true]),
        ];
        let both = [false, true];
        let sockets: Vec<_> =
            kinds.iter().flat_map(|(kind, open)| both.map(|sealed| (*kind, *open, sealed))).collect();
        for (kind, _, sealed) in &sockets {
            let address = match *kind {
                "bind" => {
                    format!("{}-{chain}-{sealed},protocols=plain+tls", folder.path().join("door").display())
                }
                _ => "127.0.0.1:0".to_owned(),
            };
            let sealing =
                if *sealed { format!(",encryption=AES,keyfile={}", key.display()) } else { String::new() };
            layers.flag(kind, &format!("{address},auth={chain}{sealing}")).unwrap();
        }
        layers.flag("state-dir", folder.path().join("state").to_str().unwrap()).unwrap();
        layers.flag("refusal-delay", "100ms").unwrap();
        // Many of these ways in fail on purpose.
        layers.flag("penalties", "no").unwrap();
        let paths = Paths::new(true, "/nonexistent", "/nonexistent", "/nonexistent");
        let config = Config::new(&layers, &Registry::builtin(), &paths).unwrap();
        let gateway = Gateway::open(&config).await.unwrap();
        let doors: Vec<(String, Address)> =
            gateway.sockets().map(|(name, address)| (name.to_owned(), address.clone())).collect();
        assert_eq!(doors.len(), sockets.len());
        let running = tokio::spawn(gateway.run(std::future::pending(), std::future::pending()));
        for ((kind, open, sealed), (_, address)) in sockets.iter().zip(&doors) {
            for ((way, tls, websocket), open) in WAYS.into_iter().zip(open) {
                for client_seals in both {
                    let told = enter(address, tls, websocket, client_seals).await;
                    let what = format!("{way} at {kind} with {chain}, sealed: {sealed}, {client_seals}");
                    let expected = match (open, client_seals == *sealed, passes) {
                        (false, ..) => None,
                        (true, true, true) => Some("hello"),
                        (true, true, false) => Some("authentication failed"),
                        (true, false, _) if *sealed => Some("this socket takes AES only"),
                        (true, false, _) => Some("no acceptable encryption is offered"),
                    };
                    match (told, expected) {
                        (None, None) => {}
                        (Some(told), Some(expected)) => assert!(told.starts_with(expected), "{what}: {told}"),
                        (told, expected) => panic!("{what}: {told:?}, not {expected:?}"),
                    }
                }
            }
        }
        running.abort();
    }
}

/// What a client is told that comes that way and asks who it is: `hello`, or the reason of its end. `None` if the way is
/// not there.
async fn enter(address: &Address, tls: bool, websocket: bool, seals: bool) -> Option<String> {
    let mut stream = transport::connect(address, Duration::from_secs(5)).await.unwrap();
    if tls {
        let dial = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        stream = dial.connect(stream, "localhost", deadline).await.ok()?.into_stream_of_judged_server();
    }
    if websocket {
        stream = upgrade_to_websocket(stream, address, "/").await.ok()?;
    }
    let mut asks = ClientHello { request: Some("info".into()), ..hello() }.packet(Encoder::Rencodeplus);
    if seals {
        let key = Secret::new("a key of this test");
        stream = stream.under(transport::Encryption::new(Cipher::default(), &key).unwrap());
        let announced = Value::from(stream.sealed()?.announce(Caps::default()).await.unwrap());
        if let (Some(Value::Dict(caps)), Value::Dict(entries)) = (asks.items.first_mut(), announced) {
            caps.extend(entries);
        }
    }
    stream.write_all(&asks.encode().unwrap()).await.ok()?;
    // What is encrypted may still be here.
    stream.flush().await.ok()?;
    let (decoder, mut bytes) = (Decoder::new(Limits::default()), Vec::new());
    loop {
        if let Some((Reply::Packet(packet), _)) = decoder.decode_reply(&bytes).ok()? {
            return Some(match packet.kind {
                Kind::Disconnect => Disconnect::read(&packet).unwrap().reasons.join(" "),
                kind => kind.name().to_owned(),
            });
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => return None,
            Ok(_) => {}
            // A refusal that came in clear although this client wants none.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && stream.sealed().is_some() => {
                stream.sealed()?.read_in_clear();
            }
            Err(_) => return None,
        }
    }
}

fn taking(options: WebSocketOptions) -> Acceptor {
    acceptor(&["allow"]).taking_websocket(options)
}

#[tokio::test]
async fn s_018_whoever_asks_for_no_websocket_is_answered_in_http_and_let_go() {
    let mut options = WebSocketOptions::new(true);
    options.path = "/here".into();
    options.origins = vec!["https://app.example".into()];
    let upgrade = |path: &str, field: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: binary\r\n{field}\r\n"
        )
    };
    let page = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (asked, status, reason) in [
        (page.to_owned(), "200 OK", Reason::PeerLeft),
        (page.replace("GET", "HEAD"), "200 OK", Reason::PeerLeft),
        (page.replace(" / ", " /here?x=y "), "200 OK", Reason::PeerLeft),
        (page.replace(" / ", " /favicon.ico "), "404 Not Found", Reason::PeerLeft),
        (page.replace("GET", "POST"), "405 Method Not Allowed", Reason::PeerLeft),
        (page.replace("Host: x", "bad field"), "400 Bad Request", Reason::Malformed),
        (upgrade("/", ""), "404 Not Found", Reason::Malformed),
        (upgrade("/here", "").replace("13", "8"), "426 Upgrade Required", Reason::Malformed),
        (upgrade("/here", "").replace("binary", "text"), "400 Bad Request", Reason::Malformed),
        (upgrade("/here", "Origin: https://evil.example\r\n"), "403 Forbidden", Reason::PeerDenied),
        (upgrade("/here", "Origin: null\r\n"), "403 Forbidden", Reason::PeerDenied),
        (upgrade("/here", &format!("X: {}\r\n", "y".repeat(17_000))), "431 Request", Reason::Malformed),
        (upgrade("/here", &"X: y\r\n".repeat(100)), "431 Request", Reason::Malformed),
    ] {
        let (mut client, server) = meet(taking(options.clone()));
        client.write_all(asked.as_bytes()).await.unwrap();
        let told = String::from_utf8(read_to_end(&mut client).await).unwrap();
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{asked}: {told}");
        assert!(told.contains("\r\nConnection: close\r\n"), "{told}");
        // The page says what this is and how to log in; nothing else does, and none of them which version it is.
        let is_page = status == "200 OK" && !asked.starts_with("HEAD");
        assert_eq!(told.contains("countersign"), is_page, "{told}");
        assert!(!told.contains(env!("CARGO_PKG_VERSION")), "{told}");
        assert_eq!(told.ends_with("\r\n\r\n"), asked.starts_with("HEAD"), "{told}");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, reason, "{asked}");
    }
    for allowed in ["", "Origin: https://app.example\r\n", "Origin: HTTPS://App.example\r\n"] {
        let (mut client, _server) = meet(taking(options.clone()));
        client.write_all(upgrade("/here?query", allowed).as_bytes()).await.unwrap();
        let mut told = [0; 12];
        client.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 101", "{allowed}");
    }
}

#[tokio::test]
async fn s_018_who_says_an_origin_has_to_mask_and_others_need_not() {
    let mut options = WebSocketOptions::new(false);
    options.origins = vec!["https://app.example".into()];
    for (origin, mask, taken) in [
        ("", None, true),
        ("", Some([1, 2, 3, 4]), true),
        ("Origin: https://app.example\r\n", Some([1, 2, 3, 4]), true),
        ("Origin: https://app.example\r\n", None, false),
    ] {
        let (mut client, server) = meet(taking(options.clone()));
        let mut sent = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: chat, binary\r\n{origin}\r\n"
        )
        .into_bytes();
        // S-17: what comes with the request is behind it. One packet may be in several frames.
        let hello = hello().packet(Encoder::Rencodeplus).encode().unwrap();
        for piece in hello.chunks(100) {
            write_frame(&mut sent, Opcode::Binary, piece, mask);
            write_frame(&mut sent, Opcode::Ping, b"", mask);
        }
        client.write_all(&sent).await.unwrap();
        let mut told = Vec::new();
        while client.read_buf(&mut told).await.is_ok_and(|read| read > 0) {
            if told.windows(9).any(|word| word == b"challenge") {
                break;
            }
        }
        let challenged = told.windows(9).any(|word| word == b"challenge");
        assert_eq!(challenged, taken, "{origin} {mask:?}");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::PeerLeft, "{origin} {mask:?}");
    }
}

#[tokio::test]
async fn s_001_half_a_head_and_a_trickle_in_frames_end_at_the_deadline() {
    for upgraded in [false, true] {
        let (client, server) = meet(taking(WebSocketOptions::new(false)));
        let start = Instant::now();
        let mut client: Stream = Stream::new(client);
        if upgraded {
            client = upgrade_to_websocket(client, &Address::Abstract("x".into()), "/").await.unwrap();
        } else {
            client.write_all(b"GET / HTTP/1.1\r\nHost: x").await.unwrap();
        }
        let trickle = tokio::spawn(async move {
            while client.write_all(b"y").await.is_ok() && client.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let turned = server.await.unwrap().unwrap_err();
        assert!(start.elapsed() < Duration::from_millis(1800), "{turned}");
        let expected = if upgraded { [Reason::Malformed, Reason::Timeout] } else { [Reason::Timeout; 2] };
        assert!(expected.contains(&turned.refusal.reason), "{turned}");
        trickle.abort();
    }
}

/// A module that has to see the password itself.
struct Cleartext;

impl CheckPassword for Cleartext {
    fn check(&self, _: &Peer, _: &Claim, _: &Secret) -> Result<Option<Identity>, Refusal> {
        Ok(None)
    }
}

#[tokio::test]
async fn s_033_a_websocket_is_as_confidential_as_what_carries_it() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let masked = ClientHello { digests: vec!["xor".into()], ..hello() };
    let anywhere: std::net::SocketAddr = "192.0.2.1:1".parse().unwrap();
    for secured in [false, true] {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let link = Link::new("cleartext", Verifier::Password(Box::new(Cleartext)));
        let acceptor = Acceptor::new(Arc::new(Chain::new(vec![link]).unwrap()))
            .with_settings(acceptor(&["none"]).settings)
            .taking_websocket(WebSocketOptions::new(true));
        let acceptor = if secured { acceptor.requiring_tls(Arc::clone(&tls)) } else { acceptor };
        let server =
            tokio::spawn(
                async move { acceptor.accept(Stream::new(ours), Peer::tcp(anywhere, anywhere)).await },
            );
        let mut client = Stream::new(theirs);
        if secured {
            let dial = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            client = dial.connect(client, "gate", deadline).await.unwrap().into_stream_of_judged_server();
        }
        client = upgrade_to_websocket(client, &Address::Abstract("x".into()), "/").await.unwrap();
        client.write_all(&masked.packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
        client.flush().await.unwrap();
        let packet = read_packet(&mut client).await;
        if secured {
            assert_eq!(Challenge::read(packet).unwrap().digest, "xor");
        } else {
            assert_eq!(packet.kind, Kind::Disconnect);
            drop(client);
            let refusal = server.await.unwrap().unwrap_err().refusal;
            assert_eq!(refusal.reason, Reason::NotConfidential, "{refusal}");
        }
    }
}

#[tokio::test]
async fn a_silent_protocol_is_spoken_inside_a_websocket_that_is_required() {
    let silent = acceptor(&["none"]).with_protocol(Protocol::Stream);
    let (client, server) = meet(silent.taking_websocket(WebSocketOptions::new(true)));
    let client =
        upgrade_to_websocket(Stream::new(client), &Address::Abstract("x".into()), "/").await.unwrap();
    let mut admitted = server.await.unwrap().unwrap();
    assert!(matches!(admitted.speech, Speech::Silent) && admitted.stream.is_websocket());
    let mut client = client;
    client.write_all(b"GET / of the daemon's own").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    admitted.stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"GET / of the daemon's own");
}

#[tokio::test]
async fn there_is_no_websocket_within_another_nor_tls_within_one() {
    for sent in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0, 5]] {
        let (client, server) = meet(taking(WebSocketOptions::new(false)));
        let mut client =
            upgrade_to_websocket(Stream::new(client), &Address::Abstract("x".into()), "/").await.unwrap();
        client.write_all(sent).await.unwrap();
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told).await;
        assert!(!told.starts_with(b"HTTP"), "{told:?}");
        drop(client);
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
    }
}

#[tokio::test]
async fn frames_without_an_upgrade_are_no_protocol() {
    let (client, server) = meet(taking(WebSocketOptions::new(false)));
    let mut client = Stream::new(WebSocket::client(Stream::new(client)));
    client.write_all(&hello().packet(Encoder::Rencodeplus).encode().unwrap()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
}

#[test]
fn s_065_a_module_that_reads_http_is_a_start_error_where_there_is_none() {
    let open = |kind: &str, text: &str| {
        let mut layers = Layers::default();
        layers.flag(kind, &format!("{text},auth=http-header(user-header=X-User)")).unwrap();
        let paths = Paths::new(true, "/nonexistent", "/nonexistent", "/nonexistent");
        Config::new(&layers, &Registry::builtin(), &paths).map(drop)
    };
    for (kind, text) in [
        ("bind-tcp", ":1,websocket=no"),
        ("bind-tcp", ":1,protocol=stream"),
        ("bind-ssl", ":1,protocol=xpra"),
        ("bind-rpc", ":1"),
    ] {
        let error = open(kind, text).unwrap_err();
        assert!(error.to_string().contains("it reads the HTTP request"), "{kind} {text}: {error}");
    }
    for (kind, text) in
        [("bind-ws", ":1"), ("bind-wss", ":1,protocol=stream"), ("bind-tcp", ":1"), ("bind", "/x")]
    {
        assert!(open(kind, text).is_ok(), "{kind} {text}");
    }
}
