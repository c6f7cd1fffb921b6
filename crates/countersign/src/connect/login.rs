//! Carries a [`client::Conversation`](crate::proto::client::Conversation) over a stream, in Xpra's
//! packets. Holds no rules.

use std::{borrow::Cow, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout_at,
};
use tracing::debug;
use zeroize::Zeroizing;

use super::encryption;
use crate::{
    proto::{
        challenge::{self, Hello},
        client::{Action, Conversation, Failure, FailureKind, ServerMessage, quotable},
        mechanism::Mechanism,
        wire::xpra::{
            self as xpra, Caps, Challenge, ClientHello, Decoder, Disconnect, Encoder, Kind, Limits, Packet,
            Reply, ServerHello, Value,
        },
    },
    transport::Stream,
};

/// One attempt at a login, in one encoder.
pub(super) struct Login<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) conversation: Conversation,
    pub(super) encoder: Encoder,
    /// What every hello says beside the login.
    pub(super) words: &'a Words,
    /// What the daemon is to hear first. It goes with the initial response, or right behind the answer to a
    /// question that the server calls its last one, so that it takes no way there and back of its own.
    pub(super) first: &'a [u8],
    /// It went with the initial response, and the server has not asked anything since.
    pub(super) ventured: bool,
}

/// What every hello of a connection says beside the login: the server takes the last one.
pub(super) enum Words {
    /// The least that every server takes.
    Own {
        /// The protocol's version that is claimed.
        version: &'static str,
        /// An id of this client.
        uuid: String,
        /// What is asked for in place of a session.
        request: Option<String>,
    },
    /// All that another client said, whose session it will be.
    Of(Box<xpra::Hello>),
}

/// A login that succeeded.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub(super) hello: ServerHello,
    pub(super) answered: Vec<Mechanism>,
    /// The server's hello as it came.
    pub(super) packet: Vec<u8>,
    /// What came behind it.
    pub(super) rest: Vec<u8>,
    /// Whether the daemon was told what it is to hear first.
    pub(super) said: bool,
}

/// A login that did not.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// The server could not read the first packet, so another encoder may do: its words, or none
    /// where it just closed.
    Unreadable(String),
    Failed(Failure),
}

impl From<Failure> for Unfinished {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Login<'_> {
    /// Talks until the server lets us in or the conversation ends.
    pub(super) async fn run(mut self) -> Result<Welcomed, Unfinished> {
        let mut inbox = Inbox::new(self.stream.sealed().is_some());
        let mut welcome = None;
        self.conversation.start(Instant::now());
        loop {
            match self.conversation.poll() {
                Some(Action::Send { hello, is_last }) => self.send(*hello, is_last).await?,
                Some(Action::Consult(consult)) => {
                    let done = tokio::task::spawn_blocking(move || consult.run()).await;
                    let lost =
                        |_| Failure::new(FailureKind::NoCredential, "the question was lost on its way");
                    self.conversation.handle_consulted(Instant::now(), done.map_err(lost)?);
                }
                Some(Action::Established { answered }) => {
                    let Some((hello, packet)) = welcome else {
                        return Err(misbehaved("it let us in without a hello").into());
                    };
                    return Ok(Welcomed {
                        hello,
                        answered,
                        packet,
                        rest: inbox.buffer,
                        said: self.first.is_empty(),
                    });
                }
                Some(Action::Fail(failure)) => {
                    debug!(target: AUTH, "the login fails: {failure}");
                    return Err(failure.into());
                }
                None => {
                    let Some(received) = self.receive(&mut inbox).await? else { continue };
                    let message = match received {
                        Received::Message(message) => message,
                        Received::Challenge(challenge) => {
                            encryption::heed(self.stream, &challenge.caps, false).await?;
                            self.asked(challenge)
                        }
                        Received::Welcome(hello, packet) => {
                            let is_answer = matches!(self.words, Words::Own { request: Some(_), .. });
                            encryption::heed(self.stream, hello.caps(), is_answer).await?;
                            debug!(target: AUTH, "the server lets us in");
                            if self.hear_of_initial(hello.caps()) && self.ventured {
                                self.first = &[];
                            }
                            welcome = Some((hello, packet));
                            ServerMessage::Welcome
                        }
                    };
                    self.conversation.handle(Instant::now(), message);
                }
            }
        }
    }

    async fn send(&mut self, mut hello: Hello, mut is_last: bool) -> Result<(), Failure> {
        debug!(target: AUTH, "we say hello: {}", said(&hello));
        let unwritable = || Failure::new(FailureKind::Closed, "the server closed the connection");
        if self.stream.sealed().is_some() {
            // The first hello is in clear, and until the server's hello nothing but packets is decrypted.
            (hello.initial_response, is_last) = (None, false);
        }
        let mut packet = self.packet(hello);
        let announced = encryption::announce(self.stream, &mut packet).await;
        announced.map_err(|error| Failure::new(FailureKind::Ended, error.to_string()))?;
        let packet = packet.encode();
        let packet =
            Zeroizing::new(packet.map_err(|error| Failure::new(FailureKind::Ended, error.to_string()))?);
        let first = if is_last { std::mem::take(&mut self.first) } else { &[] };
        // Made in one piece: a buffer that grew would leave the answer behind in memory.
        let bytes = Zeroizing::new([&**packet, first].concat());
        // A server that closed has mostly said why: that is read, and more useful than this.
        match self.stream.write_all(&bytes).await {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(unwritable()),
            _ => self.stream.flush().await.or(Ok(())),
        }
    }

    fn packet(&mut self, hello: Hello) -> Packet {
        let name = hello.claim.username.as_ref().map(|name| name.as_str().to_owned());
        let padding = hello.response.as_ref().map(|answer| ClientHello::padding(answer.value.expose().len()));
        let (version, uuid, request) = match self.words {
            Words::Own { version, uuid, request } => ((*version).to_owned(), uuid.clone(), request.clone()),
            Words::Of(_) => Default::default(),
        };
        let fits = matches!(self.words, Words::Own { .. }) && self.first.len() <= xpra::FIRST_WORDS;
        self.ventured = fits && hello.initial_response.is_some();
        let first_words = if self.ventured { self.first.to_vec() } else { Vec::new() };
        let login = ClientHello {
            version,
            username: name.unwrap_or_default(),
            uuid,
            digests: hello.offer.mechanisms,
            salt_digests: hello.offer.salt_digests,
            request,
            display: hello.claim.display,
            expects_challenge: hello.expects_challenge,
            response: hello.response,
            initial_response: hello.initial_response,
            first_words,
            padding: padding.map(random).unwrap_or_default(),
        };
        let login = login.packet(self.encoder);
        match self.words {
            Words::Own { .. } => announced(login),
            Words::Of(other) => merged(other.forwarded(self.encoder), login),
        }
    }

    fn asked(&mut self, asked: Challenge) -> ServerMessage {
        self.hear_of_initial(&asked.caps);
        let countersign = asked.caps.find(COUNTERSIGN).is_some();
        let Ok(mechanism) = asked.digest.parse::<Mechanism>();
        // Very old servers leave the digest of the salts out and mean `xor`, which is refused.
        let salt_digest = asked.salt_digest.unwrap_or_else(|| "xor".to_owned());
        let prompt = asked.prompt.unwrap_or_default();
        let is_last = countersign && is_said(&asked.caps, LAST);
        debug!(
            target: AUTH,
            "we are asked for \"{}\", the salts by \"{}\", prompt \"{}\"",
            quotable(&mechanism.to_string()), quotable(&salt_digest), quotable(&prompt)
        );
        let challenge =
            challenge::Challenge::new(asked.salt, mechanism, salt_digest, prompt).as_last(is_last);
        ServerMessage::Challenge { challenge, countersign }
    }

    /// Tells the conversation if the server says that it judged the initial response.
    fn hear_of_initial(&mut self, caps: &Caps) -> bool {
        let is_said = is_said(caps, INITIAL);
        if is_said {
            self.conversation.handle(Instant::now(), ServerMessage::TookInitialResponse);
        }
        is_said
    }

    /// What the server does next; `None` when time ran out, which the conversation is told.
    async fn receive(&mut self, inbox: &mut Inbox) -> Result<Option<Received>, Unfinished> {
        loop {
            if let Some(received) = inbox.next()? {
                return Ok(Some(received));
            }
            let read = self.stream.read_buf(&mut inbox.buffer);
            let read = match self.conversation.poll_timeout() {
                Some(due) => match timeout_at(due.into(), read).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.conversation.handle_timeout(Instant::now());
                        return Ok(None);
                    }
                },
                None => read.await,
            };
            match read {
                Err(error) if encryption::is_doubtful(self.stream, &error) => {
                    encryption::doubt(self.stream, &error)?;
                    inbox.trust = Trust::InClear;
                    continue;
                }
                // A reset is an end like any other: what matters is what was said before it.
                Ok(1..) => {}
                _ => {
                    return match inbox.heard {
                        true => Ok(Some(Received::Message(ServerMessage::Closed))),
                        false => Err(Unfinished::Unreadable(String::new())),
                    };
                }
            }
        }
    }
}

/// What a hello says of the login, for the log: of an answer only that it is there (S-88).
fn said(hello: &Hello) -> String {
    let answer = match (&hello.response, &hello.initial_response) {
        (Some(_), _) => "with an answer",
        (None, Some(_)) => "with an answer to a question that was not asked yet",
        (None, None) if hello.expects_challenge => "expecting a question",
        (None, None) => "expecting none",
    };
    let name = hello.claim.username.as_ref().map_or("", |name| name.as_str());
    format!(
        "user {name:?}, digests {}, salts by {}, {answer}",
        hello.offer.mechanisms.join(" "),
        hello.offer.salt_digests.join(" ")
    )
}

/// The hello with the word by which our own gateway learns that bytes may follow.
fn announced(mut hello: Packet) -> Packet {
    if let Some(Value::Dict(caps)) = hello.items.first_mut() {
        caps.push((COUNTERSIGN.into(), env!("CARGO_PKG_VERSION").into()));
    }
    hello
}

/// The other client's hello with our login in place of its own.
fn merged(mut other: Packet, login: Packet) -> Packet {
    let is_login = |(key, _): &(Value, Value)| {
        key.as_bytes().is_some_and(|key| LOGIN.contains(&key) || key.starts_with(b"challenge"))
    };
    let Some(Value::Dict(login)) = login.items.into_iter().next() else { return other };
    if let Some(Value::Dict(caps)) = other.items.first_mut() {
        caps.retain(|entry| !is_login(entry));
        caps.extend(login.into_iter().filter(is_login));
    }
    other
}

/// What came from the server.
enum Received {
    Message(ServerMessage),
    Challenge(Challenge),
    Welcome(ServerHello, Vec<u8>),
}

/// The bytes that came and were not understood yet.
struct Inbox {
    buffer: Vec<u8>,
    decoder: Decoder,
    /// A packet came: the server reads our encoder.
    heard: bool,
    trust: Trust,
}

/// What is known of the bytes, so that faults in them are put down to what causes them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// They are as the server sent them, for all that is known.
    AsSent,
    /// They came out of a cipher that notices nothing.
    Decrypted,
    /// They came in clear where they should not have: no more than a farewell is believed.
    InClear,
}

impl Inbox {
    fn new(encrypted: bool) -> Self {
        // A session's hello and the answer to `info` are larger than anything before a login.
        let mut limits = Limits::default();
        limits.wire = 4 << 20;
        limits.decoded = 16 << 20;
        limits.entries = 1 << 16;
        limits.values = 1 << 18;
        let trust = if encrypted { Trust::Decrypted } else { Trust::AsSent };
        Self { buffer: Vec::new(), decoder: Decoder::new(limits), heard: false, trust }
    }

    /// The next thing in the buffer; `None` if it is not complete.
    fn next(&mut self) -> Result<Option<Received>, Unfinished> {
        loop {
            let (reply, length) = match self.decoder.decode_reply(&self.buffer) {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(None),
                Err(_) if self.trust == Trust::Decrypted => return Err(encryption::undecipherable().into()),
                Err(error) => return Ok(Some(malformed(error.to_string()))),
            };
            let bytes: Vec<u8> = self.buffer.drain(..length.min(self.buffer.len())).collect();
            let packet = match reply {
                Reply::Packet(packet) => packet,
                Reply::PlainText(text) if self.heard || ENDS.contains(&&*text) => {
                    return Ok(Some(Received::Message(ServerMessage::Disconnect(vec![text]))));
                }
                Reply::PlainText(text) => return Err(Unfinished::Unreadable(text)),
                _ => return Ok(Some(malformed("an unknown kind of reply"))),
            };
            self.heard = true;
            // Anything else is for a session that we do not have: passed over (`ssl-upgrade`).
            if let Some(received) = understand(packet, bytes) {
                let is_farewell = matches!(received, Received::Message(ServerMessage::Disconnect(_)));
                if self.trust == Trust::InClear && !is_farewell {
                    return Err(encryption::in_clear().into());
                }
                return Ok(Some(received));
            }
        }
    }
}

fn understand(packet: Packet, bytes: Vec<u8>) -> Option<Received> {
    let understood = match packet.kind {
        Kind::Hello => ServerHello::read(packet).map(|hello| Received::Welcome(hello, bytes)),
        Kind::Challenge => Challenge::read(packet).map(Received::Challenge),
        Kind::Disconnect => Disconnect::read(&packet)
            .map(|disconnect| Received::Message(ServerMessage::Disconnect(disconnect.reasons))),
        _ => return None,
    };
    Some(understood.unwrap_or_else(|error| malformed(error.to_string())))
}

fn is_said(caps: &Caps, name: &str) -> bool {
    caps.find(name).and_then(|value| value.as_bool()) == Some(true)
}

fn malformed(why: impl Into<Cow<'static, str>>) -> Received {
    Received::Message(ServerMessage::Malformed(why.into()))
}

fn misbehaved(why: &'static str) -> Failure {
    Failure::new(FailureKind::Misbehaved, format!("the server broke the protocol: {why}"))
}

/// Random bytes of the system; without any there is nothing to be safe with.
pub(super) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    bytes
}

/// Fills `bytes` from the system's source.
#[expect(clippy::expect_used, reason = "no login can be made without the system's random source")]
pub(super) fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has random bytes");
}

/// Ends that have nothing to do with the encoder, though written as text: another try would only be
/// one more of what the server has too many of (`docs/protocol/xpra.md`).
const ENDS: [&str; 3] = ["session busy", "login timeout", "authentication failed"];

/// What a hello says of the login, beside what starts with `challenge`.
const LOGIN: [&[u8]; 3] = [b"username", b"digest", b"salt-digest"];

/// What `-d auth` shows.
pub(super) const AUTH: &str = "countersign::auth";

/// The capability by which both ends of this project know each other; its value is the version.
pub(super) const COUNTERSIGN: &str = "countersign";

/// The capability by which our gateway says that it asks nothing else.
const LAST: &str = "last";

/// The capability by which it says that it judged the answer of the first hello.
const INITIAL: &str = "initial";
