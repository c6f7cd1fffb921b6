//! An accepted certificate: whose it is, how it came in, where it counts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Username, transport::tls::Fingerprint};

/// One certificate that was accepted at some time.
///
/// Times are seconds since 1970. An entry is never changed in silence: each change is one
/// [`Change`](super::Change) of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// SHA-256 of the whole certificate, which is what is compared (S-39).
    pub fingerprint: Fingerprint,
    /// Who it is. A person may have several certificates, so names may repeat.
    pub name: Username,
    /// How it came in.
    pub way: Way,
    /// By whom it came in, or from where, in words.
    pub by: String,
    /// The kernel's user id of the client, where it came in over a local socket.
    pub uid: Option<u32>,
    /// When it came in.
    pub added: i64,
    /// When it was last accepted, to the minute.
    pub last_seen: Option<i64>,
    /// When it stops being accepted. The certificate's own dates decide nothing.
    pub expires: Option<i64>,
    /// Where it counts.
    pub scope: Scope,
    /// Since when it is accepted no more, and why.
    pub revoked: Option<Revocation>,
    /// The entry that this one takes the place of once it is seen (a client's renewal).
    pub replaces: Option<Fingerprint>,
}

impl Entry {
    /// An entry that counts everywhere and does not end.
    pub fn new(
        fingerprint: Fingerprint,
        name: Username,
        way: Way,
        by: impl Into<String>,
        added: i64,
    ) -> Self {
        Self {
            fingerprint,
            name,
            way,
            by: by.into(),
            uid: None,
            added,
            last_seen: None,
            expires: None,
            scope: Scope::default(),
            revoked: None,
            replaces: None,
        }
    }

    /// What it is worth at `now`.
    pub fn standing(&self, now: i64) -> Standing {
        match (&self.revoked, self.expires) {
            (Some(_), _) => Standing::Revoked,
            (None, Some(end)) if end <= now => Standing::Expired,
            _ => Standing::Accepted,
        }
    }
}

/// What a certificate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "each needs its own answer")]
pub enum Standing {
    /// The store does not know it.
    Unknown,
    /// It is accepted.
    Accepted,
    /// It was accepted until its end.
    Expired,
    /// It was taken back.
    Revoked,
}

/// How an entry came into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Way {
    /// It was the first, on a Unix socket, by a member of the socket's group.
    FirstUse,
    /// With the passphrase.
    Passphrase,
    /// With an invitation.
    Invitation,
    /// The owner added it.
    Added,
    /// The owner read it from another program's list.
    Imported,
    /// Its holder replaced an accepted one.
    Renewal,
}

impl Way {
    /// The stable spelling.
    pub fn code(self) -> &'static str {
        match self {
            Self::FirstUse => "first-use",
            Self::Passphrase => "passphrase",
            Self::Invitation => "invitation",
            Self::Added => "added",
            Self::Imported => "imported",
            Self::Renewal => "renewal",
        }
    }

    const ALL: [Self; 6] =
        [Self::FirstUse, Self::Passphrase, Self::Invitation, Self::Added, Self::Imported, Self::Renewal];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Way {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|way| way.code() == text).ok_or(())
    }
}

/// The sockets and backends that a certificate counts for. An empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scope {
    /// Names of sockets, as logs show them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<String>,
    /// Names or addresses of backends, as the configuration has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<String>,
}

impl Scope {
    /// A scope of these sockets and backends.
    pub fn new(sockets: Vec<String>, backends: Vec<String>) -> Self {
        Self { sockets, backends }
    }

    /// Whether it counts everywhere.
    pub fn is_everything(&self) -> bool {
        self.sockets.is_empty() && self.backends.is_empty()
    }

    /// Whether it counts at `place`.
    pub fn covers(&self, place: &Place) -> bool {
        let covers = |list: &[String], label: &str| list.is_empty() || list.iter().any(|name| name == label);
        covers(&self.sockets, &place.socket) && covers(&self.backends, &place.backend)
    }
}

/// Where a certificate is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The socket as logs name it.
    pub socket: String,
    /// The backend as the configuration names it.
    pub backend: String,
}

impl Place {
    /// The socket of that name with that backend.
    pub fn new(socket: impl Into<String>, backend: impl Into<String>) -> Self {
        Self { socket: socket.into(), backend: backend.into() }
    }
}

/// That a certificate was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Revocation {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Why, in the owner's words.
    pub why: String,
}

impl Revocation {
    /// Taken back at `at` because of `why`.
    pub fn new(at: i64, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stands_until_its_end_or_until_it_is_taken_back() {
        let mut entry =
            Entry::new(Fingerprint([1; 32]), Username::parse("alice").unwrap(), Way::Added, "root", 100);
        assert_eq!(entry.standing(i64::MAX), Standing::Accepted);
        entry.expires = Some(200);
        assert_eq!((entry.standing(199), entry.standing(200)), (Standing::Accepted, Standing::Expired));
        entry.revoked = Some(Revocation::new(150, "lost laptop"));
        assert_eq!(entry.standing(0), Standing::Revoked);
    }

    #[test]
    fn a_scope_covers_what_it_lists_and_all_if_it_lists_nothing() {
        let place = Place::new("rpc", "tcp:db:5432");
        assert!(Scope::default().covers(&place));
        let scope = |sockets: &[&str], backends: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Scope::new(list(sockets), list(backends))
        };
        assert!(scope(&["web", "rpc"], &[]).covers(&place));
        assert!(scope(&["rpc"], &["tcp:db:5432"]).covers(&place));
        assert!(!scope(&["web"], &[]).covers(&place));
        assert!(!scope(&["rpc"], &["unix:/run/x"]).covers(&place));
    }

    #[test]
    fn ways_are_read_as_they_are_written() {
        for way in Way::ALL {
            assert_eq!(way.to_string().parse(), Ok(way));
            assert_eq!(serde_json::to_string(&way).unwrap(), format!("\"{way}\""));
        }
    }
}
