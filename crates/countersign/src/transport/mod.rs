//! Turns an address into a byte stream and a [`crate::Peer`].
//!
//! | scheme | file | proves of the peer |
//! |---|---|---|
//! | `unix:PATH`, `unix:@NAME` | `unix.rs`, not on Windows | kernel credentials at the time it connected; confidential |
//! | `tcp:HOST:PORT` | `tcp.rs` | its address |
//! | `vsock:CID:PORT` | `vsock.rs`, Linux only | the number of its machine; confidential |
//! | TLS over any of them | `tls/` | a certificate's key, channel binding; confidential |
//! | a channel of SSH | `ssh.rs` | a key that the login has proved; confidential |
//! | WebSocket over any of them | `websocket.rs` | nothing more than what carries it |
//! | Xpra's encryption over any of them | `sealed.rs` | confidential, if the login says so |
#![forbid(unsafe_code)]

mod address;
mod listener;
mod sealed;
#[cfg(feature = "ssh")]
mod ssh;
mod stream;
mod tcp;
pub mod tls;
#[cfg_attr(windows, path = "unix/absent.rs")]
mod unix;
mod upgrade;
#[cfg_attr(not(target_os = "linux"), path = "vsock/absent.rs")]
mod vsock;
mod websocket;

pub use address::{Address, BindError, UnixOptions};
pub use listener::{Listener, connect, is_shortage};
pub use sealed::{Disagreement, Encryption, Sealed};
#[cfg(feature = "ssh")]
pub use ssh::{Inbox, Leashed, SshChannel};
pub use stream::{Stream, Wire};
pub use unix::UnixStream;
pub(crate) use upgrade::upgrade_to_websocket;
pub use vsock::VsockStream;
pub use websocket::WebSocket;

/// The first word of our program at the far end of `ssh://`: the socket is reached, and what follows is the
/// socket's.
pub const RELAY_GREETING: &[u8] = b"countersign relay 1\n";

/// What a daemon that has registered by dialling in hears first when somebody wants it; what follows is the client's.
pub const SESSION_GREETING: &[u8] = b"countersign session 1\n";

/// Whether this system has Unix sockets that tell who is at the other end.
pub const HAS_UNIX_SOCKETS: bool = cfg!(unix);

/// Whether this system has vsock.
pub const HAS_VSOCK: bool = cfg!(target_os = "linux");
