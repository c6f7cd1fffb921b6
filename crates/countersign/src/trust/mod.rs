//! Remembers accepted certificates and how one is admitted, and keeps the gateway's own.
#![forbid(unsafe_code)]

mod durable;
pub mod server_identity;

pub use server_identity::ServerIdentity;
