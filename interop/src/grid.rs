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
mod served;
mod services;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

pub use page::page;
pub use peer::Peer;
pub use rows::{ROWS, Row, Wire};
pub use served::Served;

use crate::{
    Place,
    modules::{Attempt, Case, Outcome},
};

/// The kind of socket that a client comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A port, in the clear.
    Tcp,
    /// A port with Xpra's own encryption, AES, of what is said there.
    Aes,
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
    pub const ALL: [Self; 6] = [Self::Tcp, Self::Aes, Self::Tls, Self::Ws, Self::Wss, Self::Unix];

    /// Those where nothing is encrypted.
    pub const IN_CLEAR: [Self; 3] = [Self::Tcp, Self::Ws, Self::Unix];

    /// Those where everything is.
    pub const ENCRYPTED: [Self; 3] = [Self::Aes, Self::Tls, Self::Wss];

    /// The scheme of its addresses, and the end of the option that opens it (`--bind-SCHEME`).
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Tcp | Self::Aes => "tcp",
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
            Self::Aes => "AES",
            Self::Tls => "TLS",
            Self::Ws => "WebSocket",
            Self::Wss => "WebSocket in TLS",
            Self::Unix => "Unix",
        }
    }

    /// Whether a secret may travel on it as it is.
    #[must_use]
    pub fn is_confidential(self) -> bool {
        matches!(self, Self::Aes | Self::Tls | Self::Wss | Self::Unix)
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// As at any other test.
    To(Outcome),
    /// The server asks for nothing where others could read it.
    TooOpen,
    /// The client does not offer what the server asks for: it has nothing of the kind, or would not send it here.
    NotOffered,
    /// Anything else: no connection, an error, a crash.
    Broke(String),
}

impl Came {
    /// Whether this is what was to come.
    fn is_as(&self, expected: &Self) -> bool {
        let may_not_offer = matches!(expected, Self::TooOpen | Self::To(Outcome::NothingToSay));
        self == expected || (may_not_offer && *self == Self::NotOffered)
    }
}

/// Plays every cell of this client at this server on these kinds of socket, several rows side by side, and fails the test
/// with a line for each that does not come out as the tables say.
///
/// # Panics
/// If there is one.
pub fn play(client: Peer, server: Peer, transports: &[Transport]) {
    let at_once = AT_ONCE / transports.len().max(1);
    play_rows((client, server), at_once, |_| transports.to_vec());
}

/// Plays two programs of Xpra: `file` on every kind of socket, which shows what this client and this server have in common
/// at all; and each row on one kind, if both are the same program, which shows that the table is true of it. Where
/// [`WHOLE`] is set in the environment every row is played on every kind.
///
/// # Panics
/// As [`play`].
pub fn control(client: Peer, server: Peer) {
    let is_whole = env::var_os(WHOLE).is_some();
    play_rows((client, server), AT_ONCE / 3, |row| match row {
        _ if is_whole => Transport::ALL.to_vec(),
        row if row.name == CONTROL => Transport::ALL.to_vec(),
        _ if client != server => Vec::new(),
        row => vec![row.first()],
    });
}

fn play_rows(
    (client, server): (Peer, Peer),
    at_once: usize,
    transports: impl Fn(&Row) -> Vec<Transport> + Sync,
) {
    if !client.is_here() || !server.is_here() {
        return;
    }
    let (next, wrong, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    let tell = |line: String| wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let play = || play_row(client, server, row, &transports(row), &tell);
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
fn play_row(client: Peer, server: Peer, row: &Row, transports: &[Transport], tell: &dyn Fn(String)) -> usize {
    if transports.is_empty() {
        return 0;
    }
    let (place, mut cells) = (Place::new(), 0);
    let prepared = row.prepare(&place, server);
    for case in &prepared.cases {
        let served = Served::start(server, case, transports);
        for attempt in &case.attempts {
            for &transport in transports {
                let cell = Cell { client, server, row, case, attempt, transport };
                cells += 1;
                if let Err(line) = cell.play(&served) {
                    let log = served.as_ref().map_or_else(Clone::clone, Served::log);
                    tell(format!("{line}\n--- the server says:\n{}", last_lines(&log)));
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
    fn play(&self, served: &Result<Served, String>) -> Result<(), String> {
        let Self { client, server, row, case, attempt, transport } = self;
        let what = format!("{}, {attempt}, {transport:?}", case.name);
        let limit = limits::at(*client, *server, row.name, *transport).find(|limit| limit.is_of(case.name));
        // Only what is said from now on is about this attempt.
        let texts = limit.map_or(&[][..], limits::Limit::texts);
        let before = served.as_ref().map_or(0, |served| served.times(texts));
        let (came, said) = match served {
            Ok(served) => self.log_in(served),
            Err(why) => (Came::Broke(format!("the server ended: {why}")), why.clone()),
        };
        let expected = row.outcome(attempt, (*client, *server), *transport);
        let Some(limit) = limit else {
            let is_right = came.is_as(&expected);
            return if is_right { Ok(()) } else { Err(format!("{what}: {came:?}, expected {expected:?}")) };
        };
        let is_said = || {
            texts.iter().any(|text| said.contains(text))
                || served.as_ref().is_ok_and(|served| served.says_again(texts, before))
        };
        let judged = limit.judge(&expected, &came, is_said);
        judged.map_err(|why| format!("{what}: {came:?}, expected {expected:?}; {why}: {}", limit.reason))
    }

    fn log_in(&self, served: &Served) -> (Came, String) {
        let log_in = || self.client.log_in(self.attempt, self.transport, served);
        let mut came = log_in();
        for _ in 0..AGAIN {
            if !limits::mixes_up_connections(self.client, self.server, &came.0) {
                break;
            }
            came = log_in();
        }
        came
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<String> = log.lines().map(|line| line.chars().take(COLUMNS).collect()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// What `cargo xtask grid` sets.
pub const WHOLE: &str = "COUNTERSIGN_GRID_WHOLE";

/// The row that is played between any two programs.
pub(crate) const CONTROL: &str = "file";

/// How many sockets are tried at once: most of the time of an attempt is a second that every refusal takes.
const AT_ONCE: usize = 12;

/// How often an attempt is made again that a server mixed up.
const AGAIN: usize = 5;

/// How much of a server's output is shown for a cell that is wrong.
const LINES: usize = 12;
const COLUMNS: usize = 240;
