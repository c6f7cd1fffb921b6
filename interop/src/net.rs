//! Addresses: free ports, and waiting until somebody listens.

use std::{
    io::{self, ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    ops::Range,
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt as _,
        unix::net::{self, UnixListener, UnixStream},
    },
    path::Path,
    process,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};

use crate::{PATIENCE, process::Daemon};

/// A TCP port for a program that cannot choose one itself and report it. Until this process ends no other test gets
/// it: a port that was merely free a moment ago is free for several, and a client then meets somebody else's server.
///
/// The ports are not among those that the system hands out, and each is taken by a name of the machine's.
#[must_use]
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let ports = usize::from(PORTS.end - PORTS.start);
    // Another beginning for each process, so that few names are tried in vain.
    let start = process::id() as usize * 97;
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    for step in 0..ports {
        let port =
            PORTS.start + u16::try_from((start + step) % ports).expect("less than the number of ports");
        let name = net::SocketAddr::from_abstract_name(format!("countersign-test-port-{port}"));
        let Ok(mine) = UnixListener::bind_addr(&name.expect("a short name")) else { continue };
        // Of whoever serves there and is no test: neither on one address nor on all of them.
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            taken.push(mine);
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// Below what Linux hands out (`ip_local_port_range`), above what services have.
const PORTS: Range<u16> = 15_000..32_000;

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

/// Waits for the end of a stream: false if something is said instead.
///
/// # Panics
/// Neither comes in time.
#[track_caller]
pub fn is_over(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("neither a word nor the end: {error}"),
    }
}
