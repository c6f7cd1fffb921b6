//! `exec`: a program says where the sessions of a user are, as JSON.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use serde::Deserialize;

use super::{
    super::{BackendError, spec},
    Found, Kind, Owner, Router, Session, table,
};
use crate::{
    Username,
    error::ConfigError,
    options::{OptionSpec, Options},
    sys::group::{Group, Signal},
};

pub(super) const EXEC: Kind = Kind { name: "exec", options: OPTIONS, configure };

struct Exec {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

/// What the program says: nothing but this, so that a misspelt key is not taken for an absent one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    /// Has to be the user's, where it is said.
    username: Option<String>,
    uid: Option<u32>,
    /// Read because such programs say it; the groups of a session are those of its account.
    #[serde(rename = "gid")]
    _gid: Option<u32>,
    backend: Option<String>,
    #[serde(default)]
    sessions: Vec<Place>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    name: Option<String>,
    backend: String,
}

impl Router for Exec {
    fn find(&self, owner: &Owner) -> Result<Found, BackendError> {
        let failed = |why: String| BackendError::unavailable(format!("exec: {why}"));
        let output = self.ask(owner).map_err(failed)?;
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|error| failed(format!("its answer: {error}")))?;
        answer.of(owner).map_err(failed)
    }
}

impl Answer {
    fn of(self, owner: &Owner) -> Result<Found, String> {
        // Whoever has logged in keeps their name: a program that looked up another has made a mistake.
        if self.username.is_some_and(|name| Username::parse(&name).ok().as_ref() != Some(&owner.name)) {
            return Err("it answers for another user".to_owned());
        }
        let one = self.backend.map(|backend| Place { name: None, backend });
        let session = |place: Place| {
            let text = match place.name {
                Some(name) if name.contains(['=', '/']) => {
                    return Err("a session's name holds = or /".to_owned());
                }
                Some(name) => {
                    let named = table::named(&place.backend).map_err(str::to_owned)?;
                    return table::called(name, named.door).map_err(str::to_owned);
                }
                None => place.backend,
            };
            table::named(&text).map_err(str::to_owned)
        };
        let sessions =
            one.into_iter().chain(self.sessions).map(session).collect::<Result<Vec<Session>, String>>()?;
        Ok(Found { uid: self.uid, sessions })
    }
}

impl Exec {
    /// Runs the program in a clean environment, in a group of its own that ends with it.
    fn ask(&self, owner: &Owner) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().current_dir("/").env("PATH", PATH);
        command.env("COUNTERSIGN_USER", owner.name.as_str());
        if let Some(uid) = owner.uid {
            command.env("COUNTERSIGN_UID", uid.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group =
            Group::start(&mut command).map_err(|error| format!("it cannot be started: {error}"))?;
        let output = group.take_output().ok_or("it has no output")?;
        let (say, said) = sync_channel(1);
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = output.take(MOST_OUTPUT + 1).read_to_end(&mut text);
            let _ = say.send(read.map(|_| text));
        });
        let output = said.recv_timeout(self.timeout);
        if output.is_err() || !group.ends_within(LAST_WORDS) {
            group.signal(Signal::KILL);
            return Err("it has not answered in time".to_owned());
        }
        let status = group.finish().map_err(|error| error.to_string())?;
        match output {
            Ok(Ok(text)) if text.len() as u64 > MOST_OUTPUT => Err("it says more than 64 KiB".to_owned()),
            Ok(Ok(text)) if status.success() => Ok(text),
            Ok(Ok(_)) => Err(format!("it ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it has not answered in time".to_owned()),
        }
    }
}

fn configure(options: &mut Options) -> Result<Box<dyn Router>, ConfigError> {
    let command = options.required("command")?;
    let mut words = spec::words(&command)?.into_iter();
    let timeout = options.duration("timeout", TIMEOUT)?;
    if timeout.is_zero() || timeout > TIMEOUT {
        return Err(options.error("timeout", "clients do not wait so long", "write a time of up to 4s"));
    }
    match words.next().filter(|program| program.starts_with('/')) {
        Some(program) => Ok(Box::new(Exec { program, arguments: words.collect(), timeout })),
        None => {
            let fix = "write command=\"/PATH/TO/PROGRAM ARGUMENT ...\"";
            Err(options.error("command", "its program is no absolute path", fix))
        }
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Within the time in which a session has to be open.
const TIMEOUT: Duration = Duration::from_secs(4);

/// How long a program may go on that has closed its output.
const LAST_WORDS: Duration = Duration::from_millis(500);

const MOST_OUTPUT: u64 = 64 * 1024;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("command", "COMMAND", "", "the program, by its absolute path, and its arguments"),
    OptionSpec::new("timeout", "DURATION", "4s", "how long it may take"),
];
