//! The door for calls of gRPC: TLS, HTTP/2, and each call judged by itself.
//!
//! [`super::listen`] gives every connection of a `--bind-rpc` socket to [`serve`]. The chain decides from the
//! transport, anew for each call and before any message of it is read (S-19), so a certificate that is accepted
//! on one connection counts on all others from that moment on, and one that is taken back counts nowhere.
//!
//! | file | holds |
//! |---|---|
//! | `call` | one call: who is asked, and who answers it |
//! | `enrol` | `authenticate`, `get`, `set` and `Renew`, which are answered here |
//! | `message` | the first message of a call, bounded |
//! | `pass` | a call on its way to the daemon and back |
//! | `link` | the connection to the daemon |
//! | `answer` | what a call is answered with |
//! | `crew` | the work of a connection, done in one task |
//! | `meter`, `tap` | frames that cost a stranger nothing; a stream that is looked at |

use std::{convert::Infallible, future::pending, pin::Pin, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

mod answer;
mod call;
mod crew;
mod enrol;
mod link;
mod message;
mod meter;
mod pass;
mod tap;
#[cfg(test)]
mod tests;

use call::{Calls, Progress};
use crew::Crew;
use meter::{Meter, Switch};
use tap::Tap;

use super::{
    Place,
    audit::{Auditor, Decision},
    drive::{Acceptor, Turned},
    handover::EndReason,
    sessions::Sessions,
    trusting::Reliance,
};
use crate::{Peer, Refusal, backend::Backend, penalties::Visit, proto::error::Reason, transport::Stream};

/// What the connections of a socket have in common.
#[derive(Clone, Debug)]
pub(super) struct Hall {
    /// The socket as logs name it.
    pub(super) name: Arc<str>,
    /// Who is let in.
    pub(super) acceptor: Acceptor,
    /// The daemon behind.
    pub(super) backend: Arc<Backend>,
    /// The accepted certificates, where the chain asks for them.
    pub(super) reliance: Option<Reliance>,
    /// Where decisions are recorded.
    pub(super) auditor: Auditor,
    /// Who is inside.
    pub(super) sessions: Arc<Sessions>,
    /// Turns true when no new calls are wanted (S-97).
    pub(super) stopping: watch::Receiver<bool>,
}

impl Hall {
    /// A connection was refused, for a deadline that it missed or bytes that are no protocol perhaps (S-21).
    fn count(&self, peer: &Peer, refusal: &Refusal) {
        if let Some(penalties) = self.acceptor.penalties() {
            Visit::new(Arc::clone(penalties)).refused(peer, refusal);
        }
    }
}

/// One connection that came at `start`, to its end.
pub(super) async fn serve(
    hall: Hall,
    stream: Stream,
    peer: Peer,
    place: Place,
    session: String,
    start: std::time::Instant,
) {
    let plain = Arc::new(peer.clone());
    let secured = tokio::select! {
        biased;
        secured = hall.acceptor.secured(stream, peer, start) => secured,
        () = place.given_up() => Err(Refusal::new(Reason::Busy, "its place went to another")),
    };
    match secured {
        Ok((stream, peer)) => talk(hall, stream, peer, place, session, start.into()).await,
        Err(refusal) => {
            hall.count(&plain, &refusal);
            let turned = Turned { refusal, peer: plain, username: None };
            let links = hall.acceptor.chain().links().len();
            if !turned.is_probe() {
                let decision = Decision::refused(&hall.name, &session, &turned, links, start.elapsed());
                hall.auditor.refused(&decision);
            }
        }
    }
}

/// The same for a client that came to another socket to enrol: nothing is passed on.
pub(super) async fn enrol(
    hall: Hall,
    stream: Stream,
    peer: Peer,
    place: Place,
    session: String,
    start: std::time::Instant,
) {
    let hall = Hall { backend: Arc::new(Backend::whoami()), ..hall };
    talk(hall, stream, peer, place, session, start.into()).await;
}

/// HTTP/2 until its end.
async fn talk(hall: Hall, stream: Stream, mut peer: Peer, place: Place, session: String, start: Instant) {
    // A renewal is bound to its connection (S-35).
    peer.channel_binding = stream.channel_binding();
    let crew = Crew::default();
    let calls = Arc::new(Calls::new(hall, Arc::new(peer), session, start, crew.clone()));
    crew.clone().run(converse(calls, stream, place, crew)).await;
}

async fn converse(calls: Arc<Calls>, stream: Stream, place: Place, crew: Crew) {
    let calls = &calls;
    let known = calls.is_known().await;
    let most = if known || calls.may_be_first().await { CALLS } else { CALLS_OF_STRANGERS };
    let floods = Arc::new(Switch::default());
    let mut meter = Meter::new(&floods);
    let stream = Tap::new(stream, move |bytes| meter.look(bytes));
    let answering = Arc::clone(calls);
    let service = service_fn(move |request| {
        let calls = Arc::clone(&answering);
        // Boxed: the library moves it several times before it runs.
        Box::pin(async move { Ok::<_, Infallible>(calls.answer(request).await) })
    });
    let mut connection = pin!(http(most, crew).serve_connection(TokioIo::new(stream), service));
    let mut progress = calls.progress();
    let mut patience = Patience::of(calls, place);
    let mut relying = pin!(calls.rely());
    let mut stopping = calls.hall().stopping.clone();
    let mut stopped = pin!(async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    });
    let (mut draining, mut leaving) = (false, false);
    if known {
        calls.is_in();
    }
    let reason = loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                break if ended.is_ok() { EndReason::ClientClosed } else { EndReason::ClientReset };
            }
            _ = progress.changed() => {
                let now = *progress.borrow_and_update();
                floods.trust(now == Progress::In);
                patience.follow(now, calls);
            }
            never = &mut relying => match never {},
            () = calls.killed() => break EndReason::Killed,
            () = &mut stopped, if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = patience.is_up() => {
                if leaving {
                    break EndReason::Idle;
                }
                // Whoever is in the middle of something hears that the connection ends (RFC 9113 6.8).
                leaving = true;
                calls.gave_up();
                connection.as_mut().graceful_shutdown();
                patience.only(FAREWELL);
            }
        }
    };
    if floods.has_overflowed() {
        calls.note_refused(&Refusal::new(Reason::Malformed, "a flood of frames that move nothing"));
    }
    if let Some((ended, lasted)) = calls.ended(reason) {
        calls.hall().auditor.session_ended(calls.session(), &ended, lasted);
    }
}

/// The limits of S-19, with `most` calls at once.
fn http(most: u32, crew: Crew) -> http2::Builder<Crew> {
    let mut http = http2::Builder::new(crew);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(most)
        .max_header_list_size(LARGEST_HEADERS)
        // What the daemon says is passed on as it is.
        .auto_date_header(false)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    http
}

/// How long a connection may go on, and its place among those that are not let in yet (S-01, S-04).
struct Patience {
    place: Option<Place>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn of(calls: &Calls, place: Place) -> Self {
        let until = calls.start() + calls.settings().handshake_timeout;
        Self { place: Some(place), until: Some(Box::pin(sleep_until(until))) }
    }

    fn follow(&mut self, progress: Progress, calls: &Calls) {
        match progress {
            Progress::Silent => {}
            Progress::Calling => self.let_until(calls.start() + calls.settings().login_timeout),
            Progress::In => (self.place, self.until) = (None, None),
            Progress::Out => self.let_until(Instant::now() + calls.settings().login_timeout),
        }
    }

    fn only(&mut self, time: Duration) {
        self.place = None;
        self.let_until(Instant::now() + time);
    }

    fn let_until(&mut self, moment: Instant) {
        self.until = Some(Box::pin(sleep_until(moment)));
    }

    /// Ends when the time is up, or the place was given to somebody else.
    async fn is_up(&mut self) {
        let timer = async {
            match &mut self.until {
                Some(timer) => timer.as_mut().await,
                None => pending().await,
            }
        };
        let given_up = async {
            match &self.place {
                Some(place) => place.given_up().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = timer => {}
            () = given_up => {}
        }
    }
}

/// Calls at once on a connection whose certificate was accepted when it started, or may be the first.
const CALLS: u32 = 2000;
/// Calls at once on every other connection, also after its certificate was accepted: HTTP/2 would let a
/// server say another number at any time (RFC 9113 6.5.3), but h2 0.4 takes it for the handshake alone, and
/// refuses streams beyond the first one. The client's next connection has the other limit.
const CALLS_OF_STRANGERS: u32 = 100;
/// Decoded bytes of a call's headers, over all of its frames.
const LARGEST_HEADERS: u32 = 16 * 1024;
/// Streams that were reset before they were looked at; more end the connection (rapid reset).
const RESETS: usize = 20;
/// What may be under way to the daemon in one call: back-pressure (S-86).
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same in all calls of a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What may wait in one call for a client that does not read.
const SEND_BUFFER: usize = 256 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// How long a client that is asked to leave may take to do so.
const FAREWELL: Duration = Duration::from_millis(500);
