//! `exec`: client text that looks like a shell command stays text, and a program that hangs is ended.

use std::{fs, path::Path, process, time::Duration};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign, encoded},
    process::{Finished, run},
    xpra::{self, exit},
};

#[test]
fn a_username_made_of_shell_syntax_runs_nothing() {
    let place = Place::new();
    let (seen, told) = (place.text("seen"), place.text("told"));
    let lines =
        format!("printf '%s\\n' \"$@\" >>{told}\nprintf '%s\\n' \"$COUNTERSIGN_USERNAME\" >>{seen}\n");
    let script = place.file_with_mode("judge", format!("#!/bin/sh\n{lines}"), 0o700);
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=exec(command={script})")]);
    let trap = format!("trap{}", process::id());
    let names: Vec<_> = HOSTILE.iter().map(|name| name.replace("TRAP", &trap)).collect();
    for name in &names {
        log_in(&place, &gateway, name).expect_success();
        // Programs run in the root folder.
        assert!(!Path::new("/").join(&trap).exists(), "`{name}` was run");
    }
    // A shell would have left nothing of them as it was.
    assert_eq!(read(&seen).lines().collect::<Vec<_>>(), names);
    let first = read(&told).lines().next().map(str::to_owned).unwrap_or_default();
    assert!(
        first.starts_with("Connection request from "),
        "the first argument describes the connection: {first}"
    );
}

#[test]
fn a_template_gets_one_word_for_each_name() {
    let place = Place::new();
    let seen = place.text("seen");
    let lines = format!("printf '%s:%s\\n' \"$#\" \"$1\" >>{seen}\n");
    let script = place.file_with_mode("judge", format!("#!/bin/sh\n{lines}"), 0o700);
    let gateway = Gateway::start(&[format!(
        "--bind-tcp=127.0.0.1:0,auth=exec(command=\"{script} ${{username}} end\")"
    )]);
    for name in ["alice", "two words", "a;b", "$(id)", "$timeout"] {
        log_in(&place, &gateway, name).expect_success();
    }
    assert_eq!(
        read(&seen).lines().collect::<Vec<_>>(),
        ["2:alice", "2:two words", "2:a;b", "2:$(id)", "2:$timeout"]
    );
}

#[test]
fn the_exit_status_decides() {
    let place = Place::new();
    for (status, code) in [(0, exit::OK), (1, exit::CONNECTION_FAILED), (77, exit::CONNECTION_FAILED)] {
        let script = place.file_with_mode("judge", format!("#!/bin/sh\nexit {status}\n"), 0o700);
        let session = xpra::Session::open("judged");
        let gateway = Gateway::start(&[
            format!("--bind-tcp=127.0.0.1:0,auth=exec(command={script})"),
            format!("--backend=xpra+unix:{}", session.socket),
        ]);
        let finished = xpra::info(&format!("tcp://alice@127.0.0.1:{}/", gateway.port()), &[], &[]);
        finished.expect_code(code);
    }
}

#[test]
fn a_program_that_hangs_is_ended_with_all_it_started() {
    let place = Place::new();
    let pids = place.text("pids");
    let script = place.file_with_mode(
        "judge",
        format!("#!/bin/sh\necho $$ >>{pids}\nsleep 300 &\necho $! >>{pids}\nwait\n"),
        0o700,
    );
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=exec(command={script},timeout=1)")]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let finished = run(&mut countersign(&place, &["info", &address])).expect_code(77);
    assert!(finished.took < Duration::from_secs(20), "refused after {:?}", finished.took);
    let text = fs::read_to_string(place.path("pids")).expect("the program ran");
    assert_eq!(text.lines().count(), 2, "{text}");
    for pid in text.lines() {
        let gone = gateway.daemon().eventually(|| !is_running(pid));
        assert!(gone, "process {pid} outlives its deadline");
    }
}

fn log_in(place: &Place, gateway: &Gateway, name: &str) -> Finished {
    let address = format!("tcp://{}@127.0.0.1:{}/", encoded(name), gateway.port());
    run(&mut countersign(place, &["info", &address]))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).expect("the program ran")
}

/// Whether a process exists and is more than an entry that nobody has collected yet.
fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

const HOSTILE: &[&str] = &[
    "alice; touch TRAP",
    "$(touch TRAP)",
    "`touch TRAP`",
    "alice && touch TRAP",
    "alice | touch TRAP",
    "> TRAP",
    "' ; touch TRAP ; '",
    "\" ; touch TRAP ; \"",
    "${IFS}touch${IFS}TRAP",
    "$timeout",
];
