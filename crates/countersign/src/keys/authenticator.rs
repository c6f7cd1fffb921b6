//! What signs, whatever it is made of: a file, a device. Asked by the handlers and by `countersign keys`.

use std::fmt;

use super::{Algorithm, Assertion, Kind, PublicKey};

/// Something that holds private keys and does not give them away.
pub trait Authenticator: fmt::Debug {
    /// Makes a new key.
    ///
    /// # Errors
    /// Nobody touched it, it cannot make such a key, or it cannot be talked to.
    fn register(&mut self, new: &NewKey<'_>) -> Result<Registered, KeyError>;

    /// Signs with a key that it made. Waits for a person where it wants one.
    ///
    /// # Errors
    /// It did not make that key, nobody touched it, or it cannot be talked to.
    fn sign(&mut self, signing: &Signing<'_>) -> Result<Assertion, KeyError>;
}

/// The key that is to be made.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "what a key is asked for")]
pub struct NewKey<'a> {
    /// For which of the two modules.
    pub kind: Kind,
    /// Where it will count.
    pub app_id: &'a str,
    /// Whose it will be, for keys that keep names.
    pub user: &'a str,
    /// How it shall sign.
    pub algorithm: Algorithm,
}

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what a key gives")]
pub struct Registered {
    /// Its public half.
    pub key: PublicKey,
    /// What the authenticator wants to be told to find it again.
    pub handle: Vec<u8>,
}

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "what a key is asked for")]
pub struct Signing<'a> {
    /// For which of the two modules.
    pub kind: Kind,
    /// Where the key counts.
    pub app_id: &'a str,
    /// [`super::ClientData::hash`].
    pub client_data_hash: [u8; 32],
    /// [`Registered::handle`].
    pub handle: &'a [u8],
}

/// Why there is no signature, or no key. Reads `what: why`; see [`KeyError::fix`].
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// No device is plugged in, or none that we may open.
    NoDevice {
        /// A device that is there and may not be opened.
        closed: Option<String>,
    },
    /// The key was made by another authenticator, or for another application.
    NotMine,
    /// Nobody touched it in time.
    NobodyThere,
    /// It wants a PIN, which is not asked for here.
    WantsPin,
    /// It cannot do what was asked.
    Unable(String),
    /// It cannot be talked to, or what it says makes no sense.
    Broken(String),
}

impl KeyError {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoDevice { closed: None } => "plug the security key in",
            Self::NoDevice { .. } => {
                "let your account use it: udev's rule for security keys, or the group of /dev/hidraw*"
            }
            Self::NotMine => "use the key that was registered, or register this one: countersign keys add",
            Self::NobodyThere => "touch the key when it blinks",
            Self::WantsPin => "register it for u2f, which asks no PIN",
            Self::Unable(_) => "use another key or another algorithm",
            Self::Broken(_) => "try again, and unplug it in between if it is a device",
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("security key: ")?;
        match self {
            Self::NoDevice { closed: None } => f.write_str("none is there"),
            Self::NoDevice { closed: Some(path) } => write!(f, "{path} may not be opened"),
            Self::NotMine => f.write_str("it does not know the registered key"),
            Self::NobodyThere => f.write_str("nobody touched it in time"),
            Self::WantsPin => f.write_str("it wants a PIN"),
            Self::Unable(why) | Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for KeyError {}
