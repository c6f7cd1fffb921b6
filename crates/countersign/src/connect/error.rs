//! Why there is no connection, told so that it can be mended, with the exit code for commands.

use std::{borrow::Cow, fmt};

use crate::{
    error::ConfigError,
    proto::client::{Failure, FailureKind},
};

/// A connection that did not come about, or broke.
///
/// It reads `what: why`; neither holds a secret, and words of the server's stand between quotation
/// marks (S-46, S-88).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    cause: Cause,
    what: Cow<'static, str>,
    why: Cow<'static, str>,
    fix: Option<Cow<'static, str>>,
}

/// Whose affair it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// What the caller wrote.
    Usage,
    /// Nothing answers at the address.
    Unreachable,
    /// The server is not known to be the right one, or not reached in a way that is allowed.
    Unverified,
    /// The login itself.
    Login(FailureKind),
    /// This machine: a file, a descriptor, a broken stream.
    System,
}

impl ConnectError {
    /// `what` names the thing, `why` what is wrong with it. Neither ends with a full stop.
    pub fn new(cause: Cause, what: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self { cause, what: what.into(), why: why.into(), fix: None }
    }

    /// The same error with the way out of it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<Cow<'static, str>>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A login at `server` that failed.
    pub fn login(server: impl fmt::Display, failure: &Failure) -> Self {
        let error = Self::new(Cause::Login(failure.kind), server.to_string(), failure.to_string());
        Self { fix: failure.fix.clone(), ..error }
    }

    /// A connection to `server` that broke after the login.
    pub fn broken(server: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Cause::System, server.to_string(), format!("the connection broke: {error}"))
    }

    /// Whose affair it is.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// How to mend it, where that is known.
    pub fn fix(&self) -> Option<&str> {
        self.fix.as_deref()
    }

    /// The exit code of a command that ends with it (`docs/client.md`).
    pub fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Usage => 2,
            Cause::Unreachable => 69,
            Cause::Unverified => 76,
            Cause::System => 1,
            Cause::Login(kind) => match kind {
                FailureKind::Refused => 77,
                FailureKind::NoCredential => 79,
                FailureKind::Forbidden => 76,
                FailureKind::Busy => 75,
                FailureKind::Timeout | FailureKind::Closed => 69,
                _ => 1,
            },
        }
    }
}

impl From<ConfigError> for ConnectError {
    fn from(error: ConfigError) -> Self {
        let (what, why) = (error.to_string(), error.fix().to_owned());
        // `what` is the whole of it: a `ConfigError` does not take itself apart.
        Self { cause: Cause::Usage, what: what.into(), why: Cow::Borrowed(""), fix: Some(why.into()) }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
    }
}

impl std::error::Error for ConnectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_table() {
        let login = |kind| ConnectError::login("tcp://host:1", &Failure::new(kind, "no")).exit_code();
        assert_eq!(login(FailureKind::Refused), 77);
        assert_eq!(login(FailureKind::NoCredential), 79);
        assert_eq!(login(FailureKind::Forbidden), 76);
        assert_eq!(login(FailureKind::Busy), 75);
        assert_eq!(login(FailureKind::Closed), 69);
        assert_eq!(login(FailureKind::Ended), 1);
        let other = |cause| ConnectError::new(cause, "what", "why").exit_code();
        assert_eq!(
            [Cause::Usage, Cause::Unreachable, Cause::Unverified, Cause::System].map(other),
            [2, 69, 76, 1]
        );
    }

    #[test]
    fn an_error_reads_what_why_and_how_to_mend_it() {
        let failure =
            Failure::new(FailureKind::Refused, "the server refused the login").with_fix("try again");
        let error = ConnectError::login("tcp://host:1", &failure);
        assert_eq!(error.to_string(), "tcp://host:1: the server refused the login");
        assert_eq!(error.fix(), Some("try again"));
        let usage = ConnectError::from(ConfigError::new("address", "it is empty", "write one"));
        assert_eq!((usage.to_string().as_str(), usage.fix()), ("address: it is empty", Some("write one")));
    }
}
