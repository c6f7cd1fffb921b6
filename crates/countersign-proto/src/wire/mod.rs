//! Wire codecs: bytes to messages and back. They decide nothing and read no socket.
//!
//! The gateway calls them for what clients send, the client driver for what servers send. Everything here is fed by
//! strangers: no byte may cause a panic, and nothing is allocated by the word of a length field alone.

pub mod detect;
pub mod multipass;
pub mod proxy;
pub mod websocket;
pub mod xpra;
