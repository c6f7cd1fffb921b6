//! From accounts to a verifier by SCRAM: what is kept of a password proves it and cannot log in (S-92).
//!
//! The module `scram` says where the accounts are. Unknown names, closed accounts and wrong passwords
//! look alike to the end: each is asked with a salt and a count of iterations that stay the same, and
//! is refused after the proof (S-26, RFC 5802 section 5.1).

use std::sync::Arc;

use super::source::{Account, Accounts};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    proto::{
        chain::{Answer, Ask, Exchange, OpenExchange, Verdict},
        error::Reason,
        mechanism::{
            Hash,
            scram::{DONE, Fault, Greeting, Keys, Pending, Stage, Variant},
        },
    },
};

/// How a chain asks for SCRAM.
pub(crate) struct Terms {
    /// The hashes that are asked for: those that the accounts have keys of.
    pub(crate) hashes: Vec<Hash>,
    /// Only logins that are bound to their TLS session.
    pub(crate) require_binding: bool,
    /// Iterations and bytes of salt of names that nobody has.
    pub(crate) decoy: (u32, usize),
    /// What the salts of such names are made from.
    pub(crate) key: Box<dyn Fn() -> Arc<Secret> + Send + Sync>,
}

/// A verifier over `accounts`.
pub(crate) fn verifier(accounts: impl Accounts, terms: Terms) -> Verifier {
    Verifier::Exchange(Box::new(ByScram(Arc::new(Source { accounts: Box::new(accounts), terms }))))
}

struct ByScram(Arc<Source>);

struct Source {
    accounts: Box<dyn Accounts>,
    terms: Terms,
}

impl OpenExchange for ByScram {
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        let binding = peer.channel_binding.clone();
        if self.0.terms.require_binding && binding.is_none() {
            return Err(Refusal::peer_denied(
                "the login must be bound to TLS 1.3, and this connection has none",
            ));
        }
        let (source, name) = (Arc::clone(&self.0), claim.username.clone());
        Ok(Box::new(Rounds { source, binding, name, stands: Stands::Begun }))
    }

    fn binds_channel(&self) -> bool {
        true
    }
}

/// The rounds of one login.
struct Rounds {
    source: Arc<Source>,
    binding: Option<Arc<[u8]>>,
    name: Option<Username>,
    stands: Stands,
}

/// What the client has to say next.
enum Stands {
    Begun,
    Asked(Variant, Pending, Result<Identity, Refusal>),
    Proved(Identity),
    Over,
}

impl Exchange for Rounds {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let Some(answer) = answer else { return Verdict::Ask(Ask::AnyOf(self.variants())) };
        let message = answer.value.expose();
        let next = match std::mem::replace(&mut self.stands, Stands::Over) {
            Stands::Begun => self.ask(answer.mechanism.scram().map(|(variant, _)| variant), message),
            Stands::Asked(variant, pending, account) => self.judge(variant, pending, account, message),
            Stands::Proved(identity) if message == DONE => Ok(Verdict::Pass(Some(identity))),
            Stands::Proved(_) | Stands::Over => {
                Err(Refusal::new(Reason::WrongSecret, "the client does not take our signature"))
            }
        };
        next.unwrap_or_else(Verdict::Refuse)
    }
}

impl Rounds {
    /// What is asked for, the best first.
    fn variants(&self) -> Vec<String> {
        let terms = &self.source.terms;
        Variant::STRONGEST_FIRST
            .into_iter()
            .filter(|variant| terms.hashes.contains(&variant.hash()))
            .filter(
                |variant| if variant.is_bound() { self.binding.is_some() } else { !terms.require_binding },
            )
            .map(|variant| variant.asking(Stage::ClientFirst))
            .collect()
    }

    /// The client named itself: it is asked for its proof.
    fn ask(&mut self, variant: Option<Variant>, message: &[u8]) -> Result<Verdict, Refusal> {
        let variant =
            variant.ok_or_else(|| Refusal::module_failed("the client was asked for something else"))?;
        let greeting = Greeting::read(variant, self.binding.as_deref(), message).map_err(refused)?;
        let claimed = self.name.as_ref().map_or("", Username::as_str);
        // RFC 5802 names the user here; PostgreSQL's clients say it once, in their hello.
        if !greeting.name().is_empty() && Username::parse(greeting.name()).ok() != self.name {
            return Err(Refusal::new(
                Reason::UsernameMismatch,
                "the message names somebody else than the hello",
            ));
        }
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|_| Refusal::module_failed("the system has no random bytes"))?;
        let (keys, account) = self.source.keys(variant.hash(), claimed, self.name.as_ref())?;
        let (first, pending) = greeting.answer(&nonce, keys).map_err(refused)?;
        self.stands = Stands::Asked(variant, pending, account);
        Ok(asking(variant, Stage::ServerFirst, first))
    }

    /// The client sent its proof: it is judged whoever it is, and then the account.
    fn judge(
        &mut self,
        variant: Variant,
        pending: Pending,
        account: Result<Identity, Refusal>,
        message: &[u8],
    ) -> Result<Verdict, Refusal> {
        let judged = pending.judge(message);
        let identity = account?;
        let signature = judged.map_err(refused)?;
        self.stands = Stands::Proved(identity);
        Ok(asking(variant, Stage::ServerFinal, signature))
    }
}

impl Source {
    /// The keys to ask with, which are nobody's for a name that is unknown, and who it is if the proof
    /// is right.
    fn keys(
        &self,
        hash: Hash,
        claimed: &str,
        name: Option<&Username>,
    ) -> Result<(Keys, Result<Identity, Refusal>), Refusal> {
        let (iterations, salt) = self.terms.decoy;
        // Made for everybody, so that it takes the same time (S-26).
        let decoy = Keys::decoy(hash, &(self.terms.key)(), claimed, salt, iterations);
        let found = match name {
            Some(name) => self.accounts.find(name)?,
            None => Vec::new(),
        };
        let mut why = Refusal::unknown_user();
        for Account { identity, secrets, closed } in found {
            let Some(keys) = secrets.into_scram(hash) else {
                let cause =
                    "the account has no keys for scram; give it a password with `countersign users passwd`";
                why = Refusal::new(Reason::AccountDisabled, cause);
                continue;
            };
            let closed = closed.map(|why| Refusal::new(Reason::AccountDisabled, why));
            return Ok((keys, closed.map_or(Ok(identity), Err)));
        }
        Ok((decoy, Err(why)))
    }
}

fn asking(variant: Variant, stage: Stage, message: Vec<u8>) -> Verdict {
    Verdict::Ask(Ask::Own { mechanism: variant.asking(stage), message: Some(message) })
}

fn refused(fault: Fault) -> Refusal {
    let reason = match fault {
        Fault::Malformed(_) => Reason::Malformed,
        Fault::Channel(_) | Fault::Wrong => Reason::WrongSecret,
    };
    Refusal::new(reason, fault.to_string())
}
