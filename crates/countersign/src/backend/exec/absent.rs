//! Windows: programs are not started for sessions. Their standard input and output would be pipes without the
//! end of one direction, and what they start would outlive them.

use std::{convert::Infallible, fmt};

use super::{BackendError, Opened, SessionFacts, spec::error};
use crate::{Grant, error::ConfigError};

/// A program and its arguments. There is none.
pub(super) struct Program(Infallible);

impl Program {
    pub(super) fn parse(_: Vec<String>) -> Result<Self, ConfigError> {
        Err(error("this system starts no programs for sessions", "write tcp:HOST:PORT or tls:HOST:PORT"))
    }

    pub(super) fn start(&self, _: &Grant, _: &SessionFacts) -> Result<Opened, BackendError> {
        match self.0 {}
    }
}

impl fmt::Display for Program {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// A program that was started for a session. There is none.
#[derive(Debug)]
pub struct Running(Infallible);
