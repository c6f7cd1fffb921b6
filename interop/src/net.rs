//! Addresses: free ports, and waiting until somebody listens.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

use crate::{PATIENCE, process::Daemon};

/// A TCP port that was free a moment ago, for programs that cannot choose one themselves and report it.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until the daemon accepts connections on this loopback port.
pub fn wait_for_tcp(daemon: &Daemon, port: u16) {
    wait(daemon, &format!("127.0.0.1:{port}"), || TcpStream::connect(("127.0.0.1", port)).map(drop));
}

/// Waits until the daemon accepts connections on this Unix socket.
pub fn wait_for_unix(daemon: &Daemon, path: &Path) {
    wait(daemon, &path.display().to_string(), || UnixStream::connect(path).map(drop));
}

/// A TCP connection on which no read or write lasts longer than the test's patience.
pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
    stream
}

/// The same from an address of this machine's choice: all of 127.0.0.0/8 is its own.
pub fn dial_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let SocketAddr::V4(address) = address else { panic!("an IPv4 address expected: {address}") };
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("another socket");
    socket::bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0))).expect("a free port");
    socket::connect(socket.as_raw_fd(), &SockaddrIn::from(address)).expect("the listener accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
    stream
}

/// A Unix connection with the same limits as [`dial`].
pub fn dial_unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the listener accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
    stream
}

fn wait(daemon: &Daemon, what: &str, attempt: impl Fn() -> io::Result<()>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(error) = attempt() else { return };
        if let Some(status) = daemon.ended() {
            panic!(
                "{} ended with {status} before it listened on {what}:\n{}",
                daemon.name(),
                daemon.output()
            );
        }
        assert!(Instant::now() < deadline, "nobody listens on {what}: {error}\n{}", daemon.output());
        thread::sleep(Duration::from_millis(20));
    }
}
