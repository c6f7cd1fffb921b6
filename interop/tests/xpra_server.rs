//! Logging in at a real Xpra server: the real client first, as the control, then ours.

use countersign_interop::{
    Place,
    gateway::{Door, countersign},
    modules::{self, Case, Outcome, Socket},
    process::run,
    xpra::{self, Session},
};

#[test]
fn the_real_client_agrees_with_the_table_on_file() {
    control(modules::file);
}

#[test]
fn the_real_client_agrees_with_the_table_on_env() {
    control(modules::env);
}

#[test]
fn the_real_client_agrees_with_the_table_on_multifile() {
    control(modules::multifile);
}

#[test]
fn the_real_client_agrees_with_the_table_on_sqlite() {
    control(modules::sqlite);
}

#[test]
fn the_real_client_agrees_with_the_table_on_a_chain() {
    control(modules::chain);
}

#[test]
fn the_real_client_agrees_with_the_table_on_peercred() {
    control(modules::peercred_listed);
    control(modules::peercred_unlisted);
}

#[test]
fn our_client_logs_in_with_file() {
    ours(modules::file);
}

#[test]
fn our_client_logs_in_with_env() {
    ours(modules::env);
}

#[test]
fn our_client_logs_in_with_multifile() {
    ours(modules::multifile);
}

#[test]
fn our_client_logs_in_with_sqlite() {
    ours(modules::sqlite);
}

#[test]
fn our_client_logs_in_with_a_chain() {
    ours(modules::chain);
}

#[test]
fn our_client_takes_the_password_of_the_address_and_of_the_environment() {
    let place = Place::new();
    let session = serve(&modules::file(&place));
    let [(_, tcp), _] = addresses(&session, "alice");
    run(countersign(&place, &["info", &tcp]).env("XPRA_PASSWORD", modules::RIGHT)).expect_success();
    let secret = modules::RIGHT.replace(' ', "%20");
    let address = format!("tcp://alice:{secret}@127.0.0.1:{}/", session.port);
    run(&mut countersign(&place, &["info", &address])).expect_success().expect_without(&secret);
}

#[test]
fn our_client_carries_a_session() {
    let place = Place::new();
    let case = modules::file(&place);
    let session = serve(&case);
    // A local door before the real server: the real client walks through it without any password.
    for (_, address) in addresses(&session, "alice") {
        let door = Door::open(&address, &case.attempts[0].our_arguments());
        let finished = xpra::info(&format!("tcp://127.0.0.1:{}/", door.port), &[], &[]);
        xpra::expect_answer_of(&session, finished);
    }
}

/// Plays the rows with our client at the real server.
fn ours(case: fn(&Place) -> Case) {
    let place = Place::new();
    let case = case(&place);
    let session = serve(&case);
    for attempt in &case.attempts {
        for (socket, address) in addresses(&session, attempt.user) {
            let outcome = case.outcome(attempt, socket);
            eprintln!("{}: {attempt} at {address}, to be {outcome:?}", case.name);
            let arguments = [vec!["info".to_owned()], attempt.our_arguments(), vec![address]].concat();
            let finished = run(&mut countersign(&place, &arguments)).expect_code(outcome.our_code());
            match outcome {
                Outcome::In => drop(finished),
                Outcome::Refused => drop(finished.expect_text("authentication failed")),
                Outcome::NothingToSay => drop(finished.expect_text("help: ")),
            }
        }
    }
}

/// Plays the rows between two unchanged Xpra programs.
fn control(case: fn(&Place) -> Case) {
    let place = Place::new();
    let case = case(&place);
    let session = serve(&case);
    for attempt in &case.attempts {
        for (socket, address) in addresses(&session, attempt.user) {
            let outcome = case.outcome(attempt, socket);
            eprintln!("{}: {attempt} at {address}, to be {outcome:?}", case.name);
            let finished = xpra::info(&address, &attempt.xpra_arguments(), &[]);
            let finished = finished.expect_code(outcome.xpra_code());
            match outcome {
                Outcome::In => xpra::expect_answer_of(&session, finished),
                Outcome::Refused => drop(finished.expect_text("authentication failed")),
                Outcome::NothingToSay => {}
            }
        }
    }
}

fn serve(case: &Case) -> Session {
    Session::start("the-real-one", &case.xpra, |command| {
        command.envs(case.environment.iter().map(|(name, value)| (name, value)));
    })
}

/// The session's two sockets as addresses with a name in them.
fn addresses(session: &Session, user: &str) -> [(Socket, String); 2] {
    [
        (Socket::Tcp, format!("tcp://{user}@127.0.0.1:{}/", session.port)),
        (Socket::Unix, format!("socket://{user}@{}", session.socket)),
    ]
}
