//! The process of a worker: started here, or by the privileged helper for us.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    channel::{self, Rules},
    worker::{GRACE, program},
};
use crate::{
    helper::{self, Line, Name, Request},
    sys::group::Group,
};

/// A process that was started, until it is reaped.
pub(super) enum Process {
    /// Our own child.
    Own(Group),
    /// The helper's, which says how it ended.
    Helpers(Line),
}

impl Process {
    /// How it ended, once it has; it is killed when that takes longer than `grace`. It ends when its socket is closed.
    pub(super) fn end(self, grace: Duration) -> Option<ExitStatus> {
        match self {
            Self::Own(mut group) => {
                group.ends_within(grace);
                group.finish().ok()
            }
            Self::Helpers(line) => {
                let ended = line.hear_later::<i32>(grace).or_else(|_| {
                    line.say(&NOW, None)?;
                    line.hear_later(GRACE)
                });
                ended.ok().map(ExitStatus::from_raw)
            }
        }
    }
}

/// Starts a worker for a login by these rules, by the helper if there is one.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(rules: &Rules) -> io::Result<(UnixStream, Process)> {
    let Some(helper) = helper::installed() else {
        let (socket, group) = launch(rules)?;
        return Ok((socket, Process::Own(group)));
    };
    let answer = helper.ask(name(rules)?, &(), PATIENCE)?;
    let socket = answer.descriptor.ok_or_else(|| io::Error::other("the helper could not start it"))?;
    Ok((UnixStream::from(socket), Process::Helpers(answer.line)))
}

/// Has the helper start workers by these rules, and by no others. Whether it will.
pub(super) fn offer(rules: &Arc<Rules>) -> bool {
    let Ok(name) = name(rules) else { return false };
    let rules = Arc::clone(rules);
    helper::offer(name, move |request| {
        if let Err(error) = attend(&rules, &request) {
            tracing::warn!("a worker of PAM cannot be started: {error}");
        }
    })
}

fn name(rules: &Rules) -> io::Result<Name> {
    Ok(Name::of("pam", &serde_json::to_vec(rules)?))
}

/// In the helper: starts a worker, hands its socket over, and sees it through to its end.
fn attend(rules: &Rules, request: &Request) -> io::Result<()> {
    let (socket, mut group) = launch(rules)?;
    request.line.say(&(), Some(socket.as_fd()))?;
    // The gateway alone holds it now: when it lets go, the worker ends.
    drop(socket);
    let process = group.descriptor()?;
    let is_asked = {
        let mut ends =
            [PollFd::new(&process, PollFlags::IN), PollFd::new(request.line.descriptor(), PollFlags::IN)];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut ends, None) {}
        ends[0].revents().is_empty()
    };
    // Asked for its end: now. A gateway that is gone has let go of the socket, which the worker notices by itself.
    if is_asked && request.line.hear_later::<u8>(GRACE).is_err() {
        let limit = Timespec::try_from(rules.timeout + GRACE).ok();
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], limit.as_ref());
    }
    let ended = group.finish()?;
    // Nobody may be there to hear it.
    let _ = request.line.say(&ended.into_raw(), None);
    Ok(())
}

/// A worker as a child of this process, which knows its rules and waits for its client.
fn launch(rules: &Rules) -> io::Result<(UnixStream, Group)> {
    let (socket, theirs) = UnixStream::pair()?;
    let mut command = command()?;
    command
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let group = Group::start(&mut command)?;
    // The command holds their end of the socket, whose last holder must be the worker.
    drop(command);
    channel::say(&mut &socket, rules)?;
    Ok((socket, group))
}

#[cfg(not(test))]
fn command() -> io::Result<Command> {
    let mut command = Command::new(program()?);
    command.arg0("countersign-pam").arg(super::worker::ARGUMENT);
    Ok(command)
}

/// Tests have a `main` that is not ours, and a test that is a worker when it is asked.
#[cfg(test)]
fn command() -> io::Result<Command> {
    let mut command = Command::new(program()?);
    command.arg0("countersign-pam").args(["--exact", "modules::pam::tests::a_test_can_be_a_worker"]);
    Ok(command)
}

/// The word for an end at once.
const NOW: u8 = 0;

/// How long the helper may take to start one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What modules of PAM find programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
