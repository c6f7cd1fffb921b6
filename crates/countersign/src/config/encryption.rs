//! Xpra's encryption on a socket: the cipher, and its key.
//!
//! [`super::socket`] reads these options of each socket, and the key with them.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::wires::Protocol;
use crate::{
    Secret, error::ConfigError, modules::Options, proto::wire::xpra::cipher::Cipher, sys::files,
    transport::Encryption,
};

/// What `encryption=` and its key say. Whoever does not encrypt so is refused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EncryptionOptions {
    /// The cipher and the key, which is never a password of the chain: who listens could try passwords against it (W36).
    pub terms: Encryption,
    /// The key is written in the option itself.
    pub(super) is_written: bool,
}

impl EncryptionOptions {
    /// `None` where nothing of it is written.
    pub(super) fn take(options: &mut Options, protocol: Protocol) -> Result<Option<Self>, ConfigError> {
        let cipher = options.take(CIPHER)?;
        let key = match (options.take(FILE)?, options.take(DATA)?) {
            (Some(_), Some(_)) => {
                return Err(options.error(DATA, "there is a key file too", "write one of the two"));
            }
            (Some(path), None) if path.is_empty() => {
                return Err(options.error(FILE, "it is empty", "write a path"));
            }
            (Some(path), None) => Some(KeySource::File(PathBuf::from(path.as_str()))),
            (None, Some(text)) => Some(KeySource::Data(written_key(&text, options)?)),
            (None, None) => None,
        };
        // As Xpra has it, a key without a cipher is one for AES.
        let (cipher, key) = match (cipher, key) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                let why = "its key is missing, and no password of the chain stands in for it";
                return Err(options.error(CIPHER, why, "write keyfile=FILE beside it"));
            }
            (Some(cipher), Some(key)) => (cipher.parse().map_err(|_| unknown(options))?, key),
            (None, Some(key)) => (Cipher::default(), key),
        };
        if matches!(protocol, Protocol::Stream | Protocol::Rpc) {
            let why = "it is agreed upon in Xpra's packets, and none are spoken on this socket";
            return Err(options.error(CIPHER, why, "use TLS (require-tls=yes, bind-ssl), or protocol=xpra"));
        }
        let (name, content, is_written) = match key {
            KeySource::Data(data) => (DATA, data, true),
            KeySource::File(path) => (FILE, read_key(&path, FILE)?, false),
        };
        let terms = Encryption::new(cipher, &content);
        let terms = terms.ok_or_else(|| options.error(name, "there is no key in it", "write one"))?;
        Ok(Some(Self { terms, is_written }))
    }

    /// The option that the key itself is written in, if it is.
    pub(super) fn written_key(&self) -> Option<&'static str> {
        self.is_written.then_some(DATA)
    }
}

/// Where the key is.
enum KeySource {
    File(PathBuf),
    Data(Secret),
}

fn written_key(text: &str, options: &Options) -> Result<Secret, ConfigError> {
    let fix = "write 0xHEX, b64:BASE64 or base64:BASE64, or put the key into a file: keyfile=FILE";
    key_data(text).ok_or_else(|| options.error(DATA, "it is no key", fix))
}

/// Reads a file that holds a key, which only its owner may read.
///
/// # Errors
/// It is missing, open to others, or too large. `option` is the one that names it.
pub fn read_key(path: &Path, option: &str) -> Result<Secret, ConfigError> {
    let fault = |why: String, fix: String| ConfigError::new(format!("{option} {}", path.display()), why, fix);
    let file =
        files::open_private(path, false).map_err(|error| fault(error.why().into_owned(), error.fix()))?;
    let mut content = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut content);
    let content = Secret::new(content);
    match read {
        Ok(length) if length as u64 <= LARGEST => Ok(content),
        Ok(_) => Err(fault("it is larger than a key".to_owned(), "name the right file".to_owned())),
        Err(error) => Err(fault(format!("it cannot be read: {error}"), "check the file".to_owned())),
    }
}

/// Key material in an option, in any of the forms that Xpra reads: `0xHEX`, `b64:`, `base64:`, or hexadecimal digits or
/// base64 as they are.
fn key_data(text: &str) -> Option<Secret> {
    let text = text.trim();
    let after = |prefix: &str| {
        let head = text.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix));
        head.and_then(|head| text.get(head.len()..))
    };
    let decoded = match (after("0x"), after("b64:").or_else(|| after("base64:"))) {
        (Some(digits), _) => hex(digits),
        (_, Some(data)) => BASE64.decode(data).ok(),
        _ => hex(text).or_else(|| BASE64.decode(text).ok()),
    };
    decoded.filter(|bytes| !bytes.is_empty()).map(Secret::new)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn unknown(options: &Options) -> ConfigError {
    options.error(CIPHER, "there is no such cipher", "write AES, AES-CBC, AES-CTR, AES-GCM or AES-CFB")
}

const CIPHER: &str = "encryption";
const FILE: &str = "keyfile";
const DATA: &str = "keydata";

/// Bytes of a file with a key.
const LARGEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_every_form_of_xpras() {
        for text in ["0x6b6579", "0X6B6579", "6b6579", "b64:a2V5", "base64:a2V5", "BASE64:a2V5", "a2V5"] {
            assert_eq!(key_data(text).map(|key| key.expose().to_vec()), Some(b"key".to_vec()), "{text}");
        }
        for text in ["", "0x", "0x6", "0xzz", "b64:", "b64:?", "not a key"] {
            assert!(key_data(text).is_none(), "{text}");
        }
    }
}
