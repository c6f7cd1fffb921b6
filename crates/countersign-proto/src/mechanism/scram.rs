//! SCRAM (RFC 5802, RFC 7677), with and without channel binding by `tls-exporter` (RFC 9266).
//!
//! ```text
//! client-first   n,,n=alice,r=NONCE              ClientFirst::new       Greeting::read
//! server-first   r=NONCE...,s=SALT,i=COUNT       ClientFirst::prove     Greeting::answer
//! client-final   c=BINDING,r=NONCE...,p=PROOF    ClientFirst::prove     Pending::judge
//! server-final   v=SIGNATURE                     Expected::confirm      Pending::judge
//! ```
//!
//! The server keeps [`Keys`], with which nobody can log in; the client learns from the last message
//! whether the server has them. Each step consumes the one before, so that no nonce and no key
//! answers twice. Both ends stand in one file, so that each message is beside its reader; what a server keeps is in
//! `keys.rs`. How they travel: `docs/protocol/xpra.md`, SCRAM.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

mod keys;

pub use self::keys::Keys;

use self::keys::{SALT_BYTES, salted};
use super::{Hash, hmac::mac};
use crate::secret::Secret;

/// A member of the family: a hash, and whether the login is bound to the TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    hash: Hash,
    bound: bool,
}

impl Variant {
    /// The order of preference: what is bound first (RFC 5802 section 6), SHA-1 never (S-34).
    pub const STRONGEST_FIRST: [Self; 4] = [
        Self { hash: Hash::Sha512, bound: true },
        Self { hash: Hash::Sha256, bound: true },
        Self { hash: Hash::Sha512, bound: false },
        Self { hash: Hash::Sha256, bound: false },
    ];

    /// The hash: SHA-512 or SHA-256.
    pub fn hash(self) -> Hash {
        self.hash
    }

    /// Whether the login is bound to the TLS session (`-PLUS`).
    pub fn is_bound(self) -> bool {
        self.bound
    }

    /// The name that clients list.
    pub fn name(self) -> &'static str {
        match (self.hash, self.bound) {
            (Hash::Sha512, true) => "SCRAM-SHA-512-PLUS",
            (Hash::Sha512, false) => "SCRAM-SHA-512",
            (_, true) => "SCRAM-SHA-256-PLUS",
            (_, false) => "SCRAM-SHA-256",
        }
    }

    /// The variant of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::STRONGEST_FIRST.into_iter().find(|variant| variant.name() == name)
    }

    /// The mechanism of a challenge that asks for this round: `SCRAM-SHA-256:client-first`.
    pub fn asking(self, stage: Stage) -> String {
        format!("{}:{}", self.name(), stage.name())
    }

    /// Reads [`Variant::asking`].
    pub fn asked(mechanism: &str) -> Option<(Self, Stage)> {
        let (name, stage) = mechanism.split_once(':')?;
        let stages = [Stage::ClientFirst, Stage::ServerFirst, Stage::ServerFinal];
        Some((Self::named(name)?, stages.into_iter().find(|known| known.name() == stage)?))
    }
}

/// The rounds of a login, by what the challenge carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 5802 has these")]
pub enum Stage {
    /// Nothing: the client begins.
    ClientFirst,
    /// The server's first message; the answer is the client's proof.
    ServerFirst,
    /// The server's proof; the answer is [`DONE`].
    ServerFinal,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::ClientFirst => "client-first",
            Self::ServerFirst => "server-first",
            Self::ServerFinal => "server-final",
        }
    }
}

/// What the client says to a right [`Stage::ServerFinal`].
pub const DONE: &[u8] = b"OK";

/// Iterations that are read and answered: RFC 7677 section 4 and S-34.
pub const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=10_000_000;

/// Iterations of new keys (S-34).
pub const NEW_ITERATIONS: u32 = 100_000;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each has its own answer")]
pub enum Fault {
    /// No correct peer sends it.
    Malformed(&'static str),
    /// The two ends do not agree on the channel that they talk through: somebody is in between, or
    /// took the better variants off the client's list (RFC 5802 section 6, S-34).
    Channel(&'static str),
    /// The proof is not that of the password, or the signature not that of its server.
    Wrong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Channel(why) => f.write_str(why),
            Self::Wrong => f.write_str("the proof is wrong"),
        }
    }
}

impl std::error::Error for Fault {}

// === the server's end ===

/// The client's first message, as a server reads it.
#[derive(Debug)]
pub struct Greeting {
    variant: Variant,
    name: String,
    bare: String,
    nonce: String,
    /// What the client must repeat of the channel (`c=`).
    channel: String,
}

impl Greeting {
    /// Reads a client-first message on a connection whose TLS session has this `binding`, if any.
    ///
    /// # Errors
    /// [`Fault::Channel`] for a client that could have bound the login and thinks we could not, and
    /// for any other binding than ours. [`Fault::Malformed`] for the rest, `m=` and other things that
    /// must not be passed over included.
    pub fn read(variant: Variant, binding: Option<&[u8]>, message: &[u8]) -> Result<Self, Fault> {
        let text = text(message)?;
        let mut parts = text.splitn(3, ',');
        let mut next = || parts.next().ok_or(Fault::Malformed("the client's first message is cut short"));
        let (flag, authzid, bare) = (next()?, next()?, next()?);
        let bound = judge_flag(flag, variant, binding)?;
        let mut fields = bare.split(',');
        let name = unescape(field(fields.next(), "n=")?)?;
        if !authzid.is_empty() && unescape(field(Some(authzid), "a=")?)? != name {
            return Err(Fault::Malformed("the client wants to act as somebody else"));
        }
        let nonce = field(fields.next(), "r=")?;
        if !is_nonce(nonce) {
            return Err(Fault::Malformed("the client's nonce is empty, long or unprintable"));
        }
        let header = format!("{flag},{authzid},");
        let channel = STANDARD.encode([header.as_bytes(), bound.unwrap_or_default()].concat());
        let (bare, nonce) = (bare.to_owned(), nonce.to_owned());
        Ok(Self { variant, name, bare, nonce, channel })
    }

    /// The name in the message; empty from clients that name themselves elsewhere.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's first message, with a `nonce` of random bytes, and what follows it.
    ///
    /// # Errors
    /// The keys are for another hash than the login.
    pub fn answer(self, nonce: &[u8], keys: Keys) -> Result<(Vec<u8>, Pending), Fault> {
        if keys.hash != self.variant.hash {
            return Err(Fault::Malformed("the keys are for another hash"));
        }
        let nonce = format!("{}{}", self.nonce, STANDARD.encode(nonce));
        let first = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
        let signed = format!("{},{first}", self.bare);
        let pending = Pending { keys, signed, expected: format!("c={},r={nonce}", self.channel) };
        Ok((first.into_bytes(), pending))
    }
}

/// A server that waits for the client's proof.
#[derive(Debug)]
pub struct Pending {
    keys: Keys,
    /// The messages so far, with commas between.
    signed: String,
    /// How the client's last message begins.
    expected: String,
}

impl Pending {
    /// Judges a client-final message, and makes the server-final one.
    ///
    /// # Errors
    /// [`Fault::Wrong`] for a wrong proof. [`Fault::Channel`] for another channel or nonce than this
    /// login's.
    pub fn judge(self, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let (spoken, proof) =
            text(message)?.rsplit_once(",p=").ok_or(Fault::Malformed("the proof is missing"))?;
        // What follows the nonce may be extensions, which are signed and mean nothing to us.
        let rest = spoken.strip_prefix(&*self.expected).ok_or(Fault::Channel(OTHER_CHANNEL))?;
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(Fault::Channel(OTHER_CHANNEL));
        }
        let Keys { hash, stored, server, .. } = self.keys;
        let proof = STANDARD.decode(proof).map_err(|_| Fault::Malformed("the proof is no base64"))?;
        let signed = format!("{},{spoken}", self.signed);
        let signature = mac(hash, stored.expose(), signed.as_bytes());
        let client_key = Zeroizing::new(xor(&proof, &signature).ok_or(Fault::Wrong)?);
        if !bool::from(digest(hash, &client_key).ct_eq(stored.expose())) {
            return Err(Fault::Wrong);
        }
        let signature = mac(hash, server.expose(), signed.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

/// The channel binding that the client must repeat, by its flag.
fn judge_flag<'a>(
    flag: &str,
    variant: Variant,
    binding: Option<&'a [u8]>,
) -> Result<Option<&'a [u8]>, Fault> {
    match (flag, variant.bound, binding) {
        ("n", false, _) | ("y", false, None) => Ok(None),
        ("y", false, Some(_)) => {
            Err(Fault::Channel("the client could bind the login, and was told that we cannot"))
        }
        (BOUND, true, Some(binding)) => Ok(Some(binding)),
        (flag, _, _) if flag == "n" || flag == "y" || flag.starts_with("p=") => {
            Err(Fault::Channel("the client binds the login in another way than was asked"))
        }
        _ => Err(Fault::Malformed("the client does not say how it binds the login")),
    }
}

// === the client's end ===

/// A client that has begun.
#[derive(Debug)]
pub struct ClientFirst {
    variant: Variant,
    header: &'static str,
    binding: Vec<u8>,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Begins as `name` (empty for nobody) with a `nonce` of random bytes, on a connection whose TLS
    /// session has this `binding`, if any.
    ///
    /// # Errors
    /// [`Fault::Channel`] if the login is to be bound and cannot be; [`Fault::Malformed`] without a nonce.
    pub fn new(variant: Variant, name: &str, nonce: &[u8], binding: Option<&[u8]>) -> Result<Self, Fault> {
        let (header, binding) = match (variant.bound, binding) {
            (true, Some(binding)) => ("p=tls-exporter,,", binding.to_vec()),
            (true, None) => return Err(Fault::Channel("this connection has nothing to bind the login to")),
            // The server learns that we could, so that nobody in between can hide that it can (S-34).
            (false, Some(_)) => ("y,,", Vec::new()),
            (false, None) => ("n,,", Vec::new()),
        };
        if nonce.len() < 16 {
            return Err(Fault::Malformed("there is no randomness for a nonce"));
        }
        let nonce = STANDARD.encode(nonce);
        // Names are compared as they are (S-69), so this one is not prepared like a password.
        let name = name.replace('=', "=3D").replace(',', "=2C");
        Ok(Self { variant, header, binding, bare: format!("n={name},r={nonce}"), nonce })
    }

    /// The first message.
    pub fn message(&self) -> Vec<u8> {
        format!("{}{}", self.header, self.bare).into_bytes()
    }

    /// Answers the server's first message with the proof, and says what it will be confirmed by.
    ///
    /// This takes as long as the server's iterations: microseconds each, ten million at most.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for a message that no correct server sends, or iterations out of
    /// [`ITERATIONS`].
    pub fn prove(self, server_first: &[u8], password: &Secret) -> Result<(Vec<u8>, Expected), Fault> {
        let first = text(server_first)?;
        let mut fields = first.split(',');
        let nonce = field(fields.next(), "r=")?;
        let fresh = nonce.strip_prefix(&*self.nonce).ok_or(Fault::Malformed("the nonce is not ours"))?;
        if !is_nonce(fresh) {
            return Err(Fault::Malformed("the server adds nothing to the nonce"));
        }
        let salt = STANDARD.decode(field(fields.next(), "s=")?).ok();
        let salt = salt.filter(|salt| SALT_BYTES.contains(&salt.len()));
        let salt = salt.ok_or(Fault::Malformed("the salt is missing or of no good length"))?;
        let iterations = count(field(fields.next(), "i=")?)
            .ok_or(Fault::Malformed("the iterations are fewer than 4,096 or more than 10,000,000"))?;
        let channel = STANDARD.encode([self.header.as_bytes(), &self.binding].concat());
        let spoken = format!("c={channel},r={nonce}");
        let signed = format!("{},{first},{spoken}", self.bare);
        let hash = self.variant.hash;
        let salted = salted(hash, password, &salt, iterations);
        let client_key = Zeroizing::new(mac(hash, salted.expose(), CLIENT_KEY));
        let signature = mac(hash, &digest(hash, &client_key), signed.as_bytes());
        let proof = xor(&client_key, &signature).ok_or(Fault::Wrong)?;
        let server_key = Zeroizing::new(mac(hash, salted.expose(), SERVER_KEY));
        let expected = Expected(Secret::new(mac(hash, &server_key, signed.as_bytes())));
        Ok((format!("{spoken},p={}", STANDARD.encode(proof)).into_bytes(), expected))
    }
}

/// The signature of a server that knows the password.
#[derive(Debug)]
pub struct Expected(Secret);

impl Expected {
    /// Whether a server-final message is from a server that knows the password.
    ///
    /// # Errors
    /// It is not, and the server is not the one that the password is for.
    pub fn confirm(self, server_final: &[u8]) -> Result<(), Fault> {
        let signature = field(text(server_final)?.split(',').next(), "v=")?;
        let signature =
            STANDARD.decode(signature).map_err(|_| Fault::Malformed("the signature is no base64"))?;
        if self.0.matches(&signature) { Ok(()) } else { Err(Fault::Wrong) }
    }
}

// === both ends ===

fn digest(hash: Hash, bytes: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha512 => Sha512::digest(bytes).to_vec(),
        _ => Sha256::digest(bytes).to_vec(),
    }
}

fn size(hash: Hash) -> usize {
    if hash == Hash::Sha512 { 64 } else { 32 }
}

/// `None` unless both have the same length.
fn xor(one: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    (one.len() == other.len()).then(|| one.iter().zip(other).map(|(a, b)| a ^ b).collect())
}

fn text(message: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(message).map_err(|_| Fault::Malformed("the message is no UTF-8"))
}

/// The value of the field that is due. Any other one there (`m=` is one) must not be passed over.
fn field<'a>(field: Option<&'a str>, key: &str) -> Result<&'a str, Fault> {
    field
        .and_then(|field| field.strip_prefix(key))
        .ok_or(Fault::Malformed("a field is missing or out of place"))
}

fn unescape(name: &str) -> Result<String, Fault> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.extend(parts.next());
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Fault::Malformed("the name holds a `=` that means nothing")),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Ok(plain)
}

/// RFC 5802 section 7: printable ASCII without a comma.
fn is_nonce(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn count(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|count| plain && ITERATIONS.contains(count))
}

const CLIENT_KEY: &[u8] = b"Client Key";
const SERVER_KEY: &[u8] = b"Server Key";

/// The flag of a login that is bound.
const BOUND: &str = "p=tls-exporter";

const OTHER_CHANNEL: &str = "the client's proof is for another connection";

#[cfg(test)]
mod tests;
