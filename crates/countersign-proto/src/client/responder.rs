//! What answers for a person: the configured sources of secrets and tokens.
//!
//! The places themselves (a file, a variable, a terminal) are the library's handlers; here is only
//! what they look like to the conversation, and what they are told.

use std::fmt;

use super::{Failure, Server};
use crate::{
    challenge::{Challenge, Response},
    identity::Username,
    mechanism::{Mechanism, scram::Variant},
    secret::Secret,
};

/// A configured handler. Any number of conversations may share it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Responder {
    /// The handler's name, as in the registry.
    pub handler: &'static str,
    /// How it answers.
    pub means: Means,
}

/// How a [`Responder`] answers.
#[expect(clippy::exhaustive_enums, reason = "the conversation must know what each kind may answer")]
pub enum Means {
    /// It holds the secret; the conversation makes the proof, by SCRAM, HMAC or `xor`.
    Secret(Box<dyn ProvideSecret>),
    /// It holds a secret that is proved by SCRAM alone, so that no server learns what could be guessed at.
    Scram {
        /// Where the secret is.
        source: Box<dyn ProvideSecret>,
        /// Only where the login can be bound to the TLS session (S-45).
        bound: bool,
    },
    /// It runs rounds of mechanisms of its own.
    Exchange(Box<dyn OpenExchange>),
}

impl Responder {
    /// A responder of `handler`.
    pub fn new(handler: &'static str, means: Means) -> Self {
        Self { handler, means }
    }

    /// A responder of `handler` that holds a secret.
    pub fn secret(handler: &'static str, source: impl ProvideSecret + 'static) -> Self {
        Self::new(handler, Means::Secret(Box::new(source)))
    }

    /// The wire names, without arguments, of mechanisms of its own.
    pub(super) fn mechanisms(&self) -> &[&'static str] {
        match &self.means {
            Means::Secret(_) | Means::Scram { .. } => &[],
            Means::Exchange(exchange) => exchange.mechanisms(),
        }
    }

    /// Whether it answers a mechanism that has messages of its own.
    pub(super) fn answers(&self, name: &str) -> bool {
        let scram = Variant::named(name);
        match &self.means {
            Means::Secret(_) => scram.is_some(),
            Means::Scram { bound, .. } => scram.is_some_and(|variant| variant.is_bound() || !bound),
            Means::Exchange(exchange) => exchange.mechanisms().contains(&name),
        }
    }

    /// Whether it has a secret without asking a person.
    pub(super) fn is_at_hand(&self) -> bool {
        match &self.means {
            Means::Secret(source) | Means::Scram { source, .. } => source.is_at_hand(),
            Means::Exchange(_) => false,
        }
    }
}

/// A place where a secret is found. Always asked where it may block.
pub trait ProvideSecret: Send + Sync {
    /// The secret for this question; `None` where there is none, and then it is not asked again on
    /// this connection.
    ///
    /// # Errors
    /// There is something that cannot be used: the login ends, because a person who set it up
    /// wants to know rather than see it skipped.
    fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure>;

    /// Whether this is a question for it, by what the server says. If not, the next one is asked, and this
    /// one again at a later question.
    fn suits(&self, _: &Question<'_>) -> bool {
        true
    }

    /// How many questions it answers on one connection, so that one secret answers one link.
    fn turns(&self) -> usize {
        1
    }

    /// Whether it has a secret without asking a person. The server is told, so that one that asks
    /// nothing still checks something (`docs/protocol/xpra.md`, the hello).
    fn is_at_hand(&self) -> bool {
        true
    }
}

/// A secret, and whether it was text: then its spelling on the wire depends on the server.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a secret is text or it is not")]
pub enum Provided {
    /// Typed or written text, in UTF-8.
    Text(Secret),
    /// Bytes, sent as they are.
    Bytes(Secret),
}

impl Provided {
    /// The bytes that prove it: the Latin-1 spelling of text towards an Xpra server, where it has
    /// one (`docs/protocol/xpra.md`, spelling).
    pub(super) fn spelled(self, countersign: bool) -> Secret {
        match self {
            Self::Text(secret) if !countersign => secret.latin1().unwrap_or(secret),
            Self::Text(secret) | Self::Bytes(secret) => secret,
        }
    }
}

/// Has mechanisms of its own: tickets, tokens, devices.
pub trait OpenExchange: Send + Sync {
    /// The wire names, without arguments, of the mechanisms it answers. They are offered to every
    /// server, so a mechanism that needs a confidential wire refuses in [`Exchange::step`].
    fn mechanisms(&self) -> &[&'static str];

    /// Rounds with this server; `None` where it has nothing for it.
    ///
    /// # Errors
    /// As [`ProvideSecret::provide`].
    fn open(&self, question: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure>;
}

/// The rounds of one mechanism on one connection.
pub trait Exchange: Send {
    /// The answer to a challenge; `None` where there is none.
    ///
    /// # Errors
    /// The server is not what it should be, or the answer cannot be made: the login ends.
    fn step(&mut self, challenge: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure>;

    /// Whether the server still owes a proof of its own. One that goes on without is left.
    fn is_owed(&self) -> bool {
        false
    }
}

/// What a responder is told: who asks for what.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Question<'a> {
    /// Who asks.
    pub server: &'a Server,
    /// The name to log in as.
    pub username: Option<&'a Username>,
    /// How the proof will travel.
    pub mechanism: &'a Mechanism,
    /// The server's own words. Show them only through [`super::quotable`] (S-46).
    pub prompt: &'a str,
    /// Which question of this connection it is, counted from 1.
    pub number: usize,
    /// How many questions this responder answered on this connection before.
    pub turn: usize,
    /// 32 random bytes for this answer alone; none where a secret is asked for.
    pub nonce: &'a [u8],
    /// Whether a countersign server asks, by its own word: not one of Xpra's.
    pub countersign: bool,
}

impl<'a> Question<'a> {
    /// The first question that `challenge` puts to a responder.
    pub fn new(server: &'a Server, username: Option<&'a Username>, challenge: &'a Challenge) -> Self {
        let Challenge { mechanism, prompt, .. } = challenge;
        Self { server, username, mechanism, prompt, number: 1, turn: 0, nonce: &[], countersign: false }
    }

    /// The same question as number `number` of the connection, to a responder that had `turn` before.
    #[must_use]
    pub fn at(self, number: usize, turn: usize) -> Self {
        Self { number, turn, ..self }
    }

    /// The same question with random bytes for its answer.
    #[must_use]
    pub fn with_nonce(self, nonce: &'a [u8]) -> Self {
        Self { nonce, ..self }
    }

    /// The same question from a countersign server, or from another.
    #[must_use]
    pub fn of_countersign(self, countersign: bool) -> Self {
        Self { countersign, ..self }
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Means::Secret",
            Self::Scram { .. } => "Means::Scram",
            Self::Exchange(_) => "Means::Exchange",
        })
    }
}
