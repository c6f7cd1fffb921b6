//! The table of modules: how each is written for the gateway and for a real Xpra server, and who gets in.
//!
//! The same rows are played by the real client at the real server (the control: it shows that the rows are true), by
//! the real client at the gateway, and by our client at both. Xpra's `hosts` reads the tables of the machine only, so the
//! grid has it ask a library that reads the test's own; `tests/hosts.rs` puts ours to the TCP wrappers themselves.

use std::fmt;

use nix::unistd::geteuid;

use crate::{Place, xpra::exit};

/// One chain and the attempts made at it.
#[derive(Debug)]
pub struct Case {
    /// Its name in messages.
    pub name: &'static str,
    /// The chain in Xpra 3.1's words, one module per `--tcp-auth`.
    pub xpra: Vec<String>,
    /// The chain in ours, one module per `auth=`.
    pub ours: Vec<String>,
    /// Environment that the server needs.
    pub environment: Vec<(&'static str, String)>,
    /// The sockets that a client can pass at: a chain that asks for an address or for the kernel's word refuses
    /// everybody at the other one.
    pub sockets: &'static [Socket],
    /// Who tries to get in.
    pub attempts: Vec<Attempt>,
}

/// The kind of socket that an attempt is made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A port of the loopback.
    Tcp,
    /// A Unix socket.
    Unix,
}

impl Case {
    /// The chain as options of a socket: `,auth=..,auth=..`.
    #[must_use]
    pub fn options(&self) -> String {
        self.ours.iter().map(|module| format!(",auth={module}")).collect()
    }

    /// What must come of an attempt at this socket.
    #[must_use]
    pub fn outcome(&self, attempt: &Attempt, socket: Socket) -> Outcome {
        if self.sockets.contains(&socket) { attempt.outcome } else { Outcome::Refused }
    }
}

/// One attempt to log in.
#[derive(Debug)]
pub struct Attempt {
    /// The name claimed.
    pub user: &'static str,
    /// Password files, one per challenge; none: nothing to answer with.
    pub files: Vec<String>,
    /// How our client answers, if not with the files.
    pub handler: Option<String>,
    /// More environment of the client, for what is not in a file.
    pub environment: Vec<(&'static str, String)>,
    /// What must come of it.
    pub outcome: Outcome,
}

impl Attempt {
    /// Somebody who has nothing but a name.
    #[must_use]
    pub fn bare(user: &'static str, outcome: Outcome) -> Self {
        Self { user, files: Vec::new(), handler: None, environment: Vec::new(), outcome }
    }

    /// The arguments that hand the password files to a real client.
    #[must_use]
    pub fn xpra_arguments(&self) -> Vec<String> {
        match self.files.as_slice() {
            [file] => vec![format!("--password-file={file}")],
            files => files.iter().map(|file| format!("--challenge-handlers=file:filename={file}")).collect(),
        }
    }

    /// The same for our own client.
    #[must_use]
    pub fn our_arguments(&self) -> Vec<String> {
        if let Some(handler) = &self.handler {
            return vec![format!("--challenge-handlers={handler}")];
        }
        match self.files.as_slice() {
            [] => Vec::new(),
            [file] => vec![format!("--password-file={file}")],
            files => {
                let handlers: Vec<_> = files.iter().map(|file| format!("file(filename={file})")).collect();
                vec![format!("--challenge-handlers={}", handlers.join(","))]
            }
        }
    }
}

/// What must come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Logged in.
    In,
    /// The server refuses.
    Refused,
    /// The client has nothing to answer with and leaves.
    NothingToSay,
}

impl Outcome {
    /// The exit code of our own client.
    #[must_use]
    pub fn our_code(self) -> i32 {
        match self {
            Self::In => 0,
            Self::Refused => 77,
            Self::NothingToSay => 79,
        }
    }

    /// The exit code of Xpra's client.
    #[must_use]
    pub fn xpra_code(self) -> i32 {
        match self {
            Self::In => exit::OK,
            Self::Refused => exit::CONNECTION_FAILED,
            Self::NothingToSay => exit::PASSWORD_REQUIRED,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} secret(s)", self.user, self.files.len())
    }
}

/// `file`: one password, whoever asks.
#[must_use]
pub fn file(place: &Place) -> Case {
    let password = place.file("password", RIGHT);
    Case {
        name: "file",
        xpra: vec![format!("file:filename={password}")],
        ours: vec![format!("file(filename={password})")],
        environment: Vec::new(),
        sockets: BOTH,
        attempts: attempts(place, &["alice", "anybody"], &[]),
    }
}

/// `password`: the same in the configuration.
#[must_use]
pub fn password(place: &Place) -> Case {
    // In Xpra's syntax a value holds no comma, and ours is quoted.
    Case {
        name: "password",
        xpra: vec![format!("password:value={RIGHT}")],
        ours: vec![format!("password(value=\"{RIGHT}\")")],
        ..file(place)
    }
}

/// `env`: the password of a variable.
#[must_use]
pub fn env(place: &Place) -> Case {
    Case {
        name: "env",
        xpra: vec!["env:name=DOOR_SECRET".to_owned()],
        ours: vec!["env(name=DOOR_SECRET)".to_owned()],
        environment: vec![("DOOR_SECRET", RIGHT.to_owned())],
        sockets: BOTH,
        attempts: attempts(place, &["alice", "anybody"], &[]),
    }
}

/// `multifile`: a password per name.
#[must_use]
pub fn multifile(place: &Place) -> Case {
    let table = place
        .file("table", format!("# names\nbob|{OTHER}|nobody|nogroup||\nalice|{RIGHT}|nobody|nogroup||\n"));
    Case {
        name: "multifile",
        xpra: vec![format!("multifile:filename={table}")],
        ours: vec![format!("multifile(filename={table})")],
        environment: Vec::new(),
        sockets: BOTH,
        attempts: attempts(place, &["alice"], &["mallory", "bob"]),
    }
}

/// `sqlite`: the same in a database made as Xpra's own tool makes it.
#[must_use]
pub fn sqlite(place: &Place) -> Case {
    let path = database(place);
    Case {
        name: "sqlite",
        xpra: vec![format!("sqlite:filename={path}")],
        ours: vec![format!("sqlite(filename={path})")],
        environment: Vec::new(),
        sockets: BOTH,
        attempts: attempts(place, &["alice"], &["mallory", "bob"]),
    }
}

/// Two modules in a chain: `file`, then `multifile`. Both passwords are asked for, in this order.
#[must_use]
pub fn chain(place: &Place) -> Case {
    let first = place.file("first", OTHER);
    let table = place.file("table", format!("alice|{RIGHT}|nobody|nogroup||\n"));
    let (right, wrong) = (place.file("right", RIGHT), place.file("wrong", WRONG));
    let attempt = |user, files: &[&String], outcome| {
        let files = files.iter().map(|file| (*file).clone()).collect();
        Attempt { files, ..Attempt::bare(user, outcome) }
    };
    Case {
        name: "file, then multifile",
        xpra: vec![format!("file:filename={first}"), format!("multifile:filename={table}")],
        ours: vec![format!("file(filename={first})"), format!("multifile(filename={table})")],
        environment: Vec::new(),
        sockets: BOTH,
        attempts: vec![
            attempt("alice", &[&first, &right], Outcome::In),
            attempt("alice", &[&first, &wrong], Outcome::Refused),
            attempt("alice", &[&wrong, &right], Outcome::Refused),
            attempt("alice", &[&right, &first], Outcome::Refused),
            attempt("mallory", &[&first, &right], Outcome::Refused),
            attempt("alice", &[&first], Outcome::NothingToSay),
            attempt("alice", &[], Outcome::NothingToSay),
        ],
    }
}

/// `exec`: a program that says yes. Nothing is asked, and a client that has a password gets in with it as well.
#[must_use]
pub fn exec_passing(place: &Place) -> Case {
    exec(place, "exec, passing", "/bin/true", Outcome::In)
}

/// `exec`: a program that says no.
#[must_use]
pub fn exec_failing(place: &Place) -> Case {
    exec(place, "exec, failing", "/bin/false", Outcome::Refused)
}

/// `exec`. A server of Xpra collects whatever child has ended, at each signal that one has; so it takes the exit code of
/// the program, at times, from the thread that waits for it, and what that thread then finds counts as 0. Where it looks
/// for each child by itself instead (a variable of its own), no code is lost.
fn exec(place: &Place, name: &'static str, program: &str, outcome: Outcome) -> Case {
    let module = [format!("exec:command={program}"), format!("exec(command={program})")];
    let polling = ("XPRA_USE_PROCESS_POLLING", "1".to_owned());
    let case = unasked(place, name, module.each_ref().map(String::as_str), outcome);
    Case { environment: vec![polling], ..case }
}

/// `peercred`: the account that the tests run as is the one that is let in.
#[must_use]
pub fn peercred_listed(place: &Place) -> Case {
    let uid = geteuid();
    let module = [format!("peercred:uid={uid}"), format!("peercred(uid={uid})")];
    let case = unasked(place, "peercred, listed", module.each_ref().map(String::as_str), Outcome::In);
    Case { sockets: &[Socket::Unix], ..case }
}

/// `peercred`: another account is let in, and the tests' own is not.
#[must_use]
pub fn peercred_unlisted(place: &Place) -> Case {
    // The list replaces "the gateway's own account", which would be ours.
    let another = geteuid().as_raw() + 1;
    let module = [format!("peercred:uid={another}"), format!("peercred(uid={another})")];
    unasked(place, "peercred, unlisted", module.each_ref().map(String::as_str), Outcome::Refused)
}

/// `hosts`: tables that let the loopback in.
#[must_use]
pub fn hosts_allowing(place: &Place) -> Case {
    let module = tables(place, "xpra: 127.0.0.1\n");
    Case { sockets: &[Socket::Tcp], ..unasked(place, "hosts, allowing", ["hosts", &module], Outcome::In) }
}

/// `hosts`: tables that let only others in.
#[must_use]
pub fn hosts_denying(place: &Place) -> Case {
    let module = tables(place, "xpra: 192.0.2.1\nsshd: 127.0.0.1\n");
    unasked(place, "hosts, denying", ["hosts", &module], Outcome::Refused)
}

/// `hosts`, then `sqlite`: from here, and with a password.
#[must_use]
pub fn hosts_then_sqlite(place: &Place) -> Case {
    let gate = tables(place, "ALL: 127.\n");
    let case = sqlite(place);
    let ours = [vec![gate], case.ours].concat();
    Case { name: "hosts, then sqlite", ours, sockets: &[Socket::Tcp], ..case }
}

/// `sqlite`, then `hosts`: the right password from a wrong place is refused as a wrong one is.
#[must_use]
pub fn sqlite_then_hosts(place: &Place) -> Case {
    let gate = tables(place, "ALL: 192.0.2.1\n");
    let mut case = sqlite(place);
    case.attempts.retain(|attempt| attempt.outcome != Outcome::NothingToSay);
    let ours = [case.ours, vec![gate]].concat();
    Case { name: "sqlite, then hosts", ours, sockets: &[], ..case }
}

/// A module that asks nothing: the same comes of a client with a password and of one without.
fn unasked(place: &Place, name: &'static str, [xpra, ours]: [&str; 2], outcome: Outcome) -> Case {
    let password = place.file("whatever", WRONG);
    let attempt = |files| Attempt { files, ..Attempt::bare("alice", outcome) };
    Case {
        name,
        xpra: vec![xpra.to_owned()],
        ours: vec![ours.to_owned()],
        environment: Vec::new(),
        sockets: BOTH,
        attempts: vec![attempt(Vec::new()), attempt(vec![password])],
    }
}

/// The module `hosts` with these lines to allow by, and everybody else denied.
fn tables(place: &Place, allow: &str) -> String {
    let (allow, deny) = (place.file("hosts.allow", allow), place.file("hosts.deny", "ALL: ALL\n"));
    format!("hosts(allow={allow},deny={deny})")
}

/// A database of two accounts, made as Xpra's own tool makes it.
fn database(place: &Place) -> String {
    let path = place.file("users.sdb", "");
    let database = rusqlite::Connection::open(&path).expect("an empty database");
    database.execute_batch(XPRA_TABLE).expect("Xpra's table");
    for (user, password) in [("bob", OTHER), ("alice", RIGHT)] {
        let row = (user, password, "65534", "65534", "", "", "");
        database.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?)", row).expect("a row");
    }
    path
}

/// A login that is let in for each of `known`; refused with a wrong secret, and for each of `unknown` with the right
/// one; left by a client that has none.
fn attempts(place: &Place, known: &[&'static str], unknown: &[&'static str]) -> Vec<Attempt> {
    let (right, wrong) = (place.file("right", RIGHT), place.file("wrong", WRONG));
    let with =
        |user, file: &String, outcome| Attempt { files: vec![file.clone()], ..Attempt::bare(user, outcome) };
    let mut attempts: Vec<_> = known.iter().map(|user| with(*user, &right, Outcome::In)).collect();
    attempts.push(with(known[0], &wrong, Outcome::Refused));
    attempts.push(Attempt::bare(known[0], Outcome::NothingToSay));
    attempts.extend(unknown.iter().map(|user| with(*user, &right, Outcome::Refused)));
    attempts
}

const BOTH: &[Socket] = &[Socket::Tcp, Socket::Unix];

/// The password that opens.
pub const RIGHT: &str = "correct horse battery staple";
/// A password that never does.
pub const WRONG: &str = "incorrect donkey charger pin";
/// A password that opens for somebody else, or at the first link only.
pub const OTHER: &str = "another person's secret";

/// The table of Xpra's `sqlite` module, column for column.
const XPRA_TABLE: &str = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
    gid VARCHAR(63), displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191))";
