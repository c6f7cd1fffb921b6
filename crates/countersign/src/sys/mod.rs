//! The operating system behind safe functions. The only place of this crate where `unsafe` is allowed.
//!
//! Everything here is called by the modules, transports and backends; nothing here decides who gets in.
//!
//! What Unix and Windows both have is one file with two halves; what only one of them has is behind a `cfg`
//! here and nowhere below.

pub mod accounts;
pub mod authorities;
pub mod clock;
#[cfg(unix)]
pub mod descendants;
#[cfg_attr(windows, path = "descriptors/windows.rs")]
pub mod descriptors;
pub mod detached;
pub mod environment;
pub mod files;
#[cfg(unix)]
pub mod group;
#[cfg(unix)]
pub mod gssapi;
#[cfg(unix)]
pub mod ids;
#[cfg(unix)]
pub mod inherited;
#[cfg(unix)]
pub mod krb5;
#[cfg(unix)]
pub mod library;
pub mod logon;
pub mod memory;
#[cfg_attr(not(target_os = "linux"), path = "notify/absent.rs")]
pub mod notify;
#[cfg(unix)]
pub mod pam;
pub mod peer;
#[cfg(unix)]
pub mod privilege;
#[cfg(unix)]
pub mod resolver;
pub mod sandbox;
#[cfg(windows)]
pub mod security;
pub mod sockets;
pub mod title;
#[cfg(unix)]
pub mod user;
pub mod vsock;
pub mod waiting;
