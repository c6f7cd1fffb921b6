//! What is asked: in which words, how often, and over which wires.

use super::*;

#[test]
fn chained_questions_are_numbered_for_the_person_who_answers() {
    let mut server = Server::new(vec![reversed(), cleartext("pw")], unix());
    server.send(hello("alice"));
    let first = server.challenge();
    assert_eq!(first.prompt, "password 1 of 2");
    server.send(hello("alice").with_response(Some(answer(&first, "ecila"))));
    assert_eq!(server.challenge().prompt, "password 2 of 2");
    let mut server = Server::new(vec![facts(true), reversed()], unix());
    server.send(hello("alice"));
    assert_eq!(server.challenge().prompt, "password", "one alone has no number");
}

#[test]
fn only_a_question_that_no_other_can_follow_is_called_the_last() {
    let is_last = |links: Vec<Link>, secrets: &[&str]| -> Vec<bool> {
        let mut server = Server::new(links, unix());
        server.send(hello("alice"));
        let ask = |secret: &&str| {
            let challenge = server.challenge();
            server.send(hello("alice").with_response(Some(answer(&challenge, secret))));
            challenge.is_last
        };
        secrets.iter().map(ask).collect()
    };
    assert_eq!(is_last(vec![reversed(), facts(true)], &["ecila"]), [true]);
    assert_eq!(is_last(vec![reversed(), facts(true), cleartext("pw")], &["ecila", "pw"]), [false, true]);
    // What an exchange asks next, only it knows.
    assert_eq!(is_last(vec![reversed(), two_questions()], &["ecila", "one", "two"]), [false; 3]);
}

#[test]
fn a_question_in_words_of_its_own_counts_for_no_number() {
    let mut server = Server::new(vec![two_questions(), cleartext("pw")], unix());
    server.send(hello("alice"));
    for (prompt, secret) in [("password 1 of 2", "one"), ("and two?", "two")] {
        let challenge = server.challenge();
        assert_eq!((challenge.prompt.as_str(), &challenge.mechanism), (prompt, &Mechanism::Xor));
        server.send(hello("alice").with_response(Some(answer(&challenge, secret))));
    }
    assert_eq!(server.challenge().prompt, "password 2 of 2");
    assert!(two_questions().needs_cleartext() && !reversed().needs_cleartext());
}

#[test]
fn w_033_a_prompt_names_only_whom_the_client_named() {
    let link = || reversed().with_prompt(Some("PIN for {username}".into()));
    for (name, prompt) in [("alice", "PIN for alice"), ("", "PIN for ")] {
        let mut server = Server::new(vec![link()], unix());
        server.send(hello(name));
        assert_eq!(server.challenge().prompt, prompt);
    }
}

#[test]
fn s_033_cleartext_is_not_asked_for_on_a_wire_that_others_can_read() {
    assert_eq!(login(vec![cleartext("pw")], tcp(), "alice", &[]), End::Refused(Reason::NotConfidential));
    assert_eq!(login(vec![two_questions()], tcp(), "alice", &[]), End::Refused(Reason::NotConfidential));
    let encrypted = tcp().encrypted(crate::peer::TlsFacts::default(), None, None);
    assert_eq!(login(vec![cleartext("pw")], encrypted, "alice", &["pw"]), alice());
}

#[test]
fn s_033_tokens_are_not_asked_for_on_a_wire_that_others_can_read() {
    let link = || Link::new("token", Verifier::Exchange(Box::new(Token)));
    let asks = || {
        let mut offer = offer();
        offer.mechanisms.push("token".to_owned());
        Hello::new(Claim::named("alice").unwrap(), offer)
    };
    let mut open = Server::new(vec![link()], tcp());
    open.send(asks());
    assert_eq!(open.end(), End::Refused(Reason::NotConfidential));
    let mut unlisted = Server::new(vec![link()], unix());
    unlisted.send(hello("alice"));
    assert_eq!(unlisted.end(), End::Refused(Reason::NoCommonMechanism));
    for (token, masked, end) in [
        ("t", true, End::Accepted(None)),
        ("t", false, End::Accepted(None)),
        ("x", true, End::Refused(Reason::WrongSecret)),
        ("x", false, End::Refused(Reason::WrongSecret)),
    ] {
        let mut server = Server::new(vec![link()], unix());
        server.send(asks());
        let challenge = server.challenge();
        assert_eq!(challenge.mechanism.name(), "token:door");
        let response = match masked {
            true => answer(&challenge, token),
            false => Response::new(Secret::new(token), Vec::new()),
        };
        server.send(asks().with_response(Some(response)));
        assert_eq!(server.end(), end, "{token} {masked}");
    }
}

#[test]
fn s_013_a_token_may_be_longer_than_any_other_answer() {
    let ends = |link: Link, length: usize, masked: bool| {
        let mut offer = offer();
        offer.mechanisms.push("token".to_owned());
        let hello = || Hello::new(Claim::named("alice").unwrap(), offer.clone());
        let mut server = Server::new(vec![link], unix());
        server.send(hello());
        let (challenge, text) = (server.challenge(), "t".repeat(length));
        let response = match masked {
            true => answer(&challenge, &text),
            false => Response::new(Secret::new(text), Vec::new()),
        };
        server.send(hello().with_response(Some(response)));
        server.end()
    };
    let token = || Link::new("token", Verifier::Exchange(Box::new(Token)));
    let secret = |length| cleartext("t".repeat(length).leak());
    for masked in [true, false] {
        assert_eq!(ends(token(), 16 * 1024, masked), End::Accepted(None));
        assert_eq!(ends(token(), 16 * 1024 + 1, masked), End::Refused(Reason::WrongSecret));
    }
    assert_eq!(ends(secret(4096), 4096, true), alice());
    assert_eq!(ends(secret(4097), 4097, true), End::Refused(Reason::WrongSecret));
}

#[test]
fn s_029_weak_digests_and_none_get_no_challenge() {
    for weak in [&["xor"][..], &["des"], &["hmac"], &["hmac+md5", "hmac+sha1"], &[]] {
        let names: Vec<String> = weak.iter().map(|&n| n.to_owned()).collect();
        for offer in
            [Offer::new(names.clone(), offer().salt_digests), Offer::new(offer().mechanisms, names.clone())]
        {
            let mut server = Server::new(vec![reversed()], unix());
            server.send(Hello::new(Claim::named("alice").unwrap(), offer));
            assert_eq!(server.end(), End::Refused(Reason::NoCommonMechanism), "{weak:?}");
        }
    }
}
