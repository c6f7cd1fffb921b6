//! One program at a time for a state directory, and its name for the others (S-64).

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use super::TrustError;
use crate::sys::files::open_or_create_private;

/// The lock on a state directory. It ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the directory for this process.
    ///
    /// # Errors
    /// Another process has it, or its file cannot be made.
    pub(super) fn take(directory: &Path) -> Result<Self, TrustError> {
        let path = directory.join(NAME);
        let failed = |error: std::io::Error| TrustError::Io { path: path.clone(), why: error.to_string() };
        let mut file = open_or_create_private(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who it is only helps the reader of the message.
                let _ = (&file).take(20).read_to_string(&mut holder);
                let holder = holder.trim().parse().ok();
                return Err(TrustError::Held { directory: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // A full disk has no room for the name, and is no reason not to start (S-54).
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

/// The file that is locked; it holds the number of the process.
const NAME: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_064_the_second_gives_up_and_names_the_holder() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {} uses it", std::process::id())), "{error}");
        drop(held);
        Lock::take(folder.path()).unwrap();
    }
}
