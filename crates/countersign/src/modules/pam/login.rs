//! One login at PAM, inside the worker, and its session.
//!
//! Nothing here is trusted to go well: modules of PAM crash, hang and start programs. The gateway kills
//! what takes too long; what outlives the gateway kills itself, after it has closed what it had opened.

use std::{
    io,
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::unistd::{getpgrp, getpid};
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, Signal, kill_current_process_group, setrlimit},
};
use tokio::signal::unix::{SignalKind, signal};

use super::channel::{self, Phase, Rules, Task, Word};
use crate::{
    proto::client::quotable,
    sys::{
        accounts::Account,
        descendants, memory,
        pam::{Code, Item, Pam, Question, Transaction},
    },
};

/// Serves the gateway at the other end of standard input: one login.
///
/// # Errors
/// There is no gateway, or it is gone.
pub(super) fn serve() -> io::Result<()> {
    let socket = take_socket()?;
    let session = Arc::new(Session::default());
    let end = end_with(&socket, &session)?;
    let task = Task { rules: channel::hear(&mut &socket)?, client: channel::hear(&mut &socket)? };
    let word = find_out(&task, &socket, &session);
    session.is_closed();
    // The gateway may be gone, which is for the other thread to see to: ending before it has killed what
    // was started in this login would leave the rest to nobody.
    if let Some(word) = word {
        let _ = channel::say(&mut &socket, &word);
    }
    let _ = end.join();
    Ok(())
}

/// Whether a session is open or about to be, so that it has to be closed before the end.
#[derive(Default)]
struct Session {
    /// How long closing it may take.
    closing: Mutex<Option<Duration>>,
    closed: Condvar,
}

impl Session {
    /// From now on the end waits.
    fn begins(&self, closing: Duration) {
        *self.closing.lock() = Some(closing);
    }

    fn is_closed(&self) {
        *self.closing.lock() = None;
        self.closed.notify_all();
    }

    /// Waits until it is closed, or could not be in time. None begins while the result is held.
    fn wait_closed(&self) -> MutexGuard<'_, Option<Duration>> {
        let mut closing = self.closing.lock();
        if let Some(limit) = *closing {
            self.closed.wait_while_for(&mut closing, |closing| closing.is_some(), limit);
        }
        closing
    }
}

/// Standard input, which must be a socket, out of the way of programs that PAM starts.
fn take_socket() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails for anything but a socket that has another end.
    socket.peer_addr()?;
    // Only a group of our own may be killed.
    if getpgrp() != getpid() {
        return Err(io::Error::other("this is no process that a gateway started"));
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(socket)
}

/// Kills this process and all that it started when the other end of `socket` is gone, whatever PAM is
/// doing then unless that is to close the session, and lets nobody look into its memory, which holds
/// passwords (S-91).
fn end_with(socket: &UnixStream, session: &Arc<Session>) -> io::Result<JoinHandle<()>> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // Where it cannot be, the gateway has said so for itself.
    let _ = memory::keep_off_the_disk();
    descendants::adopt()?;
    let (socket, session) = (socket.try_clone()?, Arc::clone(session));
    let watch = move || {
        // Nothing is waited for, and the end is always told.
        let mut end = [PollFd::new(&socket, PollFlags::empty())];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut end, None) {}
        let _none_begins = session.wait_closed();
        descendants::kill_all();
        let _ = kill_current_process_group(Signal::KILL);
    };
    thread::Builder::new().name("end".into()).spawn(watch)
}

/// What there is to be said, if anything is left to be said: a session has had its words.
fn find_out(task: &Task, socket: &UnixStream, session: &Session) -> Option<Word> {
    let pam = match Pam::load() {
        Ok(pam) => pam,
        Err(error) => return Some(Word::Failed(error.to_string())),
    };
    let mut first = true;
    let answer = |question: Question| {
        // The gateway asked before it started us, so that every name costs and shows the same.
        if !std::mem::take(&mut first) {
            let text = quotable(&question.text);
            channel::say(&mut &*socket, &Word::Question(text)).ok()?;
        }
        channel::receive(&mut &*socket).ok()
    };
    let Rules { service, directory, .. } = &task.rules;
    let ended = match pam.start(service, directory.as_deref(), &task.client.user, answer) {
        Ok(mut transaction) => log_in(&mut transaction, task).and_then(|passed| match task.rules.session {
            true => hold_session(&mut transaction, &passed, socket, || session.begins(task.rules.timeout)),
            false => Ok(Some(passed)),
        }),
        Err(code) => Err(Word::Denied(Phase::Start, code)),
    };
    // The transaction has ended: its modules have let go of what they held.
    ended.unwrap_or_else(Some)
}

fn log_in(transaction: &mut Transaction<'_>, task: &Task) -> Result<Word, Word> {
    let denied = |phase| move |code| Word::Denied(phase, code);
    introduce(transaction, task).map_err(denied(Phase::Start))?;
    transaction.authenticate().map_err(denied(Phase::Authentication))?;
    let user = transaction.user().map_err(denied(Phase::Authentication))?;
    if task.rules.check_account {
        transaction.check_account().map_err(denied(Phase::Account))?;
    }
    if transaction.user().as_ref() != Ok(&user) {
        return Err(Word::Unfit(
            "the account phase names another user than the one who authenticated".into(),
        ));
    }
    identify(&task.client.user, user, task.rules.min_uid)
}

/// Opens the session when the gateway, which is told who `passed`, wants it, and closes it when that hangs up.
fn hold_session(
    transaction: &mut Transaction<'_>,
    passed: &Word,
    socket: &UnixStream,
    begins: impl FnOnce(),
) -> Result<Option<Word>, Word> {
    let gone = |error: io::Error| Word::Failed(format!("the gateway is gone: {error}"));
    channel::say(&mut &*socket, passed).and_then(|()| channel::receive(&mut &*socket)).map_err(gone)?;
    begins();
    hang_up_when_asked(socket)
        .map_err(|error| Word::Failed(format!("signals cannot be waited for: {error}")))?;
    transaction.open_session().map_err(|code| Word::Denied(Phase::Session, code))?;
    // The gateway says nothing any more: what comes is the end.
    let _ = channel::say(&mut &*socket, &Word::Opened).and_then(|()| channel::receive(&mut &*socket));
    // PAM's modules say themselves what went wrong here, to the system's log: nobody else listens.
    let _ = transaction.close_session();
    Ok(None)
}

/// Hangs up when this process is asked to end, by `kill` or by `loginctl terminate-session`, which knows it as
/// the session's leader: what follows is the same as when the gateway hangs up.
///
/// By handlers and not by a mask, which the programs that PAM starts would inherit.
fn hang_up_when_asked(socket: &UnixStream) -> io::Result<()> {
    let socket = socket.try_clone()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let (mut end, mut leave) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    drop(entered);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = end.recv() => {}
                _ = leave.recv() => {}
            }
        });
        socket.shutdown(Shutdown::Both)
    };
    thread::Builder::new().name("requests".into()).spawn(wait).map(drop)
}

/// Tells PAM who is asking, as far as that is known.
fn introduce(transaction: &mut Transaction<'_>, task: &Task) -> Result<(), Code> {
    transaction.answer_without_pause()?;
    transaction.set(Item::Terminal, TERMINAL)?;
    if let Some(address) = task.client.address {
        transaction.set(Item::RemoteHost, &address.to_string())?;
    }
    // Who is known to the kernel and has no name is nobody to PAM.
    let account = task.client.peer_uid.and_then(|uid| Account::of_uid(uid).ok().flatten());
    account.map_or(Ok(()), |account| transaction.set(Item::RemoteUser, &account.name))
}

/// Who it is whom PAM let in as `user` when the client claimed `claimed`.
///
/// A module may write the name another way, which is the same account then. Another account is nobody
/// whom this client proved to be (S-68, S-71).
fn identify(claimed: &str, user: String, min_uid: u32) -> Result<Word, Word> {
    let find = |name: &str| {
        let unreadable = |error| Word::Failed(format!("the account database cannot be read: {error}"));
        Account::named(name).map_err(unreadable)
    };
    let account = find(&user)?;
    if user != claimed {
        let other = find(claimed)?;
        let same = account.as_ref().zip(other.as_ref()).is_some_and(|(a, b)| a.name == b.name);
        if !same {
            return Err(Word::Unfit("PAM names another user than the client".into()));
        }
    }
    // A name without an account has no number either, so it is nobody where one is needed (S-70).
    let Some(account) = account else { return Ok(Word::Passed { name: user, ids: None }) };
    if account.uid < min_uid {
        return Err(Word::Unfit(format!("uid {} is below min-uid={min_uid}", account.uid)));
    }
    Ok(Word::Passed { name: account.name, ids: Some((account.uid, account.gid)) })
}

/// What `PAM_TTY` is where there is no terminal: the way in, as `ssh` is sshd's.
const TERMINAL: &str = "countersign";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_068_s_071_a_name_that_pam_changed_is_another_spelling_of_the_same_account_or_nobodys() {
        let root = Account::named("root").unwrap().unwrap();
        let passed = Word::Passed { name: root.name, ids: Some((root.uid, root.gid)) };
        assert_eq!(identify("root", "root".into(), 0), Ok(passed));
        assert_eq!(
            identify("nobody-at-all", "nobody-at-all".into(), 1000),
            Ok(Word::Passed { name: "nobody-at-all".into(), ids: None })
        );
        for (claimed, user) in [
            ("nobody-at-all", "root"),
            ("root", "nobody-at-all"),
            ("root", "nobody"),
            ("nobody-at-all", "NOBODY-AT-ALL"),
        ] {
            assert!(matches!(identify(claimed, user.into(), 0), Err(Word::Unfit(_))), "{claimed} {user}");
        }
        assert!(matches!(identify("root", "root".into(), 1), Err(Word::Unfit(_))));
    }
}
