//! Who this process is: split in two before there are threads, another user while sockets are opened, and another user
//! for good.
//!
//! Called by the gateway at start, in the order of this file.
#![allow(unsafe_code)]

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Which of the two processes this is after [`split`], with its end of the socket between them.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "fork(2) has these two ends")]
pub enum Half {
    /// The one that was there before, and the other one as its child.
    First(OwnedFd, Child),
    /// The new one.
    Second(OwnedFd),
}

/// A process that was split off.
#[derive(Debug)]
pub struct Child(nix::unistd::Pid);

impl Child {
    /// Waits for its end, so that nothing of it is left.
    pub fn reap(self) {
        while let Err(nix::errno::Errno::EINTR) = nix::sys::wait::waitpid(self.0, None) {}
    }
}

/// Splits this process in two, which are joined by a socket of packets.
///
/// # Errors
/// There are threads already: a lock that one of them holds would be held for ever in the new process.
pub fn split() -> io::Result<Half> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("there are threads already"));
    }
    let (first, second) = packet_pair()?;
    // SAFETY: this is the only thread, so the new process has all of it, and no lock that another one held.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Half::First(first, Child(child))),
        nix::unistd::ForkResult::Child => Ok(Half::Second(second)),
    }
}

/// Two ends of a socket of packets, which children do not get.
///
/// # Errors
/// There are no descriptors left.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    #[cfg(target_vendor = "apple")]
    return Err(io::ErrorKind::Unsupported.into());
    #[cfg(not(target_vendor = "apple"))]
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet, and a descriptor with it.
///
/// # Errors
/// Nobody is there to receive it.
pub fn send(socket: impl AsFd, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut room);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        with.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut with, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one packet of at most the length of `room`, and the descriptor that came with it. Nothing, if the other
/// end is gone; packets are never empty.
///
/// # Errors
/// The packet is longer, has several descriptors, or did not come in time.
pub fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    // One more than there may be, so that one too many is seen, and closed.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(room)], &mut with, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if received.flags.intersects(cut) || descriptors.len() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is too long"));
    }
    Ok((received.bytes, descriptors.pop()))
}

/// The ids to take on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// All groups of it.
    pub groups: Vec<u32>,
}

impl Ids {
    /// These.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self { uid, gid, groups }
    }

    /// Makes a directory that this user can write to, if there is none and root may make it: what the files of a
    /// service lie in. One that is there stays as it is.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt as _, fchown};
        match std::fs::DirBuilder::new().mode(mode).create(path) {
            Ok(()) => {
                let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
                let made = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
                fchown(made, Some(self.uid), Some(self.gid))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Acts as this user from now on, with the capabilities alone that opening sockets takes, and with a way back to
    /// root that [`Ids::settle`] closes. Before there are threads: theirs are those of who starts them.
    ///
    /// # Errors
    /// We are not root, or the system refuses.
    pub fn lower(&self) -> io::Result<()> {
        #[cfg(not(target_os = "linux"))]
        return Err(io::ErrorKind::Unsupported.into());
        #[cfg(target_os = "linux")]
        {
            use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
            use rustix::thread::{
                CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
            };
            // What is not in this set comes back by no program that is started.
            for capability in CapabilitySet::all().iter() {
                match remove_capability_from_bounding_set(capability) {
                    // A kernel that does not know it yet.
                    Err(rustix::io::Errno::INVAL) => {}
                    removed => removed?,
                }
            }
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            setgroups(&groups)?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, Uid::from_raw(0))?;
            // Low ports, and the owners of socket files.
            let opening = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::CHOWN | CapabilitySet::FOWNER;
            let sets = CapabilitySets {
                effective: opening,
                permitted: opening,
                inheritable: CapabilitySet::empty(),
            };
            Ok(set_capabilities(None, sets)?)
        }
    }

    /// Closes the way back, in every thread: the C library says it to all of them, and with the last id of root's
    /// the kernel takes every capability.
    ///
    /// # Errors
    /// The system refuses, or there still is a way back.
    pub fn settle(&self) -> io::Result<()> {
        #[cfg(not(target_os = "linux"))]
        return Err(io::ErrorKind::Unsupported.into());
        #[cfg(target_os = "linux")]
        {
            use nix::unistd::{Uid, getgroups, getresgid, getresuid, setresuid, setuid};
            use rustix::thread::{CapabilitySet, capabilities};
            let uid = Uid::from_raw(self.uid);
            setresuid(uid, uid, uid)?;
            super::memory::keep_to_ourselves()?;
            // Calls that have no effect and no error have happened, and nobody would notice.
            let (uids, gids) = (getresuid()?, getresgid()?);
            let mut groups: Vec<u32> = getgroups()?.into_iter().map(|group| group.as_raw()).collect();
            let mut wanted = self.groups.clone();
            groups.sort_unstable();
            wanted.sort_unstable();
            let are_ours = [uids.real, uids.effective, uids.saved].iter().all(|id| id.as_raw() == self.uid)
                && [gids.real, gids.effective, gids.saved].iter().all(|id| id.as_raw() == self.gid)
                && groups == wanted;
            let sets = capabilities(None)?;
            let none = CapabilitySet::empty();
            let has_none = sets.permitted == none && sets.effective == none && sets.inheritable == none;
            if self.uid != 0 && are_ours && has_none && setuid(Uid::from_raw(0)).is_err() {
                return Ok(());
            }
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the system lets this process be root again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn a_packet_arrives_as_it_was_with_its_descriptor() {
        let (one, other) = packet_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, b"inside").unwrap();
        std::io::Seek::rewind(&mut &file).unwrap();
        send(&one, b"packet", Some(file.as_fd())).unwrap();
        send(&one, b"another", None).unwrap();
        let mut room = [0; 8];
        let (length, descriptor) = receive(&other, &mut room).unwrap();
        let mut text = String::new();
        File::from(descriptor.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((&room[..length], text.as_str()), (&b"packet"[..], "inside"));
        assert!(matches!(receive(&other, &mut room), Ok((7, None))));
        send(&one, b"too long for it", None).unwrap();
        assert!(receive(&other, &mut room).is_err());
        drop(one);
        assert!(matches!(receive(&other, &mut room), Ok((0, None))));
        assert!(send(&other, b"x", None).is_err());
    }

    #[test]
    fn a_process_with_threads_is_not_split() {
        // The test runner has some.
        let waiting = std::thread::spawn(std::thread::park);
        assert!(split().is_err());
        waiting.thread().unpark();
        waiting.join().unwrap();
    }
}
