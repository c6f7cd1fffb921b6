//! A channel of SSH as a byte stream, and what lies below it as something that can be cut off.
//!
//! The gateway's SSH driver makes both. The library for SSH gives a client room for as many bytes as have come,
//! whether or not anybody took them; [`Inbox`] counts what nobody has taken yet, so that the driver can let the room
//! run out (S-08, S-86).

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::Stream;

/// The client's bytes in a channel that nobody has taken yet.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: VecDeque<u8>,
    ended: bool,
    reader: Option<Waker>,
}

impl Inbox {
    /// Puts bytes in; what comes after the end is dropped.
    pub fn put(&self, bytes: &[u8]) {
        let mut waiting = self.0.lock();
        if !waiting.ended {
            waiting.bytes.extend(bytes);
        }
        waiting.wake();
    }

    /// Nothing follows.
    pub fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        waiting.wake();
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.0.lock().bytes.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn poll_take(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.lock();
        if waiting.bytes.is_empty() && !waiting.ended {
            waiting.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = waiting.bytes.as_slices();
        let taken = front.len().min(buf.remaining());
        buf.put_slice(front.get(..taken).unwrap_or_default());
        waiting.bytes.drain(..taken);
        if waiting.bytes.is_empty() {
            // An idle session keeps no buffer (S-02).
            waiting.bytes = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// One channel. Its connection ends with it.
pub struct SshChannel {
    inbox: Inbox,
    /// The lock is never contended: it makes the stream one that threads may share.
    writer: Mutex<Pin<Box<dyn AsyncWrite + Send>>>,
    _connection: oneshot::Sender<Infallible>,
}

impl SshChannel {
    /// The channel that `inbox` and `writer` are the two directions of; whoever waits for `connection` learns that it is
    /// not used any more.
    pub fn new(
        inbox: Inbox,
        writer: Pin<Box<dyn AsyncWrite + Send>>,
        connection: oneshot::Sender<Infallible>,
    ) -> Self {
        Self { inbox, writer: Mutex::new(writer), _connection: connection }
    }
}

impl AsyncRead for SshChannel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inbox.poll_take(cx, buf)
    }
}

impl AsyncWrite for SshChannel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writer.get_mut().as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.get_mut().as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.get_mut().as_mut().poll_shutdown(cx)
    }
}

impl fmt::Debug for SshChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshChannel").finish_non_exhaustive()
    }
}

/// A stream that breaks when the other half of its leash is dropped, whoever holds it.
#[derive(Debug)]
pub struct Leashed {
    stream: Stream,
    leash: oneshot::Receiver<Infallible>,
}

impl Leashed {
    /// Such a stream.
    pub fn new(stream: Stream, leash: oneshot::Receiver<Infallible>) -> Self {
        Self { stream, leash }
    }

    /// Reads and writes are polled by the one task that holds the stream, so one waker is enough.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.leash.is_terminated() || Pin::new(&mut self.leash).poll(cx).is_ready() {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }
}

impl AsyncRead for Leashed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Leashed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_put_in_comes_out_in_order_and_ends() {
        let inbox = Inbox::default();
        let (connection, over) = oneshot::channel();
        let mut channel = SshChannel::new(inbox.clone(), Box::pin(tokio::io::sink()), connection);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            channel.read_to_end(&mut all).await.unwrap();
            all
        });
        for piece in [&b"one "[..], b"two ", b"three"] {
            inbox.put(piece);
            tokio::task::yield_now().await;
        }
        inbox.end();
        inbox.put(b"late");
        assert_eq!(reading.await.unwrap(), b"one two three");
        assert!(inbox.is_empty() && over.await.is_err());
    }

    #[tokio::test]
    async fn a_stream_breaks_with_its_leash() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (leash, held) = oneshot::channel();
        let mut stream = Leashed::new(Stream::new(ours), held);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        let waiting = tokio::spawn(async move {
            let read = stream.read_u8().await.unwrap_err().kind();
            (read, stream.write_all(b"y").await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        drop(leash);
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(waiting.await.unwrap(), (aborted, aborted));
    }
}
