//! Xpra's own encryption: its parameters, its keys, and packets under it.
//!
//! Each side announces how it wants to be written to: the client in each hello, the server in each challenge and in
//! the hello that ends a login. Every announcement replaces the cipher of the other side's direction. There is no
//! integrity: what came may have been altered, and a reader that tells faults apart tells them to whoever altered it
//! (S-38). Random bytes come from outside, and what stretches a key may take its time, so drivers do it aside.

mod modes;
mod sealing;

use std::{fmt, str::FromStr};

use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{Caps, Fault, Value, WireError, caps::bounded_text};
use crate::Secret;
use modes::Transform;
pub use sealing::{Framing, Opener, Sealer};

/// How blocks of AES become a stream. None of them as Xpra has it notices an altered byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Chained blocks, padded; what every release has.
    Cbc,
    /// A counter of 128 bits.
    Ctr,
    /// A counter of 32 bits, begun as GCM begins it. There is no tag.
    Gcm,
    /// Feedback of whole blocks.
    Cfb,
}

impl Mode {
    /// All of them, the one that every release has first.
    pub const ALL: [Self; 4] = [Self::Cbc, Self::Ctr, Self::Gcm, Self::Cfb];

    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cbc => "CBC",
            Self::Ctr => "CTR",
            Self::Gcm => "GCM",
            Self::Cfb => "CFB",
        }
    }
}

/// What a socket or a client is told of encryption: `AES`, or `AES-CBC` for one mode only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cipher {
    /// The only mode, where one is named.
    pub mode: Option<Mode>,
}

impl Cipher {
    /// Whether parameters are of this cipher.
    #[must_use]
    pub fn takes(&self, parameters: &Parameters) -> bool {
        self.mode.is_none_or(|mode| mode == parameters.mode)
    }
}

impl FromStr for Cipher {
    type Err = WireError;

    /// # Errors
    /// [`WireError::Field`] for anything but `AES`, `AES-CBC`, `AES-CTR`, `AES-GCM` and `AES-CFB`.
    fn from_str(text: &str) -> Result<Self, WireError> {
        let upper = text.trim().to_ascii_uppercase();
        let unknown = WireError::Field("cipher", Fault::Value);
        let rest = upper.strip_prefix("AES").ok_or(unknown)?;
        let Some(name) = rest.strip_prefix('-') else {
            return if rest.is_empty() { Ok(Self::default()) } else { Err(unknown) };
        };
        let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
        Ok(Self { mode: Some(mode.ok_or(unknown)?) })
    }
}

/// As it is written in a configuration.
impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mode {
            Some(mode) => write!(f, "AES-{}", mode.name()),
            None => f.write_str("AES"),
        }
    }
}

/// How one side wants to be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    mode: Mode,
    iv: [u8; IV],
    salt: Vec<u8>,
    iterations: u32,
    hash: KeyHash,
    key_size: usize,
    padding: Padding,
    spelling: Spelling,
    /// The key `stream` is there, which peers say that pad to 16 bytes; all others pad to 32.
    streams: bool,
}

impl Parameters {
    /// What a client announces that does not know its server yet. It is written in both forms.
    #[must_use]
    pub fn offered(mode: Mode, random: &[u8; Self::RANDOM]) -> Self {
        let (iv, salt) = fresh(random);
        Self {
            mode,
            iv,
            salt,
            iterations: USUAL_ITERATIONS,
            hash: KeyHash::Sha1,
            key_size: 32,
            padding: Padding::Pkcs7,
            spelling: Spelling::Both,
            streams: true,
        }
    }

    /// What is announced in answer to these: the same cipher in the same form, with fresh salt and iv.
    #[must_use]
    pub fn answered(&self, random: &[u8; Self::RANDOM]) -> Self {
        let (iv, salt) = fresh(random);
        Self { iv, salt, iterations: USUAL_ITERATIONS, padding: Padding::Pkcs7, ..self.clone() }
    }

    /// Reads an announcement out of a hello or a challenge; `None`: there is none.
    ///
    /// # Errors
    /// [`WireError::Field`] for what is missing, of the wrong type or size, or not spoken: another cipher, mode or hash,
    /// a key that is not stretched or by a number of rounds outside [`Parameters::ITERATIONS`] (S-38), one stream for
    /// each packet.
    pub fn read(caps: &Caps) -> Result<Option<Self>, WireError> {
        let nested = matches!(caps.find(NESTED), Some(Value::Dict(_)));
        let announced = Announced { caps, prefix: if nested { NESTED } else { FLAT } };
        let name = if nested { announced.text("cipher")? } else { caps.text(FLAT, Caps::NAME)? };
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        require("cipher", name == "AES")?;
        let stretch = announced.text("key_stretch")?;
        require("key_stretch", stretch.is_none_or(|name| name == STRETCH))?;
        let iv = announced.bytes("iv", IV..=IV)?;
        require("iv", iv.is_ascii())?;
        let streams = announced.find("stream").and_then(Value::as_bool);
        // A stream for each packet is a switch that nobody has on by default.
        require("stream", streams != Some(false))?;
        Ok(Some(Self {
            mode: announced.one_of("mode", Mode::ALL.map(|mode| (mode.name(), mode)), Mode::Cbc)?,
            iv: iv.try_into().map_err(|_| WireError::Field("iv", Fault::Size))?,
            salt: announced.bytes("key_salt", SALTS)?,
            iterations: announced.number("key_stretch_iterations", Self::ITERATIONS)?,
            hash: announced.one_of("key_hash", KeyHash::ALL, KeyHash::Sha1)?,
            key_size: announced.key_size()?,
            padding: announced.one_of("padding", Padding::ALL, Padding::Legacy)?,
            spelling: if nested { Spelling::Nested } else { Spelling::Flat },
            streams: streams.is_some(),
        }))
    }

    /// `caps` with this announcement in place of any other.
    #[must_use]
    pub fn announce(&self, mut caps: Caps) -> Caps {
        caps.drop_named(is_announcement);
        if self.spelling != Spelling::Nested {
            caps = caps.with(FLAT, "AES");
            for (name, value) in self.entries() {
                caps = caps.with(&format!("{FLAT}.{name}"), value);
            }
        }
        if self.spelling != Spelling::Flat {
            let mut entries = self.entries();
            entries.push(("cipher", "AES".into()));
            if self.streams {
                entries.push(("stream", true.into()));
            }
            let entries = entries.into_iter().map(|(name, value)| (name.into(), value)).collect();
            caps = caps.with(NESTED, Value::Dict(entries));
        }
        caps
    }

    /// What both forms say.
    fn entries(&self) -> Vec<(&'static str, Value)> {
        let list = |name: &str| Value::List(vec![name.into()]);
        let padding = self.padding.name();
        vec![
            ("iv", String::from_utf8_lossy(&self.iv).as_ref().into()),
            ("key_salt", Value::Bytes(self.salt.clone())),
            ("key_stretch_iterations", Value::Int(self.iterations.into())),
            ("padding", padding.into()),
            ("padding.options", list(padding)),
            ("mode", self.mode.name().into()),
            ("mode.options", list(self.mode.name())),
            ("key_hash", self.hash.name().into()),
            ("key_size", Value::Int(i64::try_from(self.key_size).unwrap_or_default())),
            ("key_stretch", STRETCH.into()),
            ("key_stretch.options", list(STRETCH)),
        ]
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The block that whoever announced this pads to.
    #[must_use]
    pub fn block(&self) -> Block {
        if self.streams { Block::Sixteen } else { Block::ThirtyTwo }
    }

    /// Stretches the key material that both sides know. It takes up to some hundred milliseconds of one core.
    #[must_use]
    pub fn derive(&self, material: &Secret) -> Key {
        let mut bytes = Zeroizing::new(vec![0; self.key_size]);
        let (material, salt, rounds) = (material.expose(), &self.salt, self.iterations);
        match self.hash {
            KeyHash::Sha1 => pbkdf2_hmac::<Sha1>(material, salt, rounds, &mut bytes),
            KeyHash::Sha224 => pbkdf2_hmac::<Sha224>(material, salt, rounds, &mut bytes),
            KeyHash::Sha256 => pbkdf2_hmac::<Sha256>(material, salt, rounds, &mut bytes),
            KeyHash::Sha384 => pbkdf2_hmac::<Sha384>(material, salt, rounds, &mut bytes),
            KeyHash::Sha512 => pbkdf2_hmac::<Sha512>(material, salt, rounds, &mut bytes),
        }
        let manner = Manner { mode: self.mode, padding: self.padding, block: Some(self.block()) };
        Key { manner, iv: self.iv, bytes }
    }

    /// Random bytes that fresh parameters take.
    pub const RANDOM: usize = IV + SALT;

    /// Rounds of stretching that are done for a peer (S-38).
    pub const ITERATIONS: std::ops::RangeInclusive<u32> = 1_000..=100_000;
}

/// A key with which one direction is encrypted, and how.
pub struct Key {
    manner: Manner,
    iv: [u8; IV],
    bytes: Zeroizing<Vec<u8>>,
}

/// How packets are encrypted, whatever the key.
#[derive(Debug, Clone, Copy)]
struct Manner {
    mode: Mode,
    padding: Padding,
    /// `None`: the first packet tells.
    block: Option<Block>,
}

impl Key {
    /// The same for whoever is written to with this block. `None`: that is not known yet, and the first packet tells.
    #[must_use]
    pub fn padded_to(mut self, block: Option<Block>) -> Self {
        self.manner.block = block;
        self
    }

    fn encryptor(&self) -> Option<Box<dyn Transform>> {
        modes::encryptor(self.manner.mode, &self.bytes, &self.iv)
    }

    fn decryptor(&self) -> Option<Box<dyn Transform>> {
        modes::decryptor(self.manner.mode, &self.bytes, &self.iv)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("manner", &self.manner).finish_non_exhaustive()
    }
}

/// What CBC's packets are padded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Block {
    /// Releases from 6.2 on.
    Sixteen,
    /// Releases from 3.1 to 6.1.
    ThirtyTwo,
}

impl Block {
    fn bytes(self) -> usize {
        match self {
            Self::Sixteen => 16,
            Self::ThirtyTwo => 32,
        }
    }

    /// Bytes behind a payload of `size`: never none.
    fn padding(self, size: usize) -> usize {
        self.bytes() - size % self.bytes()
    }
}

/// What stands behind a payload of CBC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    /// Bytes that each say how many there are.
    Pkcs7,
    /// Spaces.
    Legacy,
}

impl Padding {
    const ALL: [(&'static str, Self); 2] = [("PKCS#7", Self::Pkcs7), ("legacy", Self::Legacy)];

    fn name(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    /// Each of `length` bytes of padding.
    fn byte(self, length: usize) -> u8 {
        match self {
            Self::Pkcs7 => u8::try_from(length).unwrap_or(u8::MAX),
            Self::Legacy => b' ',
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl KeyHash {
    const ALL: [(&'static str, Self); 5] = [
        ("SHA1", Self::Sha1),
        ("SHA224", Self::Sha224),
        ("SHA256", Self::Sha256),
        ("SHA384", Self::Sha384),
        ("SHA512", Self::Sha512),
    ];

    fn name(self) -> &'static str {
        name_in(&Self::ALL, self)
    }
}

/// The form of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// `cipher`, `cipher.iv` and so on: releases from 3.1 to 4.4, and 5 takes it.
    Flat,
    /// One dictionary `encryption`: releases from 5 on.
    Nested,
    /// For whoever it may be.
    Both,
}

/// An announcement while it is read.
struct Announced<'a> {
    caps: &'a Caps,
    prefix: &'static str,
}

impl<'a> Announced<'a> {
    fn find(&self, name: &str) -> Option<&'a Value> {
        self.caps.find(&format!("{}.{name}", self.prefix))
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, WireError> {
        self.find(name).map(|value| bounded_text(name, value, Caps::NAME)).transpose()
    }

    fn one_of<T: Copy, const N: usize>(
        &self,
        name: &'static str,
        known: [(&str, T); N],
        default: T,
    ) -> Result<T, WireError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let found = known.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value).ok_or(WireError::Field(name, Fault::Value))
    }

    fn bytes(
        &self,
        name: &'static str,
        sizes: std::ops::RangeInclusive<usize>,
    ) -> Result<Vec<u8>, WireError> {
        let value = self.find(name).ok_or(WireError::Field(name, Fault::Missing))?;
        let bytes = value.as_bytes().ok_or(WireError::Field(name, Fault::Type))?;
        if sizes.contains(&bytes.len()) {
            Ok(bytes.to_vec())
        } else {
            Err(WireError::Field(name, Fault::Size))
        }
    }

    fn number(&self, name: &'static str, range: std::ops::RangeInclusive<u32>) -> Result<u32, WireError> {
        let value = self.find(name).ok_or(WireError::Field(name, Fault::Missing))?;
        let number = value.as_int().ok_or(WireError::Field(name, Fault::Type))?;
        let number = u32::try_from(number).ok().filter(|number| range.contains(number));
        number.ok_or(WireError::Field(name, Fault::Value))
    }

    fn key_size(&self) -> Result<usize, WireError> {
        const NAME: &str = "key_size";
        if self.find(NAME).is_none() {
            return Ok(32);
        }
        let size = self.number(NAME, 16..=32)?;
        require(NAME, [16, 24, 32].contains(&size))?;
        usize::try_from(size).map_err(|_| WireError::Field(NAME, Fault::Value))
    }
}

/// Takes the key out of what was written for it: the content of a file, or of a variable, without the ends of lines
/// around it. `None`: nothing is left.
#[must_use]
pub fn key_material(content: &Secret) -> Option<Secret> {
    let is_end = |byte: &u8| b"\r\n".contains(byte);
    let bytes = content.expose();
    let start = bytes.iter().position(|byte| !is_end(byte))?;
    let end = bytes.iter().rposition(|byte| !is_end(byte))?;
    bytes.get(start..=end).map(Secret::new)
}

/// Whether the key of a capability belongs to an announcement.
pub(super) fn is_announcement(key: &[u8]) -> bool {
    key == NESTED.as_bytes() || key.starts_with(FLAT.as_bytes())
}

fn require(name: &'static str, holds: bool) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::Field(name, Fault::Value)) }
}

fn name_in<T: PartialEq>(known: &[(&'static str, T)], value: T) -> &'static str {
    known.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
}

/// An iv of 16 characters, because it travels as text, and a salt.
fn fresh(random: &[u8; Parameters::RANDOM]) -> ([u8; IV], Vec<u8>) {
    let (front, salt) = random.split_at(IV);
    let mut iv = [b'0'; IV];
    for (character, byte) in iv.iter_mut().zip(front) {
        *character = ALPHABET.get(usize::from(byte % 64)).copied().unwrap_or(b'0');
    }
    (iv, salt.to_vec())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const IV: usize = 16;
const SALT: usize = 64;

/// Salts that are taken; all peers send 64 bytes.
const SALTS: std::ops::RangeInclusive<usize> = 16..=1024;

/// What every release takes.
const USUAL_ITERATIONS: u32 = 10_000;

const STRETCH: &str = "PBKDF2";
const NESTED: &str = "encryption";
const FLAT: &str = "cipher";

#[cfg(test)]
mod tests;
