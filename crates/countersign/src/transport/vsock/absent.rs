//! Systems without vsock: the same names as in `vsock.rs`, refused where they are asked for.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Stream, address::Address};
use crate::Peer;

/// A connection. There is none.
#[derive(Debug)]
pub struct VsockStream(Infallible);

impl AsyncRead for VsockStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl AsyncWrite for VsockStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

/// A listening socket. There is none.
#[derive(Debug)]
pub(super) struct VsockListener(Infallible);

pub(super) fn bind(_: u32, _: u32) -> io::Result<VsockListener> {
    Err(unsupported())
}

pub(super) fn address_of(listener: &VsockListener) -> io::Result<Address> {
    match listener.0 {}
}

pub(super) async fn accept(listener: &VsockListener) -> io::Result<(Stream, Peer)> {
    match listener.0 {}
}

pub(super) async fn connect(_: u32, _: u32) -> io::Result<Stream> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this system has no vsock")
}
