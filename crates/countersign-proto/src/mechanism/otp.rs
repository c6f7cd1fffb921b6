//! One-time codes by time (RFC 6238 over RFC 4226): the server checks them, the client makes them.
//!
//! They travel as a password does, in the clear, so on a confidential wire only. That each step counts
//! once is the caller's to see to, with what [`OtpSecret::check`] gives.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// What the codes of one account are made from: the secret, the hash, the digits and the length of a step.
pub struct OtpSecret {
    totp: Totp,
    fingerprint: String,
}

impl OtpSecret {
    /// Reads a secret in base32 (RFC 4648 section 6; blanks, dashes and case do not matter): SHA-1, six
    /// digits, 30 s. Or a URI as authenticators show it as a QR code, `otpauth://totp/NAME?secret=..`,
    /// whose `algorithm`, `digits` and `period` count. `window` is the number of steps by which a clock
    /// may be off, either way.
    ///
    /// # Errors
    /// What is wrong, without any of the text. A secret of less than 128 bits is refused (RFC 4226 R6).
    pub fn parse(text: &Secret, window: u16) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| "it is no text")?.trim();
        let mut kind = Kind::default();
        let secret = match text.strip_prefix("otpauth://") {
            Some(uri) => kind.read(uri)?,
            None => text,
        };
        let bytes = base32(secret)?;
        let builder = Builder::new()
            .with_algorithm(kind.algorithm)
            .with_digits(kind.digits)
            .with_step_duration(kind.period)
            .with_skew(window)
            .with_secret(bytes.clone());
        let totp = builder.build().map_err(|_| "a secret of less than 128 bits can be guessed")?;
        Ok(Self { totp, fingerprint: fingerprint(bytes.as_bytes()) })
    }

    /// The code at a time, in seconds since 1970.
    pub fn code(&self, at: u64) -> Secret {
        Secret::new(self.totp.generate(at).to_string())
    }

    /// The step that `code` is of, if it is of one within the window around `at`, in seconds since 1970.
    /// A step counts once: take it only if it is later than the last one that was taken.
    pub fn check(&self, code: &Secret, at: u64) -> Option<u64> {
        // Beyond some year 36,000 there is nothing to add a window to.
        let at = at.min(1 << 40);
        self.totp.check(std::str::from_utf8(code.expose()).ok()?, at)
    }

    /// The length of a step in seconds.
    pub fn period(&self) -> u64 {
        self.totp.step()
    }

    /// What tells one secret from another, and from which it cannot be found.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// What is not the secret.
struct Kind {
    algorithm: Algorithm,
    digits: u8,
    period: u64,
}

impl Default for Kind {
    fn default() -> Self {
        Self { algorithm: Algorithm::SHA1, digits: 6, period: 30 }
    }
}

impl Kind {
    /// Reads what follows `otpauth://`, and gives the secret in it.
    fn read<'a>(&mut self, uri: &'a str) -> Result<&'a str, &'static str> {
        let parameters = uri.strip_prefix("totp/").and_then(|rest| rest.split_once('?'));
        let (_, parameters) =
            parameters.ok_or("only codes by time are taken: otpauth://totp/NAME?secret=..")?;
        let mut secret = "";
        for (key, value) in parameters.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "secret" => secret = value.trim_end_matches("%3D"),
                "algorithm" => self.algorithm = algorithm(value)?,
                "digits" => {
                    let digits = value.parse().ok().filter(|digits| (6..=8).contains(digits));
                    self.digits = digits.ok_or("its digits are neither 6, 7 nor 8")?;
                }
                "period" => {
                    let period = value.parse().ok().filter(|period| (10..=300).contains(period));
                    self.period = period.ok_or("its period is not within 10 and 300 seconds")?;
                }
                // Issuer and picture are for whoever looks at the authenticator.
                _ => {}
            }
        }
        Ok(secret)
    }
}

fn algorithm(name: &str) -> Result<Algorithm, &'static str> {
    [("SHA1", Algorithm::SHA1), ("SHA256", Algorithm::SHA256), ("SHA512", Algorithm::SHA512)]
        .into_iter()
        .find_map(|(known, algorithm)| name.eq_ignore_ascii_case(known).then_some(algorithm))
        .ok_or("its algorithm is neither SHA1, SHA256 nor SHA512")
}

fn base32(text: &str) -> Result<totp_rs::Secret, &'static str> {
    let digits = text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).map(|c| c.to_ascii_uppercase());
    let digits: Zeroizing<String> = Zeroizing::new(digits.collect());
    totp_rs::Secret::try_from_base32(&*digits)
        .map_err(|_| "it is no base32, which has the letters and 2 to 7")
}

/// Keyed with the secret, which has 128 bits at least: nothing leads back.
fn fingerprint(secret: &[u8]) -> String {
    // RFC 2104 takes keys of every length, so the error cannot occur.
    let digest = Hmac::<Sha256>::new_from_slice(secret)
        .map(|mac| mac.chain_update(b"countersign one-time code").finalize().into_bytes().to_vec())
        .unwrap_or_default();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for OtpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtpSecret(<set>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `12345678901234567890`, the key of RFC 4226 appendix D and RFC 6238 appendix B.
    const KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn secret(text: &str) -> OtpSecret {
        OtpSecret::parse(&Secret::new(text), 1).unwrap()
    }

    fn uri(key: &str, more: &str) -> OtpSecret {
        secret(&format!("otpauth://totp/Example:alice?secret={key}&issuer=Example{more}"))
    }

    #[test]
    fn the_codes_of_rfc_4226_appendix_d() {
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871",
            "520489",
        ];
        let secret = secret(KEY);
        for (counter, code) in (0..).zip(codes) {
            assert!(secret.code(counter * 30).matches(code.as_bytes()), "{counter}");
        }
    }

    #[test]
    fn the_codes_of_rfc_6238_appendix_b() {
        // The keys of the longer hashes are the same digits, repeated to the hash's length (errata 2866).
        let sha256 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA";
        let sha512 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNA";
        let secrets = [
            uri(KEY, "&digits=8"),
            uri(sha256, "&digits=8&algorithm=SHA256"),
            uri(sha512, "&period=30&digits=8&algorithm=sha512"),
        ];
        let vectors = [
            (59, ["94287082", "46119246", "90693936"]),
            (1_111_111_109, ["07081804", "68084774", "25091201"]),
            (1_111_111_111, ["14050471", "67062674", "99943326"]),
            (1_234_567_890, ["89005924", "91819424", "93441116"]),
            (2_000_000_000, ["69279037", "90698825", "38618901"]),
            (20_000_000_000, ["65353130", "77737706", "47863826"]),
        ];
        for (at, codes) in vectors {
            for (secret, code) in secrets.iter().zip(codes) {
                assert!(secret.code(at).matches(code.as_bytes()), "{at} {code}");
            }
        }
        assert_eq!(secrets[0].check(&Secret::new("89005924"), 1_234_567_890), Some(41_152_263));
    }

    #[test]
    fn s_077_a_code_is_of_the_step_it_was_made_in_and_of_one_step_either_way() {
        let secret = secret(KEY);
        let at = 1_700_000_010;
        let code = secret.code(at);
        let cases = [(-31, false), (-30, true), (-1, true), (0, true), (29, true), (59, true), (60, false)];
        for (later, found) in cases {
            let step = secret.check(&code, at.checked_add_signed(later).unwrap());
            assert_eq!(step, found.then_some(at / 30), "{later}");
        }
        let strict = OtpSecret::parse(&Secret::new(KEY), 0).unwrap();
        assert_eq!(strict.check(&code, at + 29), Some(at / 30));
        assert_eq!(strict.check(&code, at + 30), None);
        for far in [0, u64::MAX] {
            assert_eq!(secret.check(&code, far), None);
        }
    }

    #[test]
    fn s_031_only_the_whole_code_in_ascii_digits_counts() {
        let secret = secret(KEY);
        let at = 1_111_111_109;
        assert!(secret.check(&Secret::new("081804"), at).is_some());
        for wrong in ["", "81804", "0081804", "081804 ", "+81804", "081805", "٠٨١٨٠٤", "081804\0", "07081804"]
        {
            assert_eq!(secret.check(&Secret::new(wrong), at), None, "{wrong}");
        }
        assert_eq!(secret.check(&Secret::new(vec![0xff; 6]), at), None);
    }

    #[test]
    fn secrets_are_read_as_people_write_them_and_what_could_be_guessed_is_refused() {
        let as_written = secret("gezd gnbv gy3t qojq-gezd gnbv gy3t qojq====\n");
        assert_eq!(as_written.fingerprint(), secret(KEY).fingerprint());
        assert_ne!(as_written.fingerprint(), secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR").fingerprint());
        assert_eq!(format!("{as_written:?}"), "OtpSecret(<set>)");
        let bad = [
            "",
            "foo",
            "JBSWY3DPEHPK3PXP",
            "1EZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            "otpauth://hotp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=1",
            "otpauth://totp/a?issuer=b",
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=5",
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&period=0",
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&algorithm=MD5",
        ];
        for bad in bad {
            let why = OtpSecret::parse(&Secret::new(bad), 1).unwrap_err();
            assert!(bad.is_empty() || !why.contains(bad), "{why}");
        }
    }
}
