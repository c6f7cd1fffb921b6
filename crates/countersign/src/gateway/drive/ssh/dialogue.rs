//! The conversation of a login by SSH: the server's end, and the client's in the client's place.
//!
//! A client of SSH sends a password, or signs for the session; it knows no mechanism of ours. Its answers are put into
//! the proofs that the chain asks for by the same code that our client runs, so that no module needs to know how the
//! client came (S-27).

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::{
    super::{Arrival, Visit, now},
    Acceptor,
    requests::Attempt,
};
use crate::{
    Claim, Grant, Peer, Refusal, Secret,
    proto::{
        challenge::{Challenge, Response},
        client::{
            self, Consult, Exchange, Failure, Means, OpenExchange, ProvideSecret, Provided, Question,
            Responder,
        },
        error::Reason,
        mechanism::{scram::Stage, ssh_key},
        server::{Action, ClientMessage, Conversation},
    },
};

/// What a client has to do next.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// To say who it is.
    Name,
    /// To prove a key.
    Key,
    /// To answer this.
    Words(String),
    /// Nothing: it is let in.
    Granted(Grant),
    /// Nothing: it is refused.
    Refused(Refusal),
}

/// Both ends of one login.
pub(super) struct Dialogue<'a> {
    acceptor: &'a Acceptor,
    peer: Arc<Peer>,
    visit: Option<Arc<Visit>>,
    server: Conversation,
    client: Option<client::Conversation>,
    user: Option<String>,
    /// The question that waits for the client.
    asked: Option<Consult>,
    answer: Slot,
    due: Due,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(acceptor: &'a Acceptor, Arrival { peer, start, visit, .. }: Arrival) -> Self {
        let chain = Arc::clone(&acceptor.chain);
        let server =
            Conversation::new(chain, Arc::clone(&peer), acceptor.settings, super::super::random, start);
        let server = match &visit {
            Some(visit) => server.followed_by(visit.follow(Arc::clone(&peer))),
            None => server,
        };
        Self {
            acceptor,
            peer,
            visit,
            server,
            client: None,
            user: None,
            asked: None,
            answer: Slot::default(),
            due: Due::Name,
        }
    }

    /// The name that the client gave, if it has.
    pub(super) fn username(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What waits for the client.
    pub(super) fn due(&self) -> &Due {
        &self.due
    }

    /// Until when it waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.server.poll_timeout()
    }

    /// The client's time is up.
    pub(super) fn handle_timeout(&mut self) {
        self.server.handle_timeout(now());
    }

    /// The client has left.
    pub(super) fn handle_closed(&mut self) {
        self.server.handle(now(), ClientMessage::Closed);
    }

    /// Takes a request of the client's, and says whether it led on: not a key that was one of several tries. One that
    /// does not fit what is due changes nothing.
    pub(super) async fn take(&mut self, user: &str, attempt: &Attempt) -> bool {
        match &self.user {
            None => self.begin(user),
            // S-16: who logs in is said once.
            Some(before) if before != user => self.change_user(),
            Some(_) => {}
        }
        self.go_on().await;
        let before_key = matches!(self.due, Due::Key);
        let answer = match (&self.due, attempt) {
            (Due::Key, Attempt::Key(key)) => Some(Secret::new(key.as_slice())),
            (Due::Words(_), Attempt::Password(words) | Attempt::Interactive(Some(words))) => {
                Some(Secret::new(words.expose()))
            }
            _ => None,
        };
        if let Some((answer, asked)) = answer.and_then(|answer| Some((answer, self.asked.take()?))) {
            *self.answer.0.lock() = Some(answer);
            self.consult(asked).await;
            self.go_on().await;
            return !(before_key && matches!(self.due, Due::Key));
        }
        false
    }

    fn change_user(&mut self) {
        let refusal = Refusal::new(Reason::ClaimChanged, "a later request names another user");
        self.asked = None;
        match self.due {
            // The chain has let in somebody else.
            Due::Granted(_) => self.due = Due::Refused(refusal),
            _ => self.server.handle(now(), ClientMessage::Unacceptable(refusal)),
        }
    }

    fn begin(&mut self, user: &str) {
        self.user = Some(user.to_owned());
        let claim = match Claim::named(user) {
            Ok(claim) => claim,
            Err(refusal) => {
                return self.server.handle(now(), ClientMessage::Unacceptable(refusal));
            }
        };
        // S-27: counted and refused by the name that is claimed, as at every door.
        if let Some(Err(refusal)) = self.visit.as_ref().map(|visit| visit.hello(&self.peer, &claim)) {
            return self.server.handle(now(), ClientMessage::Unacceptable(refusal));
        }
        let own = |means| Responder::new("ssh", means);
        let responders = [
            own(Means::Secret(Box::new(self.answer.clone()))),
            own(Means::Exchange(Box::new(self.answer.clone()))),
        ];
        let server = Arc::new(client::Server::new("ssh", true, true));
        let settings = client::Settings::default();
        let mut client =
            client::Conversation::new(claim, Arc::new(responders), server, settings, super::super::random);
        client.start(now());
        self.client = Some(client);
    }

    /// Carries messages between the two ends until one of them waits for the client, or it is over.
    async fn go_on(&mut self) {
        loop {
            if let Some(action) = self.server.poll() {
                match action {
                    Action::Check(check) => self.acceptor.run(&mut self.server, check).await,
                    Action::Challenge(challenge) => {
                        if let Some(visit) = &self.visit {
                            visit.asked();
                        }
                        let asks = client::ServerMessage::Challenge { challenge, countersign: true };
                        if let Some(client) = &mut self.client {
                            client.handle(now(), asks);
                        }
                    }
                    Action::Accept(grant) => return self.due = Due::Granted(grant),
                    Action::Refuse(refusal) => return self.due = Due::Refused(refusal),
                }
                continue;
            }
            match self.client.as_mut().and_then(client::Conversation::poll) {
                Some(client::Action::Send { hello, .. }) => {
                    self.server.handle(now(), ClientMessage::Hello(hello));
                }
                Some(client::Action::Consult(consult)) => match due(consult.challenge()) {
                    // A round that follows from the last answer.
                    None => self.consult(consult).await,
                    Some(due) => {
                        (self.due, self.asked) = (due, Some(consult));
                        return;
                    }
                },
                // An empty password, for example: wrong like any other (S-32).
                Some(client::Action::Fail(_)) => {
                    let cause = "the answer is empty or longer than 4 KiB";
                    let refusal = Refusal::new(Reason::WrongSecret, cause);
                    self.server.handle(now(), ClientMessage::Unacceptable(refusal));
                }
                Some(_) => {}
                None if matches!(self.due, Due::Granted(_) | Due::Refused(_)) || self.asked.is_some() => {
                    return;
                }
                // A pause of the conversation's.
                None => match self.server.poll_timeout() {
                    Some(due) => {
                        tokio::time::sleep_until(due.into()).await;
                        self.server.handle_timeout(now());
                    }
                    None => return,
                },
            }
        }
    }

    /// Has the client's proof made. SCRAM hashes a password many times, so not here.
    async fn consult(&mut self, consult: Consult) {
        let done = tokio::task::spawn_blocking(move || consult.run()).await;
        if let (Ok(done), Some(client)) = (done, &mut self.client) {
            client.handle_consulted(now(), done);
        }
    }
}

/// What a challenge wants of the client; `None` if it follows from what it said before.
fn due(challenge: &Challenge) -> Option<Due> {
    match challenge.mechanism.scram() {
        Some((_, stage)) if stage != Stage::ClientFirst => None,
        None if challenge.mechanism.name() == ssh_key::IN_SSH => Some(Due::Key),
        _ => Some(Due::Words(challenge.prompt.clone())),
    }
}

/// Where the client's last answer waits for the proof that it is put into.
#[derive(Clone, Default)]
struct Slot(Arc<Mutex<Option<Secret>>>);

impl ProvideSecret for Slot {
    fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
        Ok(self.0.lock().take().map(Provided::Text))
    }

    fn turns(&self) -> usize {
        usize::MAX
    }

    fn is_at_hand(&self) -> bool {
        false
    }
}

/// A key that the client signed for its session with. The link knows that its answers come from here
/// ([`Peer::ssh`]).
impl OpenExchange for Slot {
    fn mechanisms(&self) -> &[&'static str] {
        &[ssh_key::NAME]
    }

    fn open(&self, _: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl Exchange for Slot {
    fn step(&mut self, _: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        Ok(self.0.lock().take().map(|key| Response::new(key, question.nonce.to_vec())))
    }
}
