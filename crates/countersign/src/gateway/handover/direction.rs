//! One direction of a relay: bytes from a source to a sink.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(target_os = "linux")]
use super::pipe::{Pipe, Spliced};
use crate::transport::Stream;

/// Where one direction stands.
///
/// Bytes are read into the stack of the thread that moves them and written from there. Only what the
/// sink does not take is kept, so an idle connection holds no buffer at all.
pub(super) struct Direction<'a> {
    counter: &'a AtomicU64,
    moved: u64,
    /// What was read and not taken yet, at most [`CHUNK`] bytes.
    kept: Vec<u8>,
    unflushed: bool,
    state: State,
    #[cfg(target_os = "linux")]
    kernel: Kernel,
}

enum State {
    /// The source may send more.
    Open,
    /// The source has ended; so will the sink.
    Ending,
    /// It is over.
    Finished(Finish),
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The source ended, everything was passed on, and the sink was told.
    Ended,
    /// The source broke off. What came before was passed on; no end was passed on.
    SourceBroke,
    /// The sink was reset: its process is gone.
    SinkReset,
    /// The sink takes no more.
    SinkClosed,
}

/// Whether the kernel moves the bytes.
#[cfg(target_os = "linux")]
enum Kernel {
    /// Not yet: small talk is not worth two descriptors.
    Later,
    Moves(Pipe),
    /// It cannot, for these sockets.
    Never,
}

impl<'a> Direction<'a> {
    pub(super) fn new(counter: &'a AtomicU64) -> Self {
        Self {
            counter,
            moved: 0,
            kept: Vec::new(),
            unflushed: false,
            state: State::Open,
            #[cfg(target_os = "linux")]
            kernel: Kernel::Later,
        }
    }

    /// Bytes that the sink took.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved now. After the end it says so each time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, from: &mut Stream, to: &mut Stream) -> Poll<Finish> {
        if let State::Finished(finish) = self.state {
            return Poll::Ready(finish);
        }
        let finish = match ready!(self.poll_move(cx, from, to)) {
            Ok(finish) => finish,
            // The first write to a peer that is gone says *reset* once, every later one *broken pipe*.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Finish::SinkReset,
            Err(_) => Finish::SinkClosed,
        };
        self.state = State::Finished(finish);
        self.kept = Vec::new();
        Poll::Ready(finish)
    }

    /// An error is the sink's; what the source does is a [`Finish`].
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<Finish>> {
        loop {
            ready!(self.poll_kept(cx, to))?;
            if matches!(self.state, State::Ending) {
                return poll_end(cx, to);
            }
            #[cfg(target_os = "linux")]
            self.promote(from, to);
            #[cfg(target_os = "linux")]
            if let Kernel::Moves(pipe) = &mut self.kernel {
                let (counter, moved) = (self.counter, &mut self.moved);
                match ready!(pipe.poll_move(cx, from, to, |bytes| count(counter, moved, bytes)))? {
                    Spliced::Ended => self.state = State::Ending,
                    Spliced::SourceBroke => return Poll::Ready(Ok(Finish::SourceBroke)),
                    Spliced::Unable => self.kernel = Kernel::Never,
                }
                continue;
            }
            let copied = match self.moved {
                0..SMALL_TALK => self.poll_copy::<LITTLE>(cx, from, to),
                _ => self.poll_copy::<CHUNK>(cx, from, to),
            };
            match copied? {
                Poll::Ready(Some(finish)) => return Poll::Ready(Ok(finish)),
                Poll::Ready(None) => {}
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads up to `ROOM` bytes once and writes what was read; keeps what the sink does not take.
    ///
    /// A function of its own: each call touches every page of the room on the stack, which whoever
    /// only waits must not pay for.
    #[inline(never)]
    fn poll_copy<const ROOM: usize>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> io::Result<Poll<Option<Finish>>> {
        let mut space = [const { MaybeUninit::uninit() }; ROOM];
        let mut read = ReadBuf::uninit(&mut space);
        match Pin::new(from).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(Poll::Pending),
            // A cut stream must not look like a whole one, so no end is passed on.
            Poll::Ready(Err(_)) => return Ok(Poll::Ready(Some(Finish::SourceBroke))),
            Poll::Ready(Ok(())) if read.filled().is_empty() => self.state = State::Ending,
            Poll::Ready(Ok(())) => {}
        }
        let mut rest = read.filled();
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(taken) => rest = rest.get(self.took(taken?)?..).unwrap_or_default(),
                Poll::Pending => {
                    self.kept = rest.to_vec();
                    break;
                }
            }
        }
        Ok(Poll::Ready(None))
    }

    /// Writes what was kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let taken = ready!(Pin::new(&mut *to).poll_write(cx, &self.kept))?;
            let taken = self.took(taken)?;
            self.kept.drain(..taken);
            if self.kept.is_empty() {
                self.kept = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, bytes: usize) -> io::Result<usize> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        count(self.counter, &mut self.moved, bytes);
        self.unflushed = true;
        Ok(bytes)
    }

    /// Lets the kernel move the bytes, once there are enough of them and where it can.
    #[cfg(target_os = "linux")]
    fn promote(&mut self, from: &Stream, to: &Stream) {
        if matches!(self.kernel, Kernel::Later) && self.moved >= SMALL_TALK {
            self.kernel = match from.plain_fd().and_then(|_| to.plain_fd()).map(|_| Pipe::new()) {
                Some(Ok(pipe)) => Kernel::Moves(pipe),
                // No descriptors left, or one of the streams is not the socket's own bytes.
                Some(Err(_)) | None => Kernel::Never,
            };
        }
    }
}

/// Passes the end on.
fn poll_end(cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<Finish>> {
    match ready!(Pin::new(to).poll_shutdown(cx)) {
        // The sink has closed already, both ways.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(Finish::Ended)),
        told => Poll::Ready(told.map(|()| Finish::Ended)),
    }
}

fn count(counter: &AtomicU64, moved: &mut u64, bytes: usize) {
    let bytes = bytes as u64;
    *moved += bytes;
    counter.fetch_add(bytes, Ordering::Relaxed);
}

/// Bytes that are read at once, and the most that is kept for a sink that does not take them.
const CHUNK: usize = 64 * 1024;

/// Bytes that are read at once while there is small talk.
const LITTLE: usize = 8 * 1024;

/// Bytes after which a direction is busy: it is read in chunks, or the kernel moves the rest.
const SMALL_TALK: u64 = 64 * 1024;
