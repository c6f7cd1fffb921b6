//! Sockets that the service manager opened for this process (systemd's socket activation).
//!
//! Called once by the gateway at start. The environment is left as it is: other threads may read it,
//! and children get an environment of their own.
#![allow(unsafe_code)]

use std::{
    env, io,
    ops::Range,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::sockopt::socket_type,
};

/// Takes the inherited sockets with their names (`FileDescriptorName=`), in order.
///
/// They are closed in children from now on. There are none where `LISTEN_PID` is another process:
/// the variables were meant for a parent that forgot to remove them. A second call finds none.
///
/// # Errors
/// `LISTEN_FDS` promises a descriptor that is closed or is no socket.
pub fn sockets() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let variable = |name| env::var(name).ok();
    let numbers = promised(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id());
    let mut names = variable("LISTEN_FDNAMES").unwrap_or_default();
    names = if names.is_empty() { "unknown".to_owned() } else { names };
    let names = names.split(':').chain(std::iter::repeat("unknown"));
    numbers.zip(names).map(|(number, name)| Ok((name.to_owned(), take(number)?))).collect()
}

/// The descriptors that the environment promises to this process.
fn promised(pid: Option<String>, count: Option<String>, own_pid: u32) -> Range<RawFd> {
    const FIRST: RawFd = 3;
    /// No service manager passes more; a larger number is a mistake in the environment.
    const MOST: RawFd = 1024;
    let ours = pid.and_then(|pid| pid.trim().parse().ok()) == Some(own_pid);
    let count = count.and_then(|count| count.trim().parse().ok()).filter(|count| (0..=MOST).contains(count));
    FIRST..FIRST + count.filter(|_| ours).unwrap_or(0)
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    let broken = |error: rustix::io::Errno| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("LISTEN_FDS promises descriptor {number}, which is no open socket"),
        )
    };
    // SAFETY: the descriptor is only asked for its kind and flags; if it is closed, the calls say so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    socket_type(borrowed).map_err(broken)?;
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(broken)?;
    // SAFETY: the descriptor is open. The service manager passed it to this process (`LISTEN_PID`) to
    // own, and `TAKEN` makes sure that nobody else here is given it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, process::Command};

    use rustix::io::fcntl_getfd;

    use super::*;

    #[test]
    fn only_the_process_that_was_meant_is_promised_anything() {
        let promised = |pid: &str, count: &str| promised(Some(pid.into()), Some(count.into()), 77).len();
        assert_eq!(promised("77", "2"), 2);
        assert_eq!(promised(" 77\n", "1"), 1);
        for (pid, count) in [("78", "2"), ("", "2"), ("77", ""), ("77", "-1"), ("77", "x"), ("77", "9999999")]
        {
            assert_eq!(promised(pid, count), 0, "{pid} {count}");
        }
        assert!(super::promised(None, Some("1".into()), 77).is_empty());
    }

    /// Runs itself again as a service manager would, with a listening socket as descriptor 3.
    #[test]
    fn an_inherited_socket_is_taken_once_by_name_and_closed_in_children() {
        if env::var_os("COUNTERSIGN_TEST_INHERITED").is_some() {
            let mut sockets = sockets().unwrap();
            assert_eq!(sockets.len(), 1);
            let (name, socket) = sockets.remove(0);
            assert_eq!(name, "front");
            assert!(fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
            assert!(TcpListener::from(socket).local_addr().unwrap().ip().is_loopback());
            assert!(super::sockets().unwrap().is_empty());
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = "sys::inherited::tests::an_inherited_socket_is_taken_once_by_name_and_closed_in_children";
        let child = Command::new("sh")
            .args(["-c", r#"LISTEN_PID=$$ exec "$0" "$@" 3<&0 </dev/null"#])
            .arg(env::current_exe().unwrap())
            .args(["--exact", this])
            .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "front"), ("COUNTERSIGN_TEST_INHERITED", "1")])
            .stdin(OwnedFd::from(listener))
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && output.contains("1 passed"), "{output}");
    }

    #[test]
    fn a_promise_that_is_not_kept_is_an_error() {
        assert!(take(987_654).unwrap_err().to_string().contains("no open socket"));
    }
}
