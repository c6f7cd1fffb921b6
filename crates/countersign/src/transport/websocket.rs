//! WebSocket over any [`Stream`], after the upgrade: the bytes in its frames, both ways.
//!
//! Called by the gateway's driver and by the client, each of which has read and written the heads of HTTP.
//! Nothing is kept of frames but a header, so they may be of any size (S-86); an idle connection has no buffer.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::Stream;
use crate::proto::wire::websocket::{Masks, Opcode, Unframer, write_frame};

/// A WebSocket as a stream of bytes.
pub struct WebSocket {
    stream: Box<Stream>,
    /// Our end is the one that masks.
    is_client: bool,
    unframer: Unframer,
    since: Instant,
    /// Frames on their way, as far as the stream below has not taken them.
    out: Vec<u8>,
    /// Who writes waits for the stream below: whoever reads must not take that place from it.
    writer_waits: bool,
    has_closed: bool,
}

impl WebSocket {
    /// Our end being the server; `masks` says which frames of the client are read.
    pub fn server(stream: Stream, masks: Masks) -> Self {
        Self::new(stream, false, masks)
    }

    /// Our end being the client.
    pub fn client(stream: Stream) -> Self {
        Self::new(stream, true, Masks::Forbidden)
    }

    fn new(stream: Stream, is_client: bool, masks: Masks) -> Self {
        Self {
            stream: Box::new(stream),
            is_client,
            unframer: Unframer::new(masks),
            since: Instant::now(),
            out: Vec::new(),
            writer_waits: false,
            has_closed: false,
        }
    }

    /// What carries it.
    pub fn carrier(&self) -> &Stream {
        &self.stream
    }

    /// Puts a frame behind those that are on their way.
    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mask = match self.is_client {
            true => Some(random()?),
            false => None,
        };
        write_frame(&mut self.out, opcode, payload, mask);
        Ok(())
    }

    fn frame_pong(&mut self) -> io::Result<()> {
        self.unframer.take_ping().map_or(Ok(()), |ping| self.frame(Opcode::Pong, &ping))
    }

    /// Gives the stream below the frames that are on their way.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let taken = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.out))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..taken);
        }
        self.out = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// The same for whoever writes.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.poll_drain(cx);
        self.writer_waits = room.is_pending();
        room
    }

    /// Answers the last ping, where nobody waits to write; whoever does takes the answer along.
    ///
    /// One answer waits at most: whoever pings and reads nothing is answered the last ping only. What goes wrong is
    /// for whoever writes next to learn, and nothing to who reads: a peer may ping and leave.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if !self.unframer.is_pinged() || self.writer_waits || self.has_closed {
            return;
        }
        let Poll::Ready(Ok(())) = self.poll_drain(cx) else { return };
        if self.frame_pong().is_ok()
            && let Poll::Ready(Ok(())) = self.poll_drain(cx)
        {
            let _ = Pin::new(&mut *self.stream).poll_flush(cx);
        }
    }

    /// Frames that move nothing cost their sender as much as us, and there are only so many of them.
    fn judge_idle_frames(&self) -> io::Result<()> {
        let idle = self.unframer.idle_frames();
        if idle > IDLE_FRAMES && idle > IDLE_FRAMES + IDLE_FRAMES_PER_SECOND * self.since.elapsed().as_secs()
        {
            return Err(invalid("WebSocket: a flood of frames that move nothing"));
        }
        Ok(())
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.unframer.is_closed() || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut *this.stream).poll_read(cx, buf))?;
            let arrived = buf.filled_mut().get_mut(before..).unwrap_or_default();
            if arrived.is_empty() {
                return Poll::Ready(match this.unframer.may_end() {
                    true => Ok(()),
                    // A cut stream must not look like a whole one.
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
            let kept = this.unframer.take(arrived).map_err(invalid)?;
            buf.set_filled(before + kept);
            this.judge_idle_frames()?;
            this.answer(cx);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        if this.has_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.frame_pong()?;
        let piece = payload.get(..LARGEST_FRAME).unwrap_or(payload);
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.frame(Opcode::Binary, piece)?;
        // What is not taken now is on its way all the same: the next write or flush goes on with it.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        Pin::new(&mut *this.stream).poll_flush(cx)
    }

    /// Says that nothing more follows. The other end may go on until it says so too (RFC 6455 section 5.5.1);
    /// when both have, what carries it ends.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        if !this.has_closed {
            this.has_closed = true;
            this.frame(Opcode::Close, &NORMAL)?;
            ready!(this.poll_room(cx))?;
        }
        match this.unframer.is_closed() {
            true => Pin::new(&mut *this.stream).poll_shutdown(cx),
            false => Pin::new(&mut *this.stream).poll_flush(cx),
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn random() -> io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).map_err(io::Error::other)?;
    Ok(mask)
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Bytes of payload in a frame that we write.
const LARGEST_FRAME: usize = 64 * 1024;

/// Frames without payload that a connection may begin with, and how many more each second.
const IDLE_FRAMES: u64 = 64;
const IDLE_FRAMES_PER_SECOND: u64 = 8;

/// The code of a normal end (RFC 6455 section 7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split},
        net::UnixStream,
    };

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (near, far) = UnixStream::pair().unwrap();
        let client = WebSocket::client(Stream::new(near));
        let server = WebSocket::server(Stream::new(far), Masks::Required);
        (Stream::new(client), Stream::new(server))
    }

    /// A server of ours, and the bare socket of its client.
    fn raw(masks: Masks) -> (UnixStream, Stream) {
        let (near, far) = UnixStream::pair().unwrap();
        (near, Stream::new(WebSocket::server(Stream::new(far), masks)))
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_at_once_and_each_end_closes_for_itself() {
        let (client, server) = pair();
        let sent: Vec<u8> = (0..3_000_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        let talk = |stream: Stream, sent: Vec<u8>| async move {
            let (mut from, mut to) = split(stream);
            let upward = tokio::spawn(async move {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
                to
            });
            let mut read = Vec::new();
            from.read_to_end(&mut read).await.unwrap();
            upward.await.unwrap();
            read
        };
        let (left, right) = tokio::join!(talk(client, sent.clone()), talk(server, sent.clone()));
        assert!(left == sent && right == sent);
    }

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut server) = pair();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"question");
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
        assert_eq!(client.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn masks_of_clients_are_never_the_same_and_servers_have_none() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut client = WebSocket::client(Stream::new(near));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            client.write_all(b"x").await.unwrap();
            let mut frame = [0; 7];
            far.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[..2], [0x82, 0x81]);
            seen.insert(<[u8; 4]>::try_from(&frame[2..6]).unwrap());
        }
        assert!(seen.len() > 60, "{}", seen.len());
        let (mut client, mut server) = raw(Masks::Required);
        server.write_all(b"x").await.unwrap();
        let mut frame = [0; 3];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame, [0x82, 1, b'x']);
    }

    #[tokio::test]
    async fn pings_are_answered_between_other_frames_and_a_flood_of_them_ends_it() {
        let (mut client, mut server) = raw(Masks::Optional);
        client.write_all(&[0x89, 2, b'h', b'i', 0x82, 1, b'a']).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        let mut pong = [0; 4];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 2, b'h', b'i']);
        client.write_all(&[0x89, 0].repeat(200)).await.unwrap();
        let error = server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "s_018: {error}");
    }

    #[tokio::test]
    async fn what_was_said_before_leaving_is_read_although_a_ping_was_too() {
        let (mut client, mut server) = raw(Masks::Optional);
        client.write_all(&[0x89, 0, 0x82, 1, b'a']).await.unwrap();
        drop(client);
        let mut read = Vec::new();
        assert!(server.read_to_end(&mut read).await.is_ok() && read == b"a");
    }

    #[tokio::test]
    async fn s_018_a_peer_that_pings_and_reads_nothing_is_answered_once_at_a_time() {
        let (mut client, far) = duplex(64);
        let (near, middle) = UnixStream::pair().unwrap();
        tokio::spawn(
            async move { tokio::io::copy_bidirectional(&mut Stream::new(middle), &mut { far }).await },
        );
        let mut server = WebSocket::server(Stream::new(near), Masks::Optional);
        for _ in 0..60 {
            client.write_all(&[&[0x89, 125][..], &[7; 125], &[0x82, 1, b'a']].concat()).await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'a');
            assert!(server.out.len() <= 2 * 127, "{}", server.out.len());
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_within_a_message_has_not_ended() {
        for (sent, whole) in
            [(&[0x82, 1, b'a'][..], true), (&[0x82, 2, b'a'], false), (&[0x02, 1, b'a'], false)]
        {
            let (mut client, mut server) = raw(Masks::Optional);
            client.write_all(sent).await.unwrap();
            drop(client);
            let mut read = Vec::new();
            let end = server.read_to_end(&mut read).await;
            assert_eq!((end.is_ok(), read.as_slice()), (whole, &b"a"[..]), "{sent:02x?}");
        }
    }

    #[tokio::test]
    async fn unmasked_frames_end_the_connection_of_who_must_mask() {
        let (mut client, mut server) = raw(Masks::Required);
        client.write_all(&[0x82, 1, b'a']).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
