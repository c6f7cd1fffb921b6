//! `pam` against the real libpam: accounts of this machine, one-time codes, and modules of PAM that misbehave.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    PATIENCE, Place,
    account::{Account, is_root},
    gateway::{Gateway, countersign, example},
    pam::{Services, SystemService, account, matrix},
    process::{Finished, must, run},
    xpra::{self, Session, exit},
};
use nix::{sys::signal::Signal, unistd::Pid};

#[test]
fn s_070_s_071_a_real_account_gets_in_by_its_password_under_its_own_number() {
    let Some(user) = account("correct horse") else { return };
    let service = SystemService::write(UNIX);
    let door = Door::open(&format!("pam(service={})", service.name), "");
    let right = door.log_in(&user.name, &["correct horse"]);
    assert_eq!(right.identity(), Some((user.name.clone(), Some(user.uid))));
    assert!(door.log_in(&user.name, &["correct hors"]).is_refused());
    assert!(door.log_in(&user.name, &["correct horse "]).is_refused());
    // Root and its like are not what this machine lets in from outside, whatever their password.
    let system = account("correct horse").expect("root");
    must(Command::new("usermod").args(["--uid", &free_system_uid().to_string(), &system.name]));
    assert!(door.log_in(&system.name, &["correct horse"]).is_refused());
    assert!(door.gateway.log().contains("is below min-uid=1000"), "{}", door.gateway.log());
}

#[test]
fn passwords_are_text_in_utf_8_whatever_they_are_made_of() {
    for password in ["pässwörd", "пароль и 口令 €", "🔑🔑🔑", "it's \"quoted\" \\ $HOME `id` %s", " "]
    {
        let Some(user) = account(password) else { return };
        let service = SystemService::write(UNIX);
        let door = Door::open(&format!("pam(service={})", service.name), "");
        assert!(door.log_in(&user.name, &[password]).identity().is_some(), "{password}");
        let nearly = format!("{password}x");
        assert!(door.log_in(&user.name, &[&nearly]).is_refused(), "{password}");
    }
}

#[test]
fn s_026_who_is_wrong_locked_expired_or_unknown_sees_and_waits_for_the_same() {
    let Some(fine) = account("correct horse") else { return };
    let made = || account("correct horse").expect("root");
    let (locked, expired, old, none) = (made(), made(), made(), Account::create().expect("root"));
    must(Command::new("usermod").args(["--lock", &locked.name]));
    must(Command::new("chage").args(["--expiredate", "1", &expired.name]));
    must(Command::new("chage").args(["--lastday", "0", &old.name]));
    let service = SystemService::write(UNIX);
    let door = Door::open(&format!("pam(service={})", service.name), "");
    assert!(door.log_in(&fine.name, &["correct horse"]).identity().is_some());
    let cases = [
        (fine.name.as_str(), "incorrect", "PAM_AUTH_ERR of the authentication"),
        (&locked.name, "correct horse", "PAM_AUTH_ERR of the authentication"),
        (&none.name, "correct horse", "PAM_AUTH_ERR of the authentication"),
        (&expired.name, "correct horse", "PAM_ACCT_EXPIRED of the account"),
        (&old.name, "correct horse", "PAM_NEW_AUTHTOK_REQD of the account"),
        ("nobody-at-all", "correct horse", "PAM_USER_UNKNOWN of the authentication"),
    ];
    let mut times = BTreeMap::new();
    let mut texts = Vec::new();
    // One after the other, so that they do not wait for each other.
    for _ in 0..3 {
        for (name, password, _) in cases {
            let login = door.log_in(name, &[password]);
            assert!(login.is_refused(), "{name}");
            assert!(login.0.took >= Duration::from_secs(1), "{:?}", login.0.took);
            times.entry(name).or_insert_with(Vec::new).push(login.0.took);
            texts.push((login.0.code, login.0.all().replace(name, "NAME")));
        }
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    let medians: Vec<_> = times.into_values().map(middle).collect();
    let (least, most) = (medians.iter().min(), medians.iter().max());
    // The gateway's pause has 0.2 s of chance in it. PAM's own would be 2 s for some and none for others.
    let apart = most.zip(least).map(|(most, least)| *most - *least).expect("six of them");
    assert!(apart < Duration::from_millis(700), "{medians:?}");
    for (_, _, cause) in cases {
        assert!(door.gateway.log().contains(cause), "{cause}\n{}", door.gateway.log());
    }
    // Without the account phase the expired ones are as good as the others.
    let door = Door::open(&format!("pam(service={},check-account=no)", service.name), "");
    assert!(door.log_in(&expired.name, &["correct horse"]).identity().is_some());
    assert!(door.log_in(&locked.name, &["correct horse"]).is_refused());
}

#[test]
fn a_password_and_a_one_time_code_are_two_challenges() {
    let Some(user) = account("correct horse") else { return };
    let services = Services::new();
    let secret = "3132333435363738393031323334353637383930";
    let file = services.place().file("oath", format!("HOTP {} - {secret}\n", user.name));
    let rules =
        format!("auth required pam_unix.so\nauth required pam_oath.so usersfile={file} window=5\n{ACCOUNT}");
    let door = Door::open(&services.chain("two", &rules, ""), "");
    let codes = must(Command::new("oathtool").args(["--hotp", "--window=4", secret]));
    let codes: Vec<_> = codes.lines().collect();
    let refused = |answers: &[&str]| door.log_in(&user.name, answers).is_refused();
    assert!(refused(&["correct horse", "000000"]));
    assert!(refused(&["incorrect", codes[0]]));
    let right = door.log_in(&user.name, &["correct horse", codes[1]]);
    assert_eq!(right.identity(), Some((user.name.clone(), Some(user.uid))), "{}", right.0.all());
    assert!(refused(&["correct horse", codes[1]]), "a code counts once");
    // A wrong password is not told before the code was asked for, and in PAM's words.
    let asked = door.asked(&user.name, "incorrect");
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].starts_with("Password for "), "{asked:?}");
    let code = format!("The server asks for \"One-time password (OATH) for `{}'\"", user.name);
    assert!(asked[1].starts_with(&code), "{asked:?}");
    let asked = door.asked(&user.name, "correct horse");
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn without_root_a_module_with_names_of_its_own_decides() {
    let services = Services::new();
    let names =
        services.place().file("names", "alice:alicepw:app\nalice:alicepw:twice\nalice:alicepw:closed\n");
    let matrix = format!("{} passdb={names}", matrix());
    let app = services.chain("app", &format!("auth required {matrix}\naccount required {matrix}\n"), "");
    let door = Door::open(&app, "");
    // There is no account of the name, so no number either.
    assert_eq!(door.log_in("alice", &["alicepw"]).identity(), Some(("alice".into(), None)));
    assert!(door.log_in("alice", &["bobpw"]).is_refused());
    assert!(door.log_in("bob", &["alicepw"]).is_refused());
    let closed =
        services.chain("closed", &format!("auth required {matrix}\naccount required pam_deny.so\n"), "");
    assert!(Door::open(&closed, "").log_in("alice", &["alicepw"]).is_refused());
    // The second one states something besides, without a place for an answer.
    let rules = format!("auth required {matrix}\nauth required {matrix} echo verbose\n{ACCOUNT}");
    let door = Door::open(&services.chain("twice", &rules, ""), "");
    assert!(door.log_in("alice", &["alicepw", "alicepw"]).identity().is_some());
    assert!(door.log_in("alice", &["alicepw", "bobpw"]).is_refused());
    assert!(door.log_in("alice", &["bobpw", "alicepw"]).is_refused());
}

#[test]
fn debians_xpra_client_answers_one_question_and_two() {
    let services = Services::new();
    let names = services.place().file("names", "alice:alicepw:app\nalice:alicepw:twice\n");
    let matrix = format!("auth required {} passdb={names}\n", matrix());
    let one = services.chain("app", &format!("{matrix}{ACCOUNT}"), ",username=alice");
    let two = services.chain("twice", &format!("{matrix}{matrix}{ACCOUNT}"), ",username=alice");
    let session = Session::open("behind-pam");
    let place = Place::new();
    let (right, wrong) = (place.file("right", "alicepw"), place.file("wrong", "bobpw"));
    let (front, twice) = (place.text("front"), place.text("twice"));
    let _gateway = Gateway::start(&[
        format!("--bind={front},auth={one}"),
        format!("--bind={twice},auth={two}"),
        format!("--backend=xpra+unix:{}", session.socket),
    ]);
    let log_in = |socket: &str, files: &[&String]| {
        let handlers: Vec<_> =
            files.iter().map(|file| format!("--challenge-handlers=file:filename={file}")).collect();
        xpra::info(&format!("socket://{socket}"), &handlers, &[])
    };
    xpra::expect_answer_of(&session, log_in(&front, &[&right]));
    log_in(&front, &[&wrong]).expect_code(exit::CONNECTION_FAILED);
    xpra::expect_answer_of(&session, log_in(&twice, &[&right, &right]));
    log_in(&twice, &[&right, &wrong]).expect_code(exit::CONNECTION_FAILED);
}

#[test]
fn s_033_a_password_is_not_asked_for_on_an_open_wire() {
    let services = Services::new();
    let chain = services.chain("app", &format!("auth required pam_permit.so\n{ACCOUNT}"), "");
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth={chain}")]);
    let place = Place::new();
    let password = place.file("password", "correct horse");
    let login = |scheme: &str| {
        let address = format!("{scheme}://alice@127.0.0.1:{}/", gateway.port());
        let root = format!("--ca={}", gateway.root());
        let mut words = vec!["info", &address, "--password-file", &password];
        words.extend((scheme == "tls").then_some(root.as_str()));
        run(&mut countersign(&place, &words))
    };
    login("tcp").expect_code(76).expect_text("needs an encrypted connection");
    assert!(gateway.log().contains("not_confidential"), "{}", gateway.log());
    login("tls").expect_success();
}

#[test]
fn s_071_s_081_a_module_that_hangs_is_killed_and_nobody_waits_for_it() {
    let services = Services::new();
    let pids = services.place().text("pids");
    let script =
        format!("#!/bin/sh\nsleep 600 &\necho $$ >>{pids}\necho $! >>{pids}\necho $PPID >>{pids}\nwait\n");
    let script = services.place().file_with_mode("script", script, 0o755);
    let rules = format!("auth required pam_exec.so quiet {script}\n{ACCOUNT}");
    let door = Door::open(&services.chain("hang", &rules, ",timeout=3s"), "");
    thread::scope(|scope| {
        let hanging: Vec<_> = (0..20).map(|_| scope.spawn(|| door.log_in("alice", &["x"]))).collect();
        door.eventually(|| lines(&pids).len() >= 60);
        // While they hang, another socket lets in as ever.
        let start = Instant::now();
        door.other_door().expect_success();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!(hanging.into_iter().all(|login| login.join().expect("a login").is_refused()));
    });
    let processes = lines(&pids);
    assert_eq!(processes.len(), 60);
    // pam_exec gives its program a session of its own, out of the group of its process.
    door.eventually(|| !processes.iter().any(|pid| is_running(pid)));
    assert!(door.gateway.log().contains("PAM did not decide in time"));
}

#[test]
fn s_097_whoever_kills_the_gateway_leaves_no_worker_behind() {
    let services = Services::new();
    let pids = services.place().text("pids");
    let script = format!("#!/bin/sh\necho $$ >>{pids}\necho $PPID >>{pids}\nexec sleep 600\n");
    let script = services.place().file_with_mode("script", script, 0o755);
    let rules = format!("auth required pam_exec.so quiet {script}\n{ACCOUNT}");
    let door = Door::open(&services.chain("hang", &rules, ""), "");
    thread::scope(|scope| {
        let login = scope.spawn(|| door.log_in("alice", &["x"]));
        door.eventually(|| lines(&pids).len() == 2);
        door.gateway.daemon().signal(Signal::SIGKILL);
        assert!(!login.join().expect("a login").is_refused(), "the gateway is gone, and says nothing");
    });
    let deadline = Instant::now() + PATIENCE;
    while lines(&pids).iter().any(|pid| is_running(pid)) {
        assert!(Instant::now() < deadline, "{:?} outlive the gateway", lines(&pids));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s_020_a_module_that_crashes_harms_one_login() {
    let services = Services::new();
    let module = services.module("crash", CRASHES);
    let door = Door::open(&services.chain("crash", &format!("auth required {module}\n{ACCOUNT}"), ""), "");
    for name in ["segv", "abort", "exit", "exec"] {
        let before = door.log_in("alice", &["x"]);
        assert!(before.identity().is_some(), "{}", before.0.all());
        assert!(door.log_in(name, &["x"]).is_refused(), "{name}");
    }
    let log = door.gateway.log();
    for cause in ["died of signal 11", "died of signal 6", "ended with status 0 and said nothing"] {
        assert!(log.contains(cause), "{cause}\n{log}");
    }
    door.other_door().expect_success();
}

#[test]
fn s_068_s_071_a_module_that_turns_one_user_into_another_lets_nobody_in() {
    let services = Services::new();
    let module = services.module("become", BECOMES);
    let chain = services.chain("become", &format!("auth required {module}\n{ACCOUNT}"), ",min-uid=0");
    let door = Door::open(&chain, "");
    assert!(door.log_in("alice", &["alice"]).identity().is_some());
    for other in ["root", "bob", "Alice"] {
        assert!(door.log_in("alice", &[other]).is_refused(), "{other}");
    }
    assert!(door.gateway.log().contains("PAM names another user than the client"));
}

#[test]
fn modules_that_ask_without_sense_end_their_login() {
    let services = Services::new();
    let module = services.module("odd", ODD);
    let door = Door::open(&services.chain("odd", &format!("auth required {module}\n{ACCOUNT}"), ""), "");
    for (name, is_in) in [
        ("statement", true),
        ("two", true),
        ("null", false),
        ("place", false),
        ("binary", false),
        ("many", false),
    ] {
        let login = door.log_in(name, &["one", "two"]);
        assert_eq!(login.identity().is_some(), is_in, "{name}: {}", login.0.all());
        assert!(is_in || login.is_refused());
    }
}

#[test]
fn a_session_is_open_before_the_daemon_hears_a_byte_and_closed_when_the_client_has_left() {
    let house = House::open("");
    let daemon = house.daemon();
    let (mut alice, session) = house.enters();
    // The daemon has heard nothing yet, not even of a client: it has not accepted.
    let (mut behind, _) = daemon.accept().expect("the gateway");
    alice.says(b"hello");
    behind.read_exact(&mut [0; 5]).expect("the client's bytes");
    let (other, second) = house.enters();
    let (behind_other, _) = daemon.accept().expect("the gateway");
    assert_ne!(session, second, "each has its own");
    assert_eq!(house.log(), [format!("open_session {session}"), format!("open_session {second}")]);
    alice.ends();
    behind.read_to_end(&mut Vec::new()).expect("its end");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(house.log().len(), 2, "the daemon may still answer");
    behind.write_all(b"bye").expect("an answer");
    drop(behind);
    assert_eq!(alice.hears(), b"bye");
    house.eventually(|| house.log().get(2) == Some(&format!("close_session {session}")));
    assert!(is_running(&second) && house.log().len() == 3);
    drop((other, behind_other));
    house.eventually(|| house.log().get(3) == Some(&format!("close_session {second}")));
    house.eventually(|| !is_running(&session) && !is_running(&second));
}

#[test]
fn who_only_asks_who_it_is_or_finds_no_daemon_or_fails_later_has_no_session_left() {
    for (options, code) in [("", 0), (",auth=fail", 77)] {
        let house = House::open(options);
        run(&mut house.client("info")).expect_code(code);
        house.eventually(|| phases(&house.log()) == ["open_session", "close_session"]);
    }
    // Nobody is behind.
    let house = House::open("");
    assert!(!run(&mut house.client("connect")).succeeded());
    house.eventually(|| phases(&house.log()) == ["open_session", "close_session"]);
}

#[test]
fn whoever_ends_a_session_ends_the_connection_and_it_is_still_closed() {
    for (signal, closes) in [(Signal::SIGTERM, true), (Signal::SIGHUP, true), (Signal::SIGKILL, false)] {
        let house = House::open("");
        let daemon = house.daemon();
        let (mut client, session) = house.enters();
        let (mut behind, _) = daemon.accept().expect("the gateway");
        let leader = Pid::from_raw(session.parse().expect("a number"));
        nix::sys::signal::kill(leader, signal).expect("the worker");
        client.hears();
        let _ = behind.read_to_end(&mut Vec::new());
        house.eventually(|| !is_running(&session));
        assert_eq!(house.log().len(), if closes { 2 } else { 1 }, "{signal}: {:?}", house.log());
        house.eventually(|| house.gateway.log().contains("what a module kept open for a client has ended"));
    }
}

#[test]
fn s_097_a_gateway_that_dies_leaves_no_session_open() {
    for kills in [true, false] {
        let house = House::open("");
        let _daemon = house.daemon();
        let (_client, session) = house.enters();
        let House { gateway, place, .. } = house;
        let _place = if kills { gateway.kill() } else { gateway.stop() };
        let start = Instant::now();
        while phases(&lines(&place.text("log"))) != ["open_session", "close_session"] || is_running(&session)
        {
            assert!(start.elapsed() < PATIENCE, "{:?}", lines(&place.text("log")));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn s_065_s_071_what_cannot_work_is_told_before_a_socket_is_opened() {
    let services = Services::new();
    let silent = services.chain("silent", ACCOUNT, "");
    for (chain, says) in [
        (silent.as_str(), "has no auth line"),
        ("pam(service=no-such-service)", "PAM has no service of that name"),
        ("sys(service=no-such-service)", "PAM has no service of that name"),
        ("pam(services=login)", "did you mean `service`?"),
    ] {
        let place = Place::new();
        let bind = format!("--bind={},auth={chain}", place.text("door"));
        run(&mut countersign(&place, &["check", &bind])).expect_code(78).expect_text(says);
    }
    // A program that is not prepared to be its own worker would be another daemon instead.
    let place = Place::new();
    run(Command::new(example("custom_module")).args([&place.text("door"), "pam"]))
        .expect_code(1)
        .expect_text("not prepared to be its own worker");
}

#[test]
fn without_the_library_the_package_that_brings_it_is_named() {
    if !is_root() || !run(Command::new("unshare").args(["--mount", "true"])).succeeded() {
        eprintln!("skipped: only root, where it may mount something, can hide a library from one program");
        return;
    }
    let place = Place::new();
    let bind = format!("--bind={},auth=pam", place.text("door"));
    let inner = countersign(&place, &["check", &bind]);
    let hide = r#"for file in /lib/*/libpam.so.0 /usr/lib/*/libpam.so.0 /usr/lib*/libpam.so.0; do
        if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi
    done
    exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
    run(&mut command).expect_code(78).expect_text("libpam.so.0").expect_text("libpam0g");
}

/// A gateway with a local socket whose chain this is, and one that asks for a password of its own.
struct Door {
    gateway: Gateway,
    place: Place,
}

impl Door {
    fn open(chain: &str, options: &str) -> Self {
        let place = Place::new();
        let other = place.file("other-password", "other");
        let gateway = Gateway::start(&[
            format!("--bind={},auth={chain}{options}", place.text("door")),
            format!("--bind={},auth=file(filename={other})", place.text("other")),
            // Many of one user at once, whom nobody shall push out.
            "--max-per-source=1000".to_owned(),
        ]);
        Self { gateway, place }
    }

    fn log_in(&self, name: &str, answers: &[&str]) -> Login {
        let own = Place::new();
        let files: Vec<_> = answers
            .iter()
            .enumerate()
            .map(|(number, answer)| own.file(&format!("answer{number}"), answer))
            .map(|file| format!("file(filename={file})"))
            .collect();
        let address = format!("unix://{name}@{}", self.place.text("door"));
        let handlers = format!("--challenge-handlers={}", files.join(","));
        Login(run(&mut countersign(&own, &["info", "--json", &handlers, &address])))
    }

    /// What a person is asked who always answers the same.
    fn asked(&self, name: &str, answer: &str) -> Vec<String> {
        let own = Place::new();
        let script = format!("#!/bin/sh\nprintf '%s\\0' \"$1\" >>{}\necho '{answer}'\n", own.text("asked"));
        let askpass = own.file_with_mode("askpass", script, 0o700);
        let address = format!("unix://{name}@{}", self.place.text("door"));
        let mut command = countersign(&own, &["info", "--challenge-handlers=prompt", &address]);
        run(command.env("COUNTERSIGN_ASKPASS", askpass)).expect_code(77);
        let asked = fs::read_to_string(own.path("asked")).unwrap_or_default();
        asked.split_terminator('\0').map(str::to_owned).collect()
    }

    fn other_door(&self) -> Finished {
        let password = self.place.text("other-password");
        let address = format!("unix://{}", self.place.text("other"));
        run(&mut countersign(&Place::new(), &["info", "--password-file", &password, &address]))
    }

    #[track_caller]
    fn eventually(&self, is_true: impl Fn() -> bool) {
        assert!(self.gateway.daemon().eventually(is_true), "{}", self.gateway.log());
    }
}

/// A gateway whose users have a session of PAM while they are there, before a daemon at `daemon`. The session
/// writes down its phases, each with the process that is in it.
struct House {
    gateway: Gateway,
    place: Place,
    _services: Services,
}

impl House {
    fn open(options: &str) -> Self {
        let (place, services) = (Place::new(), Services::new());
        let log = place.text("log");
        let script = format!("#!/bin/sh\nsleep 0.1\necho $PAM_TYPE $PPID >>{log}\n");
        let script = services.place().file_with_mode("phase", script, 0o755);
        let rules = format!(
            "auth required {} passdb={}\nauth required pam_permit.so\n{ACCOUNT}session required pam_exec.so quiet {script}\n",
            matrix(),
            services.place().file("names", "alice:alicepw:app\n"),
        );
        let chain = services.chain("app", &rules, ",session=yes");
        let gateway = Gateway::start(&[
            format!("--bind={},auth={chain}{options}", place.text("door")),
            format!("--backend=unix:{}", place.text("daemon")),
        ]);
        Self { gateway, place, _services: services }
    }

    fn daemon(&self) -> UnixListener {
        UnixListener::bind(self.place.path("daemon")).expect("a socket")
    }

    fn client(&self, command: &str) -> Command {
        let password = self.place.file("alicepw", "alicepw");
        let address = format!("unix://alice@{}", self.place.text("door"));
        countersign(&self.place, &[command, "--password-file", &password, &address])
    }

    /// Logs in; returns when its session is open, with its process.
    fn enters(&self) -> (Entered, String) {
        let before = self.log().len();
        let mut command = self.client("connect");
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client");
        self.eventually(|| self.log().len() > before);
        let line = self.log().pop().expect("a line");
        let session = line.strip_prefix("open_session ").expect("the session's begin").to_owned();
        let (stdin, stdout) = (client.stdin.take(), client.stdout.take().expect("a pipe"));
        (Entered { client, stdin, stdout }, session)
    }

    fn log(&self) -> Vec<String> {
        lines(&self.place.text("log"))
    }

    #[track_caller]
    fn eventually(&self, is_true: impl Fn() -> bool) {
        assert!(self.gateway.daemon().eventually(is_true), "{:?}\n{}", self.log(), self.gateway.log());
    }
}

fn phases(log: &[String]) -> Vec<&str> {
    log.iter().filter_map(|line| line.split(' ').next()).collect()
}

/// A client that is in. Dropped, it is gone.
struct Entered {
    client: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
}

impl Entered {
    fn says(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("a pipe");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the client");
    }

    /// Ends its half of the connection.
    fn ends(&mut self) {
        self.stdin = None;
    }

    /// All that it hears until the end.
    fn hears(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        self.stdout.read_to_end(&mut heard).expect("the client");
        heard
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// One attempt, as the client's program ended.
struct Login(Finished);

impl Login {
    /// Who the gateway says it is, with the number.
    fn identity(&self) -> Option<(String, Option<u32>)> {
        if self.0.code != 0 {
            return None;
        }
        let facts: serde_json::Value = serde_json::from_str(&self.0.stdout).expect("JSON");
        let facts = &facts["server"];
        let uid = facts["uid"].as_u64().and_then(|uid| u32::try_from(uid).ok());
        Some((facts["user"].as_str().expect("a name").to_owned(), uid))
    }

    fn is_refused(&self) -> bool {
        self.0.code == 77 && self.0.all().contains("authentication failed")
    }
}

fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A number of the system's range that no account has.
fn free_system_uid() -> u32 {
    let taken = |uid: &u32| nix::unistd::User::from_uid((*uid).into()).ok().flatten().is_some();
    (600..1000).find(|uid| !taken(uid)).expect("400 system accounts")
}

const UNIX: &str = "auth required pam_unix.so\naccount required pam_unix.so\n";

const ACCOUNT: &str = "account required pam_permit.so\n";

/// Ends its process in the way that the user's name says.
const CRASHES: &str = r#"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int pam_get_user(void *, const char **, const char *);
int pam_sm_authenticate(void *pam, int flags, int argc, const char **argv) {
    const char *user = "";
    pam_get_user(pam, &user, 0);
    if (!strcmp(user, "segv")) *(volatile int *)8 = 1;
    if (!strcmp(user, "abort")) abort();
    if (!strcmp(user, "exit")) exit(0);
    if (!strcmp(user, "exec")) execl("/bin/true", "true", (char *)0);
    return 0;
}
int pam_sm_setcred(void *pam, int flags, int argc, const char **argv) { return 0; }
"#;

/// Becomes the user that the password names.
const BECOMES: &str = r#"
int pam_get_authtok(void *, int, const char **, const char *);
int pam_set_item(void *, int, const void *);
int pam_sm_authenticate(void *pam, int flags, int argc, const char **argv) {
    const char *other = 0;
    if (pam_get_authtok(pam, 6, &other, 0)) return 7;
    return pam_set_item(pam, 2, other);
}
int pam_sm_setcred(void *pam, int flags, int argc, const char **argv) { return 0; }
"#;

/// Asks in the way that the user's name says.
const ODD: &str = r#"
#include <stdlib.h>
#include <string.h>
struct message { int style; const char *text; };
struct response { char *text; int unused; };
struct conversation { int (*ask)(int, const struct message **, struct response **, void *); void *data; };
int pam_get_user(void *, const char **, const char *);
int pam_get_item(void *, int, const void **);
int pam_sm_authenticate(void *pam, int flags, int argc, const char **argv) {
    const char *user = "";
    const struct conversation *c = 0;
    struct message ask = { 1, "one" }, more = { 2, "two" }, say = { 4, "hello" }, binary = { 7, "x" };
    const struct message *list[64] = { &ask, &say, &more };
    struct response *answers = 0;
    pam_get_user(pam, &user, 0);
    pam_get_item(pam, 5, (const void **)&c);
    if (!strcmp(user, "statement")) {
        list[0] = &say;
        return c->ask(1, list, 0, c->data);
    }
    if (!strcmp(user, "two")) {
        if (c->ask(3, list, &answers, c->data)) return 7;
        int right = !strcmp(answers[0].text, "one") && !answers[1].text && !strcmp(answers[2].text, "two");
        free(answers[0].text); free(answers[2].text); free(answers);
        return right ? 0 : 7;
    }
    if (!strcmp(user, "null")) { list[0] = 0; return c->ask(1, list, &answers, c->data) ? 7 : 0; }
    if (!strcmp(user, "place")) return c->ask(1, list, 0, c->data) ? 7 : 0;
    if (!strcmp(user, "binary")) { list[0] = &binary; return c->ask(1, list, &answers, c->data) ? 7 : 0; }
    if (!strcmp(user, "many")) {
        for (int i = 0; i < 64; i++) list[i] = &say;
        return c->ask(64, list, &answers, c->data) ? 7 : 0;
    }
    return 7;
}
int pam_sm_setcred(void *pam, int flags, int argc, const char **argv) { return 0; }
"#;
