//! How many descriptors this process may have, and that a child process is given none of them.
//!
//! Called by the gateway, and by the modules that start a program.
#![allow(unsafe_code)]

use std::{io, os::unix::process::CommandExt, process::Command};

/// How many descriptors this process may open; `None` if there is no limit.
pub fn most_descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|most| usize::try_from(most).ok())
}

/// Lets the child have its standard input, output and error, and nothing else that is open here (S-74).
///
/// Our own descriptors close themselves on exec. This is for those that the gateway inherited, or that
/// a library opened without that flag.
pub fn keep_only_standard(command: &mut Command) {
    // SAFETY: between fork and exec the closure calls one system call and touches neither the heap nor
    // a lock.
    unsafe { command.pre_exec(close_others_on_exec) };
}

/// Marks them instead of closing them: the standard library's own channel, which reports a failed
/// exec, is among them.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn close_others_on_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes numbers only.
    let status =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match io::Error::last_os_error().raw_os_error() {
        // Linux before 5.11: what is our own closes itself all the same.
        Some(libc::ENOSYS | libc::EINVAL) if status != 0 => Ok(()),
        _ if status == 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn close_others_on_exec() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd};

    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    #[test]
    fn s_074_a_child_inherits_no_descriptor_even_without_the_flag() {
        let open = File::open("/dev/null").unwrap();
        fcntl_setfd(&open, FdFlags::empty()).unwrap();
        let is_open = |close: bool| {
            let mut command = Command::new("test");
            command.args(["-e", &format!("/proc/self/fd/{}", open.as_raw_fd())]);
            if close {
                keep_only_standard(&mut command);
            }
            command.status().unwrap().success()
        };
        assert!(is_open(false) && !is_open(true));
        let mut missing = Command::new("/nonexistent/program");
        keep_only_standard(&mut missing);
        assert_eq!(missing.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
