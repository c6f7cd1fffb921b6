//! Unix.

use std::io;

/// A connection for threads that wait.
pub use std::os::unix::net::UnixStream as BlockingUnixStream;

/// Lets a socket that is not bound yet have a port whose last connections are still closing: it is free for a
/// restart.
///
/// # Errors
/// As `setsockopt`.
pub fn take_port(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

pub(super) const SHORTAGE: &[i32] = &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];

pub(super) const OF_THE_CONNECTION: &[i32] = &[
    libc::ECONNABORTED,
    libc::ECONNRESET,
    libc::EINTR,
    libc::ENETDOWN,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EOPNOTSUPP,
    libc::ENETUNREACH,
    libc::ETIMEDOUT,
];
