//! What a peer cannot do itself. It is tried all the same, what is said here must be seen, and the test fails the day that it
//! works.

use super::{Came, Peer, Transport, services::ANOTHERS_NAME};
use crate::modules::Outcome;

/// What is known of this client at this server.
pub(super) fn at(
    client: Peer,
    server: Peer,
    row: &str,
    transport: Transport,
) -> impl Iterator<Item = &'static Limit> {
    LIMITS.iter().filter(move |limit| {
        (limit.rows.is_empty() || limit.rows.contains(&row)) && (limit.applies)(client, server, transport)
    })
}

/// Whether an attempt is worth another: a server of 3.1.3 now and then begins a TLS handshake with data of the
/// connection before, or never ends it. It happens to whoever comes back at once, as our client does that has to say
/// hello in an older encoder. One of 4.4.6 now and then reads nothing that a client of Xpra says after the handshake,
/// and its clients lose the connection before they have read why it ends (exit code 1 of 3.1.3).
pub(super) fn mixes_up_connections(client: Peer, server: Peer, came: &Came) -> bool {
    let mixed_up: &[&str] = match (client, server) {
        (Peer::Xpra3, Peer::Xpra3) => {
            &["exit code 1: ", "when expecting Handshake", "timeout: did not receive"]
        }
        (Peer::Xpra3, Peer::Xpra4) => &["exit code 1: ", "timeout: did not receive the info"],
        (_, Peer::Xpra3) => &["when expecting Handshake", "timeout: did not receive the info"],
        (Peer::Xpra4 | Peer::Xpra6, Peer::Xpra4) => {
            &["login timeout", "timeout: did not receive the info", "UNEXPECTED_EOF_WHILE_READING"]
        }
        _ => &[],
    };
    let is_mixed_up = |how: &String| mixed_up.iter().any(|text| how.contains(text));
    matches!(came, Came::Broke(how) if is_mixed_up(how))
}

/// One line of the table.
#[derive(Debug)]
pub(super) struct Limit {
    /// Its mark on the page.
    pub(super) mark: &'static str,
    rows: &'static [&'static str],
    case: Option<&'static str>,
    applies: fn(Peer, Peer, Transport) -> bool,
    fault: Fault,
    /// Why it is so.
    pub(super) reason: &'static str,
}

impl Limit {
    /// Whether it is about this chain of the row.
    pub(super) fn is_of(&self, case: &str) -> bool {
        self.case.is_none_or(|of| of == case)
    }

    /// What one of the two programs says then, in one of these ways; nothing if it does not know.
    pub(super) fn texts(&self) -> &'static [&'static str] {
        match self.fault {
            Fault::KeepsOut(texts) | Fault::Breaks(texts) => texts,
            Fault::LetsIn => &[],
        }
    }

    /// Whether this is what was to come of an attempt, given what would be without the limit.
    pub(super) fn judge(
        &self,
        expected: &Came,
        came: &Came,
        is_said: impl Fn() -> bool,
    ) -> Result<(), &'static str> {
        let (let_in, refused) = (Came::To(Outcome::In), Came::To(Outcome::Refused));
        let is_it = match self.fault {
            Fault::KeepsOut(_) if *expected == let_in => *came != let_in && is_said(),
            // Whoever else comes may be told anything.
            Fault::KeepsOut(_) => *came != let_in,
            Fault::LetsIn if *expected == refused => *came == let_in,
            Fault::Breaks(_) if *expected == refused => matches!(came, Came::Broke(_)) && is_said(),
            Fault::LetsIn | Fault::Breaks(_) => came.is_as(expected),
        };
        match is_it {
            true => Ok(()),
            false if came.is_as(expected) => Err("it works, so this is not true any more"),
            false => Err("it is not as is said here"),
        }
    }
}

/// What goes wrong.
#[derive(Debug)]
enum Fault {
    /// Whoever is right does not get in, and one of the two programs says one of these.
    KeepsOut(&'static [&'static str]),
    /// Whoever is wrong gets in.
    LetsIn,
    /// Whoever is wrong is not let in, and is told of an error instead of a refusal; one of the two programs says one of these.
    Breaks(&'static [&'static str]),
}

/// All of them, in the order of the page. Of several for one cell the first is what is seen: a server that does not start
/// comes before a client that it cannot understand.
pub(super) const LIMITS: &[Limit] = &[
    Limit {
        mark: "no-scram-module",
        rows: &["scram"],
        case: None,
        applies: |_, server, _| server != Peer::Ours,
        fault: Fault::KeepsOut(&["cannot load authentication module 'scram'"]),
        reason: "no server of these versions has SCRAM, and with such a chain it does not start",
    },
    Limit {
        mark: "no-fido2-module",
        rows: &["fido2"],
        case: None,
        applies: |_, server, _| matches!(server, Peer::Xpra3 | Peer::Xpra4),
        fault: Fault::KeepsOut(&["cannot load authentication module 'fido2'"]),
        reason: "the server has no FIDO2, which came with 6.5, and with such a chain it does not start",
    },
    Limit {
        mark: "lz4",
        rows: &[],
        case: None,
        applies: |client, server, _| matches!(client, Peer::Xpra4 | Peer::Xpra6) && server == Peer::Xpra3,
        fault: Fault::KeepsOut(&["lz4 is not available"]),
        reason: "the client compresses what it says first with LZ4, which Debian's 3.1.3 cannot read",
    },
    Limit {
        mark: "zlib",
        rows: &[],
        case: None,
        applies: |client, server, _| client == Peer::Xpra3 && server == Peer::Xpra6,
        fault: Fault::KeepsOut(&["zlib is not available"]),
        reason: "the client compresses what it says first with zlib, which 6.x cannot read",
    },
    Limit {
        mark: "rencode",
        rows: &[],
        case: None,
        applies: |client, server, _| client == Peer::Xpra4 && server == Peer::Xpra6,
        fault: Fault::KeepsOut(&["'rencode' decoder is not available"]),
        reason: "the client encodes what it says first with rencode, which 6.x cannot read",
    },
    Limit {
        mark: "aes-4",
        rows: &[],
        case: None,
        applies: |client, server, transport| {
            (client, server, transport) == (Peer::Xpra6, Peer::Xpra4, Transport::Aes)
        },
        fault: Fault::KeepsOut(&["unencrypted packet dropped"]),
        reason: "the client says how it wants to be written to in another way than 4.x reads",
    },
    Limit {
        mark: "no-scram",
        rows: &["scram"],
        case: None,
        applies: |client, server, _| client != Peer::Ours && server == Peer::Ours,
        fault: Fault::KeepsOut(&["no acceptable digest is offered"]),
        reason: "no client of these versions has SCRAM",
    },
    Limit {
        mark: "no-fido2",
        rows: &["fido2"],
        case: None,
        applies: |client, server, _| {
            matches!(client, Peer::Xpra3 | Peer::Xpra4) && matches!(server, Peer::Ours | Peer::Xpra6)
        },
        fault: Fault::KeepsOut(&["no acceptable digest is offered"]),
        reason: "the client has no FIDO2, which came with 6.5",
    },
    Limit {
        mark: "aes-6",
        rows: &[],
        case: None,
        applies: |_, server, transport| server == Peer::Xpra6 && transport == Transport::Aes,
        fault: Fault::KeepsOut(&["login timeout", "unencrypted packet dropped"]),
        reason: "a server of 6.5.5 takes the options of its encryption and encrypts nothing, and what it says in clear is not read by a client that wants it, until one of them gives up",
    },
    Limit {
        mark: "hosts-unix",
        rows: &["hosts"],
        case: None,
        // The exit code of 3.1.3 is the same for a refusal.
        applies: |client, server, transport| {
            client != Peer::Xpra3 && server != Peer::Ours && transport == Transport::Unix
        },
        fault: Fault::Breaks(&["string index out of range"]),
        reason: "where there is no address the module ends with an error, which the client is shown",
    },
    Limit {
        mark: "ticket",
        rows: &["kerberos-token"],
        case: None,
        applies: |client, server, transport| {
            matches!(server, Peer::Xpra3 | Peer::Xpra4)
                && (transport.is_confidential() || client != Peer::Ours)
        },
        fault: Fault::KeepsOut(&["argument 2 must be str, not bytes"]),
        reason: "the module ends with a type error before it looks at a ticket, and refuses everybody",
    },
    Limit {
        mark: "anothers-name",
        rows: &["kerberos-token"],
        case: Some(ANOTHERS_NAME),
        applies: |client, server, transport| {
            server == Peer::Xpra6 && (transport.is_confidential() || client != Peer::Ours)
        },
        fault: Fault::LetsIn,
        reason: "whoever has a ticket for the service is let in, under any name",
    },
];
