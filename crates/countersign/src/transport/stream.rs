//! One type for every byte stream, so that what reads it need not know what carries it.

#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    process::{ChildStdin, ChildStdout},
};

#[cfg(feature = "ssh")]
use super::SshChannel;
use super::{Encryption, Sealed, UnixStream, VsockStream, WebSocket};
use crate::proto::stay::Stays;

/// A connected byte stream, with the bytes that were read from it and given back.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    unread: Vec<u8>,
    stays: Stays,
}

/// What carries a [`Stream`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Wire {
    /// A Unix stream socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
    /// A vsock connection.
    Vsock(VsockStream),
    /// TLS, our end being the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<Box<Stream>>>),
    /// TLS, our end being the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<Box<Stream>>>),
    /// WebSocket over any of the others.
    WebSocket(Box<WebSocket>),
    /// A channel of SSH, our end being the server.
    #[cfg(feature = "ssh")]
    Ssh(Box<SshChannel>),
    /// Xpra's encryption over any of the others.
    Sealed(Box<Sealed>),
    /// A program's standard output and input.
    Pipes(ChildStdout, ChildStdin),
}

impl Stream {
    /// Wraps what carries it.
    pub fn new(wire: impl Into<Wire>) -> Self {
        Self { wire: wire.into(), unread: Vec::new(), stays: Stays::default() }
    }

    /// The same stream, with what is kept open for the client until the stream is closed.
    #[must_use]
    pub fn keeping(mut self, stays: Stays) -> Self {
        self.stays = stays;
        self
    }

    /// Gives bytes back: they are read again before anything else.
    pub fn unread(&mut self, mut bytes: Vec<u8>) {
        if !self.unread.is_empty() {
            bytes.append(&mut self.unread);
        }
        self.unread = bytes;
    }

    /// Takes the bytes that were given back, without a copy.
    pub fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// The bytes that were given back and not read again yet.
    pub fn pending(&self) -> &[u8] {
        &self.unread
    }

    /// What carries it.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Whether its bytes come in frames of WebSocket.
    pub fn is_websocket(&self) -> bool {
        match &self.wire {
            Wire::WebSocket(_) => true,
            Wire::Sealed(sealed) => sealed.carrier().is_websocket(),
            _ => false,
        }
    }

    /// The same under Xpra's encryption, once its two ends agree about it.
    #[must_use]
    pub fn under(self, terms: Encryption) -> Self {
        Self::new(Wire::Sealed(Box::new(Sealed::new(self, terms))))
    }

    /// Xpra's encryption, if its packets are under it.
    pub fn sealed(&mut self) -> Option<&mut Sealed> {
        match &mut self.wire {
            Wire::Sealed(sealed) => Some(sealed),
            _ => None,
        }
    }

    /// The descriptor whose bytes are the stream's own: not for TLS, WebSocket or encryption, nor while
    /// bytes are [`Stream::pending`]. For `splice` and for handing the socket over.
    #[cfg(unix)]
    pub fn plain_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.wire {
            _ if !self.unread.is_empty() => None,
            Wire::Unix(socket) => Some(socket.as_fd()),
            Wire::Tcp(socket) => Some(socket.as_fd()),
            #[cfg(feature = "ssh")]
            Wire::Ssh(_) => None,
            // Not every kernel splices it.
            Wire::Vsock(_) => None,
            Wire::TlsServer(_)
            | Wire::TlsClient(_)
            | Wire::WebSocket(_)
            | Wire::Sealed(_)
            | Wire::Pipes(..) => None,
        }
    }
}

impl From<UnixStream> for Wire {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<VsockStream> for Wire {
    fn from(socket: VsockStream) -> Self {
        Self::Vsock(socket)
    }
}

impl From<WebSocket> for Wire {
    fn from(socket: WebSocket) -> Self {
        Self::WebSocket(Box::new(socket))
    }
}

#[cfg(feature = "ssh")]
impl From<SshChannel> for Wire {
    fn from(channel: SshChannel) -> Self {
        Self::Ssh(Box::new(channel))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.unread.is_empty() {
            let take = this.unread.len().min(buf.remaining());
            buf.put_slice(this.unread.get(..take).unwrap_or_default());
            this.unread.drain(..take);
            if this.unread.is_empty() {
                // An idle connection keeps no buffer (40 KiB for each is the goal).
                this.unread = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.wire {
            Wire::Unix(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::Tcp(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::Vsock(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::TlsServer(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::TlsClient(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::WebSocket(wire) => Pin::new(wire).poll_read(cx, buf),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::Sealed(wire) => Pin::new(wire).poll_read(cx, buf),
            Wire::Pipes(output, _) => Pin::new(output).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Unix(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::Tcp(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::Vsock(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::TlsServer(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::TlsClient(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::WebSocket(wire) => Pin::new(wire).poll_write(cx, buf),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::Sealed(wire) => Pin::new(wire).poll_write(cx, buf),
            Wire::Pipes(_, input) => Pin::new(input).poll_write(cx, buf),
        }
    }

    /// Several records of TLS inside this stream leave in one system call.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Unix(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::Tcp(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::Vsock(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::TlsServer(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::TlsClient(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::WebSocket(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::Sealed(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Wire::Pipes(_, input) => Pin::new(input).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Unix(wire) => wire.is_write_vectored(),
            Wire::Tcp(wire) => wire.is_write_vectored(),
            Wire::Vsock(wire) => wire.is_write_vectored(),
            Wire::TlsServer(wire) => wire.is_write_vectored(),
            Wire::TlsClient(wire) => wire.is_write_vectored(),
            Wire::WebSocket(wire) => wire.is_write_vectored(),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => wire.is_write_vectored(),
            Wire::Sealed(wire) => wire.is_write_vectored(),
            Wire::Pipes(_, input) => input.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Unix(wire) => Pin::new(wire).poll_flush(cx),
            Wire::Tcp(wire) => Pin::new(wire).poll_flush(cx),
            Wire::Vsock(wire) => Pin::new(wire).poll_flush(cx),
            Wire::TlsServer(wire) => Pin::new(wire).poll_flush(cx),
            Wire::TlsClient(wire) => Pin::new(wire).poll_flush(cx),
            Wire::WebSocket(wire) => Pin::new(wire).poll_flush(cx),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => Pin::new(wire).poll_flush(cx),
            Wire::Sealed(wire) => Pin::new(wire).poll_flush(cx),
            Wire::Pipes(_, input) => Pin::new(input).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Unix(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::Tcp(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::Vsock(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::TlsServer(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::TlsClient(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::WebSocket(wire) => Pin::new(wire).poll_shutdown(cx),
            #[cfg(feature = "ssh")]
            Wire::Ssh(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::Sealed(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::Pipes(_, input) => Pin::new(input).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_given_back_is_read_first_and_blocks_the_plain_descriptor() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(ours);
        theirs.write_all(b"world").await.unwrap();
        stream.unread(b"lo ".to_vec());
        stream.unread(b"hel".to_vec());
        assert!(stream.plain_fd().is_none());
        let mut text = [0; 11];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello world");
        assert!(stream.plain_fd().is_some());
    }
}
