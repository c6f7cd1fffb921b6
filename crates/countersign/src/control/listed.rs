//! What the owner is shown of the trust store: entries, invitations, the passphrase. They travel in answers as they are
//! printed with `--json`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::trust::{Entry, Invitation, Passphrase, Revocation, Scope, Standing, Way};

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

/// Bytes as base64.
pub(super) mod text {
    use std::fmt;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use zeroize::Zeroizing;

    pub(in crate::control) fn write<S: serde::Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
    }

    /// Reads where the text lies: base64 has no escapes, so the parser needs no copy of it.
    pub(in crate::control) fn read<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
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
