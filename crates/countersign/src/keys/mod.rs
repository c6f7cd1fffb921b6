//! Security keys: what is kept of them, what they sign, and how one is asked.
//!
//! The modules `u2f` and `fido2` check with what is kept, the handlers of the same names ask a key, and
//! `countersign keys` introduces one to the other.
//!
//! | file | holds |
//! |---|---|
//! | `public` | the public half of a key, and what it has signed |
//! | `folder` | the public keys of each user, as files |
//! | `assertion` | what is signed at a login, at both ends |
//! | `authenticator` | what signs, whatever it is made of |
//! | `software` | a key in a file |
//! | `device` | a key on USB |
#![forbid(unsafe_code)]

mod assertion;
mod authenticator;
pub mod device;
mod folder;
mod public;
mod software;

pub use assertion::{Assertion, ClientData, client_data};
pub use authenticator::{Authenticator, KeyError, NewKey, Registered, Signing};
pub use folder::{KeyFolder, KeyName, KnownKey};
pub use public::{Algorithm, PublicKey};
pub use software::KeyFile;

use std::fmt;

/// Which of the two ways of asking a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "each has a module and a handler")]
pub enum Kind {
    /// FIDO U2F (CTAP1): ECDSA on P-256, and somebody was there.
    U2f,
    /// FIDO2 (CTAP2): also EdDSA, and a key may know who was there.
    Fido2,
}

impl Kind {
    /// The name of its module, handler and mechanism, and what the names of its files begin with.
    pub const fn name(self) -> &'static str {
        match self {
            Self::U2f => "u2f",
            Self::Fido2 => "fido2",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The application id of Xpra's servers and clients where nobody writes another.
pub const APP_ID: &str = "Xpra";

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits of either case; `None` for anything else.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
