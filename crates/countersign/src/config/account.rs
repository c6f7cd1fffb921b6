//! Whom a gateway of root's runs as once its sockets are open: the keys `user` and `group`.

use super::{Layers, one};
use crate::{
    error::ConfigError,
    sys::accounts::{self, Account},
};

/// The account that a gateway becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunAs {
    /// Its name, for messages.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
    /// All of its groups.
    pub groups: Vec<u32>,
}

impl RunAs {
    /// Both keys as they are written.
    pub(super) fn written(layers: &Layers) -> Result<[Option<String>; 2], ConfigError> {
        let text = |key| one(layers, key, |options, key| Ok(options.take(key)?.map(|text| text.to_string())));
        Ok([text("user")?, text("group")?])
    }

    /// What was written, or else the account `countersign` where there is one; `None` to stay who we are.
    ///
    /// # Errors
    /// There is no such user or group, or we are not root and cannot become it.
    pub fn read(layers: &Layers) -> Result<Option<Self>, ConfigError> {
        let group = one(layers, "group", |options, key| match options.take(key)? {
            None => Ok(None),
            Some(text) => accounts::parse_gid(&text)
                .map(Some)
                .map_err(|unknown| options.error(key, unknown.to_string(), "write a group of this system")),
        })?;
        let written = one(layers, "user", |options, key| {
            let Some(text) = options.take(key)? else { return Ok(None) };
            let unknown = |why: String| options.error(key, why, "write an account of this system");
            let uid = accounts::parse_uid(&text).map_err(|error| unknown(error.to_string()))?;
            let account = Account::of_uid(uid).map_err(|error| unknown(error.to_string()))?;
            let account = account.ok_or_else(|| unknown("no account has this number".to_owned()))?;
            match accounts::own_uid() {
                own if own == uid => Ok(Some(None)),
                0 => Ok(Some(Some(account))),
                _ => {
                    let fix = "leave it out, or start the gateway as root";
                    Err(options.error(key, "only root becomes another user", fix))
                }
            }
        })?;
        let account = match written {
            Some(account) => account,
            None if accounts::own_uid() == 0 => Account::named(USUAL).map_err(unreadable)?,
            None => None,
        };
        let Some(account) = account else {
            return match group {
                None => Ok(None),
                Some(_) => {
                    let fix = "add user=NAME, or leave it out";
                    Err(ConfigError::new("group", "no user is changed, and the group alone is not", fix))
                }
            };
        };
        let groups = account.groups().map_err(unreadable)?;
        let gid = group.unwrap_or(account.gid);
        Ok(Some(Self { name: account.name, uid: account.uid, gid, groups }))
    }
}

fn unreadable(error: std::io::Error) -> ConfigError {
    ConfigError::new("user", format!("the accounts cannot be read: {error}"), "try again")
}

/// The account that the packages make.
const USUAL: &str = "countersign";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)]) -> Result<Option<RunAs>, ConfigError> {
        let mut layers = Layers::default();
        for (flag, value) in flags {
            layers.flag(flag, value).unwrap();
        }
        RunAs::read(&layers)
    }

    #[test]
    fn an_account_is_found_and_what_is_none_is_a_start_error() {
        for wrong in [&[("user", "no-such-account-here")][..], &[("user", "4000000123")], &[("user", "-1")]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&[("group", "no-such-group-here")]).is_err());
        let own = accounts::own_uid().to_string();
        assert_eq!(read(&[("user", &own)]).unwrap(), None);
        assert!(read(&[("user", &own), ("group", "0")]).is_err());
        let nobody = read(&[("user", "nobody")]);
        if own != "0" {
            assert!(nobody.unwrap_err().to_string().contains("only root"));
            return;
        }
        let nobody = nobody.unwrap().unwrap();
        assert!(nobody.uid != 0 && nobody.gid != 0 && !nobody.groups.contains(&0), "{nobody:?}");
        assert_eq!(read(&[("user", "nobody"), ("group", "12345")]).unwrap().unwrap().gid, 12345);
    }
}
