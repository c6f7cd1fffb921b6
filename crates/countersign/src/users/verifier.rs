//! What passes for an account, as it is kept at rest, and the tests that it serves.
//!
//! A verifier is a text of entries with blanks between them, each known by its prefix (S-73):
//! `$argon2id$...` for passwords that arrive in the clear, `SCRAM-SHA-512$...` for SCRAM, and
//! `$xpra-hmac-sha512$BASE64` for Xpra's digests: the two hash states of [`HmacKey`], which cannot be
//! turned back but log in (W17).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::argon2id;
use crate::{
    Secret,
    proto::mechanism::{
        Hash,
        hmac::{HmacKey, StoredSecret},
        scram::{Keys, NEW_ITERATIONS},
    },
};

/// Everything that is known of an account's password.
#[derive(Default)]
pub(crate) struct Secrets {
    cleartext: Option<Secret>,
    hmac: Option<HmacKey>,
    argon2id: Option<Zeroizing<String>>,
    scram: Vec<Keys>,
}

/// A text that has a verifier's prefix and is none that can be used here. Repeats nothing of it.
#[derive(Debug)]
pub(crate) struct Malformed;

impl Secrets {
    /// The secrets of a new password, without the password itself. `legacy` adds what verifies
    /// Xpra's digests. `None` if the system gives no random bytes.
    pub(crate) fn derive(password: &Secret, legacy: bool) -> Option<Self> {
        let hmac = legacy.then(|| HmacKey::derive(password));
        let mut scram = Vec::new();
        for hash in [Hash::Sha512, Hash::Sha256] {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).ok()?;
            scram.push(Keys::derive(hash, password, &salt, NEW_ITERATIONS));
        }
        Some(Self { cleartext: None, hmac, argon2id: Some(argon2id::hash(password)?), scram })
    }

    /// Reads a verifier. Blank is no secret at all.
    ///
    /// # Errors
    /// An entry of a kind that this version does not know, or a damaged one: what cannot be judged
    /// whole is not used in part.
    pub(crate) fn parse(verifier: &str) -> Result<Self, Malformed> {
        let mut secrets = Self::default();
        for entry in verifier.split_ascii_whitespace() {
            if let Some(states) = entry.strip_prefix(HMAC_PREFIX) {
                let bytes = Zeroizing::new(STANDARD.decode(states).map_err(|_| Malformed)?);
                secrets.hmac = Some(HmacKey::from_bytes(&bytes).ok_or(Malformed)?);
            } else if entry.starts_with("SCRAM") {
                secrets.scram.push(entry.parse().map_err(|_| Malformed)?);
            } else if argon2id::is_acceptable(entry) {
                secrets.argon2id = Some(Zeroizing::new(entry.to_owned()));
            } else {
                return Err(Malformed);
            }
        }
        Ok(secrets)
    }

    /// Reads a column that holds a cleartext password or a verifier. Empty is no secret (S-32).
    ///
    /// A text with the prefix of any hash is never a password: whoever stole the table would log
    /// in with what it holds.
    ///
    /// # Errors
    /// As [`Secrets::parse`].
    pub(crate) fn from_password_column(column: &Secret) -> Result<Self, Malformed> {
        let bytes = column.expose();
        if HASH_PREFIXES.iter().any(|prefix| bytes.starts_with(prefix.as_bytes())) {
            return Self::parse(std::str::from_utf8(bytes).map_err(|_| Malformed)?);
        }
        let cleartext = (!bytes.is_empty()).then(|| Secret::new(bytes));
        Ok(Self { cleartext, ..Self::default() })
    }

    /// The verifier, or `None` if there is nothing that may be kept at rest.
    pub(crate) fn to_verifier(&self) -> Option<Zeroizing<String>> {
        let argon2id = self.argon2id.iter().map(|hash| Zeroizing::new(hash.to_string()));
        let scram = self.scram.iter().map(|keys| Zeroizing::new(keys.to_text()));
        let hmac = self.hmac.iter().map(|key| {
            let mut entry = Zeroizing::new(String::with_capacity(512));
            entry.push_str(HMAC_PREFIX);
            STANDARD.encode_string(key.to_bytes().expose(), &mut entry);
            entry
        });
        let mut text = Zeroizing::new(String::with_capacity(1024));
        for entry in argon2id.chain(scram).chain(hmac) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&entry);
        }
        (!text.is_empty()).then_some(text)
    }

    /// What verifies a response by HMAC, if anything does.
    pub(crate) fn stored(&self) -> Option<StoredSecret> {
        match (&self.cleartext, &self.hmac) {
            (Some(cleartext), _) => Some(StoredSecret::Cleartext(Secret::new(cleartext.expose()))),
            (None, Some(key)) => HmacKey::from_bytes(key.to_bytes().expose())
                .map(|key| StoredSecret::HmacSha512(Box::new(key))),
            (None, None) => None,
        }
    }

    /// The hashes that there are keys for SCRAM of.
    pub(crate) fn scram_hashes(&self) -> impl Iterator<Item = Hash> {
        self.scram.iter().map(Keys::hash)
    }

    /// What verifies SCRAM under `hash`, if anything does.
    pub(crate) fn into_scram(self, hash: Hash) -> Option<Keys> {
        self.scram.into_iter().find(|keys| keys.hash() == hash)
    }

    /// Whether a cleartext password is the right one. Exactly one Argon2id is computed, whatever
    /// is known (S-26), and empty passwords are never right (S-32).
    pub(crate) fn verifies(&self, password: &Secret) -> bool {
        let by_hash = match &self.argon2id {
            Some(hash) => argon2id::verifies(hash, password),
            None => argon2id::cover(password),
        };
        let by_text = self.cleartext.as_ref().is_some_and(|cleartext| {
            let stored = Secret::new(cleartext.expose()).into_utf8();
            stored.matches(password.expose())
        });
        let by_states = self.argon2id.is_none()
            && self.hmac.as_ref().is_some_and(|key| {
                let candidate = HmacKey::derive(password).to_bytes();
                key.to_bytes().matches(candidate.expose())
            });
        !password.is_empty() && (by_hash | by_text | by_states)
    }

    /// The cleartext, for an import that turns it into a verifier.
    pub(super) fn cleartext(&self) -> Option<&Secret> {
        self.cleartext.as_ref()
    }

    /// Whether there is an Argon2id entry, one for SCRAM, one for Xpra's digests, and cleartext.
    pub(super) fn kinds(&self) -> [bool; 4] {
        [self.argon2id.is_some(), !self.scram.is_empty(), self.hmac.is_some(), self.cleartext.is_some()]
    }
}

const HMAC_PREFIX: &str = "$xpra-hmac-sha512$";

/// How hashed passwords begin: ours, those of Xpra, and those of other tables that may be imported.
const HASH_PREFIXES: &[&str] = &[
    "$argon2",
    "$xpra-hmac-",
    "$scram-",
    "SCRAM$",
    "SCRAM-SHA-",
    "$2a$",
    "$2b$",
    "$2y$",
    "$5$",
    "$6$",
    "$y$",
    "$scrypt$",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mechanism::hmac::respond;

    fn proves(secrets: &Secrets, password: &str) -> bool {
        let proof = respond(Hash::Sha512, &Secret::new(password), b"salts");
        secrets.stored().is_some_and(|stored| stored.verifies(Hash::Sha512, b"salts", proof.expose()))
    }

    #[test]
    fn s_092_a_verifier_serves_both_ways_to_log_in_and_holds_no_password() {
        let text = Secrets::derive(&Secret::new("päss-wörd"), true).unwrap().to_verifier().unwrap();
        assert!(text.starts_with("$argon2id$") && text.contains(" $xpra-hmac-sha512$"));
        assert!(text.contains(" SCRAM-SHA-512$100000:") && text.contains(" SCRAM-SHA-256$100000:"));
        let mut spellings = vec!["päss-wörd".to_owned(), STANDARD.encode("päss-wörd")];
        spellings.push("päss-wörd".bytes().map(|byte| format!("{byte:02x}")).collect());
        assert!(spellings.iter().all(|canary| !text.contains(canary)));
        let secrets = Secrets::parse(&text).unwrap();
        assert_eq!(secrets.kinds(), [true, true, true, false]);
        assert_eq!(secrets.scram_hashes().collect::<Vec<_>>(), [Hash::Sha512, Hash::Sha256]);
        assert!(proves(&secrets, "päss-wörd") && secrets.verifies(&Secret::new("päss-wörd")));
        assert!(!proves(&secrets, "wrong") && !secrets.verifies(&Secret::new("wrong")));
        assert_eq!(*secrets.to_verifier().unwrap(), *text);
    }

    #[test]
    fn without_legacy_nothing_is_kept_that_verifies_an_hmac() {
        let secrets = Secrets::derive(&Secret::new("secret"), false).unwrap();
        assert!(!secrets.to_verifier().unwrap().contains("xpra-hmac"));
        assert!(secrets.stored().is_none() && secrets.verifies(&Secret::new("secret")));
    }

    #[test]
    fn each_kind_of_secret_judges_a_cleartext_password() {
        let column = |bytes: &[u8]| Secrets::from_password_column(&Secret::new(bytes)).unwrap();
        let legacy = Secrets::derive(&Secret::new("é"), true).unwrap();
        let legacy = Secrets { argon2id: None, ..legacy };
        for secrets in [column("é".as_bytes()), column(&[0xe9]), legacy] {
            assert!(secrets.verifies(&Secret::new("é")));
            assert!(!secrets.verifies(&Secret::new("e")) && !secrets.verifies(&Secret::new("")));
        }
    }

    #[test]
    fn s_032_s_073_hashes_are_no_passwords_and_nothing_is_no_secret() {
        let empty = Secrets::from_password_column(&Secret::new("")).unwrap();
        assert!(
            empty.stored().is_none() && !empty.verifies(&Secret::new("")) && empty.to_verifier().is_none()
        );
        for hashed in [
            "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
            "$scram-sha-512$x",
            "SCRAM$SHA-256$4096$x",
            "SCRAM-SHA-256$4096:x",
            "$xpra-hmac-sha512$AAAA",
            "$xpra-hmac-sha512$*",
            "$6$salt$hash",
        ] {
            assert!(Secrets::from_password_column(&Secret::new(hashed)).is_err(), "{hashed}");
            assert!(Secrets::parse(hashed).is_err(), "{hashed}");
        }
        assert!(Secrets::parse("cleartext").is_err());
        let dollar = Secrets::from_password_column(&Secret::new("$ecret$")).unwrap();
        assert!(proves(&dollar, "$ecret$"));
    }
}
