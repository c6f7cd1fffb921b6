//! A program as another user: the ids, groups and home of an account, taken on between fork and exec.
//!
//! Called by the backend that starts the daemon of a user.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use nix::{
    sys::stat::{Mode, umask},
    unistd::{Uid, chdir, geteuid, setsid},
};

use super::{accounts::Account, ids::Ids};

/// Lets the child run as `account`, with all of its groups, in its home and a session of its own. The groups are
/// looked up now, which may wait for the account database.
///
/// Everything is verified before anything of the user's is touched, and if anything fails the child does not run
/// (S-84). Only root becomes somebody else; for our own account nothing has to be changed.
///
/// # Errors
/// We are neither root nor that account; its groups cannot be looked up; its home is no path.
pub fn run_as(command: &mut Command, account: &Account) -> io::Result<()> {
    let own = geteuid();
    let uid = Uid::from_raw(account.uid);
    if !own.is_root() && own != uid {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root starts programs as others"));
    }
    let ids = Ids::new(account.uid, account.gid, account.groups()?);
    let mut becoming = Becoming {
        room: ids.room(),
        ids,
        home: CString::new(account.home.as_os_str().as_bytes())?,
        changes: own.is_root(),
    };
    // SAFETY: between fork and exec the closure makes system calls on what was made ready before the fork, and
    // touches neither the heap nor a lock.
    unsafe { command.pre_exec(move || becoming.assume()) };
    Ok(())
}

/// Who to become.
struct Becoming {
    ids: Ids,
    home: CString,
    /// For the kernel's answer.
    room: Vec<libc::gid_t>,
    changes: bool,
}

impl Becoming {
    fn assume(&mut self) -> io::Result<()> {
        setsid()?;
        // As long as they may be raised.
        have_usual_limits();
        if self.changes {
            self.ids.take_on(self.ids.uid)?;
            self.ids.verify(&mut self.room)?;
        }
        umask(Mode::from_bits_truncate(0o022));
        // As login(1) does where there is no home: only now, with the user's own rights.
        if chdir(self.home.as_c_str()).is_err() {
            chdir(c"/")?;
        }
        Ok(())
    }
}

/// The gateway's own are those of who holds secrets: no core, and all memory locked. Programs of users have what a login
/// gives them. What may not be raised stays as it is, for it is no right that is at stake.
fn have_usual_limits() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: None });
    let _ = setrlimit(Resource::Memlock, Rlimit { current: Some(LOCKED), maximum: Some(LOCKED) });
}

/// Sees to it that the account has its directory for sockets (`XDG_RUNTIME_DIR`), 0700, as pam_systemd makes it.
/// It is made by root, in a directory that nobody else can write to.
///
/// # Errors
/// There is none and it cannot be made, or what is there is not the account's alone.
pub fn runtime_directory(path: &Path, account: &Account) -> io::Result<()> {
    if let Err(error) = fs::symlink_metadata(path) {
        if error.kind() != io::ErrorKind::NotFound || !geteuid().is_root() {
            return Err(error);
        }
        let parent = fs::metadata(path.parent().unwrap_or(path))?;
        if parent.uid() != 0 || parent.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others can write where it would be made",
            ));
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {
                let made = open_directory(path)?;
                fchown(&made, Some(account.uid), Some(account.gid))?;
                made.set_permissions(Permissions::from_mode(0o700))?;
            }
            // Another login was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let facts = open_directory(path)?.metadata()?;
    if facts.uid() != account.uid || facts.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not the user's alone"));
    }
    Ok(())
}

/// No link is followed.
fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// Bytes that a process may lock, as Linux has it since 5.16.
const LOCKED: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Account {
        Account::own().unwrap().unwrap()
    }

    #[test]
    fn s_084_only_root_starts_programs_as_others() {
        let other = Account { uid: own().uid + 1, ..own() };
        let taken = run_as(&mut Command::new("/bin/true"), &other);
        assert_eq!(taken.is_ok(), own().uid == 0);
    }

    #[test]
    fn s_084_a_program_leads_a_session_in_the_home_of_its_account() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "pwd; umask; test $$ = $(cut -d' ' -f6 /proc/$$/stat) && echo leads"]);
        run_as(&mut command, &Account { home: home.clone(), ..own() }).unwrap();
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(said, format!("{}\n0022\nleads\n", home.display()));
        let mut homeless = Command::new("/bin/pwd");
        run_as(&mut homeless, &Account { home: "/nonexistent/home".into(), ..own() }).unwrap();
        assert_eq!(homeless.output().unwrap().stdout, b"/\n");
    }

    #[test]
    fn a_program_has_the_limits_of_a_login_and_not_those_of_the_gateway() {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -l; ulimit -c; ulimit -H -c"]);
        // As the gateway's unit has it.
        let unit = || -> io::Result<()> {
            setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
            Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
        };
        // SAFETY: two system calls.
        unsafe { command.pre_exec(unit) };
        run_as(&mut command, &own()).unwrap();
        match command.output() {
            Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout), "8192\n0\nunlimited\n"),
            Err(refused) => assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn s_084_a_runtime_directory_is_the_users_alone_or_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("run"), folder.path().join("link"));
        if own().uid != 0 {
            assert_eq!(runtime_directory(&path, &own()).unwrap_err().kind(), io::ErrorKind::NotFound);
            fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        }
        runtime_directory(&path, &own()).unwrap();
        runtime_directory(&path, &own()).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        runtime_directory(&link, &own()).unwrap_err();
        fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        runtime_directory(&path, &own()).unwrap_err();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        runtime_directory(&folder.path().join("open"), &own()).unwrap_err();
    }
}
