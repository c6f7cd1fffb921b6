//! What the state directory knows of a trail: the key of its chain, and the last record that was written.

use std::{
    fmt,
    fs::{File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use zeroize::Zeroizing;

use super::record::{Mac, hex, unhex};
use crate::{
    error::ConfigError,
    sys::files::{open_or_create_private, open_private},
    trust::durable::{create, private_directory},
};

/// The key of a chain. Who has it can make records.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key in a state directory.
    ///
    /// # Errors
    /// There is none, or others can read it (S-41).
    pub fn of(state_dir: &Path) -> Result<Self, ConfigError> {
        Self::read(&state_dir.join(KEY))
    }

    /// A copy of a key, somewhere.
    ///
    /// # Errors
    /// As [`Key::of`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let what = || format!("audit key {}", path.display());
        let file =
            open_private(path, false).map_err(|fault| ConfigError::new(what(), fault.why(), fault.fix()))?;
        let mut bytes = Zeroizing::new([0; 32]);
        let whole = { file }.read_exact(bytes.as_mut_slice());
        whole
            .map_err(|_| ConfigError::new(what(), "it has less than 32 bytes", "restore it from a backup"))?;
        Ok(Self(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The key in a state directory, made if there is none.
    fn of_or_new(state_dir: &Path) -> Result<Self, ConfigError> {
        private_directory(state_dir)?;
        let path = state_dir.join(KEY);
        if path.symlink_metadata().is_err() {
            let mut bytes = Zeroizing::new([0; 32]);
            let made = getrandom::fill(bytes.as_mut_slice())
                .map_err(io::Error::other)
                .and_then(|()| create(&path, bytes.as_slice(), 0o600));
            match made {
                // Another one was faster: the one that is there counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(|error| unwritable(&path, &error))?,
            }
        }
        Self::read(&path)
    }
}

/// Never its bytes (S-88).
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The last record of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) mac: Mac,
}

impl Head {
    /// What the state directory says of the end of the trail. `None`: it does not know.
    pub(super) fn of(state_dir: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(state_dir.join(HEAD)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (seq, mac) = text.trim_end().split_once(' ')?;
        Some(Self { seq: seq.parse().ok()?, mac: unhex(mac)? })
    }
}

/// The chain's place in the state directory, for one gateway at a time.
#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) key: Key,
    /// What was written last when this gateway started.
    pub(super) head: Option<Head>,
    file: File,
}

impl Anchor {
    /// # Errors
    /// Its files cannot be made or read, or another gateway has it (S-64).
    pub(super) fn take(state_dir: &Path) -> Result<Self, ConfigError> {
        let key = Key::of_or_new(state_dir)?;
        let path = state_dir.join(HEAD);
        let mut file = open_or_create_private(&path).map_err(|error| unwritable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let fix = "give each gateway its own state directory: --state-dir=PATH";
                return Err(ConfigError::new("the audit trail", "another gateway writes it", fix));
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(&path, &error)),
        }
        let mut text = String::new();
        // One that was damaged is as good as none: what it is for is then lost once, and said.
        let _ = (&mut file).take(LONGEST).read_to_string(&mut text);
        Ok(Self { key, head: Head::parse(&text), file })
    }

    /// Notes the last record that is in the file.
    pub(super) fn note(&mut self, head: Head) -> io::Result<()> {
        self.file.rewind()?;
        // In one step, and always of one length, so that none is ever longer than what replaces it.
        self.file.write_all(format!("{:020} {}\n", head.seq, hex(&head.mac)).as_bytes())
    }
}

fn unwritable(path: &Path, error: &io::Error) -> ConfigError {
    let fix = "name a writable state directory: --state-dir=PATH";
    ConfigError::new(path.display().to_string(), error.to_string(), fix)
}

/// 32 random bytes, 0600.
const KEY: &str = "audit.key";

/// Number and code of the last record.
const HEAD: &str = "audit.head";

/// Bytes of that file, and some.
const LONGEST: u64 = 128;
