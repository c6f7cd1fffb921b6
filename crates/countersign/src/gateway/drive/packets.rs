//! The driver for Xpra packets: it reads and writes, and holds no rule of a login.

use std::{io::ErrorKind, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tracing::debug;

use super::{
    Acceptor, Admitted, Arrival, FAREWELL, Patience, Speech, Turned, Visit, encryption, now,
    reading::{Room, read_some},
};
use crate::{
    Chain, Claim, Grant, Peer, Refusal,
    proto::{
        challenge::{self, Offer},
        error::Reason,
        server::{Action, ClientMessage, Conversation},
        wire::xpra::{
            Caps, Challenge, Decoder, Disconnect, Encoder, Hello, Kind, Limits, Packet, ServerHello, Value,
            WireError, plain_text,
        },
    },
    transport::Stream,
};

/// What an admitted client said in its last hello, and how to answer it.
#[derive(Debug)]
pub struct XpraClient {
    hello: Hello,
    took_initial: bool,
    /// What the daemon hears first: it came with the initial response and counts with it (S-17).
    first_words: Vec<u8>,
}

impl XpraClient {
    /// The hello, without its credentials.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether it is our own client, which wants the daemon's bytes behind our hello and not a
    /// session of packets.
    pub fn wants_bytes(&self) -> bool {
        self.hello.caps().find(ANNOUNCEMENT).is_some()
    }

    /// Whether more follows the answer to its hello than the end. Only then is anything announced in it.
    pub(in crate::gateway) fn begins_session(&self) -> bool {
        self.hello.requests.is_empty()
    }

    /// Tells our own client that the daemon's bytes follow.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn welcome(&mut self, stream: &mut Stream) -> std::io::Result<()> {
        stream.unread(std::mem::take(&mut self.first_words));
        self.reply(stream, Caps::default().with("stream", Value::Bool(true))).await?;
        if let Some(sealed) = stream.sealed() {
            sealed.carry_bytes();
        }
        Ok(())
    }

    /// Tells our own client that its daemon is registered: nothing follows until somebody wants it, and then
    /// [`SESSION_GREETING`](crate::transport::SESSION_GREETING) and bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub(in crate::gateway) async fn registered(&self, stream: &mut Stream) -> std::io::Result<()> {
        let caps = Caps::default().with("stream", Value::Bool(true)).with("registered", Value::Bool(true));
        self.reply(stream, caps).await?;
        if let Some(sealed) = stream.sealed() {
            sealed.carry_bytes();
        }
        Ok(())
    }

    /// Answers the hello with these capabilities, and who answers.
    ///
    /// # Errors
    /// The connection broke, or the capabilities cannot be written in the client's encoder.
    pub async fn reply(&self, stream: &mut Stream, caps: Caps) -> std::io::Result<()> {
        let caps = announced(caps, self.took_initial).with("version", XPRA_VERSION);
        let caps = if self.begins_session() { sealing(stream, caps).await? } else { caps };
        let hello = ServerHello::with_caps(caps).map_err(std::io::Error::other)?;
        send(stream, &hello.packet(self.hello.encoder)).await
    }

    /// Ends the connection with a reason.
    pub async fn dismiss(&self, mut stream: Stream, reasons: &[&str]) {
        let disconnect = Disconnect { reasons: reasons.iter().map(|&reason| reason.to_owned()).collect() };
        part(&mut stream, &packet_bytes(&disconnect.packet(self.hello.encoder))).await;
    }

    /// Answers an `info` request with a JSON object, and ends the connection.
    pub async fn answer_info(&self, mut stream: Stream, facts: &serde_json::Value) {
        let entries = facts.as_object().into_iter().flatten();
        let caps = entries.fold(Caps::default(), |caps, (name, value)| match value_of(value) {
            Value::Null => caps,
            value => caps.with(name, value),
        });
        // A client that left before it was told is not told again.
        let _ = self.reply(&mut stream, caps).await;
        part(&mut stream, &[]).await;
    }

    /// Says the client's hello to an Xpra server behind, without the credentials.
    ///
    /// # Errors
    /// The server broke the connection.
    pub async fn forward(&self, backend: &mut Stream) -> std::io::Result<()> {
        send(backend, &self.hello.forwarded(self.hello.encoder)).await
    }
}

/// Drives a login until its end. Bytes behind the last hello stay unread in the stream (S-17).
pub(super) async fn drive(
    acceptor: &Acceptor,
    stream: Stream,
    arrival: Arrival,
    patience: Patience,
) -> Result<Admitted, Turned> {
    let Arrival { peer, session, start, visit } = arrival;
    let chain = Arc::clone(&acceptor.chain);
    // S-33: nothing of a client that does not encrypt gets as far as the conversation.
    let (stream, judged) = match &acceptor.encryption {
        Some(terms) => (stream.under(terms.clone()), Arc::new(Peer::clone(&peer).under_aes())),
        None => (stream, Arc::clone(&peer)),
    };
    let conversation = Conversation::new(chain, judged, acceptor.settings, random, start);
    let conversation = match &visit {
        Some(visit) => conversation.followed_by(visit.follow(Arc::clone(&peer))),
        None => conversation,
    };
    let decoder = Decoder::new(Limits::default());
    let (room, hello) = (Room::new(), None);
    let mut login =
        Login { acceptor, stream, peer, session, conversation, patience, room, decoder, hello, visit };
    match login.converse().await {
        Ok((grant, speech)) => Ok(Admitted { grant, stream: login.stream, speech }),
        Err(refusal) => Err(login.turn_away(refusal).await),
    }
}

struct Login<'a> {
    acceptor: &'a Acceptor,
    stream: Stream,
    peer: Arc<Peer>,
    session: Arc<str>,
    conversation: Conversation,
    patience: Patience,
    room: Room,
    decoder: Decoder,
    hello: Option<Hello>,
    visit: Option<Arc<Visit>>,
}

impl Login<'_> {
    /// Until it is decided. What each step needs is boxed: a stranger whose first packet is not whole has none of it
    /// (S-02).
    async fn converse(&mut self) -> Result<(Grant, Speech), Refusal> {
        // What told the protocol is the beginning of the first packet.
        let mut buffer = self.stream.take_pending();
        loop {
            match self.conversation.poll() {
                Some(Action::Check(check)) => {
                    Box::pin(self.acceptor.run(&mut self.conversation, check)).await;
                }
                Some(Action::Challenge(challenge)) => Box::pin(self.send_challenge(challenge)).await?,
                Some(Action::Accept(grant)) => {
                    debug!(target: AUTH, session = &*self.session, peer = %self.peer, "every link passed");
                    self.stream.unread(buffer);
                    let said = self.hello.take();
                    let mut hello =
                        said.ok_or_else(|| Refusal::new(Reason::Malformed, "accepted without a hello"))?;
                    let took_initial = self.conversation.took_initial_response();
                    // Of a client whose first hello was not enough it is the last hello, without words.
                    let said = std::mem::take(&mut hello.first_words);
                    let first_words = if took_initial { said } else { Vec::new() };
                    let client = XpraClient { hello, took_initial, first_words };
                    return Ok((grant, Speech::Xpra(Box::new(client))));
                }
                Some(Action::Refuse(refusal)) => return Err(refusal),
                None => {
                    if let Some(message) = self.next_message(&mut buffer).await {
                        self.conversation.handle(now(), message);
                    }
                }
            }
        }
    }

    async fn turn_away(&mut self, refusal: Refusal) -> Turned {
        let username = self.hello.as_ref().and_then(|hello| hello.username.clone());
        let peer = match self.stream.sealed() {
            Some(sealed) if sealed.is_agreed() => Arc::new(Peer::clone(&self.peer).under_aes()),
            _ => Arc::clone(&self.peer),
        };
        self.refuse(&refusal).await;
        Turned { refusal, peer, username }
    }

    /// Waits for a message or the conversation's next deadline.
    async fn next_message(&mut self, buffer: &mut Vec<u8>) -> Option<ClientMessage> {
        self.patience.extend(self.conversation.poll_timeout()?);
        if !self.conversation.wants_input() {
            self.patience.wait(std::future::pending::<()>()).await;
            self.conversation.handle_timeout(now());
            return None;
        }
        loop {
            match self.decoder.decode(buffer) {
                Ok(Some((packet, length))) => {
                    buffer.drain(..length);
                    self.room.leave();
                    return Box::pin(self.message(packet, !buffer.is_empty())).await;
                }
                Ok(None) => {}
                Err(error) => return Some(self.unreadable(malformed(&error))),
            }
            if let Err(refusal) = self.room.hold(buffer) {
                return Some(ClientMessage::Unacceptable(refusal));
            }
            match self.patience.wait(read_some(&mut self.stream, buffer)).await {
                Some(Ok(0)) => return Some(ClientMessage::Closed),
                Some(Ok(_)) => {}
                Some(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                    return Some(self.unreadable(super::broken(&error)));
                }
                Some(Err(error)) => return Some(ClientMessage::Malformed(super::broken(&error))),
                None => {
                    self.conversation.handle_timeout(now());
                    return None;
                }
            }
        }
    }

    /// What a packet says, for the conversation; the one request that is answered without a login
    /// is answered here (S-14, W45). `behind`: bytes came with it.
    async fn message(&mut self, packet: Packet, behind: bool) -> Option<ClientMessage> {
        // A client that has no answer says goodbye: it has done nothing wrong.
        if packet.kind == Kind::Disconnect {
            return Some(ClientMessage::Closed);
        }
        let mut hello = match Hello::read(packet) {
            Ok(hello) => hello,
            Err(error) => return Some(self.unreadable(malformed(&error))),
        };
        if hello.version.is_none() {
            let refusal = Refusal::new(Reason::Malformed, "the hello names no version");
            return Some(self.unreadable(refusal));
        }
        let heeded = encryption::heed(&mut self.stream, &mut hello, &self.acceptor.chain, behind);
        match self.patience.wait(heeded).await {
            Some(Ok(())) => {}
            Some(Err(refusal)) => {
                self.hello = Some(hello);
                return Some(ClientMessage::Unacceptable(refusal));
            }
            None => {
                self.conversation.handle_timeout(now());
                return None;
            }
        }
        if hello.requests("version") {
            let answer = ServerHello::with_version(XPRA_VERSION).packet(hello.encoder);
            part(&mut self.stream, &packet_bytes(&answer)).await;
            return Some(ClientMessage::Closed);
        }
        debug!(target: AUTH, session = &*self.session, peer = %self.peer, "the client says hello: {}", heard(&hello));
        let message = read_hello(&mut hello, &self.acceptor.chain);
        self.hello = Some(hello);
        match (&self.visit, &message) {
            (Some(visit), ClientMessage::Hello(said)) => match visit.hello(&self.peer, &said.claim) {
                Ok(()) => Some(message),
                Err(refusal) => Some(ClientMessage::Unacceptable(refusal)),
            },
            _ => Some(message),
        }
    }

    /// A message that says what was wrong, or under encryption nothing of it.
    fn unreadable(&mut self, refusal: Refusal) -> ClientMessage {
        match encryption::unreadable(&mut self.stream, refusal) {
            Ok(refusal) => ClientMessage::Malformed(refusal),
            Err(refusal) => ClientMessage::Unacceptable(refusal),
        }
    }

    async fn send_challenge(&mut self, challenge: challenge::Challenge) -> Result<(), Refusal> {
        self.visit.iter().for_each(|visit| visit.asked());
        let encoder = self.encoder();
        let mut caps = announced(Caps::default(), self.conversation.took_initial_response());
        if challenge.is_last {
            caps = caps.with(LAST, Value::Bool(true));
        }
        let mut packet = Challenge {
            salt: challenge.salt,
            caps: Caps::default(),
            digest: challenge.mechanism.to_string(),
            salt_digest: Some(challenge.salt_digest),
            prompt: Some(challenge.prompt),
        };
        let (digest, salts) = (&packet.digest, packet.salt_digest.as_deref().unwrap_or_default());
        let prompt = packet.prompt.as_deref().unwrap_or_default();
        debug!(target: AUTH, session = &*self.session, peer = %self.peer, "the client is asked for {digest:?}, the salts by {salts:?}, prompt {prompt:?}");
        self.patience.extend(self.conversation.poll_timeout().unwrap_or_else(now));
        let sending = async {
            packet.caps = sealing(&mut self.stream, caps).await?;
            send(&mut self.stream, &packet.packet(encoder)).await
        };
        // S-08: a peer that does not read what it is sent is left at its deadline.
        match self.patience.wait(sending).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(super::broken(&error)),
            None => Err(Refusal::new(Reason::Timeout, "the client does not read its challenge")),
        }
    }

    fn encoder(&self) -> Encoder {
        self.hello.as_ref().map_or(Encoder::Rencodeplus, |hello| hello.encoder)
    }

    /// Tells the client, in the form it can read: the one place where a refusal becomes bytes.
    async fn refuse(&mut self, refusal: &Refusal) {
        let why = refusal.to_string();
        debug!(target: AUTH, session = &*self.session, peer = %self.peer, "the login fails: {}; the client is told {:?}", why.escape_debug(), refusal.public());
        if refusal.reason == Reason::PeerLeft {
            return;
        }
        let bytes = match &self.hello {
            Some(hello) => packet_bytes(&Disconnect::new(refusal.public()).packet(hello.encoder)),
            None => plain_text(refusal.public()),
        };
        part(&mut self.stream, &bytes).await;
    }
}

/// Random bytes of the operating system (S-28).
///
/// Without them no salt can be made: the task ends, and with it the login.
pub(in crate::gateway) fn random(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "no login may go on without randomness")]
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A peer whose bytes are no packets gets a line of text, as Xpra servers write it.
pub(super) async fn refuse_unread(stream: &mut Stream) {
    part(stream, &plain_text("protocol error")).await;
}

/// What a hello says of the login, for the log: bounded, escaped (S-89), and of an answer only that it is there (S-88).
fn heard(hello: &Hello) -> String {
    let list = |names: &[String]| {
        let shown =
            names.iter().take(16).map(|name| name.chars().take(40).flat_map(char::escape_debug).collect());
        shown.collect::<Vec<String>>().join(" ")
    };
    let (digests, salts) = (list(&hello.digests), list(&hello.salt_digests));
    let answer = match (&hello.response, &hello.initial_response) {
        (Some(_), _) => "with an answer",
        (None, Some(_)) => "with an answer to a question that was not asked yet",
        (None, None) if hello.expects_challenge => "expecting a question",
        (None, None) => "expecting none",
    };
    let name = hello.username.as_deref().unwrap_or_default();
    format!("user {name:?}, digests {digests}, salts by {salts}, {answer}")
}

/// The hello as the conversation sees it. The response and other credentials are taken out of `hello`.
fn read_hello(hello: &mut Hello, chain: &Chain) -> ClientMessage {
    let said: Vec<_> =
        chain.capabilities().filter_map(|wanted| Some((wanted.name, hello.said(wanted)?))).collect();
    let claim = match Claim::named(hello.username.as_deref().unwrap_or_default()) {
        Ok(claim) => claim.asking_for(hello.display.clone(), hello.session_name.clone()),
        Err(refusal) => return ClientMessage::Unacceptable(refusal),
    };
    let claim = said.into_iter().fold(claim, |claim, (name, text)| claim.saying(name, text));
    let offer = Offer::new(hello.digests.clone(), hello.salt_digests.clone());
    let (response, initial) = (hello.response.take(), hello.initial_response.take());
    let hello = challenge::Hello::new(claim, offer).expecting_challenge(hello.expects_challenge);
    ClientMessage::Hello(Box::new(hello.with_response(response).with_initial_response(initial)))
}

/// `caps` with what tells our own client who speaks, and whether its initial response was judged.
fn announced(caps: Caps, took_initial: bool) -> Caps {
    let caps = caps.with(ANNOUNCEMENT, env!("CARGO_PKG_VERSION"));
    if took_initial { caps.with(INITIAL, Value::Bool(true)) } else { caps }
}

/// JSON as a value of a packet. What is null is left out: not every encoder has a word for it.
fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| Value::from(number.to_string().as_str()), Value::Int)
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value_of).collect()),
        serde_json::Value::Object(entries) => {
            let some = entries.iter().filter(|(_, value)| !value.is_null());
            Value::Dict(some.map(|(name, value)| (name.as_str().into(), value_of(value))).collect())
        }
    }
}

/// `caps` with what this end announces of encryption, where the stream is under it.
async fn sealing(stream: &mut Stream, caps: Caps) -> std::io::Result<Caps> {
    match stream.sealed() {
        Some(sealed) => sealed.announce(caps).await,
        None => Ok(caps),
    }
}

fn malformed(error: &WireError) -> Refusal {
    Refusal::new(Reason::Malformed, format!("{}: {error}", error.reason()))
}

fn packet_bytes(packet: &Packet) -> Vec<u8> {
    packet.encode().unwrap_or_else(|_| plain_text("server error"))
}

async fn send(stream: &mut Stream, packet: &Packet) -> std::io::Result<()> {
    let bytes = packet.encode().map_err(std::io::Error::other)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Says the last word and waits a moment for the peer to go, so that what it still sends does not
/// reset the connection before it has read why. Nothing of it is looked at (W37).
pub(super) async fn part(stream: &mut Stream, last: &[u8]) {
    if let Some(sealed) = stream.sealed() {
        // S-38: what could not be decrypted waits for the peer as long as anything else.
        sealed.read_in_clear();
    }
    let farewell = async {
        stream.write_all(last).await?;
        // Xpra's clients forget what they have not looked at yet when a WebSocket is closed: they leave first.
        match stream.is_websocket() {
            true => stream.flush().await?,
            false => stream.shutdown().await?,
        }
        // Not in the future's own memory, which every login has to carry.
        let mut unread = vec![0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // A peer that broke the connection has no more to be told.
    let _ = timeout(FAREWELL, farewell).await;
    if stream.is_websocket() {
        let _ = timeout(FAREWELL, stream.shutdown()).await;
    }
}

/// What `-d auth` shows.
const AUTH: &str = "countersign::auth";

/// How our two ends know each other, in the hello and in each challenge.
const ANNOUNCEMENT: &str = "countersign";

/// What a challenge says that no other follows, to our own client.
const LAST: &str = "last";

/// What a challenge or the hello says when the answer in the client's first hello was judged.
const INITIAL: &str = "initial";

/// The version that Xpra clients are told: they refuse servers below 3.0 and take any higher one.
const XPRA_VERSION: &str = "6.5";
