//! The gateway: listens, lets clients in by each socket's chain, and hands them to the daemon.
//!
//! It holds no rules: [`drive`] runs the conversation, [`handover`] moves the bytes, [`audit`]
//! records what was decided.
#![forbid(unsafe_code)]

mod admin;
pub mod audit;
mod certificates;
mod connection;
mod crowd;
mod desk;
pub mod drive;
pub mod handover;
#[cfg_attr(windows, path = "inherit/absent.rs")]
mod inherit;
mod listen;
mod metrics;
mod orders;
mod plan;
mod reload;
mod rpc;
mod serve;
mod sessions;
#[cfg(unix)]
mod standing;
mod tally;
#[cfg(test)]
mod tests;
mod trusting;

pub use crowd::{Crowd, Place, Quota};
pub use listen::Door;
pub use orders::Orders;
pub use reload::Reread;
pub use serve::{Gateway, Outcome, StartError};
#[cfg(unix)]
pub use standing::{Privileged, Role, Standing};

pub use crate::{
    penalties::{Penalised, Penalties},
    source::Source,
};
