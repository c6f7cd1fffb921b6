//! Who this process is: split in two before there are threads, another user while sockets are opened, and another user
//! for good.
//!
//! Called by the gateway at start, in the order of this file.
#![allow(unsafe_code)]

use std::{
    fs::{File, Permissions},
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

#[cfg(target_os = "linux")]
use nix::unistd::Uid;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

pub use super::ids::Ids;

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

impl Ids {
    /// Makes a directory that this user can write to, if there is none and root may make it: what the files of a
    /// service lie in. It has this mode, whatever the umask. One that is there stays as it is.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, fchown};
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
                let made = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
                fchown(&made, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
                made.set_permissions(Permissions::from_mode(mode))
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
            self.take_on(Uid::from_raw(0))?;
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
            use rustix::thread::{CapabilitySet, capabilities};
            nix::unistd::setresuid(self.uid, self.uid, self.uid)?;
            super::memory::keep_to_ourselves()?;
            let are_ours = self.verify(&mut self.room()).is_ok();
            let sets = capabilities(None)?;
            let none = CapabilitySet::empty();
            let has_none = sets.permitted == none && sets.effective == none && sets.inheritable == none;
            if !self.uid.is_root() && are_ours && has_none {
                return Ok(());
            }
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "the system lets this process be root again"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

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

    /// In a process of its own, for a umask is all threads'.
    #[test]
    fn a_directory_has_its_mode_and_owner_whatever_the_umask() {
        const AGAIN: &str = "COUNTERSIGN_TEST_UMASK";
        if let Some(folder) = std::env::var_os(AGAIN) {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
            let ids = Ids::new(own.0, own.1, []);
            let path = Path::new(&folder).join("made");
            ids.make_directory(&path, 0o755).unwrap();
            return ids.make_directory(&path, 0o700).unwrap();
        }
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let test = "sys::privilege::tests::a_directory_has_its_mode_and_owner_whatever_the_umask";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let again = again.args(["--exact", test]).env(AGAIN, folder.path()).output().unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        assert_eq!(folder.path().join("made").metadata().unwrap().mode() & 0o7777, 0o755);
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
