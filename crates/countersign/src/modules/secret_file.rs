//! A file that holds secrets, read again when it changes. For the modules `file` and `multifile`.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::Options;
use crate::{
    ConfigError, Refusal, Secret,
    sys::files::{self, FileFault, Stamp},
};

/// A file of 1 to [`MAX_BYTES`] bytes and what was last made of it.
///
/// Every look opens the file and judges the descriptor (S-61); the content is read again if the
/// file is another one, or was written to, since (S-79, W14).
pub(super) struct SecretFile<T> {
    path: PathBuf,
    insecure: bool,
    last: Mutex<Option<(Stamp, Arc<T>)>>,
}

/// Why there is nothing to check with.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The file itself.
    File(FileFault),
    /// What is in it. Never repeats any of it.
    Content(String),
}

impl<T> SecretFile<T> {
    /// Takes the options `filename` and `insecure`. Nothing is opened yet.
    ///
    /// # Errors
    /// The file name is missing, or `insecure` is no answer.
    pub(super) fn from_options(options: &mut Options) -> Result<Self, ConfigError> {
        let path = options.path("filename")?;
        let insecure = options.flag("insecure", false)?;
        Ok(Self::new(path, insecure))
    }

    /// The file at `path`; with `insecure`, others may be able to get at it. Nothing is opened yet.
    pub(super) fn new(path: PathBuf, insecure: bool) -> Self {
        Self { path, insecure, last: Mutex::new(None) }
    }

    /// What the file holds now. `parse` is given the content, and what the file held before.
    ///
    /// # Errors
    /// The file is gone, open to others, empty or too large, or `parse` says no.
    pub(super) fn load(
        &self,
        parse: impl FnOnce(Secret, Option<Arc<T>>) -> Result<Arc<T>, String>,
    ) -> Result<Arc<T>, Unusable> {
        let file = files::open_private(&self.path, self.insecure).map_err(Unusable::File)?;
        let unreadable = |error: std::io::Error| Unusable::Content(format!("it cannot be read: {error}"));
        let stamp = Stamp::of(&file).map_err(unreadable)?;
        let mut last = self.last.lock();
        match &*last {
            Some((seen, value)) if *seen == stamp => return Ok(Arc::clone(value)),
            _ => {}
        }
        let settled = Stamp::settled(&file).map_err(unreadable)?;
        let content = read(file).map_err(unreadable)?;
        if content.is_empty() || content.expose().len() > MAX_BYTES {
            return Err(Unusable::Content("it must hold 1 to 65536 bytes".to_owned()));
        }
        let before = last.take().map(|(_, value)| value);
        match parse(content, before.clone()) {
            Ok(value) => {
                *last = Some((settled, Arc::clone(&value)));
                Ok(value)
            }
            Err(why) => {
                *last = before.map(|value| (Stamp::default(), value));
                Err(Unusable::Content(why))
            }
        }
    }
}

impl Unusable {
    /// The same, found at start.
    pub(super) fn at_start(&self, options: &Options) -> ConfigError {
        match self {
            Self::File(fault) => options.error("filename", fault.to_string(), fault.fix()),
            Self::Content(why) => options.error("filename", why.clone(), "correct the file"),
        }
    }

    /// The same, found at a login: the module cannot decide, so nobody passes (S-65).
    pub(super) fn at_login(&self) -> Refusal {
        match self {
            Self::File(fault) => Refusal::module_failed(format!("{fault}. {}", fault.fix())),
            Self::Content(why) => Refusal::module_failed(format!("the file is not used: {why}")),
        }
    }
}

fn read(file: File) -> std::io::Result<Secret> {
    // Room for all that may come, so that no outgrown copy of the secret is left behind (S-91).
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 2));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(Secret::new(content.as_slice()))
}

/// The password in a file of one line that only we can read: one that we prove, and never check.
///
/// # Errors
/// What is wrong with the file, and what to do about it.
pub(super) fn password_in(path: &Path) -> Result<Secret, (String, String)> {
    let file = files::open_private(path, false).map_err(|fault| (fault.to_string(), fault.fix()))?;
    let bad = |why: &str| (format!("{}: {why}", path.display()), "write the password into it".to_owned());
    let mut content = Zeroizing::new(Vec::with_capacity(MOST_LINE + 1));
    file.take(MOST_LINE as u64).read_to_end(&mut content).map_err(|error| bad(&error.to_string()))?;
    let line = content.strip_suffix(b"\n").unwrap_or(&content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_text = std::str::from_utf8(line).is_ok_and(|line| !line.contains(['\0', '\n']));
    if line.is_empty() || content.len() == MOST_LINE || !is_text {
        return Err(bad("it holds no password of one line"));
    }
    Ok(Secret::new(line))
}

/// The largest file of a password of ours.
const MOST_LINE: usize = 4096;

/// The largest file in bytes (S-79).
const MAX_BYTES: usize = 65_536;
