//! TCP: listening, and what a connection proves.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::{Stream, address::Address};
use crate::{Peer, sys::sockets::take_port};

/// Listens on the first address of `host` that this machine has.
pub(super) async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match listen(address) {
            Ok(listener) => return TcpListener::from_std(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The connection as a stream, with what it proves: where the peer is.
pub(super) fn accepted(socket: TcpStream, remote: SocketAddr) -> io::Result<(Stream, Peer)> {
    let local = socket.local_addr()?;
    Ok((Stream::new(socket), Peer::tcp(remote, local)))
}

/// Connects to the first address of `host` that answers.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<Stream> {
    let socket = TcpStream::connect((host, port)).await?;
    prepare(&socket)?;
    Ok(Stream::new(socket))
}

/// What a listening socket's own address is, in our terms.
pub(super) fn address_of(local: SocketAddr) -> Address {
    Address::Tcp { host: local.ip().to_string(), port: local.port() }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    /// Connections that wait to be accepted. The kernel's own limit may be lower.
    const BACKLOG: i32 = 1024;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    take_port(&socket)?;
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Small packets go out at once, and a peer whose machine vanished is noticed within three minutes.
///
/// What a listening socket is told, the connections that it accepts know from the start.
pub(super) fn prepare<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}
