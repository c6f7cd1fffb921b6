//! Windows.
#![allow(unsafe_code)]

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    os::windows::io::AsRawSocket as _,
    path::Path,
    time::Duration,
};

use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOL_SOCKET, WSAECONNABORTED, WSAECONNRESET, WSAEINTR, WSAEMFILE, WSAENOBUFS,
    setsockopt,
};

/// Lets a socket that is not bound yet have its port alone. `SO_REUSEADDR` would let any program of this machine
/// take the port over (S-64); a restart does not need it here.
///
/// # Errors
/// As `setsockopt`.
pub fn take_port(socket: &socket2::Socket) -> io::Result<()> {
    let (yes, length) = (1_i32.to_ne_bytes(), 4);
    let handle = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is open while it is borrowed, and the value has that length.
    match unsafe { setsockopt(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, yes.as_ptr(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) const SHORTAGE: &[i32] = &[WSAEMFILE, WSAENOBUFS];

pub(super) const OF_THE_CONNECTION: &[i32] = &[WSAECONNABORTED, WSAECONNRESET, WSAEINTR];

/// A connection for threads that wait. There is none.
#[derive(Debug)]
pub struct BlockingUnixStream(Infallible);

impl BlockingUnixStream {
    /// Nobody listens anywhere.
    ///
    /// # Errors
    /// Always: [`io::ErrorKind::NotFound`].
    pub fn connect(_: impl AsRef<Path>) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::NotFound, "there are no Unix sockets on this system"))
    }

    /// How long to wait for bytes.
    ///
    /// # Errors
    /// Never.
    pub fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match self.0 {}
    }

    /// How long to wait for room.
    ///
    /// # Errors
    /// Never.
    pub fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match self.0 {}
    }
}

impl Read for BlockingUnixStream {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Read for &BlockingUnixStream {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Write for BlockingUnixStream {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

impl Write for &BlockingUnixStream {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}
