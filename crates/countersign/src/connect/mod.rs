//! The client: logs in at a server, ours or Xpra's, and hands over the stream.
//!
//! | file | holds |
//! |---|---|
//! | `driver` | [`Connector`]: an address in, a [`Connected`] out |
//! | `uri` | [`Uri`]: where, and as whom |
//! | `saved` | [`ConnectionFile`]: the same from a file of Xpra's launcher |
//! | `display` | where Xpra's sessions of this machine are, by their display |
//! | `dial` | reaching a server and knowing that it is the right one |
//! | `known_servers` | [`KnownServers`]: who was accepted at first contact |
//! | `identity` | [`OwnIdentity`]: the key and certificate of whoever connects |
//! | `login` | the conversation over a stream, in packets |
//! | `encryption` | Xpra's AES, at this end |
//! | `silent` | nothing of the kind, where the server is told nothing |
//! | `succession` | the next certificate, while the present one still counts |
//! | `rpc` | [`Calls`]: having a certificate accepted, and what lets others in |
//! | `ssh` | a stream that the system's `ssh` carries: [`Wanted`], [`relay_for_ssh`] |
//! | `register` | [`Registrar`]: a daemon that waits at a gateway for its user's clients |
//! | `relay` | [`pass`], [`relay()`] and [`Door`]: what follows a login |
//! | `info` | what a server says, as lines or JSON |
//! | `person` | who is told and asked |
//! | `error` | why there is no connection, with the exit code |
#![forbid(unsafe_code)]

mod dial;
mod display;
mod driver;
mod encryption;
mod error;
mod identity;
mod info;
mod known_servers;
mod login;
mod person;
mod register;
mod relay;
mod rpc;
mod saved;
mod silent;
mod ssh;
mod succession;
#[cfg(test)]
mod tests;
mod uri;

pub use dial::ServerTrust;
pub use driver::{Connected, Connector, ServerFacts};
pub use error::{Cause, ConnectError};
pub use identity::{ClientIdentity, OwnIdentity};
pub use known_servers::KnownServers;
pub use person::{FirstContact, Nobody, Person};
pub use register::Registrar;
pub use relay::{Door, pass, relay};
pub use rpc::Calls;
pub use saved::ConnectionFile;
pub use ssh::{Wanted, relay_for_ssh};
pub use uri::Uri;
