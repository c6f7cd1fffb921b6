//! A key in a file: for programs that log in, for tests, and where there is no device.
//!
//! It proves what a file proves: whoever copies it has the key, and it takes nobody's touch. The file is
//! its owner's alone; its last line is the counter, written back in place before a signature leaves.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{
    Algorithm, Assertion, Authenticator, KeyError, Kind, NewKey, PublicKey, Registered, Signing,
    assertion::{hash, signed},
};
use crate::sys::files;

/// A key in a file.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

/// A private key, ready to sign.
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl KeyFile {
    /// The key at `path`, which may not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn broken(&self, why: impl std::fmt::Display) -> KeyError {
        KeyError::Broken(format!("{}: {why}", self.path.display()))
    }

    /// Opens the file for itself alone until it is closed: two logins at once get two counters.
    fn open(&self) -> Result<File, KeyError> {
        // Judged on a descriptor of its own, for that one is for reading.
        files::open_private(&self.path, false).map_err(|fault| KeyError::Broken(fault.to_string()))?;
        let file = files::open_to_write(&self.path).map_err(|error| self.broken(error))?;
        file.lock().map_err(|error| self.broken(error))?;
        Ok(file)
    }

    /// The key, and where its counter stands in the file.
    fn read(&self, mut file: &File) -> Result<(Pair, u64, u32), KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(MOST_BYTES));
        let read = (&mut file).take(MOST_BYTES as u64).read_to_string(&mut text);
        read.map_err(|error| self.broken(error))?;
        let other = || self.broken("it holds no key of `countersign keys add --keyfile`");
        let mut lines = text.lines();
        let algorithm = lines.next().and_then(|line| line.strip_prefix(MAGIC)).ok_or_else(other)?;
        let encoded = lines.next().ok_or_else(other)?;
        let key = STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_| other())?;
        let counter = lines.next().filter(|line| line.len() == DIGITS).ok_or_else(other)?;
        let at = (MAGIC.len() + algorithm.len() + encoded.len() + 2) as u64;
        let pair = Pair::read(algorithm, &key).ok_or_else(other)?;
        Ok((pair, at, counter.parse().map_err(|_| other())?))
    }
}

impl Authenticator for KeyFile {
    fn register(&mut self, new: &NewKey<'_>) -> Result<Registered, KeyError> {
        let document = match new.algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                    .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            }
            Algorithm::EdDsa if new.kind == Kind::U2f => {
                return Err(KeyError::Unable("u2f knows ES256 only".to_owned()));
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map(|document| Zeroizing::new(document.as_ref().to_vec())),
        };
        let document =
            document.map_err(|_| KeyError::Unable("the system gives no random bytes".to_owned()))?;
        let name = new.algorithm.name();
        let pair = Pair::read(name, &document).ok_or_else(|| self.broken("the key cannot be made"))?;
        let encoded = Zeroizing::new(STANDARD.encode(&*document));
        let text = Zeroizing::new(format!("{MAGIC}{name}\n{}\n{:0DIGITS$}\n", *encoded, 0));
        let written = files::create_private(&self.path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|error| self.broken(error))?;
        let key = pair.public().map_err(|why| self.broken(why))?;
        Ok(Registered { handle: handle(&key), key })
    }

    fn sign(&mut self, signing: &Signing<'_>) -> Result<Assertion, KeyError> {
        let mut file = self.open()?;
        let (pair, at, counter) = self.read(&file)?;
        let key = pair.public().map_err(|why| self.broken(why))?;
        if !signing.handle.is_empty() && signing.handle != handle(&key) {
            return Err(KeyError::NotMine);
        }
        let counter = counter.checked_add(1).ok_or_else(|| self.broken("its counter is at its end"))?;
        // First the counter: a signature whose count is forgotten would be the last one that is taken.
        let kept = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| write!(file, "{counter:0DIGITS$}"))
            .and_then(|()| file.sync_data());
        kept.map_err(|error| self.broken(error))?;
        let message = signed(signing.app_id, Assertion::PRESENT, counter, &signing.client_data_hash);
        let signature = pair.sign(&message).ok_or_else(|| self.broken("it does not sign"))?;
        Ok(Assertion::new(Assertion::PRESENT, counter, signature))
    }
}

impl Pair {
    fn read(algorithm: &str, document: &[u8]) -> Option<Self> {
        if algorithm == Algorithm::Es256.name() {
            return EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document).ok().map(Self::Es256);
        }
        let found = (algorithm == Algorithm::EdDsa.name()).then(|| Ed25519KeyPair::from_pkcs8(document).ok());
        found.flatten().map(Self::EdDsa)
    }

    fn public(&self) -> Result<PublicKey, &'static str> {
        match self {
            Self::Es256(pair) => PublicKey::new(Algorithm::Es256, pair.public_key().as_ref()),
            Self::EdDsa(pair) => PublicKey::new(Algorithm::EdDsa, pair.public_key().as_ref()),
        }
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Es256(pair) => {
                pair.sign(&SystemRandom::new(), message).ok().map(|made| made.as_ref().to_vec())
            }
            Self::EdDsa(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// There is one key in the file, so this only says whether that one is meant.
fn handle(key: &PublicKey) -> Vec<u8> {
    hash(key.to_hex().as_bytes()).to_vec()
}

const MAGIC: &str = "countersign-key ";

/// Of `u32::MAX`, so that the counter is always written over itself.
const DIGITS: usize = 10;

/// More than any of these keys needs.
const MOST_BYTES: usize = 1024;

#[cfg(test)]
impl KeyFile {
    /// A signature with these flags, and this count or the next one: what a key could be made to say.
    pub(crate) fn sign_as(
        &self,
        app_id: &str,
        flags: u8,
        counter: Option<u32>,
        client_data_hash: &[u8; 32],
    ) -> Assertion {
        let signing = Signing { kind: Kind::Fido2, app_id, client_data_hash: *client_data_hash, handle: &[] };
        let counted = self.clone().sign(&signing).unwrap();
        let (pair, ..) = self.read(&self.open().unwrap()).unwrap();
        let counter = counter.unwrap_or(counted.counter);
        let signature = pair.sign(&signed(app_id, flags, counter, client_data_hash)).unwrap();
        Assertion::new(flags, counter, signature)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn new(kind: Kind, algorithm: Algorithm) -> NewKey<'static> {
        NewKey { kind, app_id: "Xpra", user: "alice", algorithm }
    }

    fn signing(handle: &[u8]) -> Signing<'_> {
        Signing { kind: Kind::Fido2, app_id: "Xpra", client_data_hash: [7; 32], handle }
    }

    #[test]
    fn it_signs_as_its_public_half_says_and_counts_in_its_file() {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let mut file = KeyFile::at(folder.path().join(algorithm.name()));
            let made = file.register(&new(Kind::Fido2, algorithm)).unwrap();
            assert!(file.register(&new(Kind::Fido2, algorithm)).is_err(), "a key is never written over");
            for count in 1..4 {
                let assertion = file.sign(&signing(&made.handle)).unwrap();
                assert_eq!((assertion.flags, assertion.counter), (Assertion::PRESENT, count));
                assert!(made.key.verifies(&assertion.signed("Xpra", &[7; 32]), &assertion.signature));
                assert!(!made.key.verifies(&assertion.signed("other", &[7; 32]), &assertion.signature));
                assert!(!made.key.verifies(&assertion.signed("Xpra", &[8; 32]), &assertion.signature));
            }
            assert!(matches!(file.sign(&signing(&[1; 32])), Err(KeyError::NotMine)));
        }
        let mut u2f = KeyFile::at(folder.path().join("u2f"));
        assert!(u2f.register(&new(Kind::U2f, Algorithm::EdDsa)).is_err());
    }

    #[test]
    fn many_at_once_get_a_counter_each() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = KeyFile::at(folder.path().join("key"));
        file.register(&new(Kind::U2f, Algorithm::Es256)).unwrap();
        let mut counters: Vec<u32> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let mut file = file.clone();
                    scope.spawn(move || file.sign(&signing(&[])).unwrap().counter)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        counters.sort_unstable();
        assert_eq!(counters, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn s_061_a_file_that_others_read_or_that_is_another_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut file = KeyFile::at(&path);
        assert!(file.sign(&signing(&[])).is_err());
        file.register(&new(Kind::U2f, Algorithm::Es256)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(file.sign(&signing(&[])).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "countersign-key ES256\nAAAA\n0000000000\n").unwrap();
        let error = file.sign(&signing(&[])).unwrap_err().to_string();
        assert!(error.contains("holds no key") && !error.contains("AAAA"), "{error}");
    }
}
