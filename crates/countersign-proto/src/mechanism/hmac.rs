//! HMAC challenge and response (RFC 2104), as Xpra composes it.
//!
//! ```text
//! combined = hex(HMAC-S(key = client salt, message = server salt))
//! response = hex(HMAC-H(key = secret,      message = combined))
//! ```
//!
//! The message of the second step is the lower-case hexadecimal *text* of the first
//! (`docs/protocol/xpra.md`, the response). Both ends call [`combine_salts`]; the client calls [`respond`], the
//! server [`StoredSecret::verifies`].

use std::fmt;

use ::hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha224, Sha256, Sha384, Sha512, block_api::compress512};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::Hash;
use crate::secret::Secret;

/// Combines the two salts under `hash`: lower-case hexadecimal text.
pub fn combine_salts(hash: Hash, client_salt: &[u8], server_salt: &[u8]) -> Vec<u8> {
    hex(&mac(hash, client_salt, server_salt))
}

/// The proof of `secret` for the combined salts: lower-case hexadecimal text.
pub fn respond(hash: Hash, secret: &Secret, combined: &[u8]) -> Secret {
    Secret::new(hex(&mac(hash, secret.expose(), combined)))
}

/// A secret as a server keeps it, able to verify an HMAC response.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoredSecret {
    /// The secret itself. Verifies under every hash.
    Cleartext(Secret),
    /// The least that verifies `hmac+sha512` without the secret (W17).
    HmacSha512(Box<HmacKey>),
}

impl StoredSecret {
    /// Whether `response` proves this secret for the combined salts.
    ///
    /// A text that has a Latin-1 spelling of its own is tried in both, whichever was meant, so that time
    /// does not tell (`docs/protocol/xpra.md`, spelling).
    /// An empty secret proves nothing (S-32).
    pub fn verifies(&self, hash: Hash, combined: &[u8], response: &[u8]) -> bool {
        match self {
            Self::Cleartext(secret) => {
                let as_stored = respond(hash, secret, combined).matches(response);
                let latin1 = secret.latin1();
                let in_latin1 = latin1.is_some_and(|other| respond(hash, &other, combined).matches(response));
                !secret.is_empty() && (as_stored | in_latin1)
            }
            Self::HmacSha512(key) => match hash {
                Hash::Sha512 => key.verifies(combined, response),
                // Work of the same size, so that the account's kind cannot be timed.
                other => cover(other, combined, response),
            },
        }
    }
}

/// The work of one verification against a secret that nobody holds, always `false`. It hides
/// whether a name exists (S-26).
pub fn cover(hash: Hash, combined: &[u8], response: &[u8]) -> bool {
    let nobody = StoredSecret::Cleartext(Secret::new("countersign-nobody"));
    let _ = nobody.verifies(hash, combined, response);
    false
}

/// The two SHA-512 states of an HMAC after its padded key, for the secret's two spellings.
///
/// They verify `hmac+sha512` and nothing else, and the secret cannot be read back from them. They
/// are unsalted and fast to guess at, and who holds them can log in by this protocol, so they are
/// kept like a secret (W17).
pub struct HmacKey {
    spellings: [Spelling; 2],
}

/// Inner and outer state for one spelling.
#[derive(Clone, PartialEq, Eq, Zeroize)]
#[zeroize(drop)]
struct Spelling {
    inner: [u64; 8],
    outer: [u64; 8],
}

impl HmacKey {
    /// The length of [`HmacKey::to_bytes`].
    pub const BYTES: usize = 256;

    /// Derives the states from a secret that is not empty.
    pub fn derive(secret: &Secret) -> Self {
        let latin1 = secret.latin1();
        let second = latin1.as_ref().unwrap_or(secret);
        Self { spellings: [Spelling::derive(secret.expose()), Spelling::derive(second.expose())] }
    }

    /// The states as big-endian words: inner and outer of the text as given, then of its Latin-1 form.
    pub fn to_bytes(&self) -> Secret {
        let words = self.spellings.iter().flat_map(|s| s.inner.iter().chain(&s.outer));
        Secret::new(words.flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// Reads [`HmacKey::to_bytes`]. `None` unless there are exactly [`HmacKey::BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
        let mut state = || -> Option<[u64; 8]> {
            let mut state = [0; 8];
            for word in &mut state {
                *word = words.next()?;
            }
            Some(state)
        };
        let first = Spelling { inner: state()?, outer: state()? };
        let second = Spelling { inner: state()?, outer: state()? };
        words.next().is_none().then_some(Self { spellings: [first, second] })
    }

    fn verifies(&self, combined: &[u8], response: &[u8]) -> bool {
        let [first, second] = &self.spellings;
        let first = hex(&first.mac(combined)).ct_eq(response);
        let second = hex(&second.mac(combined)).ct_eq(response);
        (first | second).into()
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(<set>)")
    }
}

impl Spelling {
    /// RFC 2104 section 2: K XOR ipad and K XOR opad, each run through the compression once.
    fn derive(key: &[u8]) -> Self {
        use sha2::Digest as _;
        let mut block = Zeroizing::new([0_u8; BLOCK]);
        let hashed =
            Zeroizing::new(if key.len() > BLOCK { Sha512::digest(key).to_vec() } else { key.to_vec() });
        block.iter_mut().zip(hashed.iter()).for_each(|(to, from)| *to = *from);
        let state = |pad: u8| {
            let mut state = SHA512_INITIAL;
            let padded = Zeroizing::new(block.map(|byte| byte ^ pad));
            compress512(&mut state, &[*padded]);
            state
        };
        Self { inner: state(0x36), outer: state(0x5c) }
    }

    fn mac(&self, message: &[u8]) -> Vec<u8> {
        let inner = finish(self.inner, message);
        finish(self.outer, &inner)
    }
}

/// Ends a SHA-512 computation that has already taken one block (FIPS 180-4 section 5.1.2).
fn finish(mut state: [u64; 8], message: &[u8]) -> Vec<u8> {
    let (blocks, rest) = message.as_chunks::<BLOCK>();
    compress512(&mut state, blocks);
    let bits = (BLOCK as u128 + message.len() as u128) * 8;
    let mut tail = rest.to_vec();
    tail.push(0x80);
    while tail.len() % BLOCK != BLOCK - 16 {
        tail.push(0);
    }
    tail.extend_from_slice(&bits.to_be_bytes());
    let (blocks, _) = tail.as_chunks::<BLOCK>();
    compress512(&mut state, blocks);
    state.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// HMAC under `hash`.
pub(super) fn mac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    fn compute<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        // RFC 2104 takes keys of every length, so the error cannot occur; an empty MAC would match nothing.
        M::new_from_slice(key)
            .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }
    match hash {
        Hash::Sha512 => compute::<Hmac<Sha512>>(key, message),
        Hash::Sha384 => compute::<Hmac<Sha384>>(key, message),
        Hash::Sha256 => compute::<Hmac<Sha256>>(key, message),
        Hash::Sha224 => compute::<Hmac<Sha224>>(key, message),
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes in a SHA-512 block.
const BLOCK: usize = 128;

/// FIPS 180-4 section 5.3.5.
const SHA512_INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &[u8] = b"0123456789abcdef";

    fn right(secret: &[u8]) -> Secret {
        respond(Hash::Sha512, &Secret::new(secret), SALT)
    }

    #[test]
    fn s_031_only_the_whole_lower_case_proof_verifies() {
        let stored = StoredSecret::Cleartext(Secret::new("correct-horse"));
        let proof = right(b"correct-horse");
        assert!(stored.verifies(Hash::Sha512, SALT, proof.expose()));
        let upper = proof.expose().to_ascii_uppercase();
        let mut longer = proof.expose().to_vec();
        longer.push(b'0');
        let shorter = &proof.expose()[..127];
        for wrong in [&upper[..], &longer, shorter, b"", b"correct-horse"] {
            assert!(!stored.verifies(Hash::Sha512, SALT, wrong));
        }
        assert!(!stored.verifies(Hash::Sha256, SALT, proof.expose()));
    }

    #[test]
    fn s_032_an_empty_secret_proves_nothing() {
        assert!(!StoredSecret::Cleartext(Secret::new("")).verifies(Hash::Sha512, SALT, right(b"").expose()));
    }

    #[test]
    fn both_spellings_of_a_text_are_taken() {
        for stored in [
            StoredSecret::Cleartext(Secret::new("é")),
            StoredSecret::HmacSha512(Box::new(HmacKey::derive(&Secret::new("é")))),
        ] {
            assert!(stored.verifies(Hash::Sha512, SALT, right("é".as_bytes()).expose()));
            assert!(stored.verifies(Hash::Sha512, SALT, right(&[0xe9]).expose()));
            assert!(!stored.verifies(Hash::Sha512, SALT, right(b"e").expose()));
        }
    }

    #[test]
    fn s_092_derived_states_verify_sha512_for_secrets_of_every_length_and_nothing_else() {
        for length in [1, 63, 64, 127, 128, 129, 300] {
            let secret = vec![b's'; length];
            let key = HmacKey::derive(&Secret::new(&secret[..]));
            let bytes = key.to_bytes();
            assert_eq!(bytes.expose().len(), HmacKey::BYTES);
            let stored = StoredSecret::HmacSha512(Box::new(HmacKey::from_bytes(bytes.expose()).unwrap()));
            for message in [&b""[..], b"m", &[b'x'; 111], &[b'x'; 112], &[b'x'; 128], &[b'x'; 300]] {
                let proof = respond(Hash::Sha512, &Secret::new(&secret[..]), message);
                assert!(stored.verifies(Hash::Sha512, message, proof.expose()), "{length} {}", message.len());
                let other = respond(Hash::Sha256, &Secret::new(&secret[..]), message);
                assert!(!stored.verifies(Hash::Sha256, message, other.expose()));
            }
        }
        assert!(HmacKey::from_bytes(&[0; 255]).is_none());
        assert!(HmacKey::from_bytes(&[0; 264]).is_none());
    }

    #[test]
    fn nobody_is_verified_by_the_cover() {
        let proof = right(b"countersign-nobody");
        assert!(!cover(Hash::Sha512, SALT, proof.expose()));
    }
}
