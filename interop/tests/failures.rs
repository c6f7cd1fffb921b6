//! What each failure of a login shows: text and exit code, at Xpra's clients, Debian's and a new one, and at ours, row by row
//! (`docs/protocol/xpra.md`, the ends). The rows that differ by module are in `xpra_client.rs` and `xpra_server.rs`.

use std::thread;

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    grid::Peer,
    net::dial,
    process::{Finished, run},
    wire::{self, Received, hello, honest, texts, with, without},
    xpra::{self, Session, exit},
};

/// One cause, and what each client makes of it.
struct Row {
    cause: &'static str,
    /// The chain, as options of the gateway's socket.
    chain: String,
    backend: Option<String>,
    /// The password that the clients are given.
    password: Option<&'static str>,
    /// The exit code of Debian's Xpra client, and a part of what it prints.
    xpra: (i32, &'static str),
    /// That of 6.5.5, which tells a refusal from everything else and prints the same.
    newer: i32,
    /// The same of ours, with more arguments.
    ours: (i32, &'static str, &'static [&'static str]),
}

const REFUSED: (i32, &str) = (exit::CONNECTION_FAILED, "authentication failed");
const OURS_REFUSED: (i32, &str, &[&str]) =
    (77, "the server refused the login (it says: \"authentication failed\")", &[]);

fn rows(place: &Place) -> Vec<Row> {
    let file = format!("auth=file(filename={})", place.file("right", RIGHT));
    let row = |cause, chain: &str| Row {
        cause,
        chain: chain.to_owned(),
        backend: None,
        password: Some(RIGHT),
        xpra: REFUSED,
        newer: exit::AUTHENTICATION_FAILED,
        ours: OURS_REFUSED,
    };
    let key = place.file("key", "0123456789abcdef0123456789abcdef\n");
    let alice = place.file("alice", format!("alice|{RIGHT}|1000|1000||\n"));
    let crash = place.file_with_mode("crash", "#!/bin/sh\nkill -SEGV $$\n", 0o700);
    vec![
        Row { password: Some("wrong"), ..row("a wrong password", &file) },
        row(
            "no password of that name at the server",
            &format!("auth=multifile(filename={})", place.file("bob", "bob|x|nobody|nogroup||\n")),
        ),
        row("a module without a challenge says no", "auth=exec(command=/bin/false)"),
        row("the constructor of a module says no", "auth=fail"),
        row("a module that refuses every answer", "auth=reject"),
        row("the second module of a chain says no", &format!("{file},auth=exec(command=/bin/false)")),
        row("a module's program crashes", &format!("auth=exec(command={crash})")),
        row("a module does not come to an end", "auth=exec(command=\"/bin/sleep 60\",timeout=1s)"),
        Row {
            xpra: (exit::CONNECTION_FAILED, "this login needs an encrypted connection"),
            newer: exit::NO_SESSION,
            ours: (76, "use an encrypted address (tls://, wss://)", &[]),
            ..row(
                "the password itself is wanted on an open wire",
                "auth=exec(command=/bin/true,require-challenge=yes)",
            )
        },
        Row {
            xpra: (exit::CONNECTION_FAILED, "this socket takes AES only"),
            newer: exit::NO_SESSION,
            ours: (76, "--encryption=AES", &[]),
            ..row(
                "the socket encrypts, and the client does not",
                &format!("{file},encryption=AES,keyfile={key}"),
            )
        },
        Row {
            password: None,
            xpra: (exit::PASSWORD_REQUIRED, ""),
            newer: exit::PASSWORD_REQUIRED,
            ours: (79, "the server asks for a password, and none was found", &[]),
            ..row("the client has no credential", &file)
        },
        Row {
            xpra: (exit::OK, ""),
            newer: exit::OK,
            ours: (0, "", &[]),
            ..row("the password is never asked for", "auth=none")
        },
        Row {
            password: None,
            xpra: (exit::OK, ""),
            newer: exit::OK,
            ours: (76, "the server lets everybody in, and a login is required", &["--require-auth"]),
            ..row("the password is never asked for, and that is not allowed", "auth=none")
        },
        Row {
            backend: Some(format!("xpra+unix:{}", place.text("nobody-listens-here"))),
            xpra: (exit::CONNECTION_FAILED, "connection error"),
            newer: exit::NO_SESSION,
            // Who it is there, our client is told by the gateway itself.
            ours: (0, "proofs=", &[]),
            ..row("the daemon behind is not there", &file)
        },
        Row {
            backend: Some("xpra+session:live".to_owned()),
            xpra: (exit::CONNECTION_FAILED, "you have no session here"),
            newer: exit::NO_SESSION,
            ours: (0, "proofs=", &[]),
            ..row("the user has no session", &format!("auth=multifile(filename={alice})"))
        },
    ]
}

#[test]
fn each_failure_shows_both_clients_what_it_should() {
    let place = Place::new();
    for row in rows(&place) {
        let (gateway, address, given) = row.gate(&place);
        shows(xpra::info(&address, &given, &[]), row.xpra);
        let (code, text, more) = row.ours;
        let more: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        let arguments = [vec!["info".to_owned()], given, more, vec![address]].concat();
        shows(run(&mut countersign(&place, &arguments)), (code, text));
        assert!(!gateway.log().contains(RIGHT), "{}", gateway.log());
    }
}

/// Its exit codes are others: 28 for a refused login, 18 for any other end.
#[test]
fn each_failure_shows_a_newer_client_what_it_should() {
    let place = Place::new();
    if !Peer::Xpra6.is_here() {
        return;
    }
    // Each waits for its own client most of the time.
    let folder = &place;
    thread::scope(|scope| {
        for row in rows(folder) {
            let _ = scope.spawn(move || {
                let (gateway, address, given) = row.gate(folder);
                shows(Peer::Xpra6.info(&address, &given, &[]), (row.newer, row.xpra.1));
                assert!(!gateway.log().contains(RIGHT), "{}", gateway.log());
            });
        }
    });
}

impl Row {
    /// Its gateway, its address there, and what a client is given.
    fn gate(&self, place: &Place) -> (Gateway, String, Vec<String>) {
        eprintln!("{}: {}", self.cause, self.chain);
        let mut arguments =
            vec![format!("--bind-tcp=127.0.0.1:0,{}", self.chain), "--refusal-delay=50ms".to_owned()];
        arguments.extend(self.backend.as_ref().map(|backend| format!("--backend={backend}")));
        let gateway = Gateway::start(&arguments);
        let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
        let name = format!("given-{}", gateway.port());
        let given = self.password.map(|password| format!("--password-file={}", place.file(&name, password)));
        (gateway, address, given.into_iter().collect())
    }
}

fn shows(finished: Finished, (code, text): (i32, &str)) {
    finished.expect_code(code).expect_text(text).expect_without(RIGHT);
}

/// What a wrong option or an unknown module does to a gateway: it does not start, so no client ever sees the text.
#[test]
fn s_065_what_xpra_tells_a_client_of_a_wrong_option_ends_the_start_here() {
    let place = Place::new();
    for chain in [
        "auth=no-such-module",
        "auth=file(nmae=x)",
        "auth=password(value=a,hunter2-canary)",
        "auth=env(name=NOBODY_SETS_THIS)",
        "auth=file",
    ] {
        let serve = ["serve", "--check-config", &format!("--bind-tcp=127.0.0.1:0,{chain}")];
        run(&mut countersign(&place, &serve)).expect_code(78).expect_text("help: ").expect_without("hunter2");
    }
}

/// What no honest client says, in our own bytes: the last word of the gateway for each.
#[test]
fn each_odd_hello_is_told_what_is_wrong_with_it() {
    let place = Place::new();
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", place.file("right", RIGHT)),
        "--refusal-delay=50ms".to_owned(),
        "--handshake-timeout=1s".to_owned(),
        "--login-timeout=2s".to_owned(),
    ]);
    let last_word = |caps| {
        let mut stream = dial(gateway.tcp());
        wire::send(&mut stream, &hello(caps));
        match wire::read(&mut stream) {
            Received::Packet(kind, mut items) if kind == "disconnect" => items.remove(0).text(),
            // It is asked, and says nothing more.
            Received::Packet(kind, _) if kind == "challenge" => match wire::read(&mut stream) {
                Received::Packet(kind, mut items) if kind == "disconnect" => items.remove(0).text(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    let alice = || honest("alice");
    for digests in [&["des"][..], &["xor"], &["hmac"], &["hmac+md5", "hmac+sha3_512"], &[]] {
        let said = last_word(with(alice(), "digest", texts(digests)));
        assert_eq!(said, "no acceptable digest is offered", "{digests:?}");
    }
    assert_eq!(last_word(without(alice(), "digest")), "no acceptable digest is offered");
    for salts in [&["xor"][..], &["des"], &[]] {
        let said = last_word(with(alice(), "salt-digest", texts(salts)));
        assert_eq!(said, "no acceptable digest is offered", "{salts:?}");
    }
    assert_eq!(last_word(alice()), "login timeout");
}

/// The real server's refusals, at our client.
#[test]
fn each_refusal_of_a_real_server_shows_our_client_what_it_should() {
    let place = Place::new();
    let right = place.file("right", RIGHT);
    let wrong = format!("--password-file={}", place.file("wrong", "wrong"));
    let given = format!("--password-file={right}");
    let file = format!("file:filename={right}");
    let empty = place.file("empty", "");
    for (cause, chain, arguments, code, text) in [
        ("a wrong password", vec![file.clone()], vec![wrong], 77, "authentication failed"),
        (
            "no password at the server",
            vec![format!("file:filename={empty}")],
            vec![given.clone()],
            77,
            "authentication failed",
        ),
        (
            "a module that refuses every answer",
            vec!["reject".to_owned()],
            vec![given.clone()],
            77,
            "authentication failed",
        ),
        ("the client has no credential", vec![file], vec![], 79, "none was found"),
        (
            "the constructor of a module says no",
            vec!["fail".to_owned()],
            vec![given.clone()],
            1,
            "the server ended the connection",
        ),
        ("the password is never asked for", vec![], vec![given], 0, ""),
        ("and that is not allowed", vec![], vec!["--require-auth".to_owned()], 76, "a login is required"),
    ] {
        let session = Session::with_chain("refusing", &chain);
        let address = format!("tcp://alice@127.0.0.1:{}/", session.port);
        eprintln!("{cause}: {chain:?}");
        let arguments = [vec!["info".to_owned()], arguments, vec![address]].concat();
        shows(run(&mut countersign(&place, &arguments)), (code, text));
    }
}

/// S-88: `-d auth` shows what is asked, offered and said at both ends, and no secret (`canaries.rs` has the rest).
#[test]
fn s_088_both_ends_show_the_exchange_without_a_secret() {
    let place = Place::new();
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", place.file("right", RIGHT)),
        "--debug=auth".to_owned(),
        "--refusal-delay=50ms".to_owned(),
    ]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    for (password, code, end) in [
        (RIGHT, 0, "the server lets us in"),
        ("wrong-canary", 77, "the login fails: the server refused the login"),
    ] {
        let given = format!("--password-file={}", place.file("given", password));
        let finished =
            run(&mut countersign(&place, &["info", "-d", "auth", &given, &address])).expect_code(code);
        let shown = finished.stderr.clone();
        for line in [
            "reached tcp://127.0.0.1:",
            "we say hello: user \"alice\", digests hmac+sha512",
            "we are asked for \"hmac+sha512\", the salts by \"hmac+sha512\"",
            "with an answer",
            end,
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        finished.expect_without(RIGHT).expect_without("wrong-canary");
    }
    // Xpra's client is seen in the same way.
    let given = format!("--password-file={}", place.file("given", "wrong-canary"));
    let _ = xpra::info(&address, &[given], &[]).expect_code(exit::CONNECTION_FAILED);
    for (line, times) in [
        ("the client says hello: user", 6),
        ("the client is asked for", 3),
        ("every link passed", 1),
        ("the client is told", 2),
    ] {
        let there = || gateway.log().matches(line).count() == times;
        assert!(gateway.daemon().eventually(there), "{line}: {}", gateway.log());
    }
    assert!(gateway.log().contains("the login fails: link 1 (file): wrong_secret"), "{}", gateway.log());
    // S-93: what was said and what was decided are found by one id.
    let log = gateway.log();
    let decided = log.lines().find(|line| line.contains("auth failure from")).expect("a decision");
    let (_, session) = decided.rsplit_once(" session ").expect("an id");
    let session: String = session.chars().take_while(char::is_ascii_hexdigit).collect();
    assert_eq!(session.len(), 16, "{decided}");
    for line in ["the client says hello", "the client is told"] {
        let joined = |logged: &&str| logged.contains(line) && logged.contains(&session);
        assert_eq!(
            log.lines().filter(joined).count(),
            2 - usize::from(line.ends_with("told")),
            "{line}: {log}"
        );
    }
    assert!(!gateway.log().contains(RIGHT) && !gateway.log().contains("canary"), "{}", gateway.log());
    // Without it nothing of the kind is printed.
    let quiet = run(&mut countersign(&place, &["info", &address])).expect_code(79);
    quiet.expect_without("DEBUG");
}

const RIGHT: &str = "a-right-password-4711";
