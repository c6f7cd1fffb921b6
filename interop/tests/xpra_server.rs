//! Logging in at a real Xpra server: the real client first, as the control, then ours.

use countersign_interop::{
    Place,
    modules::{self, Case, Outcome},
    xpra::{self, Session, exit},
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

/// Plays the rows between two unchanged Xpra programs.
fn control(case: fn(&Place) -> Case) {
    let place = Place::new();
    let case = case(&place);
    let session = serve(&case);
    for attempt in &case.attempts {
        for address in addresses(&session, attempt.user) {
            eprintln!("{}: {attempt} at {address}", case.name);
            let finished = xpra::info(&address, &attempt.xpra_arguments(), &[]);
            match attempt.outcome {
                Outcome::In => xpra::expect_answer_of(&session, finished),
                Outcome::Refused => {
                    drop(finished.expect_code(exit::CONNECTION_FAILED).expect_text("authentication failed"))
                }
                Outcome::NothingToSay => drop(finished.expect_code(exit::PASSWORD_REQUIRED)),
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
fn addresses(session: &Session, user: &str) -> [String; 2] {
    [format!("tcp://{user}@127.0.0.1:{}/", session.port), format!("socket://{user}@{}", session.socket)]
}
