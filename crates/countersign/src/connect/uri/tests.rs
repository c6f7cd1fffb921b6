//! Addresses of every form, and what they may not do.

use super::*;

fn parse(text: &str) -> Uri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn parts(text: &str) -> (String, Option<String>, Option<String>, Option<String>) {
    let uri = parse(text);
    let password = uri.password.as_ref().map(|p| String::from_utf8(p.expose().to_vec()).unwrap());
    (uri.to_string(), uri.username.map(|name| name.to_string()), password, uri.display)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn every_form_that_xpra_takes_is_read() {
    for (text, address) in [
        ("tcp://host", "tcp://host:14500"),
        ("tcp://host:0/", "tcp://host:14500"),
        ("ssl://host", "tls://host:443"),
        ("tls://HOST:10000", "tls://HOST:10000"),
        ("TCP:host:80", "tcp://host:80"),
        ("tcp/host:80", "tcp://host:80"),
        ("xpra://host", "tcp://host:14500"),
        ("xpras://host", "tls://host:443"),
        ("xpra+tls://host", "tls://host:443"),
        ("ws://host", "ws://host:80"),
        ("ws://host/", "ws://host:80"),
        ("wss://alice@host/a/b%20c?username=bob", "wss://host:443/a/b%20c"),
        ("xpra+ws://[::1]:81/x", "ws://[::1]:81/x"),
        ("xpra+wss://host:8443", "wss://host:8443"),
        ("tcp://[::1]:1/", "tcp://[::1]:1"),
        ("tcp://[::1]", "tcp://[::1]:14500"),
        ("tcp://::1:1/", "tcp://[::1]:1"),
        ("tcp://fe80::1:1/", "tcp://[fe80::1]:1"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
        ("unix:run/app.sock", "unix:run/app.sock"),
        ("socket:///run/a%20b", "unix:/run/a%20b"),
        ("tls+unix:/run/app.sock", "tls+unix:/run/app.sock"),
        ("TLS+UNIX:///run/app.sock", "tls+unix:/run/app.sock"),
        ("ssl+unix:run/app.sock", "tls+unix:run/app.sock"),
        ("tls+unix://alice@/run/app.sock", "tls+unix:/run/app.sock"),
        ("tls+unix:@app", "tls+unix:@app"),
        ("socket:/run/app.sock", "unix:/run/app.sock"),
        ("ssh://alice@host", "ssh://host"),
        ("ssh://host:2222/run/app.sock", "ssh://host:2222/run/app.sock"),
        ("ssh://[::1]/run/a%20b", "ssh://[::1]/run/a%20b"),
        ("xpra+ssh://host:0/:10", "ssh://host/10"),
        ("@app", "unix:@app"),
        ("unix:@app", "unix:@app"),
    ] {
        assert_eq!(parse(text).to_string(), address, "{text}");
    }
}

#[test]
fn s_043_an_address_reads_back_as_itself_and_stays_one_word() {
    let written = [
        "tcp://host:1",
        "tls://[::1]:443",
        "wss://host/a/b?username=x",
        "ws://[::1]:8/",
        "unix:/run/app.sock",
        "unix:@a%20name@%40",
        "tls+unix:/run/a%20b%0Atls://bank:443%20sha256:00",
        "tls+unix:@app%0Atls://bank:443",
        "vsock://alice@host:10000/1",
        "unix:////run//a",
        "unix:a:b/c%25%3F%23%40",
        "unix:%E2%80%AE/\u{e9}",
        "tls+unix:dir@/x",
    ];
    for text in written {
        let uri = parse(text);
        let shown = uri.to_string();
        let again = parse(&shown);
        assert_eq!(
            (&again.address, again.tls, again.websocket),
            (&uri.address, uri.tls, uri.websocket),
            "{text}: {shown}"
        );
        assert!(shown.chars().all(|c| c.is_ascii_graphic()), "{shown}");
    }
}

#[test]
fn user_password_and_display_come_out_decoded() {
    for (text, username, password, display) in [
        ("tcp://alice:one@host/", some("alice"), some("one"), None),
        ("tcp://:one@host/", None, some("one"), None),
        ("tcp://alice:@host/", some("alice"), None, None),
        ("tcp://alice:a@b:c@host/", some("alice"), some("a@b:c"), None),
        ("tcp://al%69ce:%2Fone%20%C3%A9@host/", some("alice"), some("/one é"), None),
        ("tcp:alice:one@host:80", some("alice"), some("one"), None),
        ("tcp/alice:one@host:80/100", some("alice"), some("one"), some("100")),
        ("socket://alice:one@/run/app.sock", some("alice"), some("one"), None),
        ("socket:alice:one/run/app.sock", some("alice"), some("one"), None),
        ("tcp://host/?username=alice&password=o%26e", some("alice"), some("o&e"), None),
        ("tcp://alice:one@host/?username=bob&password=two", some("alice"), some("one"), None),
        ("unix:/run/app.sock?username=alice", some("alice"), None, None),
    ] {
        let (_, name, secret, session) = parts(text);
        assert_eq!((name, secret, session), (username, password, display), "{text}");
    }
}

#[test]
fn s_088_neither_errors_nor_debug_repeat_what_may_be_a_password() {
    let good = parse("tcp://alice:hunter2@host/");
    assert!(!format!("{good:?} {good}").contains("hunter2"));
    for bad in [
        "tcp://alice:hunter2/x@host",
        "tcp://alice:hunter2?x@host",
        "tcp://alice:hunter2#x@host",
        "alice:hunter2@host",
        "hunter2",
        "",
        "tcp://",
        "tcp://host:65536",
        "tcp://host:hunter2",
        "tcp://[hunter2]:1",
        "tcp://[::1",
        "tcp://[::1]hunter2",
        "tcp://a:b:c:d",
        "tcp://a%FF@host",
        "tcp://a%00@host",
        "tcp://host/?hunter2",
        "tcp://host/\u{1b}hunter2",
        "hunter2://host",
        "unix:",
        "unix:@",
        "tcp://ho st",
        "ws://host/hunter2 x",
        "ws://host/hunter2=x",
        "wss://host/hunt\u{e9}r2",
        "tcp://-alice:hunter2@host",
    ] {
        let error = bad.parse::<Uri>().unwrap_err();
        assert!(!format!("{error} {}", error.fix()).contains("hunter2"), "{bad}: {error}");
    }
}

#[test]
fn s_047_an_address_sets_no_option() {
    for bad in [
        "tcp://host/?challenge-handlers=prompt",
        "tcp://host/?ssh=evil",
        "ssh://host/?ssh=evil",
        "tcp://host/100,exec=evil",
        "tcp://host/exec=evil",
        "unix:/run/app.sock?password-file=/etc/shadow",
    ] {
        let error = bad.parse::<Uri>().unwrap_err();
        assert!(error.to_string().contains("an address sets host"), "{bad}: {error}");
    }
}

#[test]
fn words_that_are_known_and_not_available_say_so() {
    for scheme in UNAVAILABLE.iter().filter(|scheme| **scheme != RPC) {
        let error = format!("{scheme}://host").parse::<Uri>().unwrap_err();
        assert_eq!(error.to_string(), format!("address: {scheme}: is not available in this build"));
    }
    for display in [":65432", "65432", ":65432?username=a"] {
        assert!(
            display.parse::<Uri>().unwrap_err().to_string().contains("no session on display"),
            "{display}"
        );
    }
    assert_eq!("tpc://host".parse::<Uri>().unwrap_err().fix(), "did you mean `tcp`?");
}

#[test]
fn calls_go_to_the_addresses_of_multipass_and_never_in_the_clear() {
    for (text, address) in [
        ("unix:/run/multipass_socket", "tls+unix:/run/multipass_socket"),
        ("/run/multipass_socket", "tls+unix:/run/multipass_socket"),
        ("@name", "tls+unix:@name"),
        ("localhost:50051", "tls://localhost:50051"),
        ("unixbox:1", "tls://unixbox:1"),
        ("192.0.2.1:1", "tls://192.0.2.1:1"),
        ("[::1]:50051", "tls://[::1]:50051"),
        ("rpc://host", "tls://host:50051"),
        ("RPC://alice@host:1/", "tls://host:1"),
        ("rpc+unix:/run/s", "tls+unix:/run/s"),
        ("tls://host", "tls://host:443"),
        ("tls+unix:/run/s", "tls+unix:/run/s"),
    ] {
        let uri = Uri::for_calls(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(uri.to_string(), address, "{text}");
    }
    // A host whose name begins with `unix` is a host.
    assert!(matches!(Uri::for_calls("unixbox:1").unwrap().address, Address::Tcp { .. }));
    for bad in [
        "",
        "host",
        "host:",
        "host:x",
        "tcp://host:1",
        "ws://host",
        "wss://host",
        "rpc:",
        "rpc+unix:",
        "é",
        "rp",
        "rpcé:1x",
    ] {
        assert!(Uri::for_calls(bad).is_err(), "{bad}");
    }
    let error = "rpc://host:1".parse::<Uri>().unwrap_err();
    assert!(error.fix().contains("authenticate"), "{error}");
}

#[test]
fn s_044_loopback_does_not_leave_the_machine() {
    for near in ["tcp://localhost", "tcp://127.0.0.9", "tcp://[::1]", "unix:/x", "tcp://[::ffff:127.0.0.1]"] {
        assert!(!parse(near).is_remote(), "{near}");
    }
    for far in ["tcp://192.0.2.1", "tls://example.com", "tcp://localhost.example.com"] {
        assert!(parse(far).is_remote(), "{far}");
    }
}

/// Every row that Xpra's versions read, in full: address, user, password and display, or the error.
#[test]
fn s_047_every_row_of_xpras_addresses_sets_what_it_says_or_is_an_error() {
    let rows: &[(&str, [&str; 4])] = &[
        ("tcp://host", ["tcp://host:14500", "", "", ""]),
        ("ssl://host", ["tls://host:443", "", "", ""]),
        ("wss://host", ["wss://host:443", "", "", ""]),
        ("ws://host", ["ws://host:80", "", "", ""]),
        ("tcp://user:pass@host:10000/", ["tcp://host:10000", "user", "pass", ""]),
        ("tcp://:pass@host/", ["tcp://host:14500", "", "pass", ""]),
        ("tcp://u:@host/", ["tcp://host:14500", "u", "", ""]),
        ("tcp://u:p@ss:w@host/", ["tcp://host:14500", "u", "p@ss:w", ""]),
        // Decoded, which Xpra does not do.
        ("tcp://u%40x:p%2Fq%3F%23@host/", ["tcp://host:14500", "u@x", "p/q?#", ""]),
        ("tcp://[::1]:1/", ["tcp://[::1]:1", "", "", ""]),
        ("tcp://::1:1/", ["tcp://[::1]:1", "", "", ""]),
        ("tcp://fe80::1:1/", ["tcp://[fe80::1]:1", "", "", ""]),
        ("tcp:host:1", ["tcp://host:1", "", "", ""]),
        ("tcp:user:pass@host:1", ["tcp://host:1", "user", "pass", ""]),
        ("tcp/host:1", ["tcp://host:1", "", "", ""]),
        ("ssl/host:1", ["tls://host:1", "", "", ""]),
        ("tcp/user:pass@host:1/100", ["tcp://host:1", "user", "pass", "100"]),
        ("tcp://host/100", ["tcp://host:14500", "", "", "100"]),
        ("/path", ["unix:/path", "", "", ""]),
        ("socket:///path", ["unix:/path", "", "", ""]),
        ("socket:/path", ["unix:/path", "", "", ""]),
        ("socket://user:pass@/path", ["unix:/path", "user", "pass", ""]),
        ("socket:user:pass/path", ["unix:/path", "user", "pass", ""]),
        ("@name", ["unix:@name", "", "", ""]),
        ("tcp://host/?username=u&password=p", ["tcp://host:14500", "u", "p", ""]),
        ("tcp://a:b@host/?username=u&password=p", ["tcp://host:14500", "a", "b", ""]),
        ("xpra://host", ["tcp://host:14500", "", "", ""]),
        ("xpras://host", ["tls://host:443", "", "", ""]),
        ("xpra+tcp://host", ["tcp://host:14500", "", "", ""]),
        ("xpra+tls://host", ["tls://host:443", "", "", ""]),
        ("tcp://host:0/", ["tcp://host:14500", "", "", ""]),
        ("vsock://3:10000", ["vsock://3:10000", "", "", ""]),
        ("vsock://host:10000/", ["vsock://2:10000", "", "", ""]),
        ("vsock:2:10000", ["vsock://2:10000", "", "", ""]),
        ("vsock://alice:p@local:1/100", ["vsock://1:1", "alice", "p", "100"]),
        ("vsock://2:1?username=u&password=p", ["vsock://2:1", "u", "p", ""]),
    ];
    for (text, expected) in rows {
        let (address, user, password, display) = parts(text);
        let found = [Some(address), user, password, display].map(Option::unwrap_or_default);
        assert_eq!(found.each_ref().map(String::as_str), *expected, "{text}");
    }
    const SIGNS: &str = "%2F, %3F, %23 for /, ? and # in a user name or password";
    const OPTIONS: &str = "leave other options out of the address and write them as switches";
    for (text, why, fix) in [
        ("tcp://u:p/q@host/", "its port is no number", SIGNS),
        ("tcp://u:p?q@host/", "its port is no number", SIGNS),
        ("tcp://u:p#q@host/", "it holds a `#`", "write %23"),
        ("tcp://host:65536", "its port is no number", SIGNS),
        ("tcp://host:text", "its port is no number", SIGNS),
        ("tcp://host/100,k=v", "an address sets host, port, user, password and display only", OPTIONS),
        ("tcp://host/k=v", "an address sets host, port, user, password and display only", OPTIONS),
        ("tcp://host/?k=v", "an address sets host, port, user, password and display only", OPTIONS),
        ("vsock://any:1", "its machine is no number of one", "vsock://host:10000"),
        ("vsock://auto:1", "its machine is no number of one", "vsock://host:10000"),
        ("vsock://2:any", "its port is no number", "vsock://host:10000"),
        ("vsock://2:host", "its port is no number", "vsock://host:10000"),
        ("vsock://2", "it names no machine and port", "vsock://host:10000"),
        ("vsock://2:4294967295", "its port is no number", "vsock://host:10000"),
        ("vsock://2:1/a=b", "an address sets host, port, user, password and display only", OPTIONS),
        (":65431", "you have no session on display :65431 here", "start it"),
        ("65431", "you have no session on display :65431 here", "start it"),
        (":x", "it is neither a display nor", "write :10"),
        ("word", "it does not say what kind of address it is", "write tcp://HOST:PORT"),
        ("quic://host", "quic: is not available", "use tcp://HOST:PORT"),
        ("vnc://host", "vnc: is not available", "use tcp://HOST:PORT"),
        ("rfb://host", "rfb: is not available", "use tcp://HOST:PORT"),
        ("named-pipe://NAME", "named-pipe: is not available", "use tcp://HOST:PORT"),
        ("\\\\HOST\\pipe\\name", "named-pipe: is not available", "use tcp://HOST:PORT"),
    ] {
        let error = text.parse::<Uri>().map(|uri| uri.to_string()).unwrap_err();
        assert!(
            error.to_string().contains(why) && error.fix().contains(fix),
            "{text}: {error} / {}",
            error.fix()
        );
    }
}
