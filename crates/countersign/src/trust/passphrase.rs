//! The passphrase that lets a certificate in: kept as a verifier, for a time and a number of uses.

use std::fmt;

use zeroize::Zeroizing;

use super::{MultipassVerifier, TrustError};
use crate::{Secret, users::argon2id};

/// What is kept of a passphrase.
#[derive(Clone)]
#[non_exhaustive]
pub struct Passphrase {
    /// Tells this passphrase from the one that was set before it.
    pub revision: i64,
    /// Its Argon2id verifier (S-55), or Multipass's until the first right guess (M1).
    pub(super) verifier: Zeroizing<String>,
    /// When it stops being taken, in seconds since 1970.
    pub expires: Option<i64>,
    /// How many certificates it may still let in.
    pub uses: Option<u32>,
    /// When it was set, in seconds since 1970.
    pub set: i64,
    /// By whom it was set.
    pub by: String,
}

impl Passphrase {
    /// What is to be kept of `new`, set at `now`.
    ///
    /// # Errors
    /// It is empty, longer than 1,024 bytes, or the system gives no random bytes.
    pub(super) fn make(new: &NewPassphrase, revision: i64, now: i64, by: &str) -> Result<Self, TrustError> {
        if new.secret.is_empty() || new.secret.expose().len() > LONGEST {
            return Err(TrustError::Unacceptable("the passphrase is empty or longer than 1,024 bytes"));
        }
        let verifier = argon2id::hash(&new.secret).ok_or(TrustError::NoRandomness)?;
        Ok(Self { revision, verifier, expires: new.expires, uses: new.uses, set: now, by: by.to_owned() })
    }

    /// The passphrase whose verifier Multipass kept.
    pub(super) fn brought(verifier: &MultipassVerifier, revision: i64, now: i64, by: &str) -> Self {
        let verifier = Zeroizing::new(format!("{BROUGHT}{}", *verifier.to_hex()));
        Self { revision, verifier, expires: None, uses: None, set: now, by: by.to_owned() }
    }

    /// Whether its verifier is Multipass's still, which has no salt.
    pub fn is_brought(&self) -> bool {
        self.verifier.starts_with(BROUGHT)
    }

    /// The same passphrase with a verifier of our own, from the right `guess`.
    pub(super) fn salted(&self, guess: &Secret) -> Result<Self, TrustError> {
        let verifier = argon2id::hash(guess).ok_or(TrustError::NoRandomness)?;
        Ok(Self { verifier, ..self.clone() })
    }

    /// Whether it is taken at `now`.
    pub fn is_open(&self, now: i64) -> bool {
        self.expires.is_none_or(|end| now < end) && self.uses != Some(0)
    }

    /// Whether `guess` is it: every byte counts, and nothing and too much never is (S-55).
    pub(super) fn verifies(&self, guess: &Secret) -> bool {
        let fits = !guess.is_empty() && guess.expose().len() <= LONGEST;
        match self.verifier.strip_prefix(BROUGHT) {
            Some(digits) => {
                fits && MultipassVerifier::of_hex(digits).is_some_and(|brought| brought.verifies(guess))
            }
            None => fits && argon2id::verifies(&self.verifier, guess),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests(revision: i64) -> Self {
        let new = NewPassphrase::new(Secret::new("therewillbesecrets"));
        Self::make(&new, revision, 0, "test").unwrap()
    }
}

/// Without the verifier.
impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase")
            .field("revision", &self.revision)
            .field("expires", &self.expires)
            .field("uses", &self.uses)
            .finish_non_exhaustive()
    }
}

/// A passphrase that is to be set.
#[derive(Debug)]
#[non_exhaustive]
pub struct NewPassphrase {
    /// The text, 1 to 1,024 bytes. Those under [`ADVISED_LENGTH`] characters deserve a warning.
    pub secret: Secret,
    /// When it shall stop being taken, in seconds since 1970.
    pub expires: Option<i64>,
    /// How many certificates it may let in.
    pub uses: Option<u32>,
}

impl NewPassphrase {
    /// One that is taken until another is set.
    pub fn new(secret: Secret) -> Self {
        Self { secret, expires: None, uses: None }
    }
}

/// Characters below which a new passphrase deserves a warning (NIST SP 800-63B-4 3.1.1.2).
pub const ADVISED_LENGTH: usize = 15;

/// What stands before Multipass's verifier where ours is `$argon2id$..`.
const BROUGHT: &str = "$multipass$";

/// Bytes of a passphrase (S-55).
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_055_every_byte_counts_and_neither_nothing_nor_too_much_is_taken() {
        let made = Passphrase::for_tests(1);
        assert!(made.verifies(&Secret::new("therewillbesecrets")));
        for wrong in ["", "therewillbesecrets\0", "therewillbesecret", "Therewillbesecrets"] {
            assert!(!made.verifies(&Secret::new(wrong)), "{wrong:?}");
        }
        let long = "x".repeat(LONGEST);
        let of_long = Passphrase::make(&NewPassphrase::new(Secret::new(&*long)), 1, 0, "").unwrap();
        assert!(of_long.verifies(&Secret::new(&*long)));
        assert!(!of_long.verifies(&Secret::new(&long[1..])));
        assert!(!of_long.verifies(&Secret::new(format!("{long}x"))));
        for bad in [String::new(), format!("{long}x")] {
            assert!(Passphrase::make(&NewPassphrase::new(Secret::new(bad)), 1, 0, "").is_err());
        }
        assert!(!format!("{made:?}").contains("argon2id"));
    }

    #[test]
    fn it_is_taken_until_its_end_and_its_last_use() {
        let mut made = Passphrase::for_tests(1);
        assert!(made.is_open(i64::MAX));
        made.expires = Some(10);
        assert!(made.is_open(9) && !made.is_open(10));
        made.expires = None;
        made.uses = Some(0);
        assert!(!made.is_open(0));
    }

    /// Whatever verifier there is: neither may be set, and hashing a megabyte is work a stranger should not order.
    #[test]
    fn s_055_neither_nothing_nor_too_much_is_the_passphrase_also_where_it_would_verify() {
        let long = Secret::new("x".repeat(LONGEST + 1));
        for secret in [Secret::new(""), long] {
            let mut made = Passphrase::for_tests(1);
            made.verifier = argon2id::hash(&secret).unwrap();
            assert!(argon2id::verifies(&made.verifier, &secret) && !made.verifies(&secret));
        }
        let shown = format!("{:?}", Passphrase::for_tests(5));
        assert!(shown.starts_with("Passphrase { revision: 5, "), "{shown}");
    }
}
