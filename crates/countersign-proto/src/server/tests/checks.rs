//! Checks on their way out and back: what a driver reads of one, which result counts, and what a module never sees.

use super::*;

fn due(server: &mut Server) -> Check {
    match server.conversation.poll() {
        Some(Action::Check(check)) => check,
        other => panic!("expected a check, saw {other:?}"),
    }
}

/// A module that says that it never waits.
struct Quick;

impl CheckPeer for Quick {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Ok(None)
    }

    fn may_block(&self) -> bool {
        false
    }
}

impl LookupSecret for Quick {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new("right"))))
    }

    fn may_block(&self) -> bool {
        false
    }
}

#[test]
fn a_check_says_which_module_is_asked_and_whether_that_may_wait() {
    let quick = [Verifier::Peer(Box::new(Quick)), Verifier::Secret(Box::new(Quick))];
    let slow = [reversed(), facts(true), cleartext("pw"), two_questions()];
    let links = quick.map(|verifier| (Link::new("quick", verifier), false)).into_iter();
    for (link, may_block) in links.chain(slow.map(|link| (link, true))) {
        let module = link.module;
        let mut server = Server::new(vec![link], unix());
        server.send(hello("alice"));
        let check = match server.conversation.poll() {
            Some(Action::Challenge(challenge)) => {
                server.send(hello("alice").with_response(Some(answer(&challenge, "right"))));
                due(&mut server)
            }
            Some(Action::Check(check)) => check,
            other => panic!("expected a check, saw {other:?}"),
        };
        assert_eq!((check.module(), check.may_block(), check.position()), (module, may_block, 0));
        assert!(format!("{check:?}").contains(module), "{check:?}");
        assert_eq!(format!("{:?}", check.run()), "Checked { .. }", "nobody's identity or secret");
    }
}

#[test]
fn s_065_a_result_counts_for_the_check_that_is_due_and_no_other() {
    let mut other = Server::new(vec![facts(true)], unix());
    other.send(hello("alice"));
    let passed = due(&mut other).run();

    let mut server = Server::new(vec![facts(true), facts(false)], unix());
    server.send(hello("alice"));
    let first = due(&mut server);
    server.conversation.handle_checked(server.now, first.run());
    let second = due(&mut server);
    server.conversation.handle_checked(server.now, passed);
    assert!(server.conversation.poll().is_none(), "the result of another check is no answer");
    server.conversation.handle_checked(server.now, second.run());
    assert_eq!(server.end(), End::Refused(Reason::PeerDenied));
}

#[test]
fn s_032_a_password_that_holds_a_nul_byte_reaches_no_module() {
    for secret in ["pw\0", "\0"] {
        assert_eq!(
            login(vec![cleartext(secret)], unix(), "alice", &[secret]),
            End::Refused(Reason::WrongSecret)
        );
    }
}

#[test]
fn s_026_a_clock_that_is_looked_at_too_early_shortens_no_pause() {
    let mut server = Server::new(vec![facts(false)], unix());
    server.send(hello("alice"));
    let check = due(&mut server);
    server.conversation.handle_checked(server.now, check.run());
    server.conversation.handle_timeout(server.now + Duration::from_millis(999));
    assert!(server.conversation.poll().is_none());
    assert_eq!(server.end(), End::Refused(Reason::PeerDenied));
}

#[test]
fn a_conversation_shows_where_it_stands_and_nothing_else() {
    let mut server = Server::new(vec![reversed()], unix());
    assert_eq!(format!("{:?}", server.conversation), "Conversation { state: AwaitHello, .. }");
    server.send(hello("alice"));
    assert_eq!(format!("{:?}", server.conversation), "Conversation { state: AwaitResponse, .. }");
}

/// W37: it is what a driver reads by.
#[test]
fn s_015_a_client_is_read_while_it_is_its_turn_and_at_no_other_time() {
    let reads = |server: &Server| server.conversation.wants_input();
    let mut server = Server::new(vec![reversed()], unix());
    assert!(reads(&server), "its first hello is awaited");
    server.send(hello("alice"));
    let challenge = server.challenge();
    assert!(reads(&server), "its answer is awaited");
    server.send(hello("alice").with_response(Some(answer(&challenge, "wrong"))));
    assert!(!reads(&server), "its answer is judged");
    assert!(server.next().is_none() && !reads(&server), "its refusal waits");
    assert_eq!(server.end(), End::Refused(Reason::WrongSecret));
    assert!(!reads(&server), "it is over");

    let mut insists = Server::new(vec![facts(true)], unix());
    insists.send(hello("alice").expecting_challenge(true));
    insists.challenge();
    assert!(reads(&insists), "an answer that is thrown away is awaited");
}
