//! Turns an address into a byte stream and a [`crate::Peer`].
#![forbid(unsafe_code)]

mod stream;

pub use stream::{Stream, Wire};
