//! Whoever tries names learns of none whether it is known: for every module that knows users, a wrong secret, an unknown
//! name and an account that is closed get the same bytes, in times that a statistical test cannot tell apart (S-26).
//!
//! Modules that do the work themselves are measured without the pause before a refusal: it is their work that is the
//! same. Where others judge (a directory, a KDC, PAM, a program), theirs is what it is, and the pause has to hide it;
//! `exec` shows that it does, and that without the pause the same test finds 20 ms.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use countersign_interop::{
    PATIENCE, Place,
    account::Account,
    certificate::Pair,
    gateway::{Gateway, countersign},
    kdc::{Kdc, REALM, password},
    modules::{RIGHT, WRONG},
    net::dial_unix,
    onlooker::{Seen, listen_in, log_in},
    pam::{SystemService, account},
    postgres::{Postgres, psql},
    process::{must, run, run_with_input},
    sasl::tls_client,
    slapd::{PEOPLE, SERVICE, Slapd},
    ssh,
    timing::{Apart, shuffled},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

#[test]
fn s_026_multifile_tells_nothing_of_names() {
    let place = Place::new();
    // Nobody has an empty password.
    let table = place.file("table", format!("alice|{RIGHT}\nclose|\nbobby|{RIGHT}\n"));
    let door = Door::open(AT_ONCE, &format!("multifile(filename={table})"));
    door.alike(MANY, &door.passwords("close"));
}

#[test]
fn s_026_sqlite_tells_nothing_of_names() {
    let place = Place::new();
    let table = users(&place);
    let door = Door::open(AT_ONCE, &format!("sqlite(filename={table})"));
    door.alike(MANY, &door.passwords("close"));
    let door = Door::open(AT_ONCE, &format!("sqlite(filename={table},cleartext=yes)"));
    door.alike(SOME, &door.passwords("close"));
}

#[test]
fn s_026_sql_tells_nothing_of_names() {
    let place = Place::new();
    let authority = Pair::of_authority(&place, "authority");
    let server = Postgres::guarded(&Pair::of_server(&authority, &place, "localhost"));
    let table = rusqlite::Connection::open(users(&place)).expect("a table just made");
    let verifier: String = table
        .query_row("SELECT verifier FROM users WHERE username = 'alice'", [], |row| row.get(0))
        .expect("a row just made");
    must(&mut psql(
        &format!("host=127.0.0.1 port={}", server.port),
        &format!(
            "CREATE ROLE gateway LOGIN PASSWORD 'gateway-word';
             CREATE TABLE users (username TEXT, password TEXT, uid TEXT, gid TEXT, displays TEXT, env_options TEXT,
                 session_options TEXT, verifier TEXT, disabled BOOLEAN);
             GRANT SELECT ON users TO gateway;
             INSERT INTO users (username, verifier, disabled) VALUES
                 ('alice', '{verifier}', false), ('close', '{verifier}', true)"
        ),
    ));
    let folder = server.socket.rsplit_once('/').expect("a path").0;
    let uri = format!("postgres://gateway:gateway-word@localhost:{}/postgres?host={folder}", server.port);
    for (rounds, more) in [(MANY, ""), (SOME, ",cleartext=yes")] {
        let door = Door::open(AT_ONCE, &format!("sql(uri={uri}{more})"));
        door.alike(rounds, &door.passwords("close"));
    }
}

#[test]
fn s_026_otp_tells_nothing_of_names() {
    let place = Place::new();
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let lines: String = (0..1000).map(|number| format!("known{number:03}|{secret}\n")).collect();
    let secrets = place.file("secrets", lines);
    let gateway =
        Gateway::start(&[format!("--bind-ssl=127.0.0.1:0,auth=otp(filename={secrets})"), AT_ONCE.to_owned()]);
    // Guesses are counted for each source and each account: every one is another's at another account.
    let turns = AtomicUsize::new(0);
    let guess = |kind: &'static str| -> Box<dyn Fn() -> Seen + Sync + '_> {
        let (gateway, turns) = (&gateway, &turns);
        Box::new(move || {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            let source =
                Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 9, 0, 1)) + u32::try_from(turn).expect("few"));
            let (mut tls, _) = tls_client(dial_from(source, gateway.port()), &gateway.root());
            log_in(&mut tls, &format!("{kind}{turn:03}"), b"000000")
        })
    };
    alike(SOME, &[("a wrong code", guess("known")), ("an unknown name", guess("other"))]);
}

#[test]
fn s_026_scram_tells_nothing_of_names() {
    let place = Place::new();
    let door = Door::open(AT_ONCE, &format!("scram(filename={})", users(&place)));
    let (right, wrong) = (place.file("right", RIGHT), place.file("wrong", WRONG));
    let with = |name, file: &str| door.client(name, vec!["--password-file".to_owned(), file.to_owned()]);
    door.alike(
        FEW,
        &[
            ("a wrong password", with("alice", &wrong)),
            ("an unknown name", with("mally", &right)),
            ("a closed account", with("close", &right)),
        ],
    );
}

#[test]
fn s_026_ssh_key_tells_nothing_of_names() {
    let place = Place::new();
    let [mine, other] = ["mine", "other"].map(|name| ssh::key(&place, name, "ed25519"));
    fs::create_dir(place.path("keys")).expect("an own folder");
    place.file("keys/alice", format!("{}\n", ssh::public(&mine)));
    place.file("keys/close", format!("expiry-time=\"20200101\" {}\n", ssh::public(&mine)));
    let door = Door::open(AT_ONCE, &format!("ssh-key(filename={}/%u)", place.text("keys")));
    let with = |name, key: &str| door.client(name, handler(&format!("ssh-key(key={key})")));
    door.alike(
        FEW,
        &[
            ("another's key", with("alice", &other)),
            ("an unknown name", with("mally", &mine)),
            ("a key that is over", with("close", &mine)),
        ],
    );
}

#[test]
fn s_026_u2f_tells_nothing_of_names() {
    security_key("u2f");
}

#[test]
fn s_026_fido2_tells_nothing_of_names() {
    security_key("fido2");
}

#[test]
fn s_026_ldap_tells_nothing_of_names() {
    let slapd = Slapd::start();
    let url = format!("url={},group=\"cn=ops,ou=groups,dc=example,dc=test\"", slapd.local_url());
    let reader = slapd.file("reader", "reader-word\n");
    for way in [
        format!("bind-dn=\"uid={{username}},{PEOPLE}\""),
        format!("base=\"{PEOPLE}\",search-bind-dn=\"{SERVICE}\",search-password-file={reader}"),
    ] {
        let door = Door::open(PAUSED, &format!("ldap({url},{way})"));
        door.alike(
            BEHIND_THE_PAUSE,
            &[
                ("a wrong password", door.password("alice", WRONG)),
                ("an unknown name", door.password("mally", "alice-word")),
                ("no member", door.password("Zoë", "zoë-wörd")),
                ("no password", door.password("mute", WRONG)),
            ],
        );
    }
}

#[test]
fn s_026_kerberos_password_tells_nothing_of_names() {
    let kdc = Kdc::start();
    kdc.admin(
        REALM,
        "addprinc -clearpolicy -pw closed-word close\nmodprinc -allow_tix close\n\
         addprinc -clearpolicy -pw ready-word ready\nmodprinc +requires_preauth ready\n",
    );
    let door = Door::open_with(PAUSED, "kerberos-password(service=host/localhost)", |it| kdc.reach(it));
    door.alike(
        BEHIND_THE_PAUSE,
        &[
            ("a wrong password", door.password("alice", WRONG)),
            ("a wrong password, found out sooner", door.password("ready", WRONG)),
            ("an unknown name", door.password("mally", &password("alice", REALM))),
            ("a closed account", door.password("close", "closed-word")),
        ],
    );
}

#[test]
fn s_026_pam_tells_nothing_of_names() {
    let Some(fine) = account(RIGHT) else { return };
    let made = || account(RIGHT).expect("root");
    let (locked, expired) = (made(), made());
    must(Command::new("usermod").args(["--lock", &locked.name]));
    must(Command::new("chage").args(["--expiredate", "1", &expired.name]));
    let service = SystemService::write("auth required pam_unix.so\naccount required pam_unix.so\n");
    let door = Door::open(PAUSED, &format!("pam(service={})", service.name));
    let with = |account: &Account, secret| door.password(&account.name, secret);
    door.alike(
        // A process for each, and a hash that is slow on purpose.
        Effort { rounds: 48, lanes: 8 },
        &[
            ("a wrong password", with(&fine, WRONG)),
            ("an unknown name", door.password("nobody-at-all", RIGHT)),
            ("a locked account", with(&locked, RIGHT)),
            ("an account that is over", with(&expired, RIGHT)),
        ],
    );
}

/// The test of the test: here one name costs more than another.
#[test]
fn s_026_exec_tells_nothing_of_names_behind_the_pause_and_all_of_them_without() {
    let place = Place::new();
    let script = "#!/bin/sh\n[ \"$1\" = alice ] && sleep 0.02\nexit 1\n";
    let script = place.file_with_mode("script", script, 0o700);
    let chain = format!("exec(command=\"{script} $username\",require-challenge=yes,max-concurrent=64)");
    fn attempts(door: &Door) -> [Attempt<'_>; 2] {
        [("a known name", door.password("alice", WRONG)), ("an unknown name", door.password("mally", WRONG))]
    }
    let door = Door::open(AT_ONCE, &chain);
    let told = told_apart(SOME, &attempts(&door));
    assert!(told.iter().any(|told| told.starts_with("an unknown name")), "20 ms are not found: {told:?}");
    let door = Door::open(PAUSED, &chain);
    door.alike(BEHIND_THE_PAUSE, &attempts(&door));
}

/// A new module that knows users gets a test here.
#[test]
fn s_026_every_module_that_knows_users_has_its_test() {
    let listed = run(&mut countersign(&Place::new(), &["modules", "list", "--json"])).expect_success().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    for module in listed.as_array().expect("a list") {
        let name = module["name"].as_str().expect("a name");
        let is_shown = include_str!("indistinguishable.rs")
            .contains(&format!("fn s_026_{}_tells_nothing", name.replace('-', "_")));
        let knows = module["uses_username"] == true && !KNOWS_NOBODY.contains(&name);
        assert_eq!(is_shown, knows, "{name}");
    }
}

/// Modules that look at names and know none of them here: they let every one in, count them, or take them from a ticket,
/// which whoever is unknown has not; and `win32`, which knows those of Windows.
const KNOWS_NOBODY: [&str; 5] = ["allow", "gss", "kerberos-ticket", "ratelimit", "win32"];

/// What is tried, and what is seen of it.
type Attempt<'a> = (&'static str, Box<dyn Fn() -> Seen + Sync + 'a>);

/// How many rounds, and how many of them at a time.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    lanes: usize,
}

const MANY: Effort = Effort { rounds: 150, lanes: 1 };

const SOME: Effort = Effort { rounds: 40, lanes: 1 };

/// Where a client is started for each login.
const FEW: Effort = Effort { rounds: 30, lanes: 1 };

/// The length of the pause is of chance, by a tenth of a second: many rounds are needed to see anything beside it.
const BEHIND_THE_PAUSE: Effort = Effort { rounds: 120, lanes: 40 };

const AT_ONCE: &str = "--refusal-delay=0s";

const PAUSED: &str = "--refusal-delay=500ms";

/// Fails the test if what is seen of the attempts differs, or if their times tell them apart in two measurements: what
/// is there is there again, and what is of chance is not.
fn alike(effort: Effort, attempts: &[Attempt<'_>]) {
    let told = told_apart(effort, attempts);
    if !told.is_empty() {
        let again = told_apart(effort, attempts);
        let both =
            |label: &str| [&told, &again].iter().all(|told| told.iter().any(|it| it.starts_with(label)));
        let told_twice = attempts.iter().any(|(label, _)| both(label));
        assert!(!told_twice, "told apart by time:\n{told:#?}\nand again:\n{again:#?}");
    }
}

/// Which attempts take another time than the first, which is tried twice in each round to see what chance does.
fn told_apart(effort: Effort, attempts: &[Attempt<'_>]) -> Vec<String> {
    let seen = in_turns(effort, attempts);
    let texts = |seen: &Seen| seen.answers.iter().map(|answer| answer.text.clone()).collect::<Vec<_>>();
    let all: BTreeSet<_> = seen.iter().flatten().map(texts).collect();
    assert_eq!(all.len(), 1, "the gateway says different things: {all:#?}");
    let answers = all.first().map_or(0, Vec::len);
    assert!(answers >= 2, "a question and a refusal are expected: {all:#?}");
    let times = |kind: usize, answer: usize| -> Vec<Duration> {
        seen.iter().map(|round| round[kind].answers[answer].took).collect()
    };
    let mut told = Vec::new();
    for answer in 0..answers {
        let first = times(0, answer);
        let same = Apart::of(&first, &times(attempts.len(), answer));
        for (kind, (label, _)) in attempts.iter().enumerate().skip(1) {
            let apart = Apart::of(&first, &times(kind, answer));
            eprintln!("{label}, answer {answer}: {apart:.2?}, chance {same:.2?}");
            if apart.tells(&same) {
                told.push(format!("{label}, by answer {answer}: {apart:.2?}, chance {same:.2?}"));
            }
        }
    }
    told
}

/// All attempts in each round, and the first one once more, in an order of chance.
fn in_turns(effort: Effort, attempts: &[Attempt<'_>]) -> Vec<Vec<Seen>> {
    let round = || {
        let mut seen: Vec<Option<Seen>> = (0..=attempts.len()).map(|_| None).collect();
        for kind in shuffled(seen.len()) {
            let (_, attempt) = &attempts[kind % attempts.len()];
            seen[kind] = Some(attempt());
        }
        seen.into_iter().flatten().collect::<Vec<_>>()
    };
    // The first ones fill caches and pools.
    round();
    let lane = || (0..effort.rounds / effort.lanes).map(|_| round()).collect::<Vec<_>>();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..effort.lanes).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("a lane of logins")).collect()
    })
}

/// A gateway with one local socket.
struct Door {
    _gateway: Gateway,
    place: Place,
}

impl Door {
    fn open(pause: &str, module: &str) -> Self {
        Self::open_with(pause, module, |_| {})
    }

    fn open_with(pause: &str, module: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let place = Place::new();
        let bind = format!("--bind={},auth={module}", place.text("door"));
        // Many of one user at once, whom nobody shall push out.
        let crowd = "--max-per-source=1000";
        Self { _gateway: Gateway::start_with(&[bind.as_str(), pause, crowd], adjust), place }
    }

    fn path(&self) -> PathBuf {
        self.place.path("door")
    }

    fn alike(&self, effort: Effort, attempts: &[Attempt<'_>]) {
        alike(effort, attempts);
    }

    /// A wrong password of `alice`, and her right one for an unknown name and for a closed account.
    fn passwords(&self, closed: &str) -> [Attempt<'_>; 3] {
        [
            ("a wrong password", self.password("alice", WRONG)),
            ("an unknown name", self.password("mally", RIGHT)),
            ("a closed account", self.password(closed, RIGHT)),
        ]
    }

    /// A login with this password, by our own bytes.
    fn password(&self, name: &str, secret: &str) -> Box<dyn Fn() -> Seen + Sync + '_> {
        let (name, secret) = (name.to_owned(), secret.to_owned());
        Box::new(move || log_in(&mut dial_unix(&self.path()), &name, secret.as_bytes()))
    }

    /// A login by the command, which is refused.
    fn client(&self, name: &'static str, arguments: Vec<String>) -> Box<dyn Fn() -> Seen + Sync + '_> {
        Box::new(move || {
            let (seen, finished) = listen_in(&self.path(), name, |socket| {
                let address = format!("unix://{name}@{socket}");
                let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                run(&mut countersign(&self.place, &[&["info"], &words[..], &[&address]].concat()))
            });
            finished.expect_code(77);
            seen
        })
    }
}

/// A socket that asks for security keys, of which alice has one, and of which another user had one.
fn security_key(kind: &str) {
    let place = Place::new();
    let keys = place.text("folder");
    let door = Door::open(AT_ONCE, &format!("{kind}(keys={keys})"));
    let add = |name: &str| {
        let path = place.text(name);
        let words =
            ["keys", "add", name, "--keys", &keys, "--kind", kind, "--name", "blue", "--keyfile", &path];
        run(&mut countersign(&place, &words)).expect_success();
        path
    };
    let [alice, bobby, close] = ["alice", "bobby", "close"].map(add);
    run(&mut countersign(&place, &["keys", "remove", "close", "blue", "--keys", &keys])).expect_success();
    let with = |name, key: &str| door.client(name, handler(&format!("{kind}(keyfile={key})")));
    door.alike(
        FEW,
        &[
            ("another's key", with("alice", &bobby)),
            ("an unknown name", with("mally", &alice)),
            ("a key that was removed", with("close", &close)),
        ],
    );
}

fn handler(handler: &str) -> Vec<String> {
    vec![format!("--challenge-handlers={handler}")]
}

/// A table of users with `alice`, and `close`, who has her password and may not log in.
fn users(place: &Place) -> String {
    let table = place.text("users.sdb");
    run(&mut countersign(place, &["users", "init", &table])).expect_success();
    for name in ["alice", "close"] {
        let mut add = countersign(place, &["users", "add", "--stdin", &table, name]);
        run_with_input(&mut add, RIGHT.as_bytes()).expect_success();
    }
    run(&mut countersign(place, &["users", "disable", &table, "close"])).expect_success();
    table
}

/// A connection to a port of the loopback from one of its addresses.
fn dial_from(source: Ipv4Addr, port: u16) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0))).expect("an own address");
    let there = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    connect(fd.as_raw_fd(), &SockaddrIn::from(there)).expect("the gateway listens");
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream
}
