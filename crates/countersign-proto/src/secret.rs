//! Bytes that must not leak: passwords, tokens, keys, and what is derived from them.
//!
//! Everything in this project that proves something by being known travels in a [`Secret`].

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret byte string.
///
/// It is erased from memory when dropped, cannot be cloned, printed or compared with `==`
/// (S-31, S-91). There is no limit on its length here; whoever reads it from outside sets one.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over. A `String` or `Vec` given here is the one that is erased later.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the few places that compute with them. Never log or format them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it. An empty secret never proves anything (S-32).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares all bytes in a time that depends on the two lengths only (S-31).
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }

    /// The same text in Latin-1, if this is UTF-8 text that has such a form and the two differ.
    ///
    /// Xpra's clients turn typed passwords into Latin-1 bytes where they can, and their password
    /// files into whatever the file holds, so one password has two spellings on the wire.
    pub fn latin1(&self) -> Option<Self> {
        let text = std::str::from_utf8(&self.0).ok()?;
        if text.is_ascii() {
            return None;
        }
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        bytes.map(Self::new)
    }

    /// The text that these bytes are: UTF-8 as it is, anything else read as Latin-1 and made UTF-8.
    ///
    /// For verifiers that need the cleartext password of a client whose spelling is unknown.
    pub fn into_utf8(self) -> Self {
        if std::str::from_utf8(&self.0).is_ok() {
            return self;
        }
        let text: Zeroizing<String> = Zeroizing::new(self.0.iter().map(|&byte| char::from(byte)).collect());
        Self::new(text.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(<empty>)" } else { "Secret(<set>)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_091_a_secret_prints_neither_content_nor_length() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(<set>)");
        assert_eq!(format!("{:?}", Secret::new("")), "Secret(<empty>)");
    }

    #[test]
    fn s_031_only_the_whole_value_matches() {
        let secret = Secret::new("correct-horse");
        assert!(secret.matches(b"correct-horse"));
        for wrong in ["", "correct", "correct-horse ", "Correct-horse", "correct-horsf"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong:?}");
        }
    }

    #[test]
    fn latin1_exists_only_where_it_differs() {
        assert!(Secret::new("plain").latin1().is_none());
        assert!(Secret::new("€").latin1().is_none());
        assert!(Secret::new(vec![0xff]).latin1().is_none());
        assert_eq!(Secret::new("é").latin1().unwrap().expose(), [0xe9]);
        assert_eq!(Secret::new(vec![0xe9]).into_utf8().expose(), "é".as_bytes());
        assert_eq!(Secret::new("é").into_utf8().expose(), "é".as_bytes());
    }
}
