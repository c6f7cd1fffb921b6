//! One login in memory, both ends of it: what a chain says to a client, and why.
//!
//! `countersign modules test` calls it. The rules are those of every login; only the pause that hides
//! a cause is left out, because the cause is what is wanted.

use std::{sync::Arc, thread, time::Instant};

use crate::{
    Chain, Claim, Grant, Peer, Refusal,
    proto::{
        client::{self, Failure, Responder, Server, ServerMessage},
        error::Reason,
        server::{Action, ClientMessage, Conversation, Settings},
    },
};

/// What was asked, and how it ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Trial {
    /// The questions in order.
    pub asked: Vec<Question>,
    /// The end.
    pub end: End,
}

/// A question to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// How the answer is to travel.
    pub mechanism: String,
    /// The words for a person.
    pub prompt: String,
}

/// How a login in memory ends.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "whoever shows it shows every end")]
pub enum End {
    /// The chain let the client in.
    Passed(Grant),
    /// It did not.
    Refused(Refusal),
    /// The client had no answer, or gave none for a reason of its own.
    Unanswered(Failure),
}

/// Logs in at `chain` as a client that claims `claim` and answers with `responders`. It may block.
///
/// `place` is what a person who is asked reads as the server's address.
pub fn run(chain: Arc<Chain>, peer: Peer, claim: Claim, responders: Arc<[Responder]>, place: &str) -> Trial {
    let start = Instant::now();
    let known = Server::new(place, peer.confidential, true).bound_by(peer.channel_binding.clone());
    let mut settings = Settings::default();
    settings.refusal_delay = std::time::Duration::ZERO;
    let mut server = Conversation::new(chain, Arc::new(peer), settings, random, start);
    let mut client =
        client::Conversation::new(claim, responders, Arc::new(known), client::Settings::default(), random);
    let mut asked = Vec::new();
    client.start(start);
    let end = loop {
        if let Some(failure) = speak(&mut client, &mut server) {
            break End::Unanswered(failure);
        }
        match server.poll() {
            Some(Action::Check(check)) => {
                let done = check.run();
                server.handle_checked(Instant::now(), done);
            }
            Some(Action::Challenge(challenge)) => {
                let mechanism = challenge.mechanism.to_string();
                asked.push(Question { mechanism, prompt: challenge.prompt.clone() });
                let message = ServerMessage::Challenge { challenge, countersign: true };
                client.handle(Instant::now(), message);
            }
            Some(Action::Accept(grant)) => break End::Passed(grant),
            Some(Action::Refuse(refusal)) => break End::Refused(refusal),
            None => match server.poll_timeout() {
                Some(due) => {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    server.handle_timeout(Instant::now());
                }
                None => break End::Refused(Refusal::new(Reason::Malformed, "the login has no end")),
            },
        }
    };
    Trial { asked, end }
}

/// Lets the client say what it has to say. Its failure, if it gives up.
fn speak(client: &mut client::Conversation, server: &mut Conversation) -> Option<Failure> {
    while let Some(action) = client.poll() {
        match action {
            client::Action::Send { hello, .. } => {
                // A chain that asks nothing owes it no throw-away challenge: nobody is to be fooled here.
                let hello = hello.expecting_challenge(false);
                server.handle(Instant::now(), ClientMessage::Hello(Box::new(hello)));
            }
            client::Action::Consult(consult) => {
                let done = consult.run();
                client.handle_consulted(Instant::now(), done);
            }
            client::Action::Fail(failure) => return Some(failure),
            client::Action::Established { .. } => {}
        }
    }
    None
}

/// Random bytes of the operating system. Without them the login ends with the thread, as it does in a gateway.
fn random(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "no login may go on without randomness")]
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Secret,
        modules::login::{chain, link},
        proto::client::{FailureKind, ProvideSecret, Provided, Question as Asked},
    };

    struct Word(&'static str);

    impl ProvideSecret for Word {
        fn provide(&self, _: &Asked<'_>) -> Result<Option<Provided>, Failure> {
            Ok(Some(Provided::Text(Secret::new(self.0))))
        }
    }

    fn tried(module: &str, options: &[(&str, &str)], word: Option<&'static str>) -> Trial {
        let responders: Vec<Responder> =
            word.map(|word| Responder::secret("word", Word(word))).into_iter().collect();
        let claim = Claim::named("alice").unwrap();
        run(chain(link(module, options).unwrap()), Peer::unix(None), claim, responders.into(), "here")
    }

    #[test]
    fn each_kind_of_verifier_ends_with_its_own_cause() {
        assert!(matches!(tried("none", &[], Some("x")).end, End::Passed(_)));
        assert!(tried("none", &[], Some("x")).asked.is_empty());
        let refused = |trial: Trial| match trial.end {
            End::Refused(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(tried("fail", &[], None)), Reason::Denied);
        let value = [("value", "right")];
        let passed = tried("password", &value, Some("right"));
        assert!(matches!(passed.end, End::Passed(_)) && passed.asked.len() == 1);
        assert_eq!(passed.asked[0].mechanism, "hmac+sha512");
        assert_eq!(refused(tried("password", &value, Some("wrong"))), Reason::WrongSecret);
        let program =
            [("command", "sh -c 'read -r word; test \"$word\" = right'"), ("require-challenge", "yes")];
        let passed = tried("exec", &program, Some("right"));
        assert!(matches!(passed.end, End::Passed(_)) && passed.asked[0].mechanism == "xor");
        assert_eq!(refused(tried("exec", &program, Some("wrong"))), Reason::WrongSecret);
        assert!(
            matches!(tried("allow", &[], Some("x")).end, End::Passed(grant) if grant.identity().is_some())
        );
        match tried("password", &value, None).end {
            End::Unanswered(failure) => assert_eq!(failure.kind, FailureKind::NoCredential),
            other => panic!("{other:?}"),
        }
    }
}
