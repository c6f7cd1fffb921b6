//! `sql` in front of a real PostgreSQL and a real MariaDB: the same rules for both, and for the tables of `sqlite`.

use std::{process::Command, time::Duration};

use countersign_interop::{
    Place,
    certificate::Pair,
    doors::Doors,
    gateway::countersign,
    mariadb::MariaDb,
    modules::WRONG,
    postgres::{Postgres, psql},
    process::{Daemon, must},
};

/// A server with the account `gateway` and the database `accounts`, whose password is `gateway-word`.
trait Server {
    /// Starts one that shows this certificate.
    fn start(own: &Pair) -> Self;
    /// The client for some statements in that database, as its owner.
    fn client(&self, statements: &str) -> Command;
    /// Its address on a host, with more behind it.
    fn uri(&self, host: &str, more: &str) -> String;
    /// Its address by the Unix socket.
    fn local(&self) -> String;
    fn stop(&mut self);
    fn resume(&mut self);
    /// The table is locked for a minute.
    const LOCK: &'static str;
    /// What TLS with verification is called.
    const VERIFY: &'static str;
    /// Ours for the first and second value.
    const PLACES: [&'static str; 2];

    fn run(&self, statements: &str) -> String {
        must(&mut self.client(statements)).trim().to_owned()
    }
}

#[test]
fn postgresql_is_read_by_the_rules_of_sqlite() {
    rules::<Postgres>();
}

#[test]
fn mariadb_is_read_by_the_rules_of_sqlite() {
    rules::<MariaDb>();
}

/// MariaDB takes these names for one another; the identity is always the row's.
#[test]
fn s_068_a_name_that_the_server_takes_for_another_is_the_rows() {
    let (_place, _, own) = certificates();
    let mariadb = <MariaDb as Server>::start(&own);
    Server::run(
        &mariadb,
        &format!("{XPRA}; INSERT INTO users (username, password) VALUES ('alice', 'alice secret')"),
    );
    let uri = mariadb.local();
    let doors = Doors::open(
        "mysql",
        &[
            format!("uri={uri}"),
            format!("uri={uri},password-query=\"SELECT password FROM users WHERE username = ?\""),
            format!("uri={uri},password-query=\"SELECT password, username FROM users WHERE username = ?\""),
        ],
    );
    for door in [0, 2] {
        for name in ["alice", "ALICE", "alice ", "álice"] {
            assert_eq!(doors.who(door, name, "alice secret"), "alice", "{name}");
        }
    }
    doors.refused(1, "alice", "alice secret", "it gives no username");
}

#[test]
fn s_073_postgresql_is_only_read_and_by_queries_that_fit() {
    queries::<Postgres>();
}

#[test]
fn s_073_mariadb_is_only_read_and_by_queries_that_fit() {
    queries::<MariaDb>();
}

#[test]
fn s_073_postgresql_that_restarts_hangs_or_is_gone_is_noticed_in_time() {
    outages::<Postgres>();
}

#[test]
fn s_073_mariadb_that_restarts_hangs_or_is_gone_is_noticed_in_time() {
    outages::<MariaDb>();
}

#[test]
fn postgresql_is_asked_only_if_it_is_the_one() {
    tls::<Postgres>();
}

#[test]
fn mariadb_is_asked_only_if_it_is_the_one() {
    tls::<MariaDb>();
}

fn rules<S: Server>() {
    let (place, _, own) = certificates();
    let server = S::start(&own);
    let (vera, modern) = verifiers(&place);
    server.run(&format!(
        "{OURS}; INSERT INTO users (username, password, verifier, uid, gid, displays, disabled, expires) VALUES
         ('alice', 'alice secret', NULL, '1000', '1001', ' :1 ,:2', false, NULL),
         ('alice', 'other secret', NULL, '2000', NULL, NULL, NULL, NULL),
         ('bob', 'bob secret', NULL, NULL, NULL, NULL, NULL, 4000000000),
         ('null', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
         ('empty', '', NULL, NULL, NULL, NULL, NULL, NULL),
         ('closed', 'closed secret', NULL, NULL, NULL, NULL, true, NULL),
         ('expired', 'expired secret', NULL, NULL, NULL, NULL, false, 1000000000),
         ('vera', 'not this', '{vera}', '3000', NULL, NULL, NULL, NULL),
         ('modern', NULL, '{modern}', NULL, NULL, NULL, NULL, NULL),
         ('odd', 'odd secret', NULL, 'no-such-account-here', NULL, NULL, NULL, NULL)"
    ));
    let uri = server.local();
    let doors = Doors::open("sql", &[format!("uri={uri}"), format!("uri={uri},cleartext=yes")]);
    for door in 0..2 {
        let alice = doors.say(door, "alice", "alice secret");
        assert_eq!(
            (alice["user"].as_str(), alice["uid"].as_u64(), alice["gid"].as_u64()),
            (Some("alice"), Some(1000), Some(1001))
        );
        assert_eq!(doors.say(door, "alice", "other secret")["uid"], 2000);
        assert_eq!(doors.say(door, "vera", "vera secret")["uid"], 3000);
        assert_eq!(doors.who(door, "bob", "bob secret"), "bob");
        for (name, secret, reason) in [
            ("alice", "bob secret", "wrong_secret"),
            ("vera", "not this", "wrong_secret"),
            ("nobody-here", "alice secret", "unknown_user"),
            ("x' OR '1'='1", "alice secret", "unknown_user"),
            ("alice' -- ", "alice secret", "unknown_user"),
            ("null", "None", if door == 0 { "account_disabled" } else { "wrong_secret" }),
            ("closed", "closed secret", "account_disabled"),
            ("expired", "expired secret", "account_disabled"),
            ("odd", "odd secret", "module_failed"),
        ] {
            doors.refused(door, name, secret, reason);
        }
    }
    doors.refused(0, "modern", "modern secret", "account_disabled");
    assert_eq!(doors.who(1, "modern", "modern secret"), "modern");
}

fn queries<S: Server>() {
    let (_place, _, own) = certificates();
    let server = S::start(&own);
    server.run(
        "CREATE TABLE people (login VARCHAR(50), pw VARCHAR(50), number INTEGER, home VARCHAR(50));
         CREATE TABLE log (name VARCHAR(50));
         INSERT INTO people VALUES ('alice', 'alice secret', 1234, ':7')",
    );
    let [one, two] = S::PLACES;
    let uri = format!("uri={}", server.local());
    let people = format!("password-query=\"SELECT pw, login AS username FROM people WHERE login = {one}\"");
    let with = |query: &str| format!("{uri},password-query=\"{query}\"");
    let doors = Doors::open(
        "sql",
        &[
            format!("{uri},{people}"),
            format!(
                "{uri},{people},sessions-query=\"SELECT number, number, home FROM people WHERE login = {one} AND pw = {two}\""
            ),
            with(&format!("SELECT number AS password, login AS username FROM people WHERE login = {one}")),
            with(&format!("INSERT INTO log (name) VALUES ({one})")),
            with(&format!("SELECT pw FROM people WHERE login = {one} AND pw = {two}")),
            with(&format!("SELECT canary FROM people WHERE login = {one}")),
            with(&format!(
                "SELECT CAST('2026-01-01' AS date) AS expires, pw AS password, login AS username FROM people WHERE login = {one}"
            )),
            uri.clone(),
        ],
    );
    assert_eq!(doors.who(0, "alice", "alice secret"), "alice");
    assert_eq!(doors.say(1, "alice", "alice secret")["uid"], 1234);
    assert_eq!(doors.who(2, "alice", "1234"), "alice");
    for (door, why) in
        [(3, "password-query"), (4, "password-query"), (5, "canary"), (6, "cast it to"), (7, "users")]
    {
        doors.refused(door, "alice", "alice secret", why);
    }
    assert_eq!(server.run("SELECT count(*) FROM log"), "0", "nothing is written");
}

fn outages<S: Server>() {
    let (_place, _, own) = certificates();
    let mut server = S::start(&own);
    server.run(&format!("{XPRA}; INSERT INTO users (username, password) VALUES ('alice', 'alice secret')"));
    let doors = Doors::open("sql", &[format!("uri={},timeout=3s", server.local())]);
    let alice_gets_in = || assert_eq!(doors.who(0, "alice", "alice secret"), "alice");
    alice_gets_in();
    // The connection that is kept breaks, and nobody notices.
    server.stop();
    server.resume();
    alice_gets_in();
    server.stop();
    let gone = doors.refused(0, "alice", "alice secret", "module_failed");
    assert!(gone.took < Duration::from_secs(15), "{:?}", gone.took);
    server.resume();
    alice_gets_in();
    let lock = Daemon::start(server.client(S::LOCK));
    lock.wait_for("the lock", |output| output.contains("locked").then_some(()));
    let hanging = doors.refused(0, "alice", "alice secret", "module_failed");
    assert!(hanging.took < Duration::from_secs(15), "{:?}", hanging.took);
    drop(lock);
    server.stop();
    server.resume();
    alice_gets_in();
}

fn tls<S: Server>() {
    let (place, authority, own) = certificates();
    let server = S::start(&own);
    server.run(&format!("{XPRA}; INSERT INTO users (username, password) VALUES ('alice', 'alice secret')"));
    let other = Pair::of_authority(&place, "other").cert;
    let (right, wrong) = (place.file("right", "gateway-word\n"), place.file("wrong", WRONG));
    let at = |host: &str, ca: &str, more: &str| {
        let uri = server.uri(host, "").replace(":gateway-word", "");
        format!("uri={uri}{more},ca={ca},password-file={right}")
    };
    let verify = format!("?{}", S::VERIFY);
    let doors = Doors::open(
        "sql",
        &[
            at("localhost", &authority.cert, ""),
            at("localhost", &authority.cert, &verify),
            at("localhost", &other, ""),
            at("127.0.0.1", &authority.cert, ""),
            format!("uri={},password-file={wrong}", server.uri("localhost", "").replace(":gateway-word", "")),
            format!("uri={}", server.uri("localhost", "")),
        ],
    );
    for door in [0, 1, 5] {
        assert_eq!(doors.who(door, "alice", "alice secret"), "alice");
    }
    for (door, why) in [(2, "certificate"), (3, "certificate"), (4, "module_failed")] {
        doors.refused(door, "alice", "alice secret", why);
    }
}

impl Server for Postgres {
    fn start(own: &Pair) -> Self {
        let server = Self::guarded(own);
        must(&mut psql(&format!("host=127.0.0.1 port={}", server.port), "CREATE DATABASE accounts"));
        server.run(
            "CREATE ROLE gateway LOGIN PASSWORD 'gateway-word';
             ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO gateway",
        );
        server
    }

    fn client(&self, statements: &str) -> Command {
        let mut command = Command::new("psql");
        let at = format!("host=127.0.0.1 port={} user=postgres dbname=accounts", self.port);
        command.args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", &at, "-c", statements]);
        command.current_dir("/");
        command
    }

    fn uri(&self, host: &str, more: &str) -> String {
        format!("postgres://gateway:gateway-word@{host}:{}/accounts{more}", self.port)
    }

    fn local(&self) -> String {
        let folder = self.socket.rsplit_once('/').expect("a path").0;
        self.uri("localhost", &format!("?host={folder}"))
    }

    fn stop(&mut self) {
        Self::stop(self);
    }

    fn resume(&mut self) {
        Self::resume(self);
    }

    const LOCK: &'static str =
        "BEGIN; LOCK TABLE users; DO $$ BEGIN RAISE WARNING 'locked'; END $$; SELECT pg_sleep(60)";
    const VERIFY: &'static str = "sslmode=verify-full";
    const PLACES: [&'static str; 2] = ["$1", "$2"];
}

impl Server for MariaDb {
    fn start(own: &Pair) -> Self {
        let server = Self::launch(own);
        must(&mut Self::client(
            &server,
            "CREATE DATABASE accounts CHARACTER SET utf8mb4;
             CREATE USER gateway@localhost IDENTIFIED BY 'gateway-word';
             CREATE USER gateway@127.0.0.1 IDENTIFIED BY 'gateway-word';
             GRANT ALL ON accounts.* TO gateway@localhost, gateway@127.0.0.1",
        ));
        server
    }

    fn client(&self, statements: &str) -> Command {
        Self::client(self, &format!("USE accounts; {statements}"))
    }

    fn uri(&self, host: &str, more: &str) -> String {
        format!("mysql://gateway:gateway-word@{host}:{}/accounts{more}", self.port)
    }

    fn local(&self) -> String {
        self.uri("localhost", &format!("?socket={}", self.socket))
    }

    fn stop(&mut self) {
        Self::stop(self);
    }

    fn resume(&mut self) {
        Self::resume(self);
    }

    const LOCK: &'static str = "LOCK TABLES users WRITE; SELECT 'locked'; SELECT SLEEP(60)";
    const VERIFY: &'static str = "ssl-mode=VERIFY_IDENTITY";
    const PLACES: [&'static str; 2] = ["?", "?"];
}

/// A folder, an authority, and a certificate for `localhost` that it vouches for.
fn certificates() -> (Place, Pair, Pair) {
    let place = Place::new();
    let authority = Pair::of_authority(&place, "authority");
    let own = Pair::of_server(&authority, &place, "localhost");
    (place, authority, own)
}

/// Verifiers as our own table has them: one that serves every way to log in, and one without Xpra's.
fn verifiers(place: &Place) -> (String, String) {
    let table = place.text("users.db");
    must(&mut countersign(place, &["users", "init", &table]));
    for (name, more) in [("vera", None), ("modern", Some("--no-legacy"))] {
        let file = place.file(name, format!("{name} secret"));
        let mut arguments = vec!["users", "add", &table, name, "--password-file", &file];
        arguments.extend(more);
        must(&mut countersign(place, &arguments));
    }
    let database = rusqlite::Connection::open(&table).expect("a table just made");
    let verifier = |name: &str| {
        let query = "SELECT verifier FROM users WHERE username = ?";
        database.query_row(query, [name], |row| row.get::<_, String>(0)).expect("a row just made")
    };
    (verifier("vera"), verifier("modern"))
}

/// The table as Xpra's own tool makes it, and what ours has beside.
const XPRA: &str = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
    gid VARCHAR(63), displays VARCHAR(2000), env_options VARCHAR(2000), session_options VARCHAR(2000))";
const OURS: &str = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
    gid VARCHAR(63), displays VARCHAR(2000), env_options VARCHAR(2000), session_options VARCHAR(2000), verifier TEXT, \
    disabled BOOLEAN, expires BIGINT)";
