//! The client's end of a conversation: the mirror of [`crate::server`].
//!
//! A [`Conversation`] is started, fed with what happened (`handle`, `handle_consulted`,
//! `handle_timeout`) and asked what to do next ([`Conversation::poll`], until it answers `None`,
//! then [`Conversation::poll_timeout`]). It holds the rules that protect the secret from the
//! server: only what was offered is answered (W35), a mechanism that shows the secret needs a
//! confidential wire (S-33), and a password never answers for a ticket or token (W34).
//!
//! ```text
//! Idle -> (Preparing) -> AwaitReply <-> Consulting
//!                             \____________\________-> Closed: Established, or Fail
//! ```

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

mod consult;
mod failure;
mod responder;
mod scram;
mod state;
#[cfg(test)]
mod tests;

use consult::{Bench, Proof};
pub use consult::{Consult, Consulted};
pub use failure::{Failure, FailureKind, quotable};
pub use responder::{Exchange, Means, OpenExchange, ProvideSecret, Provided, Question, Responder};
use state::State;

use crate::{
    challenge::{Challenge, Hello, Offer},
    identity::Claim,
    mechanism::{Mechanism, scram::Variant},
    server::Random,
};

/// One login at a server, from our first hello to its welcome or the [`Failure`].
pub struct Conversation {
    state: State,
    context: Context,
    actions: VecDeque<Action>,
}

/// What stays the same during a conversation.
pub(crate) struct Context {
    claim: Claim,
    offer: Offer,
    responders: Arc<[Responder]>,
    server: Arc<Server>,
    settings: Settings,
    random: Box<dyn Random>,
    tickets: u64,
}

/// What the client knows of the server's end of the wire before a word is said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// Its address, without user or password: `tls://host:443`.
    pub address: String,
    /// Whether nobody but the two ends can read the bytes. Loopback TCP is not confidential (S-33).
    pub confidential: bool,
    /// Whether it proved to be the server of that address (S-43).
    pub verified: bool,
    /// `tls-exporter` channel binding data (RFC 9266), if the wire is TLS 1.3 (S-35).
    pub channel_binding: Option<Arc<[u8]>>,
}

impl Server {
    /// A server at `address`, and what the wire to it is worth.
    pub fn new(address: impl Into<String>, confidential: bool, verified: bool) -> Self {
        Self { address: address.into(), confidential, verified, channel_binding: None }
    }

    /// The same server behind a TLS session that a login can be bound to.
    #[must_use]
    pub fn bound_by(mut self, channel_binding: Option<Arc<[u8]>>) -> Self {
        self.channel_binding = channel_binding;
        self
    }
}

/// Rules and limits of a conversation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// From each hello to what follows it: `60s`. A server may take its time over a login, and
    /// says *no* one second late.
    pub reply_timeout: Duration,
    /// Leave a server that lets everybody in (S-45). A server that asks and then takes any answer
    /// cannot be told from one that checks.
    pub require_auth: bool,
}

impl Settings {
    /// The same settings, with [`Settings::require_auth`] as given.
    #[must_use]
    pub fn requiring_auth(mut self, require: bool) -> Self {
        self.require_auth = require;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { reply_timeout: Duration::from_secs(60), require_auth: false }
    }
}

/// What a server did, as its wire binding decoded it.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "every input must be handled in every state")]
pub enum ServerMessage {
    /// It asks.
    Challenge {
        /// The question.
        challenge: Challenge,
        /// The challenge says that a countersign server sent it: text secrets are then UTF-8, and
        /// Latin-1 where they can be towards Xpra's servers (`docs/protocol/xpra.md`, spelling).
        countersign: bool,
    },
    /// It judged the initial response; what else it says follows. Only a countersign server does.
    TookInitialResponse,
    /// The login is accepted, or needed nothing.
    Welcome,
    /// It ends the connection, in its own words.
    Disconnect(Vec<String>),
    /// Something that no correct server sends, and what is wrong with it.
    Malformed(Cow<'static, str>),
    /// The end of the stream.
    Closed,
}

/// What the driver has to do.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver that ignores an action is broken")]
pub enum Action {
    /// Send a hello.
    Send {
        /// The hello.
        hello: Box<Hello>,
        /// It answers the last question: what is meant for the daemon may follow at once.
        is_last: bool,
    },
    /// Run this, anywhere, and hand the result to [`Conversation::handle_consulted`].
    Consult(Consult),
    /// The server took the login. The conversation is over.
    Established {
        /// The mechanisms that were answered, in order; none if the server asked nothing.
        answered: Vec<Mechanism>,
    },
    /// The login failed: close. The conversation is over.
    Fail(Failure),
}

impl Conversation {
    /// A conversation that claims `claim` at `server` and answers with `responders`, in order.
    pub fn new(
        claim: Claim,
        responders: Arc<[Responder]>,
        server: Arc<Server>,
        settings: Settings,
        random: impl Random + 'static,
    ) -> Self {
        let mut offer = Offer::of_client(server.confidential);
        let can_bind = server.channel_binding.is_some();
        let scram = Variant::STRONGEST_FIRST.into_iter().filter(|variant| can_bind || !variant.is_bound());
        let scram = scram.map(Variant::name).filter(|name| responders.iter().any(|r| r.answers(name)));
        let own = responders.iter().flat_map(|responder| responder.mechanisms().iter().copied());
        offer.mechanisms.extend(scram.chain(own).map(str::to_owned));
        let state = State::Idle { bench: consult::Bench::new(Arc::clone(&responders)) };
        let random = Box::new(random);
        let context = Context { claim, offer, responders, server, settings, random, tickets: 0 };
        Self { state, context, actions: VecDeque::new() }
    }

    /// Says hello: the stream to the server stands. Later calls do nothing.
    pub fn start(&mut self, now: Instant) {
        self.advance(|state, context, actions| state.start(context, now, actions));
    }

    /// Takes what the server did. When that was makes no difference today.
    pub fn handle(&mut self, _now: Instant, message: ServerMessage) {
        self.advance(|state, context, actions| state.handle(context, message, actions));
    }

    /// Takes the result of a [`Consult`] back. A late one is ignored.
    pub fn handle_consulted(&mut self, now: Instant, done: Consulted) {
        self.advance(|state, context, actions| state.handle_consulted(context, now, done, actions));
    }

    /// To be called when [`Conversation::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(|state, _, actions| state.handle_timeout(now, actions));
    }

    /// What is to be done next; `None` when it is the server's, a responder's or the clock's turn.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Conversation::handle_timeout`] is due. `None` while responders are asked, because a
    /// person may type as long as the server waits, and when the conversation is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::AwaitReply { until, .. } => Some(*until),
            State::Idle { .. } | State::Preparing { .. } | State::Consulting { .. } | State::Closed => None,
        }
    }

    fn advance(&mut self, step: impl FnOnce(State, &mut Context, &mut VecDeque<Action>) -> State) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = step(state, &mut self.context, &mut self.actions);
    }
}

impl Context {
    /// 32 random bytes, used for one response (S-30).
    fn salt(&mut self) -> Vec<u8> {
        let mut salt = vec![0; 32];
        self.random.fill(&mut salt);
        salt
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// The hello of every turn; the server compares them (S-16).
    fn hello(&self) -> Hello {
        Hello::new(self.claim.clone(), self.offer.clone())
    }

    /// A question to the responders, after as many others as `before`.
    fn consult(&mut self, bench: Bench, challenge: Challenge, proof: Proof, before: usize) -> Consult {
        Consult {
            ticket: self.ticket(),
            bench,
            challenge,
            proof,
            countersign: false,
            username: self.claim.username.clone(),
            server: Arc::clone(&self.server),
            number: before + 1,
            is_initial: false,
        }
    }

    /// Whether a secret can be given without asking a person.
    fn has_secret_at_hand(&self) -> bool {
        self.responders.iter().any(Responder::is_at_hand)
    }

    /// The question that may be answered before the server asks it. Not where a server has to ask.
    fn implied_challenge(&self) -> Option<Challenge> {
        let binding = self.server.channel_binding.as_deref()?;
        let answers = self.has_secret_at_hand() && !self.settings.require_auth;
        answers.then(|| Challenge::implied(binding))
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("state", &self.state).finish_non_exhaustive()
    }
}
