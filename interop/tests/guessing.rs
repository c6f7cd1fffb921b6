//! Guessing at a gateway as it comes, without `ratelimit`: few guesses are judged, and nobody else is kept out.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, counted, countersign},
    net::{dial, dial_from},
    process::{Finished, run},
    wire::{self, Challenge, Received, Value, hello, honest, with},
};

/// S-21, S-22: a thousand guesses by eight workers. What is not judged is refused before a challenge, while others,
/// and the same user from elsewhere, log in.
#[test]
fn s_021_s_022_of_a_thousand_guesses_by_eight_workers_at_most_40_are_judged() {
    let gate = Gate::open(&["--refusal-delay=100ms"]);
    let (judged, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    let elsewhere = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..125 {
                    match gate.guess(HERE, "alice") {
                        Answered::AfterAChallenge => judged.fetch_add(1, Ordering::Relaxed),
                        Answered::AtOnce => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        let elsewhere = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            for (host, user) in [(THERE, "alice"), (THERE, "bob"), (HERE, "bob")] {
                // A machine that is busy with other tests may delay one of them, but no penalty does.
                let login = || {
                    let start = Instant::now();
                    assert!(gate.logs_in(host, user, RIGHT), "{user} from {host}");
                    start.elapsed()
                };
                slowest = slowest.max([login(), login(), login()].into_iter().min().unwrap_or_default());
            }
            slowest
        });
        elsewhere.join().expect("a login")
    });
    let (judged, refused, took) = (judged.into_inner(), refused.into_inner(), start.elapsed());
    println!("{judged} judged and {refused} refused in {took:?}; others waited {elsewhere:?} at most");
    assert!(judged + refused == 1000 && (3..=40).contains(&judged), "{judged} judged in {took:?}");
    assert!(elsewhere < Duration::from_secs(2), "{elsewhere:?}");
}

/// S-21: so too with another name each time, in the end for the whole address.
#[test]
fn s_021_guesses_at_many_names_are_counted_for_the_address_as_a_whole() {
    let gate = Gate::open(&["--refusal-delay=0"]);
    let judged =
        (0..100).filter(|user| gate.guess(HERE, &format!("user{user}")) == Answered::AfterAChallenge);
    // Sixty seconds' worth, and one for what time takes off meanwhile.
    let judged = judged.count();
    assert!((12..=20).contains(&judged), "{judged}");
    assert!(!gate.logs_in(HERE, "alice", RIGHT));
    assert!(gate.logs_in(THERE, "alice", RIGHT));
}

/// S-25, with the client's own words when it is too much.
#[test]
fn s_025_two_mistakes_and_then_the_right_password_and_75_after_more() {
    let gate = Gate::open(&[]);
    let start = Instant::now();
    gate.info(&[], "alice", WRONG).expect_code(77);
    gate.info(&[], "alice", WRONG).expect_code(77);
    gate.info(&[], "alice", RIGHT).expect_success();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let gate = Gate::open(&["--refusal-delay=0"]);
    gate.exhaust(HERE, "alice");
    let refused = gate.info(&[], "alice", RIGHT).expect_code(75);
    refused.expect_text("session busy").expect_text("wait a minute");
    let log = gate.gateway.log();
    assert!(log.contains("reason busy") && !log.contains("link 1/1 file reason busy"), "{log}");
}

/// S-24: an answer on a connection that was opened before is held to the penalty of now; a login of one's own takes
/// nothing off; whoever is listed is not counted.
#[test]
fn s_024_what_counts_is_the_moment_and_the_name() {
    let gate = Gate::open(&["--refusal-delay=0"]);
    let mut early = gate.challenged(HERE, "alice");
    gate.exhaust(HERE, "alice");
    answer(&mut early.0, "alice", &early.1, RIGHT);
    assert_eq!(reason(&mut early.0), "session busy");
    assert!(gate.logs_in(HERE, "mallory", RIGHT));
    assert_eq!(gate.guess(HERE, "alice"), Answered::AtOnce);

    for uncounted in ["--penalty-exempt=127.0.0.1", "--penalties=no"] {
        let gate = Gate::open(&["--refusal-delay=0", uncounted]);
        for _ in 0..50 {
            assert_eq!(gate.guess(HERE, "alice"), Answered::AfterAChallenge, "{uncounted}");
        }
        assert_eq!(
            gate.gateway.log().contains("can be guessed at full speed"),
            uncounted == "--penalties=no"
        );
    }
}

/// S-24: what a name has failed at one door is not taken off where somebody may claim it without an answer.
#[test]
fn s_024_a_login_that_answers_for_nobody_takes_nothing_off() {
    let gate = Gate::open(&["--refusal-delay=0", "--bind-tcp=127.0.0.1:0,auth=none"]);
    let open = format!("tcp://alice@127.0.0.1:{}/", gate.gateway.ports()[1]);
    let comes_in = || run(&mut countersign(&gate.place, &["info", &open])).succeeded();
    let judged = (0..20).filter(|_| comes_in() && gate.guess(HERE, "alice") == Answered::AfterAChallenge);
    // Fifteen seconds' worth, and one for what time takes off meanwhile.
    let judged = judged.count();
    assert!((3..=6).contains(&judged), "{judged}");
}

/// S-27: neither a crash nor a restart gives anybody new guesses, or takes anything from the others.
#[test]
fn s_027_who_has_to_wait_waits_on_after_a_crash_and_a_restart() {
    let long = ["--refusal-delay=0", "--penalty-min=60s", "--penalty-max=600s"];
    let mut gate = Gate::open(&long);
    gate.exhaust(HERE, "alice");
    let file = gate.gateway.place().path("state/penalties");
    let written = || fs::read_to_string(&file).is_ok_and(|text| text.contains(" enforced\n"));
    assert!(gate.gateway.daemon().eventually(written), "{}", gate.gateway.log());
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    for end in [Gateway::kill, Gateway::stop] {
        gate = gate.again(end, &long);
        assert_eq!(gate.guess(HERE, "alice"), Answered::AtOnce);
        assert!(gate.logs_in(HERE, "bob", RIGHT) && gate.logs_in(THERE, "alice", RIGHT));
    }
}

/// S-21, S-96: who has to wait after failed logins, and who is never counted, follows the configuration.
#[test]
fn s_096_penalties_go_on_under_the_new_limits() {
    let files = Place::new();
    let limits = |text: &str| files.file("c.toml", format!("[limits]\n{text}"));
    let exempt = "penalty-exempt = [\"127.0.0.0/8\"]\n";
    let gate = Gate::open(&["--refusal-delay=50ms", "--config", &limits(exempt)]);
    let state = gate.gateway.place().text("state");
    let reload = || run(&mut countersign(&files, &["reload", "--state-dir", &state])).expect_success();
    for _ in 0..20 {
        assert_eq!(gate.guess(HERE, "alice"), Answered::AfterAChallenge, "nobody counts");
    }
    limits("");
    reload();
    assert!(gate.logs_in(HERE, "alice", RIGHT), "nothing was counted");
    gate.exhaust(HERE, "alice");
    limits(exempt);
    reload();
    assert!(gate.logs_in(HERE, "alice", RIGHT), "whoever is exempt waits for nothing");
}

/// S-27: without a place to keep them in, or what was kept, penalties hold in memory, and the log says so.
#[test]
fn s_027_penalties_hold_in_memory_where_there_is_no_file_for_them() {
    let private = |path: PathBuf| fs::DirBuilder::new().mode(0o700).create(path).expect("a new directory");
    for (damaged, said) in [
        (true, "Failed logins are counted anew"),
        // In the place of a directory no file can be put.
        (false, "penalties are kept in memory alone"),
    ] {
        let place = Place::new();
        private(place.path("state"));
        match damaged {
            true => _ = place.file_with_mode("state/penalties", "countersign penalties 1\nkey 0", 0o600),
            false => private(place.path("state/penalties")),
        }
        let gate = Gate::open_in(place, &["--refusal-delay=0"]);
        gate.exhaust(HERE, "alice");
        assert!(gate.logs_in(THERE, "alice", RIGHT));
        let log = || gate.gateway.log();
        assert!(gate.gateway.daemon().eventually(|| log().contains(said)), "{said}: {}", log());
    }
}

/// The owner sees who has to wait, and lets them in again.
#[test]
fn s_021_the_owner_sees_penalties_and_clears_them() {
    let gate = Gate::open(&["--refusal-delay=0", "--penalty-min=60s"]);
    gate.exhaust(HERE, "alice");
    gate.guess(THERE, "alice");
    let json = gate.penalties(&["list", "--json"]).expect_success().stdout;
    let listed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let of = |position: usize, field: &str| listed["penalties"][position][field].clone();
    assert_eq!(
        (of(0, "source"), of(0, "names"), of(0, "enforced")),
        ("127.0.0.1".into(), 1.into(), false.into())
    );
    assert!(of(0, "left").as_u64().is_some_and(|left| (30..=70).contains(&left)), "{json}");
    assert_eq!((of(1, "source"), of(1, "names")), ("127.0.0.2".into(), 0.into()));
    assert!(listed["refused"].as_u64().is_some_and(|refused| refused > 0), "{json}");
    gate.penalties(&["list"]).expect_success().expect_text("127.0.0.1").expect_text("1 name");

    gate.penalties(&["clear", "127.0.0.1"]).expect_success();
    assert!(gate.logs_in(HERE, "alice", RIGHT));
    gate.penalties(&["clear", "192.0.2.7"]).expect_code(1).expect_text("it has no penalty");
    gate.penalties(&["clear", "everybody"]).expect_code(2).expect_text("it is no source");
    gate.exhaust(HERE, "alice");
    gate.penalties(&["clear", "--all"]).expect_success();
    assert!(gate.logs_in(HERE, "alice", RIGHT));
    let log = gate.gateway.log();
    assert!(log.contains("clear-penalties"), "{log}");
    // The store, which no socket of this gateway asks, is reached by the same socket.
    gate.gateway.trust(&["list"]).expect_success();

    let state = gate.gateway.place().text("state");
    let place = gate.gateway.stop();
    let ended = run(&mut countersign(&place, &["penalties", "list", "--state-dir", &state]));
    ended.expect_code(69).expect_text("no gateway answers");
}

/// A penalty ends by itself, and being refused prolongs nothing.
#[test]
fn s_021_a_penalty_ends_by_itself() {
    let gate = Gate::open(&["--refusal-delay=0", "--penalty-min=6s", "--penalty-max=24s"]);
    let start = Instant::now();
    gate.guess(HERE, "alice");
    gate.guess(HERE, "alice");
    while !gate.logs_in(HERE, "alice", RIGHT) {
        assert!(start.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(200));
    }
    let took = start.elapsed();
    assert!(took.as_secs() >= 9, "{took:?}");
}

/// How a wrong guess ends.
#[derive(Debug, PartialEq, Eq)]
enum Answered {
    AfterAChallenge,
    /// Refused before a challenge.
    AtOnce,
}

/// A gateway with one password.
struct Gate {
    gateway: Gateway,
    place: Place,
}

impl Gate {
    fn open(arguments: &[&str]) -> Self {
        Self::open_in(Place::new(), arguments)
    }

    /// The same over the state in `state`.
    fn open_in(state: Place, arguments: &[&str]) -> Self {
        let place = Place::new();
        let password = place.file("password", RIGHT);
        let bind = format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})");
        let arguments = [&[bind.as_str()], arguments].concat();
        Self { gateway: Gateway::start_in(state, &arguments, counted), place }
    }

    /// Another gateway over what this one leaves.
    fn again(self, end: fn(Gateway) -> Place, arguments: &[&str]) -> Self {
        Self::open_in(end(self.gateway), arguments)
    }

    /// Guesses until that is refused at once.
    fn exhaust(&self, host: Ipv4Addr, user: &str) {
        let enough = (0..200).any(|_| self.guess(host, user) == Answered::AtOnce);
        assert!(enough, "200 guesses were judged");
    }

    fn info(&self, arguments: &[&str], user: &str, password: &str) -> Finished {
        let file = self.place.file(if password == RIGHT { "right" } else { "wrong" }, password);
        let address = format!("tcp://{user}@127.0.0.1:{}/", self.gateway.port());
        run(&mut countersign(
            &self.place,
            &[&["info", "--password-file", &file, &address], arguments].concat(),
        ))
    }

    /// Runs `countersign penalties` as the gateway's owner.
    fn penalties(&self, words: &[&str]) -> Finished {
        let state = self.gateway.place().text("state");
        run(&mut countersign(&self.place, &[&["penalties", "--state-dir", &state], words].concat()))
    }

    fn hello(&self, host: Ipv4Addr, user: &str) -> (TcpStream, Received) {
        let mut stream =
            if host == HERE { dial(self.gateway.tcp()) } else { dial_from(host, self.gateway.tcp()) };
        wire::send(&mut stream, &hello(honest(user)));
        let answer = wire::read(&mut stream);
        (stream, answer)
    }

    fn challenged(&self, host: Ipv4Addr, user: &str) -> (TcpStream, Challenge) {
        let (stream, answer) = self.hello(host, user);
        (stream, answer.challenge())
    }

    fn guess(&self, host: Ipv4Addr, user: &str) -> Answered {
        let (mut stream, first) = self.hello(host, user);
        if let Received::Packet(kind, items) = &first
            && kind == "disconnect"
        {
            assert_eq!(items[0].text(), "session busy");
            return Answered::AtOnce;
        }
        answer(&mut stream, user, &first.challenge(), WRONG);
        match reason(&mut stream).as_str() {
            "authentication failed" => Answered::AfterAChallenge,
            // Challenged before the penalty, answered after: not judged.
            "session busy" => Answered::AtOnce,
            other => panic!("{other}"),
        }
    }

    fn logs_in(&self, host: Ipv4Addr, user: &str, password: &str) -> bool {
        let (mut stream, first) = self.hello(host, user);
        if matches!(&first, Received::Packet(kind, _) if kind == "disconnect") {
            return false;
        }
        answer(&mut stream, user, &first.challenge(), password);
        matches!(wire::read(&mut stream), Received::Packet(kind, _) if kind == "hello")
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
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
