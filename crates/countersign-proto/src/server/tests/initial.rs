//! The answer in the first hello: when it counts, and for which question.

use super::*;

const SESSION: &[u8] = &[0xee; 32];

/// A server over TLS, whose session is [`SESSION`].
fn server(links: Vec<Link>) -> Server {
    let tls = Some(SESSION.into());
    Server::new(links, tcp().encrypted(crate::peer::TlsFacts::default(), None, tls))
}

/// Alice's hello with `secret` proved for the session `binding`.
fn unasked(binding: &[u8], secret: &str) -> Hello {
    hello("alice").with_initial_response(Some(answer(&Challenge::implied(binding), secret)))
}

fn end(links: Vec<Link>, hello: Hello) -> End {
    let mut server = server(links);
    server.send(hello);
    server.end()
}

#[test]
fn s_028_an_answer_that_was_not_asked_for_counts_on_its_own_connection_only() {
    let wrong = End::Refused(Reason::WrongSecret);
    assert_eq!(end(vec![reversed()], unasked(SESSION, "ecila")), alice());
    assert_eq!(end(vec![reversed()], unasked(SESSION, "alice")), wrong);
    assert_eq!(end(vec![reversed()], unasked(&[0xef; 32], "ecila")), wrong, "another connection's");
    assert_eq!(end(vec![facts(true), reversed(), facts(true)], unasked(SESSION, "ecila")), alice());
}

/// S-26: neither its pause nor its text tells it from a wrong answer to a question.
#[test]
fn s_026_a_wrong_answer_that_was_not_asked_for_is_refused_like_any_other() {
    let mut server = server(vec![reversed()]);
    server.send(unasked(SESSION, "wrong"));
    assert!(server.next().is_none());
    assert!(server.wait() >= Duration::from_secs(1));
    assert_eq!(server.end(), End::Refused(Reason::WrongSecret));
}

#[test]
fn s_015_it_answers_the_first_question_and_no_other() {
    let mut chain = server(vec![reversed(), reversed()]);
    chain.send(unasked(SESSION, "ecila"));
    let second = chain.challenge();
    assert!(chain.conversation.took_initial_response());
    assert_eq!((second.prompt.as_str(), second.is_last), ("password 2 of 2", true));
    chain.send(hello("alice").with_response(Some(answer(&second, "ecila"))));
    assert_eq!(chain.end(), alice());
    // Where the first question is of another kind, none of the answer is left for the second.
    for (first, secrets) in [(cleartext("pw"), &["pw"][..]), (two_questions(), &["one", "two"])] {
        let mut chain = server(vec![first, reversed()]);
        chain.send(unasked(SESSION, "ecila"));
        for secret in secrets {
            let question = chain.challenge();
            chain.send(hello("alice").with_response(Some(answer(&question, secret))));
        }
        chain.challenge();
        assert!(!chain.conversation.took_initial_response());
    }
}

#[test]
fn what_could_be_no_answer_is_passed_over_and_the_question_asked() {
    let implied = || answer(&Challenge::implied(SESSION), "ecila");
    let with = |value: Secret, salt: Vec<u8>| Response::new(value, salt);
    for response in [
        with(implied().value, Vec::new()),
        with(implied().value, vec![1; 15]),
        with(implied().value, Challenge::implied(SESSION).salt),
        with(Secret::new(""), vec![1; 32]),
        with(Secret::new(vec![b'a'; Response::MAX_BYTES + 1]), vec![1; 32]),
    ] {
        let mut server = server(vec![reversed()]);
        server.send(hello("alice").with_initial_response(Some(response)));
        server.challenge();
    }
    for (proof, salt) in [("sha256", "sha256"), ("sha512", "sha256"), ("sha256", "sha512")] {
        let weak = Offer::new(vec![format!("hmac+{proof}")], vec![format!("hmac+{salt}")]);
        let mut unlisted = server(vec![reversed()]);
        unlisted
            .send(Hello::new(Claim::named("alice").unwrap(), weak).with_initial_response(Some(implied())));
        unlisted.challenge();
    }
    for open in [unix(), tcp()] {
        let mut open = Server::new(vec![reversed()], open);
        open.send(unasked(SESSION, "ecila"));
        open.challenge();
    }
}

#[test]
fn s_028_no_answer_to_a_question_answers_the_one_that_is_not_asked() {
    let mut first = server(vec![reversed()]);
    first.send(hello("alice"));
    let asked = first.challenge();
    assert_ne!(asked.salt.len(), Challenge::implied(SESSION).salt.len());
    let recorded = answer(&asked, "ecila");
    assert_eq!(
        end(vec![reversed()], hello("alice").with_initial_response(Some(recorded))),
        End::Refused(Reason::WrongSecret)
    );
}

#[test]
fn a_client_that_insists_on_a_question_is_asked_one_where_its_answer_was_for_nobody() {
    let mut open = server(vec![facts(true)]);
    open.send(unasked(SESSION, "ecila").expecting_challenge(true));
    open.challenge();
    let mut taken = server(vec![reversed()]);
    taken.send(unasked(SESSION, "ecila").expecting_challenge(true));
    assert_eq!(taken.end(), alice());
}
