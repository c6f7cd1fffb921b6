//! What a module of a chain is: the kinds that there are, and what each is asked and answers.
//!
//! What a module *needs* is the variant of [`Verifier`] it is, so it cannot be declared wrongly; salts, comparison, the
//! rule that cleartext needs a confidential wire, and the cover for unknown users are written once, in
//! [`crate::server`].

use std::{fmt, sync::Arc, time::Duration};

use super::Grant;
use crate::{
    challenge::Challenge,
    error::Refusal,
    identity::{Claim, Identity},
    mechanism::{Mechanism, hmac::StoredSecret},
    peer::Peer,
    secret::Secret,
    stay::Stay,
};

/// A configured module, shared by a socket's connections: what it needs in order to decide.
#[expect(clippy::exhaustive_enums, reason = "the conversation must know what each kind needs")]
pub enum Verifier {
    /// Decides from the transport's facts and asks nothing: `peercred`, `hosts`, `none`.
    Peer(Box<dyn CheckPeer>),
    /// Knows the secret, so the client proves it by HMAC: `file`, `env`, `sqlite`.
    Secret(Box<dyn LookupSecret>),
    /// Needs the cleartext password, so the wire must be confidential: `pam`, `ldap`.
    Password(Box<dyn CheckPassword>),
    /// Runs its own rounds: `allow`, `u2f`, `gss`.
    Exchange(Box<dyn OpenExchange>),
}

impl Verifier {
    /// How many checks of one link of one socket may run at once; a driver lets more wait for their turn, so that a
    /// module which hangs takes no thread away from another's logins (S-81). Where passwords may have to be hashed
    /// it is a few for each processor, so that whose turn it is decides who is next.
    pub fn at_once(&self) -> usize {
        match self {
            Self::Secret(_) => HASHES_AT_ONCE,
            Self::Peer(module) => module.at_once(),
            Self::Password(module) => module.at_once(),
            Self::Exchange(module) => module.at_once(),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer(_) => "Verifier::Peer",
            Self::Secret(_) => "Verifier::Secret",
            Self::Password(_) => "Verifier::Password",
            Self::Exchange(_) => "Verifier::Exchange",
        })
    }
}

/// Decides from what the transport proves.
pub trait CheckPeer: Send + Sync {
    /// Whether the peer passes; `None` where it does and nobody is named by that.
    ///
    /// # Errors
    /// The refusal, also where the module cannot decide (S-65).
    fn check(&self, peer: &Peer, claim: &Claim) -> Result<Option<Identity>, Refusal>;

    /// Whether `check` may wait for something (a resolver, a program, a disk).
    fn may_block(&self) -> bool {
        true
    }

    /// How many checks of it may run at once ([`Verifier::at_once`]).
    fn at_once(&self) -> usize {
        CHECKS_AT_ONCE
    }

    /// The capabilities of the hello that `check` looks at in the claim.
    fn reads(&self) -> &[String] {
        &[]
    }

    /// The fields of the HTTP request that `check` looks at in [`Peer::http`].
    fn reads_http(&self) -> &[String] {
        &[]
    }

    /// Follows the login that `check` has just let go on, where its end is the module's business.
    fn watch(&self, _peer: &Peer, _claim: &Claim) -> Option<Box<dyn Watch>> {
        None
    }
}

/// Follows one login behind a link that passed, or from its start ([`Conversation::followed_by`]): a limiter of
/// guesses has to learn what came of it.
///
/// [`Conversation::followed_by`]: crate::server::Conversation::followed_by
///
/// All of it is called within the conversation, so nothing here may wait. A watch that is dropped
/// without [`Watch::ended`] belonged to a connection that was cut before anything was decided.
pub trait Watch: Send {
    /// How long the login is held up before the next link is asked.
    fn hold(&self) -> Duration {
        Duration::ZERO
    }

    /// A response came by `mechanism` and is about to be judged by another link. `secret` is what it proves, where
    /// the response holds it.
    ///
    /// # Errors
    /// The refusal, if it may not be: what holds is the moment, not when the login began (S-24).
    fn judging(&mut self, mechanism: &Mechanism, secret: Option<&Secret>) -> Result<(), Refusal> {
        let _ = (mechanism, secret);
        Ok(())
    }

    /// The login has ended; called once, before the client is told.
    fn ended(self: Box<Self>, end: Result<&Grant, &Refusal>);
}

/// Knows the secret of an account.
pub trait LookupSecret: Send + Sync {
    /// The secrets that pass for the claim.
    ///
    /// # Errors
    /// [`Reason::UnknownUser`](crate::error::Reason::UnknownUser) and the like; the client cannot tell them from a wrong secret.
    fn lookup(&self, claim: &Claim) -> Result<Entry, Refusal>;

    /// Whether `lookup` may wait for something (a database, a disk).
    fn may_block(&self) -> bool {
        true
    }
}

/// Judges a cleartext password. Always run where it may block.
pub trait CheckPassword: Send + Sync {
    /// Whether the password is right for the claim; `None` where it is and nobody is named by that.
    ///
    /// # Errors
    /// The refusal. The password is UTF-8 if it ever was text, and never empty.
    fn check(&self, peer: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal>;

    /// How many checks of it may run at once ([`Verifier::at_once`]).
    fn at_once(&self) -> usize {
        CHECKS_AT_ONCE
    }
}

/// Opens an exchange for a connection. Always run where it may block.
pub trait OpenExchange: Send + Sync {
    /// The module's own rounds with this client.
    ///
    /// # Errors
    /// A refusal before anything is asked.
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal>;

    /// How many checks of it may run at once ([`Verifier::at_once`]).
    fn at_once(&self) -> usize {
        CHECKS_AT_ONCE
    }

    /// The capabilities of the hello that are credentials of its own, in the claim.
    fn takes(&self) -> &[String] {
        &[]
    }

    /// Whether its exchanges compare [`Peer::channel_binding`] (S-35), which is worked out for those
    /// that do.
    fn binds_channel(&self) -> bool {
        false
    }

    /// Whether its exchanges ask for [`Ask::Cleartext`], [`Ask::Worded`] or [`Ask::Token`], so that the wire has to
    /// be confidential. For warnings at start; the conversation refuses whatever this says (S-33).
    fn needs_cleartext(&self) -> bool {
        false
    }
}

/// The rounds of one module on one connection.
pub trait Exchange: Send {
    /// Takes the next answer (`None` at the start) and says what follows.
    fn step(&mut self, answer: Option<Answer>) -> Verdict;
}

/// What follows in an [`Exchange`].
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the conversation must act on every verdict")]
pub enum Verdict {
    /// The link passed.
    Pass(Option<Identity>),
    /// The same, and this is kept open for the client until it has left.
    PassWith(Option<Identity>, Arc<dyn Stay>),
    /// The client is asked something.
    Ask(Ask),
    /// The link failed.
    Refuse(Refusal),
}

/// A question of an [`Exchange`].
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the conversation must be able to ask each")]
pub enum Ask {
    /// A proof by HMAC. The exchange is given the proof as it came.
    Hmac,
    /// The secret itself: a confidential wire only. The exchange is given the cleartext.
    Cleartext,
    /// The same, with these words for a prompt instead of the link's: 1 KiB at most, which is what clients
    /// read.
    Worded(String),
    /// A mechanism of the exchange's own, `name:argument`, with its message in place of a salt
    /// (random bytes if `None`). The exchange is given the response as it came.
    Own {
        /// Wire name and argument; the client must have listed the name.
        mechanism: String,
        /// The message.
        message: Option<Vec<u8>>,
    },
    /// The first of these, each `name:argument`, that the client lists, with random bytes as salt. The
    /// answer says which that was.
    AnyOf(Vec<String>),
    /// The same for a token that whoever sees it could use: a confidential wire only. The exchange is
    /// given the token, unmasked like a cleartext if the client sent a salt, which Xpra's clients do.
    Token {
        /// Wire name and argument, as in [`Ask::Own`].
        mechanism: String,
        /// The message.
        message: Option<Vec<u8>>,
    },
}

/// An answer, as an [`Exchange`] sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The proof, or for [`Ask::Cleartext`], [`Ask::Worded`] and [`Ask::Token`] the secret itself.
    pub value: Secret,
    /// The client's salt; empty if it sent none.
    pub client_salt: Vec<u8>,
    /// What the client was sent as salt.
    pub server_salt: Vec<u8>,
    /// What it was asked for.
    pub mechanism: Mechanism,
}

impl Answer {
    pub(crate) fn new(value: Secret, client_salt: Vec<u8>, asked: Challenge) -> Self {
        Self { value, client_salt, server_salt: asked.salt, mechanism: asked.mechanism }
    }
}

/// The secrets that pass for an account.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Entry {
    /// Each secret with the identity it proves, if it proves one: an Xpra table may hold several
    /// rows of one name, and the row whose secret matched decides.
    pub candidates: Vec<(StoredSecret, Option<Identity>)>,
}

impl Entry {
    /// One secret that names nobody (`file`, `env`, `password`).
    pub fn gate(secret: StoredSecret) -> Self {
        Self { candidates: vec![(secret, None)] }
    }

    /// Secrets and the identities they prove.
    pub fn new(candidates: Vec<(StoredSecret, Option<Identity>)>) -> Self {
        Self { candidates }
    }
}

/// The most checks of one link of one socket at a time.
pub const CHECKS_AT_ONCE: usize = 256;

/// The same where passwords may be hashed.
const HASHES_AT_ONCE: usize = 32;
