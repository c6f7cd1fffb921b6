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
    unistd::{Gid, Uid, chdir, geteuid, setsid},
};

use super::accounts::Account;

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
    let mut ids = Ids {
        uid,
        gid: Gid::from_raw(account.gid),
        groups: account.groups()?.into_iter().map(Gid::from_raw).collect(),
        home: CString::new(account.home.as_os_str().as_bytes())?,
        room: Vec::new(),
        changes: own.is_root(),
    };
    ids.groups.sort_by_key(|group| group.as_raw());
    ids.groups.dedup();
    // One more than there may be, so that one too many is seen.
    ids.room = vec![0; ids.groups.len() + 1];
    // SAFETY: between fork and exec the closure makes system calls on what was made ready before the fork, and
    // touches neither the heap nor a lock.
    unsafe { command.pre_exec(move || ids.assume()) };
    Ok(())
}

/// Who to become.
struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: CString,
    /// For the kernel's answer.
    room: Vec<libc::gid_t>,
    changes: bool,
}

impl Ids {
    fn assume(&mut self) -> io::Result<()> {
        setsid()?;
        if self.changes {
            self.change()?;
        }
        umask(Mode::from_bits_truncate(0o022));
        // As login(1) does where there is no home: only now, with the user's own rights.
        if chdir(self.home.as_c_str()).is_err() {
            chdir(c"/")?;
        }
        Ok(())
    }

    /// This system has no such calls, nor a list of an account's groups.
    #[cfg(target_vendor = "apple")]
    fn change(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_vendor = "apple"))]
    fn change(&mut self) -> io::Result<()> {
        use nix::unistd::{setgroups, setresgid, setresuid};
        // Groups first: afterwards we may not any more.
        setgroups(&self.groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        self.verify()
    }

    /// S-84: calls that have no effect and no error have happened, and nobody would notice.
    #[cfg(not(target_vendor = "apple"))]
    fn verify(&mut self) -> io::Result<()> {
        use nix::unistd::{getresgid, getresuid, setuid};
        let (uids, gids) = (getresuid()?, getresgid()?);
        let room = libc::c_int::try_from(self.room.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the buffer is valid for writing `room` ids, and any bytes are valid ids.
        let count = unsafe { libc::getgroups(room, self.room.as_mut_ptr()) };
        let groups = usize::try_from(count).ok().and_then(|count| self.room.get_mut(..count));
        let groups = groups.ok_or(io::ErrorKind::PermissionDenied)?;
        groups.sort_unstable();
        let are_groups = groups.iter().copied().eq(self.groups.iter().map(|group| group.as_raw()));
        let is_user = [uids.real, uids.effective, uids.saved].iter().all(|uid| *uid == self.uid);
        let is_group = [gids.real, gids.effective, gids.saved].iter().all(|gid| *gid == self.gid);
        let comes_back = !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok();
        if is_user && is_group && are_groups && !comes_back {
            return Ok(());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }
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
