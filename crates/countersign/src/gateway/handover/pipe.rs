//! Moves bytes between two sockets without copying them through this process: `splice` into a pipe and
//! out of it (Linux).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

use crate::transport::{Stream, Wire};

/// A pipe, and how many bytes are in it. It is filled only when it is empty, so *would block* on
/// filling always means that the source has nothing.
pub(super) struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    held: usize,
}

/// Why the kernel moves no more.
pub(super) enum Spliced {
    /// The source has ended; the pipe is empty.
    Ended,
    /// The source broke off.
    SourceBroke,
    /// These sockets cannot be spliced; the pipe is empty and nothing is lost.
    Unable,
}

impl Pipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where this is refused (a plain user has a budget of pipe pages) the kernel's default will do.
        let _ = fcntl_setpipe_size(&input, CAPACITY);
        Ok(Self { output, input, held: 0 })
    }

    /// Moves until the source is dry, the sink is full, or it is over. An error is the sink's.
    pub(super) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        mut moved: impl FnMut(usize),
    ) -> Poll<io::Result<Spliced>> {
        let (Some(from), Some(to)) = (Socket::of(from), Socket::of(to)) else {
            return Poll::Ready(Ok(Spliced::Unable));
        };
        loop {
            while self.held > 0 {
                let taken = ready!(to.poll_io(cx, Interest::WRITABLE, |socket| {
                    splice(&self.output, None, socket, None, self.held, FLAGS)
                }))?;
                if taken == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.held = self.held.saturating_sub(taken);
                moved(taken);
            }
            let filled = ready!(from.poll_io(cx, Interest::READABLE, |socket| {
                splice(socket, None, &self.input, None, CAPACITY, FLAGS)
            }));
            match filled {
                Ok(0) => return Poll::Ready(Ok(Spliced::Ended)),
                Ok(bytes) => self.held = bytes,
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    return Poll::Ready(Ok(Spliced::Unable));
                }
                Err(_) => return Poll::Ready(Ok(Spliced::SourceBroke)),
            }
        }
    }
}

/// A plain socket.
enum Socket<'a> {
    Unix(&'a UnixStream),
    Tcp(&'a TcpStream),
}

impl<'a> Socket<'a> {
    fn of(stream: &'a Stream) -> Option<Self> {
        match stream.wire() {
            Wire::Unix(socket) => Some(Self::Unix(socket)),
            Wire::Tcp(socket) => Some(Self::Tcp(socket)),
            _ => None,
        }
    }

    /// Tries the call whenever the socket is ready, until it does not block.
    fn poll_io(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(match (self, interest.is_readable()) {
                (Self::Unix(socket), true) => socket.poll_read_ready(cx),
                (Self::Unix(socket), false) => socket.poll_write_ready(cx),
                (Self::Tcp(socket), true) => socket.poll_read_ready(cx),
                (Self::Tcp(socket), false) => socket.poll_write_ready(cx),
            })?;
            let done = match self {
                Self::Unix(socket) => socket.try_io(interest, || Ok(call(socket.as_fd())?)),
                Self::Tcp(socket) => socket.try_io(interest, || Ok(call(socket.as_fd())?)),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Bytes in the pipe at most (S-86).
const CAPACITY: usize = 256 * 1024;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
