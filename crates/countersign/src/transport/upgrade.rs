//! The upgrade to WebSocket at a server that was reached, our end being the client.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{Address, Stream, WebSocket};
use crate::proto::wire::websocket::{self, HeadError};

/// Asks for a WebSocket at `path` and waits for the answer; what follows that is in the stream. A server that
/// refuses has said so by a status of HTTP, and nothing else of its answer is looked at.
///
/// # Errors
/// What to tell about it.
pub(crate) async fn upgrade_to_websocket(
    stream: Stream,
    address: &Address,
    path: &str,
) -> Result<Stream, String> {
    match timeout(PATIENCE, ask(stream, &host(address), path)).await {
        Ok(upgraded) => upgraded,
        Err(_) => Err("it does not answer the upgrade to WebSocket".to_owned()),
    }
}

async fn ask(mut stream: Stream, host: &str, path: &str) -> Result<Stream, String> {
    let broken = |error: std::io::Error| format!("the connection broke: {error}");
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| format!("no randomness: {error}"))?;
    let key = websocket::key_of(&nonce);
    stream.write_all(&websocket::request(host, path, &key)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    loop {
        if stream.read_buf(&mut head).await.map_err(broken)? == 0 {
            return Err("it closed the connection instead of an answer to the upgrade".to_owned());
        }
        match websocket::accepted(&head, &key) {
            Ok(None) => {}
            Ok(Some(length)) => {
                stream.unread(head.split_off(length));
                return Ok(Stream::new(WebSocket::client(stream)));
            }
            Err(HeadError::Malformed("it is no head of HTTP")) => {
                return Err("it does not speak HTTP, so there is no WebSocket".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// As in the field Host.
fn host(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix(_) | Address::Abstract(_) | Address::Vsock { .. } => "localhost".to_owned(),
    }
}

/// From the request to the end of the answer's head.
const PATIENCE: Duration = Duration::from_secs(10);
