//! The answer in the first hello: who gives it, and what follows if nobody takes it.

use super::*;

const SAME: [&[u8]; 2] = [b"one session"; 2];

/// The first hello of a client over TLS with these responders.
fn first_hello(responders: Vec<Responder>, settings: Settings) -> Hello {
    let (mut hellos, _) = show(client_over_tls(responders, SAME[0], settings), vec![]);
    hellos.remove(0)
}

fn person(secrets: &[&'static str]) -> Responder {
    Responder::secret("person", Knows { secrets: secrets.to_vec(), at_hand: false })
}

#[test]
fn s_028_a_secret_at_hand_answers_once_and_on_its_own_connection_only() {
    let refused = End::Out(FailureKind::Refused);
    let ends = |secret, ends| over_tls(vec![proof("one")], vec![knows(&[secret])], ends).play();
    assert_eq!(ends("one", SAME), in_with(1, None));
    assert_eq!(ends("two", SAME), refused);
    // Whoever sits between the ends passes the hello on, over another session.
    assert_eq!(ends("one", [b"one session", b"another one"]), refused);
}

#[test]
fn each_secret_answers_its_link_whether_or_not_the_first_was_taken() {
    let play = |links, responders| over_tls(links, responders, SAME).play();
    let both = || vec![knows(&["one", "two"])];
    let in_as_alice = in_with(2, Some("alice"));
    assert_eq!(play(vec![proof("one"), proof("two")], both()), in_with(2, None));
    assert_eq!(play(vec![proof("one"), cleartext("two")], both()), in_as_alice);
    // Not taken: the first question is for something else, and the first secret answers it again.
    assert_eq!(play(vec![cleartext("one"), proof("two")], both()), in_as_alice);
    assert_eq!(play(vec![tokens(), proof("one")], vec![knows(&["one"]), token()]), in_with(3, None));
    assert_eq!(play(vec![proof("one")], vec![person(&["one"])]), in_with(1, None));
    assert_eq!(play(vec![facts(true)], vec![knows(&["one"])]), in_with(1, None), "the throw-away question");
}

#[test]
fn nothing_is_ventured_without_a_session_to_bind_it_to_or_a_secret_at_hand() {
    let settings = Settings::default();
    let ventured = |responders, settings| first_hello(responders, settings).initial_response.is_some();
    assert!(ventured(vec![knows(&["one"])], settings));
    let unreadable = Responder::secret("unreadable", Unreadable);
    let nobody = [
        vec![],
        vec![person(&["one"])],
        // The person would be asked first.
        vec![person(&["one"]), knows(&["two"])],
        vec![knows(&[])],
        vec![knows(&[""])],
        vec![unreadable],
        vec![token()],
    ];
    for responders in nobody {
        assert!(!ventured(responders, settings));
    }
    assert!(!ventured(vec![knows(&["one"])], settings.requiring_auth(true)));
    let (hellos, _) = show(client(vec![knows(&["one"])], true, settings), vec![]);
    assert!(hellos[0].initial_response.is_none(), "no session");
}

/// A file that is there and cannot be read.
struct Unreadable;

impl ProvideSecret for Unreadable {
    fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
        Err(Failure::unusable("it cannot be read", "chmod it"))
    }
}

#[test]
fn what_goes_wrong_with_a_secret_is_told_when_the_server_asks_for_it() {
    let unreadable = || Responder::secret("unreadable", Unreadable);
    let play = |link, responders| over_tls(vec![link], responders, SAME).play();
    assert_eq!(play(tokens(), vec![unreadable(), token()]), in_with(2, None));
    assert_eq!(play(proof("one"), vec![unreadable()]), End::Out(FailureKind::NoCredential));
}

#[test]
fn a_server_that_says_it_took_what_nobody_gave_is_believed_nothing() {
    let settings = Settings::default();
    for client in [client(vec![], true, settings), client_over_tls(vec![person(&["one"])], SAME[0], settings)]
    {
        let (_, end) = show(client, vec![ServerMessage::TookInitialResponse, ServerMessage::Welcome]);
        let Some(Action::Established { answered }) = end else { panic!("expected a welcome, saw {end:?}") };
        assert!(answered.is_empty());
    }
}
