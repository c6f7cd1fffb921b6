//! Logins request by request, and the whole of one with a client in memory.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{super::Settings, *};
use crate::Secret;

fn acceptor(modules: &[&str]) -> Acceptor {
    let mut settings = Settings::default();
    settings.handshake_timeout = Duration::from_millis(600);
    settings.login_timeout = Duration::from_millis(1500);
    settings.refusal_delay = Duration::from_millis(20);
    Acceptor::of(modules).unwrap().with_settings(settings)
}

fn peer() -> Arc<Peer> {
    Arc::new(Peer::tcp("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:22".parse().unwrap()).in_ssh())
}

fn arrival() -> Arrival {
    Arrival { peer: peer(), session: "".into(), start: Instant::now(), visit: None }
}

fn password(words: &str) -> Attempt {
    Attempt::Password(Secret::new(words))
}

fn refused(dialogue: &Dialogue<'_>) -> Reason {
    match dialogue.due() {
        Due::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

/// A folder with an `authorized_keys` file of alice's, and the module that reads it.
fn keys_of_alice(line: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("alice"), format!("{line}\n")).unwrap();
    let module = format!("ssh-key(filename={}/%u)", folder.path().display());
    (folder, module)
}

fn encoded(strings: &[&[u8]]) -> Vec<u8> {
    strings
        .iter()
        .flat_map(|string| [&u32::try_from(string.len()).unwrap().to_be_bytes(), *string].concat())
        .collect()
}

#[tokio::test]
async fn a_request_that_does_not_fit_changes_nothing() {
    let acceptor = acceptor(&["password(value=one)", "password(value=two)"]);
    let mut dialogue = Dialogue::new(&acceptor, arrival());
    for attempt in [Attempt::None, Attempt::Key(b"key".to_vec()), Attempt::Interactive(None)] {
        assert!(!dialogue.take("alice", &attempt).await);
        assert!(matches!(dialogue.due(), Due::Words(prompt) if prompt == "password 1 of 2"));
    }
    assert!(dialogue.take("alice", &password("one")).await);
    assert!(matches!(dialogue.due(), Due::Words(prompt) if prompt == "password 2 of 2"));
    assert!(dialogue.take("alice", &Attempt::Interactive(Some(Secret::new("two")))).await);
    let Due::Granted(grant) = dialogue.due() else { panic!("{:?}", dialogue.due()) };
    assert_eq!(grant.proofs().len(), 2);
}

#[tokio::test]
async fn s_032_an_empty_password_is_wrong_like_any_other() {
    let acceptor = acceptor(&["password(value=one)"]);
    for wrong in ["", "two"] {
        let mut dialogue = Dialogue::new(&acceptor, arrival());
        dialogue.take("alice", &password(wrong)).await;
        assert_eq!(refused(&dialogue), Reason::WrongSecret);
    }
}

#[tokio::test]
async fn s_016_nobody_goes_on_as_somebody_else() {
    for modules in [&["password(value=one)"][..], &["none"]] {
        let acceptor = acceptor(modules);
        let mut dialogue = Dialogue::new(&acceptor, arrival());
        dialogue.take("alice", &Attempt::None).await;
        dialogue.take("bob", &password("one")).await;
        assert_eq!(refused(&dialogue), Reason::ClaimChanged, "{modules:?}");
    }
}

#[tokio::test]
async fn a_security_key_that_cannot_tell_of_a_touch_needs_the_word_that_none_is_needed() {
    let kind = b"sk-ssh-ed25519@openssh.com";
    let key = encoded(&[kind, &[7; 32], b"ssh:"]);
    let line = format!("{} {}", String::from_utf8_lossy(kind), STANDARD.encode(&key));
    for (options, passes) in [("", false), ("no-touch-required ", true), ("verify-required ", false)] {
        let (_folder, module) = keys_of_alice(&format!("{options}{line}"));
        let acceptor = acceptor(&[&module]);
        let mut dialogue = Dialogue::new(&acceptor, arrival());
        let led_on = dialogue.take("alice", &Attempt::Key(key.clone())).await;
        assert_eq!((led_on, matches!(dialogue.due(), Due::Granted(_))), (passes, passes), "{options}");
    }
}

#[tokio::test]
async fn keys_are_tried_until_there_were_six() {
    let good = encoded(&[b"ssh-ed25519", &[1; 32]]);
    let (_folder, module) = keys_of_alice(&format!("ssh-ed25519 {}", STANDARD.encode(&good)));
    let acceptor = acceptor(&[&module]);
    for (before, passes) in [(5, true), (6, false)] {
        let mut dialogue = Dialogue::new(&acceptor, arrival());
        for number in 0..before {
            let other = encoded(&[b"ssh-ed25519", &[100 + number; 32]]);
            assert!(!dialogue.take("alice", &Attempt::Key(other)).await || number == 5);
        }
        dialogue.take("alice", &Attempt::Key(good.clone())).await;
        assert_eq!(matches!(dialogue.due(), Due::Granted(_)), passes, "{before}");
    }
}

struct Client;

impl russh::client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A client at an acceptor that speaks SSH, and what the acceptor makes of it.
async fn meet(
    acceptor: Acceptor,
) -> (russh::client::Handle<Client>, tokio::task::JoinHandle<Result<Admitted, Turned>>) {
    let folder = tempfile::tempdir().unwrap();
    let key = crate::trust::host_key::open(folder.path()).unwrap();
    let acceptor = acceptor.speaking_ssh(key).unwrap();
    let (theirs, ours) = UnixStream::pair().unwrap();
    let server = tokio::spawn(async move { acceptor.accept(Stream::new(ours), Peer::unix(None)).await });
    let client = russh::client::connect_stream(Arc::default(), theirs, Client).await.unwrap();
    (client, server)
}

#[tokio::test]
async fn a_client_is_let_in_and_its_channel_is_the_stream() {
    let (mut client, server) = meet(acceptor(&["password(value=one)"])).await;
    assert!(!client.authenticate_none("alice").await.unwrap().success());
    assert!(client.authenticate_password("alice", "one").await.unwrap().success());
    let channel = client.channel_open_session().await.unwrap();
    assert!(client.channel_open_session().await.is_err(), "one channel and no more");
    channel.request_shell(true).await.unwrap();
    let Admitted { grant, mut stream, speech } = server.await.unwrap().unwrap();
    assert!(grant.peer().ssh && grant.peer().confidential && matches!(speech, Speech::Silent));
    let mut theirs = channel.into_stream();
    theirs.write_all(b"word").await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    stream.write_all(b"counter").await.unwrap();
    stream.write_all(heard.as_bytes()).await.unwrap();
    drop(stream);
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "counterword");
}

#[tokio::test]
async fn s_080_none_is_refused_where_the_chain_asks_nothing() {
    let (mut client, server) = meet(acceptor(&["none"])).await;
    assert!(!client.authenticate_none("alice").await.unwrap().success());
    assert!(!client.authenticate_none("alice").await.unwrap().success());
    drop(client);
    assert_eq!(server.await.unwrap().unwrap_err().refusal.reason, Reason::PeerLeft);
}

#[tokio::test]
async fn s_001_a_login_without_a_channel_ends_at_its_deadline() {
    let start = Instant::now();
    let (mut client, server) = meet(acceptor(&["password(value=one)"])).await;
    assert!(client.authenticate_password("alice", "one").await.unwrap().success());
    let turned = server.await.unwrap().unwrap_err();
    assert_eq!(turned.refusal.reason, Reason::Timeout);
    assert!(start.elapsed() < Duration::from_millis(2800), "{:?}", start.elapsed());
}
