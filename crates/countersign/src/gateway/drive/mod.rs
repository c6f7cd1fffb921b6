//! One connection, from the first byte to a [`Grant`] or a [`Refusal`].
//!
//! An [`Acceptor`] is what a socket knows: its chain, its limits, what may be spoken on it. The
//! gateway has one for each socket; a daemon that wants no gateway has its own.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::spawn_blocking, time::timeout_at};

mod encryption;
mod hop;
mod lane;
mod packets;
mod page;
mod patience;
mod reading;
mod silent;
#[cfg(feature = "ssh")]
mod ssh;
mod starttls;
#[cfg(test)]
mod tests;
mod upgrade;

pub(super) use encryption::adopt;
pub use packets::XpraClient;
pub(super) use packets::random;

use super::tally::Tally;
use lane::Lane;
use patience::Patience;
pub(super) use patience::now;
use reading::first_bytes;

use crate::{
    Chain, Grant, Peer, Refusal,
    config::{Listed, ModuleSpec, Protocol, StartTls, WebSocketOptions},
    error::ConfigError,
    modules::{Context, Registry},
    penalties::{Penalties, Visit},
    proto::{
        error::Reason,
        server::{Check, Conversation, Settings},
        wire::detect::Detected,
    },
    source::{Source, hex},
    transport::{Encryption, Stream, tls::ServerTls},
};

/// Lets clients in by the rules of one socket.
#[derive(Clone, Debug)]
pub struct Acceptor {
    chain: Arc<Chain>,
    /// For each link, the way to it.
    lanes: Arc<[Arc<Lane>]>,
    settings: Settings,
    /// Whose PROXY headers tell where the clients are (S-83).
    hops: Option<Arc<Listed>>,
    protocol: Protocol,
    wires: Wires,
    starttls: Option<StartTls>,
    websocket: Option<WebSocketOptions>,
    #[cfg(feature = "ssh")]
    ssh: Option<Arc<ssh::SshServer>>,
    encryption: Option<Encryption>,
    penalties: Option<Arc<Penalties>>,
    /// Where it is noted how long checks take.
    tally: Option<Arc<Tally>>,
}

/// Which bytes a socket takes. The chain is the same whatever they are (S-66).
#[derive(Clone, Debug)]
enum Wires {
    Plain,
    /// TLS if the client's first byte starts it.
    Either(Arc<ServerTls>),
    /// TLS; anything else is closed without an answer (S-38).
    Tls(Arc<ServerTls>),
}

/// A client that was let in.
#[derive(Debug)]
pub struct Admitted {
    /// Who, and by what.
    pub grant: Grant,
    /// Its bytes.
    pub stream: Stream,
    /// How it talks.
    pub speech: Speech,
}

impl Admitted {
    /// The stream on which the daemon's own protocol follows: our client is told that it was let
    /// in, and a silent one knows already. What modules keep open for the client ([`Grant::stays`]) is
    /// closed with it.
    ///
    /// # Errors
    /// The connection broke, or it is an Xpra client, which wants an Xpra server: it is told so.
    pub async fn into_stream(self) -> io::Result<Stream> {
        let Self { grant, stream, speech } = self;
        let mut stream = stream.keeping(grant.stays());
        match speech {
            Speech::Silent => Ok(stream),
            Speech::Xpra(mut client) if client.wants_bytes() => {
                client.welcome(&mut stream).await?;
                Ok(stream)
            }
            Speech::Xpra(client) => {
                client.dismiss(stream, &["session not found error", "this is no xpra server"]).await;
                Err(io::Error::new(io::ErrorKind::Unsupported, "an Xpra client, and this is no Xpra server"))
            }
        }
    }
}

/// How an admitted client talks.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "each has its way to the backend")]
pub enum Speech {
    /// Its bytes are the daemon's already.
    Silent,
    /// It said a hello and awaits the answer.
    Xpra(Box<XpraClient>),
}

/// A client whose conversation begins.
struct Arrival {
    peer: Arc<Peer>,
    /// By what its records are found: in the audit trail, in the log, and here under `-d auth`.
    session: Arc<str>,
    /// When it was accepted.
    start: Instant,
    /// Where what becomes of it is counted.
    visit: Option<Arc<Visit>>,
}

/// What a client has come for.
pub(super) enum Met {
    /// It wanted in, and is.
    Admitted(Admitted),
    /// It wants its certificate to be accepted. Nothing is decided.
    Enrolling(Stream, Peer),
}

/// A client that was not let in.
#[derive(Debug)]
pub struct Turned {
    /// Why.
    pub refusal: Refusal,
    /// What the transport proved until then.
    pub peer: Arc<Peer>,
    /// The name it claimed, if it got that far. The client's own word: escape it.
    pub username: Option<String>,
}

impl Acceptor {
    /// Lets in whom `chain` lets in, in the clear, by whatever protocol the client speaks.
    pub fn new(chain: Arc<Chain>) -> Self {
        let (settings, protocol) = (Settings::default(), Protocol::default());
        let lanes = chain.links().iter().map(|link| Arc::new(Lane::new(link.verifier.at_once()))).collect();
        Self {
            chain,
            lanes,
            settings,
            hops: None,
            protocol,
            wires: Wires::Plain,
            starttls: None,
            websocket: None,
            encryption: None,
            penalties: None,
            tally: None,
            #[cfg(feature = "ssh")]
            ssh: None,
        }
    }

    /// The same for modules as they are written in `auth=`, of the builtin registry.
    ///
    /// # Errors
    /// An unknown module or option, or what a module finds wrong with its own; no module at all.
    pub fn of(modules: &[&str]) -> Result<Self, ConfigError> {
        Self::within(modules, &Context::default())
    }

    /// The same for modules that need more than their options: accepted certificates, for example.
    ///
    /// # Errors
    /// As [`Acceptor::of`].
    pub fn within(modules: &[&str], context: &Context) -> Result<Self, ConfigError> {
        let registry = Registry::builtin();
        let links = modules
            .iter()
            .map(|text| registry.link(ModuleSpec::parse(text, &registry)?.to_options(), context));
        let chain = Chain::new(links.collect::<Result<_, _>>()?)
            .map_err(|refusal| ConfigError::new("the chain", refusal.cause, "name a module"))?;
        Ok(Self::new(Arc::new(chain)))
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The same for one protocol only.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same, and TLS for clients that start it. The plain wire stays open to the others.
    #[must_use]
    pub fn offering_tls(mut self, tls: Arc<ServerTls>) -> Self {
        self.wires = Wires::Either(tls);
        self
    }

    /// The same inside TLS only.
    #[must_use]
    pub fn requiring_tls(mut self, tls: Arc<ServerTls>) -> Self {
        self.wires = Wires::Tls(tls);
        self
    }

    /// The same for clients that ask for TLS before they start it. It is for a socket that requires
    /// TLS.
    #[must_use]
    pub fn starting_tls(mut self, by: StartTls) -> Self {
        self.starttls = Some(by);
        self
    }

    /// The same, taking WebSocket. What is in the frames is judged by the same chain.
    #[must_use]
    pub fn taking_websocket(mut self, options: WebSocketOptions) -> Self {
        self.websocket = Some(options);
        self
    }

    /// The same by SSH and nothing else: its login asks what the chain asks. Clients know it by `key`.
    ///
    /// # Errors
    /// None that a caller can mend.
    #[cfg(feature = "ssh")]
    pub fn speaking_ssh(mut self, key: russh::keys::PrivateKey) -> Result<Self, ConfigError> {
        self.ssh = Some(Arc::new(ssh::SshServer::new(key)?));
        Ok(self)
    }

    /// The same for clients whose packets are under Xpra's AES on these terms, on every wire (S-66). Nobody else gets
    /// in.
    #[must_use]
    pub fn requiring_encryption(mut self, terms: Encryption) -> Self {
        self.encryption = Some(terms);
        self
    }

    /// The same, counting failed logins, and refusing whoever has too many (S-21). Sockets may share the counts.
    #[must_use]
    pub fn with_penalties(mut self, penalties: Arc<Penalties>) -> Self {
        self.penalties = Some(penalties);
        self
    }

    /// The same, noting in `tally` how long the checks of its modules take.
    #[must_use]
    pub(super) fn timed_by(mut self, tally: Arc<Tally>) -> Self {
        self.tally = Some(tally);
        self
    }

    /// Its chain.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Its limits.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where failures are counted.
    pub(super) fn penalties(&self) -> Option<&Arc<Penalties>> {
        self.penalties.as_ref()
    }

    /// What is spoken.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Completes TLS where the socket has it and the client starts it, within `handshake_timeout` of `start`.
    pub(super) async fn secured(
        &self,
        stream: Stream,
        peer: Peer,
        start: Instant,
    ) -> Result<(Stream, Peer), Refusal> {
        let mut patience = Patience::until(start + self.settings.handshake_timeout);
        self.secure(stream, peer, &mut patience).await
    }

    /// Talks with a client that just connected, until it is let in or turned away.
    ///
    /// It takes at most `login_timeout` and the pause before a refusal (S-01, S-26). What the peer
    /// was told on the way is already sent.
    ///
    /// # Errors
    /// [`Turned`]: the refusal, with its private cause for the log.
    pub async fn accept(&self, mut stream: Stream, peer: Peer) -> Result<Admitted, Turned> {
        let start = now();
        let peer = self.announced(&mut stream, peer, start).await?;
        match self.meet(stream, peer, (start, &session_id())).await? {
            Met::Admitted(admitted) => Ok(admitted),
            Met::Enrolling(_, peer) => {
                let refusal = Refusal::new(Reason::Malformed, "nobody can enrol here: there is no gateway");
                Err(Turned { refusal, peer: Arc::new(peer), username: None })
            }
        }
    }

    /// The same where clients may come to enrol, once it is clear where they are. Its deadlines count from `start`,
    /// its records have the id `session`.
    pub(super) async fn meet(
        &self,
        stream: Stream,
        peer: Peer,
        (start, session): (Instant, &str),
    ) -> Result<Met, Turned> {
        let visit = self.penalties.as_ref().map(|penalties| Arc::new(Visit::new(Arc::clone(penalties))));
        let met = self.meet_on(visit.as_ref(), stream, peer, (start, session)).await;
        match (&visit, &met) {
            (Some(visit), Err(turned)) => visit.refused(&turned.peer, &turned.refusal),
            (Some(visit), Ok(_)) => visit.release(),
            (None, _) => {}
        }
        met
    }

    /// What is not needed before the client has said something is boxed: a stranger that says nothing has no part
    /// of it (S-02).
    async fn meet_on(
        &self,
        visit: Option<&Arc<Visit>>,
        stream: Stream,
        peer: Peer,
        (start, session): (Instant, &str),
    ) -> Result<Met, Turned> {
        let session = Arc::from(session);
        #[cfg(feature = "ssh")]
        if let Some(server) = &self.ssh {
            let arrival = Arrival { peer: Arc::new(peer), session, start, visit: visit.cloned() };
            return Box::pin(ssh::drive(self, server, stream, arrival)).await.map(Met::Admitted);
        }
        let turned = |refusal, peer: &Arc<Peer>| Turned { refusal, peer: Arc::clone(peer), username: None };
        let mut patience = Patience::until(start + self.settings.handshake_timeout);
        let plain = Arc::new(peer.clone());
        let (stream, mut peer) =
            self.secure(stream, peer, &mut patience).await.map_err(|refusal| turned(refusal, &plain))?;
        if stream.enrols() {
            return Ok(Met::Enrolling(stream, peer));
        }
        let upgraded = Box::pin(upgrade::upgrade(self, stream, &mut peer, &mut patience)).await;
        let peer = Arc::new(peer);
        let mut stream = upgraded.map_err(|refusal| turned(refusal, &peer))?;
        if self.protocol == Protocol::Stream {
            return Box::pin(silent::drive(self, stream, peer, start)).await.map(Met::Admitted);
        }
        match first_bytes(&mut stream, &mut patience).await {
            Ok(Detected::Packets) => {
                let arrival = Arrival { peer, session, start, visit: visit.cloned() };
                Box::pin(packets::drive(self, stream, arrival, patience)).await.map(Met::Admitted)
            }
            // S-38: without an answer.
            Ok(Detected::Tls) => Err(turned(Refusal::new(Reason::Malformed, unspoken(Detected::Tls)), &peer)),
            Ok(other) => {
                packets::refuse_unread(&mut stream).await;
                Err(turned(Refusal::new(Reason::Malformed, unspoken(other)), &peer))
            }
            Err(refusal) => Err(turned(refusal, &peer)),
        }
    }

    /// Completes TLS where the socket has it and the client starts it.
    async fn secure(
        &self,
        mut stream: Stream,
        peer: Peer,
        patience: &mut Patience,
    ) -> Result<(Stream, Peer), Refusal> {
        let (tls, required) = match &self.wires {
            Wires::Plain => return Ok((stream, peer)),
            Wires::Tls(tls) => (tls, true),
            // A client of a silent protocol may wait for the daemon to speak first: TLS is required
            // there or absent, never guessed.
            Wires::Either(_) if self.protocol == Protocol::Stream => return Ok((stream, peer)),
            Wires::Either(tls) => (tls, false),
        };
        if required && self.starttls == Some(StartTls::Postgres) {
            starttls::postgres(&mut stream, patience).await?;
        }
        match first_bytes(&mut stream, patience).await? {
            Detected::Tls => match patience.wait(Box::pin(tls.handshake(stream, peer))).await {
                Some(Ok((stream, mut peer))) => {
                    // A renewal is signed for the connection that it is asked for on.
                    if self.chain.binds_channel() || self.protocol == Protocol::Rpc {
                        peer.channel_binding = stream.channel_binding();
                    }
                    Ok((stream, peer))
                }
                Some(Err(error)) => Err(error.refusal()),
                None => Err(Refusal::new(Reason::Timeout, "the TLS handshake did not end in time")),
            },
            _ if required => Err(Refusal::new(
                Reason::Malformed,
                "the client does not speak TLS, which this socket requires",
            )),
            _ => Ok((stream, peer)),
        }
    }

    /// Runs a check where it may block, unless it never does, and hands the result back.
    ///
    /// A link that hangs fills its own lane: every other login finds a thread (S-81). A turn in the
    /// lane is over when the check has ended, also one that nobody waits for any more.
    async fn run(&self, conversation: &mut Conversation, check: Check) {
        let (module, start) = (check.module(), now());
        self.run_in_turn(conversation, check).await;
        if let Some(tally) = &self.tally {
            tally.note_check(module, now().duration_since(start).as_secs_f64());
        }
    }

    async fn run_in_turn(&self, conversation: &mut Conversation, check: Check) {
        if !check.may_block() {
            return conversation.handle_checked(now(), check.run());
        }
        let deadline = conversation.poll_timeout().unwrap_or_else(now);
        let running = async {
            let source = Source::of(check.peer());
            let turn = match self.lanes.get(check.position())?.turn(source, deadline).await {
                Ok(turn) => turn,
                Err(refusal) => return Some(check.refuse(refusal)),
            };
            let done = spawn_blocking(move || {
                let done = check.run();
                drop(turn);
                done
            });
            done.await.ok()
        };
        match timeout_at(deadline.into(), running).await {
            Ok(Some(done)) => conversation.handle_checked(now(), done),
            // S-65: late or lost is refused. The thread ends by itself; its result is dropped.
            Ok(None) | Err(_) => conversation.handle_timeout(deadline),
        }
    }
}

/// 64 random bits: joins the records of one connection, and tells nobody anything else.
pub(super) fn session_id() -> String {
    let mut bytes = [0; 8];
    random(&mut bytes);
    hex(&bytes)
}

fn broken(error: &io::Error) -> Refusal {
    Refusal::new(Reason::PeerLeft, format!("the connection broke: {error}"))
}

fn unspoken(found: Detected) -> &'static str {
    match found {
        Detected::Tls => "the client speaks TLS, which this socket does not",
        Detected::Http => "the client speaks HTTP, which this socket does not",
        Detected::Ssh => "the client speaks SSH, which this socket does not",
        Detected::Rfb => "the client speaks VNC, which this socket does not",
        _ => "the client speaks no protocol that is known here",
    }
}

/// The longest time that telling a peer why, and waiting for it to leave, may take.
const FAREWELL: Duration = Duration::from_millis(500);

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.peer, self.refusal)
    }
}

impl std::error::Error for Turned {}
