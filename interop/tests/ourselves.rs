//! Our client at our gateway: the same rows over a Unix socket, TCP, and TLS on either.

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    modules::{self, Case, Outcome},
    net::dial,
    process::run,
};

#[test]
fn file_over_every_transport() {
    play(modules::file);
}

#[test]
fn env_over_every_transport() {
    play(modules::env);
}

#[test]
fn multifile_over_every_transport() {
    play(modules::multifile);
}

#[test]
fn sqlite_over_every_transport() {
    play(modules::sqlite);
}

#[test]
fn a_chain_of_two_over_every_transport() {
    play(modules::chain);
}

/// It hangs up, to ask whoever runs it: no attack, and nothing for a ban tool.
#[test]
fn a_client_that_does_not_know_the_gateway_yet_leaves_no_failure_on_record() {
    let place = Place::new();
    for level in ["info", "debug"] {
        let gateway =
            Gateway::start(&["--bind-tcp=127.0.0.1:0,auth=fail".to_owned(), format!("--log-level={level}")]);
        let address = format!("tls://alice@127.0.0.1:{}/", gateway.port());
        let finished = run(&mut countersign(&place, &["info", &address])).expect_code(76);
        finished.expect_text("it was never seen here");
        drop(dial(gateway.tcp()));
        if level == "debug" {
            // The handshake, the look at the certificate, and the connection on which nothing was said.
            let all = || gateway.log().matches("reason peer_left").count() >= 3;
            assert!(gateway.daemon().eventually(all), "{}", gateway.log());
        }
        let known = run(&mut countersign(&place, &["info", "--trust-on-first-use", &address]));
        known.expect_code(77).expect_text("authentication failed");
        let decided = || gateway.log().contains("reason denied");
        assert!(gateway.daemon().eventually(decided), "{}", gateway.log());
        let log = gateway.log();
        assert!(!log.contains("malformed"), "{log}");
        if level == "info" {
            assert_eq!(log.matches("auth failure").count(), 1, "{log}");
        }
    }
}

#[test]
fn the_clients_own_certificate_is_made_once_and_shown_to_a_server_that_is_known() {
    let gateway = Gateway::start(&["--bind-ssl=127.0.0.1:0,auth=none"]);
    let (home, address) = (Place::new(), format!("tls://{}", gateway.tcp()));
    let ask = |arguments: &[&str]| {
        let finished = run(&mut countersign(&home, arguments)).expect_code(0);
        serde_json::from_str::<serde_json::Value>(&finished.stdout).expect("JSON")
    };
    let info = ["info", "--json", "--trust-on-first-use", &address];
    let shown = ask(&info)["client"]["certificate"].clone();
    assert!(shown.as_str().unwrap().starts_with("sha256:"), "{shown}");
    let own = ask(&["identity", "--json"]);
    assert_eq!(own["fingerprint"], shown);
    assert_eq!(ask(&info)["client"]["certificate"], shown);
    assert!(ask(&["info", "--json", "--cert=none", &address])["client"].get("certificate").is_none());
    let pem = run(&mut countersign(&home, &["identity", "--pem"])).expect_code(0).stdout;
    assert_eq!(own["certificate"], pem.as_str());
    assert!(!pem.contains("PRIVATE"));
}

fn play(case: fn(&Place) -> Case) {
    let place = Place::new();
    let case = case(&place);
    let (front, options) = (place.text("front"), case.options());
    for attempt in &case.attempts {
        // A gateway for each attempt: the failures of one must not slow the next down (S-21).
        let arguments = [
            format!("--bind-tcp=127.0.0.1:0{options}"),
            format!("--bind={front},protocols=plain+tls{options}"),
        ];
        let gateway = Gateway::start_with(&arguments, |command| {
            command.envs(case.environment.iter().map(|(name, value)| (name, value)));
        });
        let (user, port) = (attempt.user, gateway.port());
        let addresses = [
            format!("tcp://{user}@127.0.0.1:{port}/"),
            format!("tls://{user}@127.0.0.1:{port}/"),
            format!("unix://{user}@{front}"),
            format!("tls+unix://{user}@{front}"),
        ];
        for address in addresses {
            eprintln!("{}: {attempt} at {address}, to be {:?}", case.name, attempt.outcome);
            let mut arguments =
                vec!["info".to_owned(), "--json".to_owned(), "--trust-on-first-use".to_owned()];
            arguments.extend(attempt.our_arguments());
            arguments.push(address);
            // A home of its own: another gateway may have had this port, and it had another key.
            let finished =
                run(&mut countersign(&Place::new(), &arguments)).expect_code(attempt.outcome.our_code());
            match attempt.outcome {
                Outcome::In => {
                    drop(serde_json::from_str::<serde_json::Value>(&finished.stdout).expect("JSON"))
                }
                Outcome::Refused => drop(finished.expect_text("authentication failed")),
                Outcome::NothingToSay => drop(finished.expect_text("help: ")),
            }
        }
    }
}
