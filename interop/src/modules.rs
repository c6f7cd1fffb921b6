//! The table of password modules: how each is written for the gateway and for a real Xpra server, and who gets in.
//!
//! The same rows are played by the real client at the real server (the control: it shows that the rows are true), by
//! the real client at the gateway, and by our client at both.

use std::fmt;

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
    /// Who tries to get in.
    pub attempts: Vec<Attempt>,
}

impl Case {
    /// The chain as options of a socket: `,auth=..,auth=..`.
    #[must_use]
    pub fn options(&self) -> String {
        self.ours.iter().map(|module| format!(",auth={module}")).collect()
    }
}

/// One attempt to log in.
#[derive(Debug)]
pub struct Attempt {
    /// The name claimed.
    pub user: &'static str,
    /// Password files, one per challenge; none: nothing to answer with.
    pub files: Vec<String>,
    /// What must come of it.
    pub outcome: Outcome,
}

impl Attempt {
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
        write!(f, "{} with {} secret(s), to be {:?}", self.user, self.files.len(), self.outcome)
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
        attempts: attempts(place, &["alice", "anybody"], &[]),
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
        attempts: attempts(place, &["alice"], &["mallory", "bob"]),
    }
}

/// `sqlite`: the same in a database made as Xpra's own tool makes it.
#[must_use]
pub fn sqlite(place: &Place) -> Case {
    let path = place.file("users.sdb", "");
    let database = rusqlite::Connection::open(&path).expect("an empty database");
    database.execute_batch(XPRA_TABLE).expect("Xpra's table");
    for (user, password) in [("bob", OTHER), ("alice", RIGHT)] {
        let row = (user, password, "65534", "65534", "", "", "");
        database.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?)", row).expect("a row");
    }
    Case {
        name: "sqlite",
        xpra: vec![format!("sqlite:filename={path}")],
        ours: vec![format!("sqlite(filename={path})")],
        environment: Vec::new(),
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
        Attempt { user, files, outcome }
    };
    Case {
        name: "file, then multifile",
        xpra: vec![format!("file:filename={first}"), format!("multifile:filename={table}")],
        ours: vec![format!("file(filename={first})"), format!("multifile(filename={table})")],
        environment: Vec::new(),
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

/// A login that is let in for each of `known`; refused with a wrong secret, and for each of `unknown` with the right
/// one; left by a client that has none.
fn attempts(place: &Place, known: &[&'static str], unknown: &[&'static str]) -> Vec<Attempt> {
    let (right, wrong) = (place.file("right", RIGHT), place.file("wrong", WRONG));
    let with = |user, file: &String, outcome| Attempt { user, files: vec![file.clone()], outcome };
    let mut attempts: Vec<_> = known.iter().map(|user| with(*user, &right, Outcome::In)).collect();
    attempts.push(with(known[0], &wrong, Outcome::Refused));
    attempts.push(Attempt { user: known[0], files: Vec::new(), outcome: Outcome::NothingToSay });
    attempts.extend(unknown.iter().map(|user| with(*user, &right, Outcome::Refused)));
    attempts
}

/// The password that opens.
pub const RIGHT: &str = "correct horse battery staple";
/// A password that never does.
pub const WRONG: &str = "incorrect donkey charger pin";
/// A password that opens for somebody else, or at the first link only.
pub const OTHER: &str = "another person's secret";

/// The table of Xpra's `sqlite` module, column for column.
const XPRA_TABLE: &str = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
    gid VARCHAR(63), displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191))";
