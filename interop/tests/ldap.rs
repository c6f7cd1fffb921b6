//! `ldap` in front of a real OpenLDAP: who gets in and as whom, who does not, and what goes on when the directory
//! does not.

use std::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    certificate::Pair,
    doors::Doors,
    gateway::Gateway,
    modules::WRONG,
    net::{dial, dial_unix},
    slapd::{PEOPLE, SERVICE, Slapd},
    wire,
};

#[test]
fn whoever_the_directory_knows_gets_in_however_it_is_reached() {
    let slapd = Slapd::start();
    let ca = &slapd.authority.cert;
    let doors = Doors::open(
        "ldap",
        &[
            format!("url=ldap://localhost:{},ca={ca},{}", slapd.port, people()),
            format!("url=ldaps://localhost:{},ca={ca},{}", slapd.tls_port, people()),
            format!("url={},{}", slapd.local_url(), people()),
            format!("url=ldap://127.0.0.1:{},tls=no,{}", slapd.port, people()),
            format!(
                "host=localhost,port={},tls=1,cacert={ca},username_format=\"cn=%username,{PEOPLE}\"",
                slapd.tls_port
            ),
        ],
    );
    for door in 0..4 {
        assert_eq!(doors.who(door, "alice", "alice-word"), "alice");
        assert_eq!(doors.who(door, "Zoë", "zoë-wörd"), "Zoë");
        doors.refused(door, "alice", WRONG, "wrong_secret");
        doors.refused(door, "nobody-here", WRONG, "wrong_secret");
        doors.refused(door, "mute", WRONG, "wrong_secret");
    }
    // Xpra's own way to write it: the name is the common name.
    assert_eq!(doors.who(4, "odd", "odd-word"), "odd");
}

/// S-68, S-72, W26: a name is one value, and the identity is the directory's spelling of it.
#[test]
fn s_068_s_072_names_neither_inject_nor_alias() {
    let slapd = Slapd::start();
    let url = format!("url={}", slapd.local_url());
    let doors = Doors::open(
        "ldap",
        &[
            format!("{url},{}", people()),
            format!("{url},bind-dn=\"uid={{username}},dc=example,dc=test\""),
            format!("{url},{}", searching(&slapd, "dc=example,dc=test")),
        ],
    );
    for door in [0, 2] {
        for alias in ["alice", "ALICE", " alice ", "aLiCe"] {
            assert_eq!(doors.who(door, alias, "alice-word"), "alice");
        }
        for other in
            ["*", "a*", "alice)(uid=*", "ali\\63e", "\\61lice", "alice,", "alice,ou=people", "alice+cn=Alice"]
        {
            doors.refused(door, other, "alice-word", "");
        }
        assert_eq!(doors.who(door, "bot,ou=svc", "other-word"), "bot,ou=svc");
        doors.refused(door, "bot,ou=svc", "bot-word", "wrong_secret");
    }
    // What Xpra lets in as the entry of another subtree.
    doors.refused(1, "bot,ou=svc", "bot-word", "");
    doors.refused(1, "alice,ou=people", "alice-word", "");
    // A name that is nothing but syntax is a name.
    assert_eq!(doors.who(2, "o*d)(uid=\\,x", "odd-word"), "o*d)(uid=\\,x");
    doors.refused(2, "o*d)(uid=*", "odd-word", "unknown_user");
}

#[test]
fn a_search_finds_one_entry_or_nobody_gets_in() {
    let slapd = Slapd::start();
    let url = format!("url={}", slapd.local_url());
    let wrong = slapd.file("wrong", WRONG);
    let doors = Doors::open(
        "ldap",
        &[
            format!("{url},{}", searching(&slapd, PEOPLE)),
            format!("{url},{},filter=\"(cn={{username}})\",name-attribute=uid", searching(&slapd, PEOPLE)),
            format!("{url},base=\"{PEOPLE}\""),
            format!("{url},base=\"{PEOPLE}\",search-bind-dn=\"{SERVICE}\",search-password-file={wrong}"),
            format!("{url},{},scope=one", searching(&slapd, "dc=example,dc=test")),
            format!("{url},{}", searching(&slapd, "dc=absent,dc=example,dc=test")),
            format!("{url},bind-dn=\"uid={{username}},ou=hidden,dc=example,dc=test\""),
            format!("{url},{}", searching(&slapd, "ou=hidden,dc=example,dc=test")),
        ],
    );
    assert_eq!(doors.who(0, "alice", "alice-word"), "alice");
    doors.refused(0, "alice", WRONG, "wrong_secret");
    doors.refused(0, "nobody-here", "alice-word", "unknown_user");
    doors.refused(0, "twin", "twin-word", "several entries");
    doors.refused(0, "mute", WRONG, "wrong_secret");
    assert_eq!(doors.who(1, "Alice", "alice-word"), "alice");
    // Who may not search is told so, and who is not who the account says finds out.
    doors.refused(2, "alice", "alice-word", "result 50");
    doors.refused(3, "alice", "alice-word", "the service account is not let in");
    doors.refused(4, "alice", "alice-word", "unknown_user");
    doors.refused(5, "alice", "alice-word", "unknown_user");
    // An entry that cannot be read says nobody's name, but the service account can read it.
    doors.refused(6, "shy", "shy-word", "cannot be read");
    assert_eq!(doors.who(7, "shy", "shy-word"), "shy");
}

#[test]
fn only_members_of_the_groups_get_in_where_some_are_written() {
    let slapd = Slapd::start();
    let groups = |names: &[&str]| {
        let group = |name: &&str| format!(",group=\"cn={name},ou=groups,dc=example,dc=test\"");
        names.iter().map(group).collect::<String>()
    };
    let url = format!("url={}", slapd.local_url());
    let doors = Doors::open(
        "ldap",
        &[
            format!("{url},{}{}", people(), groups(&["ops"])),
            format!("{url},{}{}", people(), groups(&["posix"])),
            format!("{url},{}{}", people(), groups(&["others"])),
            format!("{url},{}{}", people(), groups(&["absent", "others", "ops"])),
            format!("{url},{}{}", people(), groups(&["absent"])),
            format!("{url},{}{}", searching(&slapd, "dc=example,dc=test"), groups(&["ops"])),
            format!("{url},{}{},group-filter=\"(memberUid={{username}})\"", people(), groups(&["ops"])),
        ],
    );
    for (door, is_member) in [(0, true), (1, true), (2, false), (3, true), (4, false), (5, true), (6, false)]
    {
        if is_member {
            assert_eq!(doors.who(door, "ALICE", "alice-word"), "alice", "{door}");
        } else {
            doors.refused(door, "alice", "alice-word", "account_disabled");
        }
        doors.refused(door, "alice", WRONG, if is_member || door == 5 { "wrong_secret" } else { "" });
    }
    assert_eq!(doors.who(5, "shy", "shy-word"), "shy");
    doors.refused(5, "Zoë", "zoë-wörd", "account_disabled");
}

/// S-70: the numbers are the directory's, and root is not made by one.
#[test]
fn s_070_ids_are_the_directorys_unless_they_are_roots() {
    let slapd = Slapd::start();
    let url = format!("url={},{}", slapd.local_url(), people());
    let doors = Doors::open("ldap", &[url.clone(), format!("{url},uid=12345,gid=12346")]);
    let ids = |door, user, word| {
        let said = doors.say(door, user, word);
        [said["uid"].as_u64(), said["gid"].as_u64()]
    };
    assert_eq!(ids(0, "alice", "alice-word"), [Some(21001), Some(21002)]);
    assert_eq!(ids(0, "Zoë", "zoë-wörd"), [None, None]);
    doors.refused(0, "root", "root-word", "uidNumber");
    assert_eq!(ids(1, "alice", "alice-word"), [Some(12345), Some(12346)]);
    assert_eq!(ids(1, "root", "root-word"), [Some(12345), Some(12346)]);
}

/// S-32, S-72, W25: this directory lets in everybody who has no password, as nobody.
#[test]
fn s_032_s_072_an_empty_password_is_never_right() {
    let slapd = Slapd::start();
    assert_eq!(slapd.whoami(&format!("uid=alice,{PEOPLE}"), "").trim(), "anonymous", "the trap is set");
    let url = format!("url={}", slapd.local_url());
    let doors =
        Doors::open("ldap", &[format!("{url},{}", people()), format!("{url},{}", searching(&slapd, PEOPLE))]);
    for door in 0..2 {
        for nothing in [&b""[..], b"\0", b"\0\0\0", b"alice-word\0"] {
            let answer = wire::log_in(&mut dial_unix(&doors.path(door)), "alice", nothing);
            assert!(!answer.is_welcome(), "{answer:?}");
        }
        assert!(wire::log_in(&mut dial_unix(&doors.path(door)), "alice", b"alice-word").is_welcome());
    }
}

/// S-72: the password would go along.
#[test]
fn s_072_referrals_are_followed_nowhere() {
    let slapd = Slapd::start();
    let url = format!("url={}", slapd.local_url());
    let doors = Doors::open(
        "ldap",
        &[
            format!("{url},{}", searching(&slapd, "dc=example,dc=test")),
            format!("{url},{}", searching(&slapd, "ou=elsewhere,dc=example,dc=test")),
            format!("{url},bind-dn=\"uid={{username}},ou=elsewhere,dc=example,dc=test\""),
            format!("{url},{},group=\"ou=elsewhere,dc=example,dc=test\"", people()),
        ],
    );
    // The search passes a referral on its way and finds what it searches.
    assert_eq!(doors.who(0, "alice", "alice-word"), "alice");
    doors.refused(0, "nobody-here", "alice-word", "refers to another one");
    doors.refused(1, "alice", "alice-word", "refers to another one");
    doors.refused(2, "alice", "alice-word", "");
    doors.refused(3, "alice", "alice-word", "refers to another one");
    assert!(!slapd.somebody_was_referred());
}

/// S-72: nothing secret is said to a server that is not known.
#[test]
fn s_072_a_wrong_certificate_is_refused_and_the_log_says_so() {
    let slapd = Slapd::start();
    let place = Place::new();
    let (ca, other) = (&slapd.authority.cert, Pair::of_authority(&place, "other").cert);
    let doors = Doors::open(
        "ldap",
        &[
            format!("url=ldaps://localhost:{},ca={other},{}", slapd.tls_port, people()),
            format!("url=ldap://localhost:{},ca={other},{}", slapd.port, people()),
            // The certificate names `localhost` only.
            format!("url=ldaps://127.0.0.1:{},ca={ca},{}", slapd.tls_port, people()),
            format!("url=ldap://127.0.0.1:{},ca={ca},{}", slapd.port, people()),
            // TLS is spoken to what does not speak it.
            format!("url=ldaps://localhost:{},ca={ca},{}", slapd.port, people()),
            // The next server is tried.
            format!(
                "url=ldaps://127.0.0.1:{},url=ldaps://localhost:{},ca={ca},{}",
                slapd.tls_port,
                slapd.tls_port,
                people()
            ),
        ],
    );
    for door in 0..4 {
        doors.refused(door, "alice", "alice-word", "certificate");
    }
    let finished = doors.refused(4, "alice", "alice-word", "module_failed");
    assert!(finished.took < Duration::from_secs(15), "{:?}", finished.took);
    assert_eq!(doors.who(5, "alice", "alice-word"), "alice");
}

#[test]
fn s_072_a_directory_that_is_down_slow_or_back_is_noticed() {
    let mut slapd = Slapd::start();
    let ca = &slapd.authority.cert;
    let doors = Doors::open(
        "ldap",
        &[
            format!("url=ldaps://localhost:{},ca={ca},timeout=2s,{}", slapd.tls_port, people()),
            format!("url=ldap://localhost:{},ca={ca},timeout=2s,{}", slapd.port, people()),
            format!("url=ldap://127.0.0.1:{},tls=no,timeout=2s,{}", slapd.port, people()),
        ],
    );
    let all_in = || (0..3).for_each(|door| assert_eq!(doors.who(door, "alice", "alice-word"), "alice"));
    all_in();
    slapd.stop();
    for door in 0..3 {
        doors.refused(door, "alice", "alice-word", "refused");
    }
    slapd.resume();
    all_in();
    slapd.freeze();
    for door in 0..3 {
        let finished = doors.refused(door, "alice", "alice-word", "module_failed");
        assert!(finished.took < Duration::from_secs(15), "{:?}", finished.took);
    }
    slapd.thaw();
    all_in();
}

/// S-81: whoever waits for a directory that never answers keeps nobody else waiting.
#[test]
fn s_081_a_hundred_logins_that_hang_hold_up_none_of_a_thousand() {
    const HANGING: usize = 100;
    let place = Place::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("url=ldap://{},tls=no,timeout=60s", silent.local_addr().expect("a bound socket"));
    let table = place.file("table", format!("alice|{SECRET}|nobody|nogroup||\n"));
    let front = place.path("front");
    let gateway = Gateway::start(&[
        format!("--bind={},auth=ldap({url},{})", front.display(), people()),
        format!("--bind-tcp=127.0.0.1:0,auth=multifile(filename={table})"),
        // All of one user, whom nobody shall push out.
        "--max-per-source=1000".to_owned(),
    ]);
    let (done, ended) = mpsc::channel();
    for _ in 0..HANGING {
        let (front, done) = (front.clone(), done.clone());
        thread::spawn(move || {
            let answer = wire::log_in(&mut dial_unix(&front), "alice", b"alice-word");
            done.send(answer.is_welcome())
        });
    }
    // Each of them has come to the directory, which takes it and says nothing.
    let hanging: Vec<TcpStream> = (0..HANGING).map(|_| silent.accept().expect("a login").0).collect();
    let start = Instant::now();
    let address = gateway.tcp();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let answer = wire::log_in(&mut dial(address), "alice", SECRET.as_bytes());
                    assert!(answer.is_welcome(), "{answer:?}");
                }
            });
        }
    });
    eprintln!("a thousand logins in {:?}", start.elapsed());
    assert!(ended.try_recv().is_err(), "they still hang");
    drop(hanging);
    for _ in 0..HANGING {
        assert!(!ended.recv().expect("an end"), "nobody is let in");
    }
}

/// People by what their entries are called.
fn people() -> String {
    format!("bind-dn=\"uid={{username}},{PEOPLE}\"")
}

/// People by what the service account finds.
fn searching(slapd: &Slapd, base: &str) -> String {
    let file = slapd.file("reader", "reader-word\n");
    format!("base=\"{base}\",search-bind-dn=\"{SERVICE}\",search-password-file={file}")
}

const SECRET: &str = "a word for the table";
