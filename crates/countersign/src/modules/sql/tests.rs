//! Configurations, and servers that are none. Real ones are asked in `interop/tests/sql.rs`.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    modules::login::{chain, link, login},
    proto::error::Reason,
};

const URI: (&str, &str) = ("uri", "postgres://gateway@localhost/accounts");

fn configured(module: &str, values: &[(&str, &str)]) -> Result<Verifier, ConfigError> {
    link(module, values).map(|link| link.verifier)
}

#[test]
fn addresses_choose_the_kind_of_server() {
    for uri in [
        "postgres://gateway@localhost/accounts",
        "postgresql://gateway:word@[::1]:5433/accounts?sslmode=require",
        "postgres://gateway@localhost/accounts?host=/run/postgresql",
        "mysql://gateway@localhost:3307/accounts",
        "mariadb://gateway@localhost/accounts?socket=/run/mysqld/mysqld.sock",
    ] {
        assert!(matches!(configured("sql", &[("uri", uri)]), Ok(Verifier::Secret(_))), "{uri}");
        assert_eq!(configured("mysql", &[("uri", uri)]).is_ok(), uri.starts_with('m'), "{uri}");
    }
    let cleartext = configured("sql", &[URI, ("cleartext", "yes")]);
    assert!(matches!(cleartext, Ok(Verifier::Password(_))));
}

#[test]
fn s_065_s_073_what_cannot_work_or_is_open_to_others_is_a_start_error_that_repeats_no_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "canary\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = file.to_str().unwrap();
    for wrong in [
        &[][..],
        &[("uri", "")],
        &[("uri", "canary")],
        &[("uri", "sqlite:///canary.sdb")],
        &[("uri", "oracle://canary/x")],
        &[("uri", "postgres://canary@localhost:canary/x")],
        &[("uri", "postgres://localhost/x?canary=1")],
        &[("uri", "postgres://localhost/x?sslmode=canary")],
        &[("uri", "mysql://canary@localhost")],
        &[("uri", "mysql://canary@localhost/x?ssl-mode=canary")],
        &[("uri", "postgres://canary@db.example/x?sslmode=disable")],
        &[("uri", "postgres://canary@db.example/x?sslmode=prefer")],
        &[("uri", "postgres://canary@db.example/x?sslmode=require")],
        &[("uri", "postgres://canary@db.example/x?sslmode=verify-ca")],
        &[("uri", "mysql://canary@db.example/x?ssl-mode=preferred")],
        &[("uri", "mysql://canary@192.0.2.1/x?ssl-mode=disabled")],
        &[URI, ("password-file", open)],
        &[URI, ("password-file", "/nonexistent/file")],
        &[URI, ("ca", "/nonexistent/file")],
        &[URI, ("password-query", "SELECT canary FROM users")],
        &[URI, ("sessions-query", "canary")],
        &[URI, ("timeout", "0")],
        &[URI, ("timeout", "61s")],
    ] {
        let error = configured("sql", wrong).unwrap_err();
        assert!(!format!("{error} {}", error.fix()).contains("canary"), "{error} {wrong:?}");
    }
    let asked = [("uri", "mysql://a@db.example/x?ssl-mode=disabled"), ("insecure", "yes")];
    assert!(configured("sql", &asked).is_ok());
}

#[test]
fn s_073_a_server_that_is_gone_silent_or_speaks_something_else_refuses_in_time() {
    for scheme in ["postgres", "mysql"] {
        for noise in
            [None, Some(&b""[..]), Some(b"220 smtp.example ESMTP\r\n"), Some(b"\x4a\x00\x00\x00\x0a5.5")]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let uri = format!("{scheme}://gateway@{}/accounts", listener.local_addr().unwrap());
            let chain = chain(link("sql", &[("uri", &uri), ("timeout", "500ms")]).unwrap());
            let server = noise.map(|noise| {
                thread::spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    // The client may have left already.
                    let _ = stream.write_all(noise);
                    stream
                })
            });
            let start = Instant::now();
            let refused = login(&chain, "alice", "secret");
            assert_eq!(refused.seen, ["hmac+sha512 password", "authentication failed"]);
            let reason = refused.end.unwrap_err().reason;
            assert!([Reason::ModuleFailed, Reason::ModulePanicked].contains(&reason), "{scheme} {noise:?}");
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
            drop(server.map(|server| server.join()));
        }
    }
}
