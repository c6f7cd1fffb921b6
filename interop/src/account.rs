//! A second local account for as long as a test runs, where the tests run as root.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use crate::{Place, process::must};

/// A local account made for one test, without a password; removed with the value.
#[derive(Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// More groups that a command run as this account has.
    pub groups: Vec<u32>,
}

impl Account {
    /// Makes an account, or says in words why there is none: only root can.
    #[must_use]
    pub fn create() -> Option<Self> {
        Self::create_with(&["--no-create-home", "--shell", "/usr/sbin/nologin"])
    }

    /// An account with a home of its own, a folder of this name in a place that is open to all.
    #[must_use]
    pub fn at_home(place: &Place, name: &str) -> Option<Self> {
        let home = place.text(name);
        Self::create_with(&["--create-home", "--home-dir", &home, "--shell", "/bin/sh"])
    }

    fn create_with(options: &[&str]) -> Option<Self> {
        if !is_root() {
            eprintln!("skipped: only root can create the second local account that this test needs");
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("cst{}x{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        must(Command::new("useradd").args(options).args(["--user-group", &name]));
        let user = User::from_name(&name).expect("the user database").expect("an account just made");
        Some(Self { name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups: Vec::new() })
    }

    /// The command as this account runs it: with its ids and groups, and nothing of ours.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        match self.groups.as_slice() {
            [] => command.arg("--clear-groups"),
            groups => {
                let list: Vec<_> = groups.iter().map(u32::to_string).collect();
                command.arg(format!("--groups={}", list.join(",")))
            }
        };
        command.args(["--", name]).env("HOME", "/nonexistent").current_dir("/");
        command
    }
}

impl Account {
    /// A folder that is this account's alone.
    #[must_use]
    pub fn folder(&self, place: &Place, name: &str) -> String {
        fs::create_dir_all(place.path(name)).expect("a folder in the test's own place");
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o700)).expect("its permissions");
        self.own(&place.text(name));
        place.text(name)
    }

    /// Makes a file or folder this account's.
    pub fn own(&self, path: &str) {
        chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .expect("root gives it away");
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Also removes the group of the same name, unless another account is in it. A failure must not hide the
        // test's own.
        let _ = Command::new("userdel").arg(&self.name).status();
        let _ = Command::new("groupdel").arg(&self.name).stderr(Stdio::null()).status();
    }
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The account that a daemon which refuses to be root runs as, and the folder made its own; nothing to do for a
/// plain user.
pub fn leave_root(command: &mut Command, name: &str, place: &Place) {
    if is_root() {
        let user = User::from_name(name).expect("the user database");
        let user = user.unwrap_or_else(|| panic!("there is no local account `{name}`: `cargo xtask deps`"));
        give(place, user.uid, user.gid);
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Makes a file the own of the account that a daemon runs as which refuses to be root; nothing to do for a plain user.
pub fn give_file(path: &str, name: &str) {
    if is_root() {
        let user = User::from_name(name).expect("the user database");
        let user = user.unwrap_or_else(|| panic!("there is no local account `{name}`: `cargo xtask deps`"));
        chown(path, Some(user.uid), Some(user.gid)).expect("root gives its file away");
    }
}

fn give(place: &Place, uid: Uid, gid: Gid) {
    chown(&place.path(""), Some(uid), Some(gid)).expect("root gives its folder away");
}
