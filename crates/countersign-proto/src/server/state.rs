//! The states of a server's conversation, each with exactly the data that is valid then.
//!
//! Every input consumes the state and makes the next one, so nothing stale can be read: a salt
//! verifies once because the state that holds it is gone afterwards (S-15, S-28).

use std::{collections::VecDeque, fmt, sync::Arc, time::Instant};

use super::{
    Action, ClientMessage, Context, Follower,
    check::{Check, CheckOutcome, Checked, Work},
};
use crate::{
    chain::{Answer, Ask, Exchange, Grant, Link, Next, Round, Verifier, Walk},
    challenge::{Challenge, Hello, Offer, Response},
    error::{Reason, Refusal},
    mechanism::{Hash, Mechanism, hmac, xor},
};

/// What the conversation waits for.
pub(super) enum State {
    /// The first hello.
    AwaitHello { since: Instant },
    /// A check that runs elsewhere.
    Checking { session: Session, ticket: u64, mechanism: Option<Mechanism> },
    /// The moment until which a link that passed holds the login up.
    Held { session: Session, until: Instant },
    /// The response to a challenge.
    AwaitResponse { session: Session, challenge: Challenge, asker: Asker },
    /// Any answer to a challenge that was only sent because the client insists on one.
    AwaitThrowaway { session: Session, grant: Grant },
    /// The moment to refuse.
    Refusing { refusal: Refusal, until: Instant },
    /// Nothing: it is over.
    Closed,
}

/// What is bound by the first hello (S-16), and the way along the chain.
pub(super) struct Session {
    walk: Walk,
    offer: Offer,
    insists: bool,
    challenged: bool,
    initial: Option<Response>,
}

/// Who looks at the response to a challenge.
pub(super) enum Asker {
    /// The link that is due, by its kind.
    Link,
    /// An exchange that is under way; `true` if it is to be given what is under the mask.
    Exchange(Box<dyn Exchange>, bool),
}

impl Asker {
    /// How long an answer may be: tokens alone are longer than other proofs (S-13).
    fn longest(&self, challenge: &Challenge) -> usize {
        match (self, &challenge.mechanism) {
            (Self::Exchange(_, true), Mechanism::Other(_)) => Response::MAX_TOKEN_BYTES,
            _ => Response::MAX_BYTES,
        }
    }
}

type Actions = VecDeque<Action>;

impl State {
    /// Since when, if the first hello is still awaited.
    pub(super) fn awaits_hello(&self) -> Option<Instant> {
        match self {
            Self::AwaitHello { since } => Some(*since),
            _ => None,
        }
    }

    pub(super) fn handle(
        self,
        context: &mut Context,
        now: Instant,
        message: ClientMessage,
        actions: &mut Actions,
    ) -> Self {
        match (self, message) {
            (ended @ (Self::Refusing { .. } | Self::Closed), _) => ended,
            (_, ClientMessage::Malformed(refusal)) => end(refusal, actions),
            (_, ClientMessage::Closed) => {
                end(Refusal::new(Reason::PeerLeft, "the client closed the connection"), actions)
            }
            (_, ClientMessage::Unacceptable(refusal)) => context.refuse(now, refusal),
            // A response before any challenge is not looked at (`docs/protocol/xpra.md`).
            (Self::AwaitHello { .. }, ClientMessage::Hello(hello)) => {
                Session::new(context, *hello).proceed(context, now, actions)
            }
            (Self::Checking { .. } | Self::Held { .. }, ClientMessage::Hello(_)) => {
                end(Refusal::new(Reason::Malformed, "a hello while none was due"), actions)
            }
            (Self::AwaitResponse { session, challenge, asker }, ClientMessage::Hello(hello)) => match session
                .accept_response(*hello, &challenge, asker.longest(&challenge))
            {
                Ok(response) => session.judge(context, now, Round { challenge, response }, asker, actions),
                Err(refusal) => session.refuse(context, now, refusal),
            },
            (Self::AwaitThrowaway { session, grant }, ClientMessage::Hello(hello)) => {
                match session.check_unchanged(&hello) {
                    Ok(()) => accept(grant, actions),
                    Err(refusal) => session.refuse(context, now, refusal),
                }
            }
        }
    }

    pub(super) fn handle_checked(
        self,
        context: &mut Context,
        now: Instant,
        done: Checked,
        actions: &mut Actions,
    ) -> Self {
        let Self::Checking { mut session, ticket, mechanism } = self else { return self };
        if done.ticket != ticket {
            return Self::Checking { session, ticket, mechanism };
        }
        match done.outcome {
            CheckOutcome::Passed(identity, watch, stay) => {
                let follower =
                    session.due().zip(watch).map(|(link, watch)| Follower { link: Some(link), watch });
                stay.into_iter().for_each(|stay| session.walk.keep(stay));
                match session.walk.pass(identity, mechanism) {
                    Ok(()) => session.follow(context, now, follower, actions),
                    Err(refusal) => session.refuse(context, now, refusal),
                }
            }
            CheckOutcome::Asks(exchange, ask) => session.ask(context, now, exchange, ask, actions),
            CheckOutcome::Refused(refusal) => session.refuse(context, now, refusal),
        }
    }
}

impl Session {
    fn new(context: &Context, hello: Hello) -> Self {
        let walk = Walk::new(Arc::clone(&context.chain), Arc::clone(&context.peer), Arc::new(hello.claim));
        Self {
            walk,
            offer: hello.offer,
            insists: hello.expects_challenge,
            challenged: false,
            initial: hello.initial_response,
        }
    }

    /// The link that is due, counted from 1, and its module.
    fn due(&self) -> Option<(usize, &'static str)> {
        let Next::Link(position) = self.walk.next() else { return None };
        self.walk.chain().links().get(position).map(|link| (position + 1, link.module))
    }

    /// Goes on behind a link that passed, at once or when the one that follows the login lets it.
    fn follow(
        self,
        context: &mut Context,
        now: Instant,
        follower: Option<Follower>,
        actions: &mut Actions,
    ) -> State {
        let Some(follower) = follower else { return self.proceed(context, now, actions) };
        let hold = follower.watch.hold();
        context.followers.push(follower);
        match hold.is_zero() {
            true => self.proceed(context, now, actions),
            false => State::Held { session: self, until: now + hold },
        }
    }

    /// Does what the chain's next link needs, or ends.
    pub(super) fn proceed(mut self, context: &mut Context, now: Instant, actions: &mut Actions) -> State {
        let chain = Arc::clone(self.walk.chain());
        let position = match self.walk.next() {
            Next::Link(position) => position,
            Next::Done(grant) => return self.finish(context, grant, actions),
        };
        let Some(link) = chain.links().get(position) else { return State::Closed };
        let cleartext = match &link.verifier {
            Verifier::Peer(_) => return self.check(context, now, Work::Peer, None, actions),
            Verifier::Exchange(_) => return self.check(context, now, Work::Open, None, actions),
            Verifier::Password(_) => true,
            Verifier::Secret(_) => false,
        };
        if !cleartext && let Some(round) = self.take_initial() {
            context.took_initial = true;
            return self.judge(context, now, round, Asker::Link, actions);
        }
        let is_last = chain.links().iter().skip(position + 1).all(|link| !link.asks());
        match self.pose(context, link, cleartext, None) {
            Ok(challenge) => self.send(challenge.as_last(is_last), Asker::Link, actions),
            Err(refusal) => self.refuse(context, now, refusal),
        }
    }

    /// The client's answer to the implied challenge, for the first question of the login and no other.
    /// One that could not be an answer is passed over: the question is asked then.
    fn take_initial(&mut self) -> Option<Round> {
        let response = self.initial.take()?;
        let challenge = Challenge::implied(self.walk.peer().channel_binding.as_deref()?);
        let sha512 = Some(Hash::Sha512);
        let is_offered = self.offer.strongest_hmac() == sha512 && self.offer.strongest_salt_hash() == sha512;
        let is_usable = is_offered && response.check(&challenge, Response::MAX_BYTES).is_ok();
        self.challenged |= is_usable;
        is_usable.then_some(Round { challenge, response })
    }

    /// An exchange asks something.
    fn ask(
        mut self,
        context: &mut Context,
        now: Instant,
        exchange: Box<dyn Exchange>,
        ask: Ask,
        actions: &mut Actions,
    ) -> State {
        let chain = Arc::clone(self.walk.chain());
        let Next::Link(position) = self.walk.next() else { return State::Closed };
        let Some(link) = chain.links().get(position) else { return State::Closed };
        let unmasked = matches!(ask, Ask::Cleartext | Ask::Worded(_) | Ask::Token { .. });
        let challenge = match ask {
            Ask::Hmac | Ask::Cleartext => self.pose(context, link, unmasked, None),
            Ask::Worded(words) => self.pose(context, link, unmasked, Some(words)),
            Ask::Own { mechanism, message } => self.pose_own(context, link, &[mechanism], message),
            Ask::AnyOf(mechanisms) => self.pose_own(context, link, &mechanisms, None),
            Ask::Token { mechanism, message } => self
                .in_private("the token itself")
                .and_then(|()| self.pose_own(context, link, &[mechanism], message)),
        };
        match challenge {
            Ok(challenge) => self.send(challenge, Asker::Exchange(exchange, unmasked), actions),
            Err(refusal) => self.refuse(context, now, refusal),
        }
    }

    /// S-33: decided before the client is asked for `what`, so that it never has to be trusted.
    fn in_private(&self, what: &str) -> Result<(), Refusal> {
        if self.walk.peer().confidential {
            return Ok(());
        }
        let cause = format!("the module needs {what} and the wire is not encrypted");
        Err(Refusal::new(Reason::NotConfidential, cause))
    }

    /// A challenge for a proof by HMAC, or for the cleartext where the wire allows it, in the link's
    /// words or in an exchange's own.
    fn pose(
        &mut self,
        context: &mut Context,
        link: &Link,
        cleartext: bool,
        words: Option<String>,
    ) -> Result<Challenge, Refusal> {
        let none = |what| Refusal::new(Reason::NoCommonMechanism, what);
        if cleartext {
            self.in_private("the secret itself")?;
        }
        let mechanism = if cleartext {
            Some(Mechanism::Xor).filter(|xor| self.offer.lists(xor))
        } else {
            self.offer.strongest_hmac().map(Mechanism::Hmac)
        };
        let mechanism =
            mechanism.ok_or_else(|| none("the client offers no digest that this link may use"))?;
        let salt_hash = self.offer.strongest_salt_hash();
        let salt_hash = salt_hash.ok_or_else(|| none("the client offers no acceptable salt digest"))?;
        let salt_digest = Mechanism::Hmac(salt_hash).to_string();
        let prompt = words.unwrap_or_else(|| self.walk.prompt(link));
        Ok(Challenge::new(context.salt(), mechanism, salt_digest, prompt))
    }

    /// A challenge of the first of these mechanisms, which have messages of their own, that the client
    /// lists.
    fn pose_own(
        &mut self,
        context: &mut Context,
        link: &Link,
        mechanisms: &[String],
        message: Option<Vec<u8>>,
    ) -> Result<Challenge, Refusal> {
        let named = mechanisms.iter().map(|name| Mechanism::Other(name.clone()));
        let Some(mechanism) = named.into_iter().find(|mechanism| self.offer.lists(mechanism)) else {
            let cause = format!("the client does not offer {}", mechanisms.join(" or "));
            return Err(Refusal::new(Reason::NoCommonMechanism, cause));
        };
        let salt_hash = self.offer.strongest_salt_hash().unwrap_or(Hash::Sha512);
        let salt = message.unwrap_or_else(|| context.salt());
        Ok(Challenge::new(salt, mechanism, Mechanism::Hmac(salt_hash).to_string(), self.walk.prompt(link)))
    }

    fn send(mut self, challenge: Challenge, asker: Asker, actions: &mut Actions) -> State {
        self.challenged = true;
        self.initial = None;
        actions.push_back(Action::Challenge(challenge.clone()));
        State::AwaitResponse { session: self, challenge, asker }
    }

    /// The response of a hello that answers `challenge`, if that hello is the session's (S-16).
    fn accept_response(
        &self,
        hello: Hello,
        challenge: &Challenge,
        longest: usize,
    ) -> Result<Response, Refusal> {
        self.check_unchanged(&hello)?;
        let Some(response) = hello.response else {
            return Err(Refusal::new(Reason::NoResponse, "a hello without a response to the challenge"));
        };
        response.check(challenge, longest)?;
        Ok(response)
    }

    fn check_unchanged(&self, hello: &Hello) -> Result<(), Refusal> {
        if self.walk.claim().is_kept_by(&hello.claim) && self.offer.is_kept_by(&hello.offer) {
            return Ok(());
        }
        let cause = "a later hello names another user, display, session or other digests";
        Err(Refusal::new(Reason::ClaimChanged, cause))
    }

    /// Hands a response to who asked for it.
    fn judge(
        self,
        context: &mut Context,
        now: Instant,
        round: Round,
        asker: Asker,
        actions: &mut Actions,
    ) -> State {
        if let Err(refusal) = context.may_judge(&round.challenge, &round.response) {
            return self.refuse(context, now, refusal);
        }
        let mechanism = Some(round.challenge.mechanism.recorded());
        let work = match asker {
            Asker::Link => Work::Judge(round),
            Asker::Exchange(exchange, unmasked) => Work::Step(exchange, answer(round, unmasked)),
        };
        self.check(context, now, work, mechanism, actions)
    }

    fn check(
        self,
        context: &mut Context,
        now: Instant,
        work: Work,
        mechanism: Option<Mechanism>,
        actions: &mut Actions,
    ) -> State {
        let Next::Link(position) = self.walk.next() else { return State::Closed };
        let ticket = context.ticket();
        match Check::new(ticket, &self.walk, position, work) {
            Ok(check) => {
                actions.push_back(Action::Check(check));
                State::Checking { session: self, ticket, mechanism }
            }
            Err(refusal) => self.refuse(context, now, refusal),
        }
    }

    /// All links passed; a client that insists on a challenge and got none is still owed one.
    fn finish(self, context: &mut Context, grant: Grant, actions: &mut Actions) -> State {
        let offered = self.offer.strongest_hmac().zip(self.offer.strongest_salt_hash());
        let (true, false, Some((hash, salt_hash))) = (self.insists, self.challenged, offered) else {
            return accept(grant, actions);
        };
        let salt_digest = Mechanism::Hmac(salt_hash).to_string();
        let challenge = Challenge::new(context.salt(), Mechanism::Hmac(hash), salt_digest, "password");
        actions.push_back(Action::Challenge(challenge.as_last(true)));
        State::AwaitThrowaway { session: self, grant }
    }

    /// Refuses, marked with the link that is due.
    fn refuse(self, context: &mut Context, now: Instant, refusal: Refusal) -> State {
        let refusal = match self.due() {
            Some((index, module)) => refusal.at(index, module),
            None => refusal,
        };
        context.refuse(now, refusal)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwaitHello { .. } => "AwaitHello",
            Self::Checking { .. } => "Checking",
            Self::Held { .. } => "Held",
            Self::AwaitResponse { .. } => "AwaitResponse",
            Self::AwaitThrowaway { .. } => "AwaitThrowaway",
            Self::Refusing { .. } => "Refusing",
            Self::Closed => "Closed",
        })
    }
}

/// What an exchange is given: the secret itself where it asked for that, else the response as it came.
/// Without a salt of the client's there is no mask.
fn answer(round: Round, unmasked: bool) -> Answer {
    let Round { challenge, response } = round;
    let masked = unmasked && !response.client_salt.is_empty();
    let value = if masked { unmask(&challenge, &response) } else { response.value };
    Answer::new(value, response.client_salt, challenge)
}

/// The secret that an `xor` response carries.
pub(super) fn unmask(challenge: &Challenge, response: &Response) -> crate::secret::Secret {
    xor::mask(&response.value, &combined(challenge, response))
}

/// The combined salts of a round that this server posed.
pub(super) fn combined(challenge: &Challenge, response: &Response) -> Vec<u8> {
    // The server chose the salt digest from `Hash::STRONGEST_FIRST`, so it is always found.
    let hash = crate::mechanism::Hash::strongest_in(std::slice::from_ref(&challenge.salt_digest));
    hash.map(|hash| hmac::combine_salts(hash, &response.client_salt, &challenge.salt)).unwrap_or_default()
}

fn accept(grant: Grant, actions: &mut Actions) -> State {
    actions.push_back(Action::Accept(grant));
    State::Closed
}

fn end(refusal: Refusal, actions: &mut Actions) -> State {
    actions.push_back(Action::Refuse(refusal));
    State::Closed
}
