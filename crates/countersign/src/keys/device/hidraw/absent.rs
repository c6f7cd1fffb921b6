//! Windows shows security keys to its own programs only: others ask `webauthn.dll`, which this does not.

use super::Reports;
use crate::keys::KeyError;

/// There is none that could be opened.
pub(super) fn open_first() -> Result<Box<dyn Reports>, KeyError> {
    Err(KeyError::NoDevice { closed: None })
}
