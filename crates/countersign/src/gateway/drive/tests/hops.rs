//! Hops in front of a socket: what they have to say, and what follows it (S-83).

use super::*;
use crate::{
    config::Listed,
    proto::{peer::Credentials, wire::proxy},
};

const HOP: &str = "192.0.2.1:40000";

/// A door with all the time that a busy machine needs.
fn patient(modules: &[&str]) -> Acceptor {
    acceptor(modules).with_settings(Settings::default())
}

fn behind(acceptor: Acceptor, hops: &str) -> Acceptor {
    acceptor.behind(Arc::new(hops.parse::<Listed>().unwrap()))
}

/// A connection from `peer`, and what `acceptor` makes of it.
fn from(peer: Peer, acceptor: Acceptor) -> (UnixStream, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    let (theirs, ours) = UnixStream::pair().unwrap();
    (theirs, tokio::spawn(async move { acceptor.accept(Stream::new(ours), peer).await }))
}

fn tcp(remote: &str) -> Peer {
    Peer::tcp(remote.parse().unwrap(), "192.0.2.2:10000".parse().unwrap())
}

fn hop() -> Peer {
    tcp(HOP)
}

fn announcing(remote: &str) -> proxy::Announced {
    proxy::Announced::Tcp { remote: remote.parse().unwrap(), local: "198.51.100.1:443".parse().unwrap() }
}

/// Of both versions: a client at 203.0.113.7.
fn headers() -> [Vec<u8>; 2] {
    let line = b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 443\r\n".to_vec();
    [line, proxy::write(&announcing("203.0.113.7:51234"), &[]).unwrap()]
}

#[tokio::test]
async fn s_083_the_client_is_where_its_hop_says_and_nothing_behind_the_header_is_lost() {
    for header in headers() {
        for piece in [1, 7, usize::MAX] {
            let (mut client, server) = from(hop(), behind(patient(&["allow"]), "192.0.2.0/24"));
            let mut bytes = header.clone();
            bytes.extend(hello().packet(Encoder::Rencodeplus).encode().unwrap());
            for some in bytes.chunks(piece.min(bytes.len())) {
                client.write_all(some).await.unwrap();
            }
            Challenge::read(read_packet(&mut client).await).unwrap();
            let response = Response::new(Secret::new(vec![b'0'; 128]), vec![7; 32]);
            let second = ClientHello { response: Some(response), ..hello() };
            let mut bytes = second.packet(Encoder::Rencodeplus).encode().unwrap();
            // One header is read and no other: this is the daemon's.
            bytes.extend(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n");
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut admitted = server.await.unwrap().unwrap();
            let peer = admitted.grant.peer();
            assert_eq!(peer.to_string(), "tcp:203.0.113.7:51234");
            assert!(!peer.hop && !peer.confidential);
            let mut rest = Vec::new();
            admitted.stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n");
        }
    }
}

#[tokio::test]
async fn s_083_tls_begins_behind_the_header_and_not_before_it() {
    let state = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::open(state.path(), "gate", std::time::SystemTime::now()).unwrap();
    let tls = Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap());
    let dial = ClientTls::new(&Trust::Unverified, None, OldestVersion::Tls13).unwrap();
    let silent = || {
        let acceptor = behind(patient(&["none"]), "192.0.2.1").with_protocol(Protocol::Stream);
        acceptor.requiring_tls(Arc::clone(&tls))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    for header in headers() {
        let (mut client, server) = from(hop(), silent());
        client.write_all(&header).await.unwrap();
        dial.connect(Stream::new(client), "gate", deadline).await.unwrap();
        let admitted = server.await.unwrap().unwrap();
        assert_eq!(admitted.grant.peer().to_string(), "tcp:203.0.113.7:51234");
        assert!(admitted.grant.peer().tls.is_some());
    }
    let (client, server) = from(hop(), silent());
    assert!(dial.connect(Stream::new(client), "gate", deadline).await.is_err());
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Malformed);
}

#[tokio::test]
async fn s_083_whoever_is_not_listed_is_not_heard_whatever_it_says() {
    let [line, binary] = headers();
    let local = |uid| Peer::unix(Some(Credentials::new(uid, uid)));
    for (peer, hops) in [
        (tcp("192.0.3.1:40000"), "192.0.2.0/24"),
        // The address that is announced lists nobody.
        (tcp("192.0.3.1:40000"), "203.0.113.7"),
        (hop(), "uid:0"),
        (local(1000), "uid:1001"),
        (Peer::unix(None), "uid:0"),
        (local(0), "192.0.2.0/24"),
    ] {
        for said in [&line[..], &binary, b""] {
            let (mut client, server) = from(peer.clone(), behind(patient(&["none"]), hops));
            // It may be gone already.
            let _ = client.write_all(said).await;
            let turned = server.await.unwrap().unwrap_err();
            assert_eq!(
                (turned.refusal.reason, turned.peer.to_string()),
                (Reason::PeerDenied, peer.to_string())
            );
            assert_eq!(read_to_end(&mut client).await, b"");
        }
    }
    let (mut client, server) = from(local(1000), behind(patient(&["none"]), "uid:1000"));
    client
        .write_all(&[&line[..], &hello().packet(Encoder::Rencode).encode().unwrap()].concat())
        .await
        .unwrap();
    let admitted = server.await.unwrap().unwrap();
    // Nothing of the hop is left: neither its user nor its socket's confidentiality.
    assert!(admitted.grant.peer().credentials().is_none() && !admitted.grant.peer().confidential);
}

#[tokio::test]
async fn s_083_a_hop_that_does_not_say_who_is_there_is_refused_without_an_answer() {
    let mut damaged = headers()[1].clone();
    damaged[16] ^= 1;
    let unnamed = [proxy::Announced::Unix, proxy::Announced::Somebody];
    let [unix, somebody] = unnamed.map(|announced| proxy::write(&announced, &[]).unwrap());
    for said in [
        hello().packet(Encoder::Rencodeplus).encode().unwrap(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UDP4 203.0.113.7 198.51.100.1 1 2\r\n".to_vec(),
        damaged,
        unix,
        somebody,
    ] {
        let (mut client, server) = from(hop(), behind(patient(&["none"]), "192.0.2.1"));
        client.write_all(&said).await.unwrap();
        let turned = server.await.unwrap().unwrap_err();
        assert_eq!(turned.refusal.reason, Reason::Malformed, "{}", said.escape_ascii());
        assert_eq!(turned.peer.to_string(), "tcp:192.0.2.1:40000");
        assert_eq!(read_to_end(&mut client).await, b"");
    }
    for cut in [1, 20, 27] {
        for header in headers() {
            let (mut client, server) = from(hop(), behind(patient(&["none"]), "192.0.2.1"));
            client.write_all(&header[..cut]).await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::PeerLeft);
        }
    }
}

/// The time that a header takes is the login's: what follows it has no more.
#[tokio::test]
async fn s_001_s_083_a_header_has_the_one_deadline_of_the_handshake() {
    let door = || behind(acceptor(&["none"]), "192.0.2.1");
    let (_silent, server) = from(hop(), door());
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Timeout);
    for header in headers() {
        let (mut client, server) = from(hop(), door());
        let slowly = header.clone();
        let trickling = tokio::spawn(async move {
            // Complete after a second, where 600 ms are allowed.
            let pause = Duration::from_secs(1) / u32::try_from(slowly.len()).unwrap();
            for byte in slowly {
                tokio::time::sleep(pause).await;
                if client.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        });
        assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::Timeout);
        trickling.await.unwrap();
        // What is there at once is too late when the time was up before.
        let door = || behind(patient(&["none"]), "192.0.2.1");
        let (mut client, ours) = UnixStream::pair().unwrap();
        client.write_all(&header).await.unwrap();
        client.write_all(&hello().packet(Encoder::Rencode).encode().unwrap()).await.unwrap();
        let (mut stream, past) = (Stream::new(ours), now() - Duration::from_secs(15));
        let turned = door().announced(&mut stream, hop(), past).await.unwrap_err();
        assert_eq!(turned.refusal.reason, Reason::Timeout);
        let peer = door().announced(&mut stream, hop(), now()).await.unwrap();
        let Err(turned) = door().meet(stream, peer, (past, "past")).await else { panic!("the time was up") };
        assert_eq!(turned.refusal.reason, Reason::Timeout);
    }
}

#[tokio::test]
async fn s_083_a_hop_that_comes_for_itself_is_the_hop_and_nobody_else() {
    let (mut client, server) = from(hop(), behind(patient(&["none"]), "192.0.2.1"));
    let mut bytes = proxy::write(&proxy::Announced::Hop, &[]).unwrap();
    bytes.extend(hello().packet(Encoder::Rencode).encode().unwrap());
    client.write_all(&bytes).await.unwrap();
    let admitted = server.await.unwrap().unwrap();
    let peer = admitted.grant.peer();
    assert!(peer.hop && peer.to_string() == "tcp:192.0.2.1:40000");
    assert!(admitted.grant.identity().is_none());
}
