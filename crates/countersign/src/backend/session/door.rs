//! Where a session is, and that whoever answers there is its user.

use std::{
    fmt, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{
    super::{
        BackendError,
        address::{HostPort, UnixName},
    },
    live::Line,
};
use crate::{sys::peer::credentials, transport::Stream};

/// The address of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Door {
    /// A socket of this machine, which has to be the user's.
    Unix(UnixName),
    /// A port, which nobody but the configuration says to be the user's.
    Tcp(HostPort),
    /// A daemon that has dialled in and logged in as the user.
    Live(Line),
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Shut {
    /// Nobody serves it.
    Absent(io::Error),
    /// It is there and not to be used.
    Foreign(String),
}

impl Shut {
    /// Whether it is only that nobody serves it, so that a daemon may be started to do so.
    pub(super) fn is_unserved(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Absent(error) if matches!(error.kind(), NotFound | ConnectionRefused))
    }
}

impl Door {
    /// An address of a table or a program: `unix:PATH`, `tcp:HOST:PORT`, or as Xpra writes them, `socket:PATH`,
    /// `tcp://HOST:PORT/`.
    ///
    /// # Errors
    /// In words: it is another, or holds a user or password, which nobody here would answer with.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, rest)) = text.split_once(':') else { return Err("it is no address") };
        match scheme {
            "unix" | "socket" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                UnixName::parse(path).map(Self::Unix).map_err(|_| "it is no path of a socket")
            }
            "tcp" if rest.contains('@') => Err("it holds a user name or password"),
            "tcp" => {
                let place = rest.trim_start_matches('/').trim_end_matches('/');
                place.parse().map(Self::Tcp).map_err(|_| "it is no HOST:PORT")
            }
            _ => Err("it is neither unix: nor tcp:"),
        }
    }

    /// A stream to whoever serves it, if that is `uid`.
    ///
    /// # Errors
    /// Nobody does, or somebody else (S-84, S-85).
    pub(super) async fn connect(&self, uid: Option<u32>) -> Result<Stream, Shut> {
        match self {
            Self::Tcp(address) => address.connect().await.map_err(Shut::Absent),
            Self::Live(line) => {
                let left = || Shut::Absent(io::Error::other("the daemon that dialled in has left"));
                line.connect().await.ok_or_else(left)
            }
            Self::Unix(name) => {
                // A user without an account owns nothing here, and is not taken for anybody (S-70).
                let uid = uid.ok_or_else(|| Shut::Foreign("the user has no account here".into()))?;
                if let Some(path) = name.path() {
                    lies_with(path, uid).await?;
                }
                let stream = name.connect().await.map_err(Shut::Absent)?;
                served_by(&stream, uid)?;
                Ok(stream)
            }
        }
    }
}

/// The socket's name, before it is used: it could lead elsewhere, or be exchanged by somebody else.
async fn lies_with(path: &Path, uid: u32) -> Result<(), Shut> {
    let directory = path.parent().unwrap_or(path);
    let facts = tokio::fs::metadata(directory).await.map_err(Shut::Absent)?;
    if facts.uid() != uid && facts.uid() != 0 {
        return Err(Shut::Foreign(format!("its directory belongs to uid {}", facts.uid())));
    }
    let (sticky, all_may_write) = (facts.mode() & 0o1000 != 0, facts.mode() & 0o002 != 0);
    if all_may_write && !sticky {
        return Err(Shut::Foreign("everybody may exchange what lies in its directory".into()));
    }
    // Links are not followed: one would lead to whatever its maker wants us to open.
    let facts = tokio::fs::symlink_metadata(path).await.map_err(Shut::Absent)?;
    if !facts.file_type().is_socket() {
        return Err(Shut::Foreign("it is no socket".into()));
    }
    if facts.uid() != uid {
        return Err(Shut::Foreign(format!("it belongs to uid {}", facts.uid())));
    }
    Ok(())
}

/// Who listens, as the kernel says of the open connection: whatever became of the name in between, this is what the
/// client will talk to.
fn served_by(stream: &Stream, uid: u32) -> Result<(), Shut> {
    let server = stream.plain_fd().and_then(|socket| credentials(socket).ok().flatten());
    match server {
        Some(server) if server.uid == uid => Ok(()),
        Some(server) => Err(Shut::Foreign(format!("uid {} listens there", server.uid))),
        None => Err(Shut::Foreign("the kernel does not say who listens there".into())),
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(name) => fmt::Display::fmt(name, f),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Live(_) => f.write_str("a daemon that dials in"),
        }
    }
}

impl From<Shut> for BackendError {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::Absent(error) => error.into(),
            Shut::Foreign(why) => Self::unavailable(format!("the socket of the session is not used: {why}")),
        }
    }
}
