//! SCRAM from the client's side: who answers it, and servers that do not prove themselves.

use super::*;
use crate::mechanism::{
    Hash,
    scram::{DONE, Greeting, Keys, Pending, Stage, Variant},
};

const PLAIN: Variant = Variant::STRONGEST_FIRST[2];
const BOUND: Variant = Variant::STRONGEST_FIRST[0];

/// Knows the password `one` of everybody, and misbehaves as it is told.
struct Server {
    variant: Variant,
    honest: bool,
}

enum Turn {
    First,
    Proof(Pending),
    Done,
}

struct Login(Turn, Variant, bool, Option<Arc<[u8]>>);

impl OpenServerExchange for Server {
    fn open(&self, peer: &Peer, _: &Claim) -> Result<Box<dyn ServerExchange>, Refusal> {
        let binding = peer.channel_binding.clone();
        Ok(Box::new(Login(Turn::First, self.variant, self.honest, binding)))
    }
}

impl ServerExchange for Login {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let Some(answer) = answer else {
            let other = Variant::STRONGEST_FIRST[3];
            return Verdict::Ask(Ask::AnyOf(vec![
                self.1.asking(Stage::ClientFirst),
                other.asking(Stage::ClientFirst),
            ]));
        };
        let no = |why: &str| Verdict::Refuse(Refusal::new(Reason::WrongSecret, why.to_owned()));
        let ask = |stage, message| {
            Verdict::Ask(Ask::Own { mechanism: self.1.asking(stage), message: Some(message) })
        };
        match std::mem::replace(&mut self.0, Turn::Done) {
            Turn::First => {
                assert_eq!(answer.mechanism.scram(), Some((self.1, Stage::ClientFirst)));
                assert!(answer.client_salt.is_empty());
                let greeting = Greeting::read(self.1, self.3.as_deref(), answer.value.expose());
                let Ok(greeting) = greeting else { return no("greeting") };
                let keys = Keys::derive(Hash::Sha512, &Secret::new("one"), b"saltsalt", 4096);
                let (first, pending) = greeting.answer(&[1; 24], keys).unwrap();
                self.0 = Turn::Proof(pending);
                ask(Stage::ServerFirst, first)
            }
            Turn::Proof(pending) => match (pending.judge(answer.value.expose()), self.2) {
                (Ok(last), true) => ask(Stage::ServerFinal, last),
                (Ok(_), false) => ask(Stage::ServerFinal, b"v=AAAA".to_vec()),
                (Err(_), true) => no("proof"),
                // It never knew the password, and lets in whoever comes.
                (Err(_), false) => Verdict::Pass(None),
            },
            Turn::Done if answer.value.matches(DONE) => Verdict::Pass(None),
            Turn::Done => no("not done"),
        }
    }
}

fn server(variant: Variant, honest: bool) -> Link {
    Link::new("scram", Verifier::Exchange(Box::new(Server { variant, honest })))
}

fn only_scram(secret: &'static str, bound: bool) -> Responder {
    let source = Knows { secrets: vec![secret], at_hand: true };
    Responder::new("scram", Means::Scram { source: Box::new(source), bound })
}

#[test]
fn whoever_has_the_secret_answers_and_the_handler_for_scram_answers_nothing_else() {
    assert_eq!(play(vec![server(PLAIN, true)], vec![knows(&["one"])], false), in_with(1, None));
    assert_eq!(play(vec![server(PLAIN, true)], vec![only_scram("one", false)], false), in_with(1, None));
    let two = vec![server(PLAIN, true), server(PLAIN, true), proof("three")];
    assert_eq!(play(two, vec![knows(&["one", "one", "three"])], false), in_with(3, None));
    let refused = End::Out(FailureKind::Refused);
    assert_eq!(play(vec![server(PLAIN, true)], vec![knows(&["two"])], false), refused);
    let nothing = End::Out(FailureKind::NoCredential);
    assert_eq!(play(vec![proof("one")], vec![only_scram("one", false)], false), nothing);
    assert_eq!(play(vec![server(PLAIN, true)], vec![knows(&[])], false), nothing);
    assert_eq!(play(vec![server(PLAIN, true)], vec![knows(&[""])], false), nothing, "S-32");
    assert_eq!(play(vec![server(PLAIN, true)], vec![token()], false), refused_for_want_of_digests());
}

#[test]
fn s_034_a_server_that_does_not_prove_itself_is_left() {
    let misbehaved = End::Out(FailureKind::Misbehaved);
    // Its signature is wrong; or it lets us in without any, whatever we said.
    assert_eq!(play(vec![server(PLAIN, false)], vec![knows(&["one"])], false), misbehaved);
    let stranger = Pair::new(vec![server(PLAIN, false)], vec![knows(&["two"])], false);
    assert_eq!(stranger.play(), misbehaved);
}

#[test]
fn s_034_a_server_that_turns_to_something_else_in_the_middle_is_left() {
    let first = challenge("SCRAM-SHA-512:client-first", "hmac+sha512");
    for next in [
        challenge("hmac+sha512", "hmac+sha512"),
        challenge("SCRAM-SHA-512:client-first", "hmac+sha512"),
        challenge("SCRAM-SHA-256:server-first", "hmac+sha512"),
        challenge("SCRAM-SHA-512:server-final", "hmac+sha512"),
        ServerMessage::Welcome,
    ] {
        let secrets = knows(&["one", "two", "three"]);
        let (hellos, end) =
            show(client(vec![secrets], false, Settings::default()), vec![first.clone(), next]);
        let Some(Action::Fail(failure)) = end else { panic!("expected a failure, saw {end:?}") };
        assert_eq!((hellos.len(), failure.kind), (2, FailureKind::Misbehaved));
    }
    for early in ["SCRAM-SHA-512:server-first", "SCRAM-SHA-512:server-final"] {
        let failure = failure(
            client(vec![knows(&["one"])], false, Settings::default()),
            challenge(early, "hmac+sha512"),
        );
        assert_eq!(failure.1.kind, FailureKind::Misbehaved);
    }
    for never in ["SCRAM-SHA-512-PLUS:client-first", "SCRAM-SHA-1:client-first"] {
        let failure = failure(
            client(vec![knows(&["one"])], false, Settings::default()),
            challenge(never, "hmac+sha512"),
        );
        assert_eq!(failure.1.kind, FailureKind::Forbidden);
    }
}

#[test]
fn s_034_nothing_for_the_daemon_is_said_before_the_server_has_proved_itself() {
    let mut client = client(vec![knows(&["one"])], false, Settings::default());
    let now = Instant::now();
    client.start(now);
    let _ = client.poll();
    let mechanism = PLAIN.asking(Stage::ClientFirst).parse().unwrap();
    let challenge = Challenge::new(vec![7; 64], mechanism, "hmac+sha512", "password").as_last(true);
    client.handle(now, ServerMessage::Challenge { challenge, countersign: true });
    let Some(Action::Consult(consult)) = client.poll() else { panic!("a consult was due") };
    client.handle_consulted(now, consult.run());
    assert!(matches!(client.poll(), Some(Action::Send { is_last: false, .. })));
}

#[test]
fn s_035_a_login_is_bound_to_its_tls_session_where_both_ends_can() {
    let one = || vec![knows(&["one"])];
    assert_eq!(over_tls(vec![server(BOUND, true)], one(), [b"tls", b"tls"]).play(), in_with(1, None));
    // Somebody relays between two sessions, or hides from the client that the server can bind.
    let refused = || End::Out(FailureKind::Refused);
    assert_eq!(over_tls(vec![server(BOUND, true)], one(), [b"tls", b"other"]).play(), refused());
    assert_eq!(over_tls(vec![server(PLAIN, true)], one(), [b"tls", b"tls"]).play(), refused());
    let bound = || vec![only_scram("one", true)];
    assert_eq!(over_tls(vec![server(BOUND, true)], bound(), [b"tls", b"tls"]).play(), in_with(1, None));
    // S-45: where it is to be bound, nothing less is offered.
    assert_eq!(
        over_tls(vec![server(PLAIN, true)], bound(), [b"tls", b"tls"]).play(),
        refused_for_want_of_digests()
    );
    assert_eq!(play(vec![server(PLAIN, true)], bound(), false), refused_for_want_of_digests());
}

fn refused_for_want_of_digests() -> End {
    End::Out(FailureKind::Forbidden)
}
