//! Reaching a server and knowing that it is the right one, before a word of the login.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::{Cause, ConnectError},
    identity::{Shows, WhenAsked},
    known_servers::{KnownServers, PREFIX},
    person::{FirstContact, Person},
    ssh::Program,
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
    /// SHA-256 of the certificate that we showed.
    pub(super) shown: Option<Fingerprint>,
    /// What the server chose of what we speak (ALPN).
    pub(super) protocol: Option<Vec<u8>>,
    /// The `tls-exporter` channel binding, with TLS 1.3.
    pub(super) channel_binding: Option<Arc<[u8]>>,
    /// The `ssh` that carries the stream.
    pub(super) program: Option<Program>,
}

/// What is needed to reach servers.
pub(super) struct Dial<'a> {
    pub(super) uri: &'a Uri,
    pub(super) trust: &'a ServerTrust,
    pub(super) shows: Option<&'a Shows>,
    pub(super) person: &'a Arc<dyn Person>,
    /// Application protocols, best first; none are named where there are none.
    pub(super) protocols: &'a [&'a str],
}

impl<'a> Dial<'a> {
    /// The same, naming these application protocols (ALPN).
    pub(super) fn speaking(self, protocols: &'a [&'a str]) -> Self {
        Self { protocols, ..self }
    }

    /// Connects, and shakes hands where the address asks for TLS or WebSocket.
    pub(super) async fn reach(&self) -> Result<Reached, ConnectError> {
        if let Some(wanted) = &self.uri.ssh {
            return self.reach_by_ssh(wanted).await;
        }
        let reached = if self.uri.tls { self.reach_tls().await? } else { self.reach_plain().await? };
        let Some(path) = &self.uri.websocket else { return Ok(reached) };
        let has_own = self.showed_own(&reached);
        match transport::upgrade_to_websocket(reached.stream, &self.uri.address, path).await {
            Ok(stream) => Ok(Reached { stream, ..reached }),
            // It may not want our certificate, which it says only now.
            Err(_) if has_own => Box::pin(Dial { shows: None, ..*self }.reach()).await,
            Err(why) => Err(ConnectError::new(Cause::Unreachable, self.uri.to_string(), why)
                .with_fix("check the address and its path, and that the server takes WebSocket there")),
        }
    }

    /// Whether the server saw the certificate that we made ourselves.
    pub(super) fn showed_own(&self, reached: &Reached) -> bool {
        reached.shown.is_some() && matches!(self.shows, Some(Shows::Own(_)))
    }

    async fn reach_plain(&self) -> Result<Reached, ConnectError> {
        let stream = self.connect().await?;
        let confidential = !matches!(self.uri.address, Address::Tcp { .. });
        let verified = is_answered_by_us(&stream);
        Ok(Reached {
            stream,
            confidential,
            verified,
            fingerprint: None,
            tls: None,
            shown: None,
            protocol: None,
            channel_binding: None,
            program: None,
        })
    }

    /// Our certificate tells who we are: only a server that is known sees it. One that has yet to
    /// be judged is shown none, and is asked again, by its key, when it was accepted.
    async fn reach_tls(&self) -> Result<Reached, ConnectError> {
        if let Some(pin) = self.trust.pin {
            return Ok(self.handshake(&Trust::Pin(pin)).await?);
        }
        if let Some(ca) = &self.trust.ca {
            return Ok(self.handshake(&Trust::CaFile(ca.clone())).await?);
        }
        let known_servers = match &self.trust.known_servers {
            Some(known) => known.clone(),
            None => KnownServers::of_user()?,
        };
        if let Some(known) = known_servers.find(&self.uri.to_string())? {
            return match self.handshake(&Trust::Pin(known)).await {
                Ok(reached) => Ok(reached),
                Err(Handshake::Untrusted(_)) => Err(self.changed(&known_servers, &known).await),
                Err(Handshake::Failed(error)) => Err(error),
            };
        }
        let stream = self.connect().await?;
        if is_answered_by_us(&stream) {
            return Ok(self.handshake_over(stream, &Trust::Unverified, self.shows).await?);
        }
        match self.handshake_over(stream, &Trust::SystemRoots, self.shows).await {
            Ok(reached) => return Ok(reached),
            Err(Handshake::Untrusted(_)) => {}
            Err(Handshake::Failed(error)) => return Err(error),
        }
        let stranger = self.look().await?;
        let fingerprint = self.key_of(&stranger)?;
        self.meet(&known_servers, fingerprint).await?;
        match self.shows {
            None => Ok(stranger),
            Some(_) => Ok(self.handshake(&Trust::Pin(fingerprint)).await?),
        }
    }

    /// A handshake with a server that nobody knows, in which we show nothing of ourselves.
    async fn look(&self) -> Result<Reached, ConnectError> {
        let stream = self.connect().await?;
        Ok(self.handshake_over(stream, &Trust::Unverified, None).await?)
    }

    fn key_of(&self, reached: &Reached) -> Result<Fingerprint, ConnectError> {
        reached.fingerprint.ok_or_else(|| self.unverified("its certificate cannot be read"))
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

    async fn handshake(&self, trust: &Trust) -> Result<Reached, Handshake> {
        let stream = self.connect().await.map_err(Handshake::Failed)?;
        self.handshake_over(stream, trust, self.shows).await
    }

    /// Shakes hands with a server whom `trust` lets pass. Under [`Trust::Unverified`] the caller has
    /// judged it, or does so before anything is sent.
    async fn handshake_over(
        &self,
        stream: Stream,
        trust: &Trust,
        shows: Option<&Shows>,
    ) -> Result<Reached, Handshake> {
        let mut tls = match ClientTls::new(trust, None, OldestVersion::default()) {
            Ok(tls) => tls.speaking(self.protocols),
            // A system without authorities vouches for nobody, which is no reason to give up.
            Err(error) if *trust == Trust::SystemRoots => {
                return Err(Handshake::Untrusted(self.unverified(error.to_string())));
            }
            Err(error) => return Err(Handshake::Failed(error.into())),
        };
        let asked = shows.map(|shows| {
            Arc::new(WhenAsked::new(shows.clone(), self.uri.to_string(), Arc::clone(self.person)))
        });
        if let Some(asked) = &asked {
            tls = tls.showing(Arc::<WhenAsked>::clone(asked));
        }
        let name = match &self.uri.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) | Address::Abstract(_) | Address::Vsock { .. } => "localhost",
        };
        let connected = tls.connect(stream, name, Instant::now() + HANDSHAKE_TIMEOUT).await;
        // What is wrong at our end comes first: the server only sees that something is missing.
        let shown = asked.map_or(Ok(None), |asked| asked.shown()).map_err(Handshake::Failed)?;
        Ok(Reached::by(connected.map_err(|error| self.without(error))?, shown))
    }

    /// Why there is no TLS.
    fn without(&self, error: TlsError) -> Handshake {
        match error {
            TlsError::Handshake(error) if is_about_trust(&error) => {
                let why = format!("it is not the server that was named: {error}");
                Handshake::Untrusted(self.unverified(why))
            }
            other => Handshake::Failed(
                ConnectError::new(Cause::Unreachable, self.uri.to_string(), other.to_string())
                    .with_fix(self.speaks_tls()),
            ),
        }
    }

    fn speaks_tls(&self) -> &'static str {
        match self.uri.address {
            Address::Tcp { .. } => "check that the server speaks TLS 1.3 at this port",
            _ => "check that the server speaks TLS on this socket, or write unix: in place of tls+unix:",
        }
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

    /// Why a known server is not accepted, with the key that it has now.
    async fn changed(&self, known: &KnownServers, then: &Fingerprint) -> ConnectError {
        let now = match self.look().await.and_then(|reached| self.key_of(&reached)) {
            Ok(now) => now,
            Err(error) => return error,
        };
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

impl Reached {
    /// A server that was judged, inside TLS.
    fn by(connected: Connected, shown: Option<Fingerprint>) -> Self {
        Self {
            confidential: true,
            verified: true,
            fingerprint: connected.key_fingerprint(),
            tls: Some(connected.facts().clone()),
            shown,
            protocol: connected.protocol().map(<[u8]>::to_vec),
            channel_binding: connected.channel_binding().cloned(),
            program: None,
            stream: connected.into_stream_of_judged_server(),
        }
    }
}

/// Why a handshake did not come about.
enum Handshake {
    /// The certificate is not one that is trusted in this way, or not for this name.
    Untrusted(ConnectError),
    Failed(ConnectError),
}

impl From<Handshake> for ConnectError {
    fn from(end: Handshake) -> Self {
        match end {
            Handshake::Untrusted(error) | Handshake::Failed(error) => error,
        }
    }
}

/// A Unix socket is what it should be if who answers there is root or the user itself: the kernel
/// says so (S-63). Whoever else may have put it there.
fn is_answered_by_us(stream: &Stream) -> bool {
    match stream.wire() {
        Wire::Unix(socket) => sys::peer::credentials(socket)
            .ok()
            .flatten()
            .is_some_and(|peer| peer.uid == 0 || peer.uid == sys::accounts::own_uid()),
        _ => false,
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
