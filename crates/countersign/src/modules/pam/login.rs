//! One login at PAM, inside the worker.
//!
//! Nothing here is trusted to go well: modules of PAM crash, hang and start programs. The gateway kills
//! what takes too long; what outlives the gateway kills itself.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    thread::{self, JoinHandle},
};

use nix::unistd::{getpgrp, getpid};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, Signal, kill_current_process_group, setrlimit},
};

use super::channel::{self, Phase, Rules, Task, Word};
use crate::{
    proto::client::quotable,
    sys::{
        accounts::Account,
        descendants,
        pam::{Code, Item, Pam, Question, Transaction},
    },
};

/// Serves the gateway at the other end of standard input: one login.
///
/// # Errors
/// There is no gateway, or it is gone.
pub(super) fn serve() -> io::Result<()> {
    let socket = take_socket()?;
    let end = end_with(&socket)?;
    let task: Task = channel::hear(&mut &socket)?;
    let word = find_out(&task, &socket);
    // The gateway may be gone, which is for the other thread to see to: ending before it has killed what
    // was started in this login would leave the rest to nobody.
    let _ = channel::say(&mut &socket, &word);
    let _ = end.join();
    Ok(())
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
/// doing then, and lets nobody look into its memory, which holds passwords (S-91).
fn end_with(socket: &UnixStream) -> io::Result<JoinHandle<()>> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    descendants::adopt()?;
    let socket = socket.try_clone()?;
    let watch = move || {
        // Nothing is waited for, and the end is always told.
        let mut end = [PollFd::new(&socket, PollFlags::empty())];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut end, None) {}
        descendants::kill_all();
        let _ = kill_current_process_group(Signal::KILL);
    };
    thread::Builder::new().name("end".into()).spawn(watch)
}

fn find_out(task: &Task, socket: &UnixStream) -> Word {
    let pam = match Pam::load() {
        Ok(pam) => pam,
        Err(error) => return Word::Failed(error.to_string()),
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
    let ended = match pam.start(service, directory.as_deref(), &task.user, answer) {
        Ok(mut transaction) => log_in(&mut transaction, task),
        Err(code) => Err(Word::Denied(Phase::Start, code)),
    };
    // The transaction has ended: its modules have let go of what they held.
    ended.unwrap_or_else(|word| word)
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
    let passed = identify(&task.user, user, task.rules.min_uid)?;
    if task.rules.session {
        transaction.open_session().map_err(denied(Phase::Session))?;
        transaction.close_session().map_err(denied(Phase::Session))?;
    }
    Ok(passed)
}

/// Tells PAM who is asking, as far as that is known.
fn introduce(transaction: &mut Transaction<'_>, task: &Task) -> Result<(), Code> {
    transaction.answer_without_pause()?;
    transaction.set(Item::Terminal, TERMINAL)?;
    if let Some(address) = task.address {
        transaction.set(Item::RemoteHost, &address.to_string())?;
    }
    // Who is known to the kernel and has no name is nobody to PAM.
    let account = task.peer_uid.and_then(|uid| Account::of_uid(uid).ok().flatten());
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
