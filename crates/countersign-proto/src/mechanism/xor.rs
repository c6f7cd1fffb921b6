//! `xor`: the secret itself, masked with the combined salts (`docs/protocol/xpra.md`, the response).
//!
//! The mask is computed from salts that travel beside it, so this hides nothing from who reads
//! the wire. [`crate::server`] asks for it and [`crate::client`] answers it on a confidential wire
//! only (S-33).

use zeroize::Zeroizing;

use crate::secret::Secret;

/// Masks, and unmasks, `secret`. What is longer than the combined salts stays as it is (W05).
pub fn mask(secret: &Secret, combined: &[u8]) -> Secret {
    let mut bytes = Zeroizing::new(secret.expose().to_vec());
    bytes.iter_mut().zip(combined).for_each(|(byte, salt)| *byte ^= salt);
    Secret::new(std::mem::take(&mut *bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_twice_is_nothing_also_for_secrets_longer_than_the_salts() {
        for length in [0, 1, 128, 200] {
            let secret = Secret::new(vec![b's'; length]);
            let masked = mask(&secret, &[0x5a; 128]);
            assert!(secret.matches(mask(&masked, &[0x5a; 128]).expose()));
            assert!(length == 0 || !secret.matches(masked.expose()));
        }
    }
}
