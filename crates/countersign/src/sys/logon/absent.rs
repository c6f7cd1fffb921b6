//! Systems that are not Windows.

use super::{Account, Attempt, Fault};

/// Whether this system can be asked.
pub const IS_HERE: bool = false;

/// What accounts of this machine have for a domain: nothing.
pub fn machine() -> String {
    String::new()
}

pub(super) fn check(_: &Attempt) -> Result<Account, Fault> {
    Err(Fault::Nameless)
}
