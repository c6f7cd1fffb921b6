//! How memory is laid out, and that nothing of it gets to a disk.
//!
//! Called at the start of the gateway, and by tables that are large.
#![allow(unsafe_code)]

use std::io;

/// Asks for large pages behind the room of a large vector, so that a look into the middle of it finds the page
/// without a walk through tables that are in no cache. It is a wish: where the system has none to give,
/// nothing is different.
pub(crate) fn in_large_pages<T>(room: &Vec<T>) {
    let start = room.as_ptr().addr();
    let end = start.saturating_add(room.capacity().saturating_mul(size_of::<T>()));
    // Whole pages of the vector's own, and nothing beside it.
    let (first, last) = (start.next_multiple_of(LARGE_PAGE), end / LARGE_PAGE * LARGE_PAGE);
    if first >= last {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        let first_page = room.as_ptr().wrapping_byte_add(first - start).cast_mut();
        // SAFETY: the range is inside one live allocation, and the advice changes none of its bytes.
        let _ = unsafe { libc::madvise(first_page.cast(), last - first, libc::MADV_HUGEPAGE) };
    }
}

/// No core of this process is dumped, and no other process of its account may look into its memory, which holds
/// secrets (S-91). A program that it starts may want cores again.
///
/// To be said again after a change of the user: the system forgets it then.
///
/// # Errors
/// The system refuses.
pub fn keep_to_ourselves() -> io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) })?;
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Nothing of this process is swapped to a disk from now on, whoever allocated it: passwords pass through buffers of
/// TLS, of packets and of PAM, and not only through values made for them (S-91). Pages are locked when they are
/// first used, so that a stack that nobody needs costs nothing. Programs that it starts are not affected.
///
/// # Errors
/// It takes an unlimited `RLIMIT_MEMLOCK`, which root gives itself and a service manager gives others: under any other
/// limit a later allocation would fail, which is worse than a page on a disk.
pub fn keep_off_the_disk() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let all = Rlimit { current: None, maximum: None };
        if getrlimit(Resource::Memlock).current.is_some() && setrlimit(Resource::Memlock, all).is_err() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "RLIMIT_MEMLOCK is not unlimited"));
        }
        let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
        // SAFETY: the call takes a number and changes no byte of memory.
        if unsafe { libc::mlockall(flags) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes of one, on the systems that have them by default.
const LARGE_PAGE: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_every_size_stay_as_they_are() {
        for length in [0, 1, LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 17] {
            let mut room: Vec<u8> = Vec::with_capacity(length);
            in_large_pages(&room);
            room.resize(length, 7);
            assert!(room.iter().all(|byte| *byte == 7));
        }
        in_large_pages(&vec![(); 10]);
    }
}
