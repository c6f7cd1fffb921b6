//! One socket of the gateway: accepts, lets in or turns away, and hands over.
//!
//! It is one file because what a client meets from its arrival to its session's end, and what a reload may change
//! of that meanwhile, has to be read together.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt as _},
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout_at},
};
use tracing::{debug, info, warn};

use super::{
    Crowd, Place, Quota,
    audit::{Auditor, Decision},
    drive::{Acceptor, Admitted, Met, Speech, Turned, XpraClient, adopt},
    handover::{self, Control, Ended},
    rpc::{self, Hall},
    sessions::{Entry, Sessions},
    trusting::{Guard, Reliance},
};
use crate::{
    Grant, Peer, Refusal,
    backend::{self, Backend, BackendError, Opened, SessionFacts},
    config::Protocol,
    proto::{error::Reason, peer::Origin, stay::Stays},
    source::hex,
    transport::{Listener, SESSION_GREETING, Stream, UnixOptions},
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
                    let (inside, place, mut door) =
                        (Arc::clone(&host.inside), crowd.enter(&peer, host.quota), sessions.subscribe());
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

/// A client that was let in, and its daemon.
struct Entered {
    client: Stream,
    daemon: Opened,
    /// What the client was known by, if it showed one.
    certificate: Option<[u8; 32]>,
    /// What is kept open for it until it has left.
    stays: Stays,
    /// By which it is watched and ended.
    control: Arc<Control>,
    /// Its place among those that are inside.
    entry: Entry,
}

/// A door without its listener: what each of its connections needs.
struct Inside {
    name: String,
    acceptor: Acceptor,
    backend: Arc<Backend>,
    warning: Option<String>,
    reliance: Option<Reliance>,
    auditor: Auditor,
    sessions: Arc<Sessions>,
    stopping: watch::Receiver<bool>,
}

impl Inside {
    /// The first client has come, or everything was forgotten. A socket that stays as it was refuses
    /// too many, never lets in too many: the next start makes it right.
    fn set_mode(&self, listener: &Listener, mode: u32) {
        match listener.set_mode(mode) {
            Ok(()) => info!(socket = self.name, "the socket's mode is {mode:o} now"),
            Err(error) => warn!(socket = self.name, "the socket's mode cannot be set to {mode:o}: {error}"),
        }
    }

    /// One connection, from accept to its end.
    async fn receive(&self, stream: Stream, peer: Peer, place: Place) {
        let session = session_id();
        self.auditor.connection();
        if let Some(warning) = &self.warning {
            warn!(socket = self.name, peer = %peer, "{warning}");
        }
        if self.acceptor.protocol() == Protocol::Rpc {
            return Box::pin(rpc::serve(self.hall(), stream, peer, place, session)).await;
        }
        // The state of a login is larger than that of a session and gone when the session starts, as are the
        // grant and the client's hello.
        let Some(entered) = Box::pin(self.enter(stream, peer, place, &session)).await else { return };
        let since = Instant::now();
        let ended = self.pass_on(entered).await;
        self.auditor.session_ended(&session, &ended, since.elapsed());
    }

    /// From the first byte to an open daemon. `None` where there is no session: the client was turned away or
    /// only asked something, or the daemon could not be reached.
    async fn enter(&self, stream: Stream, peer: Peer, place: Place, session: &str) -> Option<Entered> {
        let start = Instant::now();
        let met = {
            let mut login = pin!(self.acceptor.meet(stream, peer.clone()));
            tokio::select! {
                biased;
                met = &mut login => met,
                () = place.given_up() => {
                    let cause = "too many are logging in: its place went to another";
                    let refusal = Refusal::new(Reason::Busy, cause);
                    Err(Turned { refusal, peer: Arc::new(peer), username: None })
                }
            }
        };
        match met {
            Ok(Met::Enrolling(stream, peer)) => {
                Box::pin(rpc::enrol(self.hall(), stream, peer, place, session.to_owned(), start)).await;
                None
            }
            Ok(Met::Admitted(admitted)) => {
                drop(place);
                let decision = Decision::accepted(&self.name, session, &admitted.grant, start.elapsed());
                if let Err(refusal) = self.auditor.accepted(&decision).await {
                    dismiss(admitted, &refusal).await;
                    return None;
                }
                let certificate = admitted.grant.peer().certificate.as_ref().map(|shown| shown.fingerprint);
                let stays = admitted.grant.stays();
                let control = Arc::new(Control::new());
                let (grant, over) = (&admitted.grant, transport(admitted.grant.peer(), &admitted.stream));
                let entry =
                    self.sessions.enter(session, &self.name, grant, over, Arc::<Control>::clone(&control));
                let (client, daemon) = self.prepare(admitted, session).await?;
                Some(Entered { client, daemon, certificate, stays, control, entry })
            }
            Err(turned) => {
                let links = self.acceptor.chain().links().len();
                let decision = Decision::refused(&self.name, session, &turned, links, start.elapsed());
                self.auditor.refused(&decision);
                None
            }
        }
    }

    fn hall(&self) -> Hall {
        Hall {
            name: self.name.as_str().into(),
            acceptor: self.acceptor.clone(),
            backend: Arc::clone(&self.backend),
            reliance: self.reliance.clone(),
            auditor: self.auditor.clone(),
            sessions: Arc::clone(&self.sessions),
            stopping: self.stopping.clone(),
        }
    }

    /// Passes the bytes of a session on until its end. A certificate that is taken back ends it, and so does
    /// the end of what a module keeps open for it, which is closed when client and daemon are gone.
    async fn pass_on(&self, entered: Entered) -> Ended {
        let Entered { client, daemon, certificate, stays, control, entry: _entry } = entered;
        let mut session = pin!(relay(client, daemon, &control));
        tokio::select! {
            ended = &mut session => return ended,
            () = self.taken_back(certificate) => {}
            () = stays.over() => {
                info!(socket = self.name, "what a module kept open for a client has ended: so does its session");
            }
        }
        control.kill();
        session.await
    }

    /// Opens the daemon for a client and says to both what is due before the bytes are theirs.
    async fn prepare(&self, admitted: Admitted, session: &str) -> Option<(Stream, Opened)> {
        let Admitted { grant, stream, speech } = admitted;
        let facts = SessionFacts::new(session, transport(grant.peer(), &stream));
        match speech {
            Speech::Silent => match self.backend.open(&grant, &facts).await {
                Ok(opened) => Some((stream, opened)),
                Err(error) => {
                    self.unreachable(&error);
                    None
                }
            },
            Speech::Xpra(client) => self.prepare_xpra(grant, stream, *client, &facts).await,
        }
    }

    async fn prepare_xpra(
        &self,
        grant: Grant,
        mut stream: Stream,
        mut client: XpraClient,
        facts: &SessionFacts,
    ) -> Option<(Stream, Opened)> {
        let packets = self.backend.wants_xpra_hello();
        if client.hello().requests("info") && (client.wants_bytes() || !packets) {
            // Whoever asks what there is, where no Xpra server is to tell, is told who it is.
            client.answer_info(stream, &backend::facts_of(&grant, facts)).await;
            return None;
        }
        if client.hello().requests(REGISTER) && (self.backend.takes_daemons() || !packets) {
            return Box::pin(self.take_daemon(&grant, stream, &client)).await;
        }
        if !packets && !client.wants_bytes() {
            let reason = "the daemon behind this gateway is no xpra server: use `countersign connect`";
            client.dismiss(stream, &["session not found error", reason]).await;
            return None;
        }
        let opened = match self.open_for_xpra(&grant, &client, &mut stream, facts).await {
            Ok(opened) => opened,
            Err(error) => {
                self.unreachable(&error);
                client.dismiss(stream, &[error.reason(), &error.to_string()]).await;
                return None;
            }
        };
        if !packets && let Err(error) = client.welcome(&mut stream).await {
            debug!(socket = self.name, "the session ended before it began: {error}");
            return None;
        }
        Some((stream, opened))
    }

    /// Lets a daemon that has dialled in wait until a client wants it. What then runs between the two is a session
    /// like any other, in which the daemon is at the client's place.
    async fn take_daemon(
        &self,
        grant: &Grant,
        mut stream: Stream,
        client: &XpraClient,
    ) -> Option<(Stream, Opened)> {
        let registered = match self.backend.takes_daemons() && client.wants_bytes() {
            true => self.backend.register(grant).await.map_err(|error| error.to_string()),
            false if client.wants_bytes() => Err("no daemon can register behind this socket".to_owned()),
            false => Err("use `countersign connect --register` to register a daemon".to_owned()),
        };
        let mut registered = match registered {
            Ok(registered) => registered,
            Err(reason) => {
                client.dismiss(stream, &["session not found error", &reason]).await;
                return None;
            }
        };
        if let Err(error) = client.registered(&mut stream).await {
            debug!(socket = self.name, "a daemon left before it was registered: {error}");
            return None;
        }
        let user = grant.identity().map(|identity| identity.name.to_string()).unwrap_or_default();
        info!(socket = self.name, user, "a daemon has dialled in and waits for clients");
        let certificate = grant.peer().certificate.as_ref().map(|shown| shown.fingerprint);
        let stays = grant.stays();
        let (mut unasked, mut stopping) = ([0; 1], self.stopping.clone());
        let (opened, why) = tokio::select! {
            biased;
            _ = stream.read(&mut unasked) => (None, "it left, or spoke unasked"),
            () = self.taken_back(certificate) => (None, "its certificate was taken back"),
            () = stays.over() => (None, "what a module kept open for it has ended"),
            _ = stopping.wait_for(|stopping| *stopping) => (None, "the gateway ends, or has read its configuration again"),
            opened = registered.called() => (opened, "nobody can come any more"),
        };
        let Some(opened) = opened else {
            info!(socket = self.name, user, "a daemon that dialled in waits no more: {why}");
            return None;
        };
        // A daemon that does not take it is gone, and so is its client's session.
        let greeted = async {
            stream.write_all(SESSION_GREETING).await?;
            stream.flush().await
        };
        greeted.await.ok().map(|()| (stream, opened))
    }

    /// Ends when the certificate that a client was let in by counts no more; never, where none did.
    async fn taken_back(&self, certificate: Option<[u8; 32]>) {
        match self.reliance.as_ref().zip(certificate) {
            Some((reliance, certificate)) => reliance.lost(certificate).await,
            None => pending().await,
        }
    }

    /// Opens the daemon; an Xpra server is told the client's hello and must begin to answer.
    async fn open_for_xpra(
        &self,
        grant: &Grant,
        client: &XpraClient,
        stream: &mut Stream,
        facts: &SessionFacts,
    ) -> Result<Opened, BackendError> {
        let deadline = Instant::now() + self.backend.patience();
        let mut opened = self.backend.open(grant, facts).await?;
        if self.backend.wants_xpra_hello() {
            // S-86: a daemon that accepts and does not read, or has no answer, is as good as none. Connecting counts.
            let introduced = timeout_at(deadline.into(), introduce(client, stream, &mut opened.stream)).await;
            introduced.unwrap_or_else(|late| Err(late.into()))?;
        }
        Ok(opened)
    }

    fn unreachable(&self, error: &BackendError) {
        warn!(socket = self.name, "the daemon behind cannot be reached: {}", error.cause().escape_debug());
    }
}

/// Ends the connection of a client that passed its chain and is not let in.
async fn dismiss(Admitted { stream, speech, .. }: Admitted, refusal: &Refusal) {
    match speech {
        Speech::Silent => drop(stream),
        Speech::Xpra(client) => client.dismiss(stream, &[refusal.public()]).await,
    }
}

/// Says the client's hello to an Xpra server and waits for the beginning of its answer, which stays
/// unread. Until then the client is told of whatever goes wrong; afterwards the stream is the server's.
async fn introduce(client: &XpraClient, stream: &mut Stream, server: &mut Stream) -> std::io::Result<()> {
    client.forward(server).await?;
    if client.begins_session() {
        adopt(stream, server).await?;
    }
    if !server.pending().is_empty() {
        return Ok(());
    }
    let mut answer = Vec::with_capacity(FIRST_ANSWER);
    if server.read_buf(&mut answer).await? == 0 {
        return Err(std::io::Error::other("it closed the connection instead of an answer to the hello"));
    }
    server.unread(answer);
    Ok(())
}

/// The mode that a socket shall have from now on. Never, where nobody can be first.
async fn another_mode(guard: &mut Option<Guard>) -> u32 {
    match guard {
        Some(guard) => guard.changed().await,
        None => pending().await,
    }
}

/// Passes the bytes on until the end; a program that serves the session lives as long.
async fn relay(client: Stream, opened: Opened, control: &Control) -> Ended {
    let (stream, _daemon) = opened.into_parts();
    handover::relay(client, stream, None, control).await
}

/// What the client came over, in a word.
fn transport(peer: &Peer, stream: &Stream) -> &'static str {
    match (&peer.tls, peer.address()) {
        (Some(_), _) if stream.is_websocket() => "wss",
        (None, _) if stream.is_websocket() => "ws",
        (Some(_), _) => "tls",
        (None, Some(_)) if peer.ssh => "ssh",
        (None, Some(_)) => "tcp",
        (None, None) if matches!(peer.origin, Origin::Vsock { .. }) => "vsock",
        (None, None) => "unix",
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

/// 64 random bits: joins the records of one connection, and tells nobody anything else.
fn session_id() -> String {
    let mut bytes = [0; 8];
    super::drive::random(&mut bytes);
    hex(&bytes)
}

/// What a daemon that dials in asks for in place of a session, as Xpra's servers do from 6.6 on.
const REGISTER: &str = "register";

/// Room for the beginning of an answer.
const FIRST_ANSWER: usize = 4096;

/// How long the gateway leaves a socket alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
