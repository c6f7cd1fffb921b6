//! `directory`: every socket of the user in some directories, by Xpra's names or any.

use std::{fs, io, os::unix::fs::FileTypeExt, path::Path};

use super::{
    super::{BackendError, address::UnixName},
    Door, Found, Kind, Owner, Router, Session,
    pattern::Pattern,
    spec::is_session_name,
};
use crate::{
    error::ConfigError,
    options::{OptionSpec, Options},
    sys::accounts,
};

pub(super) const DIRECTORY: Kind = Kind { name: "directory", options: OPTIONS, configure };

/// Where the sockets of sessions are, and how they are called. Also for tables that name displays.
pub(super) struct Directories {
    paths: Vec<Pattern>,
    /// What stands before the display in Xpra's names; `None` where every name is a session's.
    prefix: Option<String>,
}

impl Directories {
    /// Takes the option `socket-dirs`, which is Xpra's.
    ///
    /// # Errors
    /// A path is not absolute, or holds what means nothing.
    pub(super) fn take(options: &mut Options, any_name: bool) -> Result<Self, ConfigError> {
        let mut paths = Vec::new();
        for path in options.take_all(SOCKET_DIRS).iter().flat_map(|list| list.split(':')) {
            if !path.starts_with('/') && !path.starts_with("{home}") {
                let fix = "write /PATH:/PATH, with {uid}, {user} or {home} in it";
                return Err(options.error(SOCKET_DIRS, "it is no absolute path", fix));
            }
            paths.push(Pattern::parse(options, SOCKET_DIRS, path)?);
        }
        if paths.is_empty() {
            paths = DEFAULT
                .iter()
                .map(|path| Pattern::parse(options, SOCKET_DIRS, path))
                .collect::<Result<_, _>>()?;
        }
        let prefix = (!any_name).then(|| format!("{}-", accounts::host_name()));
        Ok(Self { paths, prefix })
    }

    /// The sessions whose sockets lie there and belong to the user. Who serves them is seen when they are opened.
    pub(super) fn sessions(&self, owner: &Owner) -> Result<Vec<Session>, BackendError> {
        let uid = owner.uid()?;
        let mut sessions: Vec<Session> = Vec::new();
        for pattern in &self.paths {
            // A user without a home has none there.
            let Ok(path) = pattern.of(owner) else { continue };
            match self.look(Path::new(&path), uid) {
                Ok(found) => sessions.extend(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::debug!("a directory of sessions cannot be read: {error}"),
            }
        }
        sessions.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(sessions)
    }

    fn look(&self, directory: &Path, uid: u32) -> io::Result<Vec<Session>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)?.take(MOST_ENTRIES).flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            // Newer servers of Xpra have a directory for each display.
            let nested =
                self.prefix.is_some() && !file.is_empty() && file.bytes().all(|byte| byte.is_ascii_digit());
            let (name, path) = match nested {
                true => (Some(format!(":{file}")), entry.path().join("socket")),
                false => (self.name(file), entry.path()),
            };
            let Some(name) = name.filter(|name| is_session_name(name)) else { continue };
            if is_socket_of(&path, uid)
                && let Some(Ok(door)) = path.to_str().map(UnixName::parse)
            {
                found.push(Session { name, door: Door::Unix(door) });
            }
        }
        Ok(found)
    }

    /// What the session of a socket is called; `None` where it is none.
    fn name(&self, file: &str) -> Option<String> {
        let Some(prefix) = &self.prefix else {
            return Some(file.strip_suffix(".sock").unwrap_or(file).to_owned())
                .filter(|name| !name.starts_with('.'));
        };
        let display = file.strip_prefix(prefix.as_str())?;
        // What proxies of Xpra leave there is a way to a session, and none.
        (!display.is_empty() && !display.starts_with("proxy-")).then(|| format!(":{display}"))
    }
}

/// No link is followed, and what belongs to others is not offered (S-85, W39).
fn is_socket_of(path: &Path, uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket() && facts.uid() == uid)
}

struct Directory(Directories);

impl Router for Directory {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        Ok(self.0.sessions(owner)?.into())
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let any = options.choice("names", ["xpra", "any"])? == "any";
    Ok(Box::new(Directory(Directories::take(options, any)?)))
}

const SOCKET_DIRS: &str = "socket-dirs";

/// Where servers of Xpra put their sockets.
const DEFAULT: [&str; 3] = ["/run/user/{uid}/xpra", "{home}/.xpra", "/run/xpra"];

/// Entries of a directory that are looked at: it is the user's, and may hold any number.
const MOST_ENTRIES: usize = 4096;

/// Also an option of the tables.
pub(super) const SOCKET_DIRS_OPTION: OptionSpec = OptionSpec::new(
    SOCKET_DIRS,
    "PATH:PATH",
    "/run/user/{uid}/xpra:{home}/.xpra:/run/xpra",
    "where the sockets of displays are, with {user}, {uid} or {home} in it",
);

const OPTIONS: &[OptionSpec] = &[
    SOCKET_DIRS_OPTION,
    OptionSpec::new("names", "xpra|any", "xpra", "which sockets are sessions: HOST-DISPLAY, or all"),
];
