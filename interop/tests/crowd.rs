//! Thousands of clients that say nothing: what they cost, and that they keep nobody out.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, counted, countersign},
    net::{dial, dial_from},
    process::{Finished, run},
    wire::{self, Received, Value, hello, honest, with},
};

/// S-02, S-03: 2,500 sources with four connections each in all, of which as many as there are places stay; whoever
/// has something to say gets in at once, and what was taken is given back.
#[test]
fn s_002_s_003_a_flood_from_2500_addresses_costs_little_and_keeps_nobody_out() {
    let gate = Gate::open(&["--handshake-timeout=60s"]);
    gate.info("127.0.0.1").expect_success();
    let before = gate.resident();
    let mut flood = Vec::new();
    for round in 0..4 {
        flood.extend((0..2500).map(|source| dial_from(stranger(source), gate.gateway.tcp())));
        let start = Instant::now();
        gate.info("127.0.0.1").expect_success();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} in round {round}");
    }
    let grown = gate.resident().saturating_sub(before);
    let inside = flood.iter().filter(|stream| is_open(stream)).count();
    println!("{inside} of {} connections are inside and take {grown} KiB", flood.len());
    assert!((2000..=4096).contains(&inside), "{inside}");
    assert!(grown <= EACH * inside as u64, "{grown} KiB for {inside} connections");
    drop(flood);
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", gate.gateway.daemon().id())).expect("a running process").count()
    };
    assert!(gate.gateway.daemon().eventually(|| descriptors() < 100));
}

/// S-02, S-10: a message that has begun costs what came of it, and its head, which promises 64 KiB, nothing.
#[test]
fn s_002_s_010_a_stranger_that_has_begun_a_message_costs_little() {
    let gate = Gate::open(&["--handshake-timeout=60s"]);
    gate.info("127.0.0.1").expect_success();
    let before = gate.resident();
    let begun = [&PROMISE[..], &[0; 4096 - PROMISE.len()]].concat();
    let strangers: Vec<_> = (0..2000)
        .map(|source| {
            let mut stream = dial_from(stranger(source), gate.gateway.tcp());
            stream.write_all(&begun).expect("the gateway reads");
            stream
        })
        .collect();
    assert!(gate.gateway.daemon().eventually(|| unread(gate.gateway.port()) == 0));
    let grown = gate.resident().saturating_sub(before);
    assert!(strangers.iter().all(is_open));
    println!("{} connections take {grown} KiB", strangers.len());
    assert!(grown <= EACH * strangers.len() as u64, "{grown} KiB for {} connections", strangers.len());
}

/// S-02, S-03: ten thousand strangers that say nothing and come again when they are pushed out, and a thousand logins
/// that pass meanwhile. Who is pushed out by chance in the middle of a login comes again too, as clients do.
#[test]
fn s_003_a_thousand_logins_pass_beside_ten_thousand_idle_strangers() {
    let gate = Gate::open(&["--handshake-timeout=60s"]);
    let mut crowd: Vec<_> =
        (0..STRANGERS).map(|number| dial_from(stranger(number % 2500), gate.gateway.tcp())).collect();
    let done = AtomicBool::new(false);
    let (again, retried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        let (gate, done, again, retried) = (&gate, &done, &again, &retried);
        scope.spawn(move || {
            for number in (0..crowd.len()).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                if !is_open(&crowd[number]) {
                    let source = stranger(u16::try_from(number % 2500).expect("a small number"));
                    crowd[number] = dial_from(source, gate.gateway.tcp());
                    again.fetch_add(1, Ordering::Relaxed);
                    // A few hundred in a second: what is tried is the crowd, not how fast this machine connects.
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        let logins: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    for number in (worker..LOGINS).step_by(usize::from(WORKERS)) {
                        let [high, low] = number.to_be_bytes();
                        let source = Ipv4Addr::new(127, 8, high, low.max(1));
                        let tries = (1..=5).find(|_| gate.lets_in(source)).expect("one of five tries");
                        retried.fetch_add(tries - 1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for worker in logins {
            // Whatever it found: the crowd has to end, too.
            let worker = worker.join();
            done.store(worker.is_err() || done.load(Ordering::Relaxed), Ordering::Relaxed);
            worker.expect("logins");
        }
        done.store(true, Ordering::Relaxed);
    });
    let (again, retried, took) = (again.into_inner(), retried.into_inner(), start.elapsed());
    println!("{LOGINS} logins in {took:?}; {again} strangers came again; {retried} logins were tried again");
    assert!(retried <= usize::from(LOGINS) / 20, "{retried} of {LOGINS} logins were pushed out");
}

/// S-04: one source has 20 places, and a newcomer from there takes one of them, nobody else's.
#[test]
fn s_004_one_source_has_twenty_places_and_a_door_its_own_number() {
    let gate = Gate::open(&[]);
    let others: Vec<_> = (0..50).map(|source| dial_from(stranger(source), gate.gateway.tcp())).collect();
    let flood: Vec<_> = (0..100).map(|_| dial(gate.gateway.tcp())).collect();
    let left = || flood.iter().filter(|stream| is_open(stream)).count();
    assert!(gate.gateway.daemon().eventually(|| left() == 20), "{}", left());
    assert!(others.iter().all(is_open));
    gate.info("127.0.0.1").expect_success();

    let gate = Gate::open(&["--penalty-exempt=127.0.0.0/8"]);
    let proxy: Vec<_> = (0..100).map(|_| dial(gate.gateway.tcp())).collect();
    gate.info("127.0.0.1").expect_success();
    assert!(proxy.iter().all(is_open), "many come through one that is listed");
    drop(proxy);

    let gate = Gate::with("max-unauthenticated=10", &[]);
    let flood: Vec<_> = (0..50).map(|source| dial_from(stranger(source), gate.gateway.tcp())).collect();
    let left = || flood.iter().filter(|stream| is_open(stream)).count();
    assert!(gate.gateway.daemon().eventually(|| left() == 10), "{}", left());
    gate.info("127.0.0.1").expect_success();
}

/// A gateway that asks for one password.
struct Gate {
    gateway: Gateway,
    place: Place,
}

impl Gate {
    fn open(arguments: &[&str]) -> Self {
        Self::with("name=front", arguments)
    }

    fn with(option: &str, arguments: &[&str]) -> Self {
        let place = Place::new();
        let password = place.file("password", PASSWORD);
        let bind = format!("--bind-tcp=127.0.0.1:0,{option},auth=file(filename={password})");
        allow_descriptors();
        let gateway = Gateway::start_with(&[&[bind.as_str()], arguments].concat(), counted);
        Self { gateway, place }
    }

    fn info(&self, host: &str) -> Finished {
        let address = format!("tcp://alice@{host}:{}/", self.gateway.port());
        run(&mut countersign(
            &self.place,
            &["info", "--password-file", &self.place.text("password"), &address],
        ))
    }

    /// Whether a login with the right password comes to its end.
    fn lets_in(&self, source: Ipv4Addr) -> bool {
        let mut stream = dial_from(source, self.gateway.tcp());
        let salt = *b"thirty-two bytes of client salt!";
        wire::send(&mut stream, &hello(honest("alice")));
        let first = wire::read(&mut stream);
        if !matches!(&first, Received::Packet(kind, _) if kind == "challenge") {
            return false;
        }
        let challenge = first.challenge();
        let proof = wire::answer(&challenge, &salt, PASSWORD.as_bytes());
        let caps = with(honest("alice"), "challenge_response", Value::Bytes(proof));
        wire::send(&mut stream, &hello(with(caps, "challenge_client_salt", Value::Bytes(salt.to_vec()))));
        wire::read(&mut stream).is_welcome()
    }

    /// Resident memory in KiB.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.daemon().id()));
        let status = status.expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// How many say nothing, how many log in, and how many of those at a time.
const STRANGERS: u16 = 10_000;
const LOGINS: u16 = 1000;
const WORKERS: u16 = 4;

/// One of 2,500 addresses of this machine.
fn stranger(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 256).to_be_bytes();
    Ipv4Addr::new(127, 9, high, low)
}

/// Whether the gateway has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let waits = stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("a socket");
    waits
}

/// How many bytes wait to be read by whoever listens at `port`, as the kernel tells.
fn unread(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").expect("the sockets of this machine");
    let local = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mine = rows.filter(|row| row.get(1).is_some_and(|address| address.ends_with(&local)));
    mine.map(|row| {
        row[4].split_once(':').and_then(|(_, queue)| u64::from_str_radix(queue, 16).ok()).expect("a size")
    })
    .sum()
}

/// Lets this process, and the gateway that it starts then, open [`MANY`] descriptors.
fn allow_descriptors() {
    let (process, limit) = (std::process::id().to_string(), format!("--nofile={MANY}:"));
    run(Command::new("prlimit").args(["--pid", &process, &limit])).expect_success();
}

/// KiB that a stranger may cost until it has said something whole.
const EACH: u64 = 16;

/// The head of a packet with 64 KiB of payload.
const PROMISE: [u8; 8] = [b'P', 0x10, 0, 0, 0, 1, 0, 0];

/// For both ends of ten thousand connections in one machine, and within what a service may usually have.
const MANY: u64 = 16_384;

const PASSWORD: &str = "correct horse";
