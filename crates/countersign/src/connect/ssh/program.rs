//! The running `ssh`: its two ends are one end of a socket pair, so that the end of a direction can be passed on.

use std::{io, os::fd::OwnedFd, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};

use super::super::{error::ConnectError, uri::Uri};
use crate::{sys, transport::Stream};

/// A program that carries a stream. It ends with this value, unless it is [let go](Program::let_go): then it ends with
/// its stream.
#[derive(Debug)]
pub(in super::super) struct Program {
    leash: oneshot::Sender<()>,
    ended: oneshot::Receiver<Option<i32>>,
}

impl Program {
    /// Starts `ssh` of the search path with these arguments. Its standard error is ours.
    pub(super) fn start(arguments: &[String]) -> io::Result<(Stream, Self)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let input = OwnedFd::from(theirs);
        let mut command = std::process::Command::new("ssh");
        command.args(arguments).stdin(Stdio::from(input.try_clone()?)).stdout(Stdio::from(input));
        sys::descriptors::keep_only_standard(&mut command);
        let child = Command::from(command).spawn()?;
        let (leash, held) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        tokio::spawn(async move {
            // Nobody asks any more where nobody listens.
            let _ = tell.send(watch(child, held).await);
        });
        Ok((Stream::new(UnixStream::from_std(ours)?), Self { leash, ended }))
    }

    /// The stream is in use: the program lives as long.
    pub(in super::super) fn let_go(self) {
        // One that has ended already needs no leash.
        let _ = self.leash.send(());
    }

    /// Why it ended by itself, where it did and is to blame. Its stream has ended.
    pub(in super::super) async fn blame(self, uri: &Uri) -> Option<ConnectError> {
        let Self { leash, ended } = self;
        let code = timeout(GRACE, ended).await.ok()?.ok()?;
        drop(leash);
        super::blame(uri, code)
    }
}

/// Waits for the end of the program, and brings it about where it is no longer wanted. Its exit code, if it has one.
async fn watch(mut child: Child, held: oneshot::Receiver<()>) -> Option<i32> {
    let wanted = async {
        if held.await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = wanted => {
            // SIGTERM and nothing harder: it may be asking on the terminal, which it leaves in order.
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            child.wait().await
        }
    };
    ended.ok()?.code()
}

/// How long a program may take to end whose stream has ended.
const GRACE: Duration = Duration::from_secs(5);
