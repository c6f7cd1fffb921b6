//! The gateway: listens, lets clients in by each socket's chain, and hands them to the daemon.
//!
//! It holds no rules: [`drive`] runs the conversation, [`handover`] moves the bytes, [`audit`]
//! records what was decided.
#![forbid(unsafe_code)]

pub mod drive;
//! Drives a conversation over a transport and hands the stream over; holds no rules.
#![forbid(unsafe_code)]

pub mod handover;
