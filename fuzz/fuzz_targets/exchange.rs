//! A login as it should be, with one message changed on its way, whichever it is and however. Both ends come to an end,
//! neither panics, and whoever is let in is the honest client, which answered the server's own questions.
//!
//! The input: which chain and encoder, which message, how it is changed, where, and the bytes for that.
#![no_main]

use std::{sync::Arc, time::Instant};

use countersign_proto::{
    Chain, Claim, Grant, Identity, Link, Peer, Refusal, Secret, Verifier,
    chain::{Entry, LookupSecret},
    challenge::{self, Offer},
    client::{self, Failure, ProvideSecret, Provided, Question, Responder, ServerMessage},
    error::Reason,
    mechanism::{Mechanism, hmac::StoredSecret},
    server::{self, ClientMessage, Settings},
    wire::xpra::{Challenge, ClientHello, Decoder, Disconnect, Encoder, Hello, Kind, Limits, Packet, Reply},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [kind, which, how, high, low, bytes @ ..] = input else { return };
    let at = usize::from(u16::from_be_bytes([*high, *low]));
    let wire = Wire { which: usize::from(*which), how: *how, at, bytes, passed: 0, changed: false };
    let secrets = SECRETS[usize::from(kind & 1)];
    let encoder = [Encoder::Rencodeplus, Encoder::Rencode, Encoder::Bencode][usize::from(kind >> 1) % 3];
    let mut exchange = Exchange::new(secrets, encoder, kind & 0x40 != 0, wire);
    let granted = exchange.run();
    match granted {
        Some(grant) => exchange.judge(&grant),
        None => assert!(exchange.wire.changed, "an honest login is let in"),
    }
});

/// What is done to one message of those that pass, counted in both directions.
struct Wire<'a> {
    which: usize,
    how: u8,
    at: usize,
    bytes: &'a [u8],
    passed: usize,
    changed: bool,
}

impl Wire<'_> {
    /// The message as it arrives.
    fn pass(&mut self, message: Vec<u8>) -> Vec<u8> {
        self.passed += 1;
        if self.passed != self.which {
            return message;
        }
        let (before, after) = message.split_at(self.at % (message.len() + 1));
        let behind = |count: usize| &after[count.min(after.len())..];
        let arrives = match self.how % 6 {
            // Other bytes in place of as many.
            0 => [before, self.bytes, behind(self.bytes.len())].concat(),
            1 => [before, self.bytes, after].concat(),
            2 => [before, behind(self.bytes.len().max(1))].concat(),
            3 => before.to_vec(),
            4 => [&message[..], &message].concat(),
            _ => self.bytes.to_vec(),
        };
        self.changed = arrives != message;
        arrives
    }
}

/// What a question depends on.
type Asked = (Vec<u8>, String, Option<String>);
/// An answer and its salt.
type Answered = (Vec<u8>, Vec<u8>);

/// Both ends, and what is on its way between them.
struct Exchange<'a> {
    client: client::Conversation,
    server: server::Conversation,
    wire: Wire<'a>,
    encoder: Encoder,
    now: Instant,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// One has closed the connection.
    client_left: bool,
    server_left: bool,
    /// The server's last word is due, which lets the client in.
    welcome: bool,
    /// What was said, and what arrived.
    asked: [Vec<Asked>; 2],
    answered: [Vec<Answered>; 2],
    /// The answer to a question that was not asked, as it arrived.
    initial: Option<Answered>,
}

impl<'a> Exchange<'a> {
    fn new(secrets: &'static [&'static str], encoder: Encoder, confidential: bool, wire: Wire<'a>) -> Self {
        let now = Instant::now();
        let link = |secret: &&'static str| Link::new("knows", Verifier::Secret(Box::new(Knows(*secret))));
        let chain = Arc::new(Chain::new(secrets.iter().map(link).collect()).expect("a chain"));
        let address = "192.0.2.1:1".parse().expect("an address");
        let peer = if confidential { Peer::unix(None) } else { Peer::tcp(address, address) };
        let known = client::Server::new("here", confidential, true);
        let responders: Arc<[Responder]> = Arc::new([Responder::secret("knows", Holds(secrets))]);
        let claim = Claim::named(NAME).expect("a name");
        Self {
            client: client::Conversation::new(
                claim,
                responders,
                Arc::new(known),
                client::Settings::default(),
                counting(0),
            ),
            server: server::Conversation::new(chain, Arc::new(peer), Settings::default(), counting(100), now),
            wire,
            encoder,
            now,
            to_server: Vec::new(),
            to_client: Vec::new(),
            client_left: false,
            server_left: false,
            welcome: false,
            initial: None,
            asked: Default::default(),
            answered: Default::default(),
        }
    }

    /// Plays until both have come to an end.
    fn run(&mut self) -> Option<Grant> {
        let mut granted = None;
        self.client.start(self.now);
        for _ in 0..200 {
            let moved = self.client_acts() | self.server_acts(&mut granted);
            if self.client_left && self.server_left {
                return granted;
            }
            // With nothing to do and nothing to read, what is left is time.
            if !moved && !self.server_hears() && !self.client_hears() {
                self.wait();
            }
        }
        panic!("the login has no end");
    }

    /// Whoever is let in sent what the honest client said, in answer to what the server asked.
    fn judge(&self, grant: &Grant) {
        assert_eq!(grant.identity().expect("a name").name.as_str(), NAME);
        let ([asked, heard], [said, arrived]) = (&self.asked, &self.answered);
        assert!(arrived.iter().all(|answer| said.contains(answer)), "an answer that nobody gave counts");
        if self.server.took_initial_response() {
            assert!(
                said.contains(self.initial.as_ref().expect("what it took")),
                "an answer that nobody gave counts"
            );
        }
        assert!(heard.iter().all(|question| asked.contains(question)), "a question that nobody asked counts");
    }

    fn client_acts(&mut self) -> bool {
        match self.client.poll() {
            Some(client::Action::Send { hello, .. }) => {
                let packet = self.packet(*hello).encode().expect("a hello");
                let arrives = self.wire.pass(packet);
                self.to_server.extend(arrives);
            }
            Some(client::Action::Consult(consult)) => self.client.handle_consulted(self.now, consult.run()),
            Some(client::Action::Established { .. } | client::Action::Fail(_)) => self.client_left = true,
            None => return false,
        }
        true
    }

    fn packet(&mut self, hello: challenge::Hello) -> Packet {
        let answers = [&hello.response, &hello.initial_response].into_iter().flatten();
        self.answered[0].extend(answers.map(answer));
        let login = ClientHello {
            version: "6.5".to_owned(),
            username: NAME.to_owned(),
            uuid: "00".repeat(16),
            digests: hello.offer.mechanisms,
            salt_digests: hello.offer.salt_digests,
            expects_challenge: hello.expects_challenge,
            response: hello.response,
            initial_response: hello.initial_response,
            ..ClientHello::default()
        };
        login.packet(self.encoder)
    }

    fn server_acts(&mut self, granted: &mut Option<Grant>) -> bool {
        match self.server.poll() {
            Some(server::Action::Check(check)) => self.server.handle_checked(self.now, check.run()),
            Some(server::Action::Challenge(challenge)) => {
                let packet = Challenge {
                    salt: challenge.salt,
                    caps: Default::default(),
                    digest: challenge.mechanism.to_string(),
                    salt_digest: Some(challenge.salt_digest),
                    prompt: Some(challenge.prompt),
                };
                self.asked[0].push(question(&packet));
                let arrives = self.wire.pass(packet.packet(self.encoder).encode().expect("a challenge"));
                self.to_client.extend(arrives);
            }
            Some(server::Action::Accept(grant)) => {
                *granted = Some(grant);
                (self.server_left, self.welcome) = (true, true);
            }
            Some(server::Action::Refuse(refusal)) => {
                assert_ne!(refusal.reason, Reason::ModulePanicked);
                self.server_left = true;
                let packet = Disconnect::new(refusal.public()).packet(self.encoder);
                let arrives = self.wire.pass(packet.encode().expect("a farewell"));
                self.to_client.extend(arrives);
            }
            None => return false,
        }
        true
    }

    /// The next message of the client's, if it is complete or will never be.
    fn server_hears(&mut self) -> bool {
        if self.server_left || !self.server.wants_input() {
            return false;
        }
        let message = match Decoder::new(Limits::default()).decode(&self.to_server) {
            Ok(Some((packet, length))) => {
                self.to_server.drain(..length);
                self.understood(packet)
            }
            Ok(None) if self.client_left => ClientMessage::Closed,
            Ok(None) => return false,
            Err(error) => malformed(error.to_string()),
        };
        self.server.handle(self.now, message);
        true
    }

    fn understood(&mut self, packet: Packet) -> ClientMessage {
        if packet.kind == Kind::Disconnect {
            return ClientMessage::Closed;
        }
        let mut hello = match Hello::read(packet) {
            Ok(hello) => hello,
            Err(error) => return malformed(error.to_string()),
        };
        let claim = match Claim::named(hello.username.as_deref().unwrap_or_default()) {
            Ok(claim) => claim.asking_for(hello.display.clone(), hello.session_name.clone()),
            Err(refusal) => return ClientMessage::Unacceptable(refusal),
        };
        let (response, initial) = (hello.response.take(), hello.initial_response.take());
        self.answered[1].extend(response.as_ref().map(answer));
        self.initial = self.initial.take().or_else(|| initial.as_ref().map(answer));
        let offer = Offer::new(hello.digests, hello.salt_digests);
        let said = challenge::Hello::new(claim, offer).expecting_challenge(hello.expects_challenge);
        ClientMessage::Hello(Box::new(said.with_response(response).with_initial_response(initial)))
    }

    fn client_hears(&mut self) -> bool {
        if self.client_left {
            return false;
        }
        let message = match Decoder::new(Limits::default()).decode_reply(&self.to_client) {
            Ok(Some((reply, length))) => {
                self.to_client.drain(..length);
                match reply {
                    Reply::Packet(packet) => self.told(packet),
                    Reply::PlainText(text) => Some(ServerMessage::Disconnect(vec![text])),
                    _ => None,
                }
            }
            Ok(None) if std::mem::take(&mut self.welcome) => Some(ServerMessage::Welcome),
            Ok(None) if self.server_left => Some(ServerMessage::Closed),
            Ok(None) => return false,
            Err(error) => Some(ServerMessage::Malformed(error.to_string().into())),
        };
        if let Some(message) = message {
            self.client.handle(self.now, message);
        }
        true
    }

    fn told(&mut self, packet: Packet) -> Option<ServerMessage> {
        let wrong = |error: countersign_proto::wire::xpra::WireError| {
            ServerMessage::Malformed(error.to_string().into())
        };
        Some(match packet.kind {
            Kind::Challenge => match Challenge::read(packet) {
                Ok(heard) => {
                    self.asked[1].push(question(&heard));
                    let Ok(mechanism) = heard.digest.parse::<Mechanism>();
                    let (salts, prompt) =
                        (heard.salt_digest.unwrap_or_default(), heard.prompt.unwrap_or_default());
                    let challenge = challenge::Challenge::new(heard.salt, mechanism, salts, prompt);
                    ServerMessage::Challenge { challenge, countersign: true }
                }
                Err(error) => wrong(error),
            },
            Kind::Disconnect => match Disconnect::read(&packet) {
                Ok(disconnect) => ServerMessage::Disconnect(disconnect.reasons),
                Err(error) => wrong(error),
            },
            // Its hello says that the login is over.
            Kind::Hello => ServerMessage::Welcome,
            _ => return None,
        })
    }

    /// Lets time pass until something is due.
    fn wait(&mut self) {
        let server = self.server.poll_timeout().filter(|_| !self.server_left);
        let client = self.client.poll_timeout().filter(|_| !self.client_left);
        let due =
            [server, client].into_iter().flatten().min().expect("somebody waits for no longer than so long");
        self.now = self.now.max(due);
        if server.is_some_and(|server| server <= self.now) {
            self.server.handle_timeout(self.now);
        }
        if client.is_some_and(|client| client <= self.now) {
            self.client.handle_timeout(self.now);
        }
    }
}

fn question(challenge: &Challenge) -> Asked {
    (challenge.salt.clone(), challenge.digest.clone(), challenge.salt_digest.clone())
}

fn answer(response: &challenge::Response) -> Answered {
    (response.value.expose().to_vec(), response.client_salt.clone())
}

fn malformed(why: String) -> ClientMessage {
    ClientMessage::Malformed(Refusal::new(Reason::Malformed, why))
}

/// Salts that are never twice the same.
fn counting(mut next: u8) -> impl FnMut(&mut [u8]) + Send + 'static {
    move |bytes| {
        next = next.wrapping_add(1);
        bytes.fill(next);
    }
}

/// The server's account: whoever else is named has none.
struct Knows(&'static str);

impl LookupSecret for Knows {
    fn lookup(&self, claim: &Claim) -> Result<Entry, Refusal> {
        match &claim.username {
            Some(name) if name.as_str() == NAME => {
                let secret = StoredSecret::Cleartext(Secret::new(self.0));
                Ok(Entry::new(vec![(secret, Some(Identity::new(name.clone())))]))
            }
            _ => Err(Refusal::new(Reason::UnknownUser, "it is not alice")),
        }
    }
}

/// The client's passwords, one for each question.
struct Holds(&'static [&'static str]);

impl ProvideSecret for Holds {
    fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure> {
        Ok(self.0.get(question.turn).map(|secret| Provided::Text(Secret::new(*secret))))
    }

    fn turns(&self) -> usize {
        self.0.len()
    }
}

const NAME: &str = "alice";
const SECRETS: [&[&str]; 2] = [&["first"], &["first", "second"]];
