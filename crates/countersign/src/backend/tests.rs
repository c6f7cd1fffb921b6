//! Each kind of backend, opened for a real grant, and what it is told.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Instant as Clock};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{TcpListener, UnixListener},
    time::{sleep, timeout},
};

use super::*;
use crate::{
    Chain, Claim, Identity, Peer, Refusal, Username, Verifier,
    proto::{
        chain::{CheckPeer, Link},
        peer::{Certificate, Credentials, TlsFacts},
        server::{Action, Conversation, Settings},
    },
    transport::tls::{OldestVersion, ServerTls},
    trust::ServerIdentity,
};

struct Names(Option<&'static str>);

impl CheckPeer for Names {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        let named =
            |name| Username::parse(name).map(|name| Identity::new(name).with_ids(Some(1000), Some(100)));
        self.0.map(named).transpose()
    }
}

/// A grant is only made by a chain that passed, so one is run.
fn grant(peer: Peer, module: &'static str, name: Option<&'static str>) -> Grant {
    let links = vec![
        Link::new("hosts", Verifier::Peer(Box::new(Names(None)))),
        Link::new(module, Verifier::Peer(Box::new(Names(name)))),
    ];
    let chain = Arc::new(Chain::new(links).unwrap());
    let mut conversation =
        Conversation::new(chain, Arc::new(peer), Settings::default(), |_: &mut [u8]| {}, Clock::now());
    conversation.begin_silent(Clock::now());
    loop {
        match conversation.poll() {
            Some(Action::Check(check)) => conversation.handle_checked(Clock::now(), check.run()),
            Some(Action::Accept(grant)) => return grant,
            other => panic!("{other:?}"),
        }
    }
}

fn alice() -> Grant {
    grant(tcp("192.0.2.7:51234", "198.51.100.1:22"), "peercred", Some("alice"))
}

fn tcp(remote: &str, local: &str) -> Peer {
    Peer::tcp(remote.parse().unwrap(), local.parse().unwrap())
}

fn session() -> SessionFacts {
    SessionFacts::new("session-1", "tcp")
}

fn backend(text: &str) -> Backend {
    text.parse().unwrap_or_else(|error: ConfigError| panic!("{text}: {error}"))
}

async fn open(text: &str) -> Result<Opened, BackendError> {
    backend(text).open(&alice(), &session()).await
}

#[test]
fn every_kind_is_read_and_written_back() {
    for text in [
        "builtin:whoami",
        "unix:/run/app.sock",
        "unix:@app",
        "tcp:localhost:80",
        "tcp:[::1]:80,proxy-protocol=v2",
        "tls:db.example:5432",
        "xpra+unix:/run/xpra.sock",
        "xpra+tcp:127.0.0.1:14500,proxy-protocol=v2",
        "exec:/bin/cat",
    ] {
        if text.starts_with("tls:") {
            let pinned = format!("{text},pin={},server-name=other.example", "ab".repeat(32));
            assert_eq!(backend(&pinned).to_string(), text);
        } else {
            assert_eq!(backend(text).to_string(), text);
        }
    }
    assert!(backend("xpra+unix:/x").wants_xpra_hello() && !backend("unix:/x").wants_xpra_hello());
    assert_eq!(backend("unix:'/run/a, b.sock'").to_string(), "unix:/run/a, b.sock");
}

#[test]
fn s_065_what_is_misspelt_unknown_or_unclear_is_an_error_with_its_repair() {
    let cases = [
        ("unx:/run/app.sock", "did you mean `unix`?"),
        ("xpra+unx:/x", "did you mean `xpra+unix`?"),
        ("builtin:whoam", "did you mean `whoami`?"),
        ("tcp:h:1,proxy-protocl=v2", "did you mean `proxy-protocol`?"),
        ("tcp:h:1,proxy-protocol=v1", "write proxy-protocol=v2"),
        ("tcp:h:1,proxy-protocol", "write proxy-protocol=VALUE"),
        ("tcp:h:1,proxy-protocol=v2,proxy_protocol=v2", "write it once"),
        ("tcp:h:1,pin=aa", "leave it out, or write tls:HOST:PORT"),
        ("tls:h:1,pin=aa", "write the SHA-256 that `openssl x509 -noout -fingerprint -sha256` prints"),
        ("tls:h:1,ca=/x,pin=aa", "leave one of the two out"),
        ("builtin:whoami,proxy-protocol=v2", "leave proxy-protocol out"),
        ("/run/app.sock", "write it as in unix:/run/app.sock, tcp:HOST:PORT or exec:COMMAND"),
        ("", "write it as in unix:/run/app.sock, tcp:HOST:PORT or exec:COMMAND"),
        ("unix:run/app.sock", "write unix:/PATH, or unix:@NAME for an abstract socket"),
        ("exec:cat", "write exec:/PATH/TO/PROGRAM ARGUMENT ..."),
        ("exec:/bin/cat 'x", "close it, or put a \\ before a quote that is meant"),
    ];
    for (text, fix) in cases {
        let error = text.parse::<Backend>().expect_err(text);
        assert_eq!(error.fix(), fix, "{text}");
    }
    for text in [
        "tcp:h",
        "tcp:h:0",
        "tcp:h:65536",
        "tcp:h:",
        "tcp::1",
        "tcp:a b:1",
        "tcp:u@h:1",
        "tcp:[::1:1",
        "tcp:::1:1",
    ] {
        assert!(text.parse::<Backend>().is_err(), "{text}");
    }
}

#[test]
fn s_088_neither_arguments_nor_values_are_printed() {
    let printed = format!("{0} {0:?}", backend("exec:/bin/app --password hunter2"));
    assert!(!printed.contains("hunter2"), "{printed}");
    for text in ["tls:h:1,pin=hunter2", "tcp:h:1,proxy-protocol=hunter2", "tcp:hunter 2:1", "exec:hunter2"] {
        let error = text.parse::<Backend>().expect_err(text);
        assert!(!format!("{error}{}", error.fix()).contains("hunter"), "{error}");
    }
}

async fn whoami(grant: &Grant) -> (Value, BufReader<Stream>) {
    let opened = Backend::whoami().open(grant, &session()).await.unwrap();
    let mut stream = BufReader::new(opened.stream);
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    (serde_json::from_str(&line).unwrap(), stream)
}

#[tokio::test]
async fn whoami_says_who_is_there_and_echoes_until_the_end() {
    let (facts, mut stream) = whoami(&alice()).await;
    assert_eq!((&facts["user"], &facts["uid"], &facts["gid"]), (&"alice".into(), &1000.into(), &100.into()));
    assert_eq!(facts["proofs"], serde_json::json!(["hosts", "peercred"]));
    assert_eq!((&facts["peer"], &facts["transport"]), (&"192.0.2.7:51234".into(), &"tcp".into()));
    assert_eq!((&facts["encryption"], &facts["confidential"]), (&Value::Null, &false.into()));
    stream.write_all(b"echo\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "echo\n");

    let (facts, _) = whoami(&grant(Peer::unix(Some(Credentials::new(7, 7))), "none", None)).await;
    assert_eq!((&facts["user"], &facts["peer"]), (&Value::Null, &"unix:uid=7".into()));
}

#[tokio::test]
async fn s_039_a_certificate_that_no_link_judged_is_told_to_nobody() {
    let certificate = Certificate::new(b"not judged here");
    let facts = TlsFacts::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", Some("gate".into()));
    let peer = || tcp("192.0.2.7:1", "192.0.2.8:2").encrypted(facts.clone(), Some(certificate.clone()), None);
    let (told, _) = whoami(&grant(peer(), "certificate", Some("alice"))).await;
    assert_eq!(told["certificate"].as_str().unwrap().len(), 64);
    assert_eq!(told["encryption"]["version"], "TLSv1.3");
    let (told, _) = whoami(&grant(peer(), "hosts", None)).await;
    assert_eq!(told["certificate"], Value::Null);
}

/// A PROXY header taken apart again, by the rules of its section 2.2.
struct Header {
    family: u8,
    addresses: Vec<u8>,
    tlvs: HashMap<u8, Vec<u8>>,
}

fn parsed(bytes: &[u8]) -> Header {
    assert_eq!(&bytes[..12], b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a");
    assert_eq!(bytes[12], 0x21, "version 2, PROXY");
    assert_eq!(usize::from(u16::from_be_bytes([bytes[14], bytes[15]])), bytes.len() - 16);
    let split = match bytes[13] {
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        other => panic!("family {other:02x}"),
    };
    let (addresses, rest) = bytes[16..].split_at(split);
    let tlvs = tlvs(rest);
    let mut zeroed = bytes.to_vec();
    let end = zeroed.len();
    zeroed[end - 4..].fill(0);
    assert_eq!(tlvs[&3], crc32c::crc32c(&zeroed).to_be_bytes(), "the checksum");
    Header { family: bytes[13], addresses: addresses.to_vec(), tlvs }
}

fn tlvs(mut bytes: &[u8]) -> HashMap<u8, Vec<u8>> {
    let mut found = HashMap::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        assert!(found.insert(*kind, value.to_vec()).is_none());
        bytes = rest;
    }
    assert!(bytes.is_empty());
    found
}

fn header(grant: &Grant) -> Header {
    parsed(&proxy_protocol::header(grant, &session()).unwrap())
}

#[test]
fn s_082_the_header_tells_the_clients_address_in_its_family() {
    let v4 = header(&alice());
    assert_eq!((v4.family, &*v4.addresses), (0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 200, 34, 0, 22][..]));
    let v6 = header(&grant(tcp("[2001:db8::1]:256", "[2001:db8::2]:1"), "none", None));
    assert_eq!((v6.family, &v6.addresses[32..]), (0x21, &[1, 0, 0, 1][..]));
    assert_eq!(v6.addresses[..4], [0x20, 0x01, 0x0d, 0xb8]);
    let mixed = header(&grant(tcp("192.0.2.7:1", "[2001:db8::2]:1"), "none", None));
    assert_eq!((mixed.family, &mixed.addresses[10..16]), (0x21, &[255, 255, 192, 0, 2, 7][..]));
    let local = header(&grant(Peer::unix(None), "none", None));
    assert!(local.family == 0x31 && local.addresses.iter().all(|byte| *byte == 0));
}

#[test]
fn s_082_the_header_tells_who_is_there_and_over_what() {
    let plain = header(&alice());
    assert_eq!(plain.tlvs[&5], b"session-1");
    assert!(!plain.tlvs.contains_key(&0x20));
    let facts: Value = serde_json::from_slice(&plain.tlvs[&0xe0]).unwrap();
    assert_eq!((&facts["user"], &facts["uid"]), (&"alice".into(), &1000.into()));

    let der = {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice's laptop");
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let facts = TlsFacts::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", Some("gate.example".into()));
    let tls = |module| {
        let peer = tcp("192.0.2.7:1", "192.0.2.8:2");
        let peer = peer.encrypted(facts.clone(), Some(Certificate::new(&der)), None);
        header(&grant(peer, module, Some("alice"))).tlvs
    };
    let judged = tls("certificate");
    assert_eq!(judged[&2], b"gate.example");
    assert_eq!(judged[&0x20][..5], [3, 0, 0, 0, 0], "TLS, a certificate, verified");
    let inner = tlvs(&judged[&0x20][5..]);
    assert_eq!((&*inner[&0x21], &*inner[&0x23]), (&b"TLSv1.3"[..], &b"TLS_AES_128_GCM_SHA256"[..]));
    assert!(String::from_utf8_lossy(&inner[&0x22]).contains("alice's laptop"), "{inner:?}");
    let unjudged = tls("hosts");
    assert_eq!(unjudged[&0x20][..5], [1, 0, 0, 0, 1], "TLS, no certificate that counts");
    assert!(!tlvs(&unjudged[&0x20][5..]).contains_key(&0x22));
}

#[tokio::test]
async fn s_082_the_header_is_first_on_the_stream_and_only_where_it_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    for asked in [true, false] {
        let option = if asked { ",proxy-protocol=v2" } else { "" };
        let mut opened = open(&format!("tcp:{address}{option}")).await.unwrap();
        opened.stream.write_all(b"client's").await.unwrap();
        opened.stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
        let own = all.strip_suffix(b"client's").unwrap();
        assert_eq!(own.is_empty(), !asked);
        if asked {
            assert_eq!(parsed(own).family, 0x11);
        }
    }
}

#[tokio::test]
async fn unix_sockets_are_reached_by_path_and_by_abstract_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let by_path = UnixListener::bind(&path).unwrap();
    let name = format!("countersign-test-{}", std::process::id());
    let by_name = UnixListener::bind(format!("\0{name}")).unwrap();
    for (listener, text) in
        [(by_path, format!("unix:{}", path.display())), (by_name, format!("unix:@{name}"))]
    {
        let mut opened = open(&text).await.unwrap();
        let (mut accepted, _) = listener.accept().await.unwrap();
        opened.stream.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    }
}

async fn tls_echo(state: &Path) -> SocketAddr {
    let identity = ServerIdentity::open(state, "localhost", std::time::SystemTime::now()).unwrap();
    let server = ServerTls::new(identity.certified_key(), OldestVersion::Tls13).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let deadline = Clock::now() + Duration::from_secs(5);
            if let Ok((mut stream, _)) = server.accept(Stream::new(socket), Peer::unix(None), deadline).await
            {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.unwrap();
                }
            }
        }
    });
    address
}

#[tokio::test]
async fn s_043_a_tls_backend_is_used_only_if_it_is_the_one_that_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let address = tls_echo(folder.path()).await;
    let ca = folder.path().join("tls/root.crt");
    let ca = ca.display();
    let identity = ServerIdentity::open(folder.path(), "localhost", std::time::SystemTime::now()).unwrap();
    let (pin, wrong) = (identity.fingerprint(), "0".repeat(64));
    for (text, good) in [
        (format!("tls:{address},ca={ca}"), true),
        (format!("tls:{address},ca={ca},server-name=localhost"), true),
        (format!("tls:{address},ca={ca},server-name=elsewhere.example"), false),
        (format!("tls:{address},pin={pin}"), true),
        (format!("tls:{address},pin={wrong}"), false),
    ] {
        match open(&text).await {
            Ok(mut opened) => {
                assert!(good, "{text}");
                opened.stream.write_all(b"x").await.unwrap();
                opened.stream.flush().await.unwrap();
                assert_eq!(opened.stream.read_u8().await.unwrap(), b'x');
            }
            Err(error) => assert!(!good, "{text}: {}", error.cause()),
        }
    }
}

#[tokio::test]
async fn s_086_a_backend_that_is_down_or_silent_gives_one_text_without_paths_within_5_s() {
    let folder = tempfile::tempdir().unwrap();
    let absent = format!("unix:{}/absent.sock", folder.path().display());
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp:{}", listener.local_addr().unwrap())
    };
    for text in [absent.as_str(), &closed, "exec:/nonexistent/program"] {
        let error = open(text).await.expect_err(text);
        assert_eq!(error.to_string(), "the service is not available, try again later");
        assert!(!error.cause().is_empty());
    }
    // A listener that never accepts: a TLS handshake waits for ever, and so does a full backlog.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pin = "0".repeat(64);
    let path = folder.path().join("full.sock");
    let full = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    full.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    full.listen(0).unwrap();
    let _waiting = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (silent, full) =
        (format!("tls:{},pin={pin}", silent.local_addr().unwrap()), format!("unix:{}", path.display()));
    let start = Clock::now();
    let (first, second) = tokio::join!(open(&silent), open(&full));
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&start.elapsed()));
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(error.to_string(), "the service does not answer, try again later");
    }
}

async fn run(script: &str, input: &[u8]) -> String {
    let mut opened = open(&format!("exec:/bin/sh -c \"{script}\"")).await.unwrap();
    opened.stream.write_all(input).await.unwrap();
    opened.stream.shutdown().await.unwrap();
    let mut output = String::new();
    timeout(Duration::from_secs(10), opened.stream.read_to_string(&mut output)).await.unwrap().unwrap();
    output
}

#[tokio::test]
async fn s_082_a_program_is_told_who_is_there_in_a_clean_environment() {
    let output = run("/usr/bin/env; pwd", b"").await;
    let mut lines: Vec<&str> = output
        .lines()
        // What the shell itself sets.
        .filter(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "/",
            "COUNTERSIGN_GID=100",
            "COUNTERSIGN_PROOFS=hosts,peercred",
            "COUNTERSIGN_REMOTE_ADDRESS=192.0.2.7:51234",
            "COUNTERSIGN_SESSION_ID=session-1",
            "COUNTERSIGN_TRANSPORT=tcp",
            "COUNTERSIGN_UID=1000",
            "COUNTERSIGN_USER=alice",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    );
}

#[tokio::test]
async fn a_program_reads_the_clients_end_and_still_answers() {
    assert_eq!(run("/bin/cat; echo done", b"abc ").await, "abc done\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn s_084_a_program_inherits_no_descriptor_that_nobody_marked() {
    // Unmarked on purpose, as one that this process was started with would be.
    let leak = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // `ls` itself opens the directory it lists.
    let seen = run("/bin/ls /proc/self/fd", b"").await;
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn s_087_a_program_and_its_children_end_with_the_session_even_if_they_will_not() {
    for script in
        ["sleep 1000 & echo $!; wait", "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1; done"]
    {
        let opened = open(&format!("exec:/bin/sh -c \"{script}\"")).await.unwrap();
        let mut stream = BufReader::new(opened.stream);
        let mut pid = String::new();
        stream.read_line(&mut pid).await.unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        assert!(is_running(pid), "{script}");
        drop((stream, opened.program));
        let start = Clock::now();
        while is_running(pid) {
            assert!(start.elapsed() < Duration::from_secs(6), "{script}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether a process does something; one that only waits to be reaped does not.
fn is_running(pid: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn s_087_a_program_that_floods_its_standard_error_blocks_nobody() {
    let flood = "head -c 3000000 /dev/zero >&2; echo through";
    assert_eq!(run(flood, b"").await, "through\n");
}
