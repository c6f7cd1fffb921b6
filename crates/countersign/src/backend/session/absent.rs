//! Windows: there are no uids and no owners of sockets, so there is nothing to tell whose session it is by.

use std::{convert::Infallible, time::Duration};

use super::{BackendError, Opened, spec::error};
use crate::{Grant, error::ConfigError, transport::Stream};

/// What keeps a daemon from being idle. There is none.
#[derive(Debug)]
pub(super) struct Lease(Infallible);

/// A daemon's place in a registry. There is none.
#[derive(Debug)]
pub(super) struct Registration(Infallible);

impl Registration {
    #[expect(clippy::unused_async, reason = "the other half waits")]
    pub(super) async fn called(&mut self) -> Option<Stream> {
        match self.0 {}
    }
}

/// A router. There is none.
pub(super) struct Sessions(Infallible);

impl Sessions {
    pub(super) fn name(&self) -> &'static str {
        match self.0 {}
    }

    pub(super) fn is_dialled_in(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn patience(&self) -> Duration {
        match self.0 {}
    }

    pub(super) fn takes_daemons(&self) -> bool {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "the other half waits")]
    pub(super) async fn register(&self, _: &Grant) -> Result<Registration, BackendError> {
        match self.0 {}
    }

    pub(super) fn explain(&self) -> String {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "the other half waits")]
    pub(super) async fn open(&self, _: &Grant) -> Result<Opened, BackendError> {
        match self.0 {}
    }
}

pub(super) fn offer(sessions: &std::sync::Arc<Sessions>) -> Result<(), ConfigError> {
    match sessions.0 {}
}

pub(super) fn parse(_: &str) -> Result<(Sessions, &str), ConfigError> {
    Err(error("this system has no sessions of users", "write tcp:HOST:PORT or tls:HOST:PORT"))
}
