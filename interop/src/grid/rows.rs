//! The rows of the grid: each module of a chain with somebody who is right, somebody who is wrong, and somebody who has
//! nothing to say.

use std::any::Any;

use super::{Came, Peer, Transport, services};
use crate::{
    Place,
    modules::{self, Attempt, Case, Outcome},
};

/// One module, or a chain of them.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the page.
    pub name: &'static str,
    /// Where anybody gets in by it.
    pub wire: Wire,
    make: fn(&Place, Peer) -> Prepared,
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

impl Prepared {
    /// Chains that need nobody besides.
    pub(super) fn alone(cases: Vec<Case>) -> Self {
        Self { cases, _asked: None }
    }

    /// Chains that ask somebody.
    pub(super) fn asking(asked: impl Any, cases: Vec<Case>) -> Self {
        Self { cases, _asked: Some(Box::new(asked)) }
    }
}

impl Row {
    /// Starts what it needs at this server.
    #[must_use]
    pub(super) fn prepare(&self, place: &Place, server: Peer) -> Prepared {
        let mut prepared = (self.make)(place, server);
        prepared.cases.iter_mut().for_each(|case| one_of_each(&mut case.attempts));
        prepared
    }

    /// The first kind of socket that somebody can get in at.
    #[must_use]
    pub(super) fn first(&self) -> Transport {
        let found =
            [Transport::Tcp, Transport::Tls, Transport::Unix].into_iter().find(|it| self.wire.opens(*it));
        found.unwrap_or(Transport::Unix)
    }

    /// Whether somebody can get in by it. Two programs of Xpra take a wire within one machine, as all of these are, for one
    /// that nobody reads along.
    #[must_use]
    pub fn opens(&self, client: Peer, server: Peer, transport: Transport) -> bool {
        let is_ours = client == Peer::Ours || server == Peer::Ours;
        self.wire.opens(transport) || self.wire == Wire::Confidential && !is_ours
    }

    /// What must come of an attempt.
    #[must_use]
    pub fn outcome(&self, attempt: &Attempt, (client, server): (Peer, Peer), transport: Transport) -> Came {
        match self.wire {
            _ if self.opens(client, server, transport) => Came::To(attempt.outcome),
            Wire::Confidential => Came::TooOpen,
            _ => Came::To(Outcome::Refused),
        }
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
    row("password", |place, _| Prepared::alone(vec![modules::password(place)])),
    row("file", |place, _| Prepared::alone(vec![modules::file(place)])),
    row("env", |place, _| Prepared::alone(vec![modules::env(place)])),
    row("multifile", |place, _| Prepared::alone(vec![modules::multifile(place)])),
    row("sqlite", |place, _| Prepared::alone(vec![modules::sqlite(place)])),
    row("file, then multifile", |place, _| Prepared::alone(vec![modules::chain(place)])),
    Row {
        wire: Wire::Unix,
        ..row("peercred", |place, _| {
            Prepared::alone(vec![modules::peercred_listed(place), modules::peercred_unlisted(place)])
        })
    },
    row("exec", |place, _| Prepared::alone(vec![modules::exec_passing(place), modules::exec_failing(place)])),
    Row { wire: Wire::Port, ..row("hosts", services::hosts) },
    Row { wire: Wire::Confidential, ..row("pam", services::pam) },
    Row { wire: Wire::Confidential, ..row("ldap", services::ldap) },
    Row { wire: Wire::Confidential, ..row("kerberos-token", services::kerberos) },
    row("scram", services::scram),
    row("fido2", services::fido2),
];

const fn row(name: &'static str, make: fn(&Place, Peer) -> Prepared) -> Row {
    Row { name, wire: Wire::Any, make }
}
