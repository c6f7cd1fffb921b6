//! How a proof travels. Each file holds both ends' arithmetic of one family.

use std::{convert::Infallible, fmt, str::FromStr};

pub mod hmac;
pub mod otp;
pub mod scram;
pub mod ssh_key;
pub mod ticket;
pub mod xor;

/// A mechanism by its wire name. Xpra calls it *digest*.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// `hmac+HASH`: the secret is the key of an HMAC over the combined salts.
    Hmac(Hash),
    /// `xor`: the secret itself, masked with the combined salts. Readable by who sees the salts.
    Xor,
    /// Any other name, with its argument if it has one (`u2f:xor`, `kerberos:host`). Also every
    /// name that must never be used (`des`, `hmac+md5`): those are nobody's to compute.
    Other(String),
}

impl FromStr for Mechanism {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(match name {
            "xor" => Self::Xor,
            _ => Hash::STRONGEST_FIRST
                .into_iter()
                .map(Self::Hmac)
                .find(|hmac| hmac.name() == name)
                .unwrap_or_else(|| Self::Other(name.to_owned())),
        })
    }
}

impl Mechanism {
    /// The name on the wire, with its argument.
    pub fn name(&self) -> &str {
        match self {
            Self::Hmac(Hash::Sha512) => "hmac+sha512",
            Self::Hmac(Hash::Sha384) => "hmac+sha384",
            Self::Hmac(Hash::Sha256) => "hmac+sha256",
            Self::Hmac(Hash::Sha224) => "hmac+sha224",
            Self::Xor => "xor",
            Self::Other(name) => name,
        }
    }

    /// The round of SCRAM that a challenge asks for, if it is SCRAM's.
    pub fn scram(&self) -> Option<(scram::Variant, scram::Stage)> {
        match self {
            Self::Other(name) => scram::Variant::asked(name),
            _ => None,
        }
    }

    /// The mechanism as a record of the login names it: without the round, which is all that SCRAM's
    /// argument says.
    #[must_use]
    pub fn recorded(&self) -> Self {
        self.scram().map_or_else(|| self.clone(), |(variant, _)| Self::Other(variant.name().to_owned()))
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mechanism of our two ends: the response is a bearer token (RFC 6750) as it is, so the wire must be
/// confidential; the message means nothing.
pub const OAUTH: &str = "oauth";

/// The hash functions that may be used under HMAC: SHA-2 (FIPS 180-4). MD5 and SHA-1 never (S-29).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a new hash must be weighed wherever one is chosen")]
pub enum Hash {
    /// SHA-512.
    Sha512,
    /// SHA-384.
    Sha384,
    /// SHA-256.
    Sha256,
    /// SHA-224.
    Sha224,
}

impl Hash {
    /// The order of preference of every Xpra server, and ours.
    pub const STRONGEST_FIRST: [Self; 4] = [Self::Sha512, Self::Sha384, Self::Sha256, Self::Sha224];

    /// The strongest hash whose HMAC is in `names`.
    pub fn strongest_in(names: &[String]) -> Option<Self> {
        Self::STRONGEST_FIRST.into_iter().find(|&hash| {
            let hmac = Mechanism::Hmac(hash);
            names.iter().any(|name| name == hmac.name())
        })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha512 => "sha512",
            Self::Sha384 => "sha384",
            Self::Sha256 => "sha256",
            Self::Sha224 => "sha224",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip_and_weak_ones_stay_strangers() {
        for name in
            ["hmac+sha512", "hmac+sha384", "hmac+sha256", "hmac+sha224", "xor", "u2f:xor", "des", "hmac+md5"]
        {
            assert_eq!(name.parse::<Mechanism>().unwrap().to_string(), name);
        }
        for name in ["des", "hmac+md5", "hmac+sha1", "hmac", "HMAC+SHA512"] {
            assert!(matches!(name.parse(), Ok(Mechanism::Other(_))), "{name}");
        }
    }
}
