//! Who is at the other end of a Unix stream socket, as the kernel says.
//!
//! Called by `transport::unix` for each accepted connection, and by an embedder that accepts its
//! own sockets.
#![allow(unsafe_code)]

#[cfg(unix)]
use std::os::fd::AsFd;
use std::{fs, io, sync::LazyLock};

use crate::proto::peer::Credentials;

/// The credentials that the peer of a connected Unix stream socket had when it connected (S-63).
///
/// `None` where the kernel knows none, and where it knows a user that it cannot express here: a peer
/// out of another user namespace has the overflow uid, which stands for everybody without a number
/// and therefore for nobody. For the same reason the overflow gid is no supplementary group.
///
/// # Errors
/// `socket` is no socket.
#[cfg(unix)]
pub fn credentials(socket: impl AsFd) -> io::Result<Option<Credentials>> {
    let credentials = system::credentials(socket.as_fd())?;
    Ok(credentials.filter(|known| is_account(known.uid)).map(|mut known| {
        if let Some(groups) = &mut known.groups {
            groups.retain(|&gid| is_group(gid));
        }
        known
    }))
}

/// Windows has no such sockets here, and no such numbers: nobody is known.
///
/// # Errors
/// Never.
#[cfg(windows)]
pub fn credentials<S>(_: S) -> io::Result<Option<Credentials>> {
    Ok(None)
}

/// Whether a uid stands for one account: neither the overflow uid nor the kernel's "none".
pub fn is_account(uid: u32) -> bool {
    uid != u32::MAX && uid != *OVERFLOW_UID
}

/// Whether a gid stands for one group: neither the overflow gid nor the kernel's "none".
pub fn is_group(gid: u32) -> bool {
    gid != u32::MAX && gid != *OVERFLOW_GID
}

static OVERFLOW_UID: LazyLock<u32> = LazyLock::new(|| overflow_id("/proc/sys/kernel/overflowuid"));
static OVERFLOW_GID: LazyLock<u32> = LazyLock::new(|| overflow_id("/proc/sys/kernel/overflowgid"));

/// The number that the kernel shows for ids it cannot express; 65534 where it does not tell.
fn overflow_id(setting: &str) -> u32 {
    const KERNEL_DEFAULT: u32 = 65534;
    fs::read_to_string(setting).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(KERNEL_DEFAULT)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::{
        io,
        os::fd::{AsRawFd, BorrowedFd},
    };

    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

    use super::Credentials;

    /// More groups than Linux lets a process have (`NGROUPS_MAX`) are no answer of the kernel's.
    const MAX_GROUPS: usize = 65536;

    pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Option<Credentials>> {
        let known = getsockopt(&socket, PeerCredentials)?;
        // The kernel's answer for a socket without a peer.
        if known.uid() == u32::MAX {
            return Ok(None);
        }
        let pid = Some(known.pid()).filter(|pid| *pid > 0);
        let credentials = Credentials::new(known.uid(), known.gid());
        Ok(Some(credentials.with_groups(groups(socket)?).with_pid(pid)))
    }

    /// `SO_PEERGROUPS`: Linux 4.13 and newer.
    fn groups(socket: BorrowedFd<'_>) -> io::Result<Option<Vec<u32>>> {
        let mut groups: Vec<libc::gid_t> = vec![0; 64];
        loop {
            let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            // SAFETY: the descriptor is open while it is borrowed. The buffer is valid for writing
            // `bytes` bytes and any bytes are valid `gid_t`s; the kernel writes no more than `bytes`
            // and sets `bytes` to what it wrote or, with ERANGE, to what it would need.
            let status = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_PEERGROUPS,
                    groups.as_mut_ptr().cast(),
                    &raw mut bytes,
                )
            };
            let count = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<libc::gid_t>();
            if status == 0 {
                groups.truncate(count);
                return Ok(Some(groups));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ERANGE) if count > groups.len() && count <= MAX_GROUPS => groups.resize(count, 0),
                Some(libc::ENOPROTOOPT | libc::ENODATA) => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

/// xucred of `LOCAL_PEERCRED` (unix(4)): the user and up to 16 groups, the effective one first.
#[cfg(target_vendor = "apple")]
mod system {
    use std::{io, os::fd::BorrowedFd};

    use nix::sys::socket::{getsockopt, sockopt::LocalPeerCred};

    use super::Credentials;

    pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Option<Credentials>> {
        let known = getsockopt(&socket, LocalPeerCred)?;
        let Some((gid, _)) = known.groups().split_first() else { return Ok(None) };
        Ok(Some(Credentials::new(known.uid(), *gid).with_groups(Some(known.groups().to_vec()))))
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
mod system {
    use std::{io, os::fd::BorrowedFd};

    use super::Credentials;

    pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Option<Credentials>> {
        let (uid, gid) = nix::unistd::getpeereid(socket)?;
        Ok(Some(Credentials::new(uid.as_raw(), gid.as_raw())))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, UdpSocket},
        os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    };

    use nix::unistd::{getegid, geteuid, getgroups};

    use super::*;

    #[test]
    fn s_063_the_kernel_tells_uid_gid_groups_and_pid_of_a_peer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let known = credentials(&ours).unwrap().unwrap();
        assert_eq!((known.uid, known.gid), (geteuid().as_raw(), getegid().as_raw()));
        assert_eq!(known.pid, i32::try_from(std::process::id()).ok());
        let mut groups = known.groups.unwrap();
        let mut own: Vec<u32> =
            getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).filter(|&gid| is_group(gid)).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }

    #[test]
    fn s_063_the_overflow_ids_stand_for_nobody() {
        let shown: u32 = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap().trim().parse().unwrap();
        assert!(!is_account(shown) && !is_account(u32::MAX));
        assert!(!is_group(u32::MAX) && !is_group(*OVERFLOW_GID));
        assert!(is_account(0) && is_account(1000) && is_group(0) && is_group(1000));
        assert_eq!(overflow_id("/nonexistent"), 65534);
    }

    #[test]
    fn s_063_a_socket_without_a_peer_has_no_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let datagram = UnixDatagram::bind(folder.path().join("d")).unwrap();
        assert_eq!(credentials(&datagram).unwrap(), None);
        // A listening socket has the credentials of whoever listens; a network socket none at all.
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        assert_eq!(credentials(&listener).unwrap().unwrap().uid, geteuid().as_raw());
        assert_eq!(credentials(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap(), None);
        assert_eq!(credentials(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap(), None);
        assert!(credentials(fs::File::open("/dev/null").unwrap()).is_err());
    }
}
