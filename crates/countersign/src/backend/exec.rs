//! `exec:COMMAND`: a program of its own for each session, whose standard input and output are the
//! stream.
//!
//! They are one end of a socket pair, as under inetd, so that the end of one direction can be passed
//! on. The program gets an argument vector (no shell), a clean environment with `COUNTERSIGN_*` and
//! `PATH`, no other descriptor, `/` as its directory, and a process group that ends with the session.
//! What it writes to standard error goes to the log, escaped and bounded (S-87).

use std::{fmt, os::fd::OwnedFd, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    process::{Child, ChildStderr, Command},
    sync::oneshot,
    time::sleep,
};

use super::{BackendError, Opened, SessionFacts, facts, spec::error};
use crate::{Grant, error::ConfigError, sys, transport::Stream};

/// A program and its arguments.
pub(super) struct Program {
    path: String,
    arguments: Vec<String>,
}

impl Program {
    pub(super) fn parse(words: Vec<String>) -> Result<Self, ConfigError> {
        let mut words = words.into_iter();
        let path = words.next().filter(|path| path.starts_with('/')).ok_or_else(|| {
            error("its program is no absolute path", "write exec:/PATH/TO/PROGRAM ARGUMENT ...")
        })?;
        Ok(Self { path, arguments: words.collect() })
    }

    /// Starts the program for one session.
    pub(super) fn start(&self, grant: &Grant, session: &SessionFacts) -> Result<Opened, BackendError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let input = OwnedFd::from(theirs);
        let mut command = std::process::Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(environment(grant, session))
            .current_dir("/")
            .stdin(Stdio::from(input.try_clone()?))
            .stdout(Stdio::from(input))
            .stderr(Stdio::piped());
        sys::descriptors::keep_only_standard(&mut command);
        let mut command = Command::from(command);
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log(stderr, session.id.clone()));
        }
        let (running, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Only ever an error: the sender is dropped.
            let _ = ended.await;
            end(child).await;
        });
        let stream = Stream::new(UnixStream::from_std(ours)?);
        Ok(Opened { program: Some(Running { _session: running }), ..Opened::stream(stream) })
    }
}

/// The program, without its arguments.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// A program that was started for a session. When this is dropped, its process group is asked to end
/// (`SIGTERM`), and 2 s later made to.
#[derive(Debug)]
pub struct Running {
    _session: oneshot::Sender<()>,
}

/// The whole environment of the program (S-82: nothing in it comes from the client's own words).
fn environment(grant: &Grant, session: &SessionFacts) -> Vec<(&'static str, String)> {
    let identity = grant.identity();
    let mut entries = vec![
        ("PATH", PATH.to_owned()),
        ("COUNTERSIGN_PROOFS", facts::proofs(grant).join(",")),
        ("COUNTERSIGN_REMOTE_ADDRESS", facts::address(grant.peer())),
        ("COUNTERSIGN_SESSION_ID", session.id.clone()),
        ("COUNTERSIGN_TRANSPORT", session.transport.to_owned()),
    ];
    entries.extend(identity.map(|identity| ("COUNTERSIGN_USER", identity.name.to_string())));
    let ids = identity.map(|identity| (identity.uid, identity.gid)).unwrap_or_default();
    entries.extend(ids.0.map(|uid| ("COUNTERSIGN_UID", uid.to_string())));
    entries.extend(ids.1.map(|gid| ("COUNTERSIGN_GID", gid.to_string())));
    entries
}

/// Ends a program and everything it started. It is not reaped before its group has been ended, so the
/// group's number cannot be somebody else's meanwhile.
pub(super) async fn end(mut child: Child) {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    // A group that is gone already needs no signal.
    let _ = killpg(pid, Signal::SIGTERM);
    let mut waited = Duration::ZERO;
    while waited < GRACE && !has_exited(pid) {
        sleep(STEP).await;
        waited += STEP;
    }
    let _ = killpg(pid, Signal::SIGKILL);
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a backend program could not be reaped");
    }
}

fn has_exited(pid: Pid) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // No status is the answer for one that lives.
    let lives = |pid| matches!(waitid(WaitId::Pid(pid), look), Ok(None));
    !rustix::process::Pid::from_raw(pid.as_raw()).is_some_and(lives)
}

/// Puts a program's standard error in the log, line by line.
pub(super) async fn log(mut stderr: ChildStderr, session: String) {
    let mut line = Vec::new();
    let mut space = [0; 512];
    let mut left = MOST_LOGGED;
    loop {
        // A program that cannot be heard is no error of the session.
        let read = stderr.read(&mut space).await.unwrap_or(0);
        let bytes = space.get(..read).unwrap_or_default();
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LONGEST_LINE {
                left = tell(&session, &mut line, left);
            }
        }
        if read == 0 {
            tell(&session, &mut line, left);
            return;
        }
    }
}

/// Logs one line, if the session has not said too much. Returns how much it may still say.
fn tell(session: &str, line: &mut Vec<u8>, left: usize) -> usize {
    if !line.is_empty() && left > 0 {
        tracing::info!(session, text = ?String::from_utf8_lossy(line), "backend program");
    }
    let rest = left.saturating_sub(line.len());
    if left > 0 && rest == 0 {
        tracing::warn!(session, "the backend program says too much; the rest is dropped");
    }
    line.clear();
    rest
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const GRACE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);
/// Bytes of standard error that one session may put in the log.
const MOST_LOGGED: usize = 64 * 1024;
const LONGEST_LINE: usize = 1024;

#[cfg(test)]
#[test]
fn s_087_what_a_program_says_is_bounded() {
    let mut left = MOST_LOGGED;
    for _ in 0..1000 {
        left = tell("test", &mut vec![b'x'; LONGEST_LINE], left);
    }
    assert_eq!(left, 0);
    assert_eq!(tell("test", &mut b"more".to_vec(), left), 0);
}
