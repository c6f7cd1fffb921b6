//! The ids that a process acts under: taken on all at once, and looked at afterwards.
//!
//! Called where the gateway becomes a plain user (`privilege.rs`) and where a user's daemon is started (`user.rs`).
#![allow(unsafe_code)]

use std::io;

use nix::unistd::{Gid, Uid};

/// A user, a group, and all groups of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// In their order and each once, as the kernel tells them.
    groups: Vec<Gid>,
}

impl Ids {
    /// These.
    pub fn new(uid: u32, gid: u32, groups: impl IntoIterator<Item = u32>) -> Self {
        let mut groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        groups.sort_by_key(|group| group.as_raw());
        groups.dedup();
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups }
    }

    /// For [`Ids::verify`]: one more than there may be, so that one too many is seen.
    pub(super) fn room(&self) -> Vec<libc::gid_t> {
        vec![0; self.groups.len() + 1]
    }

    /// This system has no such calls, nor a list of an account's groups.
    ///
    /// # Errors
    /// Always.
    #[cfg(target_vendor = "apple")]
    pub(super) fn take_on(&self, _: Uid) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// This system cannot say.
    ///
    /// # Errors
    /// Always.
    #[cfg(target_vendor = "apple")]
    pub(super) fn verify(&self, _: &mut [libc::gid_t]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes them on, with `saved` as the way back. Makes system calls and nothing else, so it may be between fork and
    /// exec.
    ///
    /// # Errors
    /// The system refuses.
    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn take_on(&self, saved: Uid) -> io::Result<()> {
        use nix::unistd::{setgroups, setresgid, setresuid};
        // Groups first: afterwards we may not any more.
        setgroups(&self.groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        Ok(setresuid(self.uid, self.uid, saved)?)
    }

    /// Sees that they are what this process has, all of them, for good (S-84): calls that have no effect and no error
    /// have happened, and nobody would notice. Touches no heap: the kernel's answer goes to `room`.
    ///
    /// # Errors
    /// They are not, or there is a way back to root.
    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn verify(&self, room: &mut [libc::gid_t]) -> io::Result<()> {
        use nix::unistd::{getresgid, getresuid, setuid};
        let (uids, gids) = (getresuid()?, getresgid()?);
        let most = libc::c_int::try_from(room.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer is valid for writing `most` ids, and any bytes are valid ids.
        let count = unsafe { libc::getgroups(most, room.as_mut_ptr()) };
        let groups = usize::try_from(count).ok().and_then(|count| room.get_mut(..count));
        let groups = groups.ok_or(io::ErrorKind::PermissionDenied)?;
        groups.sort_unstable();
        let are_groups = groups.iter().copied().eq(self.groups.iter().map(|group| group.as_raw()));
        let is_user = [uids.real, uids.effective, uids.saved].iter().all(|uid| *uid == self.uid);
        let is_group = [gids.real, gids.effective, gids.saved].iter().all(|gid| *gid == self.gid);
        let comes_back = !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok();
        if is_user && is_group && are_groups && !comes_back {
            return Ok(());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }
}
