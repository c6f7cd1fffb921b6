//! The account database of this system.

#[cfg(not(target_vendor = "apple"))]
use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User};

use super::Account;

pub(super) fn named(name: &str) -> io::Result<Option<Account>> {
    Ok(User::from_name(name)?.map(Account::from))
}

pub(super) fn of_uid(uid: u32) -> io::Result<Option<Account>> {
    Ok(User::from_uid(Uid::from_raw(uid))?.map(Account::from))
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn groups_of(name: &str, primary: u32) -> io::Result<Vec<u32>> {
    let groups = nix::unistd::getgrouplist(&CString::new(name)?, Gid::from_raw(primary))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// The library has no such question for this system.
#[cfg(target_vendor = "apple")]
pub(super) fn groups_of(_: &str, _: u32) -> io::Result<Vec<u32>> {
    Err(io::ErrorKind::Unsupported.into())
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        Self { name: user.name, uid, gid, home: user.dir, shell: user.shell }
    }
}

/// The id of the group of that name; `None` if there is none.
///
/// # Errors
/// The database cannot be read.
pub fn group_named(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// The name of the group of that id; `None` if there is none.
///
/// # Errors
/// The database cannot be read.
pub fn group_name(gid: u32) -> io::Result<Option<String>> {
    Ok(Group::from_gid(Gid::from_raw(gid))?.map(|group| group.name))
}

/// What whoever started this program is called: the account's name, or `uid N`.
pub fn caller() -> String {
    let uid = Uid::current().as_raw();
    let account = of_uid(uid).ok().flatten();
    account.map_or_else(|| format!("uid {uid}"), |account| account.name)
}

/// The user id that this program acts as.
pub fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Goes on as another account, for good, without supplementary groups: what root then makes belongs
/// to that account. Call it before there are threads.
///
/// # Errors
/// We are not root. Nothing is then promised about the groups.
pub fn step_down(uid: u32, gid: u32) -> io::Result<()> {
    #[cfg(not(target_vendor = "apple"))]
    nix::unistd::setgroups(&[Gid::from_raw(gid)])?;
    nix::unistd::setgid(Gid::from_raw(gid))?;
    Ok(nix::unistd::setuid(Uid::from_raw(uid))?)
}

/// What this machine calls itself; `localhost` if it has no name that is text.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}
