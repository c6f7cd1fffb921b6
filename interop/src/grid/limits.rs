//! What a peer cannot do itself. What is in [`LIMITS`] is tried all the same, and fails the day it works; what is in
//! [`NOT_OFFERED`] has no server that it could be tried at.

use super::{Came, Peer, Row, Transport};

/// Why this client cannot log in at this server so, if it cannot.
pub(super) fn why_not(client: Peer, server: Peer, row: &Row, transport: Transport) -> Option<&'static str> {
    let line = LIMITS.iter().find(|limit| (limit.applies)(client, server, row.name, transport));
    line.map(|limit| limit.reason)
}

/// Whether a server of this kind is not even started for the row, and why.
pub(super) fn is_not_offered(server: Peer, row: &Row) -> Option<&'static str> {
    let line = NOT_OFFERED.iter().find(|(name, _)| *name == row.name && server != Peer::Ours);
    line.map(|(_, reason)| *reason)
}

/// Whether an attempt is worth another: a server of 3.1.3 now and then begins a TLS handshake with data of the
/// connection before. It happens to whoever comes back at once, as our client does that has to say hello in an older
/// encoder.
pub(super) fn mixes_up_connections(server: Peer, came: &Came) -> bool {
    let is_mixed_up = |how: &String| how.contains("got ApplicationData when expecting Handshake");
    server == Peer::Xpra3 && matches!(came, Came::Broke(how) if is_mixed_up(how))
}

/// Every line of the tables: what it is about, and why.
pub(super) fn all() -> Vec<(String, &'static str)> {
    let limits = LIMITS.iter().map(|limit| (limit.subject.to_owned(), limit.reason));
    let rows = NOT_OFFERED.iter().map(|(row, reason)| (format!("`{row}` at a server of Xpra"), *reason));
    limits.chain(rows).collect()
}

struct Limit {
    subject: &'static str,
    applies: fn(Peer, Peer, &str, Transport) -> bool,
    reason: &'static str,
}

const LIMITS: &[Limit] = &[Limit {
    subject: "`scram` with a client of Xpra",
    applies: |client, _, row, _| client != Peer::Ours && row == "scram",
    reason: "these versions of Xpra have no SCRAM",
}];

/// Rows that no server of Xpra is started for, and why.
const NOT_OFFERED: &[(&str, &str)] = &[
    ("exec", "the exit code of the program was lost at times, and whoever asked let in, why is not known"),
    (
        "hosts",
        "its server reads the tables of the machine alone; `interop/tests/hosts.rs` puts ours to the TCP wrappers",
    ),
    ("pam", "its server asks for the machine's own accounts; `interop/tests/pam.rs` has ours with real ones"),
    ("ldap", "its server needs a library that is not installed here"),
    (
        "kerberos-token",
        "3.1.3 ends with a type error before it looks at a ticket, and later ones take anybody's for any name",
    ),
    ("scram", "these versions of Xpra have no SCRAM"),
];
