//! Who may be the first client on a Unix socket, and hear who was: the one place that says so (S-52, S-57).

use std::io;

use time::OffsetDateTime;

use super::{Entry, TrustStore};
use crate::{
    Peer, Refusal,
    sys::{
        accounts::{Account, group_named, own_uid},
        peer::is_group,
    },
};

/// The rule of one Unix socket. Sockets of other kinds have none, so nobody can be first there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstUse {
    group: Option<u32>,
}

impl FirstUse {
    /// Nobody but root and the gateway's own user.
    pub const OWNERS: Self = Self { group: None };

    /// Members of this group and root may be first.
    pub fn for_group(group: u32) -> Self {
        Self { group: Some(group) }
    }

    /// The group of administrators of this system, as Multipass chooses it: the first of `sudo`,
    /// `admin` and `wheel` that there is, else root's own. A gateway that is not root cannot give a
    /// socket away: then only its own user may be first.
    ///
    /// # Errors
    /// The group database cannot be read.
    pub fn of_system() -> io::Result<Self> {
        if own_uid() != 0 {
            return Ok(Self::OWNERS);
        }
        for name in ["sudo", "admin", "wheel"] {
            if let Some(group) = group_named(name)? {
                return Ok(Self::for_group(group));
            }
        }
        Ok(Self::for_group(0))
    }

    /// The group that the socket belongs to until then; our own if `None`.
    pub fn group(self) -> Option<u32> {
        self.group
    }

    /// The mode of the socket until then: nobody connects whom this would not admit.
    pub fn mode(self) -> u32 {
        if self.group.is_some() { 0o660 } else { 0o600 }
    }

    /// Whether this peer may be first, by the kernel's word and not by the file's mode alone (M13).
    ///
    /// # Errors
    /// It may not, or the kernel does not say who it is.
    pub fn admits(self, peer: &Peer) -> Result<(), Refusal> {
        let Some(known) = peer.credentials() else {
            return Err(Refusal::peer_denied("nobody can be first here: the kernel does not say who it is"));
        };
        if known.uid == 0 || known.uid == own_uid() {
            return Ok(());
        }
        let Some(group) = self.group.filter(|group| is_group(*group)) else {
            return Err(Refusal::peer_denied("only the gateway's own user may be first here"));
        };
        let listed = match &known.groups {
            _ if known.gid == group => true,
            Some(groups) => groups.contains(&group),
            None => of_database(known.uid)
                .map_err(|error| {
                    Refusal::module_failed(format!("the group database cannot be read: {error}"))
                })?
                .contains(&group),
        };
        match listed {
            true => Ok(()),
            false => Err(Refusal::peer_denied(format!(
                "uid {} is not in group {group}, so it cannot be first",
                known.uid
            ))),
        }
    }

    /// Who came first, in words, for a peer that could have: it administers the machine and has to find
    /// out why it is locked out (M5). Nobody else is told who comes here. It reads the store's file.
    pub fn who_was_first(self, store: &TrustStore, peer: &Peer) -> Option<String> {
        self.admits(peer).ok()?;
        match store.first() {
            Ok(first) => first.as_ref().map(told),
            Err(error) => {
                tracing::warn!("who was first cannot be read: {error}");
                None
            }
        }
    }
}

/// The most important words first: clients show two hundred characters of what a server says.
fn told(entry: &Entry) -> String {
    let uid = entry.uid.map_or(String::new(), |uid| format!(" (uid {uid})"));
    let since = if entry.revoked.is_some() { ", taken back since" } else { "" };
    let (name, date) = (&entry.name, date(entry.added));
    format!(
        "first here was {name}{uid}, {date}, certificate {:.16}{since}: as root see `countersign trust list`, \
         then `trust remove` and `trust add --self`",
        entry.fingerprint.to_string()
    )
}

/// `2026-11-22 02:50 UTC`.
fn date(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at).map_or_else(
        |_| format!("{at} s after 1970"),
        |at| {
            let (year, month, day) = at.to_calendar_date();
            let (hour, minute, _) = at.to_hms();
            format!("{year:04}-{:02}-{day:02} {hour:02}:{minute:02} UTC", u8::from(month))
        },
    )
}

fn of_database(uid: u32) -> io::Result<Vec<u32>> {
    Account::of_uid(uid)?.map_or(Ok(Vec::new()), |account| account.groups())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer::Credentials;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer::unix(Some(Credentials::new(uid, gid).with_groups(Some(groups.to_vec()))))
    }

    #[test]
    fn s_052_members_and_root_may_be_first_and_others_may_not() {
        let rule = FirstUse::for_group(27);
        assert!(rule.admits(&peer(0, 0, &[])).is_ok());
        assert!(rule.admits(&peer(123_456, 27, &[])).is_ok());
        assert!(rule.admits(&peer(123_456, 123_456, &[5, 27])).is_ok());
        assert!(rule.admits(&peer(123_456, 123_456, &[5, 270])).is_err());
        assert!(rule.admits(&Peer::unix(None)).is_err());
        assert!(FirstUse::OWNERS.admits(&peer(123_456, 27, &[27])).is_err());
        assert!(FirstUse::for_group(u32::MAX).admits(&peer(123_456, u32::MAX, &[])).is_err());
    }

    #[test]
    fn s_057_nobody_is_first_over_tcp() {
        let address = "127.0.0.1:50051".parse().unwrap();
        assert!(FirstUse::for_group(0).admits(&Peer::tcp(address, address)).is_err());
    }

    #[test]
    fn m5_who_was_first_is_told_to_whoever_could_have_been_and_to_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = TrustStore::open(&folder.path().join("state")).unwrap();
        let rule = FirstUse::for_group(27);
        assert_eq!(rule.who_was_first(&store, &peer(0, 0, &[])), None, "nobody was");
        let fingerprint = crate::transport::tls::Fingerprint([0xab; 32]);
        let name = crate::Username::parse("gui").unwrap();
        let mut entry = Entry::new(fingerprint, name, crate::trust::Way::FirstUse, "uid 1000", 1_700_000_000);
        entry.uid = Some(1000);
        store.add(entry, b"certificate").unwrap();
        let facts = "first here was gui (uid 1000), 2023-11-14 22:13 UTC, certificate abababababababab";
        for insider in [peer(0, 0, &[]), peer(123_456, 27, &[]), peer(123_456, 5, &[5, 27])] {
            let told = rule.who_was_first(&store, &insider).unwrap();
            assert!(told.starts_with(&format!("{facts}: ")) && told.len() <= 200, "{told}");
            assert!(told.contains("trust list") && told.contains("trust add --self"), "{told}");
        }
        let address = "127.0.0.1:50051".parse().unwrap();
        for outsider in [peer(123_456, 123_456, &[5]), Peer::unix(None), Peer::tcp(address, address)] {
            assert_eq!(rule.who_was_first(&store, &outsider), None, "{outsider:?}");
        }
        assert_eq!(FirstUse::OWNERS.who_was_first(&store, &peer(123_456, 27, &[27])), None);
        store.revoke(&fingerprint, "the GUI started by itself").unwrap();
        let told = rule.who_was_first(&store, &peer(0, 0, &[])).unwrap();
        assert!(told.starts_with(&format!("{facts}, taken back since: ")) && told.len() <= 200, "{told}");
        store.forget(&fingerprint).unwrap();
        assert_eq!(rule.who_was_first(&store, &peer(0, 0, &[])), None);
    }

    #[test]
    fn the_systems_group_is_what_its_administrators_are_in() {
        let rule = FirstUse::of_system().unwrap();
        let wanted =
            ["sudo", "admin", "wheel"].iter().find_map(|name| group_named(name).unwrap()).unwrap_or(0);
        match rustix::process::geteuid().is_root() {
            true => assert_eq!((rule.group(), rule.mode()), (Some(wanted), 0o660)),
            false => assert_eq!((rule.group(), rule.mode()), (None, 0o600)),
        }
    }

    /// Where the kernel does not give a peer's groups, the system's database does.
    #[test]
    fn s_052_a_peer_whose_groups_the_kernel_does_not_say_is_looked_up() {
        let Some(account) = Account::of_uid(1).unwrap() else { return };
        let without = |uid| Peer::unix(Some(Credentials::new(uid, 123_456).with_groups(None)));
        let own = account.groups().unwrap();
        let theirs = *own.iter().find(|group| is_group(**group)).unwrap();
        assert!(FirstUse::for_group(theirs).admits(&without(1)).is_ok());
        let others = ["root", "wheel"].iter().find_map(|name| group_named(name).unwrap()).unwrap();
        assert!(!own.contains(&others) && FirstUse::for_group(others).admits(&without(1)).is_err());
        assert!(FirstUse::for_group(theirs).admits(&without(123_456)).is_err(), "nobody has that uid");
    }
}
