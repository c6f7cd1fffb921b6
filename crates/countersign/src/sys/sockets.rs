//! How a port is taken, what the errors of a listening socket mean, and Unix sockets for threads that wait.
//!
//! Called by `transport`, and by those who ask a program of this machine.

use std::io;

#[cfg_attr(windows, path = "sockets/windows.rs")]
#[cfg_attr(unix, path = "sockets/unix.rs")]
mod system;

pub use system::{BlockingUnixStream, take_port};

/// Whether accepting failed for want of descriptors or memory: waiting may help (S-05).
pub fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| system::SHORTAGE.contains(&code))
}

/// `accept` reports what befell a connection in the queue as if it were the listener's own.
pub fn belongs_to_the_connection(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| system::OF_THE_CONNECTION.contains(&code))
}
