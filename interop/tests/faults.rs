//! Faults of the machine under a gateway: a store that is locked, damaged or without room, and a clock that jumps.

use std::{fs, os::unix::fs::FileExt as _, path::Path, thread, time::Duration};

use countersign_interop::{
    Place,
    certificate::Pair,
    faults::{Clock, Disk, Person, Site, WORD, code_of, now},
    gateway::{counted, countersign},
    inside::Session,
    net::dial_unix,
    process::{must, run},
};
use rusqlite::Connection;

#[test]
fn s_064_a_store_has_one_holder_and_whoever_comes_second_hears_who_that_is() {
    let site = Site::start_in(Place::new(), &[], |_| {});
    let person = Person::default();
    site.comes(&person).expect_success();
    let (place, other) = (site.gateway.place(), Place::new());
    let bind = format!("--bind={},require-tls=yes,auth=certificate", other.text("door"));
    let second = run(&mut countersign(place, &["serve", "--state-dir", &place.text("state"), &bind]));
    let holder = format!("process {} uses it already", site.gateway.daemon().id());
    assert_ne!(second.code, 0);
    second.expect_text(&holder);
    assert!(!other.path("door").exists(), "no socket is open before the store is");
    // Whoever opens the file itself gets nowhere either.
    for name in ["state.db", "state.copy"] {
        let error =
            Connection::open(site.state(name)).expect("a file").execute("DELETE FROM certificates", []);
        assert!(error.expect_err("it is held").to_string().contains("locked"), "{name}");
    }
    site.comes(&person).expect_success();
}

#[test]
fn a_store_that_another_program_locks_is_named_and_opened_when_that_is_gone() {
    let site = Site::start_in(Place::new(), &[], |_| {});
    let person = Person::default();
    site.comes(&person).expect_success();
    let mut lock = None;
    let (refused, place) = site.killed_and_tried(|state| {
        let locking = Connection::open(state.join("state.db")).expect("a store");
        locking.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").expect("a lock");
        lock = Some(locking);
    });
    assert_ne!(refused.code, 0);
    refused.expect_text("locked").expect_text("state.db");
    drop(lock);
    let site = Site::start_in(place, &[], |_| {});
    site.comes(&person).expect_success();
    assert!(!site.gateway.log().contains("restored"), "{}", site.gateway.log());
}

#[test]
fn a_table_of_users_that_is_locked_refuses_in_time_and_the_next_login_passes() {
    let place = Place::new();
    let (table, word) = (place.text("users.db"), place.file("word", WORD));
    must(&mut countersign(&place, &["users", "init", &table]));
    must(&mut countersign(&place, &["users", "add", &table, "bob", "--password-file", &word]));
    let bind = format!("--bind={},auth=sqlite(filename={table})", place.text("door"));
    let site = Site::start_in(Place::new(), &[&bind], |_| {});
    let bob = || {
        let address = format!("unix://bob@{}", place.text("door"));
        run(&mut countersign(&place, &["info", "--password-file", &word, &address]))
    };
    bob().expect_success();
    let lock = Connection::open(&table).expect("a table");
    lock.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
    assert_ne!(bob().code, 0);
    site.says(WORD).expect_success();
    lock.execute_batch("COMMIT").expect("a lock");
    bob().expect_success();
}

#[test]
fn s_054_on_a_full_disk_nobody_is_accepted_and_nothing_is_spent_until_there_is_room() {
    let place = Place::new();
    let Some(disk) = Disk::at_state_of(&place) else { return };
    let site = Site::start_in(place, &[], |_| {});
    let (first, late, invited) = (Person::default(), Person::default(), Person::default());
    site.comes(&first).expect_success();
    site.owner(&["set", "local.passphrase", "--stdin"], "a passphrase of some length").expect_success();
    let token = site.invites("invited").expect("an invitation");
    disk.fill();
    let full = |site: &Site| {
        let code = code_of(1, now());
        assert_ne!(site.enrols(&late, "a passphrase of some length").code, 0);
        assert_ne!(site.enrols(&invited, &token).code, 0);
        site.enrols(&invited, &token).expect_text("could not be kept");
        assert_eq!(site.invites("nobody"), None);
        assert_ne!(site.code(1, &code).code, 0, "a code that cannot be noted as used");
        // It lives, and what was accepted counts.
        site.comes(&late).expect_code(77);
        site.comes(&first).expect_success();
        site.says(WORD).expect_success();
    };
    full(&site);
    let site = site.killed_and_started(|_| {});
    full(&site);
    disk.clear();
    site.enrols(&invited, &token).expect_success();
    site.enrols(&late, "a passphrase of some length").expect_success();
    site.code(1, &code_of(1, now())).expect_success();
    let site = site.killed_and_started(|_| {});
    for person in [&first, &late, &invited] {
        site.comes(person).expect_success();
    }
    assert_ne!(site.enrols(&Person::default(), &token).code, 0, "it was spent");
    assert!(!site.gateway.log().contains("restored"), "{}", site.gateway.log());
    drop(site);
}

#[test]
fn s_054_a_first_start_without_room_says_so_and_the_next_one_works() {
    let place = Place::new();
    let Some(disk) = Disk::at_state_of(&place) else { return };
    let door = format!("--bind={},require-tls=yes,auth=certificate", place.text("door"));
    disk.fill();
    for _ in 0..2 {
        let serve = run(&mut countersign(&place, &["serve", "--state-dir", &place.text("state"), &door]));
        assert_ne!(serve.code, 0);
        // SQLite's words or the kernel's, whichever meets it first.
        let said = serve.all();
        assert!(said.contains("disk is full") || said.contains("No space left"), "{said}");
    }
    disk.clear();
    let site = Site::start_in(place, &[], |_| {});
    site.comes(&Person::default()).expect_success();
    site.comes(&Person::default()).expect_code(77);
}

#[test]
fn s_093_on_a_full_disk_the_policy_says_who_gets_in() {
    for (policy, code) in [("--audit=required", 75), ("--audit=best-effort", 0)] {
        let place = Place::new();
        let Some(disk) = Disk::at_state_of(&place) else { return };
        let site = Site::start_in(place, &[policy], counted);
        site.says(WORD).expect_success();
        disk.fill();
        // What the last page of the file has room for is written down, and counts.
        let lost = || site.gateway.log().contains("records are lost");
        let mut codes = (0..100).map(|_| site.says(WORD).code);
        let until = codes.find(|&told| told != 0 || code == 0 && lost());
        assert_eq!(until, Some(code), "{}", site.gateway.log());
        site.gateway.daemon().wait_for("what it lost", |log| log.contains("records are lost").then_some(()));
        // Failed logins count in memory: the file for them has no room either.
        for _ in 0..4 {
            site.says("another word").expect_code(77);
        }
        site.says(WORD).expect_code(75);
        let unkept = "penalties are kept in memory alone";
        site.gateway.daemon().wait_for("what it cannot keep", |log| log.contains(unkept).then_some(()));
        disk.clear();
        site.owner(&["penalties", "clear", "--all"], "").expect_success();
        site.says(WORD).expect_success();
        let trail = fs::read_to_string(site.state("audit.jsonl")).expect("the trail");
        assert!(trail.contains(r#""event":"lost""#), "{trail}");
        let (state, trail) = (site.gateway.place().text("state"), site.state("audit.jsonl"));
        let trail = trail.to_str().expect("a UTF-8 path");
        run(&mut countersign(site.gateway.place(), &["audit", "verify", "--state-dir", &state, trail]))
            .expect_success();
    }
}

#[test]
fn s_053_a_damaged_store_is_restored_loudly_and_nothing_comes_back_that_was_taken_back_or_spent() {
    let site = Site::start_in(Place::new(), &["--audit=best-effort"], |_| {});
    let (first, lost, invited) = (Person::default(), Person::default(), Person::default());
    site.comes(&first).expect_success();
    let token = site.invites("lost").expect("an invitation");
    site.enrols(&lost, &token).expect_success();
    site.owner(&["trust", "remove", "lost"], "").expect_success();
    let spent = site.invites("invited").expect("an invitation");
    site.enrols(&invited, &spent).expect_success();
    let code = code_of(2, now());
    site.code(2, &code).expect_success();

    let damages: [fn(&Path); 4] = [
        |state| fs::write(state.join("state.db"), "no store").expect("an own file"),
        |state| fs::remove_file(state.join("state.db")).expect("an own file"),
        // A log that was cut: SQLite takes it for one that ends there.
        |state| fs::remove_file(state.join("state.db-wal")).expect("the log that a kill leaves"),
        |state| {
            let file = fs::File::options().write(true).open(state.join("state.db")).expect("an own file");
            file.write_all_at(&[0x55; 8192], 4096).expect("an own file");
        },
    ];
    let mut site = site;
    for damage in damages {
        // Something that only the log has.
        let name = format!("n{}", site.listed(&["trust", "invitations"]).len());
        let changed = [site.invites(&name), site.invites(&format!("{name}b"))];
        assert!(changed.iter().all(Option::is_some));
        site = site.killed_and_started(damage);
        let log = site.gateway.log();
        assert!(log.contains("restored from its copy") && log.contains("nothing is lost"), "{log}");
        site.comes(&first).expect_success();
        site.comes(&invited).expect_success();
        site.comes(&lost).expect_code(77);
        let named = |list: &[serde_json::Value]| list.iter().any(|one| one["name"] == name.as_str());
        assert!(named(&site.listed(&["trust", "invitations"])));
    }
    site.comes(&Person::default()).expect_code(77);
    site.code(2, &code).expect_code(77);
    assert_ne!(site.enrols(&Person::default(), &spent).code, 0);

    // What can be done without is begun anew, and that is said.
    let site = site.killed_and_started(|state| {
        fs::write(state.join("penalties"), "no penalties").expect("an own file");
        fs::write(state.join("audit.head"), "no head").expect("an own file");
        fs::write(state.join("state.copy"), "no copy").expect("an own file");
    });
    let log = site.gateway.log();
    assert!(
        log.contains("penalties file") && log.contains("the copy of the trust store cannot be used"),
        "{log}"
    );
    site.comes(&invited).expect_success();
    // Both at once: a start error that names the way back.
    let (refused, _place) = site.killed_and_tried(|state| {
        for name in ["state.db", "state.copy"] {
            fs::write(state.join(name), "no store").expect("an own file");
        }
    });
    refused.expect_code(78).expect_text("countersign trust reset");
}

#[test]
fn s_098_a_clock_that_jumps_a_day_ends_no_session_and_opens_nothing_that_had_ended() {
    let place = Place::new();
    let clock = Clock::for_state_of(&place);
    let open = place.path("open");
    let door = format!("--bind={},auth=none,protocol=stream", open.display());
    let site = Site::start_in(place, &[&door], |command| clock.rule(command));
    let (folder, first, ends) = (Place::new(), Person::default(), Person::default());
    site.comes(&first).expect_success();
    let mut session = Session::begin(dial_unix(&open));
    for (name, time) in [("tomorrow", "1h"), ("ended", "2s")] {
        let pair = Pair::of_client(&folder, name);
        site.owner(&["trust", "add", &pair.cert, "--name", name, "--expires", time], "").expect_success();
    }
    let comes = |name: &str| {
        let file = |end: &str| folder.text(&format!("{name}{end}"));
        let door = format!("tls+unix:{}", site.word_door().with_file_name("cert").display());
        ends.does(&["info", "--cert", &file(".pem"), "--key", &file("_key.pem"), &door], "").code
    };
    assert!(site.gateway.daemon().eventually(|| comes("ended") == 77));
    assert_eq!(comes("tomorrow"), 0);
    let today = code_of(1, now());
    site.code(1, &today).expect_success();

    clock.jump(DAY);
    let shifted = now() + DAY.unsigned_abs();
    site.code(2, &code_of(2, shifted)).expect_success();
    // Five wrong codes are judged at once, and no more are tried here.
    assert_eq!((comes("tomorrow"), comes("ended")), (77, 77));
    session.echoes();
    site.comes(&first).expect_success();
    for back in [-DAY, 0] {
        clock.jump(back);
        assert_eq!(comes("ended"), 77, "it had ended");
        site.code(1, &today).expect_code(77);
        site.code(2, &code_of(2, shifted)).expect_code(77);
        session.echoes();
        site.comes(&first).expect_success();
    }
    assert_eq!(comes("tomorrow"), 0, "the clock is right again");
    site.code(3, &code_of(3, now())).expect_success();
}

#[test]
fn s_098_a_clock_that_jumps_neither_takes_penalties_off_nor_makes_them_longer() {
    let place = Place::new();
    let clock = Clock::for_state_of(&place);
    let site = Site::start_in(place, &[], |command| {
        clock.rule(command);
        counted(command);
    });
    for _ in 0..4 {
        site.says("another word").expect_code(77);
    }
    for jump in [DAY, -DAY, 0] {
        clock.jump(jump);
        site.says(WORD).expect_code(75);
        let listed = site.owner(&["penalties", "list", "--json"], "").expect_success().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let left = listed["penalties"][0]["left"].as_u64().expect("seconds");
        assert!(left <= 20, "{listed}");
    }
    // Codes have a rule of their own: five at once.
    let place = Place::new();
    let clock = Clock::for_state_of(&place);
    let site = Site::start_in(place, &[], |command| clock.rule(command));
    for _ in 0..5 {
        site.code(1, "000000").expect_code(77);
    }
    for jump in [DAY, -DAY, 0] {
        clock.jump(jump);
        let at = now().saturating_add_signed(jump);
        let refused = site.code(4, &code_of(4, at));
        assert_ne!(refused.code, 0, "a jump of {jump} s gave new guesses");
    }
    let waits = Duration::from_secs(31);
    thread::sleep(waits);
    site.code(4, &code_of(4, now())).expect_success();
}

const DAY: i64 = 86_400;
