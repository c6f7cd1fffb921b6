//! Unix stream sockets: made so that nobody gets in before they may, removed only if ours.
//!
//! A socket is made in this order, and there is no moment at which it lets in more than it shall:
//!
//! 1. Its directory is opened and judged by its descriptor (S-61), and locked, so that of two daemons
//!    that start at once one waits and then sees the other's live socket (S-64).
//! 2. What is at the path is judged; only a dead socket of our own is removed (S-60).
//! 3. The mode is set on the socket *before* it gets its name. Linux makes the file with that mode
//!    minus the process's umask, so it is never wider than it will be (S-59), and the umask, which
//!    belongs to all threads, is not touched.
//! 4. Exact mode, then owner and group. Nobody can connect yet: the socket does not listen.
//! 5. It listens.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
};
use socket2::{Domain, SockAddr, Socket, Type};
pub(super) use tokio::net::UnixListener;
pub use tokio::net::UnixStream;

use super::{
    Stream,
    address::{Address, BindError, UnixOptions},
};
use crate::{Peer, sys};

/// The file of a socket that we made; removed on drop, if it is still that file (S-60).
#[derive(Debug)]
pub(super) struct Node {
    directory: OwnedFd,
    name: OsString,
    identity: (u64, u64),
}

impl Node {
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        if !self.is_ours() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the socket's file was removed or replaced"));
        }
        Ok(rustix::fs::chmodat(&self.directory, &self.name, permissions(mode), AtFlags::empty())?)
    }

    /// Whether the file is still the one that was made.
    pub(super) fn is_there(&self) -> bool {
        self.is_ours()
    }

    /// Gives the file these options. While they change, nobody gets in who may not with the old and the new ones.
    pub(super) fn permit(&self, options: &UnixOptions) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the socket's file was removed or replaced");
        let now = look(&self.directory, &self.name)?.filter(|stat| identity(stat) == self.identity);
        let now = now.ok_or_else(gone)?;
        let owner = options.owner.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let group = options.group.map_or_else(|| self.usual_group(), Ok)?;
        if (owner, group) != (now.st_uid, now.st_gid) {
            self.set_mode(0)?;
            let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
            rustix::fs::chownat(&self.directory, &self.name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.set_mode(options.mode)
    }

    /// The group of what is made in the directory.
    fn usual_group(&self) -> io::Result<u32> {
        let directory = rustix::fs::fstat(&self.directory)?;
        let hands_down = Mode::from_raw_mode(directory.st_mode).contains(Mode::SGID);
        Ok(if hands_down { directory.st_gid } else { rustix::process::getegid().as_raw() })
    }

    fn of(directory: OwnedFd, name: OsString) -> io::Result<Self> {
        let found = look(&directory, &name)?;
        match found {
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
                Ok(Self { directory, name, identity: identity(&stat) })
            }
            _ => Err(io::Error::other("the directory was exchanged meanwhile")),
        }
    }

    fn is_ours(&self) -> bool {
        let found = look(&self.directory, &self.name).ok().flatten();
        found.is_some_and(|stat| identity(&stat) == self.identity)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.is_ours() {
            // Nothing to be done about a failure at the end; the next start replaces a dead socket.
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Makes the socket and listens. May wait for another daemon that starts in the same directory.
pub(super) fn bind(
    address: &Address,
    options: &UnixOptions,
) -> Result<(Option<Node>, StdListener), BindError> {
    let Address::Unix(path) = address else {
        return bind_abstract(address).map(|listener| (None, listener));
    };
    let failed = |step: &str, error: io::Error| BindError::system(address, step, &error);
    let target = target(address).map_err(|error| failed("its path", error))?;
    let (parent, name) = split(path).ok_or_else(|| {
        BindError::new(address, io::ErrorKind::InvalidInput, "it names no file", "write the path of a socket")
    })?;
    let directory = open_directory(address, parent)?;
    lock(address, &directory)?;
    clear(address, &directory, name)?;

    let socket = new_socket().map_err(|error| failed("no socket can be made", error))?;
    let mode = permissions(options.mode);
    narrow(&socket, mode).map_err(|error| failed("its mode cannot be set", error))?;
    socket.bind(&target).map_err(|error| failed("it cannot be made", error))?;
    let node =
        Node::of(directory, name.to_owned()).map_err(|error| failed("it cannot be found again", error))?;
    // The mode first: once the file is somebody else's, in a sticky directory that somebody may put a
    // symlink in its place, and `chmod` would follow it.
    node.set_mode(options.mode).map_err(|error| failed("its mode cannot be set", error))?;
    let (owner, group) = (options.owner.map(Uid::from_raw), options.group.map(Gid::from_raw));
    if owner.is_some() || group.is_some() {
        rustix::fs::chownat(&node.directory, &node.name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("its owner or group cannot be set", error.into()))?;
    }
    socket.listen(BACKLOG).map_err(|error| failed("it cannot be listened on", error))?;
    unlock(&node.directory);
    Ok((Some(node), socket.into()))
}

/// The connection as a stream, with what it proves: who the peer was when it connected.
pub(super) fn accepted(socket: UnixStream) -> (Stream, Peer) {
    // Without an answer of the kernel's nobody is known, which every link that asks refuses.
    let peer = Peer::unix(sys::peer::credentials(&socket).ok().flatten());
    (Stream::new(socket), peer)
}

/// Connects, which takes no waiting (unix(7)); `WouldBlock` means that the queue of whoever listens
/// there is full.
pub(super) fn connect(address: &Address) -> io::Result<Stream> {
    let socket = new_socket()?;
    socket.connect(&target(address)?)?;
    Ok(Stream::new(UnixStream::from_std(socket.into())?))
}

/// What a listening socket's own address is, in our terms; `None` for one without a name.
pub(super) fn address_of(local: &tokio::net::unix::SocketAddr) -> Option<Address> {
    if let Some(path) = local.as_pathname() {
        return Some(Address::Unix(path.to_owned()));
    }
    abstract_name(local)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_name(local: &tokio::net::unix::SocketAddr) -> Option<Address> {
    let name = local.as_abstract_name()?;
    Some(Address::Abstract(String::from_utf8_lossy(name).into_owned()))
}

/// Elsewhere there are none.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_name(_: &tokio::net::unix::SocketAddr) -> Option<Address> {
    None
}

/// Permission bits as the system has them.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    reason = "the widths differ between systems"
)]
fn permissions(bits: u32) -> Mode {
    Mode::from_raw_mode((bits & 0o777) as rustix::fs::RawMode)
}

fn bind_abstract(address: &Address) -> Result<StdListener, BindError> {
    let failed = |error: io::Error| BindError::system(address, "it cannot be listened on", &error);
    let target = target(address).map_err(failed)?;
    let socket = new_socket().map_err(failed)?;
    if let Err(error) = socket.bind(&target) {
        return Err(match probe(address) {
            Ok(Some(holder)) => in_use(address, holder),
            _ => failed(error),
        });
    }
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket.into())
}

/// Opens the directory and judges what was opened: ours or root's, and nobody else may exchange what
/// is in it. In a sticky directory (`/tmp`) others may add, not exchange.
fn open_directory(address: &Address, parent: &Path) -> Result<OwnedFd, BindError> {
    let shown = parent.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| {
        BindError::system(address, &format!("its directory {shown} cannot be opened"), &error.into())
    })?;
    let stat = rustix::fs::fstat(&directory)
        .map_err(|error| BindError::system(address, "its directory cannot be judged", &error.into()))?;
    let own = rustix::process::geteuid().as_raw();
    let unsafe_because =
        |why: String, fix: String| Err(BindError::new(address, io::ErrorKind::PermissionDenied, why, fix));
    if stat.st_uid != own && stat.st_uid != 0 {
        let why =
            format!("its directory {shown} belongs to uid {}, who could exchange the socket", stat.st_uid);
        return unsafe_because(why, format!("use a directory of root's or of uid {own}"));
    }
    if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
        let why = format!("its directory {shown} can be written by others, who could exchange the socket");
        return unsafe_because(why, format!("run: chmod go-w {shown}"));
    }
    Ok(directory)
}

/// Keeps other daemons of this kind out of the directory while the socket is made (S-64). The lock
/// ends with the descriptor's last copy or with [`unlock`].
fn lock(address: &Address, directory: &OwnedFd) -> Result<(), BindError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let start = Instant::now();
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(BindError::new(
                    address,
                    io::ErrorKind::AddrInUse,
                    "another program keeps its directory locked",
                    "stop that program (`fuser -v` on the directory names it), or use another directory",
                ));
            }
            // A file system without locks: the start goes on without this guard.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOLCK) => return Ok(()),
            Err(error) => {
                return Err(BindError::system(address, "its directory cannot be locked", &error.into()));
            }
        }
    }
}

fn unlock(directory: &OwnedFd) {
    // A lock that was never taken, or cannot be given back, ends with the descriptor.
    let _ = rustix::fs::flock(directory, FlockOperation::Unlock);
}

/// Makes the name free: nothing is there, or a dead socket of our own is removed (S-60).
fn clear(address: &Address, directory: &OwnedFd, name: &OsStr) -> Result<(), BindError> {
    let failed = |step: &str, error: io::Error| BindError::system(address, step, &error);
    let Some(stat) = look(directory, name).map_err(|error| failed("its path cannot be looked at", error))?
    else {
        return Ok(());
    };
    let taken = |what: &str| {
        let fix = "choose another path, or move away what is there";
        Err(BindError::new(
            address,
            io::ErrorKind::AlreadyExists,
            format!("there is {what} at this path"),
            fix,
        ))
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => {}
        FileType::Symlink => return taken("a symbolic link"),
        FileType::Directory => return taken("a directory"),
        FileType::Fifo => return taken("a FIFO"),
        _ => return taken("a file"),
    }
    match probe(address).map_err(|error| failed("the socket at this path cannot be judged", error))? {
        Some(holder) => Err(in_use(address, holder)),
        None if stat.st_uid != rustix::process::geteuid().as_raw() => {
            taken(&format!("an abandoned socket of uid {}", stat.st_uid))
        }
        None => rustix::fs::unlinkat(directory, name, AtFlags::empty())
            .map_err(|error| failed("the dead socket at this path cannot be removed", error.into())),
    }
}

/// Who listens on an existing socket: `None` if nobody does.
struct Holder {
    pid: Option<i32>,
}

fn probe(address: &Address) -> io::Result<Option<Holder>> {
    let socket = new_socket()?;
    match socket.connect(&target(address)?) {
        Ok(()) => {
            let known = sys::peer::credentials(&socket).ok().flatten();
            Ok(Some(Holder { pid: known.and_then(|known| known.pid) }))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        // Its queue is full, or it speaks in datagrams: somebody is there.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EPROTOTYPE)) => {
            Ok(Some(Holder { pid: None }))
        }
        Err(error) => Err(error),
    }
}

fn in_use(address: &Address, holder: Holder) -> BindError {
    let who = holder.pid.map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"));
    BindError::new(
        address,
        io::ErrorKind::AddrInUse,
        format!("{who} listens there already"),
        "stop it, or choose another path",
    )
}

fn look(directory: impl AsFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Device and inode: what tells one file from every other that exists at the same time.
#[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let name = path.file_name()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Some((parent.unwrap_or_else(|| Path::new(".")), name))
}

/// Connections that wait to be accepted. The kernel's own limit may be lower.
const BACKLOG: i32 = 1024;

/// One call to the system for each connection to a daemon, where that is enough.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn new_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The mode that the socket's file is made with.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn narrow(socket: &Socket, mode: Mode) -> io::Result<()> {
    Ok(rustix::fs::fchmod(socket, mode)?)
}

/// Elsewhere the mode cannot be set ahead. The file is as wide as the umask leaves it until its mode
/// is set; nobody can connect by then, for it does not listen yet.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn narrow(_: &Socket, _: Mode) -> io::Result<()> {
    Ok(())
}

fn target(address: &Address) -> io::Result<SockAddr> {
    SockAddr::unix(spelled(address)).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is longer than the 107 bytes that a socket's path may have",
        )
    })
}

/// The path, or the abstract name as the system calls spell it: after a NUL.
fn spelled(address: &Address) -> PathBuf {
    match address {
        Address::Abstract(name) => PathBuf::from(format!("\0{name}")),
        Address::Unix(path) => path.clone(),
        Address::Tcp { .. } | Address::Vsock { .. } => PathBuf::new(),
    }
}

#[cfg(test)]
mod tests;
