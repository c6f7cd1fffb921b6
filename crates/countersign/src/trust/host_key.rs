//! The key by which SSH clients know the gateway: made at first start, kept, or the operator's file.
//!
//! In `STATE_DIR/ssh/host_ed25519` (0600), as OpenSSH keeps its own. Called when a gateway with a socket of SSH is
//! opened.

use std::path::Path;

use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use zeroize::Zeroizing;

use super::durable;
use crate::error::ConfigError;

/// The key in `state_directory`, made now if this is the first start.
///
/// # Errors
/// A file that others can read (S-41), is damaged, or cannot be written.
pub fn open(state_directory: &Path) -> Result<PrivateKey, ConfigError> {
    let directory = state_directory.join("ssh");
    durable::private_directory(&directory)?;
    let path = directory.join("host_ed25519");
    let cannot = |error: std::io::Error| {
        let fix = "name a writable state directory: --state-dir=PATH";
        ConfigError::new(format!("key file {}", path.display()), error.to_string(), fix)
    };
    if !path.try_exists().map_err(cannot)? {
        match durable::create(&path, made().map_err(cannot)?.as_bytes(), 0o600) {
            // Another gateway of this directory was first.
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(error)),
            _ => {}
        }
    }
    from_file(&path)
}

/// The key in a file of OpenSSH's format, without a passphrase: Ed25519 or ECDSA.
///
/// # Errors
/// The file is unreadable, others can read it (S-41), or it holds no such key.
pub fn from_file(path: &Path) -> Result<PrivateKey, ConfigError> {
    let text = Zeroizing::new(durable::read_private(path)?);
    let wrong = |why: &'static str, fix: &'static str| {
        ConfigError::new(format!("key file {}", path.display()), why, fix)
    };
    let key = PrivateKey::from_openssh(&*text).map_err(|_| {
        wrong("it is no private key of OpenSSH's", "make one with ssh-keygen -t ed25519 -N ''")
    })?;
    match (key.is_encrypted(), key.algorithm().as_str()) {
        (true, _) => Err(wrong("it has a passphrase", "take it off with ssh-keygen -p -N ''")),
        (false, "ssh-ed25519") => Ok(key),
        (false, ecdsa) if ecdsa.starts_with("ecdsa-sha2-") => Ok(key),
        // Of RSA too: the time that signing by it takes would tell the key (RUSTSEC-2023-0071, decision 0026).
        _ => {
            let fix = "make one of Ed25519: ssh-keygen -t ed25519 -N '' -f FILE";
            Err(wrong("it is of a kind that is not used here: Ed25519 and ECDSA are", fix))
        }
    }
}

fn made() -> std::io::Result<Zeroizing<String>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(std::io::Error::other)?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.to_openssh(LineEnding::LF).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn s_041_the_key_is_made_once_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert_eq!(open(folder.path()).unwrap().public_key(), first.public_key());
        let path = folder.path().join("ssh/host_ed25519");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("host_ed25519"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("no private key"));
    }
}
