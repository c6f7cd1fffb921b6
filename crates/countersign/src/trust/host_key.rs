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

    #[test]
    fn a_key_of_the_operators_is_ed25519_or_ecdsa_and_without_a_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |body: &str| {
            let (begin, end) = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----");
            durable::replace(&path, format!("{begin}\n{body}\n{end}\n").as_bytes(), 0o600).unwrap();
            from_file(&path)
        };
        assert_eq!(read(ECDSA).unwrap().algorithm().as_str(), "ecdsa-sha2-nistp256");
        for (other, why) in [(LOCKED, "it has a passphrase"), (RSA, "of a kind that is not used here")] {
            let error = read(other).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            let line = other.lines().nth(4).unwrap();
            assert!(!error.to_string().contains(line));
        }
    }

    /// Made for this test by `ssh-keygen -t ecdsa -b 256 -N ''`, and used nowhere else, like the others.
    const ECDSA: &str = "\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQRcxI6S9dNIOBngG9fAbZpun3qsS2MO
BYtScNLrhKJbbNnFXoJzJpSJBYf13MTQ48uiaPm5ntWNDX4o+m4icP79AAAAoOxe2g/sXt
oPAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFzEjpL100g4GeAb
18Btmm6feqxLYw4Fi1Jw0uuEolts2cVegnMmlIkFh/XcxNDjy6Jo+bme1Y0Nfij6biJw/v
0AAAAhAL0/gTTr1kK74jMAB3yzYKs6cnkDug7mOhg83IZgv0JjAAAAAAECAwQFBgc=";

    /// `ssh-keygen -t ed25519 -N passphrase -a 1`.
    const LOCKED: &str = "\
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABCSy5NK8V
ZR3dSga72+jJZRAAAAAQAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIMridclOP+hjv5UT
69kW6NuTJxkg2U9or86OTOxu0hawAAAAkHuXuMKJ3/unr/05N2iIk2/SzbgGhwL6gDJMBp
650KleyS4rl4FF+4UscGSUnHRwoXy+uuP5st0KEigA/KMt47CHHOJtf8BPUPtNswtl67Gn
rpi3/nRIcafq6p/tHg1pyeZnVuQSReEVYdzOD4IAJzlFwIbNeXMKZmzsjgr7CPe5oLvJN2
0LK+RqJGD5hSYg1g==";

    /// `ssh-keygen -t rsa -b 1024 -N ''`.
    const RSA: &str = "\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAlwAAAAdzc2gtcn
NhAAAAAwEAAQAAAIEAl9KxSM4I+oxhj7YKXQqMK//ZUiQCrz48V16mMM2oVL/1Ucj3gYmc
eEJxVELs5bJWGDS97XnLihSYO2HhX017twz4ieSqPOZwCW8pcGCOwenZzBUb+x2ts5K7Je
99AI+B4lrQ4x/gyjp1q0+o48Lso5afGqlIoTNpnTkcKeSHfFcAAAH4w98SCcPfEgkAAAAH
c3NoLXJzYQAAAIEAl9KxSM4I+oxhj7YKXQqMK//ZUiQCrz48V16mMM2oVL/1Ucj3gYmceE
JxVELs5bJWGDS97XnLihSYO2HhX017twz4ieSqPOZwCW8pcGCOwenZzBUb+x2ts5K7Je99
AI+B4lrQ4x/gyjp1q0+o48Lso5afGqlIoTNpnTkcKeSHfFcAAAADAQABAAAAgE5ELmKC3H
wVDGJijPsj6djw3x6KM9wVcFP2FiSIkKOIBbZwrK9ZupEAZ53xlmBfTCTUY6jdpcD8FvJd
5ioULpcG0tQKLg2ToqQCfBfJVAC6Jt6bOqbQgZvv8urkJgmU+hki3vxeKB3i2s3BPPssE5
EzG2wkfSOuPalRbjXQhc0RAAAAQQCmMa7Sx4OQd8sS4Mahpzg0ru/vevU2qYC43OpgaUVP
yL6i7NeC0OQ0YYGJkTd4HeXiPJO8vPCIklkX469fLn7uAAAAQQDGa/3Iz1xp4fNdEENJqp
ilEme8j0MfjRbUN4jWSJ/9IJ3Rs3jzJaD1pdzPj0lwcx41mkwpM8aJJYmS2VlrjKf5AAAA
QQDD4Qz58hxfXZI/OmaRXX0r1l3Z9AznLCYxU65CtreFgizZX36rmilgBjb9zWMPbrax12
bCgn8uX8Cjnr2Zd3rPAAAAAAEC";
}
