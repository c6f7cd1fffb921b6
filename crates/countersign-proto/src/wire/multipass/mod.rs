//! The wire of Multipass's front door: gRPC messages that are answered at the gateway, and the words of gRPC around them.
//!
//! Calls that pass through are never decoded: HTTP/2 carries them. What is here is read before a peer is accepted, so
//! all of it is bounded: one message has at most [`LARGEST_MESSAGE`] bytes, whatever its head declares (S-19).
//! `gateway` answers with it, `connect` asks with it.

mod buffer;
mod error;
mod field;
mod frame;
mod message;
mod status;
mod timeout;

pub use error::WireError;
pub use frame::{Frames, framed};
pub use message::{
    AuthenticateReply, AuthenticateRequest, GetReply, GetRequest, Message, PingReply, PingRequest,
    RenewReply, RenewRequest, SetReply, SetRequest,
};
pub use status::{Code, Status, percent_encoded};
pub use timeout::read_timeout;

/// `:path` of the calls that are answered by the gateway.
pub mod path {
    /// Answers whether the caller's certificate is accepted. It passes to the daemon of one who is.
    pub const PING: &str = "/multipass.Rpc/ping";
    /// Has the caller's certificate accepted, for a passphrase or an invitation.
    pub const AUTHENTICATE: &str = "/multipass.Rpc/authenticate";
    /// Tells a setting.
    pub const GET: &str = "/multipass.Rpc/get";
    /// Changes a setting.
    pub const SET: &str = "/multipass.Rpc/set";
    /// Lets a new certificate take the place of an accepted one. Not in Multipass.
    pub const RENEW: &str = "/countersign.Trust/Renew";
}

/// The setting that `get` and `set` tell and change at the gateway; every other key is the daemon's.
pub const PASSPHRASE_KEY: &str = "local.passphrase";

/// Bytes of a message that is read here; a passphrase has at most 1,024 (S-19, S-55).
pub const LARGEST_MESSAGE: usize = 64 * 1024;

/// The `content-type` of every answer.
pub const CONTENT_TYPE: &str = "application/grpc";
