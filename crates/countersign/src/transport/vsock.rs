//! vsock: streams between virtual machines and their host, without a network. Linux only.
//!
//! A connect to a machine that is not there may never be answered: [`super::connect`] has a limit for it.

use std::io;

use tokio_vsock::VsockAddr;
pub(super) use tokio_vsock::VsockListener;
pub use tokio_vsock::VsockStream;

use super::{Stream, address::Address};
use crate::Peer;

/// Listens; [`sys::vsock::ANY`](crate::sys::vsock::ANY) as the machine is every one of ours, and as the port a free one.
pub(super) fn bind(cid: u32, port: u32) -> io::Result<VsockListener> {
    VsockListener::bind(VsockAddr::new(cid, port))
}

/// What a listening socket's own address is, in our terms.
pub(super) fn address_of(listener: &VsockListener) -> io::Result<Address> {
    let local = listener.local_addr()?;
    Ok(Address::Vsock { cid: local.cid(), port: local.port() })
}

/// The next connection as a stream, with what it proves: which machine it comes from (S-63).
pub(super) async fn accept(listener: &VsockListener) -> io::Result<(Stream, Peer)> {
    let (socket, from) = listener.accept().await?;
    Ok((Stream::new(socket), Peer::vsock(from.cid(), from.port())))
}

/// Connects. The caller has the limit.
pub(super) async fn connect(cid: u32, port: u32) -> io::Result<Stream> {
    Ok(Stream::new(VsockStream::connect(VsockAddr::new(cid, port)).await?))
}
