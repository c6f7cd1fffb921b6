//! Authentication in front of any daemon: the gateway, the client, and both ends as a library.
#![deny(unsafe_code)]

pub mod backend;
pub mod config;
pub mod connect;
pub mod error;
pub mod gateway;
pub mod handlers;
pub mod modules;
pub mod options;
pub mod sys;
pub mod transport;
pub mod trust;
pub mod users;

pub use countersign_proto as proto;
pub use countersign_proto::{Chain, Claim, Grant, Identity, Peer, Refusal, Secret, Username, Verifier};
pub use error::ConfigError;
