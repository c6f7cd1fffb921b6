//! The command's side: asks the gateway that runs, or works on the store while none does.

use std::{
    fmt,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    administer::administer,
    entrance::Entrance,
    message::{Request, Response},
    wire,
};
use crate::{
    sys::{self, sockets::BlockingUnixStream},
    trust::{ServerIdentity, Trust, TrustError, TrustStore},
};

/// Whoever owns a gateway, in front of it.
#[derive(Debug)]
pub struct Owner {
    state_dir: PathBuf,
    socket: Option<PathBuf>,
    trust: Trust,
    runs: bool,
    by: String,
    may_make: bool,
}

impl Owner {
    /// Looks for a gateway that answers at `socket`. Without one, the store in `state_dir` is what is
    /// asked, at the first [`Owner::ask`].
    ///
    /// # Errors
    /// The socket is another user's, or cannot be reached.
    pub fn reach(state_dir: impl Into<PathBuf>, socket: Option<PathBuf>) -> Result<Self, ControlError> {
        let state_dir = state_dir.into();
        let by = sys::accounts::caller();
        let mut owner =
            Self { trust: Trust::at(&state_dir), state_dir, socket, runs: false, by, may_make: true };
        owner.runs = owner.connect()?.is_some();
        Ok(owner)
    }

    /// The same; without `may_make`, a store is not made where none was. Whoever forgets whose gateway
    /// they mean shall not be told that they changed it.
    #[must_use]
    pub fn making_a_store(mut self, may_make: bool) -> Self {
        self.may_make = may_make;
        self
    }

    /// Whether a gateway answers.
    pub fn gateway_runs(&self) -> bool {
        self.runs
    }

    /// The state directory that is asked about.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Asks, and waits for the answer. [`Response::Failed`] is an answer.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub fn ask(&self, request: Request) -> Result<Response, ControlError> {
        if self.runs {
            let gone = || self.gone(&io::ErrorKind::NotConnected.into());
            return self.ask_gateway(self.connect()?.ok_or_else(gone)?, &request);
        }
        if request.is_for_a_gateway() {
            return Err(ControlError::new(
                ControlCause::Unavailable,
                format!("control socket {}: no gateway answers there", self.place()),
                "start it, or name its socket: --control PATH, --state-dir DIR, --config FILE",
            ));
        }
        let may_make = self.may_make && request.may_be_first();
        if !may_make && !TrustStore::is_in(&self.state_dir) {
            return Err(self.nothing());
        }
        if matches!(request, Request::Reset) {
            // Also where the store cannot be opened (S-53).
            let aside = TrustStore::reset_in(&self.state_dir).map_err(|error| self.closed(error))?;
            return Ok(Response::Reset { aside });
        }
        let store = self.trust.open().map_err(|error| self.closed(error))?;
        let entrances = match &request {
            Request::Invite { pin: None, .. } => self.own_entrance()?,
            _ => Vec::new(),
        };
        Ok(administer(store, &entrances, request, &self.by))
    }

    fn ask_gateway(&self, stream: BlockingUnixStream, request: &Request) -> Result<Response, ControlError> {
        let exchange = || {
            (&stream).write_all(&wire::line(request)?)?;
            wire::read_response(BufReader::with_capacity(wire::ROOM, &stream))
        };
        exchange().map_err(|error| match error.kind() {
            // Closed without a word: that is how strangers are answered (S-58).
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                self.refused()
            }
            _ => self.gone(&error),
        })
    }

    /// A connection to the gateway that listens at our socket. Secrets are for nobody else: whoever
    /// listens must be root, ourselves, or the owner of the state directory.
    fn connect(&self) -> Result<Option<BlockingUnixStream>, ControlError> {
        let Some(path) = &self.socket else { return Ok(None) };
        let stream = match BlockingUnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(self.refused()),
            Err(error) => return Err(self.gone(&error)),
        };
        let listens = sys::peer::credentials(&stream).ok().flatten().map(|known| known.uid);
        let owner = sys::files::owner_of(&self.state_dir);
        let own = sys::accounts::own_uid();
        if !listens.is_some_and(|uid| uid == 0 || uid == own || (own == 0 && Some(uid) == owner)) {
            let who = listens.map_or_else(|| "somebody".to_owned(), |uid| format!("uid {uid}"));
            return Err(ControlError::new(
                ControlCause::Denied,
                format!(
                    "control socket {}: {who} listens there, who is not the gateway's owner",
                    path.display()
                ),
                "name the state directory of your own gateway: --state-dir DIR",
            ));
        }
        let patience = Some(PATIENCE);
        stream
            .set_read_timeout(patience)
            .and_then(|()| stream.set_write_timeout(patience))
            .map_err(|error| self.gone(&error))?;
        Ok(Some(stream))
    }

    /// Where somebody can be invited to while no gateway runs that would tell: its own certificate.
    fn own_entrance(&self) -> Result<Vec<Entrance>, ControlError> {
        let host = sys::accounts::host_name();
        let identity = ServerIdentity::open(&self.state_dir, &host, SystemTime::now()).map_err(|error| {
            ControlError::new(ControlCause::Store, error.to_string(), error.fix().to_owned())
        })?;
        Ok(identity.key_fingerprint().map(Entrance::somewhere).into_iter().collect())
    }

    fn nothing(&self) -> ControlError {
        ControlError::new(
            ControlCause::Unavailable,
            format!("state directory {}: no gateway has kept certificates there", self.state_dir.display()),
            "name the gateway's own: --state-dir DIR, or --config FILE; with sudo the system's gateway is asked",
        )
    }

    fn place(&self) -> String {
        self.socket.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    }

    fn refused(&self) -> ControlError {
        ControlError::new(
            ControlCause::Denied,
            format!("control socket {}: only root and the gateway's own user are answered", self.place()),
            "run the command with sudo, or as the user that the gateway runs as",
        )
    }

    fn gone(&self, error: &io::Error) -> ControlError {
        ControlError::new(
            ControlCause::Unavailable,
            format!("control socket {}: {error}", self.place()),
            "look at the gateway's log, and try again",
        )
    }

    fn closed(&self, error: TrustError) -> ControlError {
        match error {
            TrustError::Held { .. } => ControlError::new(
                ControlCause::Unavailable,
                format!("{error}, and no gateway answers at its control socket ({})", self.place()),
                "name the socket as the gateway does (--control PATH, --config FILE), or stop the gateway: the \
                 command works without it too",
            ),
            TrustError::Io { ref why, .. } if why.contains("ermission denied") => ControlError::new(
                ControlCause::Denied,
                error.to_string(),
                "run the command with sudo, or as the user that the gateway runs as",
            ),
            error => ControlError::new(ControlCause::Store, error.to_string(), error.fix()),
        }
    }
}

/// Nobody could be asked. It reads `what: why`; see [`ControlError::fix`].
#[derive(Debug)]
pub struct ControlError {
    cause: ControlCause,
    what: String,
    fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlCause {
    Denied,
    Unavailable,
    Store,
}

impl ControlError {
    fn new(cause: ControlCause, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause, what: what.into(), fix: fix.into() }
    }

    /// What to do about it.
    pub fn fix(&self) -> &str {
        &self.fix
    }

    /// Whether the caller is not the owner.
    pub fn is_denied(&self) -> bool {
        self.cause == ControlCause::Denied
    }

    /// Whether the gateway is there and does not answer.
    pub fn is_unavailable(&self) -> bool {
        self.cause == ControlCause::Unavailable
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for ControlError {}

/// How long a gateway may take for the next line. Setting a passphrase takes a second at most.
const PATIENCE: Duration = Duration::from_secs(60);
