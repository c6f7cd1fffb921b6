//! The audit trail of a running gateway: what is in it, what is found when it is changed, and what happens without
//! a disk for it.

use std::{fs, path::Path};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::{Finished, run},
};
use nix::sys::signal::Signal;

/// A gateway with a trail, and one word that lets in.
struct Kept {
    gateway: Gateway,
    secrets: Place,
}

impl Kept {
    fn start(arguments: &[&str]) -> Self {
        let secrets = Place::new();
        let password = secrets.file("password", "a word for the record");
        let socket = format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})");
        let gateway = Gateway::start(&[&[socket.as_str()], arguments].concat());
        Self { gateway, secrets }
    }

    fn log_in(&self, word: &str) -> Finished {
        let password = self.secrets.file("said", word);
        let address = format!("tcp://alice@127.0.0.1:{}/", self.gateway.port());
        let file = format!("--password-file={password}");
        run(&mut countersign(&self.secrets, &["info", "--json", &file, &address]))
    }

    fn trail(&self) -> std::path::PathBuf {
        self.gateway.place().path("state/audit.jsonl")
    }
}

fn verify(place: &Place, more: &[&str]) -> Finished {
    let state = place.text("state");
    run(&mut countersign(place, &[&["audit", "verify", "--state-dir", &state], more].concat()))
}

fn records(file: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(file).expect("the trail");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn s_093_every_decision_is_in_the_trail_and_every_change_of_it_is_found() {
    let kept = Kept::start(&["--audit=required"]);
    kept.log_in("a word for the record").expect_code(0);
    kept.log_in("another word").expect_code(77);
    let trail = kept.trail();
    let place = kept.gateway.stop();
    let said: Vec<String> = records(&trail)
        .iter()
        .map(|record| {
            format!("{} {}", record["event"].as_str().unwrap(), record["outcome"].as_str().unwrap_or("-"))
        })
        .collect();
    assert_eq!(said[..2], ["opened -", "login accepted"]);
    assert!(said.contains(&"login refused".to_owned()), "{said:?}");
    let text = fs::read_to_string(&trail).unwrap();
    assert!(!text.contains("a word for") && !text.contains("another word"), "S-88");

    let whole = verify(&place, &[trail.to_str().unwrap()]);
    whole.expect_success();
    fs::write(&trail, text.replace("refused", "denied!")).unwrap();
    let changed = verify(&place, &[trail.to_str().unwrap(), "--json"]).expect_code(1);
    let verdict: serde_json::Value = serde_json::from_str(&changed.stdout).expect("JSON");
    let line = said.iter().position(|record| record == "login refused").unwrap() + 1;
    assert_eq!(
        (&verdict["findings"][0]["damage"], &verdict["findings"][0]["line"]),
        (&"changed".into(), &line.into())
    );

    let last = text.trim_end().rfind('\n').unwrap();
    fs::write(&trail, &text[..=last]).unwrap();
    verify(&place, &[trail.to_str().unwrap()]).expect_code(1).expect_text("was cut off behind this line");
}

#[test]
fn s_093_without_a_disk_for_the_record_nobody_gets_in_where_it_is_required() {
    for (policy, code) in [("--audit=required", 75), ("--audit=best-effort", 0)] {
        let kept = Kept::start(&[policy]);
        // A file that cannot be written: a directory is in its place.
        fs::rename(kept.trail(), kept.trail().with_extension("old")).unwrap();
        fs::create_dir(kept.trail()).unwrap();
        kept.log_in("a word for the record").expect_code(code);
        kept.gateway.daemon().wait_for("what it lost", |log| log.contains("records are lost").then_some(()));
        fs::remove_dir(kept.trail()).unwrap();
        kept.log_in("a word for the record").expect_code(0);
        let (trail, old) = (kept.trail(), kept.trail().with_extension("old"));
        let place = kept.gateway.stop();
        assert!(records(&trail).iter().any(|record| record["event"] == "lost" && record["records"] != 0));
        let both = verify(&place, &[trail.to_str().unwrap(), old.to_str().unwrap()]);
        both.expect_success();
    }
}

#[test]
fn a_trail_is_kept_in_a_regular_file_and_in_nothing_else() {
    let place = Place::new();
    let (bind, state) = (format!("--bind={},auth=none", place.text("door")), place.text("state"));
    let mut serve = countersign(&place, &["serve", "--state-dir", &state, &bind, "--audit-file=/dev/full"]);
    run(&mut serve).expect_code(78).expect_text("audit file /dev/full: it is no regular file");
}

#[test]
fn a_file_that_is_moved_away_is_followed_by_a_new_one_at_once() {
    let kept = Kept::start(&["--audit=best-effort"]);
    let old = kept.trail().with_extension("1");
    fs::rename(kept.trail(), &old).unwrap();
    kept.gateway.daemon().signal(Signal::SIGUSR1);
    let begun = || fs::read_to_string(kept.trail()).is_ok_and(|text| text.contains("continued"));
    kept.gateway.daemon().wait_for("a new file", |_| begun().then_some(()));
    kept.log_in("a word for the record").expect_code(0);
    let trail = kept.trail();
    let place = kept.gateway.stop();
    let both = verify(&place, &[trail.to_str().unwrap(), old.to_str().unwrap()]);
    both.expect_success();
}
