//! What the owner asks, and what the answer is.
//!
//! Both travel as JSON (`docs/protocol/control.md`), and commands print the same objects with
//! `--json`. Times are seconds since 1970. Secrets are base64, so that no escape makes a copy of them.
//! It is one file because it is one format: what is asked stands beside what is answered.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    penalties::ListedPenalty,
    running::{OpenSession, Status, Which},
};
use crate::{
    Secret,
    trust::{Entry, Invitation, Passphrase, Revocation, Scope, Standing, Way},
};

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
        matches!(self, Self::Status | Self::Sessions | Self::Kill(_) | Self::Reload)
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

/// An entry as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listed {
    /// Who it is.
    pub name: String,
    /// SHA-256 of the whole certificate, in lower-case hexadecimal.
    pub fingerprint: String,
    /// What it is worth now: `accepted`, `expired` or `revoked`.
    pub standing: String,
    /// How it came in.
    pub way: Way,
    /// By whom or from where it came in.
    pub by: String,
    /// The account it belongs to, if it came in over a local socket.
    pub uid: Option<u32>,
    /// When it came in.
    pub added: i64,
    /// When it was last accepted, to the minute.
    pub last_seen: Option<i64>,
    /// When it stops being accepted.
    pub expires: Option<i64>,
    /// Where it counts.
    pub scope: Scope,
    /// When and why it was taken back.
    pub revoked: Option<Revocation>,
    /// The entry that this one takes the place of.
    pub replaces: Option<String>,
    /// The certificate, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Der>,
}

impl Listed {
    /// `entry` as it stands at `now`.
    pub(super) fn of(entry: &Entry, now: i64) -> Self {
        let standing = match entry.standing(now) {
            Standing::Revoked => "revoked",
            Standing::Expired => "expired",
            _ => "accepted",
        };
        Self {
            name: entry.name.to_string(),
            fingerprint: entry.fingerprint.to_string(),
            standing: standing.to_owned(),
            way: entry.way,
            by: entry.by.clone(),
            uid: entry.uid,
            added: entry.added,
            last_seen: entry.last_seen,
            expires: entry.expires,
            scope: entry.scope.clone(),
            revoked: entry.revoked.clone(),
            replaces: entry.replaces.map(|fingerprint| fingerprint.to_string()),
            certificate: None,
        }
    }
}

/// An invitation as it is listed. Nothing in it lets anybody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedInvitation {
    /// Names it, for `withdraw`.
    pub id: String,
    /// Who is invited.
    pub name: String,
    /// Whether it can still be spent.
    pub open: bool,
    /// When it ends.
    pub expires: i64,
    /// When what it lets in ends.
    pub entry_expires: Option<i64>,
    /// Where what it lets in counts.
    pub scope: Scope,
    /// When it was made.
    pub made: i64,
    /// By whom it was made.
    pub by: String,
    /// When it was spent.
    pub spent: Option<i64>,
    /// The certificate that it let in.
    pub spent_by: Option<String>,
}

impl ListedInvitation {
    pub(super) fn of(invitation: &Invitation, now: i64) -> Self {
        Self {
            id: invitation.id.clone(),
            name: invitation.name.to_string(),
            open: invitation.is_open(now),
            expires: invitation.expires,
            entry_expires: invitation.entry_expires,
            scope: invitation.scope.clone(),
            made: invitation.made,
            by: invitation.by.clone(),
            spent: invitation.spent,
            spent_by: invitation.spent_by.map(|fingerprint| fingerprint.to_string()),
        }
    }
}

/// What may be said about the passphrase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PassphraseFacts {
    /// Whether it lets anybody in now.
    pub set: bool,
    /// When it stops being taken.
    pub expires: Option<i64>,
    /// How many certificates it may still let in.
    pub uses: Option<u32>,
}

impl PassphraseFacts {
    /// Nothing more than whether one is set.
    pub fn is_set(set: bool) -> Self {
        Self { set, ..Self::default() }
    }

    pub(super) fn of(passphrase: Option<&Passphrase>, now: i64) -> Self {
        passphrase.filter(|set| set.is_open(now)).map_or_else(Self::default, |set| Self {
            set: true,
            expires: set.expires,
            uses: set.uses,
        })
    }
}

/// A certificate in DER; base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it is bytes and a way to write them")]
pub struct Der(pub Vec<u8>);

impl Der {
    /// The certificates of a PEM text, which is also what Multipass keeps its list as. Anything else in
    /// it is passed over. `what` names the text in errors.
    ///
    /// # Errors
    /// There is none, or one of them is cut.
    pub fn all_in(what: &str, pem: &[u8]) -> Result<Vec<Self>, crate::ConfigError> {
        let all = crate::transport::tls::certificates(what, pem)?;
        Ok(all.into_iter().map(|der| Self(der.to_vec())).collect())
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = STANDARD.encode(&self.0);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem + "-----END CERTIFICATE-----\n"
    }
}

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text::write(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::read(deserializer).map(Self)
    }
}

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
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

/// Bytes as base64.
mod text {
    use std::fmt;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use zeroize::Zeroizing;

    pub(super) fn write<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    /// Reads where the text lies: base64 has no escapes, so the parser needs no copy of it.
    pub(super) fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
                // What is wrong with it is not said: that would repeat a part of it.
                STANDARD.decode(text).map_err(|_| E::custom("it is not base64"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Certificates in one [`Request::Import`].
pub const MOST_AT_ONCE: usize = 256;
