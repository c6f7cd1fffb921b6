//! The verifier of a passphrase as Multipass's daemon keeps it, brought over by the owner (M1).
//!
//! It is the same for one passphrase everywhere: scrypt without a salt, so that one table breaks every
//! installation. It is therefore used until the first right guess only, which is then kept as a
//! [`Passphrase`](super::Passphrase) of our own kind.

use std::fmt;

use scrypt::Params;
use zeroize::Zeroizing;

use crate::{ConfigError, Secret, users::argon2id};

/// scrypt with N = 16,384, r = 8, p = 1 and no salt over the passphrase in UTF-8, 64 bytes of it.
#[derive(Clone)]
pub struct MultipassVerifier(Zeroizing<[u8; LENGTH]>);

impl MultipassVerifier {
    /// Whether these are settings of Multipass's daemon (`multipassd.conf`) rather than something else.
    pub fn is_in(settings: &str) -> bool {
        line(settings).is_some()
    }

    /// The verifier in settings of Multipass's daemon; `None` if no passphrase is set there.
    ///
    /// # Errors
    /// There is a line for it, and something else in it.
    pub fn of_settings(settings: &str) -> Result<Option<Self>, ConfigError> {
        let digits = line(settings).unwrap_or_default().trim_matches('"');
        if digits.is_empty() {
            return Ok(None);
        }
        Self::of_hex(digits).map(Some).ok_or_else(|| {
            let why = "it is no verifier of Multipass's: those have 128 hexadecimal digits";
            ConfigError::new(KEY, why, "give the daemon's multipassd.conf as it is")
        })
    }

    /// The verifier as 128 hexadecimal digits, which is how Multipass writes it.
    pub fn of_hex(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        let mut verifier = Zeroizing::new([0; LENGTH]);
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in verifier.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = 16 * digit(*high)? + digit(*low)?;
        }
        (digits.len() == 2 * LENGTH).then_some(Self(verifier))
    }

    /// The same digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether `guess` is the passphrase. A zero byte at its end is refused: HMAC pads its keys with them, so
    /// scrypt cannot tell how many there were (M2).
    pub(super) fn verifies(&self, guess: &Secret) -> bool {
        let Ok(params) = Params::new(LOG_N, R, P) else { return false };
        let mut computed = Zeroizing::new([0; LENGTH]);
        let done = argon2id::in_a_slot(|| scrypt::scrypt(guess.expose(), b"", &params, &mut *computed));
        let padded = guess.expose().last().is_none_or(|last| *last == 0);
        done.is_ok() && !padded && Secret::new(computed.as_slice()).matches(self.0.as_slice())
    }
}

/// Without the verifier, which can be guessed at offline.
impl fmt::Debug for MultipassVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultipassVerifier").finish_non_exhaustive()
    }
}

/// What stands behind the key of the passphrase, in the INI file that Qt writes.
fn line(settings: &str) -> Option<&str> {
    let mut general = false;
    settings.lines().map(str::trim).find_map(|line| {
        if line.starts_with('[') {
            general = line.eq_ignore_ascii_case("[general]");
        }
        let (key, value) = line.split_once('=')?;
        (general && key.trim() == KEY).then_some(value.trim())
    })
}

const KEY: &str = "local.passphrase";

/// Bytes of a verifier.
const LENGTH: usize = 64;

const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// By Python: `hashlib.scrypt(b"therewillbesecrets", salt=b"", n=16384, r=8, p=1, dklen=64).hex()`.
    const VERIFIER: &str = "6c163226f6501360d072778c60a8df4439efaaa1d4de874fa8c32fad1d8208450a9f3a9bdc6b228a0be54854cf4870f0e0daa056cb34fb641e85c295da0a0367";

    #[test]
    fn m1_it_verifies_what_multipass_would_and_every_byte_counts() {
        let verifier = MultipassVerifier::of_hex(VERIFIER).unwrap();
        assert_eq!(*verifier.to_hex(), VERIFIER);
        assert_eq!(format!("{verifier:?}"), "MultipassVerifier { .. }", "it can be guessed at offline");
        assert!(verifier.verifies(&Secret::new("therewillbesecrets")));
        for wrong in ["", "therewillbesecrets\0", "therewillbesecrets\0\0", "therewillbesecret", "x"] {
            assert!(!verifier.verifies(&Secret::new(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn it_is_found_in_the_settings_of_the_daemon() {
        let settings = format!("[General]\nlocal.driver=qemu\nlocal.passphrase={VERIFIER}\n[x]\nlocal.a=b\n");
        assert!(MultipassVerifier::is_in(&settings));
        let found = MultipassVerifier::of_settings(&settings).unwrap().unwrap();
        assert_eq!(*found.to_hex(), VERIFIER);
        let unset = "[General]\r\nlocal.passphrase=\r\n";
        assert!(MultipassVerifier::is_in(unset));
        assert!(MultipassVerifier::of_settings(unset).unwrap().is_none());
        for nothing in ["", "[General]\nlocal.driver=qemu\n", "[Other]\nlocal.passphrase=1\n"] {
            assert!(!MultipassVerifier::is_in(nothing), "{nothing}");
        }
        for (cut, more) in [(127, ""), (128, "0"), (127, "x")] {
            let wrong = format!("[General]\nlocal.passphrase={}{more}\n", &VERIFIER[..cut]);
            let error = MultipassVerifier::of_settings(&wrong).err().unwrap();
            assert!(!error.to_string().contains(&VERIFIER[..16]), "{error}");
        }
    }
}
