//! Dialling in: a daemon that nothing can connect to waits at a gateway for its user's clients.
//!
//! A connection is made to the gateway and logged in, asking to `register` under a session's name. It is quiet until a
//! client of the same user wants that session; then the gateway says [`SESSION_GREETING`], what follows is the
//! client's, and the next connection is made. Called by `countersign connect --register`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt as _, time::sleep};

use super::{
    driver::{Connected, Connector},
    error::{Cause, ConnectError},
};
use crate::{
    error::ConfigError,
    gateway::handover::{self, Control},
    proto::client::FailureKind,
    transport::{self, Address, SESSION_GREETING, Stream},
};

/// Keeps one daemon of this machine registered at a gateway.
#[derive(Clone, Debug)]
pub struct Registrar {
    connector: Connector,
    daemon: Address,
}

impl Registrar {
    /// Registers the daemon at `daemon` (`unix:PATH`, `unix:@NAME` or `HOST:PORT`) where `connector` leads, under the
    /// name of the session that its address asks for.
    ///
    /// # Errors
    /// There is no such name, nothing would be said of it, or `daemon` is no address.
    pub fn new(connector: Connector, daemon: &str) -> Result<Self, ConnectError> {
        if connector.uri().display.is_none() {
            let error = ConfigError::new("register", "the session has no name", "add --session NAME");
            return Err(error.into());
        }
        if connector.says_nothing() {
            let error = ConfigError::new(
                "register",
                "a registration is asked for in packets",
                "leave --protocol stream out",
            );
            return Err(error.into());
        }
        Ok(Self { connector: connector.requesting("register"), daemon: address_of(daemon)? })
    }

    /// Registers the daemon, and again whenever a client was led to it, until the gateway refuses. Clients are served
    /// beside each other. A gateway that cannot be reached any more is tried again and again, at most once a minute.
    ///
    /// `registered` is called once, when the daemon waits for the first time; `failed` is told of whatever went wrong
    /// and will be tried again.
    ///
    /// # Errors
    /// The first registration fails, or a later one in a way that does not pass by itself.
    pub async fn serve(
        &self,
        registered: impl FnOnce(),
        failed: impl Fn(&ConnectError) + Send + Sync + 'static,
    ) -> Result<(), ConnectError> {
        let failed = Arc::new(failed);
        let mut waiting = self.register().await?;
        registered();
        let mut pause = FIRST_PAUSE;
        loop {
            let since = Instant::now();
            match self.called(waiting).await {
                Ok(client) => {
                    let (registrar, failed) = (self.clone(), Arc::clone(&failed));
                    tokio::spawn(async move {
                        if let Err(error) = registrar.lead(client).await {
                            failed(&error);
                        }
                    });
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    failed(&error);
                    // One that ends at once, each time, is not asked without a pause.
                    if since.elapsed() < LONGEST_PAUSE {
                        sleep(pause).await;
                        pause = LONGEST_PAUSE.min(pause * 2);
                    } else {
                        pause = FIRST_PAUSE;
                    }
                }
            }
            waiting = loop {
                match self.register().await {
                    Ok(waiting) => break waiting,
                    Err(error) if !passes(&error) => return Err(error),
                    Err(error) => {
                        failed(&error);
                        sleep(pause).await;
                        pause = LONGEST_PAUSE.min(pause * 2);
                    }
                }
            };
        }
    }

    /// One registration.
    async fn register(&self) -> Result<Stream, ConnectError> {
        let Connected { stream, server } = self.connector.connect().await?;
        let registered = server.hello.caps().find("registered").and_then(|value| value.as_bool());
        match registered {
            Some(true) => Ok(stream),
            _ => Err(ConnectError::new(Cause::Usage, server.address, "no daemon can register there")
                .with_fix("its backend has to be session:live()")),
        }
    }

    /// The same stream when a client is at its other end.
    async fn called(&self, mut waiting: Stream) -> Result<Stream, ConnectError> {
        let mut greeting = [0; SESSION_GREETING.len()];
        let uri = self.connector.uri();
        waiting.read_exact(&mut greeting).await.map_err(|error| ConnectError::broken(uri, &error))?;
        match greeting == SESSION_GREETING {
            true => Ok(waiting),
            false => Err(ConnectError::new(
                Cause::Login(FailureKind::Misbehaved),
                uri.to_string(),
                "it broke the protocol: it did not say that a client has come",
            )),
        }
    }

    /// Leads a client to the daemon. Without a daemon it is left, and so is the client.
    async fn lead(&self, client: Stream) -> Result<(), ConnectError> {
        let daemon = transport::connect(&self.daemon, CONNECT_TIMEOUT).await.map_err(|error| {
            ConnectError::new(Cause::Unreachable, self.daemon.to_string(), error.to_string())
                .with_fix("start the daemon")
        })?;
        handover::relay(client, daemon, None, &Control::new()).await;
        Ok(())
    }
}

/// Whether it may be gone at another try: nobody is there, or has no time.
fn passes(error: &ConnectError) -> bool {
    matches!(
        error.cause(),
        Cause::Unreachable
            | Cause::System
            | Cause::Login(FailureKind::Busy | FailureKind::Timeout | FailureKind::Closed)
    )
}

fn address_of(text: &str) -> Result<Address, ConfigError> {
    let wrong = |why| ConfigError::new("register", why, "write unix:PATH, unix:@NAME or HOST:PORT");
    if let Some(place) = text.strip_prefix("unix:") {
        return match place.strip_prefix('@') {
            _ if place.is_empty() || place == "@" => Err(wrong("it names no socket")),
            Some(name) => Ok(Address::Abstract(name.to_owned())),
            None => Ok(Address::Unix(place.into())),
        };
    }
    if text.starts_with('/') {
        return Ok(Address::Unix(text.into()));
    }
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port.parse() {
        Ok(port @ 1..) if !host.is_empty() => Ok(Address::Tcp { host: host.to_owned(), port }),
        _ => Err(wrong("it names no host and port")),
    }
}

/// How long it waits before it tries a gateway again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The same, at last.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long the daemon may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_a_socket_or_a_port() {
        for good in ["unix:/run/x", "/run/x", "unix:@x", "127.0.0.1:80", "tcp:[::1]:80", "localhost:1"] {
            assert!(address_of(good).is_ok(), "{good}");
        }
        for bad in ["", "x", "unix:", "unix:@", ":80", "localhost:0", "localhost:65536", "localhost:x"] {
            assert!(address_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_does_not_pass_and_an_absence_does() {
        let login = |kind| ConnectError::new(Cause::Login(kind), "s", "w");
        for passing in [FailureKind::Busy, FailureKind::Timeout, FailureKind::Closed] {
            assert!(passes(&login(passing)), "{passing:?}");
        }
        for lasting in [FailureKind::Refused, FailureKind::NoCredential, FailureKind::Forbidden] {
            assert!(!passes(&login(lasting)), "{lasting:?}");
        }
        assert!(passes(&ConnectError::new(Cause::Unreachable, "s", "w")));
        assert!(!passes(&ConnectError::new(Cause::Unverified, "s", "w")));
    }

    #[test]
    fn a_registration_has_a_name() {
        let register = |uri: &str| Registrar::new(Connector::new(uri.parse().unwrap()), "unix:/run/x");
        assert!(register("tcp://127.0.0.1:1/mail").is_ok());
        let error = register("tcp://127.0.0.1:1/").unwrap_err();
        assert_eq!(error.fix(), Some("add --session NAME"));
    }
}
