//! Which of a user's sessions is meant.

use super::{super::BackendError, Door, Owner, Session};

/// The session that is asked for by name, or without a name the only one that there is, or that runs. Where
/// daemons are started, one that does not run is as good.
///
/// # Errors
/// There is none, or no such one, or which one is not clear. The list is told: it is the user's own (S-85).
pub(super) async fn choose<'a>(
    owner: &Owner,
    sessions: &'a [Session],
    wanted: Option<&str>,
    are_started: bool,
) -> Result<&'a Session, BackendError> {
    let to_tell = |alive: Vec<&'a Session>| if are_started { sessions.iter().collect() } else { alive };
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        let meant = named(sessions, wanted);
        return match meant.as_slice() {
            [] => {
                let alive = alive(owner, sessions.iter().collect()).await;
                Err(refusal("there is no such session", &to_tell(alive)))
            }
            [only] => Ok(only),
            // One session may have several sockets, some of them left by a server that is gone.
            [first, ..] => Ok(alive(owner, meant.clone()).await.first().copied().unwrap_or(first)),
        };
    }
    if let [only] = sessions {
        return Ok(only);
    }
    let alive = alive(owner, sessions.iter().collect()).await;
    match alive.as_slice() {
        [only] => Ok(only),
        _ => Err(refusal("say which session you want", &to_tell(alive))),
    }
}

/// The sessions of that name. `10` is `:10` too, for that is how an address has it.
fn named<'a>(sessions: &'a [Session], wanted: &str) -> Vec<&'a Session> {
    let bare = |name: &'a str| name.strip_prefix(':').unwrap_or(name);
    let exact: Vec<&Session> = sessions.iter().filter(|session| session.name == wanted).collect();
    if !exact.is_empty() {
        return exact;
    }
    let wanted = wanted.strip_prefix(':').unwrap_or(wanted);
    sessions.iter().filter(|session| bare(&session.name) == wanted).collect()
}

/// Those that can be reached as the user's own, each name once.
async fn alive<'a>(owner: &Owner, sessions: Vec<&'a Session>) -> Vec<&'a Session> {
    let mut alive: Vec<&Session> = Vec::new();
    for session in sessions.into_iter().take(MOST_LOOKED_AT) {
        if alive.iter().any(|other| other.name == session.name) {
            continue;
        }
        // What is on other machines is told without a look, and a daemon that dialled in is not used up by one.
        if matches!(session.door, Door::Tcp(_) | Door::Live(_))
            || session.door.connect(owner.uid).await.is_ok()
        {
            alive.push(session);
        }
    }
    alive
}

fn refusal(why: &str, sessions: &[&Session]) -> BackendError {
    let names: Vec<String> =
        sessions.iter().take(MOST_TOLD).map(|session| format!("`{}`", session.name.escape_debug())).collect();
    let more = if sessions.len() > MOST_TOLD { ", ..." } else { "" };
    match names.is_empty() {
        true => BackendError::told("you have no session here".to_owned(), why.to_owned()),
        false => {
            let public = format!("{why}: you have {}{more}", names.join(", "));
            BackendError::told(public, format!("{why}, of {}", sessions.len()))
        }
    }
}

/// How many sessions are named to whoever has to choose.
const MOST_TOLD: usize = 20;

/// How many are looked at before the user has to say which: a directory may hold any number of sockets.
const MOST_LOOKED_AT: usize = 64;
