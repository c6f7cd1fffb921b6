//! Accounts and groups of this system, from the databases that `nsswitch.conf` names.
//!
//! Called by the modules that turn a uid into a name or a name into numbers. A look-up may wait for
//! a directory service, so callers run it where blocking is allowed. Windows has no such numbers: there every
//! look-up fails, which is never the same as "no such account" (S-70).

use std::{fmt, io, path::PathBuf};

#[cfg_attr(unix, path = "accounts/unix.rs")]
#[cfg_attr(windows, path = "accounts/windows.rs")]
mod system;

pub use system::{caller, group_name, group_named, host_name, own_uid, step_down};

/// One entry of the account database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// The login name, in the database's spelling.
    pub name: String,
    /// The numeric user id.
    pub uid: u32,
    /// The numeric id of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

impl Account {
    /// The account of that login name; `None` if there is none.
    ///
    /// # Errors
    /// The database cannot be read. That is never the same as "no such account" (S-70).
    pub fn named(name: &str) -> io::Result<Option<Self>> {
        system::named(name)
    }

    /// The account of that user id; `None` if there is none.
    ///
    /// # Errors
    /// As [`Account::named`].
    pub fn of_uid(uid: u32) -> io::Result<Option<Self>> {
        system::of_uid(uid)
    }

    /// The account that this program runs as; `None` if its user id has none.
    ///
    /// # Errors
    /// As [`Account::named`].
    pub fn own() -> io::Result<Option<Self>> {
        system::of_uid(own_uid())
    }

    /// All groups of the account: the primary one and the supplementary ones (W20).
    ///
    /// # Errors
    /// The database cannot be read, or this system has no way to ask.
    pub fn groups(&self) -> io::Result<Vec<u32>> {
        system::groups_of(&self.name, self.gid)
    }
}

/// The user id that a configured text means: a number, or a login name.
///
/// # Errors
/// [`UnknownId`]: never anybody else's id, least of all our own (S-70, W09).
pub fn parse_uid(text: &str) -> Result<u32, UnknownId> {
    parse_id(text, "user", |name| Ok(Account::named(name)?.map(|account| account.uid)))
}

/// The group id that a configured text means: a number, or a group name.
///
/// # Errors
/// As [`parse_uid`].
pub fn parse_gid(text: &str) -> Result<u32, UnknownId> {
    parse_id(text, "group", group_named)
}

/// The user id of `nobody`, if this system has that account.
pub fn nobody() -> Option<u32> {
    Account::named("nobody").ok().flatten().map(|account| account.uid)
}

/// The group id of `nogroup` (Debian) or `nobody`, if this system has either.
pub fn nogroup() -> Option<u32> {
    ["nobody", "nogroup"].into_iter().find_map(|name| group_named(name).ok().flatten())
}

/// A text that names no user or group of this system.
#[derive(Debug)]
pub struct UnknownId {
    kind: &'static str,
    text: String,
    cause: Option<io::Error>,
}

impl UnknownId {
    /// What is wrong, without the text itself: where tables have it, it may be the rest of a password that holds
    /// what divides the columns (S-79).
    pub fn unsaid(&self) -> String {
        match &self.cause {
            None => format!("it names no {} of this system", self.kind),
            Some(cause) => format!("the {} that it names cannot be looked up: {cause}", self.kind),
        }
    }
}

impl fmt::Display for UnknownId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            None => write!(f, "there is no {} `{}`", self.kind, self.text.escape_debug()),
            Some(cause) => {
                write!(f, "the {} `{}` cannot be looked up: {cause}", self.kind, self.text.escape_debug())
            }
        }
    }
}

impl std::error::Error for UnknownId {}

fn parse_id(
    text: &str,
    kind: &'static str,
    named: impl Fn(&str) -> io::Result<Option<u32>>,
) -> Result<u32, UnknownId> {
    let text = text.trim();
    let unknown = |cause| UnknownId { kind, text: text.to_owned(), cause };
    // A text that looks like a number is one: `-1` and 4294967295 mean "leave unchanged" to setuid(2).
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return text.parse().ok().filter(|&id| id != u32::MAX).ok_or_else(|| unknown(None));
    }
    match named(text) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(unknown(None)),
        Err(cause) => Err(unknown(Some(cause))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number_with_its_groups() {
        let root = Account::named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::of_uid(0).unwrap().unwrap(), root);
        assert!(root.groups().unwrap().contains(&0));
        let group = group_name(0).unwrap().unwrap();
        assert_eq!(group_named(&group).unwrap(), Some(0));
    }

    #[test]
    fn s_070_what_is_unknown_or_out_of_range_is_an_error_and_nobodys_id() {
        assert!(Account::named("no-such-account-here").unwrap().is_none());
        assert!(Account::of_uid(4_000_000_123).unwrap().is_none());
        for bad in ["no-such-account-here", "-1", "4294967295", "4294967296", "1x", "+0", ""] {
            assert!(parse_uid(bad).is_err(), "{bad}");
            assert!(parse_gid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_taken_as_they_are_and_names_are_looked_up() {
        assert_eq!(parse_uid(" 1000 ").unwrap(), 1000);
        assert_eq!(parse_uid("root").unwrap(), 0);
        assert_eq!(parse_gid("4294967294").unwrap(), 4_294_967_294);
        assert_ne!(nobody(), Some(0));
        assert_ne!(nogroup(), Some(0));
    }
}
