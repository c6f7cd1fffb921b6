//! `builtin:whoami`: one line of JSON that says who the client is here and how it was proved; then
//! every byte comes back. The first thing to try, and what `countersign info` asks.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::{SessionFacts, facts};
use crate::{
    Grant,
    transport::{Stream, UnixStream},
};

/// A stream whose other end is served here.
pub(super) fn answer(grant: &Grant, session: &SessionFacts) -> io::Result<Stream> {
    let (theirs, ours) = UnixStream::pair()?;
    let line = format!("{}\n", facts::of(grant, session));
    // It ends with its socket, so nothing is left when the session is over. How it ends is no news.
    tokio::spawn(async move { echo(ours, line).await });
    Ok(Stream::new(theirs))
}

async fn echo(mut socket: UnixStream, line: String) -> io::Result<()> {
    socket.write_all(line.as_bytes()).await?;
    drop(line);
    loop {
        let bytes = poll_fn(|cx| poll_some(&mut socket, cx)).await?;
        if bytes.is_empty() {
            return socket.shutdown().await;
        }
        socket.write_all(&bytes).await?;
    }
}

/// What there is to read; nothing at the end. It is read into the stack, so that an idle session keeps no
/// buffer.
fn poll_some(socket: &mut UnixStream, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
    let mut space = [const { MaybeUninit::uninit() }; CHUNK];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(socket).poll_read(cx, &mut read))?;
    Poll::Ready(Ok(read.filled().to_vec()))
}

const CHUNK: usize = 8 * 1024;
