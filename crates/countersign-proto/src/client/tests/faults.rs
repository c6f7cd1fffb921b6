//! Sources, servers and messages that do what they should not.

use super::*;

#[test]
fn s_020_a_responder_that_panics_has_no_answer() {
    struct Panics;
    impl ProvideSecret for Panics {
        fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
            panic!("a handler crashed");
        }
    }
    let panics = || Responder::secret("panics", Panics);
    assert_eq!(play(vec![proof("one")], vec![panics(), knows(&["one"])], false), in_with(1, None));
    assert_eq!(play(vec![proof("one")], vec![panics()], false), End::Out(FailureKind::NoCredential));
}

#[test]
fn a_source_that_cannot_be_used_ends_the_login_and_says_why() {
    struct Unusable;
    impl ProvideSecret for Unusable {
        fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
            Err(Failure::unusable("others can read it", "chmod 600"))
        }
    }
    let responders = vec![Responder::secret("unusable", Unusable), knows(&["one"])];
    let (hellos, failure) =
        failure(client(responders, false, Settings::default()), challenge("hmac+sha512", "hmac+sha512"));
    assert_eq!((hellos, failure.to_string().as_str()), (1, "others can read it"));
    assert_eq!(failure.fix.as_deref(), Some("chmod 600"));
}

#[test]
fn a_silent_server_is_left_and_a_person_may_type_as_long_as_it_takes() {
    let mut client = client(vec![knows(&["one"])], false, Settings::default());
    let now = Instant::now();
    assert_eq!(client.poll_timeout(), None);
    client.start(now);
    let due = client.poll_timeout().unwrap();
    assert_eq!(due - now, Duration::from_secs(60));
    client.handle_timeout(due - Duration::from_millis(1));
    let Some(Action::Send { .. }) = client.poll() else { panic!("a hello was due") };
    client.handle(due, challenge("hmac+sha512", "hmac+sha512"));
    assert_eq!(client.poll_timeout(), None);
    let Some(Action::Consult(consult)) = client.poll() else { panic!("a consultation was due") };
    let later = due + Duration::from_secs(3600);
    client.handle_timeout(later);
    client.handle_consulted(later, consult.run());
    assert_eq!(client.poll_timeout(), Some(later + Duration::from_secs(60)));
    client.handle_timeout(later + Duration::from_secs(60));
    let Some(Action::Send { .. }) = client.poll() else { panic!("an answer was due") };
    assert!(matches!(client.poll(), Some(Action::Fail(failure)) if failure.kind == FailureKind::Timeout));
}

#[test]
fn a_server_that_speaks_out_of_turn_or_without_end_is_left() {
    let mut early = client(vec![], false, Settings::default());
    early.handle(Instant::now(), ServerMessage::Welcome);
    assert!(matches!(early.poll(), Some(Action::Fail(failure)) if failure.kind == FailureKind::Misbehaved));
    let secrets: &'static [&'static str] = &["x"; 40];
    let many = (0..40).map(|_| challenge("hmac+sha512", "hmac+sha512")).collect();
    let (hellos, end) = show(client(vec![knows(secrets)], false, Settings::default()), many);
    assert_eq!(hellos.len(), 33);
    assert!(matches!(end, Some(Action::Fail(failure)) if failure.kind == FailureKind::Misbehaved));
}

#[test]
fn the_responders_are_told_who_asks_for_whom() {
    struct Listens;
    impl ProvideSecret for Listens {
        fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure> {
            assert_eq!(question.server.address, "tcp://192.0.2.1:14500");
            assert_eq!(question.username.map(Username::as_str), Some("alice"));
            assert_eq!((question.prompt, question.number, question.turn), ("password", 2, 0));
            Ok(Some(Provided::Bytes(Secret::new("two"))))
        }
    }
    let responders = vec![knows(&["one"]), Responder::secret("listens", Listens)];
    let ask = || challenge("hmac+sha224", "hmac+sha384");
    let (hellos, end) = show(client(responders, false, Settings::default()), vec![ask(), ask()]);
    assert_eq!((hellos.len(), end.is_none()), (3, true));
}

#[test]
fn s_088_nothing_of_a_conversation_prints_the_secret() {
    let mut client = client(vec![knows(&["hunter2"])], true, Settings::default());
    client.start(Instant::now());
    client.handle(Instant::now(), challenge("xor", "hmac+sha512"));
    let mut shown = format!("{client:?}");
    while let Some(action) = client.poll() {
        shown.push_str(&format!("{action:?}"));
        if let Action::Consult(consult) = action {
            let done = consult.run();
            shown.push_str(&format!("{done:?}"));
            client.handle_consulted(Instant::now(), done);
        }
    }
    assert!(shown.contains("Response") && !shown.contains("hunter2"), "{shown}");
}

fn any_message() -> impl Strategy<Value = ServerMessage> {
    let mechanism = prop_oneof![
        Just("hmac+sha512"),
        Just("hmac+sha224"),
        Just("hmac+md5"),
        Just("hmac"),
        Just("xor"),
        Just("xor:a"),
        Just("des"),
        Just("token:a"),
        Just("kerberos:a"),
        Just("keycloak"),
        Just("")
    ];
    let salt_digest = prop_oneof![Just("hmac+sha512"), Just("hmac+sha256"), Just("xor"), Just("hmac+md5")];
    let salt = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        8 => (mechanism, salt_digest, salt, any::<bool>(), ".{0,40}").prop_map(
            |(mechanism, salt_digest, salt, countersign, prompt)| ServerMessage::Challenge {
                challenge: Challenge::new(salt, mechanism.parse().unwrap(), salt_digest, prompt),
                countersign,
            }
        ),
        1 => Just(ServerMessage::Welcome),
        1 => proptest::collection::vec(".{0,20}", 0..3).prop_map(ServerMessage::Disconnect),
        1 => Just(ServerMessage::Malformed("noise".into())),
        1 => Just(ServerMessage::Closed),
    ]
}

proptest! {
    /// Whatever a server says, the client does not crash, does not go on after an end, and gives
    /// the secret away under nothing that it did not offer (S-29, S-33, W34, W35).
    #[test]
    fn s_033_no_sequence_of_messages_draws_the_secret_out(
        messages in proptest::collection::vec(any_message(), 0..12),
        confidential in any::<bool>(),
    ) {
        const SECRET: &str = "correct-horse-battery";
        let mut client = client(vec![token(), knows(&[SECRET; 3])], confidential, Settings::default());
        let offer = crate::challenge::Offer::of_client(confidential);
        let now = Instant::now();
        let mut asked: Option<Challenge> = None;
        let mut over = false;
        client.start(now);
        for message in messages {
            if let ServerMessage::Challenge { challenge, .. } = &message {
                asked = Some(challenge.clone());
            }
            client.handle(now, message);
            while let Some(action) = client.poll() {
                prop_assert!(!over, "nothing follows the end");
                match action {
                    Action::Consult(consult) => client.handle_consulted(now, consult.run()),
                    Action::Established { .. } | Action::Fail(_) => over = true,
                    Action::Send { hello, .. } => {
                        let Some(response) = hello.response else { continue };
                        let asked = asked.as_ref().unwrap();
                        let value = response.value.expose();
                        prop_assert!(!value.windows(8).any(|part| SECRET.as_bytes().windows(8).any(|s| s == part)));
                        let combined = crate::mechanism::Hash::strongest_in(std::slice::from_ref(&asked.salt_digest))
                            .map(|hash| crate::mechanism::hmac::combine_salts(hash, &response.client_salt, &asked.salt));
                        let unmasked = combined.map(|combined| crate::mechanism::xor::mask(&response.value, &combined));
                        let readable = unmasked.is_some_and(|value| value.matches(SECRET.as_bytes()));
                        prop_assert_eq!(readable, asked.mechanism == Mechanism::Xor);
                        prop_assert!(!readable || confidential);
                        let own = asked.mechanism.to_string() == "token:a";
                        prop_assert!(own || offer.lists(&asked.mechanism));
                    }
                }
            }
        }
    }
}
