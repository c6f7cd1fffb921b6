//! The public half of a key: read, written, named, and asked whether it signed something.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey};
use sha2::{Digest as _, Sha256};

use super::{hex, unhex};

/// A public key that can be used.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
    parsed: ParsedPublicKey,
}

/// How a key signs (RFC 9053: -7 and -8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what can be verified")]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256; the signature in DER.
    Es256,
    /// EdDSA on Curve25519; the signature as its 64 bytes.
    EdDsa,
}

impl Algorithm {
    /// The name that JOSE and COSE have for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// What stands before the key's bytes in a `SubjectPublicKeyInfo` (RFC 5480 section 2, RFC 8410
    /// section 4): the same for every key of the algorithm.
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Es256 => &[
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
                0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ],
            Self::EdDsa => &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
        }
    }
}

impl PublicKey {
    /// A key from its bytes: the uncompressed point of P-256 (65 bytes), or the 32 of Ed25519.
    ///
    /// # Errors
    /// They are no such key: of another length, or no point of the curve.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, &'static str> {
        let parsed = match algorithm {
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes),
            Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, bytes),
        };
        let length = if algorithm == Algorithm::Es256 { 65 } else { 32 };
        match parsed {
            Ok(parsed) if bytes.len() == length => Ok(Self { algorithm, bytes: bytes.to_owned(), parsed }),
            _ => Err("it is no key of P-256 or Ed25519"),
        }
    }

    /// Reads hexadecimal digits: the point alone, as Xpra's tool writes it, or a whole
    /// `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// It is neither.
    pub fn from_hex(text: &str) -> Result<Self, &'static str> {
        let bytes = unhex(text.trim()).ok_or("it is not written in hexadecimal digits")?;
        let known = [Algorithm::Es256, Algorithm::EdDsa];
        let inside = known.iter().find_map(|one| Some((*one, bytes.strip_prefix(one.prefix())?)));
        let (algorithm, key) = inside.unwrap_or((Algorithm::Es256, &bytes));
        Self::new(algorithm, key)
    }

    /// Hexadecimal digits that [`PublicKey::from_hex`] reads, and Xpra's server where it can use the key.
    pub fn to_hex(&self) -> String {
        match self.algorithm {
            Algorithm::Es256 => hex(&self.bytes),
            Algorithm::EdDsa => hex(self.algorithm.prefix()) + &hex(&self.bytes),
        }
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// SHA-256 over its `SubjectPublicKeyInfo`, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::new().chain_update(self.algorithm.prefix()).chain_update(&self.bytes).finalize())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.algorithm, &self.bytes) == (other.algorithm, &other.bytes)
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm.name(), self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };

    use super::*;

    #[test]
    fn keys_of_both_kinds_are_read_in_both_forms_and_verify_their_own() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
        let point = PublicKey::new(Algorithm::Es256, pair.public_key().as_ref()).unwrap();
        let signature = pair.sign(&random, b"message").unwrap();
        let whole = hex(Algorithm::Es256.prefix()) + &point.to_hex();
        assert_eq!(PublicKey::from_hex(&format!(" {}\n", whole.to_uppercase())).unwrap(), point);
        assert_eq!(PublicKey::from_hex(&point.to_hex()).unwrap(), point);
        assert!(point.verifies(b"message", signature.as_ref()));
        assert!(!point.verifies(b"another", signature.as_ref()) && !point.verifies(b"message", b""));

        let pair = Ed25519KeyPair::generate().unwrap();
        let key = PublicKey::new(Algorithm::EdDsa, pair.public_key().as_ref()).unwrap();
        let read = PublicKey::from_hex(&key.to_hex()).unwrap();
        assert_eq!((&read, read.fingerprint() == point.fingerprint()), (&key, false));
        assert!(read.verifies(b"message", pair.sign(b"message").as_ref()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let off_curve = format!("04{}", "11".repeat(64));
        let infinity = "00".to_owned();
        let short = format!("04{}", "11".repeat(63));
        for bad in ["", "0", "zz", &off_curve, &infinity, &short, &"30".repeat(91), &"11".repeat(32)] {
            assert!(PublicKey::from_hex(bad).is_err(), "{bad}");
        }
    }
}
