//! Xpra's AES: each version of Xpra at the gateway and our client at each, in every mode that they have; and our two ends.

use countersign_interop::{
    Place,
    gateway::{Door, Gateway, countersign},
    grid::{Peer, Served, Transport},
    modules,
    net::wait_for_unix,
    process::{Daemon, Finished, must, program, run, run_with_input},
    xpra::{self, Attached, Session, exit},
};

/// A folder with the password and the keys of a test.
struct Secrets {
    place: Place,
    password: String,
    key: String,
    other: String,
}

impl Secrets {
    fn new() -> Self {
        let place = Place::new();
        let password = place.file("password", "a word to get in");
        let key = place.file("key", "0123456789abcdef0123456789abcdef\n");
        let other = place.file("other", "another key");
        Self { place, password, key, other }
    }

    /// What Xpra's client is told.
    fn xpra(&self, key: &str) -> Vec<String> {
        let password = format!("--password-file={}", self.password);
        vec![password, "--tcp-encryption=AES".to_owned(), format!("--tcp-encryption-keyfile={key}")]
    }

    /// What ours is told.
    fn ours(&self, cipher: &str, key: &str) -> Vec<String> {
        let password = format!("--password-file={}", self.password);
        vec![password, format!("--encryption={cipher}"), format!("--encryption-keyfile={key}")]
    }

    fn gateway(&self, kind: &str, more: &str, session: Option<&Session>) -> Gateway {
        let (password, key) = (&self.password, &self.key);
        let bind = format!("--{kind}=127.0.0.1:0,auth=file(filename={password}),keyfile={key}{more}");
        let backend = session.map(|session| format!("--backend=xpra+unix:{}", session.socket));
        Gateway::start(&[Some(bind), backend].into_iter().flatten().collect::<Vec<_>>())
    }

    fn info(&self, arguments: &[String], address: &str) -> Finished {
        let arguments = [&["info".to_owned()], arguments, &[address.to_owned()]].concat();
        run(&mut countersign(&self.place, &arguments))
    }
}

#[test]
fn xpras_client_is_let_in_with_the_key_and_not_without() {
    let (secrets, session) = (Secrets::new(), Session::open("behind-aes"));
    for more in ["", ",encryption=AES-CBC"] {
        let gateway = secrets.gateway("bind-tcp", more, Some(&session));
        let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
        let knock = |arguments: &[String]| xpra::info(&address, arguments, &[]);
        xpra::expect_answer_of(&session, knock(&secrets.xpra(&secrets.key)));
        // A key in the environment is one as well.
        let plain = &secrets.xpra("")[..2];
        let key = [("XPRA_ENCRYPTION_KEY", "0123456789abcdef0123456789abcdef")];
        xpra::expect_answer_of(&session, xpra::info(&address, plain, &key));
        assert_ne!(knock(&secrets.xpra(&secrets.other)).code, exit::OK);
        let unencrypted = knock(&secrets.xpra("")[..1]).expect_code(exit::CONNECTION_FAILED);
        unencrypted.expect_text("--tcp-encryption=AES --tcp-encryption-keyfile=FILE");
        let log = gateway.log();
        assert!(log.contains("not_encrypted"), "{log}");
        assert!(!log.contains("0123456789abcdef") && !log.contains("a word to get in"), "{log}");
    }
    // A mode that Debian's Xpra has not, and a socket that does not encrypt.
    let gateway = secrets.gateway("bind-tcp", ",encryption=AES-CTR", Some(&session));
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    assert_ne!(xpra::info(&address, &secrets.xpra(&secrets.key), &[]).code, exit::OK);
    assert!(gateway.log().contains("no_common_cipher"), "{}", gateway.log());
}

#[test]
fn xpras_client_encrypts_within_a_websocket_and_on_a_unix_socket() {
    let (secrets, session) = (Secrets::new(), Session::open("behind-wires"));
    let front = secrets.place.text("front");
    let chain = format!("auth=file(filename={}),encryption=AES,keyfile={}", secrets.password, secrets.key);
    let gateway = Gateway::start(&[
        format!("--bind-ws=127.0.0.1:0,{chain}"),
        format!("--bind={front},{chain}"),
        format!("--backend=xpra+unix:{}", session.socket),
    ]);
    for address in [format!("ws://alice@127.0.0.1:{}/", gateway.port()), format!("socket://alice@{front}")] {
        xpra::expect_answer_of(&session, xpra::info(&address, &secrets.xpra(&secrets.key), &[]));
        assert_ne!(xpra::info(&address, &secrets.xpra(&secrets.other), &[]).code, exit::OK, "{address}");
        let unencrypted = xpra::info(&address, &secrets.xpra("")[..1], &[]);
        unencrypted.expect_code(exit::CONNECTION_FAILED).expect_text("this socket takes AES only");
    }
}

#[test]
fn xpras_client_has_a_whole_session_under_aes() {
    let (secrets, session) = (Secrets::new(), Session::open("attached-under-aes"));
    let gateway = secrets.gateway("bind-tcp", "", Some(&session));
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let attached = Attached::start(&address, &secrets.xpra(&secrets.key));
    let inside = format!("socket://{}", session.socket);
    let joined =
        attached.client.eventually(|| xpra::info(&inside, &[], &[]).stdout.contains("\nclients=1\n"));
    assert!(joined, "{}\n--- session:\n{}", attached.client.output(), session.log());
    let encrypted =
        attached.client.eventually(|| attached.client.output().contains("sending data using AES encryption"));
    assert!(encrypted, "{}", attached.client.output());
    // It pings and is answered for a while.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(attached.client.ended().is_none(), "{}\n{}", attached.client.output(), gateway.log());
}

#[test]
fn our_client_logs_in_at_xpras_server_with_its_key_and_not_without() {
    let secrets = Secrets::new();
    let server = Session::start("encrypted", &[format!("file:filename={}", secrets.password)], |command| {
        command.arg("--tcp-encryption=AES").arg(format!("--tcp-encryption-keyfile={}", secrets.key));
    });
    let address = format!("tcp://alice@127.0.0.1:{}/", server.port);
    for cipher in ["AES", "AES-CBC"] {
        let inside = secrets.info(&secrets.ours(cipher, &secrets.key), &address).expect_success();
        inside.expect_text("session.name=encrypted").expect_text("client.encrypted=yes");
    }
    let refused = secrets.info(&secrets.ours("AES", &secrets.other), &address).expect_code(76);
    refused.expect_text("it has another key").expect_text("--encryption-keyfile");
    let plain = &secrets.ours("AES", "")[..1];
    let refused = secrets.info(plain, &address).expect_code(76);
    refused.expect_text("nothing but encrypted packets").expect_text("--encryption=AES");
    let without_key = [plain, &["--encryption=AES".to_owned()]].concat();
    secrets.info(&without_key, &address).expect_code(2).expect_text("there is no key");
    // A door before it: the real client has its session in clear up to the door, and encrypted behind.
    let door = Door::open(&address, &secrets.ours("AES", &secrets.key));
    xpra::expect_answer_of(&server, xpra::info(&format!("tcp://127.0.0.1:{}/", door.port), &[], &[]));
}

#[test]
fn our_client_leaves_a_server_that_does_not_encrypt() {
    let secrets = Secrets::new();
    let server = Session::start("clear", &[format!("file:filename={}", secrets.password)], |_| {});
    let address = format!("tcp://alice@127.0.0.1:{}/", server.port);
    let finished = secrets.info(&secrets.ours("AES", &secrets.key), &address);
    assert_ne!(finished.code, 0, "{}", finished.all());
    let gateway =
        Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", secrets.password)]);
    let finished =
        secrets.info(&secrets.ours("AES", &secrets.key), &format!("tcp://alice@{}/", gateway.tcp()));
    finished.expect_code(76).expect_text("does not encrypt as this client does");
}

/// The modes of each version; the first is the default, CBC.
const MODES: [(Peer, &[&str]); 3] =
    [(Peer::Xpra3, &["AES"]), (Peer::Xpra4, &EVERY_MODE), (Peer::Xpra6, &["AES", "AES-CBC", "AES-CTR"])];

const EVERY_MODE: [&str; 5] = ["AES", "AES-CBC", "AES-CTR", "AES-GCM", "AES-CFB"];

#[test]
fn each_xpra_logs_in_at_ours_in_each_mode_that_it_has() {
    let secrets = Secrets::new();
    for mode in EVERY_MODE {
        let gateway = secrets.gateway("bind-tcp", &format!(",encryption={mode}"), None);
        let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
        for (peer, modes) in MODES.into_iter().filter(|(peer, _)| peer.is_here()) {
            let knock = |encryption: &[String]| {
                let password = format!("--password-file={}", secrets.password);
                peer.info(&address, &[&[password][..], encryption].concat(), &[])
            };
            let with_key = knock(&peer.encryption(mode, &secrets.key));
            if !modes.contains(&mode) {
                assert_ne!(with_key.code, exit::OK, "{mode} is listed as one that {} has not", peer.name());
                with_key.expect_text("is not supported");
                continue;
            }
            with_key.expect_success().expect_text("encryption.version=AES");
            // In the modes without padding a client may take what it cannot read for a packet, and wait for the next.
            if mode.ends_with("AES") || mode.ends_with("CBC") {
                let with_another = knock(&peer.encryption(mode, &secrets.other));
                assert_ne!(with_another.code, exit::OK, "{} in {mode} with another key", peer.name());
            }
            let in_clear = knock(&[]);
            assert_ne!(in_clear.code, exit::OK, "{} in clear", peer.name());
            in_clear.expect_text("this socket takes AES only");
        }
    }
}

#[test]
fn ours_logs_in_at_each_xpra_in_each_mode_that_it_has() {
    let secrets = Secrets::new();
    let case = modules::file(&secrets.place);
    let password = case.attempts[0].our_arguments();
    for (peer, modes) in MODES.into_iter().filter(|(peer, _)| peer.is_here()) {
        // Servers of 6.5.5 encrypt nothing, whatever they are told; the grid has that.
        if peer == Peer::Xpra6 {
            continue;
        }
        let served = Served::start(peer, &case, &[Transport::Aes]).expect("a server");
        let address = served.address(Peer::Ours, Transport::Aes, "alice");
        let knock = |mode: &str, key: &str| {
            Peer::Ours.info(&address, &[&password[..], &Peer::Ours.encryption(mode, key)].concat(), &[])
        };
        for mode in EVERY_MODE {
            // 3.1.3 is told of no mode, and has one.
            if modes.contains(&mode) || mode == "AES-CBC" {
                knock(mode, &served.key).expect_success();
            } else {
                knock(mode, &served.key).expect_code(76).expect_text("it has another key, or it was altered");
            }
            knock(mode, &secrets.other).expect_code(76).expect_text("it has another key");
        }
        let in_clear = Peer::Ours.info(&address, &password, &[]).expect_code(76);
        in_clear.expect_text("nothing but encrypted packets").expect_text("--encryption=AES");
    }
}

#[test]
fn our_two_ends_agree_in_every_mode_and_over_every_wire() {
    let secrets = Secrets::new();
    for (kind, scheme) in [("bind-tcp", "tcp"), ("bind-ws", "ws")] {
        for cipher in ["AES", "AES-CBC", "AES-CTR", "AES-GCM", "AES-CFB"] {
            let gateway = secrets.gateway(kind, &format!(",encryption={cipher}"), None);
            let address = format!("{scheme}://alice@{}/", gateway.tcp());
            let told = secrets.info(&secrets.ours(cipher, &secrets.key), &address).expect_success();
            told.expect_text("confidential=true").expect_text("encryption.version=AES");
            // `builtin:whoami` sends back what it is sent: here more than one packet each way.
            let arguments = [
                &["connect".to_owned()],
                &*secrets.ours(cipher, &secrets.key),
                std::slice::from_ref(&address),
            ]
            .concat();
            let words = "all of these words. ".repeat(10_000);
            let echoed = run_with_input(&mut countersign(&secrets.place, &arguments), words.as_bytes());
            assert!(echoed.expect_success().stdout.ends_with(&words), "{cipher} over {scheme}");
            let wrong = secrets.info(&secrets.ours(cipher, &secrets.other), &address);
            wrong.expect_code(76).expect_text("it has another key");
        }
    }
}

#[test]
fn s_033_a_code_is_asked_for_under_aes_and_nowhere_else() {
    let (secrets, seed) = (Secrets::new(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    let codes = secrets.place.file("codes", format!("alice|{seed}\n"));
    let chain = format!("127.0.0.1:0,auth=otp(filename={codes})");
    let gateway = Gateway::start(&[format!("--bind-tcp={chain},keyfile={}", secrets.key)]);
    let code = must(std::process::Command::new("oathtool").args(["--totp", "--base32", seed]));
    let (code, address) =
        (secrets.place.file("code", code.trim()), format!("tcp://alice@{}/", gateway.tcp()));
    let encrypted = [format!("--password-file={code}"), format!("--encryption-keyfile={}", secrets.key)];
    secrets.info(&encrypted, &address).expect_success().expect_text("alice");

    let gateway = Gateway::start(&[format!("--bind-tcp={chain}")]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let refused = secrets.info(&encrypted[..1], &address).expect_code(76);
    refused.expect_text("this login needs an encrypted connection").expect_text("--encryption");
    let refused = xpra::info(&address, &encrypted[..1], &[]).expect_code(exit::CONNECTION_FAILED);
    refused.expect_text("use ssl, wss, or AES");
}

#[test]
fn s_033_xpras_client_gives_a_code_away_under_aes() {
    let (secrets, seed) = (Secrets::new(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    let session = Session::open("coded-under-aes");
    let codes = secrets.place.file("codes", format!("alice|{seed}\n"));
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=otp(filename={codes}),keyfile={}", secrets.key),
        format!("--backend=xpra+unix:{}", session.socket),
    ]);
    let code = must(std::process::Command::new("oathtool").args(["--totp", "--base32", seed]));
    let mut arguments = secrets.xpra(&secrets.key);
    arguments[0] = format!("--password-file={}", secrets.place.file("code", code.trim()));
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    xpra::expect_answer_of(&session, xpra::info(&address, &arguments, &[]));
}

/// `session:live` under AES at both ends: a daemon that dials in, and its user's clients, ours and Xpra's.
#[test]
fn daemons_that_dial_in_under_aes_are_reached_under_aes() {
    let (secrets, session) = (Secrets::new(), Session::open("live-under-aes"));
    let echo = secrets.place.path("echo");
    let mut command = program(env!("CARGO_BIN_EXE_user-daemon"));
    command.arg(&echo);
    let daemon = Daemon::start(command);
    wait_for_unix(&daemon, &echo);
    let accounts = ["alice", "bob"].map(|name| format!("{name}|a word to get in|1000|1000||\n")).concat();
    let accounts = secrets.place.file("accounts", accounts);
    for (cipher, backend) in
        [("AES", "session:live"), ("AES-GCM", "session:live"), ("AES", "xpra+session:live")]
    {
        let is_xpra = backend.starts_with("xpra");
        let socket = if is_xpra { session.socket.clone() } else { secrets.place.text("echo") };
        let gateway = Gateway::start(&[
            format!(
                "--bind-tcp=127.0.0.1:0,auth=multifile(filename={accounts}),keyfile={},encryption={cipher}",
                secrets.key
            ),
            format!("--backend={backend}"),
        ]);
        let address = |user: &str| format!("tcp://{user}@127.0.0.1:{}/", gateway.port());
        let connect = |key: &str, words: &[&str], user: &str| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let ours = secrets.ours(cipher, key);
            let arguments = [&["connect".to_owned()][..], &ours, &words, &[address(user)]].concat();
            countersign(&secrets.place, &arguments)
        };
        let register = ["--register", &*format!("unix:{socket}"), "--session", "mail"];
        run(&mut connect(&secrets.other, &register, "alice"))
            .expect_code(76)
            .expect_text("it has another key");
        let dialled = Daemon::start(connect(&secrets.key, &register, "alice"));
        let registered = |output: &str| output.contains("registered, waiting").then_some(());
        dialled.wait_for("being registered", registered);
        if is_xpra {
            xpra::expect_answer_of(&session, xpra::info(&address("alice"), &secrets.xpra(&secrets.key), &[]));
            let nobody = xpra::info(&address("bob"), &secrets.xpra(&secrets.key), &[]);
            nobody.expect_code(exit::CONNECTION_FAILED).expect_text("you have no session here");
            assert_ne!(xpra::info(&address("alice"), &secrets.xpra(&secrets.other), &[]).code, exit::OK);
            continue;
        }
        // One after the other: the daemon dials in again for the second. More than one packet each way.
        let sent = "all of these words. ".repeat(10_000);
        for named in [&["--session", "mail"][..], &[]] {
            let echoed = run_with_input(&mut connect(&secrets.key, named, "alice"), sent.as_bytes());
            let echoed = echoed.expect_success();
            assert!(
                echoed.stdout.ends_with(&sent),
                "{cipher}: {} bytes\n{}",
                echoed.stdout.len(),
                gateway.log()
            );
        }
        let wrong = run(&mut connect(&secrets.other, &["--session", "mail"], "alice"));
        wrong.expect_code(76).expect_text("it has another key");
        let nobody = run(&mut connect(&secrets.key, &["--session", "mail"], "bob"));
        nobody.expect_text("you have no session here").expect_without("uids");
        let log = gateway.log();
        assert!(!log.contains("0123456789abcdef") && !log.contains("a word to get in"), "{log}");
    }
}
