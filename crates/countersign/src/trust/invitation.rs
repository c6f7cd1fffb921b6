//! Invitations: a token that lets one certificate in, once, and says where and at which server.
//!
//! The token is `cs1-` and base64url of: 16 random bytes, the SHA-256 of the server's public key, and
//! the server's address in UTF-8. The store keeps a hash of the random bytes and nothing else of it
//! (S-56): 128 random bits need no slow hash.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{TrustError, entry::Scope};
use crate::{Secret, Username, error::ConfigError, transport::tls::Fingerprint};

/// What is kept of an invitation. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invitation {
    /// Names it in listings; 16 hexadecimal digits that follow from the secret.
    pub id: String,
    /// SHA-256 of the secret.
    pub(super) hash: [u8; 32],
    /// Who will be let in by it.
    pub name: Username,
    /// What the certificate will count for.
    pub scope: Scope,
    /// When it ends, if nobody used it.
    pub expires: i64,
    /// How long the certificate will be accepted: its entry's own end, if any.
    pub entry_expires: Option<i64>,
    /// When it was made.
    pub made: i64,
    /// By whom it was made.
    pub by: String,
    /// The certificate that it let in.
    pub spent_by: Option<Fingerprint>,
    /// When it was spent.
    pub spent: Option<i64>,
}

impl Invitation {
    /// A new invitation and its token, which is shown once and kept nowhere.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn make(new: NewInvitation, now: i64, by: &str) -> Result<(Self, Token), TrustError> {
        let mut secret = Zeroizing::new([0; SECRET]);
        getrandom::fill(&mut *secret).map_err(|_| TrustError::NoRandomness)?;
        let token = Token { secret, server: new.server, address: new.address };
        let hash = token.hash();
        let invitation = Self {
            id: id(&hash),
            hash,
            name: new.name,
            scope: new.scope,
            expires: new.expires,
            entry_expires: new.entry_expires,
            made: now,
            by: by.to_owned(),
            spent_by: None,
            spent: None,
        };
        Ok((invitation, token))
    }

    /// Whether it may be spent at `now`.
    pub fn is_open(&self, now: i64) -> bool {
        self.spent.is_none() && now < self.expires
    }

    /// Whether `token` is of this invitation.
    pub(super) fn is_of(&self, token: &Token) -> bool {
        self.hash.ct_eq(&token.hash()).into()
    }

    #[cfg(test)]
    pub(super) fn for_tests(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            hash: [7; 32],
            name: Username::parse("alice").unwrap(),
            scope: Scope::default(),
            expires: 5000,
            entry_expires: Some(9000),
            made: 1000,
            by: "root".to_owned(),
            spent_by: None,
            spent: None,
        }
    }
}

/// An invitation that is to be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewInvitation {
    /// Who will be let in by it.
    pub name: Username,
    /// What the certificate will count for.
    pub scope: Scope,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// When the certificate's entry ends, in seconds since 1970.
    pub entry_expires: Option<i64>,
    /// SHA-256 of the server's public key.
    pub server: Fingerprint,
    /// Where the client shall enrol.
    pub address: String,
}

impl NewInvitation {
    /// An invitation for `name` until `expires`, to enrol at `address`.
    pub fn new(name: Username, expires: i64, server: Fingerprint, address: impl Into<String>) -> Self {
        Self { name, scope: Scope::default(), expires, entry_expires: None, server, address: address.into() }
    }
}

/// The token of an invitation. It is a secret: whoever has it may spend it.
pub struct Token {
    secret: Zeroizing<[u8; SECRET]>,
    server: Fingerprint,
    address: String,
}

impl Token {
    /// Whether a text is meant to be a token rather than a passphrase.
    pub fn is_meant_by(text: &Secret) -> bool {
        text.expose().starts_with(PREFIX.as_bytes())
    }

    /// SHA-256 of the public key of the server to enrol at.
    pub fn server(&self) -> Fingerprint {
        self.server
    }

    /// Where to enrol.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The text to hand over. It holds the secret.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET + 32 + self.address.len()));
        bytes.extend_from_slice(&*self.secret);
        bytes.extend_from_slice(&self.server.0);
        bytes.extend_from_slice(self.address.as_bytes());
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes)))
    }

    /// Of the invitation that this is the token of.
    pub(super) fn id(&self) -> String {
        id(&self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(*self.secret).into()
    }
}

impl FromStr for Token {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || {
            ConfigError::new(
                "the token",
                "it is not whole",
                "copy all of it, as `countersign trust invite` printed it",
            )
        };
        let encoded =
            text.trim().strip_prefix(PREFIX).filter(|encoded| encoded.len() <= LONGEST).ok_or_else(bad)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| bad())?);
        let (secret, rest) = bytes.split_first_chunk::<SECRET>().ok_or_else(bad)?;
        let (server, address) = rest.split_first_chunk::<32>().ok_or_else(bad)?;
        let address = std::str::from_utf8(address).map_err(|_| bad())?;
        if address.is_empty() || address.chars().any(char::is_control) {
            return Err(bad());
        }
        Ok(Self {
            secret: Zeroizing::new(*secret),
            server: Fingerprint(*server),
            address: address.to_owned(),
        })
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("server", &self.server)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn id(hash: &[u8; 32]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What tokens begin with.
const PREFIX: &str = "cs1-";

/// Bytes of the secret: 128 bits (S-56).
const SECRET: usize = 16;

/// Characters of a token: an address has at most some hundred.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Invitation, Token) {
        let name = Username::parse("alice").unwrap();
        let new = NewInvitation::new(name, 600, Fingerprint([3; 32]), "tls://gate.example:10000");
        Invitation::make(new, 0, "root").unwrap()
    }

    #[test]
    fn s_056_a_token_carries_all_that_a_client_needs_and_the_store_cannot_make_one() {
        let (invitation, token) = made();
        let text = token.expose();
        assert!(Token::is_meant_by(&Secret::new(text.as_str())));
        let read: Token = text.parse().unwrap();
        assert_eq!((read.server(), read.address()), (Fingerprint([3; 32]), "tls://gate.example:10000"));
        assert!(invitation.is_of(&read));
        assert_eq!((read.id(), read.id().len()), (invitation.id.clone(), 16));
        let (other, _) = made();
        assert!(!other.is_of(&read));
        assert_ne!(other.id, invitation.id);
        let kept = format!("{invitation:?}");
        assert!(!kept.contains(text.as_str()) && !kept.contains(&format!("{:?}", token.secret)));
        let shown = format!("{token:?}");
        assert!(shown.contains("gate.example") && !shown.contains("secret"), "{shown}");
        assert!(!Token::is_meant_by(&Secret::new("therewillbesecrets")));
    }

    #[test]
    fn s_056_an_invitation_ends() {
        let (mut invitation, _) = made();
        assert!(invitation.is_open(599) && !invitation.is_open(600));
        invitation.spent = Some(5);
        assert!(!invitation.is_open(6));
    }

    #[test]
    fn what_is_no_whole_token_is_refused_without_being_repeated() {
        let (_, token) = made();
        let text = token.expose();
        let forged =
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([b"x".repeat(48), b"a\nb".to_vec()].concat()));
        for bad in
            ["", "cs1-", "cs1-!!", &text[..40], &text[4..], &*forged, &format!("cs1-{}", "A".repeat(2000))]
        {
            let error = bad.parse::<Token>().unwrap_err();
            assert!(bad.len() < 6 || !error.to_string().contains(bad));
        }
    }
}
