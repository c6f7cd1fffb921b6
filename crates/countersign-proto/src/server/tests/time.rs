//! Deadlines, and the pause before a refusal.

use super::*;

#[test]
fn s_026_every_refusal_waits_between_1_0_and_1_2_seconds_from_the_answer() {
    for (name, secret) in [("alice", "wrong"), ("nobody", "wrong")] {
        let mut server = Server::new(vec![reversed()], unix());
        server.send(hello(name));
        let challenge = server.challenge();
        server.now += Duration::from_secs(3);
        server.send(hello(name).with_response(Some(answer(&challenge, secret))));
        assert!(server.next().is_none());
        let waited = server.wait();
        assert!(waited >= Duration::from_secs(1) && waited <= Duration::from_millis(1200), "{waited:?}");
        let Some(Action::Refuse(refusal)) = server.next() else { panic!("a refusal is due") };
        assert_eq!(refusal.public(), "authentication failed");
        assert_eq!(refusal.link, Some((1, "reversed")));
    }
}

#[test]
fn s_026_the_work_of_a_module_is_hidden_in_the_pause() {
    let mut server = Server::new(vec![reversed()], unix());
    server.send(hello("alice"));
    let challenge = server.challenge();
    let answered = server.now;
    server.send(hello("alice").with_response(Some(answer(&challenge, "wrong"))));
    let Some(Action::Check(check)) = server.conversation.poll() else { panic!("a check is due") };
    server.now += Duration::from_millis(900);
    server.conversation.handle_checked(server.now, check.run());
    server.wait();
    let told = server.now - answered;
    assert!(told >= Duration::from_secs(1) && told <= Duration::from_millis(1200), "{told:?}");
}

#[test]
fn s_001_silence_before_the_hello_and_slowness_after_it_have_one_deadline_each() {
    let mut server = Server::new(vec![reversed()], unix());
    assert_eq!(server.wait(), Duration::from_secs(10));
    assert_eq!(server.end(), End::Refused(Reason::Timeout));

    let mut server = Server::new(vec![reversed()], unix());
    let start = server.now;
    server.now += Duration::from_secs(9);
    server.send(hello("alice"));
    server.challenge();
    server.wait();
    assert_eq!(server.now - start, Duration::from_secs(120));
    assert_eq!(server.end(), End::Refused(Reason::Timeout));
}

#[test]
fn s_001_a_check_that_outlasts_the_login_is_answered_at_the_deadline_and_its_result_is_nothing() {
    let mut server = Server::new(vec![facts(true)], unix());
    server.send(hello("alice"));
    let Some(Action::Check(check)) = server.conversation.poll() else { panic!("a check is due") };
    assert!(server.conversation.poll().is_none(), "no packet but an answer makes a client wait on");
    assert_eq!(server.wait(), Duration::from_secs(120));
    let Some(Action::Refuse(refusal)) = server.next() else { panic!("a refusal is due") };
    assert_eq!((refusal.reason, refusal.public()), (Reason::Timeout, "login timeout"));
    server.conversation.handle_checked(server.now, check.run());
    assert!(server.next().is_none() && server.conversation.poll_timeout().is_none());
}
