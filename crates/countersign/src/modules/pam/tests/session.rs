//! Sessions of PAM: open as long as the grant is kept, and closed however that ends.

use std::pin::pin;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::{Chain, Grant, modules::login::Login, proto::stay::Stays};

/// Passes whoever knows the password. Each phase of the session runs `script`, which has its worker in `PPID`.
fn rulebook(script: &str) -> Rulebook {
    // pam_exec has no credentials to give, and where no module has, PAM refuses a session.
    let lines =
        format!("{PASSES}auth required pam_permit.so\nsession required pam_exec.so quiet FOLDER/phase\n");
    let rules = Rulebook::new(&lines, KNOWS);
    let script = format!("#!/bin/sh\nF={}\n{script}\n", rules.path("log").display());
    fs::write(rules.path("phase"), script).unwrap();
    fs::set_permissions(rules.path("phase"), fs::Permissions::from_mode(0o755)).unwrap();
    rules
}

/// Writes down what happens, and whose process it is.
const LOGS: &str = "echo $PAM_TYPE $PPID >>$F";

fn chain_of(rules: &Rulebook, options: &[(&str, &str)]) -> Arc<Chain> {
    rules.configured(&[&[("session", "yes")], options].concat()).unwrap()
}

fn log_in(chain: &Arc<Chain>) -> Login {
    login::login(chain, "nobody-at-all", "hunter2")
}

fn entered(chain: &Arc<Chain>) -> Grant {
    log_in(chain).end.unwrap()
}

/// What was logged: phases and workers.
fn log(rules: &Rulebook) -> Vec<(String, String)> {
    let text = rules.read("log");
    text.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.into(), b.into())).collect()
}

fn phases(rules: &Rulebook) -> Vec<String> {
    log(rules).into_iter().map(|(phase, _)| phase).collect()
}

/// Waits until the session is over.
fn wait_over(stays: &Stays) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let over = pin!(stays.over());
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), over).await.unwrap() });
}

#[test]
fn a_session_is_open_as_long_as_its_grant_is_kept() {
    let rules = rulebook(LOGS);
    assert!(rules.login(&[], "nobody-at-all", "hunter2").end.unwrap().stays().is_empty());
    assert_eq!(phases(&rules), Vec::<String>::new(), "none was asked for");
    let chain = chain_of(&rules, &[]);
    assert!(login::login(&chain, "nobody-at-all", "hunter3").end.is_err());
    assert_eq!(phases(&rules), Vec::<String>::new(), "who does not pass has none");
    let grant = entered(&chain);
    assert_eq!(phases(&rules), ["open_session"]);
    let stays = grant.stays();
    drop(grant);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(phases(&rules), ["open_session"]);
    drop(stays);
    eventually(|| phases(&rules) == ["open_session", "close_session"]);
    let log = log(&rules);
    assert_eq!(log[0].1, log[1].1, "in one process");
    assert!(is_gone(&log[0].1));
}

#[test]
fn a_session_that_pam_refuses_is_no_login() {
    let rules =
        Rulebook::new(&format!("{PASSES}auth required pam_permit.so\nsession required pam_deny.so\n"), KNOWS);
    let refusal = rules.refusal(&[("session", "yes")], "nobody-at-all", "hunter2");
    assert_eq!(refusal.reason, Reason::AccountDisabled);
    assert!(refusal.cause.contains("of the session"), "{}", refusal.cause);
}

#[test]
fn two_sessions_of_one_user_are_apart() {
    let rules = rulebook(LOGS);
    let chain = chain_of(&rules, &[]);
    let (one, two) = (entered(&chain), entered(&chain));
    let opened = log(&rules);
    assert_eq!(opened.len(), 2);
    assert_ne!(opened[0].1, opened[1].1);
    drop(one);
    eventually(|| log(&rules).len() == 3);
    assert_eq!(log(&rules)[2], ("close_session".into(), opened[0].1.clone()));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(log(&rules).len(), 3);
    drop(two);
    eventually(|| log(&rules).len() == 4);
    assert_eq!(log(&rules)[3], ("close_session".into(), opened[1].1.clone()));
}

#[test]
fn a_later_link_that_refuses_closes_what_was_opened() {
    let rules = rulebook(LOGS);
    let folder = rules.folder.path().to_str().unwrap();
    let pam = link("pam", &[("service", "app"), ("confdir", folder), ("session", "yes")]).unwrap();
    let chain = Arc::new(Chain::new(vec![pam, link("fail", &[]).unwrap()]).unwrap());
    assert!(log_in(&chain).end.is_err());
    eventually(|| phases(&rules) == ["open_session", "close_session"]);
}

#[test]
fn s_071_a_session_that_does_not_close_in_time_is_killed_with_all_it_started() {
    let rules = rulebook(
        "sleep 600 & echo $PAM_TYPE $! >>$F; echo $$ $PPID >>$F; test $PAM_TYPE = open_session || wait",
    );
    let chain = chain_of(&rules, &[("timeout", "1s"), ("max-sessions", "1")]);
    let grant = entered(&chain);
    let open = log(&rules);
    let still = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok();
    assert!(still(&open[0].1), "what the session started lives as long");
    assert_eq!(log_in(&chain).end.unwrap_err().reason, Reason::Busy);
    let start = Instant::now();
    drop(grant);
    assert!(start.elapsed() < Duration::from_millis(500), "nobody waits for it");
    eventually(|| log(&rules).len() == 4);
    assert!(is_gone(&open[0].1) && is_gone(&open[1].1));
    assert!(start.elapsed() >= Duration::from_secs(1), "it had its time");
    assert!(log(&rules).iter().skip(2).all(|(_, pid)| is_gone(pid)), "{:?}", log(&rules));
    eventually(|| log_in(&chain).end.is_ok());
}

#[test]
fn s_071_a_session_that_does_not_open_in_time_is_refused_and_leaves_nothing() {
    let rules = rulebook("echo $PAM_TYPE $PPID >>$F; sleep 600");
    let chain = chain_of(&rules, &[("timeout", "1s"), ("max-concurrent", "1")]);
    let start = Instant::now();
    let refusal = log_in(&chain).end.unwrap_err();
    assert!(refusal.cause.contains("in time"), "{}", refusal.cause);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(phases(&rules), ["open_session"]);
    assert!(is_gone(&log(&rules)[0].1));
    fs::remove_file(rules.path("log")).unwrap();
    eventually(|| log_in(&chain).end.is_err_and(|refusal| refusal.reason != Reason::Busy));
}

#[test]
fn w22_a_session_takes_no_place_from_those_who_log_in() {
    let rules = rulebook(LOGS);
    let chain = chain_of(&rules, &[("max-concurrent", "1"), ("max-sessions", "2")]);
    let inside = (entered(&chain), entered(&chain));
    let refusal = log_in(&chain).end.unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.cause),
        (Reason::Busy, "as many are running as max-sessions allows")
    );
    assert_eq!(phases(&rules), ["open_session"; 2], "none is opened that there is no place for");
    // Whoever has the wrong password still hears it from PAM.
    let wrong = || login::login(&chain, "nobody-at-all", "hunter3").end.unwrap_err();
    eventually(|| wrong().cause.contains("of the authentication"));
    drop(inside.0);
    eventually(|| log_in(&chain).end.is_ok());
    drop(inside.1);
}

#[test]
fn a_worker_that_dies_ends_its_session_and_one_that_is_asked_to_end_closes_it() {
    for (signal, closes) in [(Signal::KILL, false), (Signal::TERM, true), (Signal::HUP, true)] {
        let rules = rulebook(LOGS);
        let chain = chain_of(&rules, &[("max-sessions", "1")]);
        let stays = entered(&chain).stays();
        let worker = log(&rules)[0].1.clone();
        kill_process(Pid::from_raw(worker.parse().unwrap()).unwrap(), signal).unwrap();
        wait_over(&stays);
        assert!(is_gone(&worker));
        assert_eq!(phases(&rules).len(), if closes { 2 } else { 1 }, "{signal:?}");
        // Its place is free although the grant is still kept.
        eventually(|| log_in(&chain).end.is_ok());
        drop(stays);
    }
}
