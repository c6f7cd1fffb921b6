//! The process that talks to PAM for one login, seen from the gateway: started, asked, gone in time; or kept
//! while the client is there, because its session is open.
//!
//! It is this program again (`docs/decisions/0010-pam-in-a-process-of-its-own.md`). Its standard input is
//! a socket that nobody else holds, so whichever of the two ends first, the other notices.

use std::{
    fmt,
    future::Future,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::PathBuf,
    pin::Pin,
    process::ExitStatus,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::watch;

use super::{
    channel::{self, Client, Rules, Word},
    process::{self, Process},
};
use crate::{ConfigError, Refusal, Secret, modules::places::Place, proto::stay::Stay};

/// A worker that has not said its last word. Dropped, it is killed with all that it started.
pub(super) struct Worker {
    socket: UnixStream,
    /// Taken when the worker is finished.
    running: Option<Running>,
    /// How long it may work on the login, and on closing a session.
    limit: Duration,
    /// How much of that is left for the login. The time in which the client is asked is not its own.
    left: Duration,
}

/// The process and the place it has among those of its link, until it is reaped.
struct Running {
    process: Process,
    place: Place,
    /// How long it may take to end when its socket is closed.
    grace: Duration,
}

/// A worker whose session is open. Dropped, it closes the session, and is killed if that takes too long.
pub(super) struct Session {
    _worker: Worker,
    /// Its sender is gone when the worker is.
    ended: watch::Receiver<()>,
}

impl Worker {
    /// Starts a worker on `client`, by `rules`. It waits for the answer to its first question, which [`Worker::ask`] gives.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(rules: &Rules, client: &Client, place: Place) -> Result<Self, Refusal> {
        let failed = |error: io::Error| failed("the worker cannot be started", &error);
        let (socket, process) = process::start(rules).map_err(failed)?;
        let running = Some(Running { process, place, grace: GRACE });
        let limit = rules.timeout;
        let mut worker = Self { socket, running, limit, left: limit };
        worker.in_time(|socket| channel::say(socket, client))?;
        Ok(worker)
    }

    /// Gives an answer, and waits for what follows from it.
    ///
    /// # Errors
    /// The worker died, took too long, or says what no worker says.
    pub(super) fn ask(&mut self, answer: &Secret) -> Result<Word, Refusal> {
        self.in_time(|socket| {
            channel::send(socket, answer.expose())?;
            channel::hear(socket)
        })
    }

    /// Has the session opened of a login that passed. From here on the end of the socket closes it, which
    /// takes its time.
    ///
    /// # Errors
    /// As [`Worker::ask`].
    pub(super) fn open_session(&mut self) -> Result<Word, Refusal> {
        if let Some(running) = &mut self.running {
            running.grace = self.limit + GRACE;
        }
        self.in_time(|socket| {
            channel::send(socket, &[])?;
            channel::hear(socket)
        })
    }

    /// Keeps the worker for its open session, which has `place` instead of the login's.
    ///
    /// # Errors
    /// There is no thread to be had that waits for its end.
    pub(super) fn keep(mut self, place: Place) -> Result<Session, Refusal> {
        let failed = |error: io::Error| failed("the session cannot be watched", &error);
        let socket = self.socket.try_clone().map_err(failed)?;
        let (told, ended) = watch::channel(());
        let running = self.running.take().map(|running| Running { place, ..running });
        let wait = move || {
            // Either end may be the one that hangs up.
            let mut end = [PollFd::new(&socket, PollFlags::empty())];
            while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut end, None) {}
            drop(told);
            running.and_then(Running::end)
        };
        thread::Builder::new().name("session".into()).spawn(wait).map_err(failed)?;
        Ok(Session { _worker: self, ended })
    }

    /// Does something with the worker's socket while it has time left.
    fn in_time<T>(&mut self, exchange: impl FnOnce(&mut Timed<'_>) -> io::Result<T>) -> Result<T, Refusal> {
        let start = Instant::now();
        let done = exchange(&mut Timed { socket: &self.socket, until: start + self.left });
        self.left = self.left.saturating_sub(start.elapsed());
        done.map_err(|error| self.give_up(&error))
    }

    /// What it means that the worker cannot be talked to. One that is late is left behind, one that has
    /// ended by itself is gone when this returns.
    fn give_up(&mut self, error: &io::Error) -> Refusal {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                self.leave();
                Refusal::module_failed("PAM did not decide in time")
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                let _ = self.socket.shutdown(Shutdown::Both);
                let ended = self.running.take().and_then(Running::end);
                Refusal::module_failed(format!(
                    "the worker {}",
                    ended.map_or_else(|| "is gone".to_owned(), manner)
                ))
            }
            _ => {
                self.leave();
                failed("the worker cannot be understood", error)
            }
        }
    }

    /// Hangs up. Waiting for its end is for another thread: whoever ends a login may be in a hurry.
    fn leave(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(running) = self.running.take() {
            // Where there is no thread to be had, what could not be given to it is dropped here.
            let _ = thread::Builder::new().name("reaper".into()).spawn(move || running.end());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Stay for Session {
    fn over(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut ended = self.ended.clone();
        Box::pin(async move { while ended.changed().await.is_ok() {} })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Running {
    /// Waits for the end of a worker whose socket is closed. It kills itself then, and what it started,
    /// wherever that went; what cannot do even that is killed from here.
    fn end(self) -> Option<ExitStatus> {
        let ended = self.process.end(self.grace);
        drop(self.place);
        ended
    }
}

/// A socket up to a moment.
struct Timed<'a> {
    socket: &'a UnixStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        // Zero would mean to wait for ever.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        (&mut &*self.socket).read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        (&mut &*self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether this program can be started as a worker.
///
/// # Errors
/// Its `main` does not say so, or the system hides it.
pub(super) fn check() -> Result<(), ConfigError> {
    if !READY.load(Ordering::Relaxed) && !cfg!(test) {
        let why = "this program is not prepared to be its own worker";
        let fix = "call countersign::modules::run_worker first in main";
        return Err(ConfigError::new("module pam", why, fix));
    }
    match program() {
        Ok(program) if program.exists() => Ok(()),
        _ => {
            let why = "this program cannot find itself, and has to start itself as a worker";
            Err(ConfigError::new("module pam", why, "mount /proc"))
        }
    }
}

/// Says that this program's `main` serves workers. A program that did not, and were started again, would
/// be another daemon instead.
pub(super) fn is_ready() {
    READY.store(true, Ordering::Relaxed);
}

static READY: AtomicBool = AtomicBool::new(false);

/// The one argument that makes this program a worker.
pub(super) const ARGUMENT: &str = "--pam-worker-of-a-gateway";

/// This program, even where another file has taken its name since it was started.
pub(super) fn program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

fn manner(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("died of signal {signal}"),
        (None, Some(code)) => format!("ended with status {code} and said nothing"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn failed(what: &str, error: &io::Error) -> Refusal {
    Refusal::module_failed(format!("{what}: {error}"))
}

/// How long a worker has to kill all that it started: milliseconds are enough, unless the machine is busy.
pub(super) const GRACE: Duration = Duration::from_secs(5);
