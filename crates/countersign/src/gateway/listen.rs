//! One socket of the gateway: accepts, lets in or turns away, and hands over.
//!
//! What a client meets that came in is in `connection.rs`.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tracing::warn;

use super::{
    Crowd, Quota,
    audit::Auditor,
    connection::Inside,
    drive::Acceptor,
    sessions::Sessions,
    trusting::{Guard, Reliance},
};
use crate::{
    backend::Backend,
    transport::{Listener, UnixOptions},
};

/// A listening socket with all that its clients need.
#[derive(Debug)]
#[non_exhaustive]
pub struct Door {
    /// Where clients arrive.
    pub listener: Listener,
    pub(super) terms: Terms,
}

/// On which terms a client is let in at a door, and to what. A reload brings others.
#[derive(Debug)]
pub(super) struct Terms {
    /// The socket as logs name it.
    pub(super) name: String,
    /// Who is let in, and how that is found out.
    pub(super) acceptor: Acceptor,
    /// The daemon behind.
    pub(super) backend: Arc<Backend>,
    /// Said for every connection, where the chain lets in strangers (S-67).
    pub(super) warning: Option<String>,
    pub(super) quota: Option<Quota>,
    pub(super) guard: Option<Guard>,
    pub(super) reliance: Option<Reliance>,
    pub(super) auditor: Auditor,
    pub(super) sessions: Arc<Sessions>,
}

/// What the gateway says to a door that is served.
#[derive(Debug)]
pub(super) enum Word {
    /// Other terms for whoever comes from now on, and other options of its file. Whoever is inside stays.
    Become(Box<Terms>, UnixOptions, oneshot::Sender<()>),
    /// Whether its clients still find it. Only a loop that goes round answers.
    Ping(oneshot::Sender<bool>),
    /// It is not wanted any more: nobody comes in, and whoever is inside stays. The answer is that its address is
    /// free.
    Close(oneshot::Sender<()>),
}

impl Door {
    /// A door from its parts.
    pub fn new(name: String, listener: Listener, acceptor: Acceptor, backend: Arc<Backend>) -> Self {
        let auditor = Auditor::default();
        let (warning, quota, guard, reliance) = (None, None, None, None);
        let sessions = Arc::default();
        let terms = Terms { name, acceptor, backend, warning, quota, guard, reliance, auditor, sessions };
        Self { listener, terms }
    }

    /// The socket as logs name it.
    pub fn name(&self) -> &str {
        &self.terms.name
    }

    /// The same door, with records of its decisions.
    #[must_use]
    pub fn recorded_by(mut self, auditor: Auditor) -> Self {
        self.terms.auditor = auditor;
        self
    }

    /// The same door, with a warning for each connection.
    #[must_use]
    pub fn with_warning(mut self, warning: Option<String>) -> Self {
        self.terms.warning = warning;
        self
    }

    /// The same door, with a number of clients of its own that may be logging in (S-04).
    #[must_use]
    pub fn with_quota(mut self, quota: Option<Quota>) -> Self {
        self.terms.quota = quota;
        self
    }

    /// Accepts until `stop`, then lets the sessions that run go on until `cut`, and says how many
    /// were cut.
    ///
    /// Each login has a place in the `crowd` until it is decided (S-04).
    pub async fn serve(
        self,
        crowd: Arc<Crowd>,
        stop: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> usize {
        self.serve_told(crowd, mpsc::channel(1).1, stop, cut).await
    }

    /// The same, and does what it is told meanwhile.
    pub(super) async fn serve_told(
        self,
        crowd: Arc<Crowd>,
        mut words: mpsc::Receiver<Word>,
        stop: impl Future<Output = ()>,
        cut: impl Future<Output = ()>,
    ) -> usize {
        let Self { listener, terms } = self;
        let mut host = Host::new(terms);
        let sessions = watch::Sender::new(());
        let mut closed: Option<oneshot::Sender<()>> = None;
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(word) = words.recv() => match word {
                    Word::Become(terms, options, done) => {
                        host.become_on(&listener, *terms, &options);
                        let _ = done.send(());
                        continue;
                    }
                    Word::Ping(answer) => {
                        let _ = answer.send(listener.is_there());
                        continue;
                    }
                    Word::Close(done) => {
                        closed = Some(done);
                        break;
                    }
                },
                mode = another_mode(&mut host.guard) => {
                    host.inside.set_mode(&listener, mode);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let peer = host.inside.acceptor.recognised(peer);
                    let (inside, mut place, mut door) =
                        (Arc::clone(&host.inside), crowd.enter(&peer, host.quota), sessions.subscribe());
                    let vacated = place.vacated();
                    // Nobody waits for a session to end: what it held is given back at once (S-02). Its state
                    // is boxed because the runtime copies that of a task several times.
                    tokio::spawn(async move {
                        let connection = Box::pin(inside.receive(stream, peer, place));
                        tokio::select! {
                            biased;
                            () = connection => {}
                            // Cut, or the door is gone.
                            _ = door.changed() => {}
                        }
                    });
                    vacated.await;
                }
                Err(error) => {
                    // S-05: out of descriptors, for example. Waiting is what lets some be freed.
                    warn!(socket = host.inside.name, "cannot accept a connection for now: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Whoever comes now is turned away by the kernel instead of waiting in a queue that nobody
        // serves, and another gateway may take the address (S-97).
        drop(listener);
        if let Some(done) = closed {
            // Whoever waits for that may be gone.
            let _ = done.send(());
        }
        host.stopping.send_replace(true);
        drain(sessions, cut).await
    }
}

/// The terms of a door while it is served.
struct Host {
    inside: Arc<Inside>,
    quota: Option<Quota>,
    guard: Option<Guard>,
    /// Turns true when those who came on these terms shall begin nothing new.
    stopping: watch::Sender<bool>,
}

impl Host {
    fn new(terms: Terms) -> Self {
        let Terms { name, acceptor, backend, warning, quota, guard, reliance, auditor, sessions } = terms;
        let (stopping, asked) = watch::channel(false);
        let inside =
            Inside { name, acceptor, backend, warning, reliance, auditor, sessions, stopping: asked };
        Self { inside: Arc::new(inside), quota, guard, stopping }
    }

    /// New terms. Calls of HTTP/2 are judged by those that were in force when their connection came, so such
    /// connections begin no more of them, and their clients come again (S-96).
    fn become_on(&mut self, listener: &Listener, terms: Terms, options: &UnixOptions) {
        let next = Self::new(terms);
        if let Err(error) = listener.permit(options) {
            warn!(socket = next.inside.name, "the socket's file cannot be given its new options: {error}");
        }
        std::mem::replace(self, next).stopping.send_replace(true);
    }
}

/// The mode that a socket shall have from now on. Never, where nobody can be first.
async fn another_mode(guard: &mut Option<Guard>) -> u32 {
    match guard {
        Some(guard) => guard.changed().await,
        None => pending().await,
    }
}

/// Waits for the sessions to end; cuts those that run when `cut` comes, and counts them.
///
/// Each session holds a receiver of the channel; what is sent on it cuts them.
async fn drain(sessions: watch::Sender<()>, cut: impl Future<Output = ()>) -> usize {
    tokio::select! {
        () = sessions.closed() => 0,
        () = cut => {
            let left = sessions.receiver_count();
            sessions.send_replace(());
            sessions.closed().await;
            left
        }
    }
}

/// How long the gateway leaves a socket alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
