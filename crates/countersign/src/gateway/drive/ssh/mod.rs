//! The driver for SSH: its login asks what the chain asks, and one channel becomes the stream.
//!
//! [`requests`] is the session's end: it turns what a client wants into [`Event`]s. [`dialogue`] carries the
//! conversation: it answers the chain in the client's place, with what the client typed or proved. Here they meet,
//! within the deadlines of every login (S-01). The method `none` is never accepted (S-80): a chain that asks nothing
//! lets in by any other.

use std::{convert::Infallible, fmt, sync::Arc, time::Instant};

use russh::{
    Disconnect, MethodKind, MethodSet, Preferred, SshId,
    keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey},
    server::{Auth, Config, Handle, RunningSession},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot},
    time::timeout,
};

mod dialogue;
mod requests;

use dialogue::{Dialogue, Due};
use requests::{Attempt, Event, Opened, Purpose, Requests};

use super::{Acceptor, Admitted, Arrival, FAREWELL, Patience, Speech, Turned, now, packets};
use crate::{
    Grant, Peer, Refusal,
    error::ConfigError,
    proto::error::Reason,
    transport::{Leashed, RELAY_GREETING, SshChannel, Stream},
};

/// What a socket of SSH knows beside its chain.
#[derive(Clone)]
pub(super) struct SshServer {
    config: Arc<Config>,
    /// Reads the hello of a client that speaks packets in its channel. Its login is over.
    inside: Box<Acceptor>,
}

impl SshServer {
    /// A server that is known by `key`.
    pub(super) fn new(key: PrivateKey) -> Result<Self, ConfigError> {
        let ecdsa = |curve| Algorithm::Ecdsa { curve };
        let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
        // What clients hear that they may sign with (RFC 8308), too; our own key is never one of RSA.
        let keys = [
            Algorithm::Ed25519,
            ecdsa(EcdsaCurve::NistP256),
            ecdsa(EcdsaCurve::NistP384),
            ecdsa(EcdsaCurve::NistP521),
            rsa(HashAlg::Sha512),
            rsa(HashAlg::Sha256),
        ];
        let config = Config {
            server_id: SshId::Standard("SSH-2.0-countersign".into()),
            methods: methods(&OFFERED),
            // The pause before a refusal is the conversation's, and so are all deadlines before a session.
            auth_rejection_time: std::time::Duration::ZERO,
            inactivity_timeout: None,
            max_auth_attempts: MOST_REQUESTS,
            keys: vec![key],
            window_size: requests::WINDOW,
            preferred: Preferred { key: keys.to_vec().into(), ..Preferred::default() },
            ..Config::default()
        };
        Ok(Self { config: Arc::new(config), inside: Box::new(Acceptor::of(&["none"])?) })
    }
}

impl fmt::Debug for SshServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshServer").finish_non_exhaustive()
    }
}

/// Drives a login until a channel stands, or its end.
pub(super) async fn drive(
    acceptor: &Acceptor,
    server: &SshServer,
    stream: Stream,
    arrival: Arrival,
) -> Result<Admitted, Turned> {
    let Arrival { peer, session, start, visit } = arrival;
    let peer = Arc::new(Peer::clone(&peer).in_ssh());
    let turned = |refusal, username: &Option<String>| Turned {
        refusal,
        peer: Arc::clone(&peer),
        username: username.clone(),
    };
    let mut patience = Patience::until(start + acceptor.settings.handshake_timeout);
    let (leash, held) = oneshot::channel();
    let (tell, events) = mpsc::channel(1);
    let starting = russh::server::run_stream(
        Arc::clone(&server.config),
        Leashed::new(stream, held),
        Requests::new(tell),
    );
    let running = match patience.wait(starting).await {
        Some(Ok(running)) => running,
        Some(Err(error)) => return Err(turned(ended_by(&error), &None)),
        None => return Err(turned(late(), &None)),
    };
    let met = Arrival { peer: Arc::clone(&peer), session: Arc::clone(&session), start, visit };
    let dialogue = Dialogue::new(acceptor, met);
    let mut login = Login { dialogue, patience, events, connection: Connection { running, leash } };
    let (grant, opened) = match login.run(start + acceptor.settings.login_timeout).await {
        Ok(entered) => entered,
        Err(refusal) => {
            let username = login.dialogue.username().map(str::to_owned);
            login.connection.part(&refusal).await;
            return Err(turned(refusal, &username));
        }
    };
    let Login { patience, connection, .. } = login;
    let purpose = opened.purpose;
    let stream = connection.carrying(opened);
    let arrival = Arrival { peer, session, start: now(), visit: None };
    speak(server, purpose, stream, (grant, arrival), patience).await
}

/// What follows a login in its channel, as the client said when it opened it.
async fn speak(
    server: &SshServer,
    purpose: Purpose,
    mut stream: Stream,
    (grant, arrival): (Grant, Arrival),
    patience: Patience,
) -> Result<Admitted, Turned> {
    if purpose == Purpose::Bytes {
        return Ok(Admitted { grant, stream, speech: Speech::Silent });
    }
    if purpose == Purpose::Relay
        && let Err(error) = stream.write_all(RELAY_GREETING).await
    {
        let username = grant.claim().username.as_ref().map(ToString::to_string);
        return Err(Turned { refusal: super::broken(&error), peer: arrival.peer, username });
    }
    let inside = packets::drive(&server.inside, stream, arrival, patience).await?;
    Ok(Admitted { grant, ..inside })
}

/// One login under way.
struct Login<'a> {
    dialogue: Dialogue<'a>,
    patience: Patience,
    events: mpsc::Receiver<Event>,
    connection: Connection,
}

impl Login<'_> {
    /// Answers the client's requests until it is let in and has a channel.
    async fn run(&mut self, deadline: Instant) -> Result<(Grant, Opened), Refusal> {
        let grant = loop {
            let Event::Asks { user, attempt, reply } = self.next_event().await? else {
                return Err(Refusal::new(Reason::Malformed, "a channel before the login"));
            };
            let is_answer = attempt.is_answer();
            let went_on = self.dialogue.take(&user, &attempt).await;
            match self.dialogue.due() {
                Due::Refused(refusal) => {
                    let refusal = refusal.clone();
                    // An empty list: nothing can be tried any more.
                    let _ = reply.send(rejected(&[], false));
                    return Err(refusal);
                }
                Due::Granted(grant) if is_answer => {
                    let grant = grant.clone();
                    let _ = reply.send(Auth::Accept);
                    break grant;
                }
                due => {
                    let _ = reply.send(answered(due, &attempt, went_on));
                }
            }
            if let Some(due) = self.dialogue.deadline() {
                self.patience.extend(due);
            }
        };
        self.patience.extend(deadline);
        match self.next_event().await? {
            Event::Opened(opened) => Ok((grant, opened)),
            Event::Asks { .. } => Err(Refusal::new(Reason::Malformed, "a second login")),
        }
    }

    async fn next_event(&mut self) -> Result<Event, Refusal> {
        match self.patience.wait(self.events.recv()).await {
            Some(Some(event)) => Ok(event),
            Some(None) => {
                self.dialogue.handle_closed();
                Err(match (&mut self.connection.running).await {
                    Err(error) => ended_by(&error),
                    Ok(()) => Refusal::new(Reason::PeerLeft, "the client closed the connection"),
                })
            }
            None => {
                self.dialogue.handle_timeout();
                Err(late())
            }
        }
    }
}

/// A connection of SSH. It is cut when this is dropped.
struct Connection {
    running: RunningSession<Requests>,
    leash: oneshot::Sender<Infallible>,
}

impl Connection {
    /// The stream of its channel. The connection ends in good order when that is dropped.
    fn carrying(self, opened: Opened) -> Stream {
        let (used, over) = oneshot::channel();
        tokio::spawn(async move {
            // Only ever an error: the channel was dropped.
            let _ = over.await;
            let handle = self.running.handle();
            let leaving = async {
                // What ssh(1) ends with; without it, or where the server is the one that leaves, it takes the end for
                // a broken connection.
                let _ = handle.exit_status_request(opened.id, 0).await;
                let _ = handle.close(opened.id).await;
                let _ = self.running.await;
            };
            let _ = timeout(LINGER, leaving).await;
            drop(self.leash);
        });
        Stream::new(SshChannel::new(opened.inbox, opened.writer, used))
    }

    /// Tells the client, and waits a moment for it to read that.
    async fn part(&mut self, refusal: &Refusal) {
        if refusal.reason == Reason::PeerLeft {
            return;
        }
        let handle = self.running.handle();
        let parting = async {
            disconnect(&handle, refusal.public()).await;
            let _ = (&mut self.running).await;
        };
        let _ = timeout(FAREWELL, parting).await;
    }
}

async fn disconnect(handle: &Handle, why: &str) {
    let reason = Disconnect::ByApplication;
    // A client that left before it was told is not told again.
    let _ = handle.disconnect(reason, why.to_owned(), String::new()).await;
}

/// What the client is told while something is due. `went_on` says that it answered what was due before.
fn answered(due: &Due, attempt: &Attempt, went_on: bool) -> Auth {
    let partial = |prompts: Vec<(std::borrow::Cow<'static, str>, bool)>| Auth::Partial {
        name: "".into(),
        instructions: "".into(),
        prompts: prompts.into(),
    };
    match (due, attempt) {
        (Due::Words(prompt), Attempt::Interactive(_)) => partial(vec![(format!("{prompt}: ").into(), false)]),
        (Due::Granted(_), Attempt::Interactive(None)) => partial(Vec::new()),
        (Due::Words(_), _) => rejected(&[MethodKind::KeyboardInteractive, MethodKind::Password], went_on),
        (Due::Key, _) => rejected(&[MethodKind::PublicKey], went_on),
        _ => rejected(&OFFERED, went_on),
    }
}

fn rejected(next: &[MethodKind], partial_success: bool) -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods(next)), partial_success }
}

fn methods(kinds: &[MethodKind]) -> MethodSet {
    MethodSet::from(kinds)
}

/// What ended a connection before its login did.
fn ended_by(error: &russh::Error) -> Refusal {
    match error {
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::IO(_) => {
            Refusal::new(Reason::PeerLeft, format!("the connection broke: {error}"))
        }
        other => Refusal::new(Reason::Malformed, format!("the client does not speak SSH as we do: {other}")),
    }
}

fn late() -> Refusal {
    Refusal::new(Reason::Timeout, "the login did not finish in time")
}

/// The methods that let somebody in.
const OFFERED: [MethodKind; 3] =
    [MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password];

/// Requests that a client may make in vain, beside the limits of each module: agents with many keys try them all.
const MOST_REQUESTS: usize = 20;

/// How long a client may take to read what the daemon said last, and to leave.
const LINGER: std::time::Duration = std::time::Duration::from_secs(30);

#[cfg(test)]
mod tests;
