//! Files whose content survives a crash whole, and private keys that nobody else ever sees.
//!
//! Called by what keeps keys in the state directory. A file is written under another name in the same
//! directory, synced, put in place in one step, and the directory is synced (S-62).

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use crate::{error::ConfigError, sys::files};

/// Puts `bytes` at `path` in place of what is there, readable as `mode` says from its first moment.
///
/// # Errors
/// The disk is full or failing; what was at `path` is still whole.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    place(path, bytes, mode, |temporary| std::fs::rename(temporary, path))
}

/// Puts `bytes` at `path`, where nothing may be yet. Of several that try at once, one succeeds.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`], or the disk is full or failing; then nothing is at `path`.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    place(path, bytes, mode, |temporary| {
        // A rename would replace; a link never does.
        std::fs::hard_link(temporary, path)?;
        std::fs::remove_file(temporary)
    })
}

/// Makes a directory that only we can enter, or checks that this one is (S-41, S-61).
///
/// # Errors
/// It cannot be made, or others can enter it.
pub(crate) fn private_directory(path: &Path) -> Result<(), ConfigError> {
    let what = || format!("directory {}", path.display());
    let io = |error: io::Error| {
        ConfigError::new(what(), error.to_string(), "name a writable state directory: --state-dir=PATH")
    };
    files::create_private_directory(path).map_err(io)?;
    if !files::is_private_directory(path).map_err(io)? {
        return Err(ConfigError::new(what(), "others can enter it", files::to_close(path)));
    }
    Ok(())
}

/// Reads a file that holds a private key. The checks are made on the opened file.
///
/// Links are followed: certbot's `live/` consists of them. What they lead to is what is judged.
///
/// # Errors
/// It is absent, unreadable, larger than 64 KiB, not ours, or readable by others (S-41).
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let what = || format!("key file {}", path.display());
    let io = |error: io::Error| {
        ConfigError::new(what(), error.to_string(), "make it readable for the user that runs this")
    };
    let file = files::open_key(path).map_err(|fault| ConfigError::new(what(), fault.why(), fault.fix()))?;
    read_whole(file).map_err(io)
}

/// Reads a PEM file that need not be private.
///
/// # Errors
/// It is absent, unreadable, or larger than 64 KiB.
pub(crate) fn read_public(path: &Path) -> Result<Vec<u8>, ConfigError> {
    File::open(path).and_then(read_whole).map_err(|error| {
        let what = format!("certificate file {}", path.display());
        ConfigError::new(what, error.to_string(), "name a readable PEM file")
    })
}

fn read_whole(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 64 KiB"));
    }
    Ok(bytes)
}

fn place(path: &Path, bytes: &[u8], mode: u32, put: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = directory.join(format!(".{}.{:016x}", name.to_string_lossy(), random()?));
    let mut file = files::create_with(&temporary, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| put(&temporary));
    if written.is_err() {
        // The error that matters is the first one; a name left behind does no harm.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    files::sync_directory(directory)
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Bytes of a PEM file that are read.
const LARGEST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn s_062_a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        replace(&path, b"old", 0o600).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["key"]);
        // A directory in its place cannot be replaced: it stays, and so does nothing else.
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(replace(&folder.path().join("taken"), b"x", 0o600).is_err());
        assert_eq!(names(folder.path()), ["key", "taken"]);
    }

    #[test]
    fn s_041_of_many_that_create_at_once_one_wins_and_it_is_never_readable_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("key");
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8_u8).map(|i| scope.spawn(move || create(path, &[i], 0o600).is_ok())).collect();
            tries.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn s_041_keys_that_others_can_read_are_refused_with_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        create(&path, b"secret", 0o600).unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match read_private(&path) {
                Ok(bytes) => assert!(fine && bytes == b"secret", "{mode:o}"),
                Err(error) => {
                    assert!(!fine, "{mode:o}");
                    assert_eq!(error.fix(), format!("chmod 600 {}", path.display()));
                }
            }
        }
        assert!(read_private(folder.path()).is_err());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let error = private_directory(folder.path()).unwrap_err();
        assert_eq!(error.fix(), format!("chmod 700 {}", folder.path().display()));
    }

    #[test]
    fn a_file_is_read_up_to_64_kib_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (length, fine) in [(0, true), (64 * 1024, true), (64 * 1024 + 1, false), (1 << 20, false)] {
            let bytes = vec![b'x'; length];
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            for read in [read_public(&path), read_private(&path)] {
                match read {
                    Ok(read) => assert!(fine && read == bytes, "{length}"),
                    Err(error) => {
                        assert!(!fine && error.to_string().contains("larger than 64 KiB"), "{error}")
                    }
                }
            }
        }
    }

    /// A rename is one step within a file system only, and a name that can be foretold can be taken.
    #[test]
    fn s_062_a_file_is_written_beside_its_place_under_a_name_that_nobody_can_foretell() {
        let folder = tempfile::tempdir().unwrap();
        let named = |path: &Path| {
            let mut seen = None;
            let stop = place(path, b"x", 0o600, |temporary| {
                seen = Some(temporary.to_owned());
                Err(io::ErrorKind::Interrupted.into())
            });
            assert_eq!(stop.unwrap_err().kind(), io::ErrorKind::Interrupted);
            seen.unwrap()
        };
        let path = folder.path().join("key");
        let (one, other) = (named(&path), named(&path));
        assert_eq!((one.parent(), other.parent()), (Some(folder.path()), Some(folder.path())));
        assert_ne!(one, other);
        assert!(names(folder.path()).is_empty(), "what could not be put in place is gone");
    }
}
