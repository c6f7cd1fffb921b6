//! `builtin:whoami`: one line of JSON that says who the client is here and how it was proved; then
//! every byte comes back. The first thing to try, and what `countersign info` asks.

use std::io;

use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::{SessionFacts, facts};
use crate::{Grant, transport::Stream};

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
        socket.readable().await?;
        // Made when there is something to read, so that an idle session keeps no buffer.
        let mut bytes = Vec::with_capacity(CHUNK);
        match socket.try_read_buf(&mut bytes) {
            Ok(0) => return socket.shutdown().await,
            Ok(_) => socket.write_all(&bytes).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

const CHUNK: usize = 8 * 1024;
