//! `ssh-key`: real keys and certificates of `ssh-keygen`, in a real `ssh-agent` and in files, at the gateway.

use std::{fs, net::TcpListener, process::Command, thread};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign_interop::{
    PATIENCE, Place,
    gateway::{Gateway, countersign},
    process::{Finished, run, run_with_input},
    ssh::{Agent, certify, key, key_with_passphrase, public},
    wire::{Received, Value, packet, read, send},
};

#[test]
fn every_kind_of_key_in_an_agent_logs_in_bound_to_tls_where_there_is_any() {
    let place = Place::new();
    for kind in ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048", "rsa -b 4096"] {
        let mine = key(&place, &kind.replace(' ', ""), kind);
        let agent = Agent::with(&[&mine]);
        let gateway = gateway(&place, &public(&mine));
        for (scheme, answered) in [("tcp", "ssh-key:salts"), ("tls", "ssh-key:tls-exporter")] {
            let finished = info(&place, &gateway, &format!("{scheme}://alice"), "ssh-key", Some(&agent));
            finished.expect_success().expect_text(&format!("client.answered={answered}\n"));
        }
        let handler = "ssh-key(channel-binding=require)";
        info(&place, &gateway, "tls://alice", handler, Some(&agent)).expect_success();
        info(&place, &gateway, "tcp://alice", handler, Some(&agent)).expect_text("not be bound");
        info(&place, &gateway, "tcp://bob", "ssh-key", Some(&agent)).expect_code(77);
    }
}

#[test]
fn of_several_keys_the_right_one_is_found_and_a_chosen_one_is_the_only_one() {
    let place = Place::new();
    let keys: Vec<_> = ["one", "two", "three"].map(|name| key(&place, name, "ed25519")).into();
    let agent = Agent::with(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = gateway(&place, &public(&keys[2]));
    info(&place, &gateway, "tcp://alice", "ssh-key", Some(&agent)).expect_success();
    let chosen = |key: &str| format!("ssh-key(key={key})");
    for right in [format!("{}.pub", keys[2]), keys[2].clone()] {
        info(&place, &gateway, "tcp://alice", &chosen(&right), Some(&agent)).expect_success();
    }
    let wrong = info(&place, &gateway, "tcp://alice", &chosen(&format!("{}.pub", keys[0])), Some(&agent));
    wrong.expect_code(77).expect_text("the server refused the login");
    let told = gateway.daemon().eventually(|| gateway.log().contains("the key is not in the file"));
    assert!(told, "{}", gateway.log());
}

#[test]
fn key_files_log_in_with_and_without_a_passphrase() {
    let place = Place::new();
    let (plain, locked) =
        (key(&place, "plain", "ed25519"), key_with_passphrase(&place, "locked", "ecdsa", "open up"));
    let gateway = gateway(&place, &format!("{}\n{}", public(&plain), public(&locked)));
    info(&place, &gateway, "tcp://alice", &format!("ssh-key(key={plain})"), None).expect_success();
    for (passphrase, right) in [("open up", true), ("wrong", false)] {
        let askpass = place.file_with_mode("askpass", format!("#!/bin/sh\necho '{passphrase}'\n"), 0o700);
        let mut command = command(&place, &gateway, "tcp://alice", &format!("ssh-key(key={locked})"), None);
        command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force");
        let finished = run(&mut command);
        assert_eq!(finished.code == 0, right, "{passphrase}: {}", finished.all());
    }
}

#[test]
fn certificates_let_in_whom_they_name_while_they_are_valid() {
    let place = Place::new();
    let authority = key(&place, "authority", "ed25519");
    let mine = key(&place, "mine", "ecdsa -b 384");
    let gateway = gateway(&place, &format!("cert-authority {}", public(&authority)));
    for (options, passes) in [
        (&["-n", "alice", "-V", "-1d:+1d"][..], true),
        (&["-n", "bob,alice"], true),
        (&["-n", "alice", "-O", "source-address=127.0.0.0/8"], true),
        (&["-n", "bob"], false),
        (&["-n", "alice", "-V", "-2d:-1d"], false),
        (&["-n", "alice", "-O", "source-address=192.0.2.0/24"], false),
        (&["-n", "alice", "-O", "force-command=/bin/true"], false),
        (&["-n", "alice", "-h"], false),
        (&[], false),
    ] {
        certify(&authority, &mine, options);
        // The agent gets the key with its certificate; the file alone is used with the one beside it.
        let agent = Agent::with(&[&mine]);
        for (handler, agent) in [("ssh-key", Some(&agent)), (&*format!("ssh-key(key={mine})"), None)] {
            let finished = info(&place, &gateway, "tcp://alice", handler, agent);
            assert_eq!(finished.code == 0, passes, "{options:?} {handler}: {}", finished.all());
        }
    }
}

#[test]
fn conditions_of_a_line_are_kept() {
    let place = Place::new();
    let mine = key(&place, "mine", "ed25519");
    for (options, passes) in [
        ("restrict,from=\"127.0.0.0/8\"", true),
        ("from=\"192.0.2.0/24\"", false),
        ("expiry-time=\"20200101\"", false),
        ("command=\"/bin/true\"", false),
    ] {
        let gateway = gateway(&place, &format!("{options} {}", public(&mine)));
        let finished = info(&place, &gateway, "tcp://alice", &format!("ssh-key(key={mine})"), None);
        assert_eq!(finished.code == 0, passes, "{options}: {}", finished.all());
    }
}

/// What our client has an agent sign is what `ssh-keygen -Y verify` takes as a signature for us, and for nobody else.
#[test]
fn ssh_keygen_verifies_what_our_client_signs() {
    let place = Place::new();
    let mine = key(&place, "mine", "rsa -b 3072");
    let agent = Agent::with(&[&mine]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("our client comes");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert!(matches!(read(&mut tcp), Received::Packet(kind, _) if kind == "hello"));
        let salt: &[u8] = &[7; 64];
        let challenge = [
            "challenge".into(),
            salt.into(),
            Value::Dict(vec![]),
            "ssh-key:salts".into(),
            "hmac+sha512".into(),
        ];
        send(&mut tcp, &packet(&Value::List([&challenge[..], &["password".into()]].concat())));
        let Received::Packet(_, items) = read(&mut tcp) else { panic!("an answer expected") };
        let Value::Dict(caps) = &items[0] else { panic!("a dictionary expected") };
        let item = |name: &str| caps.iter().find(|(key, _)| key.text() == name).expect(name).1.bytes();
        (item("challenge_response"), item("challenge_client_salt"))
    });
    let address = format!("tcp://alice@127.0.0.1:{port}/");
    let mut command = countersign(&place, &["info", "--challenge-handlers=ssh-key", &address]);
    let finished = run(command.env("SSH_AUTH_SOCK", &agent.socket));
    assert_ne!(finished.code, 0, "the server left: {}", finished.all());
    let (signature, salt) = server.join().expect("the server did its part");
    let statement: Vec<u8> = [b"countersign ssh-key 1".as_slice(), b"alice", b"salts", b"", &[7; 64], &salt]
        .iter()
        .flat_map(|part| [&u32::try_from(part.len()).expect("short").to_be_bytes(), *part].concat())
        .collect();
    let armoured = format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        STANDARD.encode(signature)
    );
    let signature = place.file("signature", armoured);
    let signers = place.file("signers", format!("alice {}\n", public(&mine)));
    for (namespace, statement, right) in [
        ("countersign", &statement[..], true),
        ("git", &statement, false),
        ("countersign", &statement[1..], false),
    ] {
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-I", "alice", "-n", namespace, "-f", &signers, "-s", &signature]);
        let finished = run_with_input(&mut verify, statement);
        assert_eq!(finished.code == 0, right, "{}", finished.all());
    }
}

#[test]
fn without_an_agent_or_a_key_the_client_says_what_is_missing() {
    let place = Place::new();
    let gateway = gateway(&place, &public(&key(&place, "mine", "ed25519")));
    let none = info(&place, &gateway, "tcp://alice", "ssh-key", None);
    assert_ne!(none.code, 0, "{}", none.all());
    let mut command = command(&place, &gateway, "tcp://alice", "ssh-key", None);
    run(command.env("SSH_AUTH_SOCK", place.text("nowhere"))).expect_text("the ssh-agent at");
}

/// A gateway where each user has a file of keys; that of alice holds these lines.
fn gateway(place: &Place, lines: &str) -> Gateway {
    let folder = place.path("keys");
    fs::create_dir_all(&folder).expect("an own folder");
    place.file("keys/alice", format!("{lines}\n"));
    let keys = folder.to_str().expect("a UTF-8 path");
    Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=ssh-key(filename={keys}/%u)")])
}

fn info(place: &Place, gateway: &Gateway, whom: &str, handler: &str, agent: Option<&Agent>) -> Finished {
    run(&mut command(place, gateway, whom, handler, agent))
}

fn command(place: &Place, gateway: &Gateway, whom: &str, handler: &str, agent: Option<&Agent>) -> Command {
    let address = format!("{whom}@127.0.0.1:{}/", gateway.port());
    let handlers = format!("--challenge-handlers={handler}");
    let mut command = countersign(place, &["info", "--trust-on-first-use", &handlers, &address]);
    command.env_remove("SSH_AUTH_SOCK").env_remove("SSH_ASKPASS");
    command.envs(agent.map(|agent| ("SSH_AUTH_SOCK", &agent.socket)));
    command
}
