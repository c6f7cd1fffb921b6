//! One run of a program: started, waited for, and gone with all that it started, in time.

use std::{
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use crate::{
    Refusal, Secret,
    sys::group::{Group, Signal},
};

/// What a program that ended by itself said.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
}

/// Longer output is no statement of an identity.
pub(super) const MOST_OUTPUT: usize = 64 * 1024;

/// What a fresh pipe holds on every system, so that writing it never waits for the program to read.
const MOST_INPUT: usize = 4096;

/// How long a program has to end by itself once its time is over.
const GRACE: Duration = Duration::from_secs(2);

/// How long the output may stay open after the program and its group are gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs `command` in a process group of its own, with `input` on its standard input, for `limit` at
/// most. `place` is held until nothing of it is left, readers of its output included.
///
/// When the program ends, what it started in its group is killed. When its time is over the group is
/// asked to end, and killed two seconds later.
///
/// # Errors
/// It cannot be started, takes too long, or says too much.
pub(super) fn run(
    command: &mut Command,
    input: Option<&Secret>,
    limit: Duration,
    place: impl Send + 'static,
) -> Result<Ended, Refusal> {
    if input.is_some_and(|input| input.expose().len() >= MOST_INPUT) {
        return Err(Refusal::module_failed("the password is longer than 4 KiB"));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut group = Group::start(command).map_err(|error| failed("the program cannot be started", &error))?;
    if let (Some(input), Some(mut pipe)) = (input, group.take_input()) {
        // A program that does not read what it was given may still decide.
        let _ = pipe.write_all(input.expose()).and_then(|()| pipe.write_all(b"\n"));
    }
    let output = group.take_output().map(|pipe| read_aside(pipe, place)).transpose()?;
    let ended = group.watch().map_err(|error| failed("no thread can be started", &error))?;
    if ended.recv_timeout(limit).is_err() {
        group.signal(Signal::TERM);
        let _ = ended.recv_timeout(GRACE);
        return Err(Refusal::module_failed("the program did not decide in time"));
    }
    let status = group.finish().map_err(|error| failed("the program cannot be waited for", &error))?;
    let output = output.and_then(|output| output.recv_timeout(LAST_WORDS).ok());
    match output {
        Some(Ok(output)) if output.len() <= MOST_OUTPUT => Ok(Ended { status, output }),
        Some(Ok(_)) => Err(Refusal::module_failed("the program said more than 64 KiB")),
        Some(Err(error)) => Err(failed("the program's output cannot be read", &error)),
        None => Err(Refusal::module_failed("the program left its output open")),
    }
}

/// Whether a program that ended passed: only by exit status 0 (S-74).
pub(super) fn how_it_ended(status: ExitStatus) -> Result<bool, Refusal> {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(code == 0),
        (None, Some(signal)) => Err(Refusal::module_failed(format!("the program died of signal {signal}"))),
        (None, None) => Err(Refusal::module_failed("the program ended in an unknown way")),
    }
}

/// Reads to the end on a thread of its own, one byte more than may be said at most.
fn read_aside(
    pipe: ChildStdout,
    place: impl Send + 'static,
) -> Result<Receiver<io::Result<Vec<u8>>>, Refusal> {
    let (say, said) = sync_channel(1);
    spawn(move || {
        let mut output = Vec::new();
        let read = pipe.take(MOST_OUTPUT as u64 + 1).read_to_end(&mut output);
        let _ = say.send(read.map(|_| output));
        drop(place);
    })?;
    Ok(said)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let started = thread::Builder::new().name("exec".into()).spawn(work);
    started.map(drop).map_err(|error| failed("no thread can be started", &error))
}

fn failed(what: &str, error: &io::Error) -> Refusal {
    Refusal::module_failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Instant,
    };

    use rustix::process::{Pid, test_kill_process};

    use super::*;

    fn shell(script: &str, input: Option<&str>, limit: Duration) -> Result<Ended, Refusal> {
        let input = input.map(Secret::new);
        run(Command::new("/bin/sh").args(["-c", script]), input.as_ref(), limit, ())
    }

    fn soon(script: &str) -> Result<Ended, Refusal> {
        shell(script, None, Duration::from_secs(20))
    }

    fn is_gone(pid: &str) -> bool {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let start = Instant::now();
        // Whoever lost its parent is reaped by init, in a moment or never; a zombie is as good as gone.
        while test_kill_process(pid).is_ok() && !is_zombie(pid) {
            if start.elapsed() > Duration::from_secs(5) {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn is_zombie(pid: Pid) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    }

    #[test]
    fn s_074_only_exit_status_0_passes() {
        for (script, passes) in [("exit 0", true), ("exit 1", false), ("exit 255", false)] {
            assert_eq!(how_it_ended(soon(script).unwrap().status), Ok(passes), "{script}");
        }
        assert!(how_it_ended(soon("kill -9 $$").unwrap().status).unwrap_err().cause.contains("signal 9"));
    }

    #[test]
    fn s_074_the_password_comes_on_standard_input_alone() {
        let ended = shell("cat; tr '\\0' ' ' </proc/$$/cmdline; env", Some("hunter2"), GRACE * 10).unwrap();
        let said = String::from_utf8(ended.output).unwrap();
        assert_eq!(said.matches("hunter2").count(), 1);
        assert!(said.starts_with("hunter2\n"));
        assert_eq!(soon("cat").unwrap().output, b"");
        assert!(shell("exec <&-; exit 0", Some("unread"), GRACE * 10).is_ok());
        assert!(shell("cat", Some(&"x".repeat(4096)), GRACE).is_err());
    }

    #[test]
    fn s_074_the_group_dies_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("sleep 600 & echo $! >{0}; echo $$ >>{0}; wait", pids.display());
        let start = Instant::now();
        let refusal = shell(&script, None, Duration::from_millis(300)).unwrap_err();
        assert!(refusal.cause.contains("in time") && start.elapsed() < Duration::from_secs(2));
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2);
        assert!(pids.lines().all(is_gone));
    }

    #[test]
    fn s_074_who_ignores_the_request_to_end_is_killed_two_seconds_later() {
        let start = Instant::now();
        let script = "trap '' TERM; while :; do sleep 600; done";
        assert!(shell(script, None, Duration::from_millis(200)).is_err());
        let took = start.elapsed();
        assert!(took >= GRACE && took < GRACE * 4, "{took:?}");
    }

    #[test]
    fn what_a_program_leaves_behind_in_its_group_is_killed() {
        let ended = soon("sleep 600 & echo $!").unwrap();
        assert!(is_gone(std::str::from_utf8(&ended.output).unwrap()));
    }

    #[test]
    fn output_is_bounded_and_a_place_is_held_until_nothing_is_left() {
        assert_eq!(soon("head -c 65536 /dev/zero").unwrap().output.len(), MOST_OUTPUT);
        assert!(soon("head -c 65537 /dev/zero").unwrap_err().cause.contains("64 KiB"));
        assert!(soon("cat /dev/zero").is_err());

        struct Place(Arc<AtomicBool>);
        impl Drop for Place {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let given_back = Arc::new(AtomicBool::new(false));
        let place = Place(Arc::clone(&given_back));
        let mut command = Command::new("/bin/sh");
        // `setsid` leaves the group, and its output stays open.
        command.args(["-c", "setsid sleep 3 & sleep 0.5; exit 0"]);
        let refusal = run(&mut command, None, GRACE * 10, place).unwrap_err();
        assert!(refusal.cause.contains("left its output open"));
        assert!(!given_back.load(Ordering::SeqCst));
        let start = Instant::now();
        while !given_back.load(Ordering::SeqCst) {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_program_that_is_gone_since_the_start_refuses() {
        let refusal = run(&mut Command::new("/nonexistent"), None, GRACE, ()).unwrap_err();
        assert!(refusal.cause.contains("cannot be started"));
    }
}
