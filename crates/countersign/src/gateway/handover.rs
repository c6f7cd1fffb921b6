//! After the login: bytes are passed on both ways until the end, and the end has a name.
//!
//! Called by the drivers with the client's stream and the backend's. What one end does, the other sees:
//! the end of one direction is passed on while the other direction goes on (half-close), a receiver
//! that does not read stops the sender, and a reset arrives as a reset where the wire has such a thing
//! (TCP). The gateway holds at most 256 KiB per direction (S-86), and nothing for a connection that is
//! idle.
//!
//! | file | holds |
//! |---|---|
//! | `direction` | one direction: read, write, wait, end |
//! | `pipe` | the same inside the kernel, for two plain sockets (Linux `splice`) |

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep_until},
};

mod direction;
#[cfg(target_os = "linux")]
mod pipe;
#[cfg(test)]
mod tests;

use direction::{Direction, Finish};

use crate::transport::{Stream, Wire};

/// Passes bytes between the two until both directions have ended, one end breaks, nothing was moved
/// for `idle`, or [`Control::kill`] is called. Both streams are closed when it returns.
pub async fn relay(client: Stream, backend: Stream, idle: Option<Duration>, control: &Control) -> Ended {
    let mut relay = Relay {
        client,
        backend,
        to_backend: Direction::new(&control.to_backend),
        to_client: Direction::new(&control.to_client),
        first: None,
    };
    let mut killed = pin!(control.killed.notified());
    let mut quiet = idle.map(Quiet::new);
    let reason = poll_fn(|cx| {
        if killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(EndReason::Killed);
        }
        if let Poll::Ready(reason) = relay.poll(cx) {
            return Poll::Ready(reason);
        }
        let moved = relay.to_backend.moved() + relay.to_client.moved();
        match &mut quiet {
            Some(quiet) => quiet.poll(cx, moved).map(|()| EndReason::Idle),
            None => Poll::Pending,
        }
    })
    .await;
    relay.close(reason);
    Ended { reason, to_backend: relay.to_backend.moved(), to_client: relay.to_client.moved() }
}

/// How a relay is watched and ended from outside. One for each relay.
#[derive(Debug, Default)]
pub struct Control {
    to_backend: AtomicU64,
    to_client: AtomicU64,
    killed: Notify,
}

impl Control {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the relay at once, or as soon as it starts. Bytes that are on their way are dropped (S-40).
    pub fn kill(&self) {
        self.killed.notify_one();
    }

    /// Ends when it is to end, and whoever waits for that ends it.
    pub(in crate::gateway) async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Bytes that the backend was given so far.
    pub fn to_backend(&self) -> u64 {
        self.to_backend.load(Ordering::Relaxed)
    }

    /// Bytes that the client was given so far.
    pub fn to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Who ended it, and how.
    pub reason: EndReason,
    /// Bytes that the backend was given.
    pub to_backend: u64,
    /// Bytes that the client was given.
    pub to_client: u64,
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The client ended its direction first, and everything was passed on.
    ClientClosed,
    /// The backend ended its direction first, and everything was passed on.
    BackendClosed,
    /// The client broke off: a reset, or TLS that ended without its closing alert (RFC 8446 6.1).
    ClientReset,
    /// The backend broke off.
    BackendReset,
    /// Nothing was moved for the time that is allowed.
    Idle,
    /// [`Control::kill`].
    Killed,
}

impl EndReason {
    /// The stable spelling used in audit records and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::Idle => "idle",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Two streams and the two directions between them.
struct Relay<'a> {
    client: Stream,
    backend: Stream,
    to_backend: Direction<'a>,
    to_client: Direction<'a>,
    /// What happened first, which names the end.
    first: Option<EndReason>,
}

impl Relay<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<EndReason> {
        let up = self.to_backend.poll(cx, &mut self.client, &mut self.backend);
        if let Poll::Ready(finish) = up {
            match finish {
                Finish::Ended => self.note(EndReason::ClientClosed),
                Finish::SourceBroke => return Poll::Ready(EndReason::ClientReset),
                Finish::SinkReset => self.note(EndReason::BackendReset),
                Finish::SinkClosed => self.note(EndReason::BackendClosed),
            }
        }
        let down = self.to_client.poll(cx, &mut self.backend, &mut self.client);
        if let Poll::Ready(finish) = down {
            match finish {
                Finish::Ended => self.note(EndReason::BackendClosed),
                Finish::SourceBroke => return Poll::Ready(EndReason::BackendReset),
                Finish::SinkReset => self.note(EndReason::ClientReset),
                Finish::SinkClosed => self.note(EndReason::ClientClosed),
            }
        }
        // An end that takes no more may still have sent something: the other direction goes on until
        // it has been passed on. A peer that is gone ends that one at once.
        ready!(up);
        ready!(down);
        Poll::Ready(self.first.unwrap_or(EndReason::ClientClosed))
    }

    fn note(&mut self, reason: EndReason) {
        self.first.get_or_insert(reason);
    }

    /// Lets the end that did not break off see that the other one did.
    fn close(&self, reason: EndReason) {
        let broken: &[&Stream] = match reason {
            EndReason::ClientReset => &[&self.backend],
            EndReason::BackendReset => &[&self.client],
            EndReason::Killed => &[&self.client, &self.backend],
            EndReason::ClientClosed | EndReason::BackendClosed | EndReason::Idle => &[],
        };
        for socket in broken.iter().filter_map(|stream| tcp(stream)) {
            // A socket that is closed already cannot be reset any more, which is as well.
            let _ = socket.set_zero_linger();
        }
    }
}

/// The TCP connection that carries a stream, through TLS, WebSocket and encryption if need be.
fn tcp(stream: &Stream) -> Option<&TcpStream> {
    match stream.wire() {
        Wire::Tcp(socket) => Some(socket),
        Wire::TlsServer(tls) => tcp(tls.get_ref().0),
        Wire::TlsClient(tls) => tcp(tls.get_ref().0),
        Wire::WebSocket(socket) => tcp(socket.carrier()),
        #[cfg(feature = "ssh")]
        Wire::Ssh(_) => None,
        Wire::Sealed(sealed) => tcp(sealed.carrier()),
        Wire::Unix(_) | Wire::Vsock(_) | Wire::Pipes(..) => None,
    }
}

/// Notices that nothing was moved for a time. The timer is set once per period, not once per byte.
struct Quiet {
    timer: Pin<Box<Sleep>>,
    period: Duration,
    moved: u64,
    since: Instant,
}

impl Quiet {
    fn new(period: Duration) -> Self {
        let since = Instant::now();
        Self { timer: Box::pin(sleep_until(since + period)), period, moved: 0, since }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if moved != self.moved {
            (self.moved, self.since) = (moved, Instant::now());
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let end = self.since + self.period;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
    }
}
