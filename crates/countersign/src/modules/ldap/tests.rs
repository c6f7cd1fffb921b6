//! What can be tried without a directory: configurations, and servers that are none. A real one is
//! asked in `interop/tests/ldap.rs`.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    modules::login::{chain, link, login, login_from},
    proto::error::Reason,
};

const DN: (&str, &str) = ("bind-dn", "uid={username},ou=people,dc=example");

fn configured(values: &[(&str, &str)]) -> Result<Verifier, ConfigError> {
    link("ldap", values).map(|link| link.verifier)
}

fn module(values: &[(&str, &str)]) -> Box<dyn CheckPassword> {
    let Verifier::Password(module) = configured(values).unwrap() else { panic!("the password is needed") };
    module
}

fn check(module: &dyn CheckPassword, name: &str, password: &str) -> Refusal {
    module.check(&Peer::unix(None), &Claim::named(name).unwrap(), &Secret::new(password)).unwrap_err()
}

/// A port that somebody listens on, as the address of a directory.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ldap://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn both_of_xpras_modules_are_read_with_their_options() {
    let xpras = [("host", "localhost"), ("tls", "0"), ("username_format", "cn=%username,o=example")];
    for name in ["ldap", "ldap3", "LDAP"] {
        let link = link(name, &[&xpras[..], &[("authentication", "SIMPLE"), ("encoding", "UTF-8")]].concat());
        assert_eq!(link.unwrap().module, "ldap");
    }
    for (option, value) in [("authentication", "NTLM"), ("encoding", "latin1"), ("bind-dn", DN.1)] {
        assert!(configured(&[&xpras[..], &[(option, value)]].concat()).is_err(), "{option}");
    }
}

#[test]
fn s_065_what_cannot_work_is_a_start_error_that_repeats_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (password, open) = (file("password", "word\n", 0o600), file("open", "canary\n", 0o644));
    let (empty, nul) = (file("empty", "\n", 0o600), file("nul", "a\0canary", 0o600));
    let base = ("base", "dc=example");
    let account = |path| vec![base, ("search-bind-dn", "cn=canary"), ("search-password-file", path)];
    for right in [vec![DN], vec![base], account(&password), vec![base, ("filter", "(cn={username})")]] {
        assert!(configured(&right).is_ok());
    }
    let wrong = [
        vec![],
        vec![DN, base],
        vec![DN, ("filter", "(uid={username})")],
        vec![DN, ("search-bind-dn", "cn=canary")],
        vec![("bind-dn", "cn=canary")],
        vec![("bind-dn", "uid=x-{username}")],
        vec![base, ("filter", "(uid=canary)")],
        vec![base, ("filter", "canary={username}")],
        vec![base, ("scope", "canary")],
        vec![base, ("search-bind-dn", "cn=canary")],
        vec![base, ("search-password-file", &password)],
        account(&open),
        account(&empty),
        account(&nul),
        account("/nonexistent/file"),
        vec![DN, ("group", "canary")],
        vec![DN, ("group-filter", "(member={dn})")],
        vec![DN, ("group", "cn=g"), ("group-filter", "(member=canary)")],
        vec![DN, ("ca", "/nonexistent/file")],
        vec![DN, ("ca", &open)],
        vec![DN, ("tls", "no"), ("ca", &open)],
        vec![DN, ("uid", "no-canary-account")],
        vec![DN, ("timeout", "0")],
        vec![DN, ("timeout", "61s")],
    ];
    for values in wrong {
        let error = configured(&values).unwrap_err();
        assert!(!format!("{error} {}", error.fix()).contains("canary"), "{error}");
    }
}

#[test]
fn s_032_s_072_an_empty_password_reaches_no_directory() {
    let (listener, url) = listener();
    listener.set_nonblocking(true).unwrap();
    let module = module(&[DN, ("url", &url), ("tls", "no")]);
    for password in ["", "\0", "a\0b"] {
        assert_eq!(check(&*module, "alice", password).reason, Reason::WrongSecret);
    }
    assert_eq!(check(&*module, "", "secret").reason, Reason::UnknownUser);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    // And through the conversation, which knows it too.
    let chain = chain(link("ldap", &[DN, ("url", &url), ("tls", "no")]).unwrap());
    assert_eq!(login(&chain, "alice", "").end.unwrap_err().reason, Reason::WrongSecret);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn s_033_the_password_is_asked_for_in_private_only() {
    let chain = chain(link("ldap", &[DN]).unwrap());
    let tcp = "127.0.0.1:1".parse().unwrap();
    let open = login_from(Peer::tcp(tcp, tcp), &chain, "alice", "secret");
    assert_eq!(open.end.unwrap_err().reason, Reason::NotConfidential);
    assert_eq!(open.seen.len(), 1);
}

#[test]
fn s_072_a_directory_that_never_answers_refuses_at_the_deadline_and_the_next_is_tried_before() {
    let (_silent, url) = listener();
    let (gone, down) = listener();
    drop(gone);
    for tls in ["no", "starttls"] {
        let module = module(&[DN, ("url", &url), ("tls", tls), ("timeout", "300ms")]);
        let start = Instant::now();
        let refusal = check(&*module, "alice", "secret");
        assert_eq!(refusal.reason, Reason::ModuleFailed);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
    let start = Instant::now();
    let both = [DN, ("url", &url), ("url", &down), ("tls", "starttls"), ("timeout", "600ms")];
    let refusal = check(&*module(&both), "alice", "secret");
    assert!(start.elapsed() < Duration::from_millis(590), "{:?}", start.elapsed());
    for said in [url.as_str(), "no answer within", down.as_str(), "refused"] {
        assert!(refusal.cause.contains(said), "{}", refusal.cause);
    }
}

/// RFC 4511: success is the number 0 and nothing else; and it must not be nobody's.
#[test]
fn s_072_no_answer_but_success_lets_in_and_not_as_nobody() {
    const BIND: u8 = 0x61;
    const EXTENDED: u8 = 0x78;
    const SEARCH: u8 = 0x65;
    for (answers, reason, cause) in [
        (&[(BIND, 49)][..], Reason::WrongSecret, "result 49"),
        (&[(BIND, 32)], Reason::UnknownUser, "result 32"),
        (&[(BIND, 53)], Reason::AccountDisabled, "result 53"),
        (&[(BIND, 10)], Reason::ModuleFailed, "refers to another"),
        (&[(BIND, 14)], Reason::ModuleFailed, "result 14"),
        (&[(BIND, 0), (EXTENDED, 0)], Reason::ModuleFailed, "nobody's"),
        (&[(BIND, 0), (EXTENDED, 50)], Reason::ModuleFailed, "result 50"),
        (&[(BIND, 0), (EXTENDED, 2), (SEARCH, 0)], Reason::ModuleFailed, "cannot be read"),
        (&[(BIND, 0), (EXTENDED, 2), (SEARCH, 10)], Reason::ModuleFailed, "refers to another"),
        (&[(BIND, 0), (EXTENDED, 2), (SEARCH, 50)], Reason::ModuleFailed, "result 50"),
    ] {
        let (listener, url) = listener();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (operation, result) in answers {
                let mut request = [0; 512];
                let read = stream.read(&mut request).unwrap();
                assert!(read > 5);
                // The number of the message stands behind its length, which has one byte or two.
                let id = if request[1] == 0x81 { request[5] } else { request[4] };
                let answer =
                    [0x30, 0x0c, 0x02, 0x01, id, *operation, 0x07, 0x0a, 0x01, *result, 0x04, 0, 0x04, 0];
                stream.write_all(&answer).unwrap();
            }
            stream
        });
        let refusal = check(&*module(&[DN, ("url", &url), ("tls", "no")]), "alice", "secret");
        assert_eq!(refusal.reason, reason, "{answers:?}: {refusal}");
        assert!(refusal.cause.contains(cause), "{answers:?}: {refusal}");
        drop(server.join().unwrap());
    }
}

#[test]
fn s_020_s_072_a_server_that_speaks_something_else_lets_nobody_in() {
    for noise in [
        &b"220 smtp.example ESMTP\r\n"[..],
        b"",
        b"\x30\x00",
        b"\x30\x84\xff\xff\xff\xff",
        // A bind response to nothing that was asked, and success in the wrong place.
        b"\x30\x0c\x02\x01\x07\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"\x30\x05\x02\x01\x01\x0a\x00",
    ] {
        let (listener, url) = listener();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The client may have left already.
            let _ = stream.write_all(noise);
            stream
        });
        let chain = chain(link("ldap", &[DN, ("url", &url), ("tls", "no"), ("timeout", "500ms")]).unwrap());
        let reason = login(&chain, "alice", "secret").end.unwrap_err().reason;
        assert!([Reason::ModuleFailed, Reason::ModulePanicked].contains(&reason), "{reason} {noise:?}");
        drop(server.join());
    }
}
