//! A socket's modules in order, and the proof that all of them passed.
//!
//! A [`Chain`] is made once, at start, and shared by the socket's connections. [`crate::server`]
//! walks it. What its modules are is in `verifier.rs`.

use std::sync::Arc;

mod verifier;

pub use self::verifier::{
    Answer, Ask, CHECKS_AT_ONCE, CheckPassword, CheckPeer, Entry, Exchange, LookupSecret, OpenExchange,
    Verdict, Verifier, Watch,
};
use crate::{
    challenge::{Challenge, Response},
    error::{Reason, Refusal},
    identity::{Claim, Identity, Username},
    mechanism::Mechanism,
    peer::Peer,
    stay::{Stay, Stays},
};

/// A socket's links, at least one. All must pass, in order, each at most once (S-65).
#[derive(Debug)]
pub struct Chain {
    links: Vec<Link>,
    identity_from: Option<&'static str>,
}

impl Chain {
    /// A chain of `links`.
    ///
    /// # Errors
    /// [`Reason::EmptyChain`]: no list of nothing ever passes. A socket that asks nothing says so
    /// with a link that asks nothing.
    pub fn new(links: Vec<Link>) -> Result<Self, Refusal> {
        if links.is_empty() {
            return Err(Refusal::new(Reason::EmptyChain, "the chain has no link"));
        }
        Ok(Self { links, identity_from: None })
    }

    /// Lets the identity be the one that the link `module` states, where links state different ones
    /// (S-68).
    #[must_use]
    pub fn with_identity_from(mut self, module: &'static str) -> Self {
        self.identity_from = Some(module);
        self
    }

    /// The links in order.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Whether a login compares [`Peer::channel_binding`]: a link does, or the first question is one that a
    /// client may answer unasked ([`Challenge::implied`](crate::challenge::Challenge::implied)).
    pub fn binds_channel(&self) -> bool {
        let binds = |link: &Link| matches!(&link.verifier, Verifier::Exchange(own) if own.binds_channel());
        let first = self.links.iter().find(|link| link.asks());
        first.is_some_and(|link| matches!(link.verifier, Verifier::Secret(_))) || self.links.iter().any(binds)
    }

    /// The capabilities of a hello that links look at.
    pub fn capabilities(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.links.iter().flat_map(|link| {
            let (names, credential) = match &link.verifier {
                Verifier::Peer(check) => (check.reads(), false),
                Verifier::Exchange(own) => (own.takes(), true),
                Verifier::Secret(_) | Verifier::Password(_) => (&[][..], false),
            };
            names.iter().map(move |name| Wanted { name, credential })
        })
    }

    /// The fields of an HTTP request that links look at in [`Peer::http`].
    pub fn http_fields(&self) -> impl Iterator<Item = &str> {
        self.links.iter().flat_map(Link::http_fields)
    }

    /// How many links ask the client for something.
    fn asking(&self) -> usize {
        self.links.iter().filter(|link| link.asks()).count()
    }
}

/// A capability of a hello that a link looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted<'a> {
    /// Its name; dots are part of it.
    pub name: &'a str,
    /// It proves something by being known, so nothing behind the gateway may see it.
    pub credential: bool,
}

/// One configured module in a chain.
#[derive(Debug)]
#[non_exhaustive]
pub struct Link {
    /// The module's name, as in the registry.
    pub module: &'static str,
    /// What it checks with.
    pub verifier: Verifier,
    /// Which name it is given.
    pub account: Account,
    /// What a person is asked for; `{username}` is replaced with the claimed name.
    pub prompt: Option<String>,
}

impl Link {
    /// A link of `module` that is given the claimed name and has the common prompt.
    pub fn new(module: &'static str, verifier: Verifier) -> Self {
        Self { module, verifier, account: Account::Claimed, prompt: None }
    }

    /// The same link, given another name than the claimed one, or demanding one.
    #[must_use]
    pub fn with_account(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    /// The same link with a prompt of its own.
    #[must_use]
    pub fn with_prompt(mut self, prompt: Option<String>) -> Self {
        self.prompt = prompt;
        self
    }

    /// Whether the client is asked for something.
    pub fn asks(&self) -> bool {
        !matches!(self.verifier, Verifier::Peer(_))
    }

    /// Whether the client's secret must reach this link in the clear, so that the wire has to be
    /// confidential.
    pub fn needs_cleartext(&self) -> bool {
        match &self.verifier {
            Verifier::Password(_) => true,
            Verifier::Exchange(own) => own.needs_cleartext(),
            Verifier::Peer(_) | Verifier::Secret(_) => false,
        }
    }

    /// The fields of an HTTP request that it looks at. Without such a request it refuses.
    pub fn http_fields(&self) -> impl Iterator<Item = &str> {
        let names = match &self.verifier {
            Verifier::Peer(check) => check.reads_http(),
            Verifier::Secret(_) | Verifier::Password(_) | Verifier::Exchange(_) => &[],
        };
        names.iter().map(String::as_str)
    }

    /// The claim as this link's module may see it.
    pub(crate) fn judge(&self, claim: &Claim) -> Result<Claim, Refusal> {
        match &self.account {
            Account::Claimed => Ok(claim.clone()),
            Account::Fixed { name, verify } => {
                if *verify && claim.username.as_ref() != Some(name) {
                    return Err(Refusal::new(Reason::UsernameMismatch, "the client names another user"));
                }
                Ok(Claim { username: Some(name.clone()), ..claim.clone() })
            }
        }
    }

    /// The prompt for a client that claims `claim`. Names nobody whom the client did not (W33).
    fn prompt_for(&self, claim: &Claim, position: usize, of: usize) -> String {
        let name = claim.username.as_ref().map_or("", Username::as_str);
        match &self.prompt {
            Some(template) => template.replace("{username}", name),
            None if of > 1 => format!("password {position} of {of}"),
            None => "password".to_owned(),
        }
    }
}

/// Which user name a module is given (`username`, `client-username`, `verify-username`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every link must say which name it judges")]
pub enum Account {
    /// The one that the client claims.
    Claimed,
    /// This one, whatever the client claims; with `verify`, a client that claims another is refused.
    Fixed {
        /// The name.
        name: Username,
        /// Refuse a client that claims another name or none.
        verify: bool,
    },
}

/// Proof that a whole chain passed, and who it was.
///
/// Only a [`Chain`] with no link left makes one, in this file; a backend opens for nothing else.
#[derive(Clone, Debug)]
pub struct Grant {
    identity: Option<Identity>,
    claim: Arc<Claim>,
    peer: Arc<Peer>,
    proofs: Vec<Proof>,
    stays: Stays,
}

impl Grant {
    /// Who it is, as a verifier stated it. `None` if no link names anybody: a fixed backend takes
    /// that, a per-user one does not.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What the client said of itself. Proves nothing.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// What the transport proved.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The links that passed, in order, with the mechanism each was passed by.
    pub fn proofs(&self) -> &[Proof] {
        &self.proofs
    }

    /// What links keep open for the client. Whoever lets it in keeps this until it has left, and ends its
    /// session when [`Stays::over`] completes.
    #[must_use = "dropped with the grant, it is closed while the client is there"]
    pub fn stays(&self) -> Stays {
        self.stays.clone()
    }
}

/// One link that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof {
    /// The module's name.
    pub module: &'static str,
    /// The mechanism of the last response, if anything was asked.
    pub mechanism: Option<Mechanism>,
}

/// A connection's way along its chain.
#[derive(Debug)]
pub(crate) struct Walk {
    chain: Arc<Chain>,
    peer: Arc<Peer>,
    claim: Arc<Claim>,
    stated: Vec<Identity>,
    chosen: Option<Identity>,
    proofs: Vec<Proof>,
    stays: Stays,
}

/// Where a [`Walk`] stands.
pub(crate) enum Next {
    /// This link is to be passed.
    Link(usize),
    /// All have passed.
    Done(Grant),
}

impl Walk {
    pub(crate) fn new(chain: Arc<Chain>, peer: Arc<Peer>, claim: Arc<Claim>) -> Self {
        let (stated, proofs, stays) = (Vec::new(), Vec::new(), Stays::default());
        Self { chain, peer, claim, stated, chosen: None, proofs, stays }
    }

    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    pub(crate) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// What is due. The one place where a [`Grant`] is made.
    pub(crate) fn next(&self) -> Next {
        let passed = self.proofs.len();
        // A chain is never empty (`Chain::new`), so nothing passed is never everything passed.
        if passed < self.chain.links.len() {
            return Next::Link(passed);
        }
        let identity = match self.chain.identity_from {
            Some(_) => self.chosen.clone(),
            None => self.stated.last().cloned(),
        };
        let (claim, peer) = (Arc::clone(&self.claim), Arc::clone(&self.peer));
        Next::Done(Grant { identity, claim, peer, proofs: self.proofs.clone(), stays: self.stays.clone() })
    }

    /// The link that is due passed, stating `identity`.
    ///
    /// # Errors
    /// [`Reason::IdentityConflict`] if another link stated another name, unless the chain says
    /// whose word counts (S-68).
    pub(crate) fn pass(
        &mut self,
        identity: Option<Identity>,
        mechanism: Option<Mechanism>,
    ) -> Result<(), Refusal> {
        let position = self.proofs.len();
        let Some(module) = self.chain.links.get(position).map(|link| link.module) else {
            return Err(Refusal::new(Reason::Malformed, "a link passed that was not due"));
        };
        if let Some(identity) = identity {
            let agrees = self.stated.iter().all(|other| other.name == identity.name);
            match self.chain.identity_from {
                None if !agrees => {
                    return Err(Refusal::new(Reason::IdentityConflict, "two links state different names"));
                }
                Some(chosen) if chosen == module => self.chosen = Some(identity.clone()),
                _ => {}
            }
            self.stated.push(identity);
        }
        self.proofs.push(Proof { module, mechanism });
        Ok(())
    }

    /// A link keeps this open until the client has left, or until this login has failed.
    pub(crate) fn keep(&mut self, stay: Arc<dyn Stay>) {
        self.stays.push(stay);
    }

    /// The words for the next question of `link`, which is due. It is the links that are counted: one
    /// password may take several rounds.
    pub(crate) fn prompt(&self, link: &Link) -> String {
        let before = self.chain.links.iter().take(self.proofs.len()).filter(|link| link.asks()).count();
        link.prompt_for(&self.claim, before + 1, self.chain.asking())
    }
}

/// The question a link asks, with the response that came back.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) challenge: Challenge,
    pub(crate) response: Response,
}

#[cfg(test)]
mod tests;
