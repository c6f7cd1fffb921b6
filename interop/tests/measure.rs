//! What measures a gateway and keeps it alive: `/metrics`, `/livez` and `/readyz` by curl, and systemd's watchdog.

use std::{collections::BTreeMap, os::unix::net::UnixDatagram, process::Command};

use countersign_interop::{
    PATIENCE, Place,
    certificate::Pair,
    gateway::{Gateway, binary, counted},
    inside::Session,
    net::{dial, dial_unix},
    process::{Finished, run},
    wire,
};
use nix::sys::signal::Signal;

/// S-88: the numbers tell what happened, and neither who it happened to nor from where.
#[test]
fn s_088_numbers_name_sockets_modules_and_reasons_and_nobody() {
    let place = Place::new();
    let (door, admin) = (place.path("door"), place.text("admin"));
    let secret = place.file("secret", "open sesame");
    let arguments = [
        format!("--bind={},auth=peercred,protocol=stream,name=front", door.display()),
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={secret}),name=side"),
        format!("--admin={admin}"),
    ];
    let gateway = Gateway::start_with(&arguments, counted);
    let mut session = Session::begin(dial_unix(&door));
    assert!(wire::log_in(&mut dial(gateway.tcp()), "canary-4711", b"open sesame").is_welcome());
    assert!(!wire::log_in(&mut dial(gateway.tcp()), "canary-4711", b"wrong").is_welcome());
    let scraped = curl(&admin, "/metrics", &[]).expect_success().stdout;
    let numbers = samples(&scraped);
    let number = |name: &str| *numbers.get(name).unwrap_or_else(|| panic!("{name}:\n{scraped}"));
    let side = r#"socket="side""#;
    for (name, value) in [
        (r#"countersign_sessions_active{socket="front"}"#.to_owned(), 1.0),
        (r#"countersign_connections_active{socket="front",state="session"}"#.to_owned(), 1.0),
        (r#"countersign_connections_active{socket="front",state="login"}"#.to_owned(), 0.0),
        (r#"countersign_auth_duration_seconds_count{socket="front",module="peercred"}"#.to_owned(), 1.0),
        (format!("countersign_auth_duration_seconds_count{{{side},module=\"file\"}}"), 2.0),
        ("countersign_penalties_active".to_owned(), 1.0),
        ("countersign_penalty_refusals_total".to_owned(), 0.0),
        (r#"countersign_chain_results_total{socket="front",result="accepted"}"#.to_owned(), 1.0),
        (format!("countersign_chain_results_total{{{side},result=\"accepted\"}}"), 1.0),
        (format!("countersign_chain_results_total{{{side},result=\"refused\"}}"), 1.0),
        (format!("countersign_connections_accepted_total{{{side}}}"), 2.0),
        (format!("countersign_refusals_total{{{side},reason=\"wrong_secret\"}}"), 1.0),
        (
            format!(
                "countersign_auth_attempts_total{{{side},module=\"file\",result=\"refused\",reason=\"wrong_secret\"}}"
            ),
            1.0,
        ),
        (
            format!(
                "countersign_auth_attempts_total{{{side},module=\"file\",result=\"accepted\",reason=\"\"}}"
            ),
            1.0,
        ),
        (format!("countersign_handshake_duration_seconds_bucket{{{side},le=\"+Inf\"}}"), 2.0),
        ("countersign_ready".to_owned(), 1.0),
        ("countersign_config_last_reload_successful".to_owned(), 1.0),
    ] {
        assert!((number(&name) - value).abs() < 0.5, "{name}: {}, not {value}", number(&name));
    }
    for canary in ["canary", "127.0.0.1", "uid="] {
        assert!(!scraped.contains(canary), "{canary}:\n{scraped}");
    }
    session.echoes();
    drop(session);
    let moved = r#"countersign_relay_bytes_total{socket="front",direction="to_backend"}"#;
    let counted =
        || samples(&curl(&admin, "/metrics", &[]).stdout).get(moved).is_some_and(|bytes| *bytes > 10.0);
    assert!(gateway.daemon().eventually(counted));
}

/// A gateway that keeps certificates says how many, and one with a trail how many records it wrote.
#[test]
fn the_numbers_tell_what_is_kept() {
    let place = Place::new();
    let admin = place.text("admin");
    let gateway = Gateway::start(&[
        format!("--bind-rpc=unix:{},auth=certificate", place.text("door")),
        format!("--audit-file={}", place.text("trail")),
        format!("--admin={admin}"),
    ]);
    let numbers = || samples(&curl(&admin, "/metrics", &[]).stdout);
    let number = |name: &str| numbers().get(name).copied();
    let code = || curl(&admin, "/readyz", &["-o", "/dev/null", "-w", "%{http_code}"]).stdout;
    let entries = |state: &str| number(&format!("countersign_trust_entries{{state=\"{state}\"}}"));
    assert_eq!((number("countersign_store_up"), code()), (Some(1.0), "200".into()));
    assert_eq!(["accepted", "expired", "revoked"].map(entries), [Some(0.0); 3]);
    let pair = Pair::of_client(&place, "alice");
    gateway.trust(&["add", &pair.cert, "--name", "alice"]).expect_success();
    assert_eq!(["accepted", "expired", "revoked"].map(entries), [Some(1.0), Some(0.0), Some(0.0)]);
    gateway.trust(&["remove", "alice"]).expect_success();
    assert_eq!(["accepted", "expired", "revoked"].map(entries), [Some(0.0), Some(0.0), Some(1.0)]);
    let kept = || number("countersign_audit_records_total").is_some_and(|kept| kept > 1.5);
    assert!(gateway.daemon().eventually(kept), "what the owner changed is on record");
    assert_eq!(number("countersign_audit_dropped_total"), Some(0.0));
}

#[test]
fn health_is_told_until_the_end_and_nothing_else_is_answered() {
    let place = Place::new();
    let door = place.path("door");
    let gateway = Gateway::start(&[
        format!("--bind={},auth=none,protocol=stream", door.display()),
        "--admin=127.0.0.1:0".to_owned(),
    ]);
    let admin = gateway.daemon().wait_for("health", |log| {
        let (_, rest) = log.split_once("numbers and health are at tcp:")?;
        rest.split(['"', ' ', '\n']).next().map(ToOwned::to_owned)
    });
    let code = |path: &str, more: &[&str]| {
        curl(&admin, path, &[&["-o", "/dev/null", "-w", "%{http_code}"], more].concat()).stdout
    };
    assert_eq!((code("/livez", &[]), code("/readyz", &[])), ("200".into(), "200".into()));
    assert_eq!((code("/", &[]), code("/metrics", &["-d", "x"])), ("404".into(), "405".into()));
    let mut session = Session::begin(dial_unix(&door));
    gateway.daemon().signal(Signal::SIGTERM);
    assert!(gateway.daemon().eventually(|| code("/readyz", &[]) == "503"));
    assert_eq!(code("/livez", &[]), "200", "it lives as long as somebody is inside");
    session.echoes();
    drop(session);
    assert_eq!(gateway.daemon().wait().code(), Some(0));
    let far = run(Command::new(binary()).args(["serve", "--bind=./x,auth=none", "--admin=0.0.0.0:9464"]));
    far.expect_code(78).expect_text("others than this machine would reach it");
}

/// `WatchdogSec=`: signs of life as long as the doors are served.
#[test]
fn the_watchdog_hears_of_a_gateway_that_serves() {
    let place = Place::new();
    let manager = UnixDatagram::bind(place.path("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let bind = format!("--bind={},auth=none,protocol=stream", place.text("door"));
    let gateway = Gateway::start_with(&[bind], |command| {
        command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "400000");
        command.env_remove("WATCHDOG_PID");
    });
    let hear = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).expect("a word of the gateway's");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut lives = 0;
    while lives < 3 {
        let heard = hear();
        if heard.starts_with("WATCHDOG=1\n") {
            assert!(heard.contains("STATUS=1 socket, 0 sessions"), "{heard}");
            lives += 1;
        }
    }
    drop(gateway);
}

/// Every sample of a page, which must be as Prometheus wants it: each family announced once, before its samples.
#[track_caller]
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut kinds, mut found) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} twice");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let family = name.split('{').next().expect("a name");
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
            let kind =
                kinds.get(family).or_else(|| kinds.get(base?)).unwrap_or_else(|| panic!("no family: {line}"));
            assert!(kind != "counter" || family.ends_with("_total"), "{line}");
            let value = value.parse().expect("a number");
            assert!(found.insert(name.to_owned(), value).is_none(), "{line} twice");
        }
    }
    assert!(page.ends_with('\n') && !found.is_empty());
    found
}

/// Asks the operator's listener at `HOST:PORT` or a path.
fn curl(admin: &str, path: &str, more: &[&str]) -> Finished {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*"]).args(more);
    match admin.starts_with('/') {
        true => command.args(["--unix-socket", admin]).arg(format!("http://localhost{path}")),
        false => command.arg(format!("http://{admin}{path}")),
    };
    run(&mut command)
}
