//! Keeps descriptors out of programs that are started. Called by `exec:` backends.
#![allow(unsafe_code)]

use std::{io, os::unix::process::CommandExt, process::Command};

/// Makes the program start with its standard streams and no other descriptor, wherever the others came
/// from: this process may have inherited some that nobody marked (S-84).
pub fn close_others_in(command: &mut Command) {
    // SAFETY: `close_others` makes system calls only; it neither allocates nor locks, so it may run
    // between fork and exec of a process with threads (signal-safety(7)).
    unsafe { command.pre_exec(close_others) };
}

#[cfg(target_os = "linux")]
fn close_others() -> io::Result<()> {
    // Marked, not closed: the runtime reports a failing exec over a descriptor of its own.
    // SAFETY: the arguments are numbers (close_range(2)); nothing in this process owns the range after
    // the exec that follows.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // Before Linux 5.11 there is no such call.
    if done == 0 { Ok(()) } else { mark_each() }
}

#[cfg(not(target_os = "linux"))]
fn close_others() -> io::Result<()> {
    mark_each()
}

fn mark_each() -> io::Result<()> {
    // SAFETY: sysconf(3) takes a number and is safe between fork and exec.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let most = libc::c_int::try_from(most).ok().filter(|most| *most > 0).unwrap_or(65_536);
    for number in FIRST as libc::c_int..most {
        // SAFETY: a number that is no descriptor only makes the call fail.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// The first descriptor behind the standard streams.
const FIRST: libc::c_uint = 3;
