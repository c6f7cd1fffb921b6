//! The owner's way in: what is asked of the trust store besides logins, and who may ask.
//!
//! | file | holds |
//! |---|---|
//! | `message` | [`Request`] and [`Response`] |
//! | `administer` | does what is asked, for the socket and without it |
//! | `running` | what a gateway that runs is asked beside its trust store |
//! | `entrance` | [`Entrance`]: where an invited client can come in |
//! | `penalties` | who has to wait after failed logins |
//! | `wire` | lines of JSON, bounded |
//! | `server` | [`ControlSocket`], which the gateway opens |
//! | `client` | [`Owner`]: asks the running gateway, or works on the store while there is none |
//!
//! Whoever is root, or is the user that the gateway runs as, has a way back from every state (S-58).
#![forbid(unsafe_code)]

mod administer;
mod client;
mod entrance;
mod listed;
mod message;
mod penalties;
mod running;
mod server;
mod wire;

pub use administer::administer;
pub use client::{ControlError, Owner};
pub use entrance::Entrance;
pub use listed::{Der, Listed, ListedInvitation, PassphraseFacts};
pub use message::{Expiry, Failure, FailureCode, MOST_AT_ONCE, Request, Response};
pub use penalties::ListedPenalty;
pub use running::{OpenSession, Reloaded, Running, SocketStatus, Status, Which};
pub use server::ControlSocket;
