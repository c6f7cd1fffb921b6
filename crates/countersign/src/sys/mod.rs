//! The operating system behind safe functions. The only place of this crate where `unsafe` is allowed.
//!
//! Everything here is called by the modules, transports and backends; nothing here decides who gets in.

pub mod accounts;
pub mod authorities;
pub mod clock;
pub mod descendants;
pub mod descriptors;
pub mod detached;
pub mod environment;
pub mod files;
pub mod group;
pub mod gssapi;
pub mod inherited;
pub mod krb5;
pub mod library;
pub(crate) mod memory;
pub mod pam;
pub mod peer;
pub mod resolver;
pub mod title;
pub mod waiting;
