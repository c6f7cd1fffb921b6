//! A program in a process group of its own, which is gone with all that it started when its value is.
//!
//! Called by the modules that start a program for a login and may not wait longer than its deadline.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process_group, waitid};

pub use rustix::process::Signal;

use super::descriptors;

/// A program that leads its process group. Whatever happens here, the group does not outlive it.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: Pid,
    status: Option<ExitStatus>,
}

impl Group {
    /// Starts `command` as the leader of a group of its own, with no descriptors but its standard ones
    /// (S-74).
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.process_group(0);
        descriptors::keep_only_standard(command);
        let child = command.spawn()?;
        match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            Some(id) => Ok(Self { child, id, status: None }),
            None => Err(io::Error::other("it has no process id")),
        }
    }

    /// The leader's standard input, once, if it is a pipe.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The leader's standard output, once, if it is a pipe.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// A descriptor that can be read when the leader has ended. It is left as a zombie.
    ///
    /// # Errors
    /// The system has none.
    #[cfg(target_os = "linux")]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        Ok(rustix::process::pidfd_open(self.id, rustix::process::PidfdFlags::empty())?)
    }

    /// There are none here.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells when the leader ends. It is left as a zombie, so its number cannot become another group's
    /// before the group is killed.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(&self) -> io::Result<Receiver<()>> {
        let (end, ended) = sync_channel(1);
        let id = self.id;
        thread::Builder::new().name("child".into()).spawn(move || {
            let left = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(id), left) {}
            let _ = end.send(());
        })?;
        Ok(ended)
    }

    /// Whether the leader ends within `limit`: this thread looks again and again, less often after a moment.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let (start, mut pause) = (Instant::now(), Duration::from_millis(2));
        let left = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while let Ok(None) | Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(self.id), left) {
            if start.elapsed() > limit {
                return false;
            }
            thread::sleep(pause);
            pause = (pause * 5 / 4).min(Duration::from_millis(100));
        }
        true
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        // The number is the group's until its leader is reaped, which `finish` alone does.
        if self.status.is_none() {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Kills what is left of the group and says how its leader ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn finish(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.signal(Signal::KILL);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
