//! What a crowd, a miser or a mistake of the operator's can do to the gateway: nothing to anybody else.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, binary},
    net::{dial, dial_unix},
    process::{Finished, run},
    wire::{self, Challenge, Received, Value, hello, honest, with, without},
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// S-67: the address that a chain was judged for is the widest that the socket may have.
#[test]
fn s_067_an_inherited_socket_that_is_open_to_more_than_its_address_is_a_start_error() {
    let loopback = "--bind-tcp=127.0.0.1:0,name=front";
    serve_inherited("0.0.0.0:0", loopback)
        .expect_code(78)
        .expect_text("socket front: it is configured as tcp:127.0.0.1:0")
        .expect_without("listening on");
    serve_inherited("127.0.0.1:0", "--bind=./never-made,name=front").expect_code(78);
    serve_inherited("127.0.0.1:0", loopback).expect_code(0).expect_text("listening on tcp:127.0.0.1:");
}

/// S-03, S-04, S-05: with few descriptors and more silent strangers than there are, an honest client gets in while
/// they are there, the processor rests, and their descriptors come back.
#[test]
fn s_003_s_005_a_crowd_that_says_nothing_keeps_nobody_out() {
    let gate = Gate::with(|command| limit_descriptors(command, 128));
    let before = gate.descriptors();
    let crowd: Vec<TcpStream> = (0..300).map(|_| dial(gate.gateway.tcp())).collect();
    let started = Instant::now();
    gate.honest_login();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let worked = gate.processor_time();
    thread::sleep(Duration::from_secs(1));
    assert!(gate.processor_time() - worked < Duration::from_millis(300), "it spins");
    drop(crowd);
    assert!(gate.gateway.daemon().eventually(|| gate.descriptors() <= before + 16));
    gate.honest_login();
}

/// S-07: whoever vanishes, at whatever stage, leaves nothing behind.
#[test]
fn s_007_clients_that_vanish_leave_no_descriptor() {
    let gate = Gate::with(|_| ());
    let before = gate.descriptors();
    let whole = hello(honest("alice"));
    for stage in
        [&whole[..0], &whole[..5], &whole[..8], &whole[..whole.len() / 2], &whole, b"\x16\x03\x01\x02\x00"]
    {
        for reset in [false, true] {
            for _ in 0..150 {
                let mut stream = dial(gate.gateway.tcp());
                wire::send(&mut stream, stage);
                if reset && stage.len() == whole.len() {
                    // Closing with something unread, here the challenge, is what resets a connection.
                    stream.peek(&mut [0]).expect("a challenge");
                }
            }
        }
    }
    let back = gate.gateway.daemon().eventually(|| gate.descriptors() <= before + 16);
    assert!(back, "{} descriptors, {before} before", gate.descriptors());
    gate.honest_login();
}

/// S-80, S-90: a password that was written in an argument or the environment is gone from there when clients come.
#[test]
fn s_080_s_090_the_process_list_shows_no_password() {
    let canary = "canary-in-the-argument";
    let arguments = [
        format!("--bind-tcp=127.0.0.1:0,auth=password(value={canary})"),
        "--bind-tcp=127.0.0.1:0".to_owned(),
        "--tcp-auth".to_owned(),
        format!("password:value={canary}"),
    ];
    let gateway = Gateway::start_with(&arguments, |command| {
        let place = std::env::temp_dir().join(format!("countersign-limits-{}.sock", std::process::id()));
        let socket = format!("{},auth=password(value={canary})", place.display());
        command.env("COUNTERSIGN_BIND", socket);
    });
    for file in ["cmdline", "environ"] {
        let path = format!("/proc/{}/{file}", gateway.daemon().id());
        let shown = fs::read(&path).expect("a running process");
        let shown = String::from_utf8_lossy(&shown).replace('\0', " ");
        assert!(!shown.contains(canary), "{path}: {shown}");
    }
    let log = gateway.log();
    assert!(!log.contains(canary), "{log}");
    log_in(&mut dial(gateway.tcp()), canary.as_bytes());
}

/// S-60, S-97: sockets are removed at the end, a killed gateway leaves one that the next start replaces, and the exit
/// code says whether sessions were cut.
#[test]
fn s_060_s_097_a_socket_file_goes_with_its_gateway_and_a_dead_one_is_replaced() {
    let place = Place::new();
    let path = place.path("door");
    let bind = [format!("--bind={},auth=none,protocol=stream", path.display())];
    let killed = Gateway::start(&bind);
    killed.daemon().signal(nix::sys::signal::Signal::SIGKILL);
    killed.daemon().wait();
    assert!(path.exists(), "nobody could remove it");
    let ended = Gateway::start(&bind);
    ended.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(ended.daemon().wait().code(), Some(0));
    assert!(!path.exists(), "its socket is removed");

    let cut = Gateway::start(&bind);
    let session = dial_unix(&path);
    assert!(cut.daemon().eventually(|| cut.log().contains("auth success")));
    cut.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    assert!(cut.daemon().eventually(|| std::os::unix::net::UnixStream::connect(&path).is_err()));
    assert!(cut.daemon().ended().is_none(), "the session goes on");
    cut.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(cut.daemon().wait().code(), Some(1));
    drop(session);
}

/// S-97: nothing waits for a check whose client is gone.
#[test]
fn s_097_a_gateway_ends_although_a_check_still_runs() {
    let place = Place::new();
    let script = format!("#!/bin/sh\ntouch {}\nexec sleep 1000\n", place.text("started"));
    let stuck = place.file_with_mode("stuck", script, 0o700);
    let bind = format!("--bind-tcp=127.0.0.1:0,auth=exec(command={stuck},timeout=900)");
    let gateway = Gateway::start(&[bind.as_str(), "--drain-timeout=1s"]);
    let mut client = dial(gateway.tcp());
    wire::send(&mut client, &hello(honest("alice")));
    assert!(gateway.daemon().eventually(|| place.path("started").exists()), "{}", gateway.log());
    gateway.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(gateway.daemon().wait().code(), Some(1), "its login was cut: {}", gateway.log());
}

/// A gateway that asks for one password on a TCP port.
struct Gate {
    gateway: Gateway,
    _place: Place,
}

impl Gate {
    fn with(adjust: impl FnOnce(&mut Command)) -> Self {
        let place = Place::new();
        let password = place.file("password", SECRET);
        let bind = format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})");
        Self { gateway: Gateway::start_with(&[bind], adjust), _place: place }
    }

    #[track_caller]
    fn honest_login(&self) {
        log_in(&mut dial(self.gateway.tcp()), SECRET);
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.gateway.daemon().id())).expect("a running process").count()
    }

    /// What its threads have used so far.
    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.gateway.daemon().id()))
            .expect("a running process");
        let fields = stat.rsplit(')').next().expect("the fields behind the name");
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

#[track_caller]
fn log_in(stream: &mut TcpStream, secret: &[u8]) {
    wire::send(stream, &hello(honest("alice")));
    let challenge: Challenge = wire::read(stream).challenge();
    let response = wire::answer(&challenge, &SALT, secret);
    let caps = with(without(honest("alice"), "challenge"), "challenge_response", response.as_slice().into());
    wire::send(stream, &hello(with(caps, "challenge_client_salt", Value::from(SALT.as_slice()))));
    let answer = wire::read(stream);
    assert!(matches!(&answer, Received::Packet(kind, _) if kind == "hello"), "{answer:?}");
}

/// Runs the gateway for a moment with a socket bound to `address` as descriptor 3, as a service manager does.
fn serve_inherited(address: &str, bind: &str) -> Finished {
    let place = Place::new();
    let listener = TcpListener::bind(address).expect("a free port");
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor for the child");
    let mut command = Command::new("sh");
    let number = listener.as_raw_fd();
    let script = format!(r#"(sleep 1; kill $$) & LISTEN_PID=$$ exec "$0" "$@" 3<&{number}"#);
    command.args(["-c", &script]).arg(binary()).args(["serve", bind, "--state-dir"]).arg(place.path("state"));
    command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "front"), ("HOME", "/nonexistent")]);
    command.current_dir(place.path("."));
    run(&mut command)
}

/// Lets the program open this many descriptors at most.
fn limit_descriptors(command: &mut Command, most: u64) {
    let (program, arguments) = (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned));
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--nofile={most}")).arg("--").arg(program).args(arguments);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.arg0("prlimit");
    *command = limited;
}

const SECRET: &[u8] = b"open-sesame-4711";
const SALT: [u8; 32] = *b"thirty-two bytes of client salt!";
