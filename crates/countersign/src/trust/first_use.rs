//! Who may be the first client on a Unix socket: the one place that says so (S-52, S-57).

use std::io;

use crate::{
    Peer, Refusal,
    sys::{
        accounts::{Account, group_named},
        peer::is_group,
    },
};

/// The rule of one Unix socket. Sockets of other kinds have none, so nobody can be first there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstUse {
    group: Option<u32>,
}

impl FirstUse {
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
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { group: None });
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
        if known.uid == 0 || known.uid == rustix::process::geteuid().as_raw() {
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
        assert!(FirstUse { group: None }.admits(&peer(123_456, 27, &[27])).is_err());
        assert!(FirstUse::for_group(u32::MAX).admits(&peer(123_456, u32::MAX, &[])).is_err());
    }

    #[test]
    fn s_057_nobody_is_first_over_tcp() {
        let address = "127.0.0.1:50051".parse().unwrap();
        assert!(FirstUse::for_group(0).admits(&Peer::tcp(address, address)).is_err());
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
}
