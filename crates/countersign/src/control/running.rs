//! What a gateway that runs is asked beside its trust store.
//!
//! The gateway implements [`Running`]; the control socket asks it. None of this is there without a gateway.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{entrance::Entrance, message::Failure};
use crate::{penalties::Penalties, trust::Trust};

/// A gateway that runs, for its owner. What it does may wait.
pub trait Running: fmt::Debug + Send + Sync {
    /// The trust store, which may not be open: nothing that is configured asks it then.
    fn trust(&self) -> Trust;

    /// Where invited clients can enrol, in order of preference.
    fn entrances(&self) -> Vec<Entrance>;

    /// How it is.
    fn status(&self) -> Status;

    /// Who is inside, the oldest session first.
    fn sessions(&self) -> Vec<OpenSession>;

    /// Ends sessions at once, and gives their ids.
    fn end(&self, which: &Which) -> Vec<String>;

    /// Where it counts failed logins, if it does.
    fn penalties(&self) -> Option<Arc<Penalties>>;

    /// Has the configuration read again, and waits until it holds.
    ///
    /// # Errors
    /// It is refused, and the old one holds.
    fn reload(&self) -> Result<(), Failure>;

    /// Has it end: returns when nobody is accepted any more. Sessions have until `patience`, as long as at a signal
    /// without, to end by themselves.
    ///
    /// # Errors
    /// It is ending already.
    fn drain(&self, patience: Option<Duration>) -> Result<(), Failure>;
}

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "one, or all of somebody")]
pub enum Which {
    /// The one of that id.
    Id(String),
    /// All of the user of that verified name.
    User(String),
}

/// How a gateway is. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is read from another program, and made by the gateway only"
)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: i64,
    /// Whether it accepts nobody any more and waits for its sessions.
    pub draining: bool,
    /// The last time the configuration was read again, if it was.
    pub reload: Option<Reloaded>,
    /// The sockets, in the order of the configuration.
    pub sockets: Vec<SocketStatus>,
    /// Open sessions, also on sockets that were closed since.
    pub sessions: usize,
    /// Clients that are logging in now.
    pub logging_in: usize,
    /// How many may.
    pub places: usize,
    /// How many clients gave their places to others so far.
    pub given_up: u64,
    /// Sources that failed lately; `None` where nobody counts. `countersign penalties list` says which.
    pub penalised: Option<usize>,
    /// Logins that were refused for that so far.
    pub penalty_refusals: Option<u64>,
    /// Audit records that were lost; `None` without a trail.
    pub audit_lost: Option<u64>,
    /// When the first of the certificates that are shown ends, if any is.
    pub certificate_ends: Option<i64>,
}

impl Status {
    /// What is wrong with it, in words: nothing, if it does what it is for.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.draining {
            found.push("it is ending and accepts nobody".to_owned());
        }
        if let Some(why) = self.reload.as_ref().and_then(|reload| reload.refused.as_ref()) {
            found.push(format!("the configuration that was read last is refused: {why}"));
        }
        if let Some(lost) = self.audit_lost.filter(|lost| *lost > 0) {
            found.push(format!("{lost} audit records were lost"));
        }
        found.extend(
            self.sockets
                .iter()
                .filter(|socket| !socket.serves)
                .map(|socket| format!("socket {} does not answer", socket.name)),
        );
        found
    }
}

/// How a configuration that was read again was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is read from another program, and made by the gateway only"
)]
pub struct Reloaded {
    /// When that was.
    pub at: i64,
    /// Why the old one holds; `None` if the new one does.
    pub refused: Option<String>,
    /// How to mend it.
    pub fix: Option<String>,
    /// How many held so far.
    pub taken: u64,
    /// How many were refused so far.
    pub failed: u64,
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is read from another program, and made by the gateway only"
)]
pub struct SocketStatus {
    /// Its name, or its address.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Since when.
    pub since: i64,
    /// Whether it still accepts.
    pub serves: bool,
    /// Open sessions.
    pub sessions: usize,
    /// Clients that were let in so far.
    pub accepted: u64,
    /// Clients that were turned away so far.
    pub refused: u64,
}

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is read from another program, and made by the gateway only"
)]
pub struct OpenSession {
    /// Its id, as in the audit records.
    pub id: String,
    /// The socket that let it in.
    pub socket: String,
    /// The verified name; `None` if the chain proved none.
    pub user: Option<String>,
    /// Where the client is: `tcp:192.0.2.7:51234`, `unix:uid=1000`.
    pub source: String,
    /// `unix`, `tcp`, `tls`, `ws`, `wss`, `ssh` or `rpc`.
    pub transport: String,
    /// When it was let in.
    pub since: i64,
    /// Bytes that the backend was given so far.
    pub to_backend: u64,
    /// Bytes that the client was given so far.
    pub to_client: u64,
}
