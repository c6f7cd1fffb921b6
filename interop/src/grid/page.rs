//! `docs/interop.md`, drawn from the tables that the tests play.

use std::fmt::Write as _;

use super::{Peer, ROWS, Row, Transport, limits};

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let clients = [Peer::Xpra3, Peer::Xpra4, Peer::Xpra6, Peer::Ours];
    let pairs = clients.map(|client| (client, (client, Peer::Ours)));
    table(&mut page, "Clients at the gateway", &pairs);
    let pairs = Peer::THEIRS.map(|server| (server, (Peer::Ours, server)));
    table(&mut page, "Our client at servers", &pairs);
    page.push_str("\n## What is not there\n\n");
    for (subject, reason) in limits::all() {
        let _ = writeln!(page, "- {subject}: {reason}.");
    }
    page
}

/// One table: modules by sockets, and in each cell the peers that it is played with.
fn table(page: &mut String, title: &str, pairs: &[(Peer, (Peer, Peer))]) {
    let _ = write!(page, "\n## {title}\n\n| module |");
    for transport in Transport::ALL {
        let _ = write!(page, " {} |", transport.title());
    }
    let _ = writeln!(page, "\n|---|{}", "---|".repeat(Transport::ALL.len()));
    for row in ROWS {
        let cells = Transport::ALL.map(|transport| cell(row, transport, pairs));
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(page, "| {} | {} |", row.name, cells.join(" | "));
        }
    }
}

fn cell(row: &Row, transport: Transport, pairs: &[(Peer, (Peer, Peer))]) -> String {
    let is_played = |client, server| {
        row.is_played(client, transport)
            && limits::is_not_offered(server, row).is_none()
            && limits::why_not(client, server, row, transport).is_none()
    };
    let played = pairs.iter().filter(|(_, (client, server))| is_played(*client, *server));
    let letters: Vec<_> = played.map(|(peer, _)| peer.letter()).collect();
    match letters.join(" ") {
        none if none.is_empty() => none,
        all if row.wire.opens(transport) => all,
        all => format!("({all})"),
    }
}

const INTRODUCTION: &str = "# Who logs in where

Drawn by `cargo xtask generate` from the tables that `interop/tests/grid.rs` plays with the real programs: **3** is Debian's
Xpra 3.1.3, **4** is Xpra 4.4.6, **6** is Xpra 6.5.5 (both built from their source archives, `cargo xtask xpra`), **c** is
`countersign`.

Each letter in a cell is a program that comes three times: with what is right, and is let in; with what is wrong, and is
refused; with nothing, and is asked and leaves. A module that asks for nothing (`peercred`, `exec`, `hosts`) is tried with a
configuration that admits the client and with one that does not. Where letters stand in parentheses everybody is to be
refused on that kind of socket, and is. An empty cell is not played: each client of Xpra tries every module on one or two
kinds of socket, and every kind of socket with two chains.

Servers of Xpra are proxy servers with `--ssl-protocol=TLS` (their default before 6.x is TLS 1.2, which our client does not
speak), and so are clients. For a server that root runs, 6.x gets `verify-username=no`, or no name but root's is let in.
";
