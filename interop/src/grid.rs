//! The grid: every client at every server, over every kind of socket, with every module that both have, by somebody
//! who is right, somebody who is wrong, and somebody who has nothing to say. One end of each cell is ours, but for the
//! controls, which show that the table is true of Xpra itself.
//!
//! The cells are generated from the rows ([`ROWS`]), the peers ([`Peer`]) and the kinds of socket ([`Transport`]).
//! `tests/grid.rs` plays them; `docs/interop.md` is drawn from the same tables ([`page()`]).

mod certificate;
mod limits;
mod page;
mod peer;
mod rows;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

pub use page::page;
pub use peer::{Peer, Served};
pub use rows::{ROWS, Row, Wire};

use crate::{
    Place,
    modules::{Attempt, Case, Outcome},
};

/// The kind of socket that a client comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A port, in the clear.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket, in the clear.
    Ws,
    /// WebSocket in TLS.
    Wss,
    /// A Unix socket.
    Unix,
}

impl Transport {
    /// Every kind. Ports come in the order in which a gateway reports them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::Unix];

    /// The scheme of its addresses, and the end of the option that opens it (`--bind-SCHEME`).
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "ssl",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// Its name on the page.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WebSocket",
            Self::Wss => "WebSocket in TLS",
            Self::Unix => "Unix",
        }
    }

    /// Whether a secret may travel on it as it is.
    #[must_use]
    pub fn is_confidential(self) -> bool {
        matches!(self, Self::Tls | Self::Wss | Self::Unix)
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// As at any other test.
    To(Outcome),
    /// The server asks for nothing where others could read it.
    TooOpen,
    /// Anything else: no connection, an error, a crash.
    Broke(String),
}

/// Plays every cell of this client at this server, several rows side by side, and fails the test with a line for each
/// that does not come out as the tables say.
///
/// # Panics
/// If there is one.
pub fn play(client: Peer, server: Peer) {
    play_rows(client, server, ROWS);
}

/// The same with one row, for two ends that are not ours.
///
/// # Panics
/// As [`play`].
pub fn control(peer: Peer) {
    let rows: Vec<_> = ROWS.iter().copied().filter(|row| row.name == "file").collect();
    play_rows(peer, peer, &rows);
}

fn play_rows(client: Peer, server: Peer, rows: &[Row]) {
    if !client.is_here() || !server.is_here() {
        return;
    }
    let (next, wrong, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let tell = |line: String| wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let play = || play_row(client, server, row, &tell);
                    match catch_unwind(AssertUnwindSafe(play)) {
                        Ok(cells) => _ = played.fetch_add(cells, Ordering::Relaxed),
                        Err(_) => tell(format!("{}: the test itself failed, see above", row.name)),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{} at {}: {} cells", client.name(), server.name(), played.into_inner());
    assert!(wrong.is_empty(), "{} at {}:\n{}", client.name(), server.name(), wrong.join("\n"));
}

/// Plays one row and counts its cells.
fn play_row(client: Peer, server: Peer, row: &Row, tell: &dyn Fn(String)) -> usize {
    if limits::is_not_offered(server, row).is_some() {
        return 0;
    }
    let transports: Vec<_> =
        Transport::ALL.into_iter().filter(|transport| row.is_played(client, *transport)).collect();
    let (place, mut cells) = (Place::new(), 0);
    let prepared = row.prepare(&place);
    for case in &prepared.cases {
        let served = server.serve(case, &transports);
        for attempt in &case.attempts {
            for &transport in &transports {
                let cell = Cell { client, server, row, case, attempt, transport };
                cells += 1;
                if let Err(line) = cell.play(&served) {
                    tell(format!("{line}\n--- the server says:\n{}", last_lines(&served.log())));
                }
            }
        }
    }
    cells
}

/// One attempt at one socket.
struct Cell<'a> {
    client: Peer,
    server: Peer,
    row: &'a Row,
    case: &'a Case,
    attempt: &'a Attempt,
    transport: Transport,
}

impl Cell<'_> {
    fn play(&self, served: &Served) -> Result<(), String> {
        let Self { client, server, row, case, attempt, transport } = self;
        let what = format!("{}, {attempt}, {transport:?}", case.name);
        let mut came = client.log_in(attempt, *transport, served);
        if limits::mixes_up_connections(*server, &came) {
            came = client.log_in(attempt, *transport, served);
        }
        if let Some(reason) = limits::why_not(*client, *server, row, *transport) {
            if came == Came::To(Outcome::In) {
                return Err(format!("{what}: it works, so this is not true any more: {reason}"));
            }
            return Ok(());
        }
        let expected = row.outcome(attempt, *transport);
        if came == expected { Ok(()) } else { Err(format!("{what}: {came:?}, expected {expected:?}")) }
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<String> = log.lines().map(|line| line.chars().take(COLUMNS).collect()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// How many rows are played at once: most of the time of an attempt is a second that every refusal takes.
const AT_ONCE: usize = 4;

/// How much of a server's output is shown for a cell that is wrong.
const LINES: usize = 4;
const COLUMNS: usize = 240;
