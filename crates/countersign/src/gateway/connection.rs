//! One connection: a client from its arrival to the end of its session.
//!
//! A [`Door`](super::Door) calls it for each client that it accepts, on the terms that are in force then.

use std::{future::pending, pin::pin, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt as _},
    sync::watch,
    time::timeout_at,
};
use tracing::{debug, info, warn};

use super::{
    Place,
    audit::{Auditor, Decision},
    drive::{Acceptor, Admitted, Met, Speech, Turned, XpraClient, adopt, now, session_id},
    handover::{self, Control, Ended},
    rpc::{self, Hall},
    sessions::{Entry, Sessions},
    trusting::Reliance,
};
use crate::{
    Grant, Peer, Refusal,
    backend::{self, Backend, BackendError, Opened, SessionFacts},
    config::Protocol,
    proto::{error::Reason, peer::Origin, stay::Stays},
    transport::{Listener, SESSION_GREETING, Stream},
};

/// A door without its listener: what each of its connections needs.
pub(super) struct Inside {
    pub(super) name: String,
    pub(super) acceptor: Acceptor,
    pub(super) backend: Arc<Backend>,
    pub(super) warning: Option<String>,
    pub(super) reliance: Option<Reliance>,
    pub(super) auditor: Auditor,
    pub(super) sessions: Arc<Sessions>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Inside {
    /// The first client has come, or everything was forgotten. A socket that stays as it was refuses
    /// too many, never lets in too many: the next start makes it right.
    pub(super) fn set_mode(&self, listener: &Listener, mode: u32) {
        match listener.set_mode(mode) {
            Ok(()) => info!(socket = self.name, "the socket's mode is {mode:o} now"),
            Err(error) => warn!(socket = self.name, "the socket's mode cannot be set to {mode:o}: {error}"),
        }
    }

    /// One connection, from accept to its end.
    pub(super) async fn receive(&self, mut stream: Stream, mut peer: Peer, mut place: Place) {
        let (start, session) = (now(), session_id());
        let _open = self.auditor.connection();
        if self.acceptor.is_behind_hops() {
            let announced = Box::pin(self.announced(&mut stream, peer, &place, (start, &session)));
            let Some(announced) = announced.await else { return };
            // From here on everything counts for whoever is announced.
            (peer, place) = (announced.clone(), place.pass_to(&announced));
        }
        if let Some(warning) = &self.warning {
            warn!(socket = self.name, peer = %peer, "{warning}");
        }
        if self.acceptor.protocol() == Protocol::Rpc {
            return Box::pin(rpc::serve(self.hall(), stream, peer, place, session, start)).await;
        }
        // The state of a login is larger than that of a session and gone when the session starts, as are the
        // grant and the client's hello.
        let Some(entered) = Box::pin(self.enter(stream, peer, place, (start, &session))).await else {
            return;
        };
        let since = Instant::now();
        let ended = Box::pin(self.pass_on(entered)).await;
        self.auditor.session_ended(&session, &ended, since.elapsed());
    }

    /// From the first byte to an open daemon. `None` where there is no session: the client was turned away or
    /// only asked something, or the daemon could not be reached.
    async fn enter(
        &self,
        stream: Stream,
        peer: Peer,
        place: Place,
        (start, session): (Instant, &str),
    ) -> Option<Entered> {
        let met = {
            let mut login = pin!(self.acceptor.meet(stream, peer.clone(), (start, session)));
            tokio::select! {
                biased;
                met = &mut login => met,
                () = place.given_up() => Err(crowded_out(peer)),
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
                let (client, daemon) = tokio::select! {
                    biased;
                    () = control.killed() => {
                        info!(socket = self.name, session, "a session was ended before it had begun");
                        return None;
                    }
                    prepared = Box::pin(self.prepare(admitted, session)) => prepared?,
                };
                Some(Entered { client, daemon, certificate, stays, control, entry })
            }
            Err(turned) => {
                self.turned_away(&turned, session, start);
                None
            }
        }
    }

    /// The client that a hop announces (S-83). `None`: it was turned away.
    async fn announced(
        &self,
        stream: &mut Stream,
        peer: Peer,
        place: &Place,
        (start, session): (Instant, &str),
    ) -> Option<Peer> {
        let announced = tokio::select! {
            biased;
            announced = self.acceptor.announced(stream, peer.clone(), start) => announced,
            () = place.given_up() => Err(crowded_out(peer)),
        };
        announced.inspect_err(|turned| self.turned_away(turned, session, start)).ok()
    }

    fn turned_away(&self, turned: &Turned, session: &str, start: Instant) {
        if turned.is_probe() {
            debug!(socket = self.name, "a hop has looked whether somebody is there");
            return;
        }
        let links = self.acceptor.chain().links().len();
        self.auditor.refused(&Decision::refused(&self.name, session, turned, links, start.elapsed()));
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

fn crowded_out(peer: Peer) -> Turned {
    let refusal = Refusal::new(Reason::Busy, "too many are logging in: its place went to another");
    Turned { refusal, peer: Arc::new(peer), username: None }
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

/// What a daemon that dials in asks for in place of a session, as Xpra's servers do from 6.6 on.
const REGISTER: &str = "register";

/// Room for the beginning of an answer.
const FIRST_ANSWER: usize = 4096;
