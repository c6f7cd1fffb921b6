//! `kill -9` at random times while certificates, users, codes and invitations come and go: after each the gateway
//! starts, and of all that somebody was told nothing is lost and nothing comes back.
//!
//! For longer than the suite has time: `COUNTERSIGN_KILL_SECONDS=300 cargo nextest run -p countersign-interop --test
//! killed --no-capture`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    hash::{BuildHasher as _, RandomState},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    faults::{Person, Site, USERS, WORD, code_of, now},
    gateway::countersign,
    process::{must, run},
};
use nix::sys::signal::Signal;
use rusqlite::Connection;

#[test]
fn s_050_s_097_killed_at_random_times_nothing_that_was_told_is_lost_or_comes_back() {
    let seconds = env::var("COUNTERSIGN_KILL_SECONDS").map_or(20, |text| text.parse().expect("seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let house = House::new();
    let (mut facts, mut rounds) = (Facts::default(), 0);
    let mut site = Site::start_in(Place::new(), &[], |_| {});
    site.comes(&Person::default()).expect_success();
    while Instant::now() < end {
        house.work_until_killed(&site, &mut facts, rounds);
        rounds += 1;
        site = site.killed_and_started(|_| {});
        assert!(!site.gateway.log().contains("restored"), "a kill is no damage: {}", site.gateway.log());
        house.check(&site, &facts);
    }
    facts.last_ones_come_to_nothing(&site);
    let place = site.gateway.kill();
    let marks = Connection::open(place.path("state/state.db")).expect("the store");
    let marks: u32 = marks.query_row("SELECT count(*) FROM marks", [], |row| row.get(0)).expect("marks");
    let users = facts.codes.iter().map(|(user, ..)| user).collect::<BTreeSet<_>>().len();
    assert!(marks as usize >= users, "of {users} users {marks} are known to have used a code");
    println!(
        "{rounds} kills of the gateway and {} of a command; {} certificates accepted and as many invitations spent, {} \
         taken back; {} users made, {} removed; {} codes used; none was lost, none came back",
        house.commands_killed.load(Ordering::Relaxed),
        facts.count(&facts.certificates, Fact::Is) + facts.count(&facts.certificates, Fact::Gone),
        facts.count(&facts.certificates, Fact::Gone),
        facts.count(&facts.users, Fact::Is) + facts.count(&facts.users, Fact::Gone),
        facts.count(&facts.users, Fact::Gone),
        facts.codes.len(),
    );
    // A run in which nothing got as far as to be told would show nothing.
    assert!(rounds > 5 && !facts.codes.is_empty(), "too slow a machine to tell: {rounds} rounds");
    for (what, facts) in [("certificate", &facts.certificates), ("user", &facts.users)] {
        assert!(facts.values().any(|fact| *fact == Fact::Is), "no {what} was ever there");
        assert!(facts.values().any(|fact| *fact == Fact::Gone), "no {what} ever went");
    }
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    /// Somebody was told that it is there.
    Is,
    /// Somebody was told that it is not there any more.
    Gone,
    /// Nobody was told what became of it.
    Unknown,
}

#[derive(Default)]
struct Facts {
    certificates: BTreeMap<String, Fact>,
    users: BTreeMap<String, Fact>,
    /// Users of codes, with codes that were taken and when.
    codes: Vec<(usize, String, u64)>,
    tokens: Vec<String>,
    next_code: usize,
}

impl Facts {
    fn count(&self, of: &BTreeMap<String, Fact>, fact: Fact) -> usize {
        of.values().filter(|known| **known == fact).count()
    }

    /// The last invitations and codes, tried once more. Few, for wrong ones are counted.
    fn last_ones_come_to_nothing(&self, site: &Site) {
        for token in self.tokens.iter().rev().take(2) {
            assert_ne!(site.enrols(&Person::default(), token).code, 0, "an invitation was spent twice");
        }
        for (user, code, at) in self.codes.iter().rev().take(2) {
            let refused = site.code(*user, code);
            assert_ne!(refused.code, 0, "a code of {} s ago was taken twice", now() - at);
        }
    }
}

/// What stays while gateways come and go: a table of users, and who kills.
struct House {
    place: Place,
    chance: RandomState,
    turn: AtomicUsize,
    commands_killed: AtomicUsize,
}

impl House {
    fn new() -> Self {
        let place = Place::new();
        place.file("word", WORD);
        must(&mut countersign(&place, &["users", "init", &place.text("users.db")]));
        let (turn, commands_killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { place, chance: RandomState::new(), turn, commands_killed }
    }

    /// A time below this one, another each time.
    fn moment(&self, below: Duration) -> Duration {
        let chance = self.chance.hash_one(self.turn.fetch_add(1, Ordering::Relaxed));
        Duration::from_micros(chance % u64::try_from(below.as_micros()).expect("a short time"))
    }

    /// Everybody does things until the gateway is killed, and notes what it was told.
    fn work_until_killed(&self, site: &Site, facts: &mut Facts, round: usize) {
        let dead = AtomicBool::new(false);
        let Facts { certificates, users, codes, tokens, next_code } = facts;
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(self.moment(LONGEST));
                site.gateway.daemon().signal(Signal::SIGKILL);
                dead.store(true, Ordering::Relaxed);
            });
            let alive = || !dead.load(Ordering::Relaxed);
            scope.spawn(move || {
                for number in (0..).take_while(|_| alive()) {
                    enrol(site, &format!("c{round}-{number}"), number % 2 == 1, certificates, tokens);
                }
            });
            scope.spawn(move || {
                while alive() {
                    // By the time that a user comes again there is another code.
                    let (user, at) = (*next_code % USERS, now());
                    *next_code += 1;
                    let code = code_of(user, at);
                    match site.code(user, &code).code {
                        0 => codes.push((user, code, at)),
                        refused => assert_ne!(refused, 77, "a code that nobody used was refused"),
                    }
                }
            });
            scope.spawn(move || {
                for number in (0..).take_while(|_| alive()) {
                    self.one_user(&format!("u{round}-{number}"), number % 2 == 1, users);
                }
            });
        });
    }

    /// Makes a user, and perhaps removes it again; now and then the command is killed.
    fn one_user(&self, name: &str, goes: bool, users: &mut BTreeMap<String, Fact>) {
        let (table, word) = (self.place.text("users.db"), self.place.text("word"));
        let made = self.kills_perhaps(&["users", "add", &table, name, "--password-file", &word]);
        users.insert(name.to_owned(), if made { Fact::Is } else { Fact::Unknown });
        if made && goes {
            let gone = self.kills_perhaps(&["users", "remove", &table, name]);
            users.insert(name.to_owned(), if gone { Fact::Gone } else { Fact::Unknown });
        }
    }

    /// Whether the command came to a good end; every third is killed somewhere.
    fn kills_perhaps(&self, words: &[&str]) -> bool {
        let mut command: Command = countersign(&self.place, words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command");
        if self.moment(Duration::from_micros(3)).is_zero() {
            thread::sleep(self.moment(Duration::from_millis(200)));
            // It is waited for below only, so the number is still its own.
            let _ = child.kill();
            self.commands_killed.fetch_add(1, Ordering::Relaxed);
        }
        child.wait().expect("an own child").success()
    }

    /// All that anybody was told is as it was told.
    fn check(&self, site: &Site, facts: &Facts) {
        let entries = site.listed(&["trust", "list"]);
        let invitations = site.listed(&["trust", "invitations"]);
        for (name, fact) in &facts.certificates {
            let entry = entries.iter().find(|entry| entry["name"] == name.as_str());
            let accepted = entry.map(|entry| entry["revoked"].is_null());
            let spent = invitations.iter().find(|one| one["name"] == name.as_str());
            let spent = spent.map(|one| !one["spent"].is_null());
            match fact {
                Fact::Is => assert_eq!((accepted, spent), (Some(true), Some(true)), "{name} was accepted"),
                Fact::Gone => {
                    assert_eq!((accepted, spent), (Some(false), Some(true)), "{name} was taken back")
                }
                Fact::Unknown => {
                    assert_eq!(entry.is_some(), spent == Some(true), "{name}: one without the other")
                }
            }
        }
        let list = run(&mut countersign(&self.place, &["users", "list", &self.place.text("users.db")]));
        let list = list.expect_success().stdout;
        let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
        for (name, fact) in facts.users.iter().filter(|(_, fact)| **fact != Fact::Unknown) {
            assert_eq!(names.contains(&name.as_str()), *fact == Fact::Is, "user {name}: {fact:?}");
        }
    }
}

/// Somebody is invited, comes in, and is perhaps taken back.
fn enrol(
    site: &Site,
    name: &str,
    goes: bool,
    certificates: &mut BTreeMap<String, Fact>,
    tokens: &mut Vec<String>,
) {
    let Some(token) = site.invites(name) else { return };
    let person = Person::default();
    let accepted = site.enrols(&person, &token).succeeded();
    certificates.insert(name.to_owned(), if accepted { Fact::Is } else { Fact::Unknown });
    if !accepted {
        return;
    }
    tokens.push(token);
    if goes {
        let gone = site.owner(&["trust", "remove", name], "").succeeded();
        certificates.insert(name.to_owned(), if gone { Fact::Gone } else { Fact::Unknown });
    }
}

/// How long a gateway lives at most.
const LONGEST: Duration = Duration::from_millis(1500);
