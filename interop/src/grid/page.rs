//! `docs/interop.md`, drawn from the tables that the tests play.

use std::fmt::Write as _;

use super::{Peer, ROWS, Row, Transport, limits};

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let clients = [Peer::Xpra3, Peer::Xpra4, Peer::Xpra6, Peer::Ours];
    table(&mut page, "Clients at the gateway", &clients.map(|client| (client, (client, Peer::Ours))));
    let pairs = Peer::THEIRS.map(|server| (server, (Peer::Ours, server)));
    table(&mut page, "Our client at servers", &pairs);
    page.push_str(CONTROLS);
    for server in Peer::THEIRS {
        let pairs = Peer::THEIRS.map(|client| (client, (client, server)));
        table(&mut page, &format!("Xpra's clients at {}", server.name()), &pairs);
    }
    page.push_str("\n## What the marks say\n\n");
    for limit in limits::LIMITS {
        let _ = writeln!(page, "[^{}]: {}.", limit.mark, limit.reason);
    }
    page
}

/// One table: modules by sockets, and in each cell the peers that it is played with.
fn table(page: &mut String, title: &str, pairs: &[(Peer, (Peer, Peer))]) {
    let _ = write!(page, "\n## {title}\n");
    head(page);
    for row in ROWS {
        let cells = Transport::ALL.map(|transport| cell(row, transport, pairs));
        let _ = writeln!(page, "| {} | {} |", row.name, cells.join(" | "));
    }
}

fn head(page: &mut String) {
    let titles = Transport::ALL.map(Transport::title);
    let _ = writeln!(page, "\n| module | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
}

fn cell(row: &Row, transport: Transport, pairs: &[(Peer, (Peer, Peer))]) -> String {
    let letter = |(peer, (client, server)): &(Peer, (Peer, Peer))| {
        format!("{}{}", peer.letter(), marks(*client, *server, row, transport))
    };
    let letters = pairs.iter().map(letter).collect::<Vec<_>>().join(" ");
    let opens = pairs.iter().any(|(_, (client, server))| row.opens(*client, *server, transport));
    if opens { letters } else { format!("({letters})") }
}

fn marks(client: Peer, server: Peer, row: &Row, transport: Transport) -> String {
    limits::at(client, server, row.name, transport).map(|limit| format!("[^{}]", limit.mark)).collect()
}

const INTRODUCTION: &str = "# Who logs in where

Drawn by `cargo xtask generate` from the tables that `interop/tests/grid.rs` plays with the real programs: **3** is Debian's
Xpra 3.1.3, **4** is Xpra 4.4.6, **6** is Xpra 6.5.5 (both built from their source archives, `cargo xtask xpra`), **c** is
`countersign`.

Each letter in a cell is a program that comes three times: with what is right, and is let in; with what is wrong, and is
refused; with nothing, and is asked and leaves. A module that asks for nothing (`peercred`, `exec`, `hosts`) is tried with a
configuration that admits the client and with one that does not. `kerberos-token` is tried with somebody's own ticket and
another's name besides. Where letters stand in parentheses everybody is to be refused on that kind of socket, and is: a
module that needs what only other sockets have says no, and a secret that would travel as it is is not sent where others
could read it.

A letter with a mark is something that a peer itself cannot do. It is played as all the others are, what is said below the
tables must be seen, and the test fails the day that it works.

**AES** is Xpra's own encryption of a TCP port, in its default mode; `interop/tests/encryption.rs` has every mode that each
peer offers, and other keys than the right one.

Servers of Xpra are proxy servers with `--ssl-protocol=TLS` (their default before 6.x is TLS 1.2, which our client does not
speak), and so are clients. For a server that root runs, 6.x gets `verify-username=no`, or no name but root's is let in. Each
looks for the ends of its children by itself (`XPRA_USE_PROCESS_POLLING=1`): as it comes, it takes the exit code of the
program of `exec`, at times, from the thread that waits for it, and what that thread then finds counts as success, so that
whoever asks is let in.
";

const CONTROLS: &str = "
## Xpra's clients at Xpra's servers

The last three tables show that the first two are true of Xpra itself. `cargo xtask grid` plays all of their cells, which
takes half an hour; `cargo xtask test` plays a part of them: each client at each server with `file`, and each at a server of
its own version with every module, on the first kind of socket of these that it can be passed at: TCP, TLS, Unix.

A client of Xpra gives a password or a ticket away in the clear where the address is one of its own machine, so that `pam`,
`ldap` and `kerberos-token` stand in parentheses above, and not here.
";
