//! `countersign status`, `sessions`, `reload` and `drain` in front of a gateway that runs: what its owner sees and ends.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use countersign_interop::{
    Place,
    certificate::Pair,
    gateway::{Gateway, binary, countersign},
    grpc::{Client, Server},
    inside::Session,
    net::{dial, dial_unix},
    process::{Daemon, Finished, program, run},
    wire,
};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use serde_json::Value;

#[test]
fn the_owner_sees_who_is_inside_and_ends_them() {
    let place = Place::new();
    let (known, anyone) = (place.path("known"), place.path("anyone"));
    let secret = place.file("secret", "open sesame");
    let gateway = Gateway::start(&[
        format!("--bind={},auth=peercred,protocol=stream,name=front", known.display()),
        format!("--bind={},auth=none,protocol=stream", anyone.display()),
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={secret})"),
    ]);
    let (mut first, mut second, mut third) = (
        Session::begin(dial_unix(&known)),
        Session::begin(dial_unix(&known)),
        Session::begin(dial_unix(&anyone)),
    );
    first.echoes();
    assert!(!wire::log_in(&mut dial(gateway.tcp()), "alice", b"wrong").is_welcome());

    let listed = json(&ask(&gateway, &["sessions", "list", "--json"]));
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 3, "{listed:?}");
    let us = User::from_uid(Uid::current()).ok().flatten().expect("an account").name;
    let oldest = &listed[0];
    assert_eq!(
        (&oldest["user"], &oldest["socket"], &oldest["transport"]),
        (&us.into(), &"front".into(), &"unix".into())
    );
    assert_eq!(oldest["source"], format!("unix:uid={}", Uid::current()));
    assert_eq!(oldest["to_backend"], 11, "what it said");
    assert!(listed.iter().any(|one| one["user"].is_null()), "nobody knows who came in by `none`");

    let status = json(&ask(&gateway, &["status", "--json"]));
    assert_eq!(
        (&status["sessions"], &status["draining"], &status["reload"]),
        (&3.into(), &false.into(), &Value::Null)
    );
    let counts = |position: usize| {
        let socket = &status["sockets"][position];
        ["sessions", "accepted", "refused"].map(|what| socket[what].as_u64().expect("a number"))
    };
    assert_eq!((counts(0), counts(1), counts(2)), ([2, 2, 0], [1, 1, 0], [0, 0, 1]));
    for words in [&["status"][..], &["sessions", "list"]] {
        let shown = ask(&gateway, words).stdout;
        assert!(shown.lines().all(|line| line.chars().count() <= 80) && shown.contains("front"), "{shown}");
    }

    let id = oldest["id"].as_str().expect("an id");
    assert_eq!(ask(&gateway, &["sessions", "kill", id]).stdout, format!("{id}\n"));
    first.is_over();
    second.echoes();
    let name = oldest["user"].as_str().expect("a name");
    ask(&gateway, &["sessions", "kill", "--user", name]).expect_success();
    second.is_over();
    third.echoes();
    asked(&gateway, &["sessions", "kill", id]).expect_code(1).expect_text("see `countersign sessions list`");
    let left = || json(&ask(&gateway, &["sessions", "list", "--json"])).as_array().map(Vec::len);
    assert!(gateway.daemon().eventually(|| left() == Some(1)));
}

#[test]
fn s_096_a_reload_that_is_asked_for_is_answered_and_a_mistake_shows_until_it_is_mended() {
    let place = Place::new();
    let door = place.path("door");
    let config = place.file("c.toml", format!("bind = [\"{},auth=none,protocol=stream\"]\n", door.display()));
    let gateway = Gateway::start(&["--config", &config]);
    assert!(gateway.daemon().eventually(|| asked(&gateway, &["status"]).succeeded()));
    let mut session = Session::begin(dial_unix(&door));
    ask(&gateway, &["reload"]).expect_text("holds");
    ask(&gateway, &["status", "--probe"]).expect_text("");
    place.file("c.toml", "bind = [\"./x,auth=nonee\"]\n");
    asked(&gateway, &["reload"]).expect_code(78).expect_text("did you mean `none`?");
    asked(&gateway, &["status", "--probe"]).expect_code(1).expect_text("is refused");
    let status = json(&ask(&gateway, &["status", "--json"]));
    let reload = &status["reload"];
    assert_eq!((&reload["taken"], &reload["failed"]), (&1.into(), &1.into()), "{status}");
    assert!(reload["refused"].as_str().is_some_and(|why| why.contains("nonee")), "{status}");
    session.echoes();
    place.file("c.toml", format!("bind = [\"{},auth=fail,protocol=stream\"]\n", door.display()));
    ask(&gateway, &["reload"]);
    ask(&gateway, &["status", "--probe"]).expect_text("");
    session.echoes();
}

/// S-97: while it waits for its sessions the owner sees that, can read nothing again, and may end them.
#[test]
fn s_097_a_gateway_that_ends_shows_who_is_still_there() {
    let place = Place::new();
    let door = place.path("door");
    let gateway = Gateway::start(&[format!("--bind={},auth=none,protocol=stream", door.display())]);
    let mut session = Session::begin(dial_unix(&door));
    gateway.daemon().signal(Signal::SIGTERM);
    assert!(gateway.daemon().eventually(|| UnixStream::connect(&door).is_err()));
    let status = json(&ask(&gateway, &["status", "--json"]));
    assert_eq!((&status["draining"], &status["sessions"]), (&true.into(), &1.into()));
    ask(&gateway, &["status"]).expect_text("ending");
    asked(&gateway, &["status", "--probe"]).expect_code(1);
    asked(&gateway, &["reload"]).expect_code(69).expect_text("it is ending");
    session.echoes();
    let listed = json(&ask(&gateway, &["sessions", "list", "--json"]));
    ask(&gateway, &["sessions", "kill", listed[0]["id"].as_str().expect("an id")]);
    session.is_over();
    assert_eq!(gateway.daemon().wait().code(), Some(0), "nothing was cut");
    asked(&gateway, &["status"]).expect_code(69).expect_text("no gateway answers there");
}

/// S-97: the owner's word does what TERM does, with a time of its own, and is answered when nobody gets in any more.
#[test]
fn s_097_a_gateway_that_is_drained_waits_for_its_sessions_as_long_as_it_is_told() {
    let place = Place::new();
    let (door, admin) = (place.path("door"), place.path("admin"));
    let arguments = [
        format!("--bind={},auth=none,protocol=stream", door.display()),
        format!("--admin={}", admin.display()),
        // As long as TERM would wait: not to be seen here.
        "--drain-timeout=1h".to_owned(),
    ];
    let gateway = Gateway::start(&arguments);
    let mut session = Session::begin(dial_unix(&door));
    assert_eq!(ready(&admin), "200");
    let status = json(&ask(&gateway, &["drain", "--timeout", "1h", "--json"]));
    assert_eq!((&status["draining"], &status["sessions"]), (&true.into(), &1.into()));
    assert!(gateway.daemon().eventually(|| UnixStream::connect(&door).is_err()));
    assert_eq!(ready(&admin), "503");
    ask(&gateway, &["status"]).expect_text("ending");
    asked(&gateway, &["drain"]).expect_code(69).expect_text("it is ending");
    session.echoes();
    drop(session);
    assert_eq!(gateway.daemon().wait().code(), Some(0), "every session ended by itself");

    let gateway = Gateway::start(&arguments);
    let mut session = Session::begin(dial_unix(&door));
    ask(&gateway, &["drain", "--timeout", "200ms"]).expect_text("waits for 1 session");
    session.is_over();
    assert_eq!(gateway.daemon().wait().code(), Some(1), "it was cut");
    assert!(gateway.log().contains("1 sessions were cut"), "{}", gateway.log());

    let gateway = Gateway::start(&arguments);
    ask(&gateway, &["drain"]).expect_text("accepts nobody any more, and ends");
    assert_eq!(gateway.daemon().wait().code(), Some(0), "nobody was inside");
    asked(&gateway, &["drain"]).expect_code(69).expect_text("no gateway answers there");
}

/// S-97: TERM after it leaves the sessions what TERM leaves them.
#[test]
fn s_097_a_signal_shortens_what_the_owner_allowed() {
    let place = Place::new();
    let door = place.path("door");
    let bind = format!("--bind={},auth=none,protocol=stream", door.display());
    let gateway = Gateway::start(&[bind, "--drain-timeout=100ms".to_owned()]);
    let mut session = Session::begin(dial_unix(&door));
    ask(&gateway, &["drain", "--timeout", "1h"]);
    session.echoes();
    gateway.daemon().signal(Signal::SIGTERM);
    session.is_over();
    assert_eq!(gateway.daemon().wait().code(), Some(1), "it was cut");
}

/// What `/readyz` answers at the operator's listener.
fn ready(admin: &Path) -> String {
    let mut stream = dial_unix(admin);
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("an open listener");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).expect("a code").to_owned()
}

/// A client of calls is one session, whose end is the end of its calls, also of one that goes on.
#[test]
fn a_session_of_calls_is_ended_in_the_middle_of_a_call_and_no_other_is() {
    let (server, place) = (Server::start(), Place::new());
    let gateway = Gateway::start(&[
        format!("--bind-rpc=unix:{},name=calls,auth=certificate", place.text("rpc")),
        format!("--backend=unix:{}", server.unix),
    ]);
    let client = |name: &str| {
        let pair = Pair::of_client(&place, name);
        if name != "alice" {
            gateway.trust(&["add", &pair.cert, "--name", name]).expect_success();
        }
        let mut client = Client::new(&format!("unix:{}", place.text("rpc")), &gateway.root(), Some(&pair));
        assert_eq!(client.code(&["hold"]), "OK", "a stream that stays open");
        client
    };
    // The first one has no name but that of its fingerprint.
    let (mut alice, mut bob) = (client("alice"), client("bob"));
    let listed = || json(&ask(&gateway, &["sessions", "list", "--json"]));
    let of_bob = |sessions: &Value| -> Vec<String> {
        let all = sessions.as_array().expect("a list").iter();
        all.filter(|one| one["user"] == "bob")
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let sessions = listed();
    assert_eq!(sessions.as_array().map(Vec::len), Some(2), "{sessions}");
    assert_eq!((&sessions[1]["socket"], &sessions[1]["transport"]), (&"calls".into(), &"rpc".into()));
    let ids = of_bob(&sessions);
    assert_eq!(ids.len(), 1, "{sessions}");
    bob.begin(&["held", "--patience", "60"]);
    assert_eq!(ask(&gateway, &["sessions", "kill", &ids[0]]).stdout, format!("{}\n", ids[0]));
    let held = bob.end();
    assert!(held["code"] != "OK" && held["code"] != "nothing happened", "{held}");
    assert_eq!(alice.code(&["held", "--patience", "0.2"]), "nothing happened", "nobody else's calls end");
    assert!(gateway.daemon().eventually(|| of_bob(&listed()).is_empty()), "{}", listed());
    assert!(gateway.log().contains(&format!("session {} ended: killed", ids[0])), "{}", gateway.log());
    // Its certificate is accepted as before: it comes again, as another session.
    assert_eq!(bob.code(&["echo", "x"]), "OK");
    let again = of_bob(&listed());
    assert!(again.len() == 1 && again != ids, "{again:?}");
    ask(&gateway, &["sessions", "kill", "--user", "bob"]);
    assert!(gateway.daemon().eventually(|| of_bob(&listed()).is_empty()), "{}", listed());
    assert_eq!(alice.code(&["echo", "x"]), "OK");
}

/// Two gateways that keep no state and name no control socket do not stand in each other's way.
#[test]
fn a_gateway_without_state_goes_without_a_control_socket_rather_than_not_at_all() {
    let place = Place::new();
    let bind = |name: &str| format!("--bind={},auth=none,protocol=stream", place.text(name));
    let first = Gateway::start(&[bind("one")]);
    let shared = first.place().text("state");
    let mut second = program(binary().to_str().expect("a UTF-8 target folder"));
    second.args(["serve", &bind("two"), "--state-dir", &shared]).env("HOME", place.path("home"));
    let second = Daemon::start(second);
    second.wait_for("going on", |log| log.contains("there is no control socket").then_some(()));
    second.wait_for("listening", |log| log.contains("listening on ").then_some(()));
    Session::begin(dial_unix(&place.path("two"))).echoes();
    let control = format!("--control={shared}/control.sock");
    run(&mut countersign(&place, &["serve", &bind("three"), "--state-dir", &shared, &control]))
        .expect_code(69)
        .expect_text("control socket");
}

/// Asks the owner's way, and succeeds.
#[track_caller]
fn ask(gateway: &Gateway, words: &[&str]) -> Finished {
    asked(gateway, words).expect_success()
}

fn asked(gateway: &Gateway, words: &[&str]) -> Finished {
    let state = gateway.place().text("state");
    run(&mut countersign(gateway.place(), &[words, &["--state-dir", &state]].concat()))
}

#[track_caller]
fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).expect("JSON")
}
