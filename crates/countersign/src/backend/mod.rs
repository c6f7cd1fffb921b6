//! Opens the stream of the daemon that a [`Grant`] entitles to.
//!
//! Called by the gateway's drivers when a chain has passed. To add a kind: one file, one arm of
//! `Kind`, one name in `KINDS`.
//!
//! | file | holds |
//! |---|---|
//! | `address` | Unix, TCP and TLS addresses |
//! | `exec` | a program of its own for each session |
//! | `session` | the daemon of whoever has logged in |
//! | `whoami` | the built-in answer to *who am I here?* |
//! | `proxy_protocol` | who is there, as the first bytes of the stream (PROXY protocol 2) |
//! | `facts` | the same as JSON |
//! | `spec` | reading `KIND:ADDRESS,option=value` |
#![forbid(unsafe_code)]

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::Duration};

use hyper::http::uri::Scheme;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

mod address;
#[cfg_attr(windows, path = "exec/absent.rs")]
mod exec;
mod facts;
mod proxy_protocol;
#[cfg_attr(windows, path = "session/absent.rs")]
mod session;
mod spec;
#[cfg(test)]
mod tests;
mod whoami;

use address::{HostPort, UnixName};
pub use exec::Running;
pub(crate) use facts::metadata as metadata_of;
pub use facts::of as facts_of;

use crate::{Grant, error::ConfigError, needs::Need, transport::Stream};

/// A daemon to hand authenticated clients to, as it was configured.
///
/// Parsed from `builtin:whoami`, `unix:PATH`, `unix:@NAME`, `tcp:HOST:PORT`, `tls:HOST:PORT`,
/// `exec:COMMAND`, `session:KIND(OPTIONS)`, `xpra+unix:PATH`, `xpra+tcp:HOST:PORT` or
/// `xpra+session:KIND(OPTIONS)`, with options after commas.
#[derive(Clone)]
pub struct Backend {
    kind: Kind,
    /// The daemon speaks Xpra's packets and is sent the client's hello first.
    xpra: bool,
    /// The daemon is told who is there in a PROXY protocol header.
    proxy_protocol: bool,
}

/// What there is to open.
#[derive(Clone)]
enum Kind {
    Whoami,
    Unix(UnixName),
    Tcp(HostPort),
    Tls(Arc<address::TlsAddress>),
    Exec(Arc<exec::Program>),
    Session(Arc<session::Sessions>),
}

/// What a backend is told of a session beside the grant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionFacts {
    /// The session's id, as in the audit record: at most 128 bytes are told.
    pub id: String,
    /// What the client came over: `unix`, `tcp`, `tls`, `ws`, `wss`, ...
    pub transport: &'static str,
}

impl SessionFacts {
    /// Facts of the session `id` over `transport`.
    pub fn new(id: impl Into<String>, transport: &'static str) -> Self {
        Self { id: id.into(), transport }
    }
}

/// A stream to a backend.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The stream, positioned behind anything the gateway itself had to say.
    pub stream: Stream,
    /// The program that was started for the session. It is ended when this is dropped: keep it until
    /// the relay has ended.
    pub program: Option<Running>,
    /// Keeps the user's daemon that was started for the session from being idle; as above.
    lease: Option<session::Lease>,
    /// The same where the helper started it.
    #[cfg(unix)]
    line: Option<crate::helper::Line>,
}

/// The place of a daemon that has dialled in, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Registered(session::Registration);

impl Registered {
    /// Waits for a client, and is the stream to it from then on. `None` if nobody can come any more.
    pub(crate) async fn called(&mut self) -> Option<Opened> {
        self.0.called().await.map(Opened::stream)
    }
}

/// Whatever has to live as long as the session does.
#[derive(Debug)]
pub(crate) struct Kept {
    _program: Option<Running>,
    _lease: Option<session::Lease>,
    #[cfg(unix)]
    _line: Option<crate::helper::Line>,
}

impl Opened {
    /// The stream, and what has to be kept until its end.
    pub(crate) fn into_parts(self) -> (Stream, Kept) {
        let kept = Kept {
            _program: self.program,
            _lease: self.lease,
            #[cfg(unix)]
            _line: self.line,
        };
        (self.stream, kept)
    }

    fn stream(stream: Stream) -> Self {
        Self {
            stream,
            program: None,
            lease: None,
            #[cfg(unix)]
            line: None,
        }
    }
}

impl Backend {
    /// What holds where no backend is configured: [`builtin:whoami`](self).
    pub fn whoami() -> Self {
        Self { kind: Kind::Whoami, xpra: false, proxy_protocol: false }
    }

    /// Opens the stream. Only a grant does, and whom the backend is told of is the grant's.
    ///
    /// # Errors
    /// It is down, does not answer within [its time](Backend::patience) (S-86), or is not the server it must be.
    pub async fn open(&self, grant: &Grant, session: &SessionFacts) -> Result<Opened, BackendError> {
        let deadline = Instant::now() + self.patience();
        let open = self.open_at_leisure(grant, session, deadline);
        timeout_at(deadline, open).await.unwrap_or_else(|_| Err(BackendError::timeout()))
    }

    /// The same for calls of gRPC: over TLS both ends have agreed on HTTP/2.
    ///
    /// # Errors
    /// As [`Backend::open`].
    pub async fn open_for_calls(
        &self,
        grant: &Grant,
        session: &SessionFacts,
    ) -> Result<Opened, BackendError> {
        match &self.kind {
            Kind::Tls(address) => {
                let calls = Self { kind: Kind::Tls(Arc::new(address.for_calls())), ..self.clone() };
                calls.open(grant, session).await
            }
            _ => self.open(grant, session).await,
        }
    }

    /// The scheme of its addresses, as calls name it.
    pub(crate) fn scheme(&self) -> Scheme {
        if matches!(self.kind, Kind::Tls(_)) { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether it is `builtin:whoami`, which is no daemon.
    pub(crate) fn is_builtin(&self) -> bool {
        matches!(self.kind, Kind::Whoami)
    }

    /// Whether each user has their own daemon behind it, so that a login has to say who it is.
    pub fn is_each_users(&self) -> bool {
        matches!(self.kind, Kind::Session(_))
    }

    /// Whether daemons dial in to be behind it.
    pub(crate) fn takes_daemons(&self) -> bool {
        matches!(&self.kind, Kind::Session(sessions) if sessions.takes_daemons())
    }

    /// Enters a daemon that has dialled in, under the name that it asked for.
    ///
    /// # Errors
    /// None can register here, the grant names nobody, or the name is none.
    pub(crate) async fn register(&self, grant: &Grant) -> Result<Registered, BackendError> {
        match &self.kind {
            Kind::Session(sessions) => sessions.register(grant).await.map(Registered),
            _ => Err(BackendError::unavailable("no daemon can register here")),
        }
    }

    /// Whether calls of gRPC may be passed on to it: it is reached by address, and speaks for itself.
    /// `builtin:whoami` may stand there and takes none. One connection carries the calls of several grants, so
    /// it is no user's own.
    pub fn takes_calls(&self) -> bool {
        !self.xpra && !matches!(self.kind, Kind::Exec(_) | Kind::Session(_))
    }

    /// How long it may take from a grant to an open stream: 5 s, and 8 s where a daemon may have to be started,
    /// which is as long as Xpra's clients wait for an answer.
    pub fn patience(&self) -> Duration {
        match &self.kind {
            Kind::Session(sessions) => sessions.patience(),
            _ => CONNECT_DEADLINE,
        }
    }

    /// What opening it needs of the system.
    pub fn needs(&self) -> Vec<Need> {
        match &self.kind {
            Kind::Exec(_) => vec![Need::Programs],
            Kind::Session(sessions) if !sessions.is_dialled_in() => vec![Need::Helper],
            Kind::Session(_) => Vec::new(),
            // Connections are no files, and authorities are read at start.
            Kind::Whoami | Kind::Unix(_) | Kind::Tcp(_) | Kind::Tls(_) => Vec::new(),
        }
    }

    /// What is told of it in `explain`: its address, or whose daemon it is.
    pub fn explain(&self) -> String {
        match &self.kind {
            Kind::Session(sessions) => format!("{self}: {}", sessions.explain()),
            _ => self.to_string(),
        }
    }

    /// Whether the client's hello, rewritten, goes first.
    pub fn wants_xpra_hello(&self) -> bool {
        self.xpra
    }

    async fn open_at_leisure(
        &self,
        grant: &Grant,
        session: &SessionFacts,
        deadline: Instant,
    ) -> Result<Opened, BackendError> {
        let mut opened = match &self.kind {
            Kind::Whoami => Opened::stream(whoami::answer(grant, session)?),
            Kind::Unix(name) => Opened::stream(name.connect().await?),
            Kind::Tcp(address) => Opened::stream(address.connect().await?),
            Kind::Tls(address) => Opened::stream(address.connect(deadline.into_std()).await?),
            Kind::Exec(program) => program.start(grant, session)?,
            Kind::Session(sessions) => sessions.open(grant).await?,
        };
        if self.proxy_protocol {
            // First on the stream, before any byte of the client (S-82).
            opened.stream.write_all(&proxy_protocol::header(grant, session)?).await?;
            opened.stream.flush().await?;
        }
        Ok(opened)
    }
}

impl FromStr for Backend {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        spec::parse(text)
    }
}

/// The address, never the arguments of a program, which may hold secrets.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xpra = if self.xpra { "xpra+" } else { "" };
        match &self.kind {
            Kind::Whoami => f.write_str("builtin:whoami"),
            Kind::Unix(name) => write!(f, "{xpra}{name}"),
            Kind::Tcp(address) => write!(f, "{xpra}tcp:{address}"),
            Kind::Tls(address) => write!(f, "tls:{address}"),
            Kind::Exec(program) => write!(f, "exec:{program}"),
            Kind::Session(sessions) => write!(f, "{xpra}session:{}", sessions.name()),
        }?;
        if self.proxy_protocol { f.write_str(",proxy-protocol=v2") } else { Ok(()) }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a backend could not be opened.
///
/// It prints what the client may be told, without paths or addresses (S-86).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendError {
    reason: &'static str,
    public: Cow<'static, str>,
    cause: Cow<'static, str>,
}

impl BackendError {
    /// The private cause, for the log. Text from a backend in it is escaped by who prints it.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// In the words that Xpra's clients know: `connection error`, `session not found error`.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    fn unavailable(cause: impl Into<Cow<'static, str>>) -> Self {
        let public = "the service is not available, try again later".into();
        Self { reason: CONNECTION, public, cause: cause.into() }
    }

    fn timeout() -> Self {
        let public = "the service does not answer, try again later".into();
        Self { reason: CONNECTION, public, cause: "connect deadline".into() }
    }

    /// As it was said elsewhere: the reason is one of those above.
    #[cfg(unix)]
    fn said(is_of_session: bool, public: String, cause: String) -> Self {
        let reason = if is_of_session { SESSION_NOT_FOUND } else { CONNECTION };
        Self { reason, public: public.into(), cause: cause.into() }
    }

    /// Nobody was named, so nobody's session is meant.
    #[cfg(unix)]
    fn nobody() -> Self {
        let public = "nobody is named by this login, so there is no session for it".to_owned();
        Self::told(public, "the grant names nobody: add a module to the chain that proves a name".to_owned())
    }

    /// The user has none; why is for the log alone.
    #[cfg(unix)]
    fn no_session(cause: impl Into<Cow<'static, str>>) -> Self {
        Self::told("you have no session here".to_owned(), cause)
    }

    /// What the user may be told of their own sessions.
    #[cfg(unix)]
    fn told(public: String, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: SESSION_NOT_FOUND, public: public.into(), cause: cause.into() }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for BackendError {}

impl From<std::io::Error> for BackendError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self { cause: error.to_string().into(), ..Self::timeout() },
            _ => Self::unavailable(error.to_string()),
        }
    }
}

const CONNECTION: &str = "connection error";
#[cfg(unix)]
const SESSION_NOT_FOUND: &str = "session not found error";

/// What may stand before the first colon.
const KINDS: [&str; 9] =
    ["builtin", "exec", "session", "tcp", "tls", "unix", "xpra+session", "xpra+tcp", "xpra+unix"];

/// From the grant to an open stream, name resolution, TLS and header included (S-86).
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
