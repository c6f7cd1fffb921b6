//! One round of a conversation: the hello, the challenge, the response.
//!
//! These are the messages that [`crate::server`] and [`crate::client`] exchange; each wire binding
//! turns them into its own packets and back.

use crate::{
    error::{Reason, Refusal},
    identity::Claim,
    mechanism::{Hash, Mechanism},
    secret::Secret,
};

/// What a client sends: first to say who it is, then again with each answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hello {
    /// Who it says it is.
    pub claim: Claim,
    /// What it can answer with.
    pub offer: Offer,
    /// It holds a password and will leave if nobody asks for it. A chain that asks nothing still
    /// owes it a throw-away challenge (`docs/protocol/xpra.md`, the hello).
    pub expects_challenge: bool,
    /// The answer to the outstanding challenge.
    pub response: Option<Response>,
    /// The answer to [`Challenge::implied`], in a first hello.
    pub initial_response: Option<Response>,
}

impl Hello {
    /// A hello without a response.
    pub fn new(claim: Claim, offer: Offer) -> Self {
        Self { claim, offer, expects_challenge: false, response: None, initial_response: None }
    }

    /// The same hello from a client that insists on a challenge.
    #[must_use]
    pub fn expecting_challenge(mut self, expects: bool) -> Self {
        self.expects_challenge = expects;
        self
    }

    /// The same hello with an answer.
    #[must_use]
    pub fn with_response(mut self, response: Option<Response>) -> Self {
        self.response = response;
        self
    }

    /// The same first hello with an answer to [`Challenge::implied`].
    #[must_use]
    pub fn with_initial_response(mut self, response: Option<Response>) -> Self {
        self.initial_response = response;
        self
    }
}

/// The mechanisms that a client can answer with, by their wire names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// Names for the proof, for example `hmac+sha512` or `xor`; at most 64 (S-13).
    pub mechanisms: Vec<String>,
    /// Names for the combination of the two salts; at most 64.
    pub salt_digests: Vec<String>,
}

impl Offer {
    /// An offer of these names.
    pub fn new(mechanisms: Vec<String>, salt_digests: Vec<String>) -> Self {
        Self { mechanisms, salt_digests }
    }

    /// What our own client offers: every HMAC it has, and `xor` on a confidential wire only (S-33).
    pub fn of_client(confidential: bool) -> Self {
        let hmac: Vec<String> =
            Hash::STRONGEST_FIRST.iter().map(|h| Mechanism::Hmac(*h).to_string()).collect();
        let mut mechanisms = hmac.clone();
        if confidential {
            mechanisms.push(Mechanism::Xor.to_string());
        }
        Self { mechanisms, salt_digests: hmac }
    }

    /// Whether `mechanism` is on the list, by the part of its name before `:`.
    pub fn lists(&self, mechanism: &Mechanism) -> bool {
        let base = mechanism.name().split(':').next().unwrap_or_default();
        self.mechanisms.iter().any(|offered| offered == base)
    }

    /// Whether `later` is the same offer, seen again in a later hello (S-16).
    ///
    /// Xpra's clients leave a mechanism out (`kerberos`, `u2f`) when its handler has answered; a way to
    /// prove a password stays. What is asked for goes by the first offer.
    pub(crate) fn is_kept_by(&self, later: &Self) -> bool {
        let (kept, gone): (Vec<&String>, Vec<&String>) =
            self.mechanisms.iter().partition(|name| later.mechanisms.contains(name));
        let proves_password = |name: &&String| {
            let Ok(mechanism) = name.parse::<Mechanism>();
            !matches!(mechanism, Mechanism::Other(_))
        };
        !gone.iter().any(proves_password)
            && kept.into_iter().eq(&later.mechanisms)
            && self.salt_digests == later.salt_digests
    }

    /// The strongest HMAC for the proof, whatever the client's order (S-29).
    pub fn strongest_hmac(&self) -> Option<Hash> {
        Hash::strongest_in(&self.mechanisms)
    }

    /// The strongest HMAC for combining the salts. `xor` and `des` never are: clients
    /// leave when a server names them.
    pub fn strongest_salt_hash(&self) -> Option<Hash> {
        Hash::strongest_in(&self.salt_digests)
    }
}

/// A question to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// The server's salt, or the message of a mechanism that has messages of its own.
    pub salt: Vec<u8>,
    /// How the proof is to be made.
    pub mechanism: Mechanism,
    /// How the two salts are combined. As text, because a client has to judge any.
    pub salt_digest: String,
    /// What is asked for, in words for a person. Filtered by who shows it (S-46).
    pub prompt: String,
    /// Nothing else will be asked: what is meant for the daemon may be sent right behind the answer, and
    /// reaches it if the answer is right (S-17).
    pub is_last: bool,
}

impl Challenge {
    /// A challenge from its parts.
    pub fn new(
        salt: Vec<u8>,
        mechanism: Mechanism,
        salt_digest: impl Into<String>,
        prompt: impl Into<String>,
    ) -> Self {
        Self { salt, mechanism, salt_digest: salt_digest.into(), prompt: prompt.into(), is_last: false }
    }

    /// The question that need not be asked on a wire with this channel binding (`tls-exporter`, RFC 9266):
    /// both ends know its salt, and no other connection has the same (S-28, S-35). A client with a secret
    /// at hand answers it in its first hello (initial response, RFC 4422 section 3), which saves a way there
    /// and back; whoever sits between the ends has two other wires, on which that answer proves nothing.
    #[must_use]
    pub fn implied(channel_binding: &[u8]) -> Self {
        // No salt that is sent has this length, so an answer to one never answers the other.
        let salt = [b"countersign initial response\0", channel_binding].concat();
        let hmac = Mechanism::Hmac(Hash::Sha512);
        Self::new(salt, hmac.clone(), hmac.to_string(), "password")
    }

    /// The same challenge, said to be the last one or not.
    #[must_use]
    pub fn as_last(self, is_last: bool) -> Self {
        Self { is_last, ..self }
    }
}

/// An answer to a challenge.
#[derive(Debug)]
#[non_exhaustive]
pub struct Response {
    /// The proof, at most 4 KiB, or a token of at most 16 KiB (S-13).
    pub value: Secret,
    /// The client's salt; empty if it sent none.
    pub client_salt: Vec<u8>,
}

impl Response {
    /// The longest proof in bytes that is looked at (S-13).
    pub const MAX_BYTES: usize = 4096;

    /// The longest token in bytes that is looked at, where a token is what was asked for (S-13): those of
    /// OAuth and of Kerberos tell the groups of their holder, and grow with them.
    pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

    /// An answer.
    pub fn new(value: Secret, client_salt: Vec<u8>) -> Self {
        Self { value, client_salt }
    }

    /// Judges whether this can be an answer to `challenge` at all: its size, of at most `longest` bytes, and the
    /// client's salt.
    ///
    /// # Errors
    /// [`Reason::WrongSecret`] if it is empty or too long, [`Reason::BadClientSalt`] as S-30 has it.
    pub(crate) fn check(&self, challenge: &Challenge, longest: usize) -> Result<(), Refusal> {
        if self.value.is_empty() || self.value.expose().len() > longest {
            let cause = format!("the response is empty or longer than {} KiB", longest / 1024);
            return Err(Refusal::new(Reason::WrongSecret, cause));
        }
        match challenge.mechanism {
            Mechanism::Other(_) => Ok(()),
            Mechanism::Hmac(_) | Mechanism::Xor => self.check_salt(&challenge.salt),
        }
    }

    /// Judges the client's salt against the server's (S-30).
    ///
    /// # Errors
    /// [`Reason::BadClientSalt`] unless it has 16 to 256 bytes and differs from the server's.
    fn check_salt(&self, server_salt: &[u8]) -> Result<(), Refusal> {
        let why = match self.client_salt.len() {
            0 => "the client sent no salt",
            1..16 => "the client's salt is shorter than 16 bytes",
            16..=256 if self.client_salt == server_salt => "the client's salt is the server's own",
            16..=256 => return Ok(()),
            _ => "the client's salt is longer than 256 bytes",
        };
        Err(Refusal::new(Reason::BadClientSalt, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_029_the_strongest_common_hmac_wins_whatever_the_order() {
        let offer = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            Offer::new(names.clone(), names)
        };
        let weak_first = offer(&["xor", "hmac+md5", "hmac+sha224", "hmac+sha512", "hmac+sha256"]);
        assert_eq!(weak_first.strongest_hmac(), Some(Hash::Sha512));
        assert_eq!(weak_first.strongest_salt_hash(), Some(Hash::Sha512));
        for forbidden in
            [&["hmac"][..], &["hmac+md5"], &["hmac+sha1"], &["des"], &["xor"], &["HMAC+SHA512"], &[]]
        {
            assert_eq!(offer(forbidden).strongest_hmac(), None, "{forbidden:?}");
        }
    }

    #[test]
    fn s_016_a_later_offer_may_leave_out_tokens_and_nothing_else() {
        let offer = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
            Offer::new(names, vec!["hmac+sha512".to_owned()])
        };
        let first = offer(&["xor", "hmac+sha512", "kerberos", "gss", "u2f"]);
        for kept in [&["xor", "hmac+sha512", "kerberos", "gss", "u2f"][..], &["xor", "hmac+sha512", "gss"]] {
            assert!(first.is_kept_by(&offer(kept)), "{kept:?}");
        }
        for changed in [
            &["hmac+sha512", "kerberos", "gss", "u2f"][..],
            &["xor", "kerberos", "gss", "u2f"],
            &["hmac+sha512", "xor", "kerberos", "gss", "u2f"],
            &["xor", "hmac+sha512", "fido2"],
            &["xor", "hmac+sha512", "gss", "gss"],
            &[],
        ] {
            assert!(!first.is_kept_by(&offer(changed)), "{changed:?}");
        }
        let other_salts = Offer { salt_digests: Vec::new(), ..first.clone() };
        assert!(!first.is_kept_by(&other_salts));
    }

    #[test]
    fn s_033_our_client_offers_xor_on_a_confidential_wire_only() {
        assert!(Offer::of_client(true).lists(&Mechanism::Xor));
        assert!(!Offer::of_client(false).lists(&Mechanism::Xor));
    }

    #[test]
    fn s_030_a_client_salt_has_16_to_256_bytes_and_is_not_the_servers() {
        let salt = |length: usize| Response::new(Secret::new("x"), vec![7; length]).check_salt(&[7; 64]);
        for bad in [0, 1, 15, 64, 257, 4096] {
            assert_eq!(salt(bad).unwrap_err().reason, Reason::BadClientSalt, "{bad}");
        }
        for good in [16, 32, 256] {
            assert!(salt(good).is_ok(), "{good}");
        }
    }
}
