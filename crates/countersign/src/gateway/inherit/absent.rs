//! Windows: no service manager passes sockets on.

use super::StartError;
use crate::{
    config::SocketConfig,
    error::ConfigError,
    transport::{Address, Listener},
};

/// The sockets that were inherited: none.
pub(super) struct Inherited;

impl Inherited {
    pub(super) fn all() -> Result<Self, StartError> {
        Ok(Self)
    }

    pub(super) fn take(&mut self, _: &SocketConfig) -> Result<Option<Listener>, StartError> {
        Ok(None)
    }

    pub(super) fn judge(_: &str, _: &SocketConfig, _: &Address) -> Result<(), ConfigError> {
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), ConfigError> {
        Ok(())
    }
}
