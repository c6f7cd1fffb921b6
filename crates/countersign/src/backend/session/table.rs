//! Tables of users, of which the displays count here: `multifile`, `sqlite` and `sql`.
//!
//! They are read as the modules of these names read them (`docs/protocol/accounts.md`), and no password of them is
//! looked at: who it is, the chain has said. A user who may not log in by the table may still have sessions by it.

use super::{
    super::{BackendError, address::UnixName},
    Door, Found, Owner, Session,
    directory::Directories,
    spec::is_session_name,
    template::stem,
};
use crate::{Username, sys::peer::is_account, users::row::Row};

/// The sessions of the rows of a user, all of one uid.
///
/// # Errors
/// Columns mean nothing, or two rows say different uids. Nothing of them is repeated but for options' names.
pub(super) fn found(rows: Vec<Row>, owner: &Owner, directories: &Directories) -> Result<Found, BackendError> {
    let mut found = Found::default();
    let mut displays = Vec::new();
    for row in rows {
        // A database may take ALICE for alice.
        if Username::parse(&row.username).ok().as_ref() != Some(&owner.name) {
            continue;
        }
        let identity = row.identity(owner.name.clone());
        let identity = identity.map_err(|why| BackendError::unavailable(format!("the user's row: {why}")))?;
        let uid = identity.uid.filter(|uid| is_account(*uid));
        if uid.is_some() && found.uid.is_some() && uid != found.uid {
            return Err(BackendError::no_session("two rows of the user have different uids"));
        }
        found.uid = found.uid.or(uid);
        displays.extend(identity.sessions);
    }
    let mut owner = owner.clone();
    owner.agree(found.uid)?;
    found.sessions = sessions(&displays, &owner, directories)?;
    Ok(found)
}

/// What the displays of a column are: `:10`, `NAME=ADDRESS` or an address. One that means nothing is left out, and
/// the log says why without repeating it: it may hold a password.
pub(super) fn sessions(
    displays: &[String],
    owner: &Owner,
    directories: &Directories,
) -> Result<Vec<Session>, BackendError> {
    let mut sessions = Vec::new();
    let mut local: Option<Vec<Session>> = None;
    for (position, display) in displays.iter().enumerate() {
        if display.starts_with(':') {
            let known = match &mut local {
                Some(known) => known,
                None => local.insert(directories.sessions(owner)?),
            };
            // A display that nobody serves now is no session; which of two sockets does is seen later.
            sessions.extend(known.iter().filter(|session| session.name == *display).cloned());
            continue;
        }
        match named(display) {
            Ok(session) => sessions.push(session),
            Err(why) => tracing::warn!("display {} of a user is left out: {why}", position + 1),
        }
    }
    Ok(sessions)
}

/// `NAME=ADDRESS` or an address, which is called by itself or by the name of its socket.
pub(super) fn named(text: &str) -> Result<Session, &'static str> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) if !name.contains(['/', ':']) => (Some(name.trim()), address.trim()),
        _ => (None, text),
    };
    let door = if address.starts_with(['/', '@']) {
        UnixName::parse(address).map(Door::Unix).map_err(|_| "it is no path of a socket")?
    } else {
        Door::parse(address)?
    };
    let name = name.map_or_else(
        || match &door {
            Door::Unix(_) => stem(address),
            Door::Tcp(_) | Door::Live(_) => address.to_owned(),
        },
        str::to_owned,
    );
    called(name, door)
}

/// A session by its name and address.
///
/// # Errors
/// Nobody could choose it by that name.
pub(super) fn called(name: String, door: Door) -> Result<Session, &'static str> {
    if !is_session_name(&name) {
        return Err("its name is empty, too long or not printable");
    }
    Ok(Session { name, door })
}
