//! The server's end of a conversation.
//!
//! A [`Conversation`] is fed with what happened (`handle`, `handle_checked`, `handle_timeout`) and
//! asked what to do next ([`Conversation::poll`], until it answers `None`, then
//! [`Conversation::poll_timeout`]). It holds every rule of a login: the order of the links, which
//! mechanism may be asked on which wire, salts, the deadlines, and the pause before a refusal.
//!
//! ```text
//! AwaitHello -> Checking <-> AwaitResponse -> (AwaitThrowaway) -> Closed, with a Grant
//!      \        <-> Held   \__________________\________________-> Refusing -> Closed
//!       \____________\_____________________________________________/
//! ```

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

mod check;
mod state;
#[cfg(test)]
mod tests;

pub use check::{Check, Checked};
use state::State;

use crate::{
    chain::{Chain, Grant, Watch},
    challenge::{Challenge, Hello, Response},
    error::{Reason, Refusal},
    mechanism::Mechanism,
    peer::Peer,
};

/// One login at a server, from the first hello to the [`Grant`] or the [`Refusal`].
pub struct Conversation {
    state: State,
    context: Context,
    actions: VecDeque<Action>,
    deadline: Instant,
}

/// What stays the same during a conversation.
pub(crate) struct Context {
    chain: Arc<Chain>,
    peer: Arc<Peer>,
    settings: Settings,
    random: Box<dyn Random>,
    tickets: u64,
    /// The first question was answered by the first hello.
    took_initial: bool,
    /// Who follows this login until it ends.
    followers: Vec<Follower>,
    /// When the client last spoke: the pause before a refusal counts from there.
    heard: Instant,
}

/// A link that passed and follows the login from there, or whoever drives it.
pub(crate) struct Follower {
    /// Its place in the chain, counted from 1, and its module.
    link: Option<(usize, &'static str)>,
    watch: Box<dyn Watch>,
}

/// Limits of a conversation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// From the start of the connection to the first complete hello: `10s` (S-01).
    pub handshake_timeout: Duration,
    /// From the start of the connection to success: `120s` (S-01).
    pub login_timeout: Duration,
    /// The least time from a response to its refusal: `1s`, with up to a fifth of it added at
    /// random, so that neither cause nor work shows (S-26). Zero turns it off.
    pub refusal_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(120),
            refusal_delay: Duration::from_secs(1),
        }
    }
}

/// What a client did, as its wire binding decoded it.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "every input must be handled in every state")]
pub enum ClientMessage {
    /// A hello, with or without a response.
    Hello(Box<Hello>),
    /// A hello that is well-formed and may not be accepted: a forbidden user name, for example.
    Unacceptable(Refusal),
    /// Something that no correct client sends. Ends the conversation at once.
    Malformed(Refusal),
    /// The end of the stream.
    Closed,
}

/// What the driver has to do.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a driver that ignores an action is broken")]
pub enum Action {
    /// Send a challenge.
    Challenge(Challenge),
    /// Run this, anywhere, and hand the result to [`Conversation::handle_checked`].
    Check(Check),
    /// The whole chain passed. The conversation is over.
    Accept(Grant),
    /// Tell the peer [`Refusal::public`], close, and stop reading now. The conversation is over.
    Refuse(Refusal),
}

/// A source of random bytes, as good as the operating system's (S-28).
pub trait Random: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Random for F {
    fn fill(&mut self, bytes: &mut [u8]) {
        self(bytes);
    }
}

impl Conversation {
    /// A conversation with `peer`, accepted at `now`, by the rules of `chain`.
    pub fn new(
        chain: Arc<Chain>,
        peer: Arc<Peer>,
        settings: Settings,
        random: impl Random + 'static,
        now: Instant,
    ) -> Self {
        let deadline = now + settings.handshake_timeout.min(settings.login_timeout);
        let (random, followers) = (Box::new(random), Vec::new());
        let (tickets, took_initial) = (0, false);
        let context = Context { chain, peer, settings, random, tickets, took_initial, followers, heard: now };
        Self { state: State::AwaitHello { since: now }, context, actions: VecDeque::new(), deadline }
    }

    /// The same, followed by `watch` whatever the chain is. It can hold nothing up.
    #[must_use]
    pub fn followed_by(mut self, watch: Box<dyn Watch>) -> Self {
        self.context.followers.push(Follower { link: None, watch });
        self
    }

    /// Starts without a hello, for wires on which nothing is said (`protocol=stream`). A chain that
    /// asks the client for something refuses.
    pub fn begin_silent(&mut self, now: Instant) {
        use crate::{challenge::Offer, identity::Claim};
        let hello = Hello::new(Claim::anonymous(), Offer::default());
        self.handle(now, ClientMessage::Hello(Box::new(hello)));
    }

    /// Takes what the client did. What comes at a deadline is too late.
    pub fn handle(&mut self, now: Instant, message: ClientMessage) {
        self.handle_timeout(now);
        self.advance(|state, context, actions| {
            context.heard = now;
            state.handle(context, now, message, actions)
        });
    }

    /// Takes the result of a [`Check`] back. A late one is ignored, also where nobody has looked at the clock yet
    /// (S-65).
    pub fn handle_checked(&mut self, now: Instant, done: Checked) {
        self.handle_timeout(now);
        self.advance(|state, context, actions| state.handle_checked(context, now, done, actions));
    }

    /// To be called when [`Conversation::poll_timeout`] is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let deadline = self.deadline;
        self.advance(|state, context, actions| match state {
            State::Refusing { refusal, until } if until <= now => {
                actions.push_back(Action::Refuse(refusal));
                State::Closed
            }
            refusing @ State::Refusing { .. } => refusing,
            State::Closed => State::Closed,
            _ if deadline <= now => {
                let refusal = Refusal::new(Reason::Timeout, "the login did not finish in time");
                actions.push_back(Action::Refuse(refusal));
                State::Closed
            }
            State::Held { session, until } if until <= now => session.proceed(context, now, actions),
            waiting => waiting,
        });
    }

    /// What is to be done next; `None` when it is the peer's, a check's or the clock's turn.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Conversation::handle_timeout`] is due. `None` when the conversation is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed => None,
            State::Refusing { until, .. } => Some(*until),
            State::Held { until, .. } => Some(self.deadline.min(*until)),
            _ => Some(self.deadline),
        }
    }

    /// Whether more bytes of the client may be read. Not while a check runs or the login is held up,
    /// while a refusal waits, or after the end: what a client sends then is never looked at (S-15, W37).
    pub fn wants_input(&self) -> bool {
        matches!(
            self.state,
            State::AwaitHello { .. } | State::AwaitResponse { .. } | State::AwaitThrowaway { .. }
        )
    }

    /// Whether the initial response of the client was judged. The client is told with whatever follows, so
    /// that it knows which of its secrets are spent.
    pub fn took_initial_response(&self) -> bool {
        self.context.took_initial
    }

    fn advance(&mut self, step: impl FnOnce(State, &mut Context, &mut VecDeque<Action>) -> State) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let before = state.awaits_hello();
        self.state = step(state, &mut self.context, &mut self.actions);
        if let Some(since) = before.filter(|_| self.state.awaits_hello().is_none()) {
            self.deadline = since + self.context.settings.login_timeout;
        }
        self.tell_the_end();
    }

    /// Tells those who follow the login how it ended, as soon as that is decided.
    fn tell_the_end(&mut self) {
        let end = match (&self.state, self.actions.back()) {
            (State::Refusing { refusal, .. }, _) => Err(refusal),
            (State::Closed, Some(Action::Refuse(refusal))) => Err(refusal),
            (State::Closed, Some(Action::Accept(grant))) => Ok(grant),
            _ => return,
        };
        for follower in self.context.followers.drain(..) {
            follower.watch.ended(end);
        }
    }
}

impl Context {
    /// 64 random bytes, used for one challenge (S-28).
    fn salt(&mut self) -> Vec<u8> {
        let mut salt = vec![0; 64];
        self.random.fill(&mut salt);
        salt
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Whether a response may be judged, by those who follow the login.
    fn may_judge(&mut self, challenge: &Challenge, response: &Response) -> Result<(), Refusal> {
        if self.followers.is_empty() {
            return Ok(());
        }
        let mechanism = &challenge.mechanism;
        let secret = (*mechanism == Mechanism::Xor).then(|| state::unmask(challenge, response));
        self.followers.iter_mut().try_for_each(|Follower { link, watch }| {
            watch.judging(mechanism, secret.as_ref()).map_err(|refusal| match link {
                Some((index, module)) => refusal.at(*index, module),
                None => refusal,
            })
        })
    }

    /// The state that refuses after the pause. It counts from what the client said and not from now:
    /// how long a module took would tell an unknown name from a known one (S-26).
    fn refuse(&mut self, now: Instant, refusal: Refusal) -> State {
        let delay = self.settings.refusal_delay;
        let mut noise = [0; 2];
        self.random.fill(&mut noise);
        let jitter = delay.mul_f64(f64::from(u16::from_be_bytes(noise)) / f64::from(u16::MAX) / 5.0);
        State::Refusing { refusal, until: (self.heard + delay + jitter).max(now) }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("state", &self.state).finish_non_exhaustive()
    }
}
