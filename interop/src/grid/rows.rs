//! The rows of the grid: each module of a chain with somebody who is right, somebody who is wrong, and somebody who has
//! nothing to say.

use std::any::Any;

use super::{Came, Peer, Transport};
use crate::{
    Place,
    gateway::countersign,
    kdc::{Kdc, REALM, password as kerberos_password},
    modules::{self, Attempt, Case, OTHER, Outcome, RIGHT, Socket, WRONG},
    pam::{Services, matrix},
    process::{run, run_with_input},
    slapd::{PEOPLE, Slapd},
};

/// One module, or a chain of them.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the page.
    pub name: &'static str,
    /// Where anybody gets in by it.
    pub wire: Wire,
    make: fn(&Place) -> Prepared,
}

/// The sockets that a chain can be passed at. At the others everybody is refused, and that is tried too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Every one.
    Any,
    /// Where nobody reads along: the secret travels as it is.
    Confidential,
    /// Where the kernel knows who is there.
    Unix,
    /// Where there is an address.
    Port,
}

impl Wire {
    /// Whether somebody can get in there.
    #[must_use]
    pub fn opens(self, transport: Transport) -> bool {
        match self {
            Self::Any => true,
            Self::Confidential => transport.is_confidential(),
            Self::Unix => transport == Transport::Unix,
            Self::Port => transport != Transport::Unix,
        }
    }
}

/// A row with all that it needs, running.
pub(super) struct Prepared {
    /// The chains and who comes.
    pub(super) cases: Vec<Case>,
    /// Servers that it asks, which end with it.
    _asked: Option<Box<dyn Any>>,
}

impl Row {
    /// Starts what it needs.
    #[must_use]
    pub(super) fn prepare(&self, place: &Place) -> Prepared {
        let mut prepared = (self.make)(place);
        prepared.cases.iter_mut().for_each(|case| one_of_each(&mut case.attempts));
        prepared
    }

    /// What must come of an attempt.
    #[must_use]
    pub fn outcome(&self, attempt: &Attempt, transport: Transport) -> Came {
        match self.wire {
            wire if wire.opens(transport) => Came::To(attempt.outcome),
            Wire::Confidential => Came::TooOpen,
            _ => Came::To(Outcome::Refused),
        }
    }

    /// Whether a cell is played. Clients of Xpra take half a second each: every chain is tried on one kind of socket,
    /// every kind of socket with two chains. Ours is tried everywhere.
    #[must_use]
    pub fn is_played(&self, client: Peer, transport: Transport) -> bool {
        let first = if self.wire == Wire::Confidential { Transport::Tls } else { Transport::Tcp };
        client == Peer::Ours
            || EVERYWHERE.contains(&self.name)
            || [first, Transport::Unix].contains(&transport)
    }
}

/// The first of each outcome: right, wrong, missing. Who has a part of what is asked is left out: versions differ in
/// whether they answer twice with it.
fn one_of_each(attempts: &mut Vec<Attempt>) {
    let mut seen = Vec::new();
    attempts.retain(|attempt| {
        let is_part = attempt.outcome == Outcome::NothingToSay && !attempt.files.is_empty();
        let is_new = !is_part && !seen.contains(&attempt.outcome);
        if is_new {
            seen.push(attempt.outcome);
        }
        is_new
    });
}

/// Every row, in the order of the page.
pub const ROWS: &[Row] = &[
    row("password", |place| simply(vec![modules::password(place)])),
    row("file", |place| simply(vec![modules::file(place)])),
    row("env", |place| simply(vec![modules::env(place)])),
    row("multifile", |place| simply(vec![modules::multifile(place)])),
    row("sqlite", |place| simply(vec![modules::sqlite(place)])),
    row("file, then multifile", |place| simply(vec![modules::chain(place)])),
    Row {
        wire: Wire::Unix,
        ..row("peercred", |place| {
            simply(vec![modules::peercred_listed(place), modules::peercred_unlisted(place)])
        })
    },
    row("exec", |place| simply(vec![modules::exec_passing(place), modules::exec_failing(place)])),
    Row { wire: Wire::Port, ..row("hosts", hosts) },
    Row { wire: Wire::Confidential, ..row("pam", pam) },
    Row { wire: Wire::Confidential, ..row("ldap", ldap) },
    Row { wire: Wire::Confidential, ..row("kerberos-token", kerberos) },
    row("scram", scram),
];

/// The rows that are played on every kind of socket, whoever the client is.
const EVERYWHERE: [&str; 2] = ["file", "file, then multifile"];

const fn row(name: &'static str, make: fn(&Place) -> Prepared) -> Row {
    Row { name, wire: Wire::Any, make }
}

fn simply(cases: Vec<Case>) -> Prepared {
    Prepared { cases, _asked: None }
}

fn hosts(place: &Place) -> Prepared {
    let other = Place::new();
    let cases = vec![modules::hosts_allowing(place), modules::hosts_denying(&other)];
    Prepared { cases, _asked: Some(Box::new(other)) }
}

fn pam(place: &Place) -> Prepared {
    let services = Services::new();
    let names = services.place().file("names", format!("alice:{RIGHT}:app\n"));
    let matrix = format!("{} passdb={names}", matrix());
    let module = services.chain("app", &format!("auth required {matrix}\naccount required {matrix}\n"), "");
    Prepared { cases: vec![ours(place, "pam", module, RIGHT)], _asked: Some(Box::new(services)) }
}

fn ldap(place: &Place) -> Prepared {
    let slapd = Slapd::start();
    let url = format!("url=ldap://localhost:{},ca={}", slapd.port, slapd.authority.cert);
    let module = format!("ldap({url},bind-dn=\"uid={{username}},{PEOPLE}\")");
    Prepared { cases: vec![ours(place, "ldap", module, "alice-word")], _asked: Some(Box::new(slapd)) }
}

fn kerberos(place: &Place) -> Prepared {
    let kdc = Kdc::start();
    let tickets = |user: &str| kdc.kinit(user, &kerberos_password(user, REALM), &[]).environment();
    let attempt = |environment, outcome| Attempt { user: "alice", files: Vec::new(), environment, outcome };
    let case = Case {
        environment: kdc.environment(&kdc.own_configuration()),
        attempts: vec![
            attempt(tickets("alice"), Outcome::In),
            // A ticket of his own, and her name.
            attempt(tickets("bob"), Outcome::Refused),
            attempt(kdc.nobody().environment(), Outcome::NothingToSay),
        ],
        ..ours(place, "kerberos-token", "kerberos-token(service=xpra@localhost)".to_owned(), RIGHT)
    };
    Prepared { cases: vec![case], _asked: Some(Box::new(kdc)) }
}

fn scram(place: &Place) -> Prepared {
    let table = place.text("scram.sdb");
    run(&mut countersign(place, &["users", "init", &table])).expect_success();
    for (user, password) in [("alice", RIGHT), ("bob", OTHER)] {
        let mut add = countersign(place, &["users", "add", "--stdin", &table, user]);
        run_with_input(&mut add, password.as_bytes()).expect_success();
    }
    simply(vec![ours(place, "scram", format!("scram(filename={table})"), RIGHT)])
}

/// A module of ours alone, asked for a password.
fn ours(place: &Place, name: &'static str, module: String, right: &str) -> Case {
    let file = |name: &str, password: &str| vec![place.file(name, password)];
    let attempt = |files, outcome| Attempt { user: "alice", files, environment: Vec::new(), outcome };
    Case {
        name,
        xpra: Vec::new(),
        ours: vec![module],
        environment: Vec::new(),
        sockets: &[Socket::Tcp, Socket::Unix],
        attempts: vec![
            attempt(file("right", right), Outcome::In),
            attempt(file("wrong", WRONG), Outcome::Refused),
            attempt(Vec::new(), Outcome::NothingToSay),
        ],
    }
}
