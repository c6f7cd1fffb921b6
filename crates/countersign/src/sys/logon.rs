//! Passwords of Windows accounts, judged by Windows (`LogonUserW`).
//!
//! Called by the module `win32`, on a thread that may wait. Elsewhere there is nothing to ask.

use std::time::Duration;

use super::detached::{Detached, Lost};
use crate::Secret;

#[cfg_attr(not(windows), path = "logon/absent.rs")]
#[cfg_attr(windows, path = "logon/windows.rs")]
mod system;

pub use system::{IS_HERE, machine};

/// Who says to be whom. The password is erased when this is dropped.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "what LogonUserW takes")]
pub struct Attempt {
    /// Where the account is: a domain, or `.` for this machine; `None` for a name like `alice@corp.example`.
    pub domain: Option<String>,
    /// The account.
    pub user: String,
    /// What proves it.
    pub password: Secret,
    /// Which right the account needs for it.
    pub kind: LogonKind,
}

/// What the account is asked to be allowed. Neither kind leaves anything behind by which other machines
/// could be entered in the account's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the two that prove a password and delegate nothing")]
pub enum LogonKind {
    /// To use this machine over the network.
    Network,
    /// To run unattended.
    Batch,
}

/// Whose the password was, by the account that the token stands for. The token itself is closed by then.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a token says of its user")]
pub struct Account {
    /// The security identifier, as `S-1-5-21-...`.
    pub sid: String,
    /// The domain in its own spelling, or the name of this machine.
    pub domain: String,
    /// The name in its own spelling.
    pub name: String,
}

/// Why there is no account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each means something else to who asked")]
pub enum Fault {
    /// Windows says no, with this code (`winerror.h`).
    Denied(u32),
    /// The password was taken, and nobody says whose it is.
    Nameless,
    /// There was no answer.
    Lost(Lost),
}

/// Asks Windows, for `limit` at most.
///
/// # Errors
/// The password is not that account's, the account may not come in, or nobody could tell.
pub fn check(attempt: Attempt, calls: &Detached, limit: Duration) -> Result<Account, Fault> {
    calls.run(limit, move || system::check(&attempt)).unwrap_or_else(|lost| Err(Fault::Lost(lost)))
}
