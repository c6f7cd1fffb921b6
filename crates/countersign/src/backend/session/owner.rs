//! Whose session it is: a proved name, and the uid that belongs to it.

use std::path::PathBuf;

use super::super::BackendError;
use crate::{
    Identity, Username,
    sys::{accounts::Account, peer::is_account},
};

/// A user who has logged in.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Owner {
    /// The name in the spelling of the link that proved it.
    pub(super) name: Username,
    /// The uid that sockets have to belong to. A user without one has sessions on other machines only.
    pub(super) uid: Option<u32>,
    /// The account of that uid on this machine.
    pub(super) account: Option<Account>,
    /// What its daemons find in their environment, by the table that the login was checked with.
    pub(super) environment: Vec<(String, String)>,
    /// A link of the chain has stated the uid, so that nothing may say another.
    stated: bool,
}

impl Owner {
    /// The user of a grant. May wait for the account database.
    ///
    /// A link's own uid counts; `nobody`, which tables give to names without one, is none. Else it is that of the
    /// account of the same name.
    ///
    /// # Errors
    /// The database cannot be read, which is never the same as "no such account" (S-70).
    pub(super) fn of(identity: &Identity) -> Result<Self, BackendError> {
        let stated = identity.uid.filter(|uid| is_account(*uid));
        let account = match stated {
            Some(uid) => Account::of_uid(uid),
            None => Account::named(identity.name.as_str()),
        };
        let account = account.map_err(unreadable)?;
        let uid = stated.or_else(|| account.as_ref().map(|account| account.uid));
        let (name, environment) = (identity.name.clone(), identity.environment.clone());
        Ok(Self { name, uid, account, environment, stated: stated.is_some() })
    }

    /// Takes the uid of a router's own source.
    ///
    /// # Errors
    /// A link has proved another.
    pub(super) fn agree(&mut self, uid: Option<u32>) -> Result<(), BackendError> {
        let Some(uid) = uid.filter(|uid| is_account(*uid)) else { return Ok(()) };
        if self.uid == Some(uid) {
            return Ok(());
        }
        if self.stated {
            return Err(BackendError::no_session("the chain and the router state different uids"));
        }
        self.account = Account::of_uid(uid).map_err(unreadable)?;
        self.uid = Some(uid);
        Ok(())
    }

    /// Refuses accounts of the system (S-70).
    ///
    /// # Errors
    /// The uid is below `least`, or stands for nobody.
    pub(super) fn judge(&self, least: u32) -> Result<(), BackendError> {
        match self.uid {
            Some(uid) if !is_account(uid) => Err(BackendError::no_session("the uid stands for nobody")),
            Some(uid) if uid < least => {
                Err(BackendError::no_session(format!("uid {uid} is below min-uid={least}")))
            }
            _ => Ok(()),
        }
    }

    /// The uid, where nothing can be done without one.
    ///
    /// # Errors
    /// There is none, and another is never taken in its place.
    pub(super) fn uid(&self) -> Result<u32, BackendError> {
        self.uid.ok_or_else(|| BackendError::no_session("the user has no account on this machine"))
    }

    /// The home directory, if the account has one worth the name.
    pub(super) fn home(&self) -> Option<&PathBuf> {
        self.account.as_ref().map(|account| &account.home).filter(|home| home.is_absolute())
    }
}

fn unreadable(error: std::io::Error) -> BackendError {
    BackendError::unavailable(format!("the account database cannot be read: {error}"))
}
