//! Systems without Unix sockets: nothing is started.

use std::io;

use super::super::{error::ConnectError, uri::Uri};
use crate::transport::Stream;

/// A program that carries a stream. There is none here.
#[derive(Debug)]
pub(in super::super) enum Program {}

impl Program {
    /// Refuses.
    pub(super) fn start(_: &[String]) -> io::Result<(Stream, Self)> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets to carry it"))
    }

    pub(in super::super) fn let_go(self) {
        match self {}
    }

    pub(in super::super) async fn blame(self, _: &Uri) -> Option<ConnectError> {
        match self {}
    }
}
