//! `ssh://`: our client reaches sockets of another machine through the real `ssh` and `sshd`.

use std::{
    fs,
    io::{Read as _, Write as _},
    thread,
};

use countersign_interop::{
    Place,
    gateway::Gateway,
    net::dial,
    process::{Daemon, Finished, program, run, run_with_input},
    ssh::key,
    sshd::Sshd,
    xpra,
};

/// A gateway on a Unix socket, where this chain decides, with an echoing daemon.
fn gateway(place: &Place, chain: &str) -> (Gateway, String) {
    let socket = place.text("app.sock");
    let gateway = Gateway::start(&[format!("--bind={socket},{chain}"), "--backend=exec:/bin/cat".to_owned()]);
    (gateway, socket)
}

fn info(sshd: &Sshd, place: &Place, path: &str, more: &[&str]) -> Finished {
    let address = format!("ssh://127.0.0.1:{}{path}", sshd.port);
    run(&mut sshd.countersign(place, &[&["info"], more, &[&address]].concat()))
}

#[test]
fn a_socket_of_another_machine_is_reached_and_counts_as_private() {
    let (place, sshd) = (Place::new(), Sshd::start());
    let (_gateway, socket) = gateway(&place, "auth=peercred");
    let finished = info(&sshd, &place, &socket, &[]).expect_success();
    for fact in ["client.verified=yes", "client.encrypted=yes", "\ntransport=unix"] {
        assert!(finished.stdout.contains(fact), "{fact} in {}", finished.all());
    }
    let address = format!("ssh://127.0.0.1:{}{socket}", sshd.port);
    let words: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).map(|byte| byte % 94 + 33).collect();
    let finished = run_with_input(&mut sshd.countersign(&place, &["connect", &address]), &words);
    let finished = finished.expect_success();
    assert!(finished.stdout.as_bytes() == words, "{} of {} bytes", finished.stdout.len(), words.len());
}

#[test]
fn passwords_are_asked_for_by_the_gateway_behind_and_may_travel_in_the_clear_there() {
    let (place, sshd) = (Place::new(), Sshd::start());
    let right = place.file("right", "correct horse");
    let wrong = place.file("wrong", "battery staple");
    let (_gateway, socket) = gateway(&place, &format!("auth=file(filename={right})"));
    info(&sshd, &place, &socket, &["--password-file", &right])
        .expect_success()
        .expect_text("answered=hmac+sha512");
    info(&sshd, &place, &socket, &["--password-file", &wrong]).expect_code(77);
    info(&sshd, &place, &socket, &["--require-encryption", "--password-file", &right]).expect_success();
}

#[test]
fn what_goes_wrong_is_told_by_whoever_it_went_wrong_with() {
    let (place, sshd) = (Place::new(), Sshd::start());
    let (gateway, socket) = gateway(&place, "auth=peercred");
    let nowhere = place.text("nowhere");
    // The far end speaks first, then we.
    info(&sshd, &place, &nowhere, &[])
        .expect_code(69)
        .expect_text("cannot be reached: No such file")
        .expect_text("the program there ended with code 69");
    drop(gateway);
    let stranger = key(&place, "stranger", "ed25519");
    let folder = sshd.client_with_key(&stranger);
    let address = format!("ssh://127.0.0.1:{}{socket}", sshd.port);
    let mut command = countersign_interop::gateway::countersign(&place, &["info", &address]);
    run(command.env("PATH", format!("{folder}:/usr/bin:/bin")))
        .expect_code(69)
        .expect_text("Permission denied (publickey)")
        .expect_text("ssh did not get in there");
    let bare = Sshd::start_with("SetEnv PATH=/nonexistent");
    info(&bare, &place, &socket, &[]).expect_code(69).expect_text("install countersign");
    let mut command = countersign_interop::gateway::countersign(&place, &["info", &address]);
    run(command.env("PATH", "/nonexistent")).expect_code(1).expect_text("install the client of OpenSSH");
}

#[test]
fn what_an_account_prints_first_is_passed_over_and_another_program_is_noticed() {
    let place = Place::new();
    let (_gateway, socket) = gateway(&place, "auth=peercred");
    let noisy =
        place.file_with_mode("noisy", "#!/bin/sh\necho Welcome; eval \"$SSH_ORIGINAL_COMMAND\"\n", 0o755);
    let sshd = Sshd::start_with(&format!("ForceCommand {noisy}"));
    info(&sshd, &place, &socket, &[]).expect_success();
    let other = Sshd::start_with("ForceCommand /bin/true");
    info(&other, &place, &socket, &[]).expect_code(69).expect_text("not the one that was asked for");
}

#[test]
fn s_047_an_address_runs_nothing_and_sets_no_option() {
    let (place, sshd) = (Place::new(), Sshd::start());
    let made = place.text("made");
    let encoded = made.replace('/', "%2F");
    for path in [
        format!("/$(touch%20{encoded})"),
        format!("/x;touch%20{encoded}"),
        format!("/x'%0Atouch%20{encoded}"),
    ] {
        info(&sshd, &place, &path, &[]).expect_code(69).expect_text("cannot be reached");
    }
    for address in [
        format!("ssh://-oProxyCommand=touch%20{encoded}/"),
        format!("ssh://-oProxyCommand=touch%20{encoded}@127.0.0.1/"),
        format!("ssh://x;touch%20{encoded}@127.0.0.1/"),
        "ssh://%60id%60/".to_owned(),
        "ssh://127.0.0.1/?ssh=/bin/false".to_owned(),
        "ssh://127.0.0.1/10,ssh=/bin/false".to_owned(),
        "ssh://alice:secret@127.0.0.1/".to_owned(),
    ] {
        let finished = run(&mut sshd.countersign(&place, &["info", &address]));
        finished.expect_code(2).expect_without("secret").expect_text("error: address: ");
    }
    assert!(!fs::exists(&made).expect("an own folder"));
}

#[test]
fn a_door_leads_through_ssh_as_often_as_it_is_used() {
    let (place, sshd) = (Place::new(), Sshd::start());
    let (_gateway, socket) = gateway(&place, "auth=peercred");
    let address = format!("ssh://127.0.0.1:{}{socket}", sshd.port);
    let mut command = program(countersign_interop::gateway::binary().to_str().expect("a UTF-8 path"));
    command.args(["connect", "--listen", "127.0.0.1:0", &address]);
    command.env("PATH", format!("{}:/usr/bin:/bin", sshd.client())).env("HOME", place.text("home"));
    let door = Daemon::start(command);
    let port: u16 = door.wait_for("listening", |output| {
        output.lines().find_map(|line| line.rsplit_once("listening on tcp:127.0.0.1:")?.1.trim().parse().ok())
    });
    let clients: Vec<_> = (0..4_u8)
        .map(|number| {
            thread::spawn(move || {
                let mut stream = dial(([127, 0, 0, 1], port).into());
                stream.write_all(&[number; 1000]).expect("the door takes it");
                stream.shutdown(std::net::Shutdown::Write).expect("an own socket");
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).expect("an answer");
                assert!(heard == [number; 1000], "{} bytes", heard.len());
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap_or_else(|_| panic!("{}\n{}", door.output(), sshd.log()));
    }
}

#[test]
fn an_xpra_session_is_reached_by_its_display() {
    let place = Place::new();
    let sockets = place.text("sockets");
    let session = xpra::Session::start("by-ssh", &[], |command| {
        let folder = |option| format!("--{option}={sockets}");
        command.arg("--bind=auto").args([folder("socket-dir"), folder("socket-dirs")]);
    });
    let number = fs::read_dir(&sockets)
        .expect("the session's own sockets")
        .find_map(|entry| Some(entry.ok()?.file_name().to_str()?.rsplit_once('-')?.1.to_owned()));
    let number = number.unwrap_or_else(|| panic!("no socket of a display: {}", session.log()));
    // The far end finds sessions by its configuration, which is the machine's own unless it is told otherwise.
    let sshd = Sshd::start_with(&format!(
        "SetEnv XPRA_SOCKET_DIRS={sockets} XPRA_SYSTEM_CONF_DIRS={sockets} XPRA_USER_CONF_DIRS={sockets} \
         PATH=/usr/bin:/bin"
    ));
    info(&sshd, &place, &format!("/{number}"), &[]).expect_success().expect_text("session.name=by-ssh");
}
