//! `ldap`: lets in whoever a directory knows by name and password.
//!
//! | file | holds |
//! |---|---|
//! | `settings.rs` | the options, as a directory |
//! | `server.rs` | where directories are, and connections to them |
//! | `template.rs` | names inside distinguished names and filters |
//! | `directory.rs` | what is asked, and which answers let somebody in |

mod directory;
mod server;
mod settings;
mod template;

use self::{
    directory::Directory,
    settings::{FILTER, GROUP_FILTER},
};
use super::{Context, Module, OptionSpec, Options};
use crate::{Claim, ConfigError, Identity, Peer, Refusal, Secret, Verifier, proto::chain::CheckPassword};

pub(super) struct Ldap;

impl Module for Ldap {
    fn name(&self) -> &'static str {
        "ldap"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["ldap3"]
    }

    fn summary(&self) -> &'static str {
        "the names and passwords of an LDAP directory"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The client sends its password, over TLS, SSH or a local socket only, and the directory judges it by a bind. \
         Either bind-dn says what the entry of a name is called, or base and filter say how to search for it, as \
         search-bind-dn with the password in search-password-file, or as nobody. Exactly one entry must fit. The name \
         is escaped in both places. The identity is the entry's one value of name-attribute, so alice, ALICE and \
         \" alice \" are all the directory's alice; with bind-dn the entry must be able to read itself. uidNumber and \
         gidNumber are taken along where an entry has them, root's never; uid= and gid= take their place.\n\n\
         With group= an entry has to be a member of one of these groups, which group-filter decides. For groups \
         inside groups of Active Directory write group-filter=\"(member:1.2.840.113556.1.4.1941:={dn})\".\n\n\
         Servers are tried in order until one answers. ldap:// starts TLS before anything else is said, ldaps:// \
         begins with it, and the server's certificate has to be vouched for by ca, or by the system's authorities. \
         tls=no is for this machine; towards others it needs insecure=yes, and then everybody on the way can read \
         the passwords. Referrals to other directories are not followed, since the password would go along. A \
         directory that is slow, or gone, refuses after timeout, and holds up only those who wait for it.\n\n\
         Xpra's options host, port, tls, cacert, username_format (with %username) and authentication=simple are read \
         too, except that the default is StartTLS. NTLM is not done: search for the entry by sAMAccountName instead."
    }

    fn example(&self) -> &'static str {
        "ldap(url=ldaps://ldap.example.com, bind-dn=\"uid={username},ou=people,dc=example,dc=com\")"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Password(Box::new(settings::directory(options)?)))
    }
}

impl CheckPassword for Directory {
    fn check(&self, _: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        let name = claim.username.as_ref().ok_or_else(Refusal::unknown_user)?;
        Self::check(self, name, password).map(Some)
    }
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "url",
        "URL",
        "ldap://localhost",
        "a server: ldaps://, ldap:// or ldapi://; may be repeated",
    ),
    OptionSpec::new("tls", "starttls|yes|no", "starttls", "how an ldap:// server is spoken to"),
    OptionSpec::new("ca", "FILE", "", "the authorities that vouch for the servers, in place of the system's"),
    OptionSpec::new("insecure", "yes|no", "no", "let tls=no send passwords to another machine in the clear"),
    OptionSpec::new("bind-dn", "DN", "", "the entry of a name, with {username} in its place"),
    OptionSpec::new("base", "DN", "", "where entries are searched for"),
    OptionSpec::new("filter", "FILTER", FILTER, "which entry is searched for"),
    OptionSpec::new("scope", "sub|one", "sub", "search everywhere below the base, or right below it"),
    OptionSpec::new("search-bind-dn", "DN", "", "the account that may search"),
    OptionSpec::new("search-password-file", "FILE", "", "that account's password, on one line"),
    OptionSpec::new(
        "name-attribute",
        "NAME",
        "",
        "the attribute that says who it is; that of {username} by default",
    ),
    OptionSpec::new("group", "DN", "", "let in the members of this group; may be repeated"),
    OptionSpec::new("group-filter", "FILTER", GROUP_FILTER, "which groups an entry is a member of"),
    OptionSpec::new("uid", "USER", "", "the user id of everybody, in place of uidNumber"),
    OptionSpec::new("gid", "GROUP", "", "the group id of everybody, in place of gidNumber"),
    OptionSpec::new("host", "HOST", "localhost", "a server, where there is no url"),
    OptionSpec::new("port", "NUMBER", "", "its port, if it is not 389, or 636 with tls=yes"),
    OptionSpec::new("timeout", "TIME", "7s", "how long all questions of a login may take"),
    OptionSpec::new("cacert", "FILE", "", "Xpra's name of ca"),
    OptionSpec::new("username-format", "DN", "", "Xpra's name of bind-dn"),
    OptionSpec::new(
        "authentication",
        "simple",
        "simple",
        "what Xpra's ldap3 may be told; nothing else is done",
    ),
    OptionSpec::new("encoding", "utf-8", "utf-8", "what Xpra's ldap may be told; nothing else is done"),
];

#[cfg(test)]
mod tests;
