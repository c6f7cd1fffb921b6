//! The operating system behind safe functions. The only place of this crate where `unsafe` is allowed.
//!
//! Everything here is called by the modules, transports and backends; nothing here decides who gets in.

pub mod accounts;
pub mod environment;
pub mod files;
pub mod inherited;
pub mod peer;
pub mod resolver;
//! The operating system in safe functions: the only folder that may hold `unsafe` code.
//!
//! Each block says why it is sound. Everything else in the crate forbids `unsafe`.

pub mod descriptors;
