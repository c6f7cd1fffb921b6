//! Reaching a server and knowing that it is the right one, before a word of the login.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::sign::CertifiedKey;

use super::{
    error::{Cause, ConnectError},
    known_servers::{KnownServers, PREFIX},
    person::{FirstContact, Person},
    uri::Uri,
};
use crate::{
    proto::peer::TlsFacts,
    sys,
    transport::{
        self, Address, Stream, Wire,
        tls::{ClientTls, Connected, Fingerprint, OldestVersion, TlsError, Trust},
    },
};

/// How a TLS server is known (S-43).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerTrust {
    /// By the authorities in this PEM file and no others.
    pub ca: Option<PathBuf>,
    /// By its certificate or public key and nothing else.
    pub pin: Option<Fingerprint>,
    /// Where servers are remembered that no authority vouches for. `None`: the user's own file.
    pub known_servers: Option<KnownServers>,
    /// Accept a server that was never seen before without a question. A changed one is refused
    /// all the same.
    pub on_first_use: bool,
}

/// A server that was reached and, as far as the wire allows, verified.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) stream: Stream,
    pub(super) confidential: bool,
    pub(super) verified: bool,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) tls: Option<TlsFacts>,
}

/// What is needed to reach servers.
pub(super) struct Dial<'a> {
    pub(super) uri: &'a Uri,
    pub(super) trust: &'a ServerTrust,
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) person: &'a Arc<dyn Person>,
}

impl Dial<'_> {
    /// Connects, and shakes hands where the address asks for TLS.
    pub(super) async fn reach(&self) -> Result<Reached, ConnectError> {
        if self.uri.tls {
            return self.reach_tls().await;
        }
        let stream = self.connect().await?;
        let confidential = !matches!(self.uri.address, Address::Tcp { .. });
        // A Unix socket is what it should be if who answers is root or the user itself. Whoever
        // else may have put it there; the prompt says so.
        let verified = match stream.wire() {
            Wire::Unix(socket) => sys::peer::credentials(socket)
                .ok()
                .flatten()
                .is_some_and(|peer| peer.uid == 0 || peer.uid == nix::unistd::geteuid().as_raw()),
            _ => false,
        };
        Ok(Reached { stream, confidential, verified, fingerprint: None, tls: None })
    }

    async fn reach_tls(&self) -> Result<Reached, ConnectError> {
        if let Some(pin) = self.trust.pin {
            return self.verified(self.handshake(&Trust::Pin(pin)).await?);
        }
        if let Some(ca) = &self.trust.ca {
            return self.verified(self.handshake(&Trust::CaFile(ca.clone())).await?);
        }
        let known_servers = match &self.trust.known_servers {
            Some(known) => known.clone(),
            None => KnownServers::of_user()?,
        };
        let known = known_servers.find(&self.uri.to_string())?;
        if known.is_none() {
            match self.handshake(&Trust::SystemRoots).await {
                Ok(connected) => return self.verified(connected),
                Err(Handshake::Untrusted) => {}
                Err(Handshake::Failed(error)) => return Err(error),
            }
        }
        let connected = self.handshake(&Trust::Unverified).await?;
        let Some(fingerprint) = connected.key_fingerprint() else {
            return Err(self.unverified("its certificate cannot be read"));
        };
        match known {
            Some(known) if known == fingerprint => {}
            Some(known) => return Err(self.changed(&known_servers, &known, &fingerprint)),
            None => self.meet(&known_servers, fingerprint).await?,
        }
        let (tls, fingerprint) = (Some(connected.facts().clone()), Some(fingerprint));
        let stream = connected.into_stream_of_judged_server();
        Ok(Reached { stream, confidential: true, verified: true, fingerprint, tls })
    }

    async fn connect(&self) -> Result<Stream, ConnectError> {
        transport::connect(&self.uri.address, CONNECT_TIMEOUT).await.map_err(|error| {
            ConnectError::new(
                Cause::Unreachable,
                self.uri.to_string(),
                format!("it cannot be reached: {error}"),
            )
            .with_fix("check the address, and that the server runs")
        })
    }

    async fn handshake(&self, trust: &Trust) -> Result<Connected, Handshake> {
        let tls = match ClientTls::new(trust, self.identity.clone(), OldestVersion::default()) {
            Ok(tls) => tls,
            // A system without authorities vouches for nobody, which is no reason to give up.
            Err(_) if *trust == Trust::SystemRoots => return Err(Handshake::Untrusted),
            Err(error) => return Err(Handshake::Failed(error.into())),
        };
        let name = match &self.uri.address {
            Address::Tcp { host, .. } => host.as_str(),
            _ => "localhost",
        };
        let stream = self.connect().await.map_err(Handshake::Failed)?;
        tls.connect(stream, name, Instant::now() + HANDSHAKE_TIMEOUT).await.map_err(|error| match error {
            TlsError::Handshake(error) if is_about_trust(&error) && *trust == Trust::SystemRoots => {
                Handshake::Untrusted
            }
            TlsError::Handshake(error) if is_about_trust(&error) => {
                Handshake::Failed(self.unverified(format!("it is not the server that was named: {error}")))
            }
            other => Handshake::Failed(
                ConnectError::new(Cause::Unreachable, self.uri.to_string(), other.to_string())
                    .with_fix("check that the server speaks TLS 1.3 at this port"),
            ),
        })
    }

    fn verified(&self, connected: Connected) -> Result<Reached, ConnectError> {
        let (fingerprint, tls) = (connected.key_fingerprint(), Some(connected.facts().clone()));
        let stream = connected.into_stream().map_err(|error| self.unverified(error.to_string()))?;
        Ok(Reached { stream, confidential: true, verified: true, fingerprint, tls })
    }

    /// First contact: somebody accepts the fingerprint, or nothing is sent.
    async fn meet(&self, known: &KnownServers, fingerprint: Fingerprint) -> Result<(), ConnectError> {
        let contact = FirstContact { server: self.uri.to_string(), fingerprint };
        if self.trust.on_first_use {
            self.person.tell(&format!("{} is new here; its key is {PREFIX}{fingerprint}", contact.server));
        } else {
            let (person, asked) = (Arc::clone(self.person), contact.clone());
            let accepted = tokio::task::spawn_blocking(move || person.accepts(&asked)).await.unwrap_or(false);
            if !accepted {
                let why =
                    format!("it was never seen here, and nobody vouches for its key {PREFIX}{fingerprint}");
                return Err(self.unverified(why).with_fix(format!(
                    "compare the key with the server's own; if it is right, add --pin={fingerprint}, or \
                     --trust-on-first-use to remember it"
                )));
            }
        }
        known.remember(&contact.server, &contact.fingerprint)
    }

    fn changed(&self, known: &KnownServers, then: &Fingerprint, now: &Fingerprint) -> ConnectError {
        let why = format!(
            "its key is not the one it had: {PREFIX}{now} instead of {PREFIX}{then}. Somebody may be in between. \
             Nothing was sent"
        );
        self.unverified(why).with_fix(format!(
            "ask whoever runs the server; if the new key is right, take the line of {} out of {}",
            self.uri,
            known.path().display()
        ))
    }

    fn unverified(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> ConnectError {
        ConnectError::new(Cause::Unverified, self.uri.to_string(), why)
            .with_fix("check the address, the --ca file or the --pin")
    }
}

/// How a handshake ended.
enum Handshake {
    /// No authority of this system vouches for the certificate, or not for this name.
    Untrusted,
    Failed(ConnectError),
}

impl From<Handshake> for ConnectError {
    fn from(end: Handshake) -> Self {
        match end {
            Handshake::Failed(error) => error,
            Handshake::Untrusted => Self::new(Cause::Unverified, "server", "no authority vouches for it"),
        }
    }
}

/// Whether the handshake failed because of the certificate, rather than of what carries it.
fn is_about_trust(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// All addresses of a name together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// From the connection to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
