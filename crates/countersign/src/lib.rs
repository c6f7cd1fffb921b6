//! Authentication in front of any daemon: the gateway, the client, and both ends as a library.
//!
//! # Letting clients in
//!
//! A daemon that wants no gateway asks its own clients. Any chain will do, written as in `auth=`; here the
//! kernel says who it is, and the daemon's own account alone gets in.
//!
//! ```no_run
//! # use countersign::{gateway::drive::Acceptor, transport::{Address, Listener, Stream, UnixOptions}};
//! # async fn serve(_: Stream, _: Option<String>) {}
//! # async fn daemon() -> Result<(), Box<dyn std::error::Error>> {
//! let acceptor = Acceptor::of(&["peercred"])?;
//! let listener = Listener::bind(&Address::Unix("/run/app.sock".into()), &UnixOptions::default()).await?;
//! loop {
//!     let (stream, peer) = listener.accept().await?;
//!     let acceptor = acceptor.clone();
//!     tokio::spawn(async move {
//!         let Ok(admitted) = acceptor.accept(stream, peer).await else { return };
//!         let who = admitted.grant.identity().map(|identity| identity.name.to_string());
//!         let Ok(stream) = admitted.into_stream().await else { return };
//!         serve(stream, who).await;
//!     });
//! }
//! # }
//! ```
//!
//! A chain with `pam` has this program started again for each login, so `main` begins with
//! [`modules::run_worker`]; no other module needs anything of the kind.
//!
//! # Logging in
//!
//! ```no_run
//! # use countersign::{connect::{Connector, relay}, handlers::{Registry, Sources}};
//! # async fn client() -> Result<(), Box<dyn std::error::Error>> {
//! let connected = Connector::new("tls://alice@app.example:10000".parse()?)
//!     .with_handlers(Registry::builtin().all(Sources::new())?)
//!     .connect()
//!     .await?;
//! relay(connected.stream, tokio::io::stdin(), tokio::io::stdout()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | module | does |
//! |---|---|
//! | [`gateway`] | lets clients in by each socket's chain and hands them to the daemon |
//! | [`connect`] | logs in at a server |
//! | [`config`] | turns text into values that cannot be wrong |
//! | [`modules`], [`handlers`] | what a chain can check with; where a client's answers come from |
//! | [`backend`] | opens the daemon's stream for a grant |
//! | [`users`], [`trust`] | accounts and verifiers; the gateway's own certificate |
//! | [`keys`] | security keys: what is kept of them, and how one is asked |
//! | [`transport`], [`sys`] | byte streams and what they prove; the operating system |
//! | [`proto`] | the rules, without any of this |
#![deny(unsafe_code)]

pub mod backend;
pub mod config;
pub mod connect;
pub mod control;
pub mod error;
pub mod gateway;
pub mod handlers;
#[cfg(unix)]
mod helper;
pub mod keys;
pub mod modules;
pub mod needs;
mod oauth;
pub mod options;
pub mod penalties;
pub mod source;
pub mod sys;
pub mod trail;
pub mod transport;
pub mod trust;
pub mod users;

pub use countersign_proto as proto;
pub use countersign_proto::{Chain, Claim, Grant, Identity, Peer, Refusal, Secret, Username, Verifier};
pub use error::ConfigError;
