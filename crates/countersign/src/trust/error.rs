//! What can go wrong with the trust store, and with an enrolment.

use std::{fmt, path::PathBuf, time::Duration};

use crate::error::ConfigError;

/// The store could not do what it was asked. Reads `what: why`; see [`TrustError::fix`].
#[derive(Debug)]
#[non_exhaustive]
pub enum TrustError {
    /// Another program holds the state directory (S-64).
    Held {
        /// The directory.
        directory: PathBuf,
        /// Its process, as far as it says.
        holder: Option<u32>,
    },
    /// The store is gone although certificates were accepted (S-53).
    Missing(PathBuf),
    /// The store cannot be trusted: cut, altered, or no store at all (S-53).
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A newer version wrote it.
    TooNew {
        /// Its file.
        path: PathBuf,
        /// The version of its form.
        version: i64,
    },
    /// The disk is full or failing, or the file cannot be reached (S-54).
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Others can get at its files.
    Exposed(ConfigError),
    /// There is no such entry, or more than one.
    Unknown(String),
    /// What was given cannot be kept.
    Unacceptable(&'static str),
    /// The system gives no random bytes.
    NoRandomness,
}

impl TrustError {
    /// What to do about it.
    pub fn fix(&self) -> String {
        const RESET: &str = "put a backup of the state directory back; `countersign trust reset` starts anew, and every client enrols again";
        match self {
            Self::Held { .. } => "stop the other program, or use another --state-dir".to_owned(),
            Self::Missing(_) | Self::Damaged { .. } => RESET.to_owned(),
            Self::TooNew { .. } => "use the version of countersign that wrote it, or a newer one".to_owned(),
            Self::Io { .. } => {
                "look at the disk, its space and the directory's permissions, then try again".to_owned()
            }
            Self::Exposed(error) => error.fix().to_owned(),
            Self::Unknown(_) => "see `countersign trust list` for names and fingerprints".to_owned(),
            Self::Unacceptable(_) => "give another".to_owned(),
            Self::NoRandomness => "look at the system's random device".to_owned(),
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { directory, holder } => {
                write!(f, "state directory {}: ", directory.display())?;
                match holder {
                    Some(pid) => write!(f, "process {pid} uses it already"),
                    None => f.write_str("another process uses it already"),
                }
            }
            Self::Missing(path) => {
                write!(f, "trust store {}: it is gone, and certificates had been accepted", path.display())
            }
            Self::Damaged { path, why } => write!(f, "trust store {}: it is damaged: {why}", path.display()),
            Self::TooNew { path, version } => {
                write!(f, "trust store {}: a newer countersign wrote it (form {version})", path.display())
            }
            Self::Io { path, why } => write!(f, "trust store {}: {why}", path.display()),
            Self::Exposed(error) => error.fmt(f),
            Self::Unknown(why) => f.write_str(why),
            Self::Unacceptable(why) => f.write_str(why),
            Self::NoRandomness => f.write_str("the system gives no random bytes"),
        }
    }
}

impl std::error::Error for TrustError {}

impl From<TrustError> for ConfigError {
    fn from(error: TrustError) -> Self {
        let fix = error.fix();
        match error {
            TrustError::Exposed(error) => error,
            error => {
                let text = error.to_string();
                let (what, why) = text.rsplit_once(": ").map_or((text.as_str(), ""), |found| found);
                Self::new(what.to_owned(), why.to_owned(), fix)
            }
        }
    }
}

/// A certificate that was not let in. It prints what its holder is told, with the way out.
#[derive(Debug)]
#[non_exhaustive]
pub enum EnrolError {
    /// The client showed no certificate.
    NoCertificate,
    /// No passphrase is set, or the one that was set has ended.
    NoPassphrase,
    /// The passphrase or the token is not right.
    Wrong,
    /// Too many were wrong.
    TooMany {
        /// When the next one will be judged.
        retry_after: Duration,
    },
    /// The invitation was used, has ended, or was withdrawn.
    Spent,
    /// The certificate was taken back by the owner.
    Revoked,
    /// Somebody else was first.
    Taken,
    /// The store could not keep it (S-54).
    Failed(TrustError),
}

impl EnrolError {
    /// The stable spelling used in audit records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NoPassphrase => "no_passphrase",
            Self::Wrong => "wrong_secret",
            Self::TooMany { .. } => "too_many_guesses",
            Self::Spent => "invitation_spent",
            Self::Revoked => "revoked",
            Self::Taken => "first_place_taken",
            Self::Failed(_) => "store_failed",
        }
    }
}

impl fmt::Display for EnrolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str(
                "no client certificate was shown, and only a certificate can be accepted: let your client make one and connect with it",
            ),
            Self::NoPassphrase => f.write_str(
                "no passphrase is set: an accepted client sets one with `countersign set local.passphrase`, \
                 or the owner of the machine invites you with `countersign trust invite`",
            ),
            Self::Wrong => f.write_str(
                "the passphrase is not right: try again, or ask the owner of the machine to set a new one with \
                 `countersign set local.passphrase`",
            ),
            Self::TooMany { retry_after } => write!(
                f,
                "too many wrong passphrases: the next one is looked at in {} s, or the owner of the machine adds you \
                 with `countersign trust add`",
                retry_after.as_secs()
            ),
            Self::Spent => f.write_str(
                "the invitation was used, has ended, or was withdrawn: ask for a new one (`countersign trust invite`)",
            ),
            Self::Revoked => f.write_str(
                "this certificate was taken back: ask the owner of the machine to add it again with \
                 `countersign trust add`",
            ),
            Self::Taken => f.write_str(
                "another client was first: authenticate with `countersign authenticate`, or ask the owner of the machine",
            ),
            Self::Failed(_) => f.write_str(
                "the certificate could not be kept, so it is not accepted: the owner of the machine finds the reason in the log",
            ),
        }
    }
}

impl std::error::Error for EnrolError {}

impl From<TrustError> for EnrolError {
    fn from(error: TrustError) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_code_of_its_own_and_tells_the_client_what_to_do() {
        let lost = TrustError::Io { path: "state.db".into(), why: "no space left".into() };
        let all = [
            (EnrolError::NoCertificate, "no_certificate", "make one"),
            (EnrolError::NoPassphrase, "no_passphrase", "countersign set local.passphrase"),
            (EnrolError::Wrong, "wrong_secret", "try again"),
            (EnrolError::TooMany { retry_after: Duration::from_secs(27) }, "too_many_guesses", "in 27 s"),
            (EnrolError::Spent, "invitation_spent", "ask for a new one"),
            (EnrolError::Revoked, "revoked", "countersign trust add"),
            (EnrolError::Taken, "first_place_taken", "countersign authenticate"),
            (EnrolError::Failed(lost), "store_failed", "in the log"),
        ];
        for (error, code, way_out) in all {
            assert_eq!(error.code(), code);
            let told = error.to_string();
            assert!(told.contains(way_out) && !told.contains("state.db"), "{told}");
        }
    }
}
