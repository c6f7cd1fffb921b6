//! The connection to the daemon: one for each client's connection, made when the first call is accepted.

use std::{io, sync::Arc, time::Duration};

use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::{
    CONNECTION_WINDOW, LARGEST_HEADERS, SEND_BUFFER, STREAM_WINDOW, crew::Crew, pass::Upward, tap::Tap,
};
use crate::{
    Grant,
    backend::{Backend, BackendError, SessionFacts},
    transport::Stream,
};

/// The way to the daemon, for the calls of one client.
#[derive(Debug)]
pub(super) struct Link {
    backend: Arc<Backend>,
    crew: Crew,
    open: Mutex<Option<Open>>,
    /// Held while a connection is made, so that many first calls make one.
    opening: tokio::sync::Mutex<()>,
}

/// A connection, and whom the daemon was told it is for.
#[derive(Debug)]
struct Open {
    sender: SendRequest<Upward>,
    name: Option<String>,
}

impl Link {
    pub(super) fn new(backend: Arc<Backend>, crew: Crew) -> Self {
        Self { backend, crew, open: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    /// Sends a call and waits for the head of its answer. A daemon that was started anew since the last
    /// call is connected to again.
    ///
    /// # Errors
    /// The daemon cannot be reached, or breaks off before it answers.
    pub(super) async fn send(
        &self,
        grant: &Grant,
        facts: &SessionFacts,
        mut request: Request<Upward>,
    ) -> Result<Response<Incoming>, BackendError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut sender = self.sender(grant, facts).await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    // Nothing of it was sent: the connection ended between two calls.
                    Some(unsent) if tries < TRIES => {
                        self.close();
                        request = unsent;
                    }
                    _ => return Err(broken(&error.into_error())),
                },
            }
        }
    }

    /// Makes the next call connect anew. Those that are under way go on.
    pub(super) fn close(&self) {
        *self.open.lock() = None;
    }

    async fn sender(&self, grant: &Grant, facts: &SessionFacts) -> Result<SendRequest<Upward>, BackendError> {
        let name = grant.identity().map(|identity| identity.name.as_str());
        if let Some(sender) = self.usable(name) {
            return Ok(sender);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(sender) = self.usable(name) {
            return Ok(sender);
        }
        let opening =
            async { connect(self.backend.open_for_calls(grant, facts).await?.stream, &self.crew).await };
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        let sender = timeout(PATIENCE, opening).await.unwrap_or_else(late)?;
        *self.open.lock() = Some(Open { sender: sender.clone(), name: name.map(str::to_owned) });
        Ok(sender)
    }

    /// A client that was renamed meanwhile is introduced to the daemon again.
    fn usable(&self, name: Option<&str>) -> Option<SendRequest<Upward>> {
        let open = self.open.lock();
        let open = open.as_ref().filter(|open| !open.sender.is_closed() && open.name.as_deref() == name)?;
        Some(open.sender.clone())
    }
}

/// Starts HTTP/2 and waits until the daemon speaks it too (RFC 9113 3.4: its settings come first), so that one
/// that accepts and says nothing is as good as none (S-86).
async fn connect(stream: Stream, crew: &Crew) -> Result<SendRequest<Upward>, BackendError> {
    let (heard, first) = oneshot::channel();
    let mut heard = Some(heard);
    let stream = Tap::new(stream, move |bytes| {
        if !bytes.is_empty() {
            // Nobody waits any more if it comes too late.
            let _ = heard.take().map(|heard| heard.send(()));
        }
        Ok(())
    });
    let handshake = http2::Builder::new(crew.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(4 * CONNECTION_WINDOW)
        .max_header_list_size(4 * LARGEST_HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(|error| broken(&error))?;
    // It ends with the last call and the last sender.
    crew.execute(async { drop(connection.await) });
    match first.await {
        Ok(()) => Ok(sender),
        Err(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

fn broken(error: &hyper::Error) -> BackendError {
    let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    io::Error::other(format!("{error}: {why}")).into()
}

/// From a call to a daemon that speaks HTTP/2 (S-86: the client is told within 5 s).
const PATIENCE: Duration = Duration::from_millis(4500);

/// The first, and one on a new connection.
const TRIES: usize = 2;
