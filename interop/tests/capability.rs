//! `capability`: what a hello says counts from the proxy alone, and may not change on the way.

use std::process::Command;

use countersign_interop::{
    Place,
    account::{Account, is_root},
    gateway::Gateway,
    net::dial_unix,
    wire::{self, Received, Value, hello, honest, with},
};

#[test]
fn w28_the_word_lets_in_and_nothing_else_does() {
    let gate = Gate::open("");
    for (property, value, end) in [
        ("front-door", Value::from("sesame"), "hello"),
        ("front-door", Value::Bytes(b"sesame".to_vec()), "hello"),
        ("front-door", Value::from("Sesame"), "disconnect"),
        ("front-door", Value::List(vec!["sesame".into()]), "disconnect"),
        ("front-door", Value::Null, "disconnect"),
        ("back-door", Value::from("sesame"), "disconnect"),
    ] {
        assert_eq!(gate.says(with(honest("alice"), property, value.clone())), end, "{property} {value:?}");
    }
}

#[test]
fn w31_a_word_that_was_judged_may_not_change() {
    let gate = Gate::open(",auth=password(value=second)");
    for (later, end) in [("sesame", "hello"), ("changed", "disconnect")] {
        let mut stream = dial_unix(gate.socket.as_ref());
        let caps = with(honest("alice"), "front-door", "sesame".into());
        wire::send(&mut stream, &hello(caps.clone()));
        let challenge = wire::read(&mut stream).challenge();
        let salt = [0x5a; 32];
        let proof = wire::answer(&challenge, &salt, b"second");
        let caps = with(with(caps, "front-door", later.into()), "challenge_response", Value::Bytes(proof));
        wire::send(&mut stream, &hello(with(caps, "challenge_client_salt", Value::Bytes(salt.to_vec()))));
        assert_eq!(kind(wire::read(&mut stream)), end, "{later}");
    }
}

#[test]
fn the_word_of_another_user_is_nothing() {
    if !is_root() {
        eprintln!("skipped: only root can create the second local account that this test needs");
        return;
    }
    let Some(account) = Account::create() else { return };
    for (options, end) in [(String::new(), "disconnect"), (format!(",proxy-user={}", account.name), "hello")]
    {
        let gate = Gate::with(&options, "");
        let packet = hello(with(honest("alice"), "front-door", "sesame".into()));
        let mut command: Command = account.command("/usr/bin/python3");
        command.args(["-c", SAY, &gate.socket]);
        let said =
            countersign_interop::process::run_with_input(&mut command, &packet).expect_success().stdout;
        assert!(said.contains(end), "{said}");
    }
}

struct Gate {
    _gateway: Gateway,
    socket: String,
    _place: Place,
}

impl Gate {
    fn open(rest: &str) -> Self {
        Self::with("", rest)
    }

    fn with(options: &str, rest: &str) -> Self {
        let place = Place::new();
        place.open_to_all();
        let socket = place.text("gate");
        let module = format!("capability(property=front-door,value=sesame{options})");
        let gateway = Gateway::start(&[format!("--bind={socket},mode=666,auth={module}{rest}")]);
        Self { _gateway: gateway, socket, _place: place }
    }

    fn says(&self, caps: Vec<(Value, Value)>) -> String {
        let mut stream = dial_unix(self.socket.as_ref());
        wire::send(&mut stream, &hello(caps));
        match wire::read(&mut stream) {
            // A client that insists on a challenge is owed one by a chain that asks nothing.
            Received::Packet(kind, _) if kind == "challenge" => "hello".to_owned(),
            other => kind(other),
        }
    }
}

fn kind(received: Received) -> String {
    match received {
        Received::Packet(kind, _) => kind,
        other => panic!("a packet expected: {other:?}"),
    }
}

/// Sends what it reads and prints the letters of the answer.
const SAY: &str = r"
import socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
stream.sendall(sys.stdin.buffer.read())
answer = stream.recv(65536)
print('disconnect' if b'disconnect' in answer else 'hello')
";
