//! `ssh-key`: a signature by a key that OpenSSH keeps, over this login (`docs/protocol/ssh-key.md`).
//!
//! Both ends make the same [`Login::statement`]; the client has it signed as `ssh-keygen -Y sign -n
//! countersign` would (OpenSSH's PROTOCOL.sshsig), so that no signature made here is one for SSH itself
//! or for anything else, and the server reads the [`Signed`] that comes back.

use sha2::{Digest as _, Sha256, Sha512};

/// The wire name.
pub const NAME: &str = "ssh-key";

/// The mechanism where SSH itself is the wire: its own login has checked the signature, for its session, and the
/// answer is the key or certificate.
pub const IN_SSH: &str = "ssh-key:ssh";

/// What an SSHSIG signature for us is for.
pub const NAMESPACE: &str = "countersign";

/// What a client answers that has no further key, so that the server can close the matter.
pub const NO_MORE: &[u8] = b"no more keys";

/// What a signature is about: one login on one connection.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a signature is about all of this and nothing else")]
pub struct Login<'a> {
    /// Who logs in; empty for nobody.
    pub name: &'a str,
    /// `tls-exporter` data of the connection (RFC 9266), where both ends have it.
    pub binding: Option<&'a [u8]>,
    /// Both salts, so that nothing is signed twice.
    pub server_salt: &'a [u8],
    /// The client's.
    pub client_salt: &'a [u8],
}

impl Login<'_> {
    /// The mechanism of a challenge, which says what the signature has to cover.
    pub fn asking(bound: bool) -> String {
        format!("{NAME}:{}", kind(bound))
    }

    /// Reads [`Login::asking`]: whether the signature is to be bound.
    pub fn asked(mechanism: &str) -> Option<bool> {
        [true, false].into_iter().find(|bound| Self::asking(*bound) == mechanism)
    }

    /// The bytes that are signed for.
    pub fn statement(&self) -> Vec<u8> {
        let (kind, binding) = (kind(self.binding.is_some()), self.binding.unwrap_or_default());
        let mut statement = Vec::with_capacity(512);
        for part in [
            b"countersign ssh-key 1",
            self.name.as_bytes(),
            kind.as_bytes(),
            binding,
            self.server_salt,
            self.client_salt,
        ] {
            put(&mut statement, part);
        }
        statement
    }
}

/// What a signature covers beside the salts.
fn kind(bound: bool) -> &'static str {
    if bound { "tls-exporter" } else { "salts" }
}

/// What a key puts its signature under for a statement, hashed by SHA-512.
pub fn to_be_signed(statement: &[u8]) -> Vec<u8> {
    signed_bytes("sha512", &Sha512::digest(statement))
}

/// A signature as it travels: SSHSIG without its armour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed<'a> {
    /// The public key or certificate, as SSH encodes it.
    pub key: &'a [u8],
    /// The signature, as SSH encodes it.
    pub signature: &'a [u8],
    /// Whether the statement was hashed by SHA-256 rather than SHA-512.
    sha256: bool,
}

impl<'a> Signed<'a> {
    /// A signature over [`to_be_signed`].
    pub fn new(key: &'a [u8], signature: &'a [u8]) -> Self {
        Self { key, signature, sha256: false }
    }

    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, &1_u32.to_be_bytes()].concat();
        let hash: &[u8] = if self.sha256 { b"sha256" } else { b"sha512" };
        for part in [self.key, NAMESPACE.as_bytes(), b"", hash, self.signature] {
            put(&mut bytes, part);
        }
        bytes
    }

    /// Reads [`Signed::to_bytes`]. `None` for anything else, signatures for another namespace included.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.strip_prefix(MAGIC)?);
        let version = reader.u32()?;
        let (key, namespace, reserved) = (reader.string()?, reader.string()?, reader.string()?);
        let (hash, signature) = (reader.string()?, reader.string()?);
        let sha256 = hash == b"sha256";
        let whole =
            version == 1 && reader.is_at_end() && reserved.is_empty() && (sha256 || hash == b"sha512");
        (whole && namespace == NAMESPACE.as_bytes()).then_some(Self { key, signature, sha256 })
    }

    /// What the signature must be for, if it is about this statement.
    pub fn covers(&self, statement: &[u8]) -> Vec<u8> {
        match self.sha256 {
            true => signed_bytes("sha256", &Sha256::digest(statement)),
            false => to_be_signed(statement),
        }
    }
}

fn signed_bytes(hash: &str, digest: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for part in [NAMESPACE.as_bytes(), b"", hash.as_bytes(), digest] {
        put(&mut bytes, part);
    }
    bytes
}

/// Appends a string as SSH encodes it (RFC 4251 section 5). What is signed here is far from 4 GiB.
pub fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Reads values as SSH encodes them. `None` where the bytes end early.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A string: its length, then its bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// How SSHSIG begins. What SSH itself has signed begins with a length, which this is not.
const MAGIC: &[u8] = b"SSHSIG";

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'_> =
        Login { name: "alice", binding: None, server_salt: &[1; 64], client_salt: &[2; 32] };

    #[test]
    fn s_035_a_statement_is_about_one_user_on_one_connection() {
        let statement = LOGIN.statement();
        for other in [
            Login { name: "alic", ..LOGIN },
            Login { binding: Some(b"session"), ..LOGIN },
            Login { binding: Some(b""), ..LOGIN },
            Login { server_salt: &[1; 63], ..LOGIN },
            Login { client_salt: &[3; 32], ..LOGIN },
            Login { server_salt: LOGIN.client_salt, client_salt: LOGIN.server_salt, ..LOGIN },
        ] {
            assert_ne!(other.statement(), statement, "{other:?}");
        }
        // A login of SSH signs a string first: a session id. No length is this large.
        assert!(to_be_signed(&statement).starts_with(b"SSHSIG\0\0\0\x0bcountersign"));
        assert_eq!(Login::asked(&Login::asking(true)), Some(true));
        assert_eq!(Login::asked(&Login::asking(false)), Some(false));
        assert!(["ssh-key", "ssh-key:", "ssh-key:none"].iter().all(|name| Login::asked(name).is_none()));
    }

    #[test]
    fn a_signature_survives_the_way_and_nothing_else_is_one() {
        let bytes = Signed::new(b"key", b"signature").to_bytes();
        let read = Signed::read(&bytes).unwrap();
        assert_eq!((read.key, read.signature), (&b"key"[..], &b"signature"[..]));
        assert_eq!(read.covers(b"x"), to_be_signed(b"x"));
        for length in 0..bytes.len() {
            assert!(Signed::read(&bytes[..length]).is_none(), "{length}");
        }
        assert!(Signed::read(&[&bytes[..], b"x"].concat()).is_none());
        let foreign = |from: &[u8], to: &[u8]| {
            let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
            let mut changed = bytes.clone();
            changed[at..at + to.len()].copy_from_slice(to);
            changed
        };
        for changed in [
            foreign(b"countersign", b"git-signing"),
            foreign(b"sha512", b"sha384"),
            foreign(b"SSHSIG\0\0\0\x01", b"SSHSIG\0\0\0\x02"),
        ] {
            assert!(Signed::read(&changed).is_none());
        }
        let sha256 = foreign(b"sha512", b"sha256");
        assert_ne!(Signed::read(&sha256).unwrap().covers(b"x"), to_be_signed(b"x"));
    }
}
