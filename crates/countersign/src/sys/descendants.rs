//! The processes that descend from this one, wherever they went.
//!
//! Called by the worker of the module `pam`: some of PAM's modules start programs in a session of their own,
//! which a signal to the process group does not reach. Called at the end of the gateway and of its helper, which wait for
//! the daemons of users.

#[cfg(target_os = "linux")]
use std::{
    thread,
    time::{Duration, Instant},
};

/// From now on, whoever in the line of descent loses its parent becomes a child of this process instead
/// of init's, so that none is lost sight of.
///
/// # Errors
/// The kernel has no such thing.
#[cfg(target_os = "linux")]
pub fn adopt() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Kills every process that descends from this one.
#[cfg(target_os = "linux")]
pub fn kill_all() {
    // Some may be starting others meanwhile, but not for ever: a pass is faster than a fork and an exec.
    // One that changes its parent while it is looked for can be missed, but not twice.
    let mut empty = 0;
    for _ in 0..MOST_PASSES {
        let family = linux::alive();
        empty = if family.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return;
        }
        for process in family {
            // Between the look and the signal it would have to be reaped, and all other numbers to be
            // given away, for this to be another's.
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}

/// Waits until no process that descends from this one runs any more, for `limit` at most. Says whether that is so.
#[cfg(target_os = "linux")]
pub fn gone_within(limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if linux::alive().is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(STEP);
    }
}

/// Nobody is known.
#[cfg(not(target_os = "linux"))]
pub fn gone_within(_: std::time::Duration) -> bool {
    true
}

/// Only Linux lists its processes to everybody.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn adopt() -> std::io::Result<()> {
    Ok(())
}

/// Nobody is known.
#[cfg(not(target_os = "linux"))]
pub fn kill_all() {}

#[cfg(target_os = "linux")]
const MOST_PASSES: usize = 100;

/// How often it is looked whether they are gone.
#[cfg(target_os = "linux")]
const STEP: Duration = Duration::from_millis(20);

#[cfg(target_os = "linux")]
mod linux {
    use std::{collections::HashMap, fs};

    use rustix::process::{Pid, getpid};

    /// The descendants of this process that have not ended.
    pub(super) fn alive() -> Vec<Pid> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let all: HashMap<i32, Process> = pids.filter_map(|pid| Some((pid, look_at(pid)?))).collect();
        let own = getpid().as_raw_nonzero().get();
        let descends = |process: &Process| {
            // No line is longer than the list, however it was read.
            let line = std::iter::successors(Some(process), |process| all.get(&process.parent));
            line.take(all.len()).any(|process| process.parent == own)
        };
        let family = all.iter().filter(|(_, process)| !process.has_ended && descends(process));
        family.filter_map(|(pid, _)| Pid::from_raw(*pid)).collect()
    }

    struct Process {
        parent: i32,
        has_ended: bool,
    }

    /// Fields 3 and 4 of proc_pid_stat(5).
    fn look_at(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses and may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Process { parent, has_ended: matches!(state, "Z" | "X") })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::Read as _,
        process::{Command, Stdio},
    };

    use super::*;

    /// This program is started again, so that no other test's children are killed.
    #[test]
    fn who_left_the_session_and_lost_its_parent_is_found() {
        const AGAIN: &str = "COUNTERSIGN_TEST_DESCENDANTS";
        if std::env::var_os(AGAIN).is_some() {
            return kills_its_family();
        }
        let test = "sys::descendants::tests::who_left_the_session_and_lost_its_parent_is_found";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let again = again.args(["--exact", test]).env(AGAIN, "yes").output().unwrap();
        let text = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && text.contains("1 passed"), "{text}");
    }

    fn kills_its_family() {
        adopt().unwrap();
        let script =
            "setsid sh -c 'sleep 600 & exec sleep 600' & setsid sh -c 'sleep 600 & exit' & echo; wait";
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        while linux::alive().len() < 4 {
            std::thread::yield_now();
        }
        assert!(!gone_within(Duration::ZERO));
        kill_all();
        assert!(gone_within(Duration::ZERO));
        assert_eq!(linux::alive(), []);
        shell.wait().unwrap();
    }
}
