//! `ratelimit`: guessers are turned away, and nobody else.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    net::dial,
    process::{Finished, run},
    wire::{self, Challenge, Received, Value, hello, honest, with},
};

#[test]
fn s_021_who_failed_too_often_is_turned_away_and_its_neighbours_are_not() {
    let gate = Gate::open("max-failures=3,delay=0,window=8s");
    for _ in 0..3 {
        gate.info("alice", WRONG).expect_code(77);
    }
    let blocked = Instant::now();
    for password in [RIGHT, WRONG] {
        gate.info("alice", password).expect_code(75).expect_text("session busy");
    }
    gate.info("bob", RIGHT).expect_success();
    let log = gate.gateway.log();
    assert!(log.contains("link 2/2 file reason wrong_secret"), "{log}");
    assert!(log.contains("link 1/2 ratelimit reason busy"), "{log}");
    // Being turned away prolongs nothing.
    thread::sleep(Duration::from_secs(8).saturating_sub(blocked.elapsed()));
    gate.info("alice", RIGHT).expect_success();
}

#[test]
fn s_021_of_many_guesses_at_once_few_are_judged() {
    let gate = Gate::open("");
    let (judged, turned_away) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    match gate.guess() {
                        "authentication failed" => judged.fetch_add(1, Ordering::Relaxed),
                        _ => turned_away.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let (judged, turned_away) = (judged.into_inner(), turned_away.into_inner());
    assert!(
        (5..=25).contains(&judged),
        "{judged} judged, {turned_away} turned away in {:?}",
        start.elapsed()
    );
    assert_eq!(judged + turned_away, 80);
    gate.info("bob", RIGHT).expect_success();
}

#[test]
fn s_024_a_connection_that_was_opened_before_is_held_to_the_count_of_now() {
    let gate = Gate::open("max-failures=3,delay=0");
    let (mut early, challenge) = gate.challenged("alice");
    for _ in 0..3 {
        assert_eq!(gate.guess(), "authentication failed");
    }
    answer(&mut early, "alice", &challenge, RIGHT);
    assert_eq!(reason(&mut early), "session busy");
}

#[test]
fn s_025_two_mistakes_and_then_the_right_password_within_ten_seconds() {
    let gate = Gate::open("");
    let start = Instant::now();
    gate.info("alice", WRONG).expect_code(77);
    gate.info("alice", WRONG).expect_code(77);
    gate.info("alice", RIGHT).expect_success();
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(3)..Duration::from_secs(10)).contains(&took),
        "held up, and not for long: {took:?}"
    );
}

#[test]
fn a_challenge_that_is_left_counts_half() {
    let gate = Gate::open("max-failures=2,delay=0");
    for _ in 0..3 {
        drop(gate.challenged("alice"));
    }
    gate.info("bob", RIGHT).expect_success();
    let left = || gate.gateway.log().matches("peer_left").count();
    gate.info("alice", RIGHT).expect_success();
    assert_eq!(left(), 0, "whoever leaves is recorded for those who debug");
    for _ in 0..4 {
        drop(gate.challenged("alice"));
    }
    let turned_away = || gate.info("alice", RIGHT).code == 75;
    assert!(gate.gateway.daemon().eventually(turned_away));
}

/// A gateway with `ratelimit` in front of one password.
struct Gate {
    gateway: Gateway,
    place: Place,
}

impl Gate {
    fn open(options: &str) -> Self {
        let place = Place::new();
        let password = place.file("password", RIGHT);
        let chain = format!("auth=ratelimit({options}),auth=file(filename={password})");
        let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,{chain}")]);
        Self { gateway, place }
    }

    fn info(&self, user: &str, password: &str) -> Finished {
        let file = self.place.file(if password == RIGHT { "right" } else { "wrong" }, password);
        let address = format!("tcp://{user}@127.0.0.1:{}/", self.gateway.port());
        run(&mut countersign(&self.place, &["info", "--password-file", &file, &address]))
    }

    /// What a wrong guess at alice's password is told.
    fn guess(&self) -> &'static str {
        let mut stream = dial(self.gateway.tcp());
        wire::send(&mut stream, &hello(honest("alice")));
        let words = match wire::read(&mut stream) {
            Received::Packet(kind, items) if kind == "disconnect" => items[0].text(),
            other => {
                answer(&mut stream, "alice", &other.challenge(), WRONG);
                reason(&mut stream)
            }
        };
        ["authentication failed", "session busy"]
            .into_iter()
            .find(|known| *known == words)
            .expect("one of two texts")
    }

    fn challenged(&self, user: &str) -> (TcpStream, Challenge) {
        let mut stream = dial(self.gateway.tcp());
        wire::send(&mut stream, &hello(honest(user)));
        let challenge = wire::read(&mut stream).challenge();
        (stream, challenge)
    }
}

fn answer(stream: &mut TcpStream, user: &str, challenge: &Challenge, password: &str) {
    let salt = [0x5a; 32];
    let proof = wire::answer(challenge, &salt, password.as_bytes());
    let caps = with(honest(user), "challenge_response", Value::Bytes(proof));
    wire::send(stream, &hello(with(caps, "challenge_client_salt", Value::Bytes(salt.to_vec()))));
}

/// The words with which the gateway ends the connection.
fn reason(stream: &mut TcpStream) -> String {
    match wire::read(stream) {
        Received::Packet(kind, items) if kind == "disconnect" => items[0].text(),
        other => panic!("a refusal expected: {other:?}"),
    }
}

const RIGHT: &str = "correct horse";
const WRONG: &str = "battery staple";
