//! `kill -9` while the first certificate is accepted: whatever moment it is, the store opens again, the socket is never
//! open to all with nobody accepted, and who heard a yes is in.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    account::is_root,
    certificate::Pair,
    gateway::{Gateway, countersign},
    grpc::Server,
    process::{Daemon, program},
    rpc::{Caller, OK, UNAUTHENTICATED},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::runtime::Runtime;

#[test]
fn s_050_a_kill_before_any_write_leaves_the_state_before_or_after() {
    if !is_root() {
        eprintln!("skipped: only root may watch the system calls of a program that runs");
        return;
    }
    let (stage, mut killed) = (Stage::new(), Vec::new());
    for call in WRITING {
        let survived = (1..MOST).find(|&number| {
            let moment = format!("before `{call}` number {number}");
            let end = stage.round(&moment, |gateway| {
                let watch = kill_before(gateway, call, number);
                || drop(watch)
            });
            killed.extend(end.answered.is_none().then_some(end.accepted));
            end.answered.is_some()
        });
        assert!(survived.is_some(), "the acceptance calls `{call}` more than {MOST} times");
    }
    assert_both_sides(&killed);
}

#[test]
fn s_050_a_kill_at_any_moment_leaves_the_state_before_or_after() {
    let (stage, mut killed) = (Stage::new(), Vec::new());
    let whole = stage.round("never", |_| || ()).answered.expect("nothing is killed");
    for number in 0..MOMENTS {
        // The last ones come after the answer.
        let delay = whole * number * 5 / (MOMENTS * 4);
        let end = stage.round(&format!("after {delay:?}"), |gateway| {
            let process = Pid::from_raw(i32::try_from(gateway.daemon().id()).expect("a process id"));
            let killer = thread::spawn(move || {
                thread::sleep(delay);
                // It is waited for later only, so the number cannot have gone to another process.
                kill(process, Signal::SIGKILL).expect("a signal to an own child");
            });
            || killer.join().expect("the gateway was there to be killed")
        });
        killed.extend(end.answered.is_none().then_some(end.accepted));
    }
    assert_both_sides(&killed);
}

#[test]
fn a_kill_before_any_write_of_the_first_start_is_made_good_by_the_next() {
    let (stage, mut killed) = (Stage::new(), 0);
    for call in OF_A_START {
        let survived = (1..MOST).find(|&number| {
            let place = Place::new();
            let start = stage.start_killed_before(&place, call, number);
            if start.eventually(|| start.output().contains("listening on ")) {
                return true;
            }
            killed += 1;
            let gateway = Gateway::start_in(place, &stage.arguments(), |_| {});
            let moment = format!("before `{call}` number {number}");
            assert_eq!(mode(&stage.socket()), closed(), "{moment}");
            assert_eq!(stage.call(&stage.alice), Some(OK), "{moment}\n{}", gateway.log());
            assert_eq!(stage.call(&stage.stranger), Some(UNAUTHENTICATED), "{moment}: a stranger got in");
            false
        });
        assert!(survived.is_some(), "the start calls `{call}` more than {MOST} times");
    }
    assert!(killed > OF_A_START.len(), "only {killed} starts were killed: are the system calls others now?");
}

/// Kills that all came before the certificate was kept, or all after, would not have tried the moment between.
fn assert_both_sides(accepted: &[bool]) {
    let after = accepted.iter().filter(|accepted| **accepted).count();
    assert!(
        after > 0 && after < accepted.len(),
        "{after} of {} kills came after it was kept",
        accepted.len()
    );
}

/// How a round went.
struct End {
    /// How long the client waited for its yes; `None` if it heard nothing.
    answered: Option<Duration>,
    /// Whether the client was accepted when the gateway had started again.
    accepted: bool,
}

/// What the rounds share: a daemon, a gateway's own certificate, a client and a stranger.
struct Stage {
    server: Server,
    place: Place,
    own: Pair,
    alice: Caller,
    stranger: Caller,
    runtime: Runtime,
}

impl Stage {
    fn new() -> Self {
        let place = Place::new();
        let own = Pair::of_localhost(&place, "gateway");
        let runtime = Runtime::new().expect("a runtime");
        Self { server: Server::start(), place, own, alice: Caller::new(), stranger: Caller::new(), runtime }
    }

    /// A fresh gateway is armed, its first client calls, it is disarmed, and it is started again.
    fn round<D: FnOnce()>(&self, moment: &str, arm: impl FnOnce(&Gateway) -> D) -> End {
        let arguments = self.arguments();
        let gateway = Gateway::start(&arguments);
        let disarm = arm(&gateway);
        let called = Instant::now();
        let heard = self.call(&self.alice);
        let answered = heard.map(|_| called.elapsed());
        assert!(matches!(heard, Some(OK) | None), "{moment}: {heard:?}");
        disarm();
        let was_open = mode(&self.socket()) == 0o666;

        let gateway = Gateway::start_in(gateway.kill(), &arguments, |_| {});
        let accepted = self.ping(&self.alice) == Some(OK);
        assert!(accepted || heard.is_none(), "{moment}: the client heard a yes and is out");
        assert!(accepted || !was_open, "{moment}: the socket was open before anybody was accepted");
        assert_eq!(mode(&self.socket()), if accepted { 0o666 } else { closed() }, "{moment}");
        assert_eq!(self.ping(&self.stranger), Some(UNAUTHENTICATED), "{moment}");
        if accepted {
            assert_eq!(self.call(&self.stranger), Some(UNAUTHENTICATED), "{moment}: a stranger got in");
        }
        assert_eq!(self.call(&self.alice), Some(OK), "{moment}\n{}", gateway.log());
        assert_eq!(self.call(&self.stranger), Some(UNAUTHENTICATED), "{moment}: a stranger got in");
        End { answered, accepted }
    }

    fn arguments(&self) -> [String; 2] {
        let Pair { cert, key } = &self.own;
        let socket = self.socket();
        [
            format!("--bind-rpc=unix:{},auth=certificate,ssl-cert={cert},ssl-key={key}", socket.display()),
            format!("--backend=unix:{}", self.server.unix),
        ]
    }

    fn socket(&self) -> PathBuf {
        self.place.path("rpc")
    }

    /// A gateway that is killed before one of its threads makes this system call for the n-th time.
    fn start_killed_before(&self, place: &Place, call: &str, number: usize) -> Daemon {
        let state = place.text("state");
        let arguments = self.arguments();
        let words = ["serve", "--state-dir", &state].into_iter().chain(arguments.iter().map(String::as_str));
        let start = countersign(place, &words.collect::<Vec<_>>());
        let mut command = strace(call, number);
        command.args(["-qq", "-o", "/dev/null"]).arg(start.get_program()).args(start.get_args());
        for (name, value) in start.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Daemon::start(command)
    }

    fn call(&self, caller: &Caller) -> Option<u32> {
        self.status(caller, "/lab.Lab/Echo")
    }

    fn ping(&self, caller: &Caller) -> Option<u32> {
        self.status(caller, "/multipass.Rpc/ping")
    }

    /// The status of one call on a connection of its own; `None` if there was none.
    fn status(&self, caller: &Caller, path: &str) -> Option<u32> {
        self.runtime.block_on(async {
            let mut line = caller.connect(&self.socket(), Path::new(&self.own.cert)).await.ok()?;
            line.call_within(path, b"", Duration::from_secs(30)).await
        })
    }
}

/// Kills the gateway when one of its threads is about to make this system call for the n-th time from now.
fn kill_before(gateway: &Gateway, call: &str, number: usize) -> Daemon {
    let mut command = strace(call, number);
    command.args(["-p", &gateway.daemon().id().to_string()]);
    let watch = Daemon::start(command);
    watch.wait_for("attached", |output| output.contains("attached").then_some(()));
    watch
}

fn strace(call: &str, number: usize) -> Command {
    let mut command = program("strace");
    command.args(["-f", "-e", "signal=none", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    command
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a socket").permissions().mode() & 0o7777
}

/// The rights of the socket while the first place is free: a gateway that is not root has no group to open it to.
fn closed() -> u32 {
    if is_root() { 0o660 } else { 0o600 }
}

/// Every call that changes a file or its rights, or says something to the client. A question mark: a system without
/// this call has nothing to kill.
const WRITING: [&str; 20] = [
    "pwrite64",
    "write",
    "writev",
    "fsync",
    "fdatasync",
    "?ftruncate",
    "?rename",
    "renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?chmod",
    "fchmod",
    "fchmodat",
    "?chown",
    "fchown",
    "fchownat",
    "sendto",
    "sendmsg",
    "openat",
];
/// What changes files, their rights and sockets when a gateway starts for the first time.
const OF_A_START: [&str; 12] = [
    "pwrite64",
    "fsync",
    "?ftruncate",
    "?rename",
    "linkat",
    "?unlink",
    "?mkdir",
    "fchmod",
    "fchmodat",
    "fchown",
    "bind",
    "listen",
];
/// A bound for the search, far from what an acceptance needs.
const MOST: usize = 100;
/// How many moments are tried.
const MOMENTS: u32 = 160;
