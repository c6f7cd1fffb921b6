//! A security key that knows nothing of the gateway, and a verifier of such: Python's `fido2`. The program lies in
//! `fido/`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Place, process::must};

/// A key made by Python.
#[derive(Debug)]
pub struct Key {
    /// Its public half, a `SubjectPublicKeyInfo` in hexadecimal digits.
    pub public: String,
    place: Place,
}

/// What is signed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// `u2f` or `webauthn`: whose client data.
    pub dialect: &'a str,
    /// The application or relying party.
    pub app: &'a str,
    /// Where the client believes to log in.
    pub origin: &'a str,
    /// The bits of what the key saw.
    pub flags: u8,
    /// How often it signed.
    pub counter: u32,
}

impl Key {
    /// Makes a key: `ES256` or `EdDSA`.
    #[must_use]
    pub fn new(algorithm: &str) -> Self {
        let place = Place::new();
        let public = python(&["new", algorithm, &place.text("key")]);
        Self { public, place }
    }

    /// The environment of a program of Python that finds this key where it looks for one of hardware.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let device = Path::new(env!("CARGO_MANIFEST_DIR")).join("fido/device");
        let device = device.to_str().expect("a UTF-8 path").to_owned();
        vec![("SOFT_KEY", self.place.text("key")), ("PYTHONPATH", device)]
    }

    /// The response to a challenge, and what is sent beside it. Python verifies it, too, before it comes.
    #[must_use]
    pub fn sign(&self, how: &Signing<'_>, challenge: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (flags, counter) = (how.flags.to_string(), how.counter.to_string());
        let path = self.place.text("key");
        let said =
            python(&["sign", &path, how.dialect, how.app, how.origin, &hex(challenge), &flags, &counter]);
        let (response, beside) = said.split_once(' ').expect("two values");
        (unhex(response), unhex(beside))
    }
}

/// Whether Python takes `response` as the signature of this key: then what the key saw, and its counter.
#[must_use]
pub fn verify(public: &str, app: &str, origin: &str, challenge: &[u8], response: &[u8]) -> (u8, u32) {
    let said = python(&["verify", public, app, origin, &hex(challenge), &hex(response)]);
    let (flags, counter) = said.split_once(' ').expect("two values");
    (flags.parse().expect("flags"), counter.parse().expect("a counter"))
}

/// A folder for `PYTHONPATH`. Xpra 3.1 verifies by a method that `cryptography` has dropped since, so that no key logs in
/// at Debian's: this gives the method back, with the library's present one behind it. Xpra itself stays as it is.
#[must_use]
pub fn with_the_verifier_that_xpra_calls() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fido/verifier")
}

fn python(arguments: &[&str]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("fido/key.py");
    // The system's Python is the one that has Debian's packages.
    must(Command::new("/usr/bin/python3").arg(program).args(arguments)).trim().to_owned()
}

/// Hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}
