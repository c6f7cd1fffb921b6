//! What the owner asks, and what the answer is.
//!
//! Both travel as JSON (`docs/protocol/control.md`), and commands print the same objects with
//! `--json`. Times are seconds since 1970. Secrets are base64, so that no escape makes a copy of them.
//! What is shown of the trust store is in `listed.rs`.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    listed::{Der, Listed, ListedInvitation, PassphraseFacts, text},
    penalties::ListedPenalty,
    running::{OpenSession, Status, Which},
};
use crate::{Secret, trust::Scope};

/// One thing that the owner wants to know or done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Every entry.
    List,
    /// One entry and its certificate. See [`Request::Rename`] for what a selector is.
    Show {
        /// Which entry.
        selector: String,
    },
    /// Accept a certificate, also one that was taken back.
    Add {
        /// The certificate.
        certificate: Der,
        /// Who it is; named after its fingerprint without.
        name: Option<String>,
        /// The account it belongs to.
        uid: Option<u32>,
        /// When it stops being accepted.
        expires: Option<i64>,
        /// Where it counts.
        scope: Scope,
    },
    /// Give an entry another name.
    Rename {
        /// A name that one accepted entry has, or at least eight digits of a fingerprint.
        selector: String,
        /// The new name.
        name: String,
    },
    /// Change where and how long an entry counts; what is `None` stays.
    Restrict {
        /// Which entry.
        selector: String,
        /// Where it counts from now on.
        scope: Option<Scope>,
        /// Until when.
        expires: Option<Expiry>,
    },
    /// Take a certificate back. The entry stays, as evidence.
    Remove {
        /// Which entry.
        selector: String,
        /// Why.
        why: String,
    },
    /// Accept a certificate that was taken back, or has expired, as before.
    Restore {
        /// Which entry.
        selector: String,
    },
    /// Forget an entry as if it had never been.
    Forget {
        /// Which entry.
        selector: String,
    },
    /// Forget everything: the first place is free again.
    Reset,
    /// Accept certificates of another program's list; those that are known stay as they are.
    Import {
        /// At most [`MOST_AT_ONCE`] of them.
        certificates: Vec<Der>,
    },
    /// Every accepted certificate.
    Export,
    /// Whether a passphrase is set, and how long it lasts.
    Passphrase,
    /// Set the passphrase.
    SetPassphrase {
        /// The passphrase.
        #[serde(with = "secret")]
        passphrase: Secret,
        /// When it stops being taken.
        expires: Option<i64>,
        /// How many certificates it may let in.
        uses: Option<u32>,
    },
    /// Take over the passphrase of a Multipass daemon, if none is set.
    ImportPassphrase {
        /// Its verifier, as 128 hexadecimal digits.
        #[serde(with = "secret")]
        verifier: Secret,
    },
    /// Unset the passphrase.
    UnsetPassphrase,
    /// Make an invitation.
    Invite {
        /// Who will be let in by it.
        name: String,
        /// When it ends.
        expires: i64,
        /// When what it let in ends.
        entry_expires: Option<i64>,
        /// Where what it let in counts.
        scope: Scope,
        /// Where the client shall enrol; one of the gateway's own addresses without.
        address: Option<String>,
        /// SHA-256 of the server's key, if it is not the gateway's own one.
        pin: Option<String>,
    },
    /// Every invitation, spent ones included.
    Invitations,
    /// Forget an invitation. What it let in stays.
    Withdraw {
        /// Its id.
        id: String,
    },
    /// Every source that failed lately, of a running gateway.
    Penalties,
    /// Forget what a source failed.
    ClearPenalties {
        /// Which, as it is listed; all without.
        source: Option<String>,
    },
    /// How the gateway is.
    Status,
    /// Who is inside.
    Sessions,
    /// End sessions.
    Kill(Which),
    /// Read the configuration again.
    Reload,
    /// End, as at the signal TERM. The answer is the gateway's [`Status`], in which it does.
    Drain {
        /// Seconds that sessions have to end by themselves; as long as at the signal without.
        timeout: Option<u64>,
    },
}

impl Request {
    /// What is asked, in a word, for the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Show { .. } => "show",
            Self::Add { .. } => "add",
            Self::Rename { .. } => "rename",
            Self::Restrict { .. } => "restrict",
            Self::Remove { .. } => "remove",
            Self::Restore { .. } => "restore",
            Self::Forget { .. } => "forget",
            Self::Reset => "reset",
            Self::Import { .. } => "import",
            Self::Export => "export",
            Self::Passphrase => "passphrase",
            Self::SetPassphrase { .. } => "set-passphrase",
            Self::ImportPassphrase { .. } => "import-passphrase",
            Self::UnsetPassphrase => "unset-passphrase",
            Self::Invite { .. } => "invite",
            Self::Invitations => "invitations",
            Self::Withdraw { .. } => "withdraw",
            Self::Penalties => "penalties",
            Self::ClearPenalties { .. } => "clear-penalties",
            Self::Status => "status",
            Self::Sessions => "sessions",
            Self::Kill(_) => "kill",
            Self::Reload => "reload",
            Self::Drain { .. } => "drain",
        }
    }

    /// Whether it makes sense before any gateway has run: then a store is made for it.
    pub fn may_be_first(&self) -> bool {
        use Request::{Add, Import, ImportPassphrase, Invite, SetPassphrase};
        let sets = matches!(self, ImportPassphrase { .. } | SetPassphrase { .. });
        sets || matches!(self, Add { .. } | Import { .. } | Invite { .. })
    }

    /// Whether it only looks.
    pub fn only_looks(&self) -> bool {
        use Request::{Export, Invitations, List, Passphrase, Penalties, Sessions, Show, Status};
        matches!(self, List | Show { .. } | Export | Passphrase | Invitations | Penalties | Status | Sessions)
    }

    /// Whether only a gateway that runs can answer it.
    pub fn is_for_a_gateway(&self) -> bool {
        matches!(self, Self::Status | Self::Sessions | Self::Kill(_) | Self::Reload | Self::Drain { .. })
    }
}

/// Until when an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "it ends or it does not")]
pub enum Expiry {
    /// For ever.
    Never,
    /// Until then.
    At(i64),
}

/// What became of a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Response {
    /// It is done, and there is nothing to say about it.
    Done,
    /// The entries.
    Entries {
        /// Whether the next first client would be accepted.
        first_place_free: bool,
        /// By name, then by age.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<Listed>,
    },
    /// The entry that was asked for, added or changed.
    Entry(Box<Listed>),
    /// How an import went.
    Imported {
        /// Certificates that are accepted now.
        added: usize,
        /// Those that were known and stay as they were.
        known: usize,
        /// Those that were taken back before, and still are, by their fingerprints.
        revoked: Vec<String>,
    },
    /// Everything is forgotten.
    Reset {
        /// Where the old store is now; `None` if nothing of it was kept.
        aside: Option<PathBuf>,
    },
    /// The accepted certificates.
    Certificates(Vec<Der>),
    /// About the passphrase.
    Passphrase(PassphraseFacts),
    /// An invitation was made.
    Invited {
        /// The invitation.
        invitation: Box<ListedInvitation>,
        /// What to hand over. It is shown once and kept nowhere.
        #[serde(with = "secret")]
        token: Secret,
        /// Where it will be spent.
        address: String,
    },
    /// The invitations, oldest first.
    Invitations(Vec<ListedInvitation>),
    /// Who failed lately.
    Penalties {
        /// Logins that were refused for a penalty since the gateway started.
        refused: u64,
        /// The longest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        penalties: Vec<ListedPenalty>,
    },
    /// How the gateway is.
    Status(Box<Status>),
    /// Who is inside, the oldest session first.
    Sessions(Vec<OpenSession>),
    /// The sessions that were ended, by their ids.
    Killed(Vec<String>),
    /// Nothing was done.
    Failed(Failure),
}

/// Why nothing was done. It reads `what: why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure it is.
    pub code: FailureCode,
    /// What went wrong.
    pub what: String,
    /// How to mend it.
    pub fix: String,
}

impl Failure {
    pub(crate) fn new(code: FailureCode, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What kind a [`Failure`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureCode {
    /// There is no such entry or invitation.
    Unknown,
    /// More than one entry could be meant.
    Ambiguous,
    /// What was given cannot be taken.
    Unacceptable,
    /// The store could not do it.
    Store,
    /// The configuration has a mistake, and the old one holds.
    Configuration,
    /// No gateway runs, and only one can answer.
    NotRunning,
}

/// A secret in JSON.
mod secret {
    use super::{Secret, text};

    pub(super) fn serialize<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        text::write(secret.expose(), serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        text::read(deserializer).map(Secret::new)
    }
}

/// Certificates in one [`Request::Import`].
pub const MOST_AT_ONCE: usize = 256;
