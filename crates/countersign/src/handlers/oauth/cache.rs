//! Tokens that are kept for the next login, in a file for their owner alone.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Secret, proto::client::Failure, sys::files};

/// The file of one client at one issuer; none where there is no home to keep it in.
#[derive(Debug)]
pub(super) struct Cache(Option<PathBuf>);

/// What is in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) access_token: Hidden,
    pub(super) refresh_token: Option<Hidden>,
    /// When the access token ends, in seconds since 1970.
    pub(super) expires: u64,
}

impl Cache {
    /// The file at `path`.
    pub(super) fn at(path: impl Into<PathBuf>) -> Self {
        Self(Some(path.into()))
    }

    /// The user's own file for what these words name together.
    pub(super) fn of_user(words: &[&str]) -> Self {
        use etcetera::{BaseStrategy as _, base_strategy::Xdg};
        let Ok(folders) = Xdg::new() else { return Self(None) };
        let state = folders.state_dir().unwrap_or_else(|| folders.home_dir().join(".local/state"));
        let mut hash = Sha256::new();
        for word in words {
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word);
        }
        let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self(Some(state.join("countersign/tokens").join(format!("{name}.json"))))
    }

    /// What was kept, if anything was.
    ///
    /// # Errors
    /// Others can get at the file. One that cannot be understood is as good as none.
    pub(super) fn read(&self) -> Result<Option<Kept>, Failure> {
        let Some(path) = self.0.as_deref().filter(|path| fs::symlink_metadata(path).is_ok()) else {
            return Ok(None);
        };
        let file = files::open_private(path, false)
            .map_err(|fault| Failure::unusable(format!("token file {fault}"), fault.fix()))?;
        let mut text = Zeroizing::new(Vec::with_capacity(MOST_BYTES));
        let read = file.take(MOST_BYTES as u64).read_to_end(&mut text);
        Ok(read.ok().and_then(|_| serde_json::from_slice(&text).ok()))
    }

    /// Keeps it. A disk that does not take it costs the next login a question, not this one.
    pub(super) fn write(&self, kept: &Kept) {
        if let Some(path) = &self.0
            && let Err(error) = replace(path, kept)
        {
            tracing::warn!("the token cannot be kept in {}: {error}", path.display());
        }
    }
}

/// Puts the file in place in one step (S-62).
fn replace(path: &Path, kept: &Kept) -> io::Result<()> {
    let directory = files::directory_of(path);
    files::create_private_directory(directory)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let temporary = directory.join(format!(".token.{:016x}", u64::from_ne_bytes(random)));
    let text = Zeroizing::new(serde_json::to_vec(kept).map_err(io::Error::other)?);
    let mut file = files::create_private(&temporary)?;
    let written = file.write_all(&text).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A secret text in JSON.
pub(super) struct Hidden(pub(super) Secret);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(Secret::new(text))),
            false => Err(D::Error::custom("it holds what no token does")),
        }
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.0.expose()).map_err(|_| S::Error::custom("it is no text"))?;
        serializer.serialize_str(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes of the file that are read.
const MOST_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn kept(token: &str) -> Kept {
        let hidden = |text: &str| Hidden(Secret::new(text));
        Kept { access_token: hidden(token), refresh_token: Some(hidden("again")), expires: 4_000_000_000 }
    }

    #[test]
    fn s_061_tokens_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/token.json");
        let cache = Cache::at(&path);
        assert!(cache.read().unwrap().is_none());
        cache.write(&kept("one"));
        cache.write(&kept("two"));
        let found = cache.read().unwrap().unwrap();
        assert!(found.access_token.0.matches(b"two") && found.refresh_token.unwrap().0.matches(b"again"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(!format!("{:?}", kept("hunter2")).contains("hunter2"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = cache.read().unwrap_err();
        assert_eq!(failure.fix.unwrap(), format!("chmod 600 {}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(cache.read().unwrap().is_none());
    }

    #[test]
    fn each_client_has_a_file_of_its_own() {
        let path = |words: &[&str]| Cache::of_user(words).0;
        assert_eq!(path(&["a", "b"]), path(&["a", "b"]));
        assert_ne!(path(&["a", "b"]), path(&["ab", ""]));
    }
}
