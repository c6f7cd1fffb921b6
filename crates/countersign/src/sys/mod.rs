//! The operating system in safe functions: the only folder that may hold `unsafe` code.
//!
//! Each block says why it is sound. Everything else in the crate forbids `unsafe`.

pub mod accounts;
pub mod environment;
pub mod files;
pub mod inherited;
pub mod peer;
