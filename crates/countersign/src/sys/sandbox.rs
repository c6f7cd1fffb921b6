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

/// Has the kernel refuse calls that nothing here makes, with the error EPERM (seccomp). From now on no program gains
/// rights by being started. Says how many calls that are.
///
/// # Errors
/// In words: the kernel has no seccomp, or it is another processor's.
#[cfg(target_os = "linux")]
pub fn refuse_calls() -> Result<usize, String> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let rules: BTreeMap<i64, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let architecture = ARCH.try_into().map_err(|error| told(&error))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| told(&error))?;
    // It says that no new rights are gained, without which only root may filter.
    apply_filter(&filter).map_err(|error| told(&error))?;
    Ok(REFUSED.len())
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, thread};

    use super::*;

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
            fs::read("/etc/passwd").unwrap();
        })
        .join()
        .unwrap();
    }
}
