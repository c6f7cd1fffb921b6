//! What a link keeps open is kept as long as the login may still succeed, then as long as its grant.

use std::{
    future::{Future, pending, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use super::*;
use crate::stay::{Stay, Stays};

/// Lets everybody in and keeps something open, which ends by itself or does not.
struct Opens {
    open: Arc<AtomicUsize>,
    ends: bool,
}

#[derive(Debug)]
struct Opened {
    open: Arc<AtomicUsize>,
    ends: bool,
}

impl OpenExchange for Opens {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(Self { open: Arc::clone(&self.open), ends: self.ends }))
    }
}

impl Exchange for Opens {
    fn step(&mut self, _: Option<Answer>) -> Verdict {
        self.open.fetch_add(1, Ordering::SeqCst);
        Verdict::PassWith(None, Arc::new(Opened { open: Arc::clone(&self.open), ends: self.ends }))
    }
}

impl Stay for Opened {
    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if self.ends { Box::pin(ready(())) } else { Box::pin(pending()) }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A link that opens something, and how much of it is open.
fn opens(ends: bool) -> (Link, Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    let verifier = Verifier::Exchange(Box::new(Opens { open: Arc::clone(&open), ends }));
    (Link::new("opens", verifier), open)
}

fn granted(server: &mut Server) -> Grant {
    match server.next() {
        Some(Action::Accept(grant)) => grant,
        other => panic!("expected a grant, saw {other:?}"),
    }
}

fn is_over(stays: &Stays) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(stays.over()).as_mut().poll(&mut cx) == Poll::Ready(())
}

#[test]
fn what_every_link_opened_is_open_until_the_last_copy_is_gone() {
    let ((first, one), (second, two)) = (opens(false), opens(false));
    let mut server = Server::new(vec![first, reversed(), second], unix());
    server.send(hello("alice"));
    let challenge = server.challenge();
    server.send(hello("alice").with_response(Some(answer(&challenge, "ecila"))));
    let grant = granted(&mut server);
    drop(server);
    let stays = grant.stays();
    drop(grant);
    let open = || (one.load(Ordering::SeqCst), two.load(Ordering::SeqCst));
    assert_eq!(open(), (1, 1));
    assert!(!stays.is_empty() && !is_over(&stays));
    drop(stays);
    assert_eq!(open(), (0, 0));
}

#[test]
fn one_that_ends_by_itself_is_told_of_and_nothing_never_ends() {
    let ((lasting, _), (ending, _)) = (opens(false), opens(true));
    let mut server = Server::new(vec![lasting, ending], unix());
    server.send(hello("alice").expecting_challenge(false));
    assert!(is_over(&granted(&mut server).stays()));
    assert!(Stays::default().is_empty() && !is_over(&Stays::default()));
}

#[test]
fn a_login_that_goes_no_further_closes_what_was_opened() {
    for end in 0..4 {
        let (link, open) = opens(false);
        let mut server = Server::new(vec![link, reversed()], unix());
        server.send(hello("alice"));
        if end == 0 {
            // The work is done, and nobody takes its result any more.
            let Some(Action::Check(check)) = server.conversation.poll() else { panic!("a check") };
            let done = check.run();
            assert_eq!(open.load(Ordering::SeqCst), 1);
            drop(done);
            assert_eq!(open.load(Ordering::SeqCst), 0);
            continue;
        }
        let challenge = server.challenge();
        assert_eq!(open.load(Ordering::SeqCst), 1);
        match end {
            1 => server.send(hello("alice").with_response(Some(answer(&challenge, "wrong")))),
            2 => server.conversation.handle(server.now, ClientMessage::Closed),
            _ => assert!(server.wait() > Duration::ZERO),
        }
        // Before the client is told.
        while server.conversation.poll().is_some_and(|action| match action {
            Action::Check(check) => {
                server.conversation.handle_checked(server.now, check.run());
                true
            }
            _ => false,
        }) {}
        assert_eq!(open.load(Ordering::SeqCst), 0, "{end}");
    }
}
