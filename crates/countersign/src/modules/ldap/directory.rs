//! What a directory is asked for a login, and which of its answers let somebody in.
//!
//! Only success lets in (S-72): a referral, however polite, is followed nowhere, for the password
//! would go along.

use std::{sync::Arc, time::Duration};

use ldap3::{
    DerefAliases, LdapResult, Scope, SearchEntry, SearchOptions,
    exop::{Exop, WhoAmI},
};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::{
    server::{self, Connection, Server},
    template::{Membership, Template},
};
use crate::{Identity, Refusal, Secret, Username, proto::error::Reason, sys::waiting};

/// The configured directory.
pub(super) struct Directory {
    pub(super) servers: Vec<Server>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) lookup: Lookup,
    /// The attribute that says who it is (S-68).
    pub(super) name_attribute: String,
    /// Groups of which an entry has to be in one; with none, every entry passes.
    pub(super) groups: Vec<String>,
    pub(super) membership: Membership,
    /// Ids for everybody, in place of the entry's own.
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) timeout: Duration,
}

/// How the entry of a name is found.
pub(super) enum Lookup {
    /// Its distinguished name is known.
    Bind(Template),
    /// It is searched for.
    Search { base: String, scope: Scope, filter: Template, account: Option<ServiceAccount> },
}

/// Whom the directory lets search.
pub(super) struct ServiceAccount {
    pub(super) dn: String,
    pub(super) password: Secret,
}

impl Directory {
    /// Whose password it is.
    ///
    /// # Errors
    /// Nobody's; or the directory could not be asked, or its answer decides nothing.
    pub(super) fn check(&self, name: &Username, password: &Secret) -> Result<Identity, Refusal> {
        let wrong = |why| Refusal::new(Reason::WrongSecret, why);
        let password = text(password).ok_or_else(|| wrong("the password is no UTF-8 text"))?;
        // An empty password would be a bind as nobody in particular, which succeeds (W25, RFC 4513 5.1.2).
        if password.is_empty() || password.contains('\0') {
            return Err(wrong("the password is empty or holds a NUL byte"));
        }
        let late = || Refusal::module_failed(format!("the directory took longer than {:?}", self.timeout));
        waiting::wait(self.timeout, self.judge(name.as_str(), password))
            .map_err(|error| Refusal::module_failed(error.to_string()))?
            .ok_or_else(late)?
    }

    async fn judge(&self, name: &str, password: &str) -> Result<Identity, Refusal> {
        let deadline = Instant::now() + self.timeout;
        let connection = server::connect(&self.servers, self.tls.as_ref(), deadline).await;
        let mut session = Session(connection.map_err(Refusal::module_failed)?);
        match &self.lookup {
            Lookup::Bind(template) => self.by_bind(&mut session, &template.dn(name), password).await,
            Lookup::Search { base, scope, filter, account } => {
                if let Some(account) = account {
                    session.bind_as_service(account).await?;
                }
                let found = session.only(base, *scope, &filter.filter(name), &self.attributes()).await;
                self.by_search(&mut session, base, found, password).await
            }
        }
    }

    /// The one who binds reads its own entry.
    async fn by_bind(&self, session: &mut Session, dn: &str, password: &str) -> Result<Identity, Refusal> {
        session.bind(dn, password).await?;
        // The directory's own word for who that was, where it has one.
        let own = session.who_am_i().await?;
        let dn = own.as_deref().unwrap_or(dn);
        let entry = session.only(dn, Scope::Base, ANY, &self.attributes()).await?;
        let hidden = "the entry cannot be read after its own bind, so that nothing says who it is";
        let entry = entry.ok_or_else(|| Refusal::module_failed(hidden))?;
        let identity = self.identity(&entry)?;
        self.is_member(session, &entry, &identity).await?;
        Ok(identity)
    }

    /// The service account reads the entry; then it is bound as. Whatever was found, there is one bind,
    /// so that an unknown name costs what a known one does (S-26).
    async fn by_search(
        &self,
        session: &mut Session,
        base: &str,
        found: Result<Option<SearchEntry>, Refusal>,
        password: &str,
    ) -> Result<Identity, Refusal> {
        let known = match found {
            Ok(Some(entry)) => self.of_entry(session, &entry).await.map(|identity| (entry.dn, identity)),
            Ok(None) => Err(Refusal::unknown_user()),
            Err(refusal) => Err(refusal),
        };
        let absent = if base.is_empty() { ABSENT.to_owned() } else { format!("{ABSENT},{base}") };
        let dn = known.as_ref().map_or(absent.as_str(), |(dn, _)| dn);
        let bound = session.bind(dn, password).await;
        let (_, identity) = known?;
        bound?;
        session.who_am_i().await?;
        Ok(identity)
    }

    async fn of_entry(&self, session: &mut Session, entry: &SearchEntry) -> Result<Identity, Refusal> {
        if entry.dn.is_empty() {
            return Err(Refusal::module_failed("the entry that was found has no name to bind as"));
        }
        let identity = self.identity(entry)?;
        self.is_member(session, entry, &identity).await?;
        Ok(identity)
    }

    /// Who an entry is: by the directory's spelling, never the client's (W26).
    fn identity(&self, entry: &SearchEntry) -> Result<Identity, Refusal> {
        let name = match values(entry, &self.name_attribute) {
            [name] => Username::parse(name)?,
            none_or_several => {
                let count = none_or_several.len();
                let why = format!("the entry has {count} values of {}, not one", self.name_attribute);
                return Err(Refusal::module_failed(why));
            }
        };
        let uid = self.uid.map_or_else(|| id(entry, UID), |uid| Ok(Some(uid)))?;
        let gid = self.gid.map_or_else(|| id(entry, GID), |gid| Ok(Some(gid)))?;
        Ok(Identity::new(name).with_ids(uid, gid))
    }

    async fn is_member(
        &self,
        session: &mut Session,
        entry: &SearchEntry,
        identity: &Identity,
    ) -> Result<(), Refusal> {
        let filter = self.membership.filter(&entry.dn, identity.name.as_str());
        for group in &self.groups {
            if session.only(group, Scope::Base, &filter, &[NO_ATTRIBUTES]).await?.is_some() {
                return Ok(());
            }
        }
        if self.groups.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(Reason::AccountDisabled, "the entry is in none of the groups"))
    }

    fn attributes(&self) -> [&str; 3] {
        [&self.name_attribute, UID, GID]
    }
}

/// One connection, and what is asked over it.
struct Session(Connection);

impl Session {
    /// Proves a password. No answer but success does.
    async fn bind(&mut self, dn: &str, password: &str) -> Result<(), Refusal> {
        let result = self.0.ldap.simple_bind(dn, password).await.map_err(|error| broken(&error))?;
        let (reason, what) = match result.rc {
            SUCCESS => return Ok(()),
            REFERRAL => return Err(referred()),
            INVALID_CREDENTIALS => (Reason::WrongSecret, "name or password is wrong"),
            NO_SUCH_OBJECT => (Reason::UnknownUser, "there is no such entry"),
            INAPPROPRIATE_AUTHENTICATION | CONSTRAINT_VIOLATION | UNWILLING => {
                (Reason::AccountDisabled, "the directory does not let this entry in")
            }
            _ => (Reason::ModuleFailed, "the directory did not decide"),
        };
        Err(Refusal::new(reason, format!("{what} ({})", server::answer(&result))))
    }

    async fn bind_as_service(&mut self, account: &ServiceAccount) -> Result<(), Refusal> {
        let password = text(&account.password).unwrap_or_default();
        let refused = |refusal: Refusal| {
            Refusal::module_failed(format!("the service account is not let in: {}", refusal.cause))
        };
        self.bind(&account.dn, password).await.map_err(refused)
    }

    /// The entry that the directory says we are (RFC 4532); `None` if it does not say, or says it in
    /// other words than a distinguished name.
    ///
    /// # Errors
    /// We are nobody: the bind "succeeded" without a proof.
    async fn who_am_i(&mut self) -> Result<Option<String>, Refusal> {
        let answer = self.0.ldap.extended(WhoAmI).await.map_err(|error| broken(&error))?;
        let (Exop { val, .. }, result) = (answer.0, answer.1);
        match result.rc {
            SUCCESS => {}
            PROTOCOL_ERROR | UNWILLING => return Ok(None),
            _ => return Err(undecided("who it was", &result)),
        }
        let said = val.map(String::from_utf8).transpose();
        let said =
            said.map_err(|_| Refusal::module_failed("who it was is no UTF-8 text"))?.unwrap_or_default();
        let nobody =
            || Refusal::module_failed("the directory took the password and says that it was nobody's");
        match said.strip_prefix("dn:") {
            Some(dn) if !dn.is_empty() => Ok(Some(dn.to_owned())),
            None if said.starts_with("u:") && said.len() > 2 => Ok(None),
            _ => Err(nobody()),
        }
    }

    /// The only entry that fits; `None` if none does.
    ///
    /// # Errors
    /// Several do, or the directory does not say.
    async fn only(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Option<SearchEntry>, Refusal> {
        let options = SearchOptions::new().deref(DerefAliases::Never).sizelimit(2);
        let search =
            self.0.ldap.with_search_options(options).streaming_search(base, scope, filter, attributes);
        let mut answers = search.await.map_err(|error| broken(&error))?;
        let (mut found, mut several, mut elsewhere) = (None, false, false);
        while let Some(answer) = answers.next().await.map_err(|error| broken(&error))? {
            if answer.is_ref() {
                elsewhere = true;
            } else if !answer.is_intermediate() {
                several = found.is_some();
                found.get_or_insert_with(|| SearchEntry::construct(answer));
            }
        }
        let result = answers.finish().await;
        match (result.rc, found) {
            _ if several => Err(Refusal::module_failed("several entries fit the name")),
            (SUCCESS, Some(entry)) => Ok(Some(entry)),
            (SUCCESS, None) if elsewhere => Err(Refusal::new(Reason::UnknownUser, REFERRED)),
            (SUCCESS | NO_SUCH_OBJECT, None) => Ok(None),
            (REFERRAL, _) => Err(referred()),
            _ => Err(undecided("what was searched", &result)),
        }
    }
}

fn values<'e>(entry: &'e SearchEntry, attribute: &str) -> &'e [String] {
    let named = entry.attrs.iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
    named.map_or(&[], |(_, values)| values.as_slice())
}

/// The number of an entry. A directory makes nobody root (S-70).
fn id(entry: &SearchEntry, attribute: &str) -> Result<Option<u32>, Refusal> {
    let wrong = || Refusal::module_failed(format!("the entry's {attribute} is not one that a user may have"));
    match values(entry, attribute) {
        [] => Ok(None),
        [number] => match number.parse() {
            Ok(0 | u32::MAX) | Err(_) => Err(wrong()),
            Ok(number) => Ok(Some(number)),
        },
        _ => Err(wrong()),
    }
}

fn text(secret: &Secret) -> Option<&str> {
    std::str::from_utf8(secret.expose()).ok()
}

fn broken(error: &ldap3::LdapError) -> Refusal {
    Refusal::module_failed(format!("the directory: {}", server::message(error)))
}

fn undecided(what: &str, result: &LdapResult) -> Refusal {
    Refusal::module_failed(format!("the directory does not say {what}: {}", server::answer(result)))
}

fn referred() -> Refusal {
    Refusal::module_failed(REFERRED)
}

const REFERRED: &str = "the directory refers to another one, which is never followed";

/// The entry at the base, whatever it is.
const ANY: &str = "(objectClass=*)";

/// An entry that no directory has.
const ABSENT: &str = "cn=countersign: nobody has this name";

/// Asks for an entry without its attributes (RFC 4511, section 4.5.1.8).
const NO_ATTRIBUTES: &str = "1.1";

/// RFC 2307.
const UID: &str = "uidNumber";
const GID: &str = "gidNumber";

/// Result codes (RFC 4511, section 4.1.9).
const SUCCESS: u32 = 0;
const PROTOCOL_ERROR: u32 = 2;
const REFERRAL: u32 = 10;
const CONSTRAINT_VIOLATION: u32 = 19;
const NO_SUCH_OBJECT: u32 = 32;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
const INVALID_CREDENTIALS: u32 = 49;
const UNWILLING: u32 = 53;
