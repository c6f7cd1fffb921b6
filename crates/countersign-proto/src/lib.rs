//! The rules of the countersign conversation.
//!
//! This crate decides what is said next and whether a peer passed. It reads no socket, no file and
//! no clock, starts no thread and draws no random number: bytes, time and randomness are arguments
//! (its `clippy.toml` bans the rest). It can therefore be tested whole in memory, and embedded
//! anywhere.
//!
//! | module | holds |
//! |---|---|
//! | [`chain`] | a socket's links in order, the four kinds of verifier, and the [`chain::Grant`] |
//! | [`server`], [`client`] | the conversation of each end, as states taken by value |
//! | [`challenge`], [`mechanism`] | one round, and the arithmetic of its proof for both ends |
//! | [`stay`] | what a link keeps open until the client has left |
//! | [`identity`], [`peer`] | who somebody claims to be, what the transport proves, who it is |
//! | [`wire`] | bytes to messages and back; decides nothing |
//! | [`secret`], [`error`] | what must not leak; what can go wrong, by who is to blame |
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic),
    // Tests start their clock somewhere; the rules never look at one.
    allow(clippy::disallowed_methods)
)]

pub mod chain;
pub mod challenge;
pub mod client;
pub mod error;
pub mod identity;
pub mod mechanism;
pub mod peer;
pub mod secret;
pub mod server;
pub mod stay;
pub mod wire;

pub use chain::{Chain, Grant, Link, Verifier};
pub use error::{Error, Reason, Refusal};
pub use identity::{Claim, Identity, Username};
pub use peer::Peer;
pub use secret::Secret;
