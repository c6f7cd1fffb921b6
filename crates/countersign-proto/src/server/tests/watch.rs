//! Who follows a login learns its end, once, whatever it is.

use std::sync::Mutex;

use super::*;
use crate::{chain::Watch, mechanism::Mechanism, secret::Secret};

type Heard = Arc<Mutex<Vec<String>>>;

/// Writes down what it is told; holds logins up, and has responses judged or not.
struct Ear {
    heard: Heard,
    hold: Duration,
    lets_judge: bool,
}

impl CheckPeer for Ear {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        Ok(None)
    }

    fn watch(&self, _: &Peer, _: &Claim) -> Option<Box<dyn Watch>> {
        let Self { heard, hold, lets_judge } = self;
        Some(Box::new(Following { heard: Arc::clone(heard), hold: *hold, lets_judge: *lets_judge }))
    }
}

struct Following {
    heard: Heard,
    hold: Duration,
    lets_judge: bool,
}

impl Watch for Following {
    fn hold(&self) -> Duration {
        self.hold
    }

    fn judging(&mut self, _: &Mechanism, secret: Option<&Secret>) -> Result<(), Refusal> {
        let secret = secret.map(|secret| format!(" {}", String::from_utf8_lossy(secret.expose())));
        self.heard.lock().unwrap().push(format!("judging{}", secret.unwrap_or_default()));
        if self.lets_judge { Ok(()) } else { Err(Refusal::new(Reason::Busy, "later")) }
    }

    fn ended(self: Box<Self>, end: Result<&Grant, &Refusal>) {
        let end = end.map_or_else(|refusal| refusal.reason.code(), |_| "accepted");
        self.heard.lock().unwrap().push(end.to_owned());
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.heard.lock().unwrap().push("gone".to_owned());
    }
}

fn ear(hold: Duration, lets_judge: bool) -> (Link, Heard) {
    let heard = Heard::default();
    let ear = Ear { heard: Arc::clone(&heard), hold, lets_judge };
    (Link::new("ear", Verifier::Peer(Box::new(ear))), heard)
}

fn heard_of(play: impl FnOnce(&mut Server)) -> Vec<String> {
    let (link, heard) = ear(Duration::ZERO, true);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    play(&mut server);
    drop(server);
    let heard = heard.lock().unwrap();
    heard.clone()
}

#[test]
fn s_021_every_end_of_a_login_is_told_once_to_who_follows_it() {
    let answered = |secret: &'static str| {
        move |server: &mut Server| {
            let challenge = server.challenge();
            server.send(hello("alice").with_response(Some(answer(&challenge, secret))));
            server.end();
        }
    };
    assert_eq!(heard_of(answered("ecila")), ["judging", "accepted", "gone"]);
    assert_eq!(heard_of(answered("wrong")), ["judging", "wrong_secret", "gone"]);
    let left = |server: &mut Server| {
        server.challenge();
        server.conversation.handle(server.now, ClientMessage::Closed);
        server.end();
    };
    assert_eq!(heard_of(left), ["peer_left", "gone"]);
    let late = |server: &mut Server| {
        server.challenge();
        server.end();
    };
    assert_eq!(heard_of(late), ["timeout", "gone"]);
    assert_eq!(heard_of(|server| drop(server.challenge())), ["gone"], "cut: nothing was decided");
}

#[test]
fn s_021_a_failure_is_told_before_the_pause_that_the_client_waits_for() {
    let (link, heard) = ear(Duration::ZERO, true);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "wrong"))));
    assert!(server.next().is_none(), "the client is not told yet");
    assert_eq!(*heard.lock().unwrap(), ["judging", "wrong_secret", "gone"]);
}

#[test]
fn s_024_a_response_that_may_not_be_judged_is_refused_by_the_link_that_says_so() {
    let (link, _) = ear(Duration::ZERO, false);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    server.wait();
    let Some(Action::Refuse(refusal)) = server.next() else { panic!("a refusal is due") };
    assert_eq!((refusal.reason, refusal.link), (Reason::Busy, Some((1, "ear"))));
}

#[test]
fn a_login_that_is_held_up_goes_on_when_its_time_has_come_and_hears_nothing_before() {
    let (link, _) = ear(Duration::from_secs(4), true);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    assert!(server.next().is_none() && !server.conversation.wants_input());
    assert_eq!(server.wait(), Duration::from_secs(4));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    assert_eq!(server.end(), alice());

    let (link, heard) = ear(Duration::from_secs(400), true);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    assert!(server.next().is_none());
    assert_eq!(server.wait(), Duration::from_secs(120), "the login's own end comes first");
    assert_eq!(server.end(), End::Refused(Reason::Timeout));
    assert_eq!(*heard.lock().unwrap(), ["timeout", "gone"]);
}

/// Or a client that speaks would wait for nothing.
#[test]
fn nobody_gets_past_a_hold_by_speaking_or_by_a_clock_that_is_looked_at_too_early() {
    let (link, _) = ear(Duration::from_secs(4), true);
    let mut server = Server::new(vec![link, reversed()], unix());
    server.send(hello("alice"));
    assert!(server.next().is_none());
    server.now += Duration::from_millis(3999);
    server.conversation.handle_timeout(server.now);
    assert!(server.next().is_none(), "it is held up still");
    server.send(hello("alice"));
    assert!(matches!(server.next(), Some(Action::Refuse(refusal)) if refusal.reason == Reason::Malformed));
}

/// The limiter of guesses counts one wrong password once, however often it comes; of a proof it could not tell.
#[test]
fn who_follows_a_login_is_shown_what_was_guessed_where_the_answer_holds_it() {
    let (link, heard) = ear(Duration::ZERO, true);
    let secrets = ["ecila", "no"];
    login(vec![link, reversed(), cleartext("pw")], unix(), "alice", &secrets);
    assert_eq!(*heard.lock().unwrap(), ["judging", "judging no", "wrong_secret", "gone"]);
}
