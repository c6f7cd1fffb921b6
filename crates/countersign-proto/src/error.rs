//! What can go wrong, by who is to blame, and the proper answer *no*.
//!
//! An [`Error`] says that the protocol or the program broke. A [`Refusal`] is a proper end of a
//! conversation: the peer spoke well and did not pass. Each wire turns either into what the peer
//! is told in one function; the private cause stays in the log.

use std::{borrow::Cow, fmt};

/// The protocol or the program broke.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The peer sent what no correct peer sends.
    PeerMisbehaved(Cow<'static, str>),
    /// The peer is correct but too old, too new, or limited to what is forbidden here.
    PeerIncompatible(Cow<'static, str>),
    /// The caller of this library used it wrongly.
    ApiMisuse(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerMisbehaved(why) => write!(f, "the peer broke the protocol: {why}"),
            Self::PeerIncompatible(why) => write!(f, "the peer cannot be talked to: {why}"),
            Self::ApiMisuse(why) => write!(f, "the library was used wrongly: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Why a login was refused, as a stable code for audit, metrics and tests.
///
/// The peer never sees it: whoever fails is told the same (S-26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The secret was wrong, or the proof did not fit the challenge.
    WrongSecret,
    /// The module knows no such user. Not distinguishable from [`Reason::WrongSecret`] outside.
    UnknownUser,
    /// The account exists and may not log in: disabled, expired, or without a usable secret.
    AccountDisabled,
    /// The facts of the connection do not satisfy the link (address, uid, certificate).
    PeerDenied,
    /// The module refuses everybody (`fail`, `reject`).
    Denied,
    /// The user name is not one a module may see (S-69).
    BadUsername,
    /// The client says it is somebody else than `verify-username` demands.
    UsernameMismatch,
    /// Two links proved two different names (S-68).
    IdentityConflict,
    /// The client offers no mechanism that may be used here (S-29).
    NoCommonMechanism,
    /// A reversible mechanism would have to travel in the clear (S-33).
    NotConfidential,
    /// The client announces no encryption where the socket takes nothing else (S-38).
    NotEncrypted,
    /// The client announces an encryption that is not spoken here.
    NoCommonCipher,
    /// What came cannot be decrypted and read: another key, altered bytes, or bytes in clear. Not distinguishable from
    /// [`Reason::WrongSecret`] outside (S-38).
    BadCipher,
    /// The client's salt is missing, short, overlong or the server's own (S-30).
    BadClientSalt,
    /// A hello without the response that was due, or a response where none was due (S-15).
    NoResponse,
    /// A later hello names another user, digest, display or session (S-16).
    ClaimChanged,
    /// The peer broke the rules of its protocol.
    Malformed,
    /// The login did not finish in time (S-01).
    Timeout,
    /// The peer left before the end.
    PeerLeft,
    /// The module could not decide: file missing, database locked, program absent. Refused (S-65).
    ModuleFailed,
    /// The module crashed. Refused (S-20, S-65).
    ModulePanicked,
    /// The chain has no link. Refused (S-65).
    EmptyChain,
    /// There are too many connections or attempts for now.
    Busy,
    /// The chain passed, and the audit record that must be there could not be kept (S-93).
    Unrecorded,
}

impl Reason {
    /// The stable spelling used in audit records and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongSecret => "wrong_secret",
            Self::UnknownUser => "unknown_user",
            Self::AccountDisabled => "account_disabled",
            Self::PeerDenied => "peer_denied",
            Self::Denied => "denied",
            Self::BadUsername => "bad_username",
            Self::UsernameMismatch => "username_mismatch",
            Self::IdentityConflict => "identity_conflict",
            Self::NoCommonMechanism => "no_common_mechanism",
            Self::NotConfidential => "not_confidential",
            Self::NotEncrypted => "not_encrypted",
            Self::NoCommonCipher => "no_common_cipher",
            Self::BadCipher => "bad_cipher",
            Self::BadClientSalt => "bad_client_salt",
            Self::NoResponse => "no_response",
            Self::ClaimChanged => "claim_changed",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::PeerLeft => "peer_left",
            Self::ModuleFailed => "module_failed",
            Self::ModulePanicked => "module_panicked",
            Self::EmptyChain => "empty_chain",
            Self::Busy => "busy",
            Self::Unrecorded => "unrecorded",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The answer no.
///
/// `reason` and `cause` are for the operator. What the peer may be told is [`Refusal::public`],
/// which depends on nothing that a stranger could use: every failed login has the same text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The stable code.
    pub reason: Reason,
    /// The private cause in words. Holds no secret; peers' text in it is escaped by who prints it.
    pub cause: Cow<'static, str>,
    /// Which link of the chain refused, counted from 1, and its module. `None` before the chain.
    pub link: Option<(usize, &'static str)>,
}

impl Refusal {
    /// A refusal for `reason`, with the private `cause` for the log.
    pub fn new(reason: Reason, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, cause: cause.into(), link: None }
    }

    /// The module does not know the name.
    pub fn unknown_user() -> Self {
        Self::new(Reason::UnknownUser, "no such user")
    }

    /// The module could not decide, which is a refusal (S-65).
    pub fn module_failed(cause: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::ModuleFailed, cause)
    }

    /// The facts of the connection do not satisfy the link.
    pub fn peer_denied(cause: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::PeerDenied, cause)
    }

    /// The same refusal, marked with the link (counted from 1) that gave it.
    #[must_use]
    pub fn at(mut self, index: usize, module: &'static str) -> Self {
        self.link.get_or_insert((index, module));
        self
    }

    /// The text for the peer.
    pub fn public(&self) -> &'static str {
        match self.reason {
            Reason::NotConfidential => {
                "this login needs an encrypted connection: use ssl, wss, or AES where the server has it"
            }
            Reason::NotEncrypted => {
                "this socket takes AES only: add --encryption=AES-CBC --encryption-keyfile=FILE, or for old clients \
                 --tcp-encryption=AES --tcp-encryption-keyfile=FILE"
            }
            Reason::NoCommonCipher => "no acceptable encryption is offered",
            Reason::NoCommonMechanism => "no acceptable digest is offered",
            Reason::Malformed => "protocol error",
            Reason::Timeout => "login timeout",
            Reason::Busy | Reason::Unrecorded => "session busy",
            _ => "authentication failed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((index, module)) = self.link {
            write!(f, "link {index} ({module}): ")?;
        }
        write!(f, "{}: {}", self.reason, self.cause)
    }
}
