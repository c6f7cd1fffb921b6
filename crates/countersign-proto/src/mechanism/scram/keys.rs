//! What a server keeps of a password, and how it is made of one.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pbkdf2::pbkdf2_hmac;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::{CLIENT_KEY, Fault, SERVER_KEY, Variant, count, digest, size};
use crate::{
    mechanism::{Hash, hmac::mac},
    secret::Secret,
};

/// What a server keeps of a password: enough to know a proof, and to prove that it is the server,
/// and not enough to log in.
///
/// As text it is `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER`, as PostgreSQL keeps it; the form that
/// Xpra writes, `SCRAM$SCRAM-SHA-256$ITERATIONS$SALT$STORED$SERVER`, is read too.
pub struct Keys {
    pub(super) hash: Hash,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored: Secret,
    pub(super) server: Secret,
}

impl Keys {
    /// The keys of a password under `hash`, which is SHA-512 or SHA-256.
    pub fn derive(hash: Hash, password: &Secret, salt: &[u8], iterations: u32) -> Self {
        let salted = salted(hash, password, salt, iterations);
        let stored = Secret::new(digest(hash, &Zeroizing::new(mac(hash, salted.expose(), CLIENT_KEY))));
        let server = Secret::new(mac(hash, salted.expose(), SERVER_KEY));
        Self { hash, iterations, salt: salt.to_vec(), stored, server }
    }

    /// Keys that no password has, always the same for one `name` under one `key`: what an unknown
    /// user is challenged with (S-26).
    pub fn decoy(hash: Hash, key: &Secret, name: &str, salt: usize, iterations: u32) -> Self {
        let made = |what: &str| mac(hash, key.expose(), format!("{what}\0{name}").as_bytes());
        let mut bytes = made("salt");
        bytes.truncate(salt);
        let (stored, server) = (Secret::new(made("stored")), Secret::new(made("server")));
        Self { hash, iterations, salt: bytes, stored, server }
    }

    /// The hash they are for.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// How often the password was hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Bytes of salt.
    pub fn salt_length(&self) -> usize {
        self.salt.len()
    }

    /// The text that [`Keys::from_str`] reads.
    pub fn to_text(&self) -> String {
        let name = Variant { hash: self.hash, bound: false }.name();
        let code = |bytes: &[u8]| STANDARD.encode(bytes);
        let (salt, stored, server) =
            (code(&self.salt), code(self.stored.expose()), code(self.server.expose()));
        format!("{name}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for Keys {
    type Err = Fault;

    /// Reads either form.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::Malformed("the text holds no keys that can be used");
        let fields: Vec<&str> = match text.strip_prefix("SCRAM$") {
            Some(xpra) => xpra.split('$').collect(),
            None => text.split(['$', ':']).collect(),
        };
        let [name, iterations, salt, stored, server] = *fields else { return Err(wrong()) };
        let variant = Variant::named(name).filter(|variant| !variant.bound).ok_or_else(wrong)?;
        let decode = |field: &str| STANDARD.decode(field).map_err(|_| wrong());
        let iterations = count(iterations).ok_or_else(wrong)?;
        let (salt, stored, server) = (decode(salt)?, decode(stored)?, decode(server)?);
        let size = size(variant.hash);
        if stored.len() != size || server.len() != size || !SALT_BYTES.contains(&salt.len()) {
            return Err(wrong());
        }
        let (stored, server) = (Secret::new(stored), Secret::new(server));
        Ok(Self { hash: variant.hash, iterations, salt, stored, server })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// `Hi(Normalize(password), salt, i)`, which is PBKDF2 with one block.
pub(super) fn salted(hash: Hash, password: &Secret, salt: &[u8], iterations: u32) -> Secret {
    let text = std::str::from_utf8(password.expose());
    // PostgreSQL's rule too: what cannot be prepared is taken as it is.
    let prepared = Zeroizing::new(text.map_or(Vec::new(), |text| prepared(text).into_owned().into_bytes()));
    let password = if text.is_ok() { &prepared[..] } else { password.expose() };
    let mut out = Zeroizing::new(vec![0; size(hash)]);
    match hash {
        Hash::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out),
        _ => pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
    }
    Secret::new(std::mem::take(&mut *out))
}

/// SASLprep (RFC 4013), where it has a form for the text.
fn prepared(text: &str) -> Cow<'_, str> {
    stringprep::saslprep(text).unwrap_or(Cow::Borrowed(text))
}

/// Bytes of salt that are taken: 16 are usual.
pub(super) const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=128;
