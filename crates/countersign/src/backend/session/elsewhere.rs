//! A session opened by the privileged helper: the gateway says for whom, and is given the open connection.
//!
//! Directories and sockets of users are closed to the account that the gateway runs as, and only root starts programs
//! as others. The helper applies every rule of this folder by itself; what the gateway says of a user, who it says has
//! logged in, is all that it takes from it (`docs/decisions/0021-privileged-helper.md`).

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::Arc,
    time::Duration,
};

use rustix::net::{AddressFamily, sockopt::socket_domain};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};

use super::{
    super::{BackendError, Opened},
    Sessions,
};
use crate::{
    ConfigError, Identity, Username,
    helper::{self, Channel, Name, Request},
    transport::Stream,
    users::row::check_environment,
};

/// Whose session is wanted, and which.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    uid: Option<u32>,
    gid: Option<u32>,
    environment: Vec<(String, String)>,
    session: Option<String>,
}

/// What comes of it. With an opened one comes the connection.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Open,
    Refused { is_of_session: bool, public: String, cause: String },
}

/// Opens a session by the helper.
pub(super) async fn open(
    helper: &'static Channel,
    ordered_as: Name,
    identity: Identity,
    session: Option<String>,
) -> Result<Opened, BackendError> {
    let wanted = Wanted {
        name: identity.name.to_string(),
        uid: identity.uid,
        gid: identity.gid,
        environment: identity.environment,
        session,
    };
    let answer = super::aside(move || Ok(helper.ask(ordered_as, &wanted, PATIENCE)?)).await?;
    match (answer.read()?, answer.descriptor) {
        (Outcome::Open, Some(socket)) => {
            Ok(Opened { line: Some(answer.line), ..Opened::stream(stream(socket)?) })
        }
        (Outcome::Refused { is_of_session, public, cause }, _) => {
            Err(BackendError::said(is_of_session, public, cause))
        }
        (Outcome::Open, None) => Err(BackendError::unavailable("the helper passed no connection on")),
    }
}

/// Has the helper open these sessions, but for those that only the gateway knows of.
///
/// # Errors
/// The helper does not know them.
pub(in crate::backend) fn offer(sessions: &Arc<Sessions>) -> Result<(), ConfigError> {
    let known = Arc::clone(sessions);
    match sessions.is_dialled_in()
        || helper::offer(sessions.ordered_as, move |request| attend(&known, &request))
    {
        true => Ok(()),
        false => Err(ConfigError::new(
            format!("backend=session:{}", sessions.name()),
            helper::UNKNOWN,
            helper::RESTART,
        )),
    }
}

/// In the helper: opens a session, and keeps its daemon from being idle until the gateway has done with it.
fn attend(sessions: &Sessions, request: &Request) {
    let opened = request.read::<Wanted>().map_err(BackendError::from).and_then(|wanted| {
        let (identity, session) = wanted.judged()?;
        let opening = tokio::time::timeout(PATIENCE, sessions.open_here(identity, session));
        tokio::runtime::Handle::current().block_on(opening).unwrap_or_else(|_| Err(BackendError::timeout()))
    });
    match opened {
        Ok(Opened { stream, lease, .. }) => {
            let said = match stream.plain_fd() {
                Some(socket) => request.line.say(&Outcome::Open, Some(socket.as_fd())),
                None => Err(io::ErrorKind::Unsupported.into()),
            };
            // Only the gateway holds it now, so that its end is the daemon's.
            drop(stream);
            if said.is_ok() {
                request.line.until_left();
            }
            drop(lease);
        }
        Err(error) => {
            let (is_of_session, public) =
                (error.reason == super::super::SESSION_NOT_FOUND, error.public.to_string());
            let refused = Outcome::Refused { is_of_session, public, cause: error.cause.to_string() };
            // Nobody may be there to hear it.
            let _ = request.line.say(&refused, None);
        }
    }
}

impl Wanted {
    /// A name that is one, and no variable that chooses which code a program of the user's runs (S-82): whoever has
    /// taken the gateway over may say anything.
    fn judged(self) -> Result<(Identity, Option<String>), BackendError> {
        let unfit = |why: String| BackendError::no_session(why);
        let name = Username::parse(&self.name).map_err(|refusal| unfit(refusal.cause.to_string()))?;
        check_environment(&self.environment).map_err(unfit)?;
        let identity = Identity::new(name).with_ids(self.uid, self.gid);
        Ok((identity.with_session(Vec::new(), self.environment, Vec::new()), self.session))
    }
}

fn stream(socket: OwnedFd) -> io::Result<Stream> {
    if socket_domain(&socket)? == AddressFamily::UNIX {
        let socket = StdUnixStream::from(socket);
        socket.set_nonblocking(true)?;
        return Ok(Stream::new(UnixStream::from_std(socket)?));
    }
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(Stream::new(TcpStream::from_std(socket)?))
}

/// As long as a client may wait for it, and a little more.
const PATIENCE: Duration = Duration::from_secs(9);
