//! The calls of one connection: each is judged, then answered here or passed on.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use hyper::{
    Request, Response,
    body::Incoming,
    header::{HeaderName, HeaderValue},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::OwnedNotified, watch},
    time::{Duration, Instant},
};

use super::{
    Hall,
    answer::{Answer, lost, refused},
    crew::Crew,
    enrol,
    link::Link,
    pass,
};
use crate::{
    Grant, Identity, Peer, Refusal,
    backend::SessionFacts,
    gateway::{
        audit::Decision,
        drive::Turned,
        handover::{EndReason, Ended},
        sessions::{self, Entry},
    },
    proto::{
        chain::Proof,
        error::Reason,
        server::Settings,
        stay::Stays,
        wire::multipass::{Code, Status, path},
    },
    trust::{EnrolError, Standing},
};

/// One connection as its calls see it.
#[derive(Debug)]
pub(super) struct Calls {
    hall: Hall,
    peer: Arc<Peer>,
    facts: SessionFacts,
    start: Instant,
    link: Link,
    progress: watch::Sender<Progress>,
    /// Told when the certificate is accepted no more.
    lost: Arc<Notify>,
    traffic: Arc<Traffic>,
    /// When the first call was accepted.
    since: Mutex<Option<Instant>>,
    /// Whether a refusal was recorded since the last call that was accepted.
    refused: AtomicBool,
    introduction: Mutex<Option<Introduction>>,
    /// Its place among those that are inside, from the first call that is accepted.
    entry: Mutex<Option<Entry>>,
}

/// What the daemon is told of a client, for as long as it stays the same.
#[derive(Debug)]
struct Introduction {
    identity: Option<Identity>,
    proofs: Vec<Proof>,
    metadata: Arc<[(HeaderName, HeaderValue)]>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// No call has come.
    Silent,
    /// Calls have come, and none was accepted.
    Calling,
    /// Its calls are accepted.
    In,
    /// They were, and are no more.
    Out,
}

/// Bytes of messages that were passed on, and the end that the owner may put to them.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) to_backend: AtomicU64,
    pub(super) to_client: AtomicU64,
    killed: Notify,
}

impl sessions::Traffic for Traffic {
    fn moved(&self) -> (u64, u64) {
        (self.to_backend.load(Ordering::Relaxed), self.to_client.load(Ordering::Relaxed))
    }

    fn kill(&self) {
        self.killed.notify_one();
    }
}

impl Calls {
    pub(super) fn new(hall: Hall, peer: Arc<Peer>, session: String, start: Instant, crew: Crew) -> Self {
        Self {
            link: Link::new(Arc::clone(&hall.backend), crew),
            hall,
            peer,
            facts: SessionFacts::new(session, "rpc"),
            start,
            progress: watch::Sender::new(Progress::Silent),
            lost: Arc::default(),
            traffic: Arc::default(),
            since: Mutex::default(),
            refused: AtomicBool::new(false),
            introduction: Mutex::default(),
            entry: Mutex::default(),
        }
    }

    pub(super) fn hall(&self) -> &Hall {
        &self.hall
    }

    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    pub(super) fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    pub(super) fn session(&self) -> &str {
        &self.facts.id
    }

    /// Who is there, as metadata.
    pub(super) fn metadata(&self, grant: &Grant) -> Arc<[(HeaderName, HeaderValue)]> {
        let mut introduction = self.introduction.lock();
        let same = |known: &&Introduction| {
            known.identity.as_ref() == grant.identity() && known.proofs == grant.proofs()
        };
        if let Some(known) = introduction.as_ref().filter(same) {
            return Arc::clone(&known.metadata);
        }
        let metadata: Arc<[_]> = pass::metadata(grant, &self.facts).collect();
        let (identity, proofs) = (grant.identity().cloned(), grant.proofs().to_vec());
        *introduction = Some(Introduction { identity, proofs, metadata: Arc::clone(&metadata) });
        metadata
    }

    /// Ends when the owner ends the session.
    pub(super) async fn killed(&self) {
        self.traffic.killed.notified().await;
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    pub(super) fn settings(&self) -> &Settings {
        self.hall.acceptor.settings()
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Answers a call. A refusal says by what its records are found (S-93): random digits, the same for all calls of a
    /// connection and no secret.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let mut response = self.answered(request).await;
        if let (Answer::Empty, Ok(session)) = (response.body(), HeaderValue::from_str(self.session())) {
            let name = HeaderName::from_static(Status::SESSION_HEADER);
            response.headers_mut().insert(name, session);
        }
        response
    }

    async fn answered(&self, request: Request<Incoming>) -> Response<Answer> {
        match request.uri().path() {
            // Boxed, so that the state of every call is not as large as that of the rare ones.
            path::AUTHENTICATE => Box::pin(enrol::authenticate(self, request)).await,
            path::RENEW => Box::pin(enrol::renew(self, request)).await,
            _ => self.judge(request).await,
        }
    }

    /// Judges a call, with the store of this moment and before any message of it is read.
    async fn judge(&self, request: Request<Incoming>) -> Response<Answer> {
        self.begun();
        // Before the judgement: what is taken back after it ends this call too.
        let live = self.live();
        let pings = request.uri().path() == path::PING;
        match if pings { self.ask_without_taking().await } else { self.ask().await } {
            Err(refusal) if pings => refused(&Status::new(self.status(&refusal).code, "")),
            Err(refusal) => refused(&Box::pin(self.explained(&refusal)).await),
            Ok(grant) => {
                let live = live.with(grant.stays());
                match request.uri().path() {
                    path::GET | path::SET => Box::pin(enrol::setting(self, &grant, request, live)).await,
                    _ => pass::on(self, &grant, request, Vec::new(), live).await,
                }
            }
        }
    }

    /// Asks the chain about this client, which may make it the first one, and notes the answer.
    async fn ask(&self) -> Result<Grant, Refusal> {
        let judged = self.hall.acceptor.judge(&self.peer).await;
        let judged = match judged {
            Ok(grant) => self.note_accepted(&grant).await.map(|()| grant),
            refused => refused,
        };
        judged.inspect_err(|refusal| self.note_refused(refusal))
    }

    /// The same, but nobody becomes the first client by it (M6: `ping` never does).
    async fn ask_without_taking(&self) -> Result<Grant, Refusal> {
        if self.is_first_place_free() { self.ask_as_stranger().await } else { self.ask().await }
    }

    /// What the chain says to this client without its certificate.
    pub(super) async fn ask_as_stranger(&self) -> Result<Grant, Refusal> {
        let mut stranger = Peer::clone(&self.peer);
        stranger.certificate = None;
        self.hall.acceptor.judge(&Arc::new(stranger)).await
    }

    /// Whether the client would be let in as it connects. Nothing is noted.
    pub(super) async fn is_known(&self) -> bool {
        !self.is_first_place_free() && self.hall.acceptor.judge(&self.peer).await.is_ok()
    }

    /// Whether it would be let in by its next call, as the first client.
    pub(super) async fn may_be_first(&self) -> bool {
        match &self.hall.reliance {
            Some(reliance) => reliance.may_be_first(&self.peer).await,
            None => false,
        }
    }

    /// It is let in whatever it calls: nobody waits for a call to find that out.
    pub(super) fn is_in(&self) {
        self.progress.send_replace(Progress::In);
    }

    /// Ends the calls of a certificate that is accepted no more, whenever that happens (S-40).
    pub(super) async fn rely(&self) -> Infallible {
        let certificate = self.peer.certificate.as_ref().map(|certificate| certificate.fingerprint);
        let (Some(reliance), Some(certificate)) = (&self.hall.reliance, certificate) else {
            return pending().await;
        };
        let mut progress = self.progress();
        loop {
            // The sender is ours.
            let _ = progress.wait_for(|progress| *progress == Progress::In).await;
            reliance.lost(certificate).await;
            self.note_refused(&Refusal::new(
                Reason::PeerDenied,
                "the certificate was accepted and is no more",
            ));
        }
    }

    /// A call of the client is complete as far as it matters: its first message is read, or none is wanted.
    pub(super) fn begun(&self) {
        self.progress.send_if_modified(|progress| {
            let first = *progress == Progress::Silent;
            if first {
                *progress = Progress::Calling;
            }
            first
        });
    }

    /// The client was asked to leave because its time is up.
    pub(super) fn gave_up(&self) {
        if self.since.lock().is_none() {
            self.note_refused(&Refusal::new(Reason::Timeout, "no call of it was accepted in time"));
        }
    }

    /// What there is to be recorded at the end: nothing, if no call was accepted.
    pub(super) fn ended(&self, reason: EndReason) -> Option<(Ended, Duration)> {
        let since = (*self.since.lock())?;
        let count = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        let (to_backend, to_client) = (count(&self.traffic.to_backend), count(&self.traffic.to_client));
        Some((Ended { reason, to_backend, to_client }, since.elapsed()))
    }

    /// Recorded once for a connection, and again after each refusal. A call that must be recorded and cannot be is
    /// refused (S-93).
    async fn note_accepted(&self, grant: &Grant) -> Result<(), Refusal> {
        if *self.progress.borrow() == Progress::In && self.since.lock().is_some() {
            return Ok(());
        }
        let decision = Decision::accepted(&self.hall.name, self.session(), grant, self.start.elapsed());
        self.hall.auditor.accepted(&decision).await?;
        self.since.lock().get_or_insert_with(Instant::now);
        self.entry.lock().get_or_insert_with(|| {
            let traffic = Arc::<Traffic>::clone(&self.traffic);
            self.hall.sessions.enter(self.session(), &self.hall.name, grant, "rpc", traffic)
        });
        self.refused.store(false, Ordering::Relaxed);
        self.progress.send_if_modified(|progress| std::mem::replace(progress, Progress::In) != Progress::In);
        Ok(())
    }

    /// Recorded once until a call is accepted again, so that no stranger fills the log.
    pub(super) fn note_refused(&self, refusal: &Refusal) {
        let was_in = self.progress.send_if_modified(|progress| {
            let was_in = *progress == Progress::In;
            if was_in {
                *progress = Progress::Out;
            }
            was_in
        });
        if was_in {
            self.link.close();
            self.lost.notify_waiters();
        }
        if !self.refused.swap(true, Ordering::Relaxed) {
            self.hall.count(&self.peer, refusal);
            self.record_refusal(refusal.clone());
        }
    }

    pub(super) fn record_refusal(&self, refusal: Refusal) {
        let turned = Turned { refusal, peer: Arc::clone(&self.peer), username: None };
        let links = self.hall.acceptor.chain().links().len();
        let took = self.start.elapsed();
        self.hall.auditor.refused(&Decision::refused(&self.hall.name, self.session(), &turned, links, took));
    }

    pub(super) fn live(&self) -> Live {
        let lost = self.hall.reliance.is_some().then(|| Box::pin(Arc::clone(&self.lost).notified_owned()));
        Live { lost, kept: None, traffic: Arc::clone(&self.traffic) }
    }

    fn is_first_place_free(&self) -> bool {
        self.hall
            .reliance
            .as_ref()
            .and_then(|reliance| reliance.store())
            .is_some_and(|store| store.is_pristine())
    }

    /// What a refused client is told: the code that Multipass's clients know, and the way out.
    pub(super) fn status(&self, refusal: &Refusal) -> Status {
        match refusal.reason {
            Reason::ModuleFailed | Reason::ModulePanicked => {
                Status::new(Code::Internal, "the gateway cannot decide now: the reason is in its log")
            }
            Reason::Timeout | Reason::Busy | Reason::Unrecorded => {
                Status::new(Code::Unavailable, refusal.public())
            }
            _ if !is_about_certificate(refusal) => Status::new(Code::Unauthenticated, refusal.public()),
            _ => Status::new(Code::Unauthenticated, self.way_out()),
        }
    }

    /// The same for whoever has to mend it too.
    pub(super) async fn explained(&self, refusal: &Refusal) -> Status {
        let status = self.status(refusal);
        match is_about_certificate(refusal) && status.code == Code::Unauthenticated {
            true => self.with_first(status).await,
            false => status,
        }
    }

    /// With who came first in front, where the client may know that: it may be locked out by it (M5).
    pub(super) async fn with_first(&self, status: Status) -> Status {
        let Some(reliance) = &self.hall.reliance else { return status };
        match reliance.who_was_first(&self.peer).await {
            Some(first) => Status::new(status.code, format!("{first}. {}", status.message)),
            None => status,
        }
    }

    /// How this client may come in.
    fn way_out(&self) -> String {
        let Some(certificate) = &self.peer.certificate else { return EnrolError::NoCertificate.to_string() };
        let standing = self.hall.reliance.as_ref().and_then(|reliance| reliance.store());
        match standing.map(|store| store.standing(&certificate.fingerprint)) {
            Some(Standing::Revoked) => EnrolError::Revoked.to_string(),
            Some(Standing::Accepted) => {
                "this client is not accepted on this socket: ask the owner of the machine to \
                                         widen its scope with `countersign trust restrict`"
                    .to_owned()
            }
            _ => STRANGER.to_owned(),
        }
    }
}

/// What a call that is under way depends on.
pub(super) struct Live {
    lost: Option<Pin<Box<OwnedNotified>>>,
    kept: Option<Kept>,
    traffic: Arc<Traffic>,
}

/// What modules keep open for one call, which was judged by itself: until its end.
struct Kept {
    _stays: Stays,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Live {
    /// The same for a call of a grant with these.
    fn with(mut self, stays: Stays) -> Self {
        self.kept = (!stays.is_empty()).then(|| Kept { over: Box::pin(stays.over()), _stays: stays });
        self
    }

    /// Whether the call is to end because its client is accepted no more.
    pub(super) fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        let lost = self.lost.as_mut().is_some_and(|lost| lost.as_mut().poll(cx) == Poll::Ready(()));
        lost || self.kept.as_mut().is_some_and(|kept| kept.over.as_mut().poll(cx) == Poll::Ready(()))
    }

    /// Ends when the call is to end.
    pub(super) async fn ended(&mut self) -> Response<Answer> {
        poll_fn(|cx| if self.has_ended(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        refused(&lost())
    }

    /// The client is given so many bytes.
    pub(super) fn told(&self, bytes: usize) {
        self.traffic.to_client.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("traffic", &self.traffic).finish_non_exhaustive()
    }
}

/// Whether the certificate is what a refusal is about: the links in front of it have passed.
pub(super) fn is_about_certificate(refusal: &Refusal) -> bool {
    refusal.link.is_some_and(|(_, module)| module == crate::modules::CERTIFICATE)
}

const STRANGER: &str = "this client is not accepted: authenticate with the passphrase or an invitation \
                        (`countersign authenticate`), or ask the owner of the machine";
