//! Debian's Xpra client logs in at the gateway and reaches the real Xpra server behind it.

use countersign_interop::{
    Place,
    gateway::Gateway,
    modules::{self, Case, Outcome, Socket},
    xpra::{self, Attached, Session, exit},
};

#[test]
fn file_over_tcp_and_unix() {
    play(modules::file);
}

#[test]
fn env_over_tcp_and_unix() {
    play(modules::env);
}

#[test]
fn multifile_over_tcp_and_unix() {
    play(modules::multifile);
}

#[test]
fn sqlite_over_tcp_and_unix() {
    play(modules::sqlite);
}

#[test]
fn a_chain_of_two_over_tcp_and_unix() {
    play(modules::chain);
}

#[test]
fn exec_over_tcp_and_unix() {
    play(modules::exec_passing);
    play(modules::exec_failing);
}

#[test]
fn peercred_over_unix_alone() {
    play(modules::peercred_listed);
    play(modules::peercred_unlisted);
}

#[test]
fn hosts_over_tcp_alone() {
    play(modules::hosts_allowing);
    play(modules::hosts_denying);
}

#[test]
fn hosts_and_sqlite_in_a_chain() {
    play(modules::hosts_then_sqlite);
    play(modules::sqlite_then_hosts);
}

/// Plays the rows that two Xpra programs agree on (`xpra_server.rs`, the control) with the gateway between them.
fn play(case: fn(&Place) -> Case) {
    let place = Place::new();
    let case = case(&place);
    let session = Session::open("behind-the-gate");
    for attempt in &case.attempts {
        // A gateway for each attempt: the failures of one must not slow the next down (S-21).
        let (gateway, doors) = gate(&place, &case, &session);
        for (socket, door) in doors {
            let address = door.replace("//", &format!("//{}@", attempt.user));
            let outcome = case.outcome(attempt, socket);
            eprintln!("{}: {attempt} at {address}, to be {outcome:?}", case.name);
            let finished = xpra::info(&address, &attempt.xpra_arguments(), &[]);
            let finished = finished.expect_code(outcome.xpra_code());
            match outcome {
                Outcome::In => xpra::expect_answer_of(&session, finished),
                // The text that Xpra's clients know, and nothing that tells a name from a password.
                Outcome::Refused => drop(finished.expect_text("authentication failed")),
                Outcome::NothingToSay => {}
            }
        }
        no_secret_in(&gateway.log());
    }
}

/// A gateway before the session with this chain on both of its sockets, and the addresses of these.
fn gate(place: &Place, case: &Case, session: &Session) -> (Gateway, [(Socket, String); 2]) {
    let (front, options) = (place.text("front"), case.options());
    let arguments = [
        format!("--bind-tcp=127.0.0.1:0{options}"),
        format!("--bind={front}{options}"),
        format!("--backend=xpra+unix:{}", session.socket),
    ];
    let gateway = Gateway::start_with(&arguments, |command| {
        command.envs(case.environment.iter().map(|(name, value)| (name, value)));
    });
    let tcp = format!("tcp://127.0.0.1:{}/", gateway.port());
    (gateway, [(Socket::Tcp, tcp), (Socket::Unix, format!("socket://{front}"))])
}

#[test]
fn passwords_of_the_address_and_of_the_environment_are_taken() {
    let place = Place::new();
    let session = Session::open("behind-tcp");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", place.file("password", "plain-word")),
        format!("--backend=xpra+tcp:127.0.0.1:{}", session.port),
    ]);
    let port = gateway.port();
    let in_address = format!("tcp://alice:plain-word@127.0.0.1:{port}/");
    xpra::expect_answer_of(&session, xpra::info(&in_address, &[], &[]));
    let address = format!("tcp://alice@127.0.0.1:{port}/");
    xpra::expect_answer_of(&session, xpra::info(&address, &[], &[("XPRA_PASSWORD", "plain-word")]));
    // 3.1.3 sends its whole command line in the first hello, so the gateway has seen the password in clear.
    assert!(!gateway.log().contains("plain-word"), "{}", gateway.log());
}

#[test]
fn a_client_with_a_password_is_asked_even_where_nothing_is_asked() {
    let place = Place::new();
    let session = Session::open("behind-none");
    let front = place.text("front");
    let gateway = Gateway::start(&[
        "--bind-tcp=127.0.0.1:0,auth=none".to_owned(),
        format!("--bind={front},auth=peercred"),
        format!("--backend=xpra+unix:{}", session.socket),
    ]);
    let password = vec![format!("--password-file={}", place.file("password", "whatever"))];
    for address in [format!("tcp://alice@127.0.0.1:{}/", gateway.port()), format!("socket://{front}")] {
        // Without the throw-away challenge the client leaves with exit code 11.
        xpra::expect_answer_of(&session, xpra::info(&address, &password, &[]));
        xpra::expect_answer_of(&session, xpra::info(&address, &[], &[]));
    }
}

#[test]
fn closed_doors_answer_like_any_wrong_password() {
    let place = Place::new();
    let password = vec![format!("--password-file={}", place.file("password", modules::RIGHT))];
    let mut answers = Vec::new();
    for chain in ["auth=reject", "auth=fail", "auth=exec(command=/bin/false)"] {
        let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,{chain}")]);
        let finished = xpra::info(&format!("tcp://alice@127.0.0.1:{}/", gateway.port()), &password, &[]);
        let finished = finished.expect_code(exit::CONNECTION_FAILED).expect_text("authentication failed");
        answers.push((chain, finished.stdout));
    }
    for (chain, answer) in &answers {
        assert_eq!(*answer, answers[0].1, "{chain} must answer as {}", answers[0].0);
    }
}

#[test]
fn a_full_session_is_carried() {
    let place = Place::new();
    let session = Session::open("attached");
    let password = place.file("password", modules::RIGHT);
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
        format!("--backend=xpra+unix:{}", session.socket),
    ]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let arguments = vec![format!("--password-file={password}")];
    let attached = Attached::start(&address, &arguments);
    // The largest hello there is (23 kB compressed, 68 kB decoded), then a session that both ends agree on.
    let inside = format!("socket://{}", session.socket);
    let joined =
        attached.client.eventually(|| xpra::info(&inside, &[], &[]).stdout.contains("\nclients=1\n"));
    assert!(joined, "{}\n--- session:\n{}", attached.client.output(), session.log());
    assert!(session.log().contains("as 'alice'"), "the session knows the name:\n{}", session.log());
    // It stays, and others get in beside it.
    xpra::expect_answer_of(&session, xpra::info(&address, &arguments, &[]));
    assert!(attached.client.ended().is_none(), "{}", attached.client.output());
}

fn no_secret_in(log: &str) {
    for secret in [modules::RIGHT, modules::WRONG, modules::OTHER] {
        assert!(!log.contains(secret), "the log holds `{secret}`:\n{log}");
    }
}
