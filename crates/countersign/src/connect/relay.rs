//! What follows a login: bytes between the server and standard input and output, or a local door.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy},
    sync::Semaphore,
    time::timeout,
};

use super::{
    driver::{Connected, Connector},
    error::{Cause, ConnectError},
};
use crate::{
    error::ConfigError,
    gateway::handover::{self, Control, EndReason},
    proto::wire::xpra::{Decoder, Hello, Limits},
    transport::{Address, Listener, Stream, UnixOptions},
};

/// Logs in and passes bytes between the server and `input` and `output` until the server has ended
/// its direction.
///
/// The end of `input` is passed on and the server may still answer (half-close); the end of the
/// server's bytes ends it all, whatever `input` still holds, as a closed connection does. If `input`
/// begins with an Xpra client's hello, that is what the server hears, with our login in it. `input` is
/// therefore read before the login: never give it the terminal that a password is asked for on.
///
/// # Errors
/// As [`Connector::connect`], and whatever broke afterwards.
pub async fn pass(
    connector: &Connector,
    mut input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> Result<(), ConnectError> {
    let Connected { stream, server } = enter(connector, &mut input).await?;
    let unheard = AtomicBool::new(connector.says_nothing());
    let passed = passed(stream, input, output, &unheard).await;
    match passed {
        Ok(Ended::Input) => Ok(()),
        _ if unheard.into_inner() => Err(connector.unheard()),
        Ok(Ended::Server) => Ok(()),
        Err(error) => Err(ConnectError::broken(server.address, &error)),
    }
}

/// Passes bytes between a server that let us in and `input` and `output`, as [`pass`] does.
///
/// # Errors
/// A side broke.
pub async fn relay(
    stream: Stream,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    passed(stream, input, output, &AtomicBool::new(false)).await.map(|_| ())
}

/// Which end of the input and the server's bytes was first.
enum Ended {
    Input,
    Server,
}

/// The same, and whether it is still `unheard` at the end: the first byte of the server makes that false.
async fn passed(
    stream: Stream,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    unheard: &AtomicBool,
) -> io::Result<Ended> {
    let (mut from_server, mut to_server) = tokio::io::split(stream);
    let input_ended = AtomicBool::new(false);
    let upward = async {
        // A server that no longer reads may still have something to say.
        if copy(&mut input, &mut to_server).await.is_ok() {
            input_ended.store(true, Ordering::Relaxed);
            let _ = to_server.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let downward = async {
        let mut first = vec![0; FIRST_PIECE];
        let length = from_server.read(&mut first).await?;
        unheard.fetch_and(length == 0, Ordering::Relaxed);
        output.write_all(first.get(..length).unwrap_or_default()).await?;
        output.flush().await?;
        copy(&mut from_server, &mut output).await?;
        output.shutdown().await
    };
    tokio::select! {
        done = downward => done?,
        () = upward => {}
    }
    Ok(if input_ended.into_inner() { Ended::Input } else { Ended::Server })
}

/// Logs in and says the first words, which are no longer the caller's to say.
async fn enter(
    connector: &Connector,
    input: &mut (impl AsyncRead + Unpin),
) -> Result<Connected, ConnectError> {
    if connector.says_nothing() {
        return connector.connect().await;
    }
    match first_words(input).await {
        (Some(hello), rest) => connector.connect_for(hello, &rest).await,
        (None, rest) => connector.connect_and_say(&rest).await,
    }
}

/// A local address that leads through a login: each connection made to it gets one of its own.
///
/// Whoever can connect to it is let in at the server, so it is made for this user alone: a Unix
/// socket of mode 0600, or a loopback port, which every user of this machine can reach.
#[derive(Debug)]
pub struct Door {
    listener: Listener,
}

impl Door {
    /// Opens a door at `unix:PATH`, `unix:@NAME` or `HOST:PORT`; port 0 lets the system choose.
    ///
    /// # Errors
    /// The address is none of these, leads in from other machines, or cannot be listened on.
    pub async fn open(address: &str) -> Result<Self, ConnectError> {
        let address = local_address(address)?;
        let listener = Listener::bind(&address, &UnixOptions::default()).await.map_err(|error| {
            ConnectError::new(Cause::System, error.to_string(), "").with_fix(error.fix().to_owned())
        })?;
        Ok(Self { listener })
    }

    /// Where it is, with the port that the system chose.
    pub fn address(&self) -> &Address {
        self.listener.local_address()
    }

    /// Lets connections through until the system stops it; `failed` is told of each that failed.
    ///
    /// An Xpra client that comes is let through with its own hello, so that it gets its session in
    /// the words it knows. Anything else gets the daemon's bytes.
    ///
    /// # Errors
    /// The system is out of something for good.
    pub async fn serve(
        self,
        connector: Connector,
        failed: impl Fn(&ConnectError) + Send + Sync + 'static,
    ) -> Result<(), ConnectError> {
        let (connector, failed) = (Arc::new(connector), Arc::new(failed));
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
            let local = match self.listener.accept().await {
                Ok((local, _)) => local,
                Err(error) if crate::transport::is_shortage(&error) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
                Err(error) => {
                    let why = format!("it cannot be listened on: {error}");
                    return Err(ConnectError::new(Cause::System, self.address().to_string(), why));
                }
            };
            let (connector, failed) = (Arc::clone(&connector), Arc::clone(&failed));
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = let_through(&connector, local).await {
                    failed(&error);
                }
            });
        }
    }
}

async fn let_through(connector: &Connector, mut local: Stream) -> Result<(), ConnectError> {
    let connected = enter(connector, &mut local).await?;
    let ended = handover::relay(local, connected.stream, None, &Control::new()).await;
    // How a connection ends after its login is the affair of the two programs. Without one, the end of a
    // server that has said nothing may be its refusal.
    let by_server = matches!(ended.reason, EndReason::BackendClosed | EndReason::BackendReset);
    match connector.says_nothing() && by_server && ended.to_client == 0 {
        true => Err(connector.unheard()),
        false => Ok(()),
    }
}

/// The hello of an Xpra client, and what was read behind it; of anything else only what was read:
/// another first byte, silence, what is no hello.
async fn first_words(input: &mut (impl AsyncRead + Unpin)) -> (Option<Hello>, Vec<u8>) {
    let mut buffer = Vec::new();
    let decoder = Decoder::new(Limits::default());
    let reading = async {
        loop {
            match decoder.decode(&buffer) {
                Ok(Some((packet, length))) => return Hello::read(packet).ok().map(|hello| (hello, length)),
                Ok(None) => {}
                Err(_) => return None,
            }
            if !matches!(input.read_buf(&mut buffer).await, Ok(1..)) {
                return None;
            }
        }
    };
    match timeout(FIRST_WORDS, reading).await {
        Ok(Some((hello, length))) => (Some(hello), buffer.split_off(length.min(buffer.len()))),
        _ => (None, buffer),
    }
}

fn local_address(text: &str) -> Result<Address, ConfigError> {
    let wrong = |why: &'static str| ConfigError::new("listen", why, "write HOST:PORT or unix:PATH");
    if let Some(place) = text.strip_prefix("unix:") {
        return match place.strip_prefix('@') {
            _ if place.is_empty() || place == "@" => Err(wrong("it names no socket")),
            Some(_) => Err(wrong("every user of this machine could use an abstract socket")),
            None => Ok(Address::Unix(place.into())),
        };
    }
    if text.starts_with('/') {
        return Ok(Address::Unix(text.into()));
    }
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    let port = port.parse().map_err(|_| wrong("its port is no number from 0 to 65535"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !loopback {
        return Err(ConfigError::new(
            "listen",
            "whoever reaches that address would be let in at the server",
            "listen on 127.0.0.1, [::1] or a Unix socket",
        ));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// How long a client that is let through may be silent before it is taken for one whose server
/// speaks first. An Xpra client says hello at once.
const FIRST_WORDS: Duration = Duration::from_millis(300);

/// Bytes of the first piece of a server's that is passed on.
const FIRST_PIECE: usize = 8 * 1024;

/// Connections through one door at a time.
const MOST_CONNECTIONS: usize = 256;

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[test]
    fn a_door_is_local() {
        for good in ["127.0.0.1:0", "localhost:80", "[::1]:80", "tcp:127.0.0.1:80", "unix:/run/x", "/run/x"] {
            assert!(local_address(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:80", "[::]:80", "example.com:80", ":80", "80", "127.0.0.1:x", "unix:", "unix:@x"]
        {
            assert!(local_address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn half_a_close_goes_through_and_the_servers_end_ends_it() {
        let (ours, mut server) = UnixStream::pair().unwrap();
        let answering = tokio::spawn(async move {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            server.write_all(b"after ").await.unwrap();
            server.write_all(&all).await.unwrap();
        });
        let mut output = Vec::new();
        relay(Stream::new(ours), &b"the end"[..], &mut output).await.unwrap();
        answering.await.unwrap();
        assert_eq!(output, b"after the end");

        let (ours, server) = UnixStream::pair().unwrap();
        let (input, _held_open) = tokio::io::duplex(16);
        drop(server);
        relay(Stream::new(ours), input, tokio::io::sink()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_hello_is_given_back() {
        for words in [&b"GET / HTTP/1.1\r\n"[..], b"POST / HTTP/1.1\r\n", b"", b"P", b"P\0\0\0\0\0\0\x03abc"]
        {
            let (mut input, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(words).await.unwrap();
            let (hello, rest) = first_words(&mut input).await;
            assert!(hello.is_none());
            assert_eq!(rest, words);
        }
    }
}
