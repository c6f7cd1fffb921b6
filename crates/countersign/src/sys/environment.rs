//! Taking a secret out of this process's environment.
//!
//! Called by the module `env` while the configuration is read, before the runtime starts its threads.
#![allow(unsafe_code)]

/// What became of a variable that was to disappear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a secret that stayed must be reported")]
pub enum Scrubbed {
    /// It is gone: children do not inherit it, and `/proc/PID/environ` does not show it.
    Gone,
    /// Nothing was touched, because other threads run, or might.
    Kept,
}

/// Overwrites the value of the variable `name` and removes it (S-80, S-90).
///
/// Must be called before threads are started: the C library reads the environment without a lock
/// (`getaddrinfo`, `localtime`), so a change beside another thread is undefined behaviour. This
/// function counts the threads and leaves everything as it is if there is more than its own, which
/// is what makes it safe to call; on systems where it cannot count, it always does that.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that has seen to it that no other thread is there"
)]
pub fn scrub_env(name: &str) -> Scrubbed {
    // A variable of such a name cannot exist, and `remove_var` panics on it.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Scrubbed::Gone;
    }
    if !is_only_thread() {
        return Scrubbed::Kept;
    }
    // SAFETY: this is the only thread, and none can appear while it is here, so nothing else reads or
    // writes the environment; or the system guards it.
    unsafe {
        overwrite(name);
        std::env::remove_var(name);
    }
    Scrubbed::Gone
}

/// Overwrites the value where the process has it.
///
/// # Safety
/// Nothing else reads or writes the environment meanwhile.
#[cfg(unix)]
unsafe fn overwrite(name: &str) {
    let Ok(name) = std::ffi::CString::new(name) else { return };
    // SAFETY: `getenv` gives null or a NUL-terminated string inside the environment, which is writable memory
    // (the initial block on the stack, or the C library's heap copy); exactly the bytes before its NUL are
    // written. No reference to it is alive: `std::env` hands out copies.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if !value.is_null() {
            for offset in 0..libc::strlen(value) {
                // Volatile, because nobody in this program reads it again: the kernel does, for
                // `/proc/PID/environ`, which shows the initial block even after the removal.
                value.add(offset).write_volatile(0);
            }
        }
    }
}

/// Windows hands out copies only, and shows the environment to nobody but who may read this process's memory.
#[cfg(windows)]
unsafe fn overwrite(_: &str) {}

#[cfg(target_os = "linux")]
fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Windows has a lock around the environment, so other threads do not matter.
#[cfg(windows)]
fn is_only_thread() -> bool {
    true
}

#[cfg(not(any(target_os = "linux", windows)))]
fn is_only_thread() -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use nix::{
        sys::wait::{WaitStatus, waitpid},
        unistd::ForkResult,
    };

    use super::*;

    const NAME: &str = "COUNTERSIGN_TEST_SCRUBBED";

    /// This program is started again with the canary in its first environment, and there forks: the
    /// child of a fork has one thread, as `main` has before the runtime.
    #[test]
    fn s_080_s_090_the_value_leaves_the_environment_and_children_never_see_it() {
        if std::env::var(NAME).is_err() {
            let test = "sys::environment::tests::s_080_s_090_the_value_leaves_the_environment_and_children_never_see_it";
            let mut again = Command::new(std::env::current_exe().unwrap());
            let again =
                again.args(["--exact", test]).env(NAME, "canary-in-the-environment").output().unwrap();
            let text = String::from_utf8_lossy(&again.stdout);
            assert!(again.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        // SAFETY: the child only runs `is_scrubbed`, whose allocations the C library allows after a fork.
        match unsafe { nix::unistd::fork() }.unwrap() {
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
            // SAFETY: ends the child without running what the parent registered for its own end.
            ForkResult::Child => unsafe { libc::_exit(i32::from(!is_scrubbed())) },
        }
    }

    fn is_scrubbed() -> bool {
        let holds = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("canary-in");
        let environ = || std::fs::read("/proc/self/environ").unwrap_or_default();
        let before = holds(&environ());
        let gone = scrub_env(NAME) == Scrubbed::Gone && std::env::var_os(NAME).is_none();
        let child = Command::new("env").output().map(|child| child.stdout).unwrap_or_default();
        before && gone && !child.is_empty() && !holds(&child) && !holds(&environ())
    }

    #[test]
    fn nothing_is_touched_while_other_threads_run() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert_eq!(scrub_env("PATH"), Scrubbed::Kept);
        assert!(std::env::var_os("PATH").is_some());
        drop(stop);
        assert!(other.join().unwrap().is_err());
        for impossible in ["", "A=B", "A\0B"] {
            assert_eq!(scrub_env(impossible), Scrubbed::Gone);
        }
    }
}
