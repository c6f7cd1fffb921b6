//! Whole logins in memory, with a clock that the test winds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::*;
use crate::{
    Claim, Identity, Link, Secret, Username, Verifier,
    chain::{Answer, Ask, CheckPassword, CheckPeer, Entry, Exchange, LookupSecret, OpenExchange, Verdict},
    challenge::{Offer, Response},
    mechanism::{
        Hash, Mechanism,
        hmac::{self, StoredSecret},
        xor,
    },
};

mod checks;
mod exhaustive;
mod initial;
mod questions;
mod stay;
mod time;
mod watch;

/// Names whom the client claims, if the flag says pass.
struct Facts(bool);

impl CheckPeer for Facts {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        if self.0 { Ok(None) } else { Err(Refusal::peer_denied("not from here")) }
    }
}

/// Everybody's secret is their name, reversed; `nobody` is unknown.
struct Reversed;

impl LookupSecret for Reversed {
    fn lookup(&self, claim: &Claim) -> Result<Entry, Refusal> {
        let name = claim.username.clone().ok_or_else(Refusal::unknown_user)?;
        if name.as_str() == "nobody" {
            return Err(Refusal::unknown_user());
        }
        let secret: String = name.as_str().chars().rev().collect();
        Ok(Entry::new(vec![(StoredSecret::Cleartext(Secret::new(secret)), Some(Identity::new(name)))]))
    }
}

struct Cleartext(&'static str);

impl CheckPassword for Cleartext {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        if password.matches(self.0.as_bytes()) {
            return Ok(claim.username.clone().map(Identity::new));
        }
        Err(Refusal::new(Reason::WrongSecret, "no"))
    }
}

/// Asks twice for cleartext: `one`, then `two`, with words of its own.
struct TwoQuestions;

struct Asked(usize);

impl OpenExchange for TwoQuestions {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(Asked(0)))
    }

    fn needs_cleartext(&self) -> bool {
        true
    }
}

impl Exchange for Asked {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let Some(answer) = answer else { return Verdict::Ask(Ask::Cleartext) };
        self.0 += 1;
        match (self.0, answer.value.expose()) {
            (1, b"one") => Verdict::Ask(Ask::Worded("and two?".to_owned())),
            (2, b"two") => Verdict::Pass(None),
            _ => Verdict::Refuse(Refusal::new(Reason::WrongSecret, "no")),
        }
    }
}

/// Wants the token `t`, however long it is drawn, as it is or behind the mask.
struct Token;

impl OpenExchange for Token {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(Self))
    }
}

impl Exchange for Token {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        match answer {
            None => Verdict::Ask(Ask::Token { mechanism: "token:door".to_owned(), message: None }),
            Some(answer) if answer.value.expose().iter().all(|byte| *byte == b't') => Verdict::Pass(None),
            Some(_) => Verdict::Refuse(Refusal::new(Reason::WrongSecret, "no")),
        }
    }
}

struct Panics;

impl CheckPeer for Panics {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        panic!("a module crashed");
    }
}

fn facts(pass: bool) -> Link {
    Link::new("facts", Verifier::Peer(Box::new(Facts(pass))))
}

fn reversed() -> Link {
    Link::new("reversed", Verifier::Secret(Box::new(Reversed)))
}

fn cleartext(password: &'static str) -> Link {
    Link::new("cleartext", Verifier::Password(Box::new(Cleartext(password))))
}

fn two_questions() -> Link {
    Link::new("questions", Verifier::Exchange(Box::new(TwoQuestions)))
}

/// A server under test and the time.
struct Server {
    conversation: Conversation,
    now: Instant,
}

/// What a client saw in the end.
#[derive(Debug, PartialEq)]
enum End {
    Accepted(Option<String>),
    Refused(Reason),
}

impl Server {
    fn new(links: Vec<Link>, peer: Peer) -> Self {
        static SEED: AtomicUsize = AtomicUsize::new(0);
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let mut counter = 0_u64;
        let random = move |bytes: &mut [u8]| {
            for byte in bytes {
                counter += 1;
                *byte = (counter.wrapping_mul(0x9e37_79b9) >> 7) as u8 ^ seed as u8;
            }
        };
        let now = Instant::now();
        let chain = Arc::new(Chain::new(links).unwrap());
        Self { conversation: Conversation::new(chain, Arc::new(peer), Settings::default(), random, now), now }
    }

    fn send(&mut self, hello: Hello) {
        self.conversation.handle(self.now, ClientMessage::Hello(Box::new(hello)));
    }

    /// Runs checks until there is something for the client, or nothing more.
    fn next(&mut self) -> Option<Action> {
        loop {
            match self.conversation.poll() {
                Some(Action::Check(check)) => {
                    let done = check.run();
                    self.conversation.handle_checked(self.now, done);
                }
                other => return other,
            }
        }
    }

    /// Winds the clock to the next time-out.
    fn wait(&mut self) -> Duration {
        let due = self.conversation.poll_timeout().unwrap();
        let waited = due - self.now;
        self.now = due;
        self.conversation.handle_timeout(self.now);
        waited
    }

    fn challenge(&mut self) -> Challenge {
        match self.next() {
            Some(Action::Challenge(challenge)) => challenge,
            other => panic!("expected a challenge, saw {other:?}"),
        }
    }

    fn end(&mut self) -> End {
        match self.next() {
            Some(Action::Accept(grant)) => End::Accepted(grant.identity().map(|i| i.name.to_string())),
            Some(Action::Refuse(refusal)) => End::Refused(refusal.reason),
            Some(other) => panic!("expected an end, saw {other:?}"),
            None => {
                self.wait();
                self.end()
            }
        }
    }
}

fn tcp() -> Peer {
    Peer::tcp("127.0.0.1:40000".parse().unwrap(), "127.0.0.1:10000".parse().unwrap())
}

fn unix() -> Peer {
    Peer::unix(None)
}

fn offer() -> Offer {
    Offer::of_client(true)
}

fn hello(name: &str) -> Hello {
    Hello::new(Claim::named(name).unwrap(), offer())
}

fn answer(challenge: &Challenge, secret: &str) -> Response {
    let client_salt = vec![0xc5; 32];
    let hash = Hash::strongest_in(std::slice::from_ref(&challenge.salt_digest)).unwrap();
    let combined = hmac::combine_salts(hash, &client_salt, &challenge.salt);
    let secret = Secret::new(secret);
    let value = match challenge.mechanism {
        Mechanism::Hmac(hash) => hmac::respond(hash, &secret, &combined),
        _ => xor::mask(&secret, &combined),
    };
    Response::new(value, client_salt)
}

fn login(links: Vec<Link>, peer: Peer, name: &str, secrets: &[&str]) -> End {
    let mut server = Server::new(links, peer);
    server.send(hello(name));
    for secret in secrets {
        let challenge = server.challenge();
        server.send(hello(name).with_response(Some(answer(&challenge, secret))));
    }
    server.end()
}

fn alice() -> End {
    End::Accepted(Some("alice".into()))
}

#[test]
fn each_kind_of_link_lets_the_right_client_in_and_no_other() {
    assert_eq!(login(vec![facts(true)], tcp(), "", &[]), End::Accepted(None));
    assert_eq!(login(vec![facts(false)], tcp(), "", &[]), End::Refused(Reason::PeerDenied));
    assert_eq!(login(vec![reversed()], tcp(), "alice", &["ecila"]), alice());
    assert_eq!(login(vec![reversed()], tcp(), "alice", &["alice"]), End::Refused(Reason::WrongSecret));
    assert_eq!(login(vec![reversed()], tcp(), "nobody", &["ydobon"]), End::Refused(Reason::UnknownUser));
    assert_eq!(login(vec![cleartext("pw")], unix(), "alice", &["pw"]), alice());
    assert_eq!(login(vec![cleartext("pw")], unix(), "alice", &["pv"]), End::Refused(Reason::WrongSecret));
    assert_eq!(login(vec![two_questions()], unix(), "", &["one", "two"]), End::Accepted(None));
    assert_eq!(login(vec![two_questions()], unix(), "", &["one", "one"]), End::Refused(Reason::WrongSecret));
}

#[test]
fn s_065_all_links_pass_in_order_and_one_that_fails_ends_it() {
    let chain = || vec![facts(true), reversed(), two_questions(), cleartext("pw")];
    assert_eq!(login(chain(), unix(), "alice", &["ecila", "one", "two", "pw"]), alice());
    assert_eq!(
        login(chain(), unix(), "alice", &["ecila", "one", "two", "no"]),
        End::Refused(Reason::WrongSecret)
    );
    assert_eq!(login(chain(), unix(), "alice", &["no"]), End::Refused(Reason::WrongSecret));
    assert_eq!(login(vec![facts(false), reversed()], unix(), "alice", &[]), End::Refused(Reason::PeerDenied));
}

#[test]
fn s_020_a_module_that_crashes_has_refused() {
    let crashing = Link::new("panics", Verifier::Peer(Box::new(Panics)));
    assert_eq!(login(vec![crashing], unix(), "alice", &[]), End::Refused(Reason::ModulePanicked));
}

#[test]
fn s_028_salts_are_64_bytes_and_never_the_same_and_an_answer_fits_its_own_only() {
    let mut server = Server::new(vec![reversed(), reversed()], unix());
    server.send(hello("alice"));
    let first = server.challenge();
    let proof = answer(&first, "ecila");
    let replay = answer(&first, "ecila");
    server.send(hello("alice").with_response(Some(proof)));
    let second = server.challenge();
    assert_eq!((first.salt.len(), second.salt.len()), (64, 64));
    assert_ne!(first.salt, second.salt);
    server.send(hello("alice").with_response(Some(replay)));
    assert_eq!(server.end(), End::Refused(Reason::WrongSecret));
}

#[test]
fn s_030_a_response_without_a_proper_client_salt_fails_also_with_the_right_secret() {
    for salt in [Vec::new(), vec![1; 15], vec![1; 257]] {
        let mut server = Server::new(vec![reversed()], unix());
        server.send(hello("alice"));
        let challenge = server.challenge();
        let combined = hmac::combine_salts(Hash::Sha512, &salt, &challenge.salt);
        let value = hmac::respond(Hash::Sha512, &Secret::new("ecila"), &combined);
        server.send(hello("alice").with_response(Some(Response::new(value, salt))));
        assert_eq!(server.end(), End::Refused(Reason::BadClientSalt));
    }
}

#[test]
fn s_015_a_hello_without_a_response_and_an_empty_response_fail() {
    let mut server = Server::new(vec![reversed()], unix());
    server.send(hello("alice"));
    server.challenge();
    server.send(hello("alice"));
    assert_eq!(server.end(), End::Refused(Reason::NoResponse));

    let mut server = Server::new(vec![reversed()], unix());
    server.send(hello("alice"));
    server.challenge();
    server.send(hello("alice").with_response(Some(Response::new(Secret::new(""), vec![9; 32]))));
    assert_eq!(server.end(), End::Refused(Reason::WrongSecret));
}

#[test]
fn s_015_nothing_after_a_failure_counts_not_even_the_right_answer() {
    let mut server = Server::new(vec![reversed()], unix());
    server.send(hello("alice"));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "wrong"))));
    assert!(server.next().is_none());
    assert!(!server.conversation.wants_input());
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    assert_eq!(server.end(), End::Refused(Reason::WrongSecret));
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    assert!(server.next().is_none());
    assert_eq!(server.conversation.poll_timeout(), None);
}

#[test]
fn s_015_a_hello_while_a_check_runs_breaks_the_protocol() {
    let mut server = Server::new(vec![facts(true)], unix());
    server.send(hello("alice"));
    let Some(Action::Check(check)) = server.conversation.poll() else { panic!("a check is due") };
    server.send(hello("alice"));
    assert!(matches!(server.conversation.poll(), Some(Action::Refuse(r)) if r.reason == Reason::Malformed));
    server.conversation.handle_checked(server.now, check.run());
    assert!(server.next().is_none(), "a late check result opens nothing");
}

#[test]
fn s_016_the_first_hello_binds_name_digests_and_session() {
    type Change = fn(&mut Hello);
    let changes: [Change; 3] = [
        |hello| hello.claim = Claim::named("bob").unwrap(),
        |hello| hello.claim = Claim::anonymous(),
        |hello| hello.offer = Offer::of_client(false),
    ];
    for change in changes {
        let mut server = Server::new(vec![reversed()], unix());
        server.send(hello("alice"));
        let challenge = server.challenge();
        let mut second = hello("alice").with_response(Some(answer(&challenge, "ecila")));
        change(&mut second);
        server.send(second);
        assert_eq!(server.end(), End::Refused(Reason::ClaimChanged));
    }
}

#[test]
fn a_client_that_insists_on_a_challenge_gets_one_whose_answer_does_not_count() {
    let mut server = Server::new(vec![facts(true)], unix());
    server.send(hello("alice").expecting_challenge(true));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "anything"))));
    assert_eq!(server.end(), End::Accepted(None));

    let mut refused = Server::new(vec![facts(false)], unix());
    refused.send(hello("alice").expecting_challenge(true));
    assert_eq!(refused.end(), End::Refused(Reason::PeerDenied));

    let mut asked = Server::new(vec![reversed()], unix());
    asked.send(hello("alice").expecting_challenge(true));
    let challenge = asked.challenge();
    asked.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    assert_eq!(asked.end(), alice());
}

#[test]
fn a_response_before_any_challenge_is_not_looked_at() {
    let mut server = Server::new(vec![reversed()], unix());
    let early = Response::new(Secret::new("x"), vec![1; 32]);
    server.send(hello("alice").with_response(Some(early)));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    assert_eq!(server.end(), alice());
}

#[test]
fn what_is_malformed_ends_it_at_once_and_so_does_the_end_of_the_stream() {
    for (message, reason) in [
        (ClientMessage::Malformed(Refusal::new(Reason::Malformed, "garbage")), Reason::Malformed),
        (ClientMessage::Closed, Reason::PeerLeft),
    ] {
        let mut server = Server::new(vec![reversed()], unix());
        server.conversation.handle(server.now, message);
        assert!(matches!(server.conversation.poll(), Some(Action::Refuse(r)) if r.reason == reason));
    }
}

#[test]
fn s_069_a_forbidden_name_is_refused_like_a_wrong_password() {
    let mut server = Server::new(vec![reversed()], unix());
    let refusal = Claim::named("../root").unwrap_err();
    server.conversation.handle(server.now, ClientMessage::Unacceptable(refusal));
    assert!(server.next().is_none());
    assert!(server.wait() >= Duration::from_secs(1));
    assert_eq!(server.end(), End::Refused(Reason::BadUsername));
}

#[test]
fn verify_username_refuses_other_names_and_a_fixed_name_is_used_without_it() {
    let link = |verify| {
        let name = Username::parse("alice").unwrap();
        reversed().with_account(crate::chain::Account::Fixed { name, verify })
    };
    assert_eq!(login(vec![link(false)], unix(), "foobar", &["ecila"]), alice());
    assert_eq!(login(vec![link(true)], unix(), "alice", &["ecila"]), alice());
    assert_eq!(login(vec![link(true)], unix(), "foobar", &["ecila"]), End::Refused(Reason::UsernameMismatch));
}

#[test]
fn on_a_silent_wire_a_chain_that_asks_is_refused_and_one_that_does_not_decides() {
    for (link, end) in [
        (facts(true), End::Accepted(None)),
        (facts(false), End::Refused(Reason::PeerDenied)),
        (reversed(), End::Refused(Reason::NoCommonMechanism)),
    ] {
        let mut server = Server::new(vec![link], unix());
        server.conversation.begin_silent(server.now);
        assert_eq!(server.end(), end);
    }
}
