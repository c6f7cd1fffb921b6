//! What this process may open and which calls of the system it may make: Landlock and seccomp.
//!
//! Called by the gateway's start, before there are threads: Landlock holds the thread that says it and those that it
//! starts. Programs that are started inherit both.

use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::{collections::BTreeMap, env::consts::ARCH};

/// What may be opened. Directories, with all that is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Openable {
    /// To be read.
    pub read: Vec<PathBuf>,
    /// To be read and changed.
    pub write: Vec<PathBuf>,
}

/// Has the kernel refuse to open anything else (Landlock). The number is that of the kernel's Landlock that was used.
///
/// # Errors
/// In words: the kernel has no Landlock, or is not told to use it.
#[cfg(target_os = "linux")]
pub fn open_only(openable: &Openable) -> Result<i32, String> {
    use landlock::{
        ABI, Access as _, AccessFs, LandlockStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
        RulesetStatus, path_beneath_rules,
    };
    // What can be told apart since Linux 6.10; an older kernel does what it can.
    const KNOWN: ABI = ABI::V5;
    // Nothing here executes anything: who starts programs has no sandbox of this kind.
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !AccessFs::Execute & !AccessFs::MakeChar & !AccessFs::MakeBlock;
    let apply = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&openable.read, read))?
            .add_rules(path_beneath_rules(&openable.write, write))?
            .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
            .restrict_self()
    };
    let status = apply().map_err(|error: landlock::RulesetError| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _)
        | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            Err("this kernel has no Landlock, or does not use it (lsm= on its command line)".to_owned())
        }
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            Ok(kernel_abi.unwrap_or(effective_abi as i32))
        }
    }
}

/// What a kernel with Landlock of this number lets through of what [`open_only`] is asked to close, in words. Before the
/// third (Linux 6.2) it does not ask when a file is cut to a length. What came later (TCP, devices, signals) is not asked
/// for, or is more than is claimed.
pub fn lets_through(landlock: i32) -> Option<&'static str> {
    (landlock < 3)
        .then_some("no whole sandbox for files: before Linux 6.2 files outside can be cut to nothing")
}

/// Has the kernel refuse calls that nothing here makes, with the error EPERM (seccomp): those of a list, `clone` for
/// another namespace, and the numbers of a second set that some kernels have (x32). `clone3` says what it is for where
/// a filter cannot look, so it is answered as by a kernel without it, and the C library takes `clone`. From now on no
/// program gains rights by being started. Says how many calls the list has.
///
/// # Errors
/// In words: the kernel has no seccomp, or it is another processor's.
#[cfg(target_os = "linux")]
pub fn refuse_calls() -> Result<usize, String> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq, SeccompCondition,
        SeccompFilter, SeccompRule, apply_filter,
    };
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let with = |flag: &libc::c_int| {
        let flag = u64::from(flag.unsigned_abs());
        SeccompRule::new(vec![SeccompCondition::new(0, Dword, MaskedEq(flag), flag)?])
    };
    let elsewhere = NAMESPACES.iter().map(with).collect::<Result<_, _>>().map_err(|error| told(&error))?;
    rules.insert(libc::SYS_clone, elsewhere);
    let architecture = ARCH.try_into().map_err(|error| told(&error))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| told(&error))?;
    // It says that no new rights are gained, without which only root may filter, and ends a process that calls as
    // another architecture's: the second one sees numbers of this one's.
    apply_filter(&filter).map_err(|error| told(&error))?;
    apply_filter(&numbers()).map_err(|error| told(&error))?;
    Ok(REFUSED.len())
}

/// The filter of whole ranges, which the library's rules have no words for, and of the one call with an answer of its
/// own.
#[cfg(target_os = "linux")]
fn numbers() -> seccompiler::BpfProgram {
    use seccompiler::sock_filter;
    let step = |code: u32, k, jt, jf| sock_filter { code: code as u16, jt, jf, k };
    let answer =
        |error: i32| step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error.unsigned_abs(), 0, 0);
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    vec![
        // The number is the first field of what a filter is given.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 2, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, clone3, 2, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
        answer(libc::EPERM),
        answer(libc::ENOSYS),
    ]
}

/// There is none here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn open_only(_: &Openable) -> Result<i32, String> {
    Err("this system has no Landlock".to_owned())
}

/// There is none here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn refuse_calls() -> Result<usize, String> {
    Err("this system has no seccomp".to_owned())
}

/// Other processes' memory, other kernels and modules, file systems, namespaces, the clock, keys of the kernel: what
/// whoever takes a process over goes on with. The newest ways into the kernel are among them.
#[cfg(target_os = "linux")]
#[allow(clippy::useless_conversion, reason = "the type differs between systems")]
const REFUSED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// What `clone` makes a new one of. All but the user's take rights that a new user namespace gives.
#[cfg(target_os = "linux")]
const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// The bit in numbers of the second set of calls (x86-64). No other architecture has numbers so high.
#[cfg(target_os = "linux")]
const X32: u32 = 0x4000_0000;

#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code, reason = "calls that nothing else here makes")]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn s_094_a_landlock_that_lets_files_be_cut_is_not_taken_for_a_whole_one() {
        assert!(lets_through(1).is_some() && lets_through(2).is_some());
        assert!(lets_through(3).is_none() && lets_through(7).is_none());
    }

    /// Each call is one that no kernel does: without the filter it has another error, and no process is made.
    fn no_namespace_is_made() {
        let error = |status: libc::c_long| {
            assert_eq!(status, -1);
            std::io::Error::last_os_error().raw_os_error().unwrap()
        };
        for namespace in NAMESPACES {
            let flags = libc::c_long::from(namespace | libc::CLONE_SIGHAND | libc::SIGCHLD);
            // SAFETY: handlers of signals are shared with the memory or not at all (EINVAL).
            let status = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
            assert_eq!(error(status), libc::EPERM, "{namespace:x}");
        }
        // SAFETY: arguments of no length (EINVAL).
        assert_eq!(error(unsafe { libc::syscall(libc::SYS_clone3, 0, 0) }), libc::ENOSYS);
        // SAFETY: the call takes nothing. A kernel without such numbers says ENOSYS.
        assert_eq!(error(unsafe { libc::syscall(libc::c_long::from(X32) | libc::SYS_getpid) }), libc::EPERM);
        // Threads and programs are started all the same.
        thread::spawn(|| ()).join().unwrap();
        assert!(std::process::Command::new("/bin/true").status().unwrap().success());
    }

    /// In a thread of its own: both hold it for good, and no other one.
    #[test]
    fn s_094_what_was_not_asked_for_cannot_be_opened_and_dangerous_calls_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["in", "state", "other"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), name).unwrap();
        }
        let openable = Openable { read: vec![path("in"), path("missing")], write: vec![path("state")] };
        thread::scope(|scope| {
            let held = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).unwrap();
                match open_only(&openable) {
                    Ok(number) => assert!(number > 0),
                    // It is said, and nothing is held then.
                    Err(why) => return assert!(why.contains("Landlock"), "{why}"),
                }
                assert_eq!(fs::read(path("in").join("file")).unwrap(), b"in");
                assert!(fs::write(path("in").join("file"), "x").is_err());
                fs::write(path("state").join("new"), "x").unwrap();
                fs::rename(path("state").join("new"), path("state").join("file")).unwrap();
                for other in [path("other").join("file"), "/etc/passwd".into()] {
                    assert_eq!(fs::read(other).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
                }
                assert!(fs::OpenOptions::new().write(true).open("/dev/null").is_ok());
                assert!(std::process::Command::new("/bin/true").status().is_err());
            });
            held.join().unwrap();
        });
        thread::spawn(|| {
            assert!(refuse_calls().unwrap() > 40);
            let error = nix::unistd::chroot("/").unwrap_err();
            assert_eq!(error, nix::errno::Errno::EPERM);
            assert!(rustix::thread::no_new_privs().unwrap());
            no_namespace_is_made();
            fs::read("/etc/passwd").unwrap();
        })
        .join()
        .unwrap();
    }
}
