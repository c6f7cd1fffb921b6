//! Windows has no Unix sockets here: its own tell nobody who is at the other end, and that is what these are for.
//!
//! The same names as in `unix.rs`, so that nothing above has to ask where it runs. What cannot be is refused
//! where it is asked for; a [`UnixStream`] is a pair in memory, for what a program has to say to itself.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{
    Stream,
    address::{Address, BindError, UnixOptions},
};
use crate::Peer;

/// One end of a pair in memory.
#[derive(Debug)]
pub struct UnixStream(DuplexStream);

impl UnixStream {
    /// Both ends.
    ///
    /// # Errors
    /// Never.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = tokio::io::duplex(ROOM);
        Ok((Self(one), Self(other)))
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A listening socket. There is none.
#[derive(Debug)]
pub(super) struct UnixListener(Infallible);

impl UnixListener {
    pub(super) fn from_std(listener: Self) -> io::Result<Self> {
        Ok(listener)
    }

    pub(super) async fn accept(&self) -> io::Result<(UnixStream, ())> {
        match self.0 {}
    }
}

/// The file of a socket. There is none.
#[derive(Debug)]
pub(super) struct Node(Infallible);

impl Node {
    pub(super) fn set_mode(&self, _: u32) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn is_there(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn permit(&self, _: &UnixOptions) -> io::Result<()> {
        match self.0 {}
    }
}

pub(super) fn bind(address: &Address, _: &UnixOptions) -> Result<(Option<Node>, UnixListener), BindError> {
    let fix = "listen on HOST:PORT";
    Err(BindError::new(address, io::ErrorKind::Unsupported, ABSENT, fix))
}

pub(super) fn accepted(socket: UnixStream) -> (Stream, Peer) {
    (Stream::new(socket), Peer::unix(None))
}

pub(super) fn connect(_: &Address) -> io::Result<Stream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, ABSENT))
}

/// Bytes in one direction of a pair.
const ROOM: usize = 64 * 1024;

const ABSENT: &str = "there are no Unix sockets on this system";
