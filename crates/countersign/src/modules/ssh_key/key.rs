//! Public keys of OpenSSH, and signatures by them.
//!
//! Ed25519, ECDSA on the three NIST curves, RSA of 2,048 bits and more with SHA-2, and the two kinds on
//! security keys (OpenSSH's PROTOCOL.u2f). SHA-1 and DSA are never looked at.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};

use crate::proto::mechanism::ssh_key::Reader;

/// A public key.
pub(super) struct PublicKey<'a> {
    kind: Kind,
    fields: Vec<&'a [u8]>,
}

/// The kinds of keys, by what they sign with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519,
    P256,
    P384,
    P521,
    Rsa,
    SkEd25519,
    SkP256,
}

/// What a security key says of the person who used it. Of other keys nothing is known, and nothing asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    /// It is a security key.
    pub(super) told: bool,
    /// Somebody touched it.
    pub(super) touched: bool,
    /// Somebody gave it a PIN or a finger.
    pub(super) verified: bool,
}

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 7] =
        [Self::Ed25519, Self::P256, Self::P384, Self::P521, Self::Rsa, Self::SkEd25519, Self::SkP256];

    /// The kind of that name, as it stands in front of a key.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
            Self::P521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
            Self::SkP256 => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    /// How a certificate for such a key begins.
    pub(super) fn certificate_name(self) -> String {
        format!("{}-cert-v01@openssh.com", self.name().trim_end_matches("@openssh.com"))
    }

    /// How many strings a key consists of, after its name.
    fn fields(self) -> usize {
        match self {
            Self::Ed25519 => 1,
            Self::SkP256 => 3,
            _ => 2,
        }
    }
}

impl<'a> PublicKey<'a> {
    /// Reads a key as SSH encodes it. `None` for other kinds, and for anything behind it.
    pub(super) fn read(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(blob);
        let kind = Kind::named(reader.string()?)?;
        let key = Self::read_fields(kind, &mut reader)?;
        reader.is_at_end().then_some(key)
    }

    /// Reads the fields of a key of this kind.
    pub(super) fn read_fields(kind: Kind, reader: &mut Reader<'a>) -> Option<Self> {
        let fields = (0..kind.fields()).map(|_| reader.string()).collect::<Option<Vec<_>>>()?;
        Some(Self { kind, fields })
    }

    /// What is known of a person whose signature somebody else has checked.
    pub(super) fn untold(&self) -> Presence {
        let told = matches!(self.kind, Kind::SkEd25519 | Kind::SkP256);
        Presence { told, touched: false, verified: false }
    }

    /// Whether `signature`, as SSH encodes it, is this key's over `message`, and what it says of a person.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Option<Presence> {
        let mut reader = Reader::new(signature);
        let (algorithm, proof) = (reader.string()?, reader.string()?);
        let nothing = Presence { told: false, touched: false, verified: false };
        let (covered, presence) = match self.kind {
            Kind::SkEd25519 | Kind::SkP256 => {
                let (flags, counter) = (reader.byte()?, reader.u32()?);
                let application = Sha256::digest(self.fields.last()?);
                let covered =
                    [&application[..], &[flags], &counter.to_be_bytes(), &Sha256::digest(message)].concat();
                let presence = Presence { told: true, touched: flags & 1 != 0, verified: flags & 4 != 0 };
                (covered, presence)
            }
            _ => (message.to_vec(), nothing),
        };
        let right = reader.is_at_end() && self.verify_with(algorithm, &covered, proof)?;
        right.then_some(presence)
    }

    fn verify_with(&self, algorithm: &[u8], message: &[u8], proof: &[u8]) -> Option<bool> {
        let (one, two) = (*self.fields.first()?, self.fields.get(1).copied());
        if self.kind == Kind::Rsa {
            let parameters = match algorithm {
                b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                b"rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                _ => return Some(false),
            };
            return rsa(parameters, (one, two?), message, proof);
        }
        if algorithm != self.kind.name().as_bytes() {
            return Some(false);
        }
        let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], proof: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(message, proof).is_ok()
        };
        let curve = |name: &[u8]| one == name;
        Some(match self.kind {
            Kind::Ed25519 | Kind::SkEd25519 => by(&ED25519, one, proof),
            Kind::P256 | Kind::SkP256 => {
                curve(b"nistp256") && by(&ECDSA_P256_SHA256_FIXED, two?, &fixed(proof, 32)?)
            }
            Kind::P384 => curve(b"nistp384") && by(&ECDSA_P384_SHA384_FIXED, two?, &fixed(proof, 48)?),
            Kind::P521 => curve(b"nistp521") && by(&ECDSA_P521_SHA512_FIXED, two?, &fixed(proof, 66)?),
            Kind::Rsa => false,
        })
    }
}

fn rsa(parameters: &RsaParameters, (e, n): (&[u8], &[u8]), message: &[u8], proof: &[u8]) -> Option<bool> {
    let (e, n) = (magnitude(e)?, magnitude(n)?);
    // RFC 8017 wants the length of the modulus; some programs leave zeros in front out.
    let proof = padded(proof, n.len())?;
    Some(RsaPublicKeyComponents { n, e }.verify(parameters, message, &proof).is_ok())
}

/// Both numbers of an ECDSA signature at their full length (RFC 5656 section 3.1.2).
fn fixed(proof: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut reader = Reader::new(proof);
    let (r, s) = (magnitude(reader.string()?)?, magnitude(reader.string()?)?);
    let both = [padded(r, size)?, padded(s, size)?].concat();
    reader.is_at_end().then_some(both)
}

/// The bytes of a number that is not negative (RFC 4251 section 5), without zeros in front.
fn magnitude(mpint: &[u8]) -> Option<&[u8]> {
    match mpint {
        [0, rest @ ..] => Some(rest),
        [first, ..] if first & 0x80 != 0 => None,
        other => Some(other),
    }
}

fn padded(number: &[u8], size: usize) -> Option<Vec<u8>> {
    let zeros = size.checked_sub(number.len())?;
    Some([&vec![0; zeros][..], number].concat())
}
