//! The operating system behind safe functions. The only place of this crate where `unsafe` is allowed.
//!
//! Everything here is called by the modules, transports and backends; nothing here decides who gets in.

pub mod accounts;
pub mod clock;
pub mod descriptors;
pub mod environment;
pub mod files;
pub mod inherited;
pub mod peer;
pub mod resolver;
pub mod title;
