//! `u2f` and `fido2`: keys made and used by our command, by Python's `fido2` and at a real Xpra server.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    thread,
};

use countersign_interop::{
    Place,
    fido::{self, Key, Signing},
    gateway::{Gateway, countersign},
    process::{Finished, run},
    wire::{self, Received, Value},
    xpra,
};

#[test]
fn keys_of_the_command_let_their_users_in_until_they_are_removed() {
    for (kind, algorithm) in [("u2f", "es256"), ("fido2", "es256"), ("fido2", "eddsa")] {
        let door = Door::open(kind, "");
        door.add("alice", "blue", algorithm);
        door.add("alice", "red", algorithm);
        door.add("bob", "blue", algorithm);
        for (user, key, code) in [
            ("alice", "alice-blue", 0),
            ("alice", "alice-red", 0),
            ("bob", "bob-blue", 0),
            ("bob", "alice-blue", 77),
            ("carol", "bob-blue", 77),
        ] {
            let finished = door.knock(user, key).expect_code(code);
            finished.expect_text(if code == 0 { user } else { "authentication failed" });
        }
        door.keys(&["remove", "alice", "blue"]).expect_success();
        door.knock("alice", "alice-blue").expect_code(77);
        door.knock("alice", "alice-red").expect_success();
    }
}

#[test]
fn keys_are_listed_for_people_and_for_programs() {
    let door = Door::open("fido2", "");
    door.add("alice", "blue", "eddsa");
    door.add("bob", "red", "es256");
    let listed = door.keys(&["list"]).expect_success().stdout;
    let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert_eq!(lines, [["alice", "blue", "fido2", "EdDSA"], ["bob", "red", "fido2", "ES256"]]);
    let json = door.keys(&["list", "bob", "--json"]).expect_success().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    let of = |key: &str| json[0][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([of("user"), of("name"), of("kind"), of("algorithm")], ["bob", "red", "fido2", "ES256"]);
    assert!(listed.contains(&of("fingerprint")) && of("public_key").starts_with("04"));
    // The same public key again, under another name and for another user.
    door.keys(&["add", "bob", "--kind", "fido2", "--public-key", &of("public_key")]).expect_code(1);
    door.keys(&["add", "carol", "--kind", "fido2", "--public-key", &of("file")]).expect_success();
    door.knock("carol", "bob-red").expect_success();
    door.keys(&["add", "carol", "--public-key", "04ff"]).expect_code(2);
    door.keys(&["remove", "carol", "blue"]).expect_code(1);
}

#[test]
fn s_076_a_copy_of_a_key_is_found_out_also_after_the_gateway_was_killed() {
    let door = Door::open("u2f", "");
    door.add("alice", "blue", "es256");
    let (original, copy) = (door.path("alice-blue"), door.path("copy"));
    door.knock("alice", "alice-blue").expect_success();
    fs::copy(&original, &copy).expect("the key is a file");
    door.knock("alice", "copy").expect_success();
    door.knock("alice", "alice-blue").expect_code(77);
    assert!(door.gateway.log().contains("it may be a copy"), "{}", door.gateway.log());
    let door = door.killed_and_started();
    // Both now say a number that was said before.
    fs::copy(door.path("alice-blue"), door.path("older")).expect("the key is a file");
    door.knock("alice", "alice-blue").expect_success();
    door.knock("alice", "older").expect_code(77);
}

#[test]
fn s_076_an_answer_for_another_server_is_refused_where_the_gateway_knows_its_own_address() {
    let port = countersign_interop::net::free_port();
    let place = Place::new();
    let origins = format!("tcp://127.0.0.1:{port}");
    let gateway = Gateway::start_in(
        place,
        &[format!("--bind-tcp=127.0.0.1:{port},auth=u2f(origins={origins})")],
        |_| {},
    );
    let door = Door { gateway, kind: "u2f", options: String::new() };
    door.add("alice", "blue", "es256");
    door.knock("alice", "alice-blue").expect_success();
    // A server in between is dialled at another address, and passes everything on.
    let between = relay_to(port);
    let address = format!("tcp://alice@127.0.0.1:{between}/");
    let handler = format!("u2f(keyfile={})", door.path("alice-blue"));
    let home = door.gateway.place();
    run(&mut countersign(home, &["info", "--challenge-handlers", &handler, &address])).expect_code(77);
    door.knock("alice", "alice-blue").expect_success();
}

#[test]
fn keys_of_python_are_verified_by_u2f() {
    plays_python("u2f", "ES256", "u2f");
}

#[test]
fn keys_of_python_are_verified_by_fido2_with_es256() {
    plays_python("fido2", "ES256", "u2f");
}

#[test]
fn keys_of_python_are_verified_by_fido2_with_eddsa() {
    plays_python("fido2", "EdDSA", "u2f");
}

#[test]
fn keys_of_python_are_verified_by_fido2_as_a_browser_uses_them() {
    plays_python("fido2", "ES256", "webauthn");
    plays_python("fido2", "EdDSA", "webauthn");
}

#[test]
fn python_verifies_what_our_client_answers() {
    for (kind, algorithm) in [("u2f", "es256"), ("fido2", "es256"), ("fido2", "eddsa")] {
        let place = Place::new();
        let (folder, path) = (place.text("keys"), place.text("key"));
        let add = [
            "keys",
            "add",
            "alice",
            "--keys",
            &folder,
            "--kind",
            kind,
            "--name",
            "blue",
            "--algorithm",
            algorithm,
        ];
        run(&mut countersign(&place, &[&add[..], &["--keyfile", &path]].concat())).expect_success();
        let listed = run(&mut countersign(&place, &["keys", "list", "--json", "--keys", &folder]));
        let listed: serde_json::Value = serde_json::from_str(&listed.expect_success().stdout).expect("JSON");
        let public = spki(listed[0]["public_key"].as_str().expect("a key"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let challenge: Vec<u8> = (0..64).collect();
        let server = thread::spawn({
            let (challenge, kind) = (challenge.clone(), kind.to_owned());
            move || ask(&listener, &challenge, &kind)
        });
        let handler = format!("{kind}(keyfile={path},app-id=our-app)");
        let address = format!("tcp://alice@127.0.0.1:{port}/");
        run(&mut countersign(&place, &["info", "--challenge-handlers", &handler, &address])).expect_code(77);
        let (response, beside) = server.join().expect("an answer");
        let origin = String::from_utf8(beside).expect("text");
        assert_eq!(origin, format!("tcp://127.0.0.1:{port}"));
        assert_eq!(fido::verify(&public, "our-app", &origin, &challenge, &response), (1, 1));
    }
}

#[test]
fn our_client_logs_in_at_a_real_xpra_server_with_a_key() {
    let place = Place::new();
    let (folder, path) = (place.text("keys"), place.text("key"));
    run(&mut countersign(&place, &["keys", "add", "alice", "--keys", &folder, "--keyfile", &path]))
        .expect_success();
    let listed = run(&mut countersign(&place, &["keys", "list", "--json", "--keys", &folder]));
    let listed: serde_json::Value = serde_json::from_str(&listed.expect_success().stdout).expect("JSON");
    let public = listed[0]["public_key"].as_str().expect("a key");
    let chain = [format!("u2f:public_key={public}")];
    let session = xpra::Session::start("keyed", &chain, |command| {
        command.env("PYTHONPATH", fido::with_the_verifier_that_xpra_calls());
    });
    // Xpra wants an account of the machine behind the name, and looks for keys in its home, too.
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).expect("the user database");
    let me = me.expect("an own account").name;
    let address = format!("tcp://{me}@127.0.0.1:{}/", session.port);
    let knock = |key: &str| {
        let handler = format!("u2f(keyfile={key})");
        run(&mut countersign(&place, &["info", "--challenge-handlers", &handler, &address]))
    };
    knock(&path).expect_success();
    let other = place.text("other");
    run(&mut countersign(&place, &["keys", "add", "bob", "--keys", &folder, "--keyfile", &other]))
        .expect_success();
    assert_ne!(knock(&other).code, 0);
}

/// Logins in which Python signs: rightly, and wrongly in each way that there is.
fn plays_python(kind: &'static str, algorithm: &str, dialect: &str) {
    let more =
        if kind == "fido2" { "app-id=app.example,user-verification=yes" } else { "app-id=app.example" };
    let door = Door::open(kind, more);
    let key = Key::new(algorithm);
    door.keys(&["add", "alice", "--kind", kind, "--public-key", &key.public]).expect_success();
    let right =
        Signing { dialect, app: "app.example", origin: "https://app.example", flags: 0x05, counter: 7 };
    assert!(door.answer("alice", kind, &key, &right), "the right one");
    let wrong = [
        Signing { counter: 7, ..right },
        Signing { app: "other.example", counter: 8, ..right },
        Signing { flags: 0x04, counter: 8, ..right },
    ];
    for wrong in &wrong {
        assert!(!door.answer("alice", kind, &key, wrong), "{wrong:?}");
    }
    let unverified = Signing { flags: 0x01, counter: 8, ..right };
    assert_eq!(door.answer("alice", kind, &key, &unverified), kind == "u2f");
    let next = Signing { counter: 9, ..right };
    assert!(!door.answer("alice", kind, &Key::new(algorithm), &next), "another key");
    assert!(!door.answer("bob", kind, &key, &next), "another user");
    assert!(door.answer("alice", kind, &key, &next), "the next one");
}

/// A gateway that asks for a key, on plain TCP: nothing that travels can be used again.
struct Door {
    gateway: Gateway,
    kind: &'static str,
    options: String,
}

impl Door {
    fn open(kind: &'static str, options: &str) -> Self {
        Self::before(Place::new(), kind, options)
    }

    fn before(place: Place, kind: &'static str, options: &str) -> Self {
        let gateway =
            Gateway::start_in(place, &[format!("--bind-tcp=127.0.0.1:0,auth={kind}({options})")], |_| {});
        Self { gateway, kind, options: options.to_owned() }
    }

    fn killed_and_started(self) -> Self {
        Self::before(self.gateway.kill(), self.kind, &self.options)
    }

    fn path(&self, name: &str) -> String {
        self.gateway.place().text(name)
    }

    /// `countersign keys` for this gateway's state directory.
    fn keys(&self, words: &[&str]) -> Finished {
        let state = self.path("state");
        run(&mut countersign(self.gateway.place(), &[&["keys", "--state-dir", &state], words].concat()))
    }

    /// A key in the file `USER-NAME`.
    fn add(&self, user: &str, name: &str, algorithm: &str) {
        let path = self.path(&format!("{user}-{name}"));
        let words =
            ["add", user, "--kind", self.kind, "--name", name, "--algorithm", algorithm, "--keyfile", &path];
        self.keys(&words).expect_success();
    }

    fn knock(&self, user: &str, key: &str) -> Finished {
        let address = format!("tcp://{user}@{}/", self.gateway.tcp());
        let handler = format!("{}(keyfile={})", self.kind, self.path(key));
        let home = self.gateway.place();
        run(&mut countersign(home, &["info", "--challenge-handlers", &handler, &address]))
    }

    /// Whether a login of `user` passes for which Python signs.
    fn answer(&self, user: &str, kind: &str, key: &Key, how: &Signing<'_>) -> bool {
        let mut stream = TcpStream::connect(self.gateway.tcp()).expect("the gateway listens");
        let caps = || wire::with(wire::honest(user), "digest", wire::texts(&["hmac+sha512", kind]));
        wire::send(&mut stream, &wire::hello(caps()));
        let challenge = wire::read(&mut stream).challenge();
        assert_eq!(challenge.digest, format!("{kind}:xor"));
        let (response, beside) = key.sign(how, &challenge.salt);
        let caps = wire::with(caps(), "challenge_response", Value::Bytes(response));
        wire::send(
            &mut stream,
            &wire::hello(wire::with(caps, "challenge_client_salt", Value::Bytes(beside))),
        );
        match wire::read(&mut stream) {
            Received::Packet(kind, _) if kind == "hello" => true,
            Received::Packet(kind, _) if kind == "disconnect" => false,
            other => panic!("neither in nor out: {other:?}"),
        }
    }
}

/// Plays a server: asks the next client this challenge, refuses it, and gives what it answered.
fn ask(listener: &TcpListener, challenge: &[u8], kind: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut stream, _) = listener.accept().expect("a client");
    let Received::Packet(first, _) = wire::read(&mut stream) else { panic!("a hello expected") };
    assert_eq!(first, "hello");
    let question: Vec<Value> = vec![
        "challenge".into(),
        Value::Bytes(challenge.to_vec()),
        Value::Dict(Vec::new()),
        format!("{kind}:xor").as_str().into(),
        "hmac+sha512".into(),
        "security key".into(),
    ];
    wire::send(&mut stream, &wire::packet(&Value::List(question)));
    let Received::Packet(_, items) = wire::read(&mut stream) else { panic!("a hello expected") };
    let Some(Value::Dict(caps)) = items.first() else { panic!("capabilities expected") };
    let found = |name: &str| caps.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value.bytes());
    let answer = (found("challenge_response"), found("challenge_client_salt"));
    wire::send(
        &mut stream,
        &wire::packet(&Value::List(vec!["disconnect".into(), "authentication failed".into()])),
    );
    (answer.0.expect("a response"), answer.1.expect("an origin"))
}

/// Passes one connection on to a port, and gives the port it is taken at.
fn relay_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
        let (mut from, mut to) =
            (client.try_clone().expect("a stream"), server.try_clone().expect("a stream"));
        let there = thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, &mut client).and_then(|_| client.flush());
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = there.join();
    });
    own
}

/// A key as the command lists it, as a `SubjectPublicKeyInfo`: P-256 is listed as its point alone.
fn spki(listed: &str) -> String {
    match listed.strip_prefix("04") {
        Some(_) => format!("3059301306072a8648ce3d020106082a8648ce3d030107034200{listed}"),
        None => listed.to_owned(),
    }
}
