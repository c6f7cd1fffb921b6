//! `session:`: each user's own daemon, with three local accounts made by the test. Only root can make them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    PATIENCE, Place,
    account::Account,
    dialogue::Dialogue,
    gateway::{Gateway, countersign},
    net::{dial, wait_for_unix},
    postgres::{self, Postgres},
    process::{Daemon, Finished, must, run},
    wire::{self, Received, Value, answer, hello, honest, with, without},
    xpra::{self, OwnSession, exit},
};

/// Every way to say which session is meant, with all that the other user could be reached by.
#[test]
fn s_085_two_users_and_all_selectors_reach_the_users_own_sessions_alone() {
    let Some(yard) = Yard::new() else { return };
    let (app, mail) = (yard.place.text("run/{uid}/app.sock"), yard.place.text("run/{uid}/mail.sock"));
    let _daemons: Vec<_> = yard
        .both()
        .flat_map(|user| {
            ["app", "mail"].map(|name| yard.serve(user, &format!("run/{}/{name}.sock", user.uid)))
        })
        .collect();
    let router = format!("session:template(path={app},path=mail={mail})");
    let (plain, packets) = (yard.gate(&router), yard.gate(&format!("xpra+{router}")));
    let (mut own, mut refused) = (0, 0);
    for (user, other) in [(&yard.alice, &yard.bob), (&yard.bob, &yard.alice)] {
        let theirs = format!("{}/{}", yard.place.text("run"), other.uid);
        let right = ["app", "mail", ":mail"].map(str::to_owned);
        let wrong = [
            other.name.clone(),
            other.uid.to_string(),
            format!("{}/app", other.uid),
            format!("{}:app", other.name),
            format!("{}@app", other.name),
            format!("{theirs}/app.sock"),
            format!("unix:{theirs}/mail.sock"),
            format!("socket://{theirs}/mail.sock"),
            format!("../{}/app", other.uid),
            "{uid}".to_owned(),
            "root".to_owned(),
        ];
        for (wanted, is_own) in
            right.iter().map(|wanted| (wanted, true)).chain(wrong.iter().map(|w| (w, false)))
        {
            let mut answers = Vec::new();
            for selector in ["display", "session-name"] {
                answers.push(yard.raw(&packets, user, &[(selector, wanted)]));
            }
            // The display is what counts, whatever else is said.
            answers.push(yard.raw(&packets, user, &[("display", wanted), ("session-name", "app")]));
            answers.push(yard.raw(&packets, user, &[("display", wanted), ("session-id", &other.name)]));
            answers.push(said(&yard.ask(&plain, user, &["--session", wanted], "")));
            // What an address cannot hold is no selector.
            if !wanted.contains(['/', '{', '@']) {
                answers.push(said(&yard.ask(&plain, user, &[], wanted)));
            }
            for answer in answers {
                assert!(!answer.contains(&format!("\"uids\":[{}", other.uid)), "{wanted}: {answer}");
                if is_own {
                    assert!(
                        answer.contains(&format!("\"uids\":[{0},{0},{0}]", user.uid)),
                        "{wanted}: {answer}"
                    );
                    own += 1;
                } else {
                    assert!(answer.contains("there is no such session: you have `app`, `mail`"), "{answer}");
                    assert!(!answer.contains(&theirs) && !answer.contains("sock"), "{answer}");
                    refused += 1;
                }
            }
        }
    }
    eprintln!(
        "two users: {own} selectors reached the user's own session, {refused} were refused, 0 the other's"
    );
    // Without a name the list is told; a name in the login that is not the proved one changes nothing.
    let several = said(&yard.ask(&plain, &yard.alice, &[], ""));
    assert!(several.contains("say which session you want: you have `app`, `mail`"), "{several}");
    let none = said(&yard.ask(&plain, &yard.carol, &["--session", "app"], ""));
    assert!(none.contains("the service is not available"), "{none}");
    let none = said(&yard.ask(&plain, &yard.carol, &[], ""));
    assert!(none.contains("you have no session here"), "{none}");
}

/// The same two users by every router, each asked for the other's session too.
#[test]
fn s_085_every_router_leads_both_users_to_their_own_daemon_and_neither_to_the_others() {
    let Some(yard) = Yard::new() else { return };
    let host = nix::unistd::gethostname().expect("a host name").into_string().expect("a text");
    let displays = [(&yard.alice, "10"), (&yard.bob, "20")];
    let _daemons: Vec<_> = displays
        .iter()
        .map(|(user, display)| yard.serve(user, &format!("run/{}/{host}-{display}", user.uid)))
        .collect();
    let dirs = yard.place.text("run/{uid}");
    let rows: Vec<_> =
        displays.iter().map(|(user, display)| (&user.name, user.uid, format!(":{display}"))).collect();
    let lines: String =
        rows.iter().map(|(name, uid, display)| format!("{name}||{uid}|1|{display}\n")).collect();
    let file = yard.place.file("displays", lines);
    let database = yard.place.file("displays.db", "");
    let connection = rusqlite::Connection::open(&database).expect("an empty file");
    connection.execute_batch(&table(&rows)).expect("Xpra's table");
    let script = yard.place.file(
        "where",
        format!("echo '{{\"sessions\":[{{\"name\":\":'$COUNTERSIGN_UID'\",\"backend\":\"{}/'$COUNTERSIGN_UID'/link\"}}]}}'",
            yard.place.text("run")),
    );
    for (user, display) in displays {
        let (from, to) = (format!("run/{}/{host}-{display}", user.uid), format!("run/{}/link", user.uid));
        fs::hard_link(yard.place.path(&from), yard.place.path(&to)).expect("a second name of the socket");
    }
    let postgres = Postgres::start();
    let _ = postgres::query(postgres.port, &table(&rows));
    let uri = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port);
    let routers = [
        format!("session:directory(socket-dirs={dirs})"),
        format!("session:multifile(filename={file},socket-dirs={dirs})"),
        format!("session:sqlite(filename={database},socket-dirs={dirs})"),
        format!("session:sql(uri={uri},socket-dirs={dirs})"),
        format!("session:exec(command=\"/bin/sh {script}\")"),
        format!("session:template(path={}/run/{{uid}}/link)", yard.place.text("")),
    ];
    let mut reached = 0;
    for router in &routers {
        let gateway = yard.gate(router);
        for (user, other) in [(0, 1), (1, 0)].map(|(one, two)| (displays[one], displays[two])) {
            let own = said(&yard.ask(&gateway, user.0, &[], ""));
            assert!(own.contains(&uids(user.0)), "{router}: {own}");
            reached += 1;
            for theirs in
                [other.1.to_owned(), format!(":{}", other.1), other.0.uid.to_string(), other.0.name.clone()]
            {
                let refused = said(&yard.ask(&gateway, user.0, &["--session", &theirs], ""));
                assert!(refused.contains("there is no such session: you have `"), "{router}: {refused}");
                assert!(!refused.contains(&uids(other.0)), "{router}: {refused}");
            }
        }
        let nobody = said(&yard.ask(&gateway, &yard.carol, &[], ""));
        assert!(!nobody.contains("\"uids\""), "{router}: {nobody}");
        assert!(
            nobody.contains("you have no session here") || nobody.contains("is not available"),
            "{nobody}"
        );
    }
    assert_eq!(reached, 2 * routers.len());
}

/// W39: in a directory that all write to, bob takes the names that alice's sockets have or will have.
#[test]
fn s_085_a_socket_that_another_user_has_put_there_is_never_used() {
    let Some(yard) = Yard::new() else { return };
    let shared = yard.place.text("shared");
    fs::create_dir(&shared).expect("a folder in the test's own place");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("its permissions");
    let host = nix::unistd::gethostname().expect("a host name").into_string().expect("a text");
    let trap = yard.serve(&yard.bob, &format!("shared/{}.sock", yard.alice.uid));
    let _display = yard.serve(&yard.bob, &format!("shared/{host}-10"));
    let template = yard.gate(&format!("session:template(path={shared}/{{uid}}.sock)"));
    let directory = yard.gate(&format!("session:directory(socket-dirs={shared})"));
    let refused = said(&yard.ask(&template, &yard.alice, &[], ""));
    assert!(refused.contains("the service is not available") && !refused.contains("uids"), "{refused}");
    assert!(template.log().contains(&format!("it belongs to uid {}", yard.bob.uid)), "{}", template.log());
    let refused = said(&yard.ask(&directory, &yard.alice, &["--session", ":10"], ""));
    assert!(refused.contains("you have no session here") && !refused.contains("uids"), "{refused}");
    // A link to bob's, made by alice in her own folder, and one to hers made by bob.
    let link = yard.place.path(&format!("run/{}/app.sock", yard.alice.uid));
    std::os::unix::fs::symlink(format!("{shared}/{}.sock", yard.alice.uid), &link).expect("a link");
    let own = yard.gate(&format!("session:template(path={})", yard.place.text("run/{uid}/app.sock")));
    let refused = said(&yard.ask(&own, &yard.alice, &[], ""));
    assert!(refused.contains("the service is not available"), "{refused}");
    assert!(own.log().contains("it is no socket"), "{}", own.log());
    // What bob left dead belongs to him as well.
    drop(trap);
    let refused = said(&yard.ask(&template, &yard.alice, &[], ""));
    assert!(refused.contains("the service is not available"), "{refused}");
}

/// S-84 from outside: what a started daemon sees of itself.
#[test]
fn s_084_a_daemon_is_started_once_as_its_user_with_nothing_of_the_gateways() {
    let Some(mut yard) = Yard::new() else { return };
    // A second group, which is not the account's primary one.
    must(Command::new("usermod").args(["--append", "--groups", "games", &yard.alice.name]));
    let games =
        nix::unistd::Group::from_name("games").expect("the groups").expect("a group of Debian").gid.as_raw();
    yard.alice.groups = vec![yard.alice.gid, games];
    let starts = yard.place.text("starts");
    fs::write(&starts, "").expect("a file");
    fs::set_permissions(&starts, fs::Permissions::from_mode(0o666)).expect("its permissions");
    let runtime = yard.place.text("runtime");
    fs::create_dir(&runtime).expect("a folder in the test's own place");
    let path = yard.place.text("run/{uid}/app.sock");
    let gateway = yard.gate(&format!(
        "session:template(path={path},runtime-dir={runtime}/{{uid}},stop-when-idle=1s,start=\"{} {{socket}} 300 {starts}\")",
        yard.program
    ));
    let count = || fs::read_to_string(&starts).expect("the starts").lines().count();
    // Eight first logins of alice at once, and one of bob.
    let answers: Vec<String> = thread::scope(|scope| {
        let alice = (0..8)
            .map(|_| scope.spawn(|| said(&yard.ask(&gateway, &yard.alice, &[], ""))))
            .collect::<Vec<_>>();
        let bob = scope.spawn(|| said(&yard.ask(&gateway, &yard.bob, &[], "")));
        alice.into_iter().chain([bob]).map(|asked| asked.join().expect("an answer")).collect()
    });
    assert_eq!(count(), 2, "one daemon for each user: {answers:?}");
    let (bobs, alices) = answers.split_last().expect("nine answers");
    for answer in alices {
        let told: serde_json::Value = serde_json::from_str(first_line(answer)).expect(answer);
        let (uid, gid) = (yard.alice.uid, yard.alice.gid);
        assert_eq!(told["uids"], serde_json::json!([uid, uid, uid]));
        assert_eq!(told["gids"], serde_json::json!([gid, gid, gid]));
        let mut groups = [gid, games];
        groups.sort_unstable();
        assert_eq!(told["groups"], serde_json::json!(groups));
        let home = yard.place.text("alice");
        assert_eq!(told["directory"], home.as_str());
        let environment = serde_json::json!({
            "HOME": home, "USER": yard.alice.name, "LOGNAME": yard.alice.name, "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin", "XDG_RUNTIME_DIR": format!("{runtime}/{uid}"),
        });
        assert_eq!(told["environment"], environment);
        assert_eq!((&told["descriptors"], &told["leads"]), (&3.into(), &true.into()));
        assert_eq!(told["socket"], format!("{}/{uid}/app.sock", yard.place.text("run")));
    }
    assert!(bobs.contains(&uids(&yard.bob)), "{bobs}");
    let made = fs::metadata(format!("{runtime}/{}", yard.alice.uid)).expect("a runtime directory");
    assert_eq!((made.uid(), made.mode() & 0o7777), (yard.alice.uid, 0o700));
    // It is stopped when nobody uses it, and the next login starts another in the place of the socket that it left.
    let stopped = || gateway.log().matches("is idle and stopped").count() >= 2;
    assert!(gateway.daemon().eventually(stopped), "{}", gateway.log());
    let again = said(&yard.ask(&gateway, &yard.alice, &[], ""));
    assert!(again.contains(&uids(&yard.alice)), "{again}");
    assert_eq!(count(), 3, "{}", gateway.log());
    // It ends with the gateway.
    let told: serde_json::Value = serde_json::from_str(first_line(&again)).expect("JSON");
    let process = format!("/proc/{}", told["pid"]);
    assert!(Path::new(&process).exists());
    let _place = gateway.stop();
    assert!(is_gone(&process), "the daemon outlives the gateway");
}

/// A daemon that dies is started anew by the next login; while it is used it is not idle.
#[test]
fn a_daemon_that_dies_is_started_again_and_one_in_use_is_kept() {
    let Some(yard) = Yard::new() else { return };
    let path = yard.place.text("run/{uid}/app.sock");
    let gateway = yard.gate(&format!(
        "session:template(path={path},runtime-dir={},stop-when-idle=200ms,start=\"{} {{socket}}\")",
        yard.place.text("run/{uid}"),
        yard.program
    ));
    let word = format!("--password-file={}", yard.place.text(&format!("{}.word", yard.alice.name)));
    let address = format!("tcp://{}@127.0.0.1:{}/", yard.alice.name, gateway.port());
    let mut client = Dialogue::start(&mut countersign(&yard.place, &["connect", &word, &address]));
    let told: serde_json::Value = serde_json::from_str(&client.ask("hello")).expect("the daemon's story");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(client.ask("still there?"), "hello");
    assert!(!gateway.log().contains("is idle"), "{}", gateway.log());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(told["pid"].as_i64().expect("a pid")).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a signal");
    let noticed = || gateway.log().contains("the daemon of a user ended");
    assert!(gateway.daemon().eventually(noticed), "{}", gateway.log());
    let again = said(&yard.ask(&gateway, &yard.alice, &[], ""));
    assert!(again.contains(&uids(&yard.alice)), "{again}");
}

/// Real servers of Xpra, run by two accounts, and its real client.
#[test]
fn s_085_two_users_of_real_xpra_reach_their_own_sessions_by_display() {
    let Some(yard) = Yard::new() else { return };
    let dirs = yard.place.text("run/{uid}");
    let start = |user: &Account, name: &str, home: &str| {
        OwnSession::start(user, name, &yard.place.text(home), &yard.place.text(&format!("run/{}", user.uid)))
    };
    let alice = start(&yard.alice, "alices-own", "alice");
    let bob = [start(&yard.bob, "bobs-first", "bob"), start(&yard.bob, "bobs-second", "bob")];
    let gateway = yard.gate(&format!("xpra+session:directory(socket-dirs={dirs})"));
    let info = |user: &Account, display: &str| {
        let address = format!("tcp://{}@127.0.0.1:{}/{display}", user.name, gateway.port());
        let word = format!("--password-file={}", yard.place.text(&format!("{}.word", user.name)));
        xpra::info(&address, &[word], &[])
    };
    let answers = |finished: Finished, session: &OwnSession| {
        drop(finished.expect_code(exit::OK).expect_text(&format!("session.name={}", session.name)));
    };
    let number = |session: &OwnSession| session.display.trim_start_matches(':').to_owned();
    answers(info(&yard.alice, ""), &alice);
    answers(info(&yard.alice, &number(&alice)), &alice);
    for session in &bob {
        answers(info(&yard.bob, &number(session)), session);
    }
    // Several, and none is named; one of the other's.
    let several = info(&yard.bob, "").expect_code(exit::CONNECTION_FAILED);
    drop(several.expect_text(&bob[0].display).expect_text(&bob[1].display).expect_without(&alice.display));
    for (user, session, own) in [(&yard.alice, &bob[0], &alice), (&yard.bob, &alice, &bob[0])] {
        let refused = info(user, &number(session)).expect_code(exit::CONNECTION_FAILED);
        drop(
            refused
                .expect_text("there is no such session")
                .expect_text(&own.display)
                .expect_without(&session.name),
        );
    }
    let nobody = info(&yard.carol, "").expect_code(exit::CONNECTION_FAILED);
    drop(nobody.expect_text("you have no session here"));
}

/// `live`: daemons that nothing connects to dial in, one or two for each user.
#[test]
fn s_085_daemons_that_dial_in_are_reached_by_their_own_users_alone() {
    let Some(yard) = Yard::new() else { return };
    let gateway = yard.gate("session:live(most=2)");
    let daemons: Vec<_> =
        yard.both().map(|user| yard.serve(user, &format!("run/{}/app.sock", user.uid))).collect();
    let dial_in = |user: &Account, name: &str| yard.dial_in(&gateway, user, name, "app.sock");
    let hers = [dial_in(&yard.alice, "app"), dial_in(&yard.alice, "mail")];
    let _his = dial_in(&yard.bob, "app");
    // Her two are all that she may have, and her name is nobody else's to register under.
    let word =
        |user: &Account| format!("--password-file={}", yard.place.text(&format!("{}.word", user.name)));
    let address = |user: &Account| format!("tcp://{}@127.0.0.1:{}/", user.name, gateway.port());
    let register = ["--register", "unix:/nowhere", "--session"];
    let try_in = |secret: &str, user: &Account, name: &str| {
        run(&mut countersign(
            &yard.place,
            &[&["connect", secret], &register[..], &[name, &address(user)]].concat(),
        ))
    };
    drop(try_in(&word(&yard.alice), &yard.alice, "third").expect_code(1).expect_text("may have no more"));
    drop(try_in(&word(&yard.bob), &yard.alice, "app").expect_code(77));
    // Each client gets its own stream, one after the other and at once.
    let own = |user: &Account, wanted: &str| {
        let answer = said(&yard.ask(&gateway, user, &["--session", wanted], ""));
        assert!(answer.contains(&uids(user)), "{wanted}: {answer}");
    };
    for (user, wanted) in
        [(&yard.alice, "app"), (&yard.alice, "mail"), (&yard.bob, "app"), (&yard.alice, "app")]
    {
        own(user, wanted);
    }
    thread::scope(|scope| {
        for user in [&yard.alice, &yard.bob, &yard.alice, &yard.bob] {
            let _ = scope.spawn(|| own(user, "app"));
        }
    });
    // He has one and need not name it; hers is none of his, and a third user has nothing.
    let only = said(&yard.ask(&gateway, &yard.bob, &[], ""));
    assert!(only.contains(&uids(&yard.bob)), "{only}");
    for wanted in ["mail", "alice", &yard.alice.uid.to_string(), "../app", "third"] {
        let refused = said(&yard.ask(&gateway, &yard.bob, &["--session", wanted], ""));
        assert!(refused.contains("there is no such session: you have `app`"), "{wanted}: {refused}");
        assert!(!refused.contains("mail`") && !refused.contains("uids"), "{wanted}: {refused}");
    }
    let several = said(&yard.ask(&gateway, &yard.alice, &[], ""));
    assert!(several.contains("say which session you want: you have `app`, `mail`"), "{several}");
    for wanted in ["app", "mail"] {
        let none = said(&yard.ask(&gateway, &yard.carol, &["--session", wanted], ""));
        assert!(none.contains("you have no session here") && !none.contains("uids"), "{none}");
    }
    // A session ends with its daemon, and is there again when that is.
    let [app, mail] = hers;
    drop(mail);
    let left = || said(&yard.ask(&gateway, &yard.alice, &["--session", "mail"], ""));
    let is_gone = || left().contains("there is no such session: you have `app`");
    assert!(gateway.daemon().eventually(is_gone), "{}\n{}", left(), gateway.log());
    let _mail = dial_in(&yard.alice, "mail");
    own(&yard.alice, "mail");
    // Without the daemon behind it the client is left, and the place is kept.
    drop(daemons);
    let nobody = said(&yard.ask(&gateway, &yard.alice, &["--session", "app"], ""));
    assert!(!nobody.contains("uids"), "{nobody}");
    assert!(app.eventually(|| app.output().contains("start the daemon") || app.output().contains("error:")));
    // One that waits is ended as any session is, and not when a client comes to it.
    let listed = || {
        let state = gateway.place().text("state");
        let sessions = ["sessions", "list", "--json", "--state-dir", &state];
        run(&mut countersign(&yard.place, &sessions)).expect_success().stdout
    };
    let sessions: serde_json::Value = serde_json::from_str(&listed()).expect("JSON");
    let his =
        sessions.as_array().into_iter().flatten().find(|session| session["user"] == yard.bob.name.as_str());
    let id = his.and_then(|session| session["id"].as_str()).expect("his daemon's");
    let state = gateway.place().text("state");
    drop(
        run(&mut countersign(&yard.place, &["sessions", "kill", id, "--state-dir", &state])).expect_success(),
    );
    assert!(gateway.daemon().eventually(|| !listed().contains(id)), "{}", listed());
    // A gateway that ends does not wait for them.
    gateway.daemon().signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(gateway.daemon().wait().code(), Some(0), "none was cut");
}

/// Where nothing can register it is said so, to our client and to a raw one.
#[test]
fn a_daemon_registers_behind_session_live_and_nowhere_else() {
    let place = Place::new();
    let word = place.file("word", "the word");
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=file(filename={word})")]);
    let try_in = |rest: &[&str]| {
        let word = format!("--password-file={word}");
        let address = format!("tcp://me@127.0.0.1:{}/", gateway.port());
        run(&mut countersign(&place, &[&["connect", &word, "--register"], rest, &[&address]].concat()))
    };
    drop(try_in(&["unix:/x", "--session", "a"]).expect_code(1).expect_text("no daemon can register behind"));
    drop(try_in(&["unix:/x"]).expect_code(2).expect_text("add --session NAME"));
    drop(try_in(&["x", "--session", "a"]).expect_code(2).expect_text("write unix:PATH"));
    drop(try_in(&["unix:/x", "--session", "a", "--protocol", "stream"]).expect_code(2));
}

/// Real servers of Xpra that dial in. None of the released ones does so by itself: our client does it for them.
#[test]
fn s_085_real_xpra_servers_behind_a_door_that_leads_out_are_reached_by_name() {
    let Some(yard) = Yard::new() else { return };
    let gateway = yard.gate("xpra+session:live");
    let start = |user: &Account, name: &str, home: &str| {
        OwnSession::start(user, name, &yard.place.text(home), &yard.place.text(&format!("run/{}", user.uid)))
    };
    let sessions = [
        (&yard.alice, start(&yard.alice, "alices-own", "alice")),
        (&yard.bob, start(&yard.bob, "bobs-own", "bob")),
    ];
    let host = nix::unistd::gethostname().expect("a host name").into_string().expect("a text");
    let _dialled: Vec<_> = sessions
        .iter()
        .map(|(user, session)| {
            let socket = format!("{host}-{}", session.display.trim_start_matches(':'));
            yard.dial_in(&gateway, user, &session.display, &socket)
        })
        .collect();
    let info = |user: &Account, display: &str| {
        let address = format!("tcp://{}@127.0.0.1:{}/{display}", user.name, gateway.port());
        let word = format!("--password-file={}", yard.place.text(&format!("{}.word", user.name)));
        xpra::info(&address, &[word], &[])
    };
    for (own, other) in [(0, 1), (1, 0)] {
        let (user, session) = &sessions[own];
        let others = &sessions[other].1;
        for display in ["", session.display.trim_start_matches(':')] {
            let told = info(user, display).expect_code(exit::OK);
            drop(told.expect_text(&format!("session.name={}", session.name)));
        }
        let refused = info(user, others.display.trim_start_matches(':')).expect_code(exit::CONNECTION_FAILED);
        drop(refused.expect_text("there is no such session").expect_without(&others.name));
    }
    let nobody = info(&yard.carol, "").expect_code(exit::CONNECTION_FAILED);
    drop(nobody.expect_text("you have no session here"));
}

/// Three users, a place for their sockets, and what a gateway knows them by.
struct Yard {
    alice: Account,
    bob: Account,
    /// Has an account, and no session.
    carol: Account,
    accounts: String,
    program: String,
    place: Place,
}

impl Yard {
    fn new() -> Option<Self> {
        let place = Place::new();
        place.open_to_all();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Account::at_home(&place, name));
        let (alice, bob, carol) = (alice?, bob?, carol?);
        let mut accounts = String::new();
        for user in [&alice, &bob, &carol] {
            accounts += &format!("{0}|word of {0}|{1}|{2}||\n", user.name, user.uid, user.gid);
            place.file(&format!("{}.word", user.name), format!("word of {}", user.name));
            let _ = user.folder(&place, &format!("run/{}", user.uid));
        }
        let accounts = place.file("accounts", accounts);
        let program = place.text("user-daemon");
        // Others may not look into the folder that it was built in.
        fs::copy(env!("CARGO_BIN_EXE_user-daemon"), &program).expect("a copy of the daemon");
        Some(Self { alice, bob, carol, accounts, program, place })
    }

    fn both(&self) -> impl Iterator<Item = &Account> {
        [&self.alice, &self.bob].into_iter()
    }

    /// A gateway that knows the users by password, before this backend.
    fn gate(&self, backend: &str) -> Gateway {
        let bind = format!("--bind-tcp=127.0.0.1:0,auth=multifile(filename={})", self.accounts);
        // Longer than a test waits: what has to end by itself shows.
        Gateway::start(&[bind, format!("--backend={backend}"), "--drain-timeout=300s".to_owned()])
    }

    /// A daemon that the user has started, with its socket at this place.
    fn serve(&self, user: &Account, socket: &str) -> Daemon {
        let mut command = user.command("setpriv");
        command.args(["--pdeathsig", "TERM", "--", &self.program]).arg(self.place.path(socket));
        let daemon = Daemon::start(isolated(command));
        wait_for_unix(&daemon, &self.place.path(socket));
        daemon
    }

    /// A socket of the user's that waits at the gateway under this name.
    fn dial_in(&self, gateway: &Gateway, user: &Account, name: &str, socket: &str) -> Daemon {
        let word = format!("--password-file={}", self.place.text(&format!("{}.word", user.name)));
        let address = format!("tcp://{}@127.0.0.1:{}/", user.name, gateway.port());
        let socket = format!("unix:{}", self.place.text(&format!("run/{}/{socket}", user.uid)));
        let mut command =
            countersign(&self.place, &["connect", &word, "--register", &socket, "--session", name, &address]);
        let daemon = Daemon::start({
            command.stdin(std::process::Stdio::null());
            command
        });
        daemon.wait_for("being registered", |output| output.contains("registered, waiting").then_some(()));
        daemon
    }

    /// Our client as this user: what came back.
    fn ask(&self, gateway: &Gateway, user: &Account, options: &[&str], display: &str) -> Finished {
        let word = format!("--password-file={}", self.place.text(&format!("{}.word", user.name)));
        let address = format!("tcp://{}@127.0.0.1:{}/{display}", user.name, gateway.port());
        run(&mut countersign(&self.place, &[&["connect", &word], options, &[&address]].concat()))
    }

    /// A login in our own bytes with more in its hello: the daemon's first line, or the refusal's texts.
    fn raw(&self, gateway: &Gateway, user: &Account, said: &[(&str, &str)]) -> String {
        let salt = *b"thirty-two bytes of client salt!";
        let mut stream = dial(gateway.tcp());
        let add = |caps, (name, text): &(&str, &str)| with(caps, name, Value::from(*text));
        let caps = said.iter().fold(honest(&user.name), add);
        wire::send(&mut stream, &hello(caps.clone()));
        let challenge = wire::read(&mut stream).challenge();

        let response = answer(&challenge, &salt, format!("word of {}", user.name).as_bytes());
        let caps = with(without(caps, "challenge"), "challenge_response", response.as_slice().into());
        wire::send(&mut stream, &hello(with(caps, "challenge_client_salt", Value::from(salt.as_slice()))));
        match wire::read(&mut stream) {
            Received::Text(line) => line,
            Received::Packet(_, reasons) => texts(&reasons),
            Received::End => "nothing".to_owned(),
        }
    }
}

fn texts(values: &[Value]) -> String {
    values.iter().map(Value::text).collect::<Vec<_>>().join(" | ")
}

/// What a daemon of this user says of itself.
fn uids(user: &Account) -> String {
    format!("\"uids\":[{0},{0},{0}]", user.uid)
}

/// Xpra's table with these users, without passwords.
fn table(rows: &[(&String, u32, String)]) -> String {
    let mut statements =
        "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
        gid VARCHAR(63), displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191));"
            .to_owned();
    for (name, uid, display) in rows {
        statements +=
            &format!("INSERT INTO users (username, uid, displays) VALUES ('{name}', '{uid}', '{display}');");
    }
    statements
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn is_gone(process: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let state = || fs::read_to_string(format!("{process}/stat")).unwrap_or_default();
    // A zombie, which nobody reaps where there is no init, is as good as gone.
    while Path::new(process).exists() && !state().contains(") Z ") {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

/// Nothing of the environment that the tests run in.
fn isolated(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command
}
