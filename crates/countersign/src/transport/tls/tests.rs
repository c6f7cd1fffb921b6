//! Both ends against each other over a socket pair, and the server against raw bytes.

use std::{path::PathBuf, time::Duration};

use rustls::sign::CertifiedKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::*;
use crate::{Peer, transport::Stream};

fn file(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name);
    std::fs::read(path).unwrap()
}

/// A key that somebody else made, with a certificate in a shape that real clients still have.
fn kept(name: &str) -> Arc<CertifiedKey> {
    certified_key(name, &file(&format!("{name}.pem")), &file(&format!("{name}_key.pem"))).unwrap()
}

/// A new key and certificate of `name`.
fn made(name: &str) -> Arc<CertifiedKey> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    certified_key(name, cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap()
}

fn soon() -> std::time::Instant {
    std::time::Instant::now() + Duration::from_secs(10)
}

/// A client from before TLS 1.3, which signs in another way.
fn speaking_1_2_only(identity: Arc<CertifiedKey>) -> ClientTls {
    let mut client = anyone(None, OldestVersion::Tls12);
    client.replace_config(
        rustls::ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(client::by_key(None))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity))),
    );
    client
}

type Both = (Result<(Stream, Peer), TlsError>, Result<Connected, TlsError>);

async fn handshake(server: &ServerTls, client: &ClientTls, name: &str) -> Both {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::join!(
        server.accept(Stream::new(ours), Peer::unix(None), soon()),
        client.connect(Stream::new(theirs), name, soon())
    )
}

fn anyone(identity: Option<Arc<CertifiedKey>>, oldest: OldestVersion) -> ClientTls {
    ClientTls::new(&Trust::Unverified, identity, oldest).unwrap()
}

#[tokio::test]
async fn s_039_every_shape_of_client_certificate_is_taken_and_its_fingerprint_reported() {
    const SHAPES: [&str; 7] = [
        "v1",
        "v1-expired",
        "v1-negative-serial",
        "v3-client-auth",
        "v3-empty-san",
        "v3-empty-san-negative-serial",
        "v3-extensions",
    ];
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    for shape in SHAPES {
        let identity = kept(shape);
        let modern = anyone(Some(Arc::clone(&identity)), OldestVersion::Tls13);
        for client in [modern, speaking_1_2_only(Arc::clone(&identity))] {
            let (accepted, connected) = handshake(&server, &client, "localhost").await;
            connected.unwrap();
            let certificate = accepted.unwrap().1.certificate.expect(shape);
            assert_eq!(*certificate.der, **identity.cert.first().unwrap(), "{shape}");
        }
    }
}

#[tokio::test]
async fn s_039_what_a_client_sends_after_its_certificate_is_handed_on() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let (own, after) = (made("client"), made("authority"));
    let chain = own.cert.iter().chain(&after.cert).cloned().collect();
    let both = Arc::new(CertifiedKey::new(chain, Arc::clone(&own.key)));
    for (identity, sent) in [(own, 0), (both, 1)] {
        let (accepted, connected) =
            handshake(&server, &anyone(Some(identity), OldestVersion::Tls13), "localhost").await;
        connected.unwrap();
        let certificate = accepted.unwrap().1.certificate.unwrap();
        assert_eq!(certificate.intermediates.len(), sent);
        assert!(certificate.intermediates.iter().all(|der| **der == **after.cert.first().unwrap()));
    }
}

#[tokio::test]
async fn s_037_tls_1_2_is_spoken_only_where_the_listener_says_so() {
    let old = speaking_1_2_only(kept("v1"));
    let modern = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let (refused, _) = handshake(&modern, &old, "localhost").await;
    assert_eq!(refused.unwrap_err().refusal().reason, Reason::Malformed);

    let lenient = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    let (accepted, connected) = handshake(&lenient, &old, "localhost").await;
    let peer = accepted.unwrap().1;
    let facts = peer.tls.unwrap();
    assert_eq!(facts.version, "TLSv1.2");
    assert!(facts.cipher.starts_with("TLS_ECDHE_"), "{}", facts.cipher);
    assert!(peer.certificate.is_some());
    // S-35: no binding where uniqueness cannot be told.
    assert!(peer.channel_binding.is_none() && connected.unwrap().channel_binding().is_none());
}

#[tokio::test]
async fn s_037_older_versions_and_weak_ciphers_are_refused() {
    // Version, cipher suites: TLS 1.0 and 1.1; then 1.2 with CBC, RSA key exchange, NULL.
    const CASES: [(u16, u16); 5] =
        [(0x0301, 0xc02b), (0x0302, 0xc02b), (0x0303, 0xc009), (0x0303, 0x009c), (0x0303, 0x0002)];
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    for (version, suite) in CASES {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&client_hello(version, suite)).await.unwrap();
        let refused = server.accept(Stream::new(ours), Peer::unix(None), soon()).await.unwrap_err();
        assert_eq!(refused.refusal().reason, Reason::Malformed, "{version:04x} {suite:04x}");
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert, and nothing else");
    }
    // The same hello with a suite that is fine goes on, so that it is the suite that was refused.
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&client_hello(0x0303, 0xc02b)).await.unwrap();
    let accept = server.accept(Stream::new(ours), Peer::unix(None), soon());
    let mut first = [0];
    tokio::select! {
        _ = accept => panic!("the handshake cannot end"),
        read = theirs.read_exact(&mut first) => { read.unwrap(); }
    }
    assert_eq!(first, [22], "a handshake record");
}

/// A hello of one suite, with the extensions that TLS 1.2 with P-256 needs.
fn client_hello(version: u16, suite: u16) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2]);
    body.extend(suite.to_be_bytes());
    body.extend([1, 0]);
    let groups = [0x00, 0x0a, 0, 4, 0, 2, 0, 23];
    let formats = [0x00, 0x0b, 0, 2, 1, 0];
    let signatures = [0x00, 0x0d, 0, 4, 0, 2, 4, 3];
    let secret = [0x00, 0x17, 0, 0];
    let extensions = [&groups[..], &formats, &signatures, &secret].concat();
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

/// A thief who copied the certificate and signs with a key of his own.
#[tokio::test]
async fn s_039_a_certificate_without_its_key_is_refused() {
    let stolen = kept("v1").cert.clone();
    let thief = Arc::new(CertifiedKey::new(stolen, Arc::clone(&made("thief").key)));
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    for client in [anyone(Some(Arc::clone(&thief)), OldestVersion::Tls13), speaking_1_2_only(thief)] {
        let (accepted, _) = handshake(&server, &client, "localhost").await;
        assert_eq!(accepted.unwrap_err().refusal().reason, Reason::Malformed);
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_accepted_and_shows_none() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let (accepted, connected) = handshake(&server, &anyone(None, OldestVersion::Tls13), "gate.example").await;
    let (mut ours, peer) = accepted.unwrap();
    assert!(peer.certificate.is_none() && peer.confidential);
    let facts = peer.tls.unwrap();
    assert_eq!((facts.version, facts.server_name.as_deref()), ("TLSv1.3", Some("gate.example")));
    assert!(facts.cipher.starts_with("TLS_AES_") || facts.cipher.starts_with("TLS_CHACHA20_"));
    let mut theirs = connected.unwrap().into_stream_of_judged_server();
    theirs.write_all(b"hello").await.unwrap();
    let mut text = [0; 5];
    ours.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
}

/// Our own client leaves so to ask its user about a server that it meets for the first time.
#[tokio::test]
async fn a_client_that_does_not_take_our_certificate_has_left_and_broken_no_rule() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    let elsewhere = Trust::Pin(Fingerprint([1; 32]));
    for oldest in [OldestVersion::Tls13, OldestVersion::Tls12] {
        let client = ClientTls::new(&elsewhere, None, oldest).unwrap();
        let (accepted, connected) = handshake(&server, &client, "localhost").await;
        assert!(connected.is_err());
        let refusal = accepted.unwrap_err().refusal();
        assert_eq!(refusal.reason, Reason::PeerLeft, "{refusal}");
        assert!(refusal.cause.contains("alert"), "the log says why: {refusal}");
    }
}

/// What a relay between two connections sees are two bindings (RFC 9266).
#[tokio::test]
async fn s_035_both_ends_have_the_same_binding_and_each_connection_another() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let client = anyone(None, OldestVersion::Tls13);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (accepted, connected) = handshake(&server, &client, "localhost").await;
        let binding = accepted.unwrap().1.channel_binding.unwrap();
        assert_eq!(binding.len(), 32);
        assert_eq!(Some(&binding), connected.unwrap().channel_binding());
        seen.push(binding);
    }
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn s_043_a_server_is_known_by_authority_and_name_or_by_fingerprint_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let identity =
        crate::trust::ServerIdentity::open(folder.path(), "localhost", std::time::SystemTime::now()).unwrap();
    let server = ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap();
    let ca = Trust::CaFile(folder.path().join("tls/root.crt"));
    let key = identity.key_fingerprint().unwrap();
    let cases = [
        (ca.clone(), "localhost", true),
        (ca.clone(), "127.0.0.1", true),
        (ca, "elsewhere.example", false),
        (Trust::Pin(identity.fingerprint()), "elsewhere.example", true),
        (Trust::Pin(key), "elsewhere.example", true),
        (Trust::Pin(Fingerprint([1; 32])), "localhost", false),
    ];
    for (trust, name, known) in cases {
        let client = ClientTls::new(&trust, None, OldestVersion::Tls13).unwrap();
        let (_, connected) = handshake(&server, &client, name).await;
        assert_eq!(connected.is_ok(), known, "{trust:?} {name}");
        if let Ok(connected) = connected {
            assert!(connected.is_verified() && connected.into_stream().is_ok());
        }
    }
    let (_, connected) = handshake(&server, &anyone(None, OldestVersion::Tls13), "localhost").await;
    let connected = connected.unwrap();
    assert_eq!(connected.key_fingerprint(), Some(key));
    assert_eq!(Fingerprint(connected.certificate().fingerprint), identity.fingerprint());
    assert!(!connected.is_verified());
    assert!(matches!(connected.into_stream(), Err(TlsError::Unverified)));
}

/// S-40: what a client proved on one connection never counts on another.
#[tokio::test]
async fn s_040_there_is_no_resumption_and_no_early_data() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls12).unwrap();
    let mut resuming = anyone(Some(kept("v1")), OldestVersion::Tls12);
    resuming.allow_resumption();
    for _ in 0..2 {
        let (accepted, connected) = handshake(&server, &resuming, "localhost").await;
        let (mut ours, _) = accepted.unwrap();
        let mut theirs = connected.unwrap().into_stream_of_judged_server();
        ours.write_all(b"x").await.unwrap();
        // Tickets would arrive before this byte.
        theirs.read_exact(&mut [0]).await.unwrap();
        let crate::transport::Wire::TlsServer(tls) = ours.wire() else { panic!("a TLS stream") };
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn s_001_silence_and_noise_end_at_the_deadline_or_at_once() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let soon = std::time::Instant::now() + Duration::from_millis(50);
    let error = server.accept(Stream::new(ours), Peer::unix(None), soon).await.unwrap_err();
    assert_eq!(error.refusal().reason, Reason::Timeout);

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = server.accept(Stream::new(ours), Peer::unix(None), super::tests::soon()).await.unwrap_err();
    assert_eq!(error.refusal().reason, Reason::Malformed);

    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let error = server.accept(Stream::new(ours), Peer::unix(None), super::tests::soon()).await.unwrap_err();
    assert_eq!(error.refusal().reason, Reason::PeerLeft);
}

#[tokio::test]
async fn s_042_a_replaced_certificate_is_shown_from_the_next_connection_on() {
    let server = ServerTls::new(made("localhost"), OldestVersion::Tls13).unwrap();
    let client = anyone(None, OldestVersion::Tls13);
    let next = made("localhost");
    for replace in [false, true] {
        if replace {
            server.replace(Arc::clone(&next)).unwrap();
        }
        let (_, connected) = handshake(&server, &client, "localhost").await;
        let shown = connected.unwrap().certificate().fingerprint;
        assert_eq!(Fingerprint(shown) == Fingerprint::of_certificate(&next.cert[0]), replace);
    }
}

#[test]
fn fingerprints_are_read_as_openssl_writes_them_and_written_in_lower_case() {
    let fingerprint = Fingerprint::of_certificate(b"x");
    let text = fingerprint.to_string();
    assert_eq!(text.parse::<Fingerprint>().unwrap(), fingerprint);
    let colons: Vec<String> = text
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8(pair.to_vec()).unwrap())
        .collect();
    assert_eq!(colons.join(":").parse::<Fingerprint>().unwrap(), fingerprint);
    for bad in ["", "12", "zz", &text[1..], &format!("{text}0")] {
        assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
    }
}
