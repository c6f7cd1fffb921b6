//! Both ends of a login in memory, with a clock that the test winds, and servers that mean harm.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{
    Chain, Identity, Link, Peer, Refusal, Secret, Username, Verifier,
    chain::{
        Answer, Ask, CheckPassword, CheckPeer, Entry, Exchange as ServerExchange, LookupSecret,
        OpenExchange as OpenServerExchange, Verdict,
    },
    challenge::Response,
    error::Reason,
    mechanism::hmac::StoredSecret,
    server,
};

mod faults;
mod initial;
mod scram;

/// A source with these secrets, one for each question.
#[derive(Default)]
struct Knows {
    secrets: Vec<&'static str>,
    at_hand: bool,
}

impl ProvideSecret for Knows {
    fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure> {
        Ok(self.secrets.get(question.turn).map(|secret| Provided::Text(Secret::new(*secret))))
    }

    fn turns(&self) -> usize {
        self.secrets.len()
    }

    fn is_at_hand(&self) -> bool {
        self.at_hand
    }
}

fn knows(secrets: &[&'static str]) -> Responder {
    Responder::secret("knows", Knows { secrets: secrets.to_vec(), at_hand: true })
}

/// Answers `token:SERVICE` with the service's name, twice.
struct Token;

impl OpenExchange for Token {
    fn mechanisms(&self) -> &[&'static str] {
        &["token"]
    }

    fn open(&self, _: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        Ok(Some(Box::new(TokenRounds(0))))
    }
}

struct TokenRounds(usize);

impl Exchange for TokenRounds {
    fn step(&mut self, challenge: &Challenge, _: &Question<'_>) -> Result<Option<Response>, Failure> {
        self.0 += 1;
        let answer = format!("{} {}", challenge.mechanism, self.0);
        Ok((self.0 <= 2).then(|| Response::new(Secret::new(answer), Vec::new())))
    }
}

fn token() -> Responder {
    Responder::new("token", Means::Exchange(Box::new(Token)))
}

struct Facts(bool);

impl CheckPeer for Facts {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        if self.0 { Ok(None) } else { Err(Refusal::peer_denied("not from here")) }
    }
}

struct Holds(&'static str);

impl LookupSecret for Holds {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new(self.0))))
    }
}

impl CheckPassword for Holds {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        if password.matches(self.0.as_bytes()) {
            return Ok(claim.username.clone().map(Identity::new));
        }
        Err(Refusal::new(Reason::WrongSecret, "no"))
    }
}

/// Wants two tokens for `door`.
struct Tokens;

struct TokensAsked(usize);

impl OpenServerExchange for Tokens {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn ServerExchange>, Refusal> {
        Ok(Box::new(TokensAsked(0)))
    }
}

impl ServerExchange for TokensAsked {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let expected = format!("token:door {}", self.0);
        let right = answer.is_none_or(|answer| answer.value.matches(expected.as_bytes()));
        self.0 += 1;
        match (right, self.0) {
            (false, _) => Verdict::Refuse(Refusal::new(Reason::WrongSecret, "no")),
            (true, 1 | 2) => {
                Verdict::Ask(Ask::Own { mechanism: "token:door".to_owned(), message: Some(b"m".to_vec()) })
            }
            (true, _) => Verdict::Pass(None),
        }
    }
}

fn facts(pass: bool) -> Link {
    Link::new("facts", Verifier::Peer(Box::new(Facts(pass))))
}

fn proof(secret: &'static str) -> Link {
    Link::new("proof", Verifier::Secret(Box::new(Holds(secret))))
}

fn cleartext(password: &'static str) -> Link {
    Link::new("cleartext", Verifier::Password(Box::new(Holds(password))))
}

fn tokens() -> Link {
    Link::new("tokens", Verifier::Exchange(Box::new(Tokens)))
}

/// A client, a server, and what is on the way between them.
struct Pair {
    client: Conversation,
    server: server::Conversation,
    now: Instant,
    countersign: bool,
    hellos: Vec<bool>,
    granted: Option<Option<String>>,
}

/// How a login ended at the client, and at the server.
#[derive(Debug, PartialEq)]
enum End {
    In { answered: usize, identity: Option<String> },
    Out(FailureKind),
}

impl Pair {
    fn new(links: Vec<Link>, responders: Vec<Responder>, confidential: bool) -> Self {
        let address = "192.0.2.1:1".parse().unwrap();
        let peer = if confidential { Peer::unix(None) } else { Peer::tcp(address, address) };
        Self::between(client(responders, confidential, Settings::default()), links, peer)
    }

    fn between(client: Conversation, links: Vec<Link>, peer: Peer) -> Self {
        let now = Instant::now();
        let chain = Arc::new(Chain::new(links).unwrap());
        let settings = server::Settings::default();
        Self {
            client,
            server: server::Conversation::new(chain, Arc::new(peer), settings, counting(), now),
            now,
            countersign: true,
            hellos: Vec::new(),
            granted: None,
        }
    }

    /// Plays until the client is through.
    fn play(mut self) -> End {
        self.client.start(self.now);
        for _ in 0..200 {
            match self.client.poll() {
                Some(Action::Send { hello, .. }) => {
                    self.hellos.push(hello.expects_challenge);
                    self.server.handle(self.now, server::ClientMessage::Hello(hello));
                }
                Some(Action::Consult(consult)) => {
                    self.now += Duration::from_secs(8);
                    self.client.handle_consulted(self.now, consult.run());
                }
                Some(Action::Established { answered }) => {
                    let identity = self.granted.expect("the server granted it");
                    return End::In { answered: answered.len(), identity };
                }
                Some(Action::Fail(failure)) => return End::Out(failure.kind),
                None => self.step_server(),
            }
        }
        panic!("no end in sight");
    }

    fn step_server(&mut self) {
        let message = match self.server.poll() {
            Some(server::Action::Check(check)) => {
                return self.server.handle_checked(self.now, check.run());
            }
            Some(server::Action::Challenge(challenge)) => {
                ServerMessage::Challenge { challenge, countersign: self.countersign }
            }
            Some(server::Action::Accept(grant)) => {
                self.granted = Some(grant.identity().map(|identity| identity.name.to_string()));
                ServerMessage::Welcome
            }
            Some(server::Action::Refuse(refusal)) => {
                ServerMessage::Disconnect(vec![refusal.public().to_owned()])
            }
            None => {
                let due = [self.client.poll_timeout(), self.server.poll_timeout()];
                self.now = due.into_iter().flatten().min().expect("somebody waits");
                self.client.handle_timeout(self.now);
                return self.server.handle_timeout(self.now);
            }
        };
        if self.server.took_initial_response() {
            self.client.handle(self.now, ServerMessage::TookInitialResponse);
        }
        self.client.handle(self.now, message);
    }
}

/// A pair over TLS, whose two ends see these sessions.
fn over_tls(links: Vec<Link>, responders: Vec<Responder>, ends: [&'static [u8]; 2]) -> Pair {
    let mut peer = Peer::unix(None);
    peer.channel_binding = Some(ends[1].into());
    Pair::between(client_over_tls(responders, ends[0], Settings::default()), links, peer)
}

fn client_over_tls(responders: Vec<Responder>, binding: &[u8], settings: Settings) -> Conversation {
    let server = Server::new("tls://192.0.2.1:1", true, true).bound_by(Some(binding.into()));
    let claim = Claim::named("alice").unwrap();
    Conversation::new(claim, responders.into(), Arc::new(server), settings, counting())
}

fn client(responders: Vec<Responder>, confidential: bool, settings: Settings) -> Conversation {
    let server = Server::new("tcp://192.0.2.1:14500", confidential, false);
    let claim = Claim::named("alice").unwrap();
    Conversation::new(claim, responders.into(), Arc::new(server), settings, counting())
}

fn counting() -> impl server::Random {
    let mut counter = 0_u32;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            counter += 1;
            *byte = (counter.wrapping_mul(0x9e37_79b9) >> 24) as u8;
        }
    }
}

fn play(links: Vec<Link>, responders: Vec<Responder>, confidential: bool) -> End {
    Pair::new(links, responders, confidential).play()
}

fn challenge(mechanism: &str, salt_digest: &str) -> ServerMessage {
    let mechanism = mechanism.parse().unwrap();
    let challenge = Challenge::new(vec![7; 64], mechanism, salt_digest, "password");
    ServerMessage::Challenge { challenge, countersign: false }
}

/// Starts a client and shows it these messages, until it ends or waits.
fn show(mut client: Conversation, messages: Vec<ServerMessage>) -> (Vec<Hello>, Option<Action>) {
    let now = Instant::now();
    let mut messages = VecDeque::from(messages);
    let mut hellos = Vec::new();
    client.start(now);
    loop {
        match client.poll() {
            Some(Action::Send { hello, .. }) => hellos.push(*hello),
            Some(Action::Consult(consult)) => client.handle_consulted(now, consult.run()),
            Some(end) => return (hellos, Some(end)),
            None => match messages.pop_front() {
                Some(message) => client.handle(now, message),
                None => return (hellos, None),
            },
        }
    }
}

fn failure(client: Conversation, message: ServerMessage) -> (usize, Failure) {
    match show(client, vec![message]) {
        (hellos, Some(Action::Fail(failure))) => (hellos.len(), failure),
        (_, other) => panic!("expected a failure, saw {other:?}"),
    }
}

fn in_with(answered: usize, identity: Option<&str>) -> End {
    End::In { answered, identity: identity.map(str::to_owned) }
}

#[test]
fn each_kind_of_link_is_passed_with_the_right_answer() {
    assert_eq!(play(vec![facts(true)], vec![], false), in_with(0, None));
    assert_eq!(play(vec![proof("one")], vec![knows(&["one"])], false), in_with(1, None));
    assert_eq!(play(vec![cleartext("one")], vec![knows(&["one"])], true), in_with(1, Some("alice")));
    assert_eq!(play(vec![tokens()], vec![knows(&["one"]), token()], false), in_with(2, None));
    let chain = vec![facts(true), proof("one"), tokens(), cleartext("two")];
    assert_eq!(play(chain, vec![knows(&["one", "two"]), token()], true), in_with(4, Some("alice")));
}

#[test]
fn wrong_missing_and_no_answers_end_as_what_they_are() {
    let refused = End::Out(FailureKind::Refused);
    assert_eq!(play(vec![facts(false)], vec![], false), refused);
    assert_eq!(play(vec![proof("one")], vec![knows(&["two"])], false), refused);
    assert_eq!(play(vec![cleartext("one")], vec![knows(&["two"])], true), refused);
    let nothing = End::Out(FailureKind::NoCredential);
    assert_eq!(play(vec![proof("one")], vec![], false), nothing);
    assert_eq!(play(vec![proof("one")], vec![knows(&[])], false), nothing);
    assert_eq!(play(vec![proof("one"), proof("two")], vec![knows(&["one"])], false), nothing);
    assert_eq!(play(vec![proof("one")], vec![knows(&[""])], false), nothing, "S-32");
}

#[test]
fn s_033_the_cleartext_never_leaves_for_an_open_wire() {
    assert_eq!(play(vec![cleartext("one")], vec![knows(&["one"])], false), End::Out(FailureKind::Forbidden));
    let (hellos, failure) =
        failure(client(vec![knows(&["one"])], false, Settings::default()), challenge("xor", "hmac+sha512"));
    assert_eq!((hellos, failure.kind), (1, FailureKind::Forbidden));
    assert!(failure.fix.unwrap().contains("tls://"));
}

#[test]
fn one_secret_answers_one_link_and_sources_are_asked_in_order() {
    let pair = || vec![proof("one"), proof("two")];
    assert_eq!(play(pair(), vec![knows(&["one"]), knows(&["two"])], false), in_with(2, None));
    assert_eq!(play(pair(), vec![knows(&["one", "two"])], false), in_with(2, None));
    assert_eq!(play(pair(), vec![knows(&["two"]), knows(&["one"])], false), End::Out(FailureKind::Refused));
}

#[test]
fn a_client_with_a_secret_at_hand_says_so_in_its_first_hello_only() {
    let mut pair = Pair::new(vec![proof("one")], vec![knows(&["one"])], false);
    pair.client.start(pair.now);
    let Some(Action::Send { hello: first, .. }) = pair.client.poll() else { panic!("a hello was due") };
    assert!(first.expects_challenge && first.response.is_none());
    let asked = show(
        client(vec![knows(&["one"])], false, Settings::default()),
        vec![challenge("hmac+sha512", "hmac+sha256")],
    );
    assert!(!asked.0[1].expects_challenge && asked.0[1].response.is_some());
    let waits = Responder::secret("knows", Knows { secrets: vec!["one"], at_hand: false });
    let (hellos, _) = show(client(vec![waits], false, Settings::default()), vec![]);
    assert!(!hellos[0].expects_challenge);
}

#[test]
fn s_045_a_server_that_asks_nothing_is_taken_unless_a_login_is_required() {
    assert_eq!(play(vec![facts(true)], vec![knows(&["one"])], false), in_with(1, None), "throw-away");
    let open = |settings| show(client(vec![], false, settings), vec![ServerMessage::Welcome]).1;
    assert!(
        matches!(open(Settings::default()), Some(Action::Established { answered }) if answered.is_empty())
    );
    let required = open(Settings::default().requiring_auth(true));
    assert!(matches!(required, Some(Action::Fail(failure)) if failure.kind == FailureKind::Forbidden));
}

#[test]
fn s_029_only_what_was_offered_is_answered() {
    // W35: Xpra's clients answer md5 and sha1 as well. W04: des.
    for mechanism in
        ["hmac+md5", "hmac+sha1", "hmac", "des", "xor:x", "hmac+sha512:x", "plain", "", "SCRAM-X"]
    {
        let client = client(vec![knows(&["one"]), token()], true, Settings::default());
        let (hellos, failure) = failure(client, challenge(mechanism, "hmac+sha512"));
        assert_eq!((hellos, failure.kind), (1, FailureKind::Forbidden), "{mechanism}");
    }
    for salt_digest in ["xor", "des", "hmac+md5", "hmac", ""] {
        let client = client(vec![knows(&["one"])], true, Settings::default());
        let (hellos, failure) = failure(client, challenge("hmac+sha512", salt_digest));
        assert_eq!((hellos, failure.kind), (1, FailureKind::Forbidden), "{salt_digest}");
    }
}

#[test]
fn w_034_a_password_never_answers_for_a_token() {
    for mechanism in ["kerberos:host", "gss:host", "keycloak", "u2f:xor"] {
        for confidential in [true, false] {
            let client = client(vec![knows(&["one"]), token()], confidential, Settings::default());
            let (hellos, failure) = failure(client, challenge(mechanism, "hmac+sha512"));
            assert_eq!((hellos, failure.kind), (1, FailureKind::Forbidden), "{mechanism}");
        }
    }
    // A token handler that has nothing more to say does not hand over to the password either.
    let ask = || challenge("token:x", "hmac+sha512");
    let three = vec![ask(), ask(), ask()];
    let (hellos, end) = show(client(vec![knows(&["one"]), token()], true, Settings::default()), three);
    assert_eq!(hellos.len(), 3);
    assert!(matches!(end, Some(Action::Fail(failure)) if failure.kind == FailureKind::NoCredential));
}

/// Answers `owing` and lets the server go on only after a second question.
struct Owed(usize);

impl OpenExchange for Owed {
    fn mechanisms(&self) -> &[&'static str] {
        &["owing"]
    }

    fn open(&self, _: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        Ok(Some(Box::new(Self(0))))
    }
}

impl Exchange for Owed {
    fn step(&mut self, _: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        assert!(!question.countersign);
        self.0 += 1;
        Ok(Some(Response::new(Secret::new("x"), Vec::new())))
    }

    fn is_owed(&self) -> bool {
        self.0 < 2
    }
}

#[test]
fn s_045_a_server_that_owes_a_proof_cannot_leave_it_out() {
    let owing = || challenge("owing:x", "hmac+sha512");
    let end = |messages| {
        let responders =
            vec![Responder::new("owed", Means::Exchange(Box::new(Owed(0)))), token(), knows(&["one"])];
        show(client(responders, true, Settings::default()), messages).1
    };
    let in_after = |messages| matches!(end(messages), Some(Action::Established { .. }));
    let out_after = |messages| matches!(end(messages), Some(Action::Fail(failure)) if failure.kind == FailureKind::Misbehaved);
    assert!(in_after(vec![owing(), owing(), ServerMessage::Welcome]));
    assert!(out_after(vec![owing(), ServerMessage::Welcome]));
    assert!(out_after(vec![owing(), challenge("token:x", "hmac+sha512")]), "nor by another's rounds");
    let password = || challenge("hmac+sha512", "hmac+sha512");
    assert!(out_after(vec![owing(), password(), ServerMessage::Welcome]), "nor by a password");
    assert!(in_after(vec![owing(), owing(), password(), ServerMessage::Welcome]));
}

#[test]
fn text_is_latin1_for_xpras_servers_and_utf8_for_ours() {
    let response = |countersign| {
        let challenge = Challenge::new(vec![0; 64], Mechanism::Xor, "hmac+sha512", "");
        let client = client(vec![knows(&["é"])], true, Settings::default());
        let (mut hellos, _) = show(client, vec![ServerMessage::Challenge { challenge, countersign }]);
        hellos.pop().unwrap().response.unwrap().value.expose().len()
    };
    assert_eq!((response(false), response(true)), (1, 2));
}
