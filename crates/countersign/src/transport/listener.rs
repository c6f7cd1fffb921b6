//! Listening, whatever the address, and connecting to one.
//!
//! The gateway binds one [`Listener`] for each socket of its configuration and accepts from it; it
//! reaches the daemons behind with [`connect`].

#[cfg(unix)]
use std::os::fd::{AsFd, OwnedFd};
use std::{io, time::Duration};

#[cfg(unix)]
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use super::{
    Stream,
    address::{Address, BindError, UnixOptions},
    tcp,
    unix::{self, Node, UnixListener},
    vsock,
};
pub use crate::sys::sockets::is_shortage;
use crate::{Peer, sys::sockets::belongs_to_the_connection};

/// A socket that accepts connections.
///
/// A Unix socket's file is removed when its listener is dropped, if it is still the one that the
/// listener made (S-60). An inherited one is the service manager's and stays.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    /// The node is dropped first: its name is gone before the socket is dead, so a daemon that is
    /// starting finds a live socket or none.
    Unix(Option<Node>, UnixListener),
    Tcp(TcpListener),
    Vsock(vsock::VsockListener),
}

impl Listener {
    /// Listens on `address`; `options` matter for a Unix socket in the file system only.
    ///
    /// A host name is looked up, and the first of its addresses that this machine has is taken.
    ///
    /// # Errors
    /// The address is taken, not ours, unsafe, or unknown; [`BindError::kind`] is `AddrInUse` where
    /// somebody listens there already (S-64).
    pub async fn bind(address: &Address, options: &UnixOptions) -> Result<Self, BindError> {
        let failed = |error: io::Error| BindError::system(address, "it cannot be listened on", &error);
        match address {
            Address::Tcp { host, port } => {
                let listener = tcp::bind(host, *port).await.map_err(failed)?;
                let address = tcp::address_of(listener.local_addr().map_err(failed)?);
                Ok(Self { address, socket: Socket::Tcp(listener) })
            }
            Address::Vsock { cid, port } => {
                let listener = vsock::bind(*cid, *port).map_err(failed)?;
                let address = vsock::address_of(&listener).map_err(failed)?;
                Ok(Self { address, socket: Socket::Vsock(listener) })
            }
            Address::Unix(_) | Address::Abstract(_) => {
                let (place, options) = (address.clone(), *options);
                let bound = tokio::task::spawn_blocking(move || unix::bind(&place, &options)).await;
                let (node, listener) = bound.map_err(|error| failed(error.into()))??;
                let listener = UnixListener::from_std(listener).map_err(failed)?;
                Ok(Self { address: address.clone(), socket: Socket::Unix(node, listener) })
            }
        }
    }

    /// Takes a listening socket that this process inherited ([`crate::sys::inherited::sockets`]).
    ///
    /// # Errors
    /// It is no listening stream socket of a known family.
    #[cfg(unix)]
    pub fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, "it is no listening stream socket");
        if !listens(&socket)? || sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(unfit());
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        match family(&socket)? {
            AddressFamily::UNIX => {
                let listener = UnixListener::from_std(socket.into())?;
                let address = unix::address_of(&listener.local_addr()?).ok_or_else(unfit)?;
                Ok(Self { address, socket: Socket::Unix(None, listener) })
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                tcp::prepare(&socket)?;
                let listener = TcpListener::from_std(socket.into())?;
                Ok(Self { address: tcp::address_of(listener.local_addr()?), socket: Socket::Tcp(listener) })
            }
            _ => Err(unfit()),
        }
    }

    /// The next connection, with what the transport proves of its peer.
    ///
    /// May be cancelled without losing a connection. A connection that broke before it was accepted
    /// is passed over.
    ///
    /// # Errors
    /// The system is short of something, mostly of descriptors ([`is_shortage`]): the connection
    /// stays in the queue and the caller waits a moment before it tries again (S-05).
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        loop {
            let accepted = match &self.socket {
                Socket::Unix(_, listener) => {
                    listener.accept().await.map(|(socket, _)| Ok(unix::accepted(socket)))
                }
                Socket::Tcp(listener) => {
                    listener.accept().await.map(|(socket, from)| tcp::accepted(socket, from))
                }
                Socket::Vsock(listener) => vsock::accept(listener).await.map(Ok),
            };
            match accepted {
                Ok(Ok(connection)) => return Ok(connection),
                // The peer left between `accept` and the questions about its address.
                Ok(Err(_)) => {}
                Err(error) if belongs_to_the_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The address with the port that the system chose, if it was asked to.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Changes the mode of the Unix socket that this listener made: who may connect from now on.
    ///
    /// # Errors
    /// It made none, or its file was removed or replaced.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(Some(node), _) => node.set_mode(mode),
            Socket::Unix(None, _) | Socket::Tcp(_) | Socket::Vsock(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the gateway made no file for this socket"))
            }
        }
    }
}

impl Listener {
    /// Whether clients still find it: the file of a Unix socket may be removed or replaced while it listens.
    pub fn is_there(&self) -> bool {
        match &self.socket {
            Socket::Unix(Some(node), _) => node.is_there(),
            _ => true,
        }
    }

    /// Gives the file of a Unix socket another mode, owner and group, where this listener made it.
    ///
    /// # Errors
    /// It was removed or replaced, or may not be given away.
    pub fn permit(&self, options: &UnixOptions) -> io::Result<()> {
        match &self.socket {
            Socket::Unix(Some(node), _) => node.permit(options),
            _ => Ok(()),
        }
    }
}

/// Connects to `address`, within `limit` in all.
///
/// # Errors
/// What the system says, or `TimedOut`. The text names no address (S-86).
pub async fn connect(address: &Address, limit: Duration) -> io::Result<Stream> {
    let connecting = async {
        match address {
            Address::Tcp { host, port } => tcp::connect(host, *port).await,
            Address::Vsock { cid, port } => vsock::connect(*cid, *port).await,
            Address::Unix(_) | Address::Abstract(_) => loop {
                match unix::connect(address) {
                    // Its queue is full: a daemon that is busy now may accept in a moment.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
                    done => return done,
                }
            },
        }
    };
    timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "there was no answer in time")))
}

const QUEUE_PAUSE: Duration = Duration::from_millis(10);

#[cfg(all(unix, not(target_vendor = "apple")))]
fn listens(socket: impl AsFd) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(socket)?)
}

/// Apple declares the question and does not answer it; `accept` will tell.
#[cfg(target_vendor = "apple")]
fn listens(_: impl AsFd) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn family(socket: impl AsFd) -> io::Result<AddressFamily> {
    Ok(rustix::net::getsockname(socket)?.address_family())
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpStream as StdTcpStream, os::unix::net::UnixStream as StdUnixStream};

    use rustix::process::{geteuid, getpid};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::proto::peer::Origin;

    fn loopback() -> Address {
        Address::Tcp { host: "127.0.0.1".into(), port: 0 }
    }

    /// What every transport must do: echo, half-close, and peers told apart.
    async fn carries_bytes_both_ways(address: &Address) -> Peer {
        let listener = Listener::bind(address, &UnixOptions::default()).await.unwrap();
        let target = listener.local_address().clone();
        let client = async {
            let mut stream = connect(&target, Duration::from_secs(5)).await.unwrap();
            stream.write_all(b"word").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let server = async {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            stream.write_all(format!("counter{heard}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            peer
        };
        let (answer, peer) = tokio::join!(client, server);
        assert_eq!(answer, "counterword");
        peer
    }

    #[tokio::test]
    async fn each_transport_carries_bytes_and_says_who_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let named = Address::Abstract(format!("countersign-test-{}", getpid()));
        for address in [Address::Unix(folder.path().join("s")), named] {
            let peer = carries_bytes_both_ways(&address).await;
            let known = peer.credentials().unwrap();
            assert_eq!((known.uid, known.pid), (geteuid().as_raw(), Some(getpid().as_raw_nonzero().get())));
            assert!(peer.confidential);
        }
        let peer = carries_bytes_both_ways(&loopback()).await;
        let Origin::Tcp { remote, local } = peer.origin else { panic!("it came over TCP") };
        assert!(remote.ip().is_loopback() && local.ip().is_loopback() && !peer.confidential);
    }

    /// The whole of it where the kernel has `vsock_loopback`. Elsewhere: a port is taken and told, a second listener
    /// refused, and a connect that nobody answers ends at its limit.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn s_033_s_063_vsock_carries_bytes_and_says_which_machine_is_there() {
        let any = Address::Vsock { cid: crate::sys::vsock::ANY, port: crate::sys::vsock::ANY };
        let listener = match Listener::bind(&any, &UnixOptions::default()).await {
            Ok(listener) => listener,
            Err(error) => {
                let absent = !std::path::Path::new("/proc/sys/net/vsock").exists()
                    && !std::path::Path::new("/dev/vsock").exists();
                assert!(absent, "this kernel has vsock: {error}");
                eprintln!("this kernel has no vsock: {error}");
                return;
            }
        };
        let Address::Vsock { port, .. } = *listener.local_address() else { panic!("it is vsock") };
        assert!(port != crate::sys::vsock::ANY);
        let taken = Listener::bind(listener.local_address(), &UnixOptions::default()).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let here = Address::Vsock { cid: 1, port };
        let started = std::time::Instant::now();
        match connect(&here, Duration::from_millis(500)).await {
            Ok(_) => {
                drop(listener);
                let peer = carries_bytes_both_ways(&Address::Vsock { cid: 1, port }).await;
                assert!(matches!(peer.origin, Origin::Vsock { cid: 1, .. }) && peer.confidential, "{peer}");
            }
            Err(error) => {
                assert!(!std::path::Path::new("/sys/module/vsock_loopback").exists(), "{error}");
                eprintln!("without the kernel module vsock_loopback nothing answers: {error}");
                assert!(started.elapsed() < Duration::from_secs(10));
            }
        }
    }

    #[tokio::test]
    async fn small_packets_are_not_held_back_and_peers_that_vanish_are_noticed() {
        let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for listener in [
            Listener::bind(&loopback(), &UnixOptions::default()).await.unwrap(),
            Listener::from_fd(inherited.into()).unwrap(),
        ] {
            let (client, accepted) =
                tokio::join!(connect(listener.local_address(), Duration::from_secs(5)), listener.accept());
            for stream in [client.unwrap(), accepted.unwrap().0] {
                let crate::transport::Wire::Tcp(socket) = stream.wire() else { panic!("it is TCP") };
                let socket = socket2::SockRef::from(socket);
                assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
                assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            }
        }
    }

    #[tokio::test]
    async fn a_host_name_is_looked_up_and_an_unknown_one_is_an_error() {
        let named = Address::Tcp { host: "localhost".into(), port: 0 };
        assert!(Listener::bind(&named, &UnixOptions::default()).await.is_ok());
        let elsewhere = Address::Tcp { host: "192.0.2.1".into(), port: 0 };
        let error = Listener::bind(&elsewhere, &UnixOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(error.fix(), "write an address that this machine has");
    }

    #[tokio::test]
    async fn s_064_a_tcp_port_that_is_taken_is_an_error() {
        let first = Listener::bind(&loopback(), &UnixOptions::default()).await.unwrap();
        let error = Listener::bind(first.local_address(), &UnixOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&first.local_address().to_string()));
    }

    #[tokio::test]
    async fn inherited_sockets_are_taken_as_they_are_and_their_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcp = Listener::from_fd(tcp.into()).unwrap();
        assert_eq!(tcp.local_address(), &Address::Tcp { host: "127.0.0.1".into(), port });
        let unix = Listener::from_fd(unix.into()).unwrap();
        assert_eq!(unix.local_address(), &Address::Unix(path.clone()));
        StdUnixStream::connect(&path).unwrap().write_all(b"x").unwrap();
        assert!(unix.accept().await.is_ok());
        assert!(unix.set_mode(0o666).is_err());
        drop(unix);
        assert!(path.exists());

        let (left, _right) = StdUnixStream::pair().unwrap();
        assert!(Listener::from_fd(left.into()).is_err());
        assert!(Listener::from_fd(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).is_err());
        assert!(Listener::from_fd(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }

    #[tokio::test]
    async fn a_connection_that_nobody_answers_ends_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let address = Address::Unix(path);
        let mut waiting = Vec::new();
        let error = loop {
            match connect(&address, Duration::from_millis(100)).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100);
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let gone = Address::Unix(folder.path().join("gone"));
        let error = connect(&gone, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!error.to_string().contains("gone"));
    }

    #[tokio::test]
    async fn a_client_that_left_already_does_not_stop_the_listener() {
        let listener = Listener::bind(&loopback(), &UnixOptions::default()).await.unwrap();
        let Address::Tcp { port, .. } = *listener.local_address() else { panic!("it is TCP") };
        let reset = StdTcpStream::connect(("127.0.0.1", port)).unwrap();
        socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
        drop(reset);
        let mut second = StdTcpStream::connect(("127.0.0.1", port)).unwrap();
        second.write_all(b"here").unwrap();
        let mut heard = [0; 4];
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if stream.read_exact(&mut heard).await.is_ok() {
                break;
            }
        }
        assert_eq!(&heard, b"here");
    }

    #[test]
    fn s_005_a_shortage_is_told_from_a_broken_connection() {
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(number);
            assert!(is_shortage(&error) && !belongs_to_the_connection(&error));
        }
        assert!(belongs_to_the_connection(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
        assert!(!is_shortage(&io::Error::from_raw_os_error(libc::EBADF)));
    }
}
