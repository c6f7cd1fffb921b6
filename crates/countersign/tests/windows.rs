//! What has another half on Windows, there: files of ours, the state, a gateway over TLS and its client,
//! the module `win32`.
//!
//! `cargo test -p countersign --test windows` runs it on Windows, or under Wine. A Wine proves less: it makes its
//! access control lists out of the modes of Unix, and its `LogonUserW` judges nothing. So nothing here says that
//! a right password passes.
#![cfg(windows)]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use countersign::{
    Chain, Claim, Peer, Secret, config,
    connect::{ConnectError, Connected, Connector, KnownServers, ServerTrust},
    gateway::Gateway,
    handlers,
    modules::{self, Context, Options, trial},
    sys::{
        accounts,
        clock::Civil,
        environment::{Scrubbed, scrub_env},
        files,
    },
    transport::{Address, Listener, UnixOptions},
    trust::{ServerIdentity, Trust, TrustError},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::oneshot,
};

fn private(path: &Path, content: &str) {
    files::create_private(path).unwrap().write_all(content.as_bytes()).unwrap();
}

#[test]
fn s_061_a_file_of_ours_is_ours_alone_from_its_first_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, shown) = (folder.path().join("secret"), folder.path().join("shown"));
    private(&secret, "word");
    let mut text = String::new();
    files::open_private(&secret, false).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "word");
    assert_eq!(files::create_private(&secret).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert!(files::open_private(folder.path(), true).is_err(), "a directory is no file");
    assert!(files::open_private(&folder.path().join("absent"), true).is_err());

    files::create_unforged(&shown).unwrap().write_all(b"key").unwrap();
    assert!(files::open_unforged(&shown).is_ok());
    let fault = files::open_private(&shown, false).unwrap_err();
    assert!(fault.why().contains("others than its owner can get at it"), "{fault}");
    assert!(fault.fix().starts_with("icacls"), "{}", fault.fix());
    // Others lose what they had, and it is told once.
    assert!(files::open_narrowed(&shown).unwrap().1.is_some());
    assert!(files::open_narrowed(&shown).unwrap().1.is_none());
    assert!(files::open_private(&shown, false).is_ok());
}

#[test]
fn s_061_a_directory_of_ours_lets_nobody_else_in() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, open) = (folder.path().join("a/b"), folder.path().join("open"));
    files::create_private_directory(&ours).unwrap();
    files::create_private_directory(&ours).unwrap();
    assert!(files::is_private_directory(&ours).unwrap());
    files::create_unforged_directory(&open).unwrap();
    assert!(!files::is_private_directory(&open).unwrap());
    assert!(files::narrow_directory(&open).unwrap().is_some());
    assert!(files::is_private_directory(&open).unwrap());
}

#[test]
fn s_079_a_replaced_file_has_another_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("one"), folder.path().join("other"));
    private(&path, "same");
    private(&other, "same");
    let stamp = |path: &Path| files::Stamp::of(&fs::File::open(path).unwrap()).unwrap();
    let before = stamp(&path);
    assert_eq!(before, stamp(&path));
    fs::rename(&other, &path).unwrap();
    assert_ne!(before, stamp(&path));
}

#[test]
fn s_064_state_is_kept_and_one_program_has_it_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let first = ServerIdentity::open(&state, "localhost", SystemTime::now()).unwrap();
    let again = ServerIdentity::open(&state, "localhost", SystemTime::now()).unwrap();
    assert_eq!(first.fingerprint(), again.fingerprint());
    let (trust, second) = (Trust::at(&state), Trust::at(&state));
    assert!(trust.open().unwrap().is_pristine());
    assert!(matches!(second.open(), Err(TrustError::Held { .. })));
}

#[test]
fn the_system_tells_who_and_when_we_are() {
    assert!(!accounts::host_name().is_empty());
    assert!(accounts::caller().contains('\\'), "{}", accounts::caller());
    // No number is anybody's, so none is ever ours by accident.
    assert!(accounts::Account::of_uid(0).is_err() && accounts::parse_uid("root").is_err());
    let date = |year, month, day| Civil { year, month, day, hour: 12, minute: 0, second: 1 };
    assert_eq!(date(2024, 2, 29).to_unix(true), Some(1_709_208_001));
    assert_eq!(date(2025, 2, 29).to_unix(true), None);
    let apart = date(2025, 7, 1).to_unix(false).unwrap() - date(2025, 7, 1).to_unix(true).unwrap();
    assert!(apart.abs() <= 14 * 3600 && apart % 900 == 0, "{apart}");
}

#[test]
fn s_080_a_variable_leaves_the_environment() {
    // Windows guards its environment: other threads do not matter.
    assert_eq!(scrub_env("COUNTERSIGN_TEST_ABSENT"), Scrubbed::Gone);
    assert_eq!(scrub_env("NUMBER_OF_PROCESSORS"), Scrubbed::Gone);
    assert!(std::env::var_os("NUMBER_OF_PROCESSORS").is_none());
}

/// A gateway with one socket of TLS, which everybody passes who knows the word in a file.
async fn gateway(folder: &Path) -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let word = folder.join("word");
    private(&word, "open sesame");
    let mut layers = config::Layers::default();
    let word = word.to_str().unwrap().replace('\\', "/");
    layers.flag("bind-ssl", &format!("127.0.0.1:0,auth=file(filename=\"{word}\")")).unwrap();
    layers.flag("state-dir", folder.join("state").to_str().unwrap()).unwrap();
    let paths = config::Paths::new(false, folder, folder, folder);
    let config = config::Config::new(&layers, &modules::Registry::builtin(), &paths).unwrap();
    let gateway = Gateway::open(&config).await.unwrap();
    let address = gateway.sockets().next().unwrap().1.to_string().replace("tcp:", "tls://");
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        gateway.run(async { drop(stopped.await) }, std::future::ready(())).await;
    });
    (address, stop, running)
}

async fn log_in(address: &str, folder: &Path, word: &str) -> Result<Connected, ConnectError> {
    let secret = Some(Arc::new(Secret::new(word)));
    let sources = handlers::Sources::nowhere().with_address_password(secret);
    let mut trust = ServerTrust::default();
    trust.known_servers = Some(KnownServers::at(folder.join("known_servers")));
    trust.on_first_use = true;
    let handlers = handlers::Registry::builtin().select("uri", sources).unwrap();
    Connector::new(address.parse().unwrap()).with_handlers(handlers).with_trust(trust).connect().await
}

#[tokio::test]
async fn s_043_a_client_logs_in_over_tls_and_is_told_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (address, stop, running) = gateway(folder.path()).await;
    let refused = log_in(&address, folder.path(), "open barley").await.unwrap_err();
    assert_eq!(refused.exit_code(), 77, "{refused}");
    let Connected { stream, server, .. } = log_in(&address, folder.path(), "open sesame").await.unwrap();
    assert!(server.confidential && server.verified, "its key is known by now");
    let (mut stream, mut line, mut answer) = (BufReader::new(stream), String::new(), [0; 4]);
    stream.read_line(&mut line).await.unwrap();
    assert!(line.starts_with('{') && line.contains("file:hmac"), "{line}");
    stream.write_all(b"echo").await.unwrap();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"echo");
    drop(stream);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
}

#[tokio::test]
async fn s_064_a_port_is_taken_once_whoever_wants_to_share_it() {
    let at = |port| Address::Tcp { host: "127.0.0.1".to_owned(), port };
    let first = Listener::bind(&at(0), &UnixOptions::default()).await.unwrap();
    let Address::Tcp { port, .. } = *first.local_address() else { panic!("it is TCP") };
    let second = Listener::bind(&at(port), &UnixOptions::default()).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    assert!(socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).is_err());
}

#[test]
fn what_this_system_has_not_is_refused_before_a_socket_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let paths = config::Paths::new(false, folder.path(), folder.path(), folder.path());
    for (flag, value) in [
        ("bind", "./socket,auth=allow"),
        ("bind-rpc", "unix:./socket"),
        ("bind-tcp", "127.0.0.1:0,auth=peercred"),
        ("bind-tcp", "127.0.0.1:0,auth=none,backend=exec:/bin/cat"),
    ] {
        let mut layers = config::Layers::default();
        let read = layers
            .flag(flag, value)
            .and_then(|()| config::Config::new(&layers, &modules::Registry::builtin(), &paths));
        assert!(read.is_err(), "{flag}={value}");
    }
}

#[test]
fn s_026_a_password_that_nobody_has_lets_nobody_in() {
    let registry = modules::Registry::builtin();
    assert_eq!(registry.find("sys").unwrap().name(), "win32");
    let link = registry.link(Options::new("win32", []), &Context::default()).unwrap();
    let chain = Arc::new(Chain::new(vec![link]).unwrap());
    for name in ["countersign-no-such-account", "NOWHERE\\alice", "alice@nowhere.invalid"] {
        let sources =
            handlers::Sources::nowhere().with_address_password(Some(Arc::new(Secret::new("6f1d0c27"))));
        let answers = handlers::Registry::builtin().select("uri", sources).unwrap();
        let claim = Claim::named(name).unwrap();
        let ended = trial::run(Arc::clone(&chain), Peer::unix(None), claim, answers, "here").end;
        let trial::End::Refused(refusal) = ended else { panic!("{name} came in: {ended:?}") };
        assert_eq!(refusal.public(), "authentication failed", "{name}");
    }
}
