//! The options of the module, as a directory that can be asked.

use std::{path::Path, sync::Arc, time::Duration};

use ldap3::Scope;
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use zeroize::Zeroizing;

use super::{
    directory::{Directory, Lookup, ServiceAccount},
    server::Server,
    template::{Fault, Membership, Template},
};
use crate::{
    ConfigError,
    modules::{Options, secret_file},
    sys::{accounts, authorities},
};

/// What the options say.
///
/// # Errors
/// An option that is wrong, contradicts another, or is missing; a file that cannot be used.
pub(super) fn directory(options: &mut Options) -> Result<Directory, ConfigError> {
    judge_xpra_options(options)?;
    let servers = Server::from_options(options)?;
    let tls = tls(options, &servers)?;
    let (lookup, attribute) = lookup(options)?;
    let name_attribute = options.take("name-attribute")?.map(|name| name.trim().to_owned()).or(attribute);
    let name_attribute = name_attribute.filter(|name| !name.is_empty()).ok_or_else(|| {
        let why = "nothing says which attribute holds an entry's name";
        options.error("name-attribute", why, "write it, as name-attribute=uid")
    })?;
    let (groups, membership) = membership(options)?;
    let (uid, gid) = (id(options, "uid", accounts::parse_uid)?, id(options, "gid", accounts::parse_gid)?);
    let timeout = options.duration("timeout", TIMEOUT)?;
    if timeout.is_zero() || timeout > LONGEST {
        return Err(options.error("timeout", "a check must end", "write a time of up to a minute"));
    }
    Ok(Directory { servers, tls, lookup, name_attribute, groups, membership, uid, gid, timeout })
}

/// What Xpra's modules take and only one answer makes sense of.
fn judge_xpra_options(options: &mut Options) -> Result<(), ConfigError> {
    let other = |value: Option<Zeroizing<String>>, right: &[&str]| {
        value.is_some_and(|value| !right.iter().any(|right| value.eq_ignore_ascii_case(right)))
    };
    if other(options.take("authentication")?, &["simple"]) {
        let why = "only a simple bind proves a password that the client sends";
        return Err(options.error("authentication", why, "remove it"));
    }
    if other(options.take("encoding")?, &["utf-8", "utf8"]) {
        return Err(options.error("encoding", "a directory takes UTF-8 (RFC 4511)", "remove it"));
    }
    Ok(())
}

/// TLS, where a server is spoken to inside it.
fn tls(options: &mut Options, servers: &[Server]) -> Result<Option<Arc<ClientConfig>>, ConfigError> {
    let ca = either(options, "ca", "cacert")?;
    if servers.iter().any(Server::is_private) {
        let tls = client_tls(ca.as_deref().map(Path::new));
        return tls.map(Some).map_err(|(why, fix)| options.error("ca", why, fix));
    }
    match ca {
        Some(_) => Err(options.error("ca", "no certificate will be looked at", "remove it, or tls=no")),
        None => Ok(None),
    }
}

/// TLS towards servers whose certificates these authorities vouch for.
fn client_tls(ca: Option<&Path>) -> Result<Arc<ClientConfig>, authorities::Fault> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities::authorities(ca)?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| (error.to_string(), "use a build with its provider".to_owned()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How entries are found, and the attribute that their names are values of.
fn lookup(options: &mut Options) -> Result<(Lookup, Option<String>), ConfigError> {
    let (lookup, attribute) = match (either(options, "bind-dn", "username-format")?, options.take("base")?) {
        (Some(dn), None) => {
            for option in ["filter", "scope", "search-bind-dn", "search-password-file"] {
                if options.take(option)?.is_some() {
                    return Err(options.error(
                        option,
                        "with bind-dn nothing is searched",
                        "leave one of them out",
                    ));
                }
            }
            let template = Template::of_dn(&dn).map_err(|fault| told(options, "bind-dn", fault))?;
            let attribute = template.attribute().map(str::to_owned);
            (Lookup::Bind(template), attribute)
        }
        (None, Some(base)) => {
            let filter = options.take("filter")?;
            let filter = Template::of_filter(filter.as_ref().map_or(FILTER, |filter| filter.as_str()))
                .map_err(|fault| told(options, "filter", fault))?;
            let attribute = filter.attribute().map(str::to_owned);
            let (scope, account) = (scope(options)?, account(options)?);
            (Lookup::Search { base: base.trim().to_owned(), scope, filter, account }, attribute)
        }
        (Some(_), Some(_)) => {
            let why = "bind-dn says already where the entries are";
            return Err(options.error("base", why, "leave one of them out"));
        }
        (None, None) => {
            let fix = "write bind-dn=\"uid={username},ou=people,dc=example\", or base=DN to search below";
            return Err(options.error("bind-dn", "nothing says how the entry of a name is found", fix));
        }
    };
    Ok((lookup, attribute))
}

fn scope(options: &mut Options) -> Result<Scope, ConfigError> {
    match options.take("scope")?.as_ref().map(|scope| scope.trim()) {
        None | Some("sub") => Ok(Scope::Subtree),
        Some("one") => Ok(Scope::OneLevel),
        Some(_) => Err(options.error("scope", "it is neither", "write scope=sub or scope=one")),
    }
}

/// Whom the directory lets search; `None` is whoever asks.
fn account(options: &mut Options) -> Result<Option<ServiceAccount>, ConfigError> {
    let dn = options.take("search-bind-dn")?;
    let file = options.take("search-password-file")?;
    match (dn, file) {
        (None, None) => Ok(None),
        (Some(dn), Some(file)) if !dn.trim().is_empty() => {
            let password = secret_file::password_in(Path::new(file.as_str()))
                .map_err(|(why, fix)| options.error("search-password-file", why, fix))?;
            Ok(Some(ServiceAccount { dn: dn.trim().to_owned(), password }))
        }
        (Some(_), Some(_)) => Err(options.error("search-bind-dn", "it is empty", "write the account's name")),
        (Some(_), None) => {
            // A bind without a password is one as nobody (S-32).
            let why = "the account's password is missing";
            Err(options.error("search-password-file", why, "write the file that holds it"))
        }
        (None, Some(_)) => {
            let why = "nothing says whose password it is";
            Err(options.error("search-bind-dn", why, "write the account's distinguished name"))
        }
    }
}

/// The groups, and what makes an entry a member of one.
fn membership(options: &mut Options) -> Result<(Vec<String>, Membership), ConfigError> {
    let groups: Vec<_> = options.take_all("group").iter().map(|group| group.trim().to_owned()).collect();
    if groups.iter().any(|group| !group.contains('=')) {
        let fix = "write one as group=\"cn=ops,ou=groups,dc=example\"";
        return Err(options.error("group", "it is no distinguished name", fix));
    }
    let filter = options.take("group-filter")?;
    if filter.is_some() && groups.is_empty() {
        return Err(options.error("group-filter", "no group is written", "add group=DN, or remove it"));
    }
    let membership = Membership::parse(filter.as_ref().map_or(GROUP_FILTER, |filter| filter.as_str()))
        .map_err(|fault| told(options, "group-filter", fault))?;
    Ok((groups, membership))
}

/// An option by our name or by Xpra's.
fn either(options: &mut Options, ours: &str, xpras: &str) -> Result<Option<String>, ConfigError> {
    match (options.take(ours)?, options.take(xpras)?) {
        (Some(_), Some(_)) => {
            Err(options.error(xpras, format!("it is {ours} by another name"), "write one of them"))
        }
        (one, other) => Ok(one.or(other).map(|value| value.to_string())),
    }
}

fn id(
    options: &mut Options,
    name: &str,
    parse: impl FnOnce(&str) -> Result<u32, accounts::UnknownId>,
) -> Result<Option<u32>, ConfigError> {
    let Some(text) = options.take(name)? else { return Ok(None) };
    let unknown = |_| options.error(name, "there is none of that name or number", "write another");
    parse(&text).map(Some).map_err(unknown)
}

fn told(options: &Options, option: &str, (why, fix): Fault) -> ConfigError {
    options.error(option, why, fix)
}

/// Members of groups as RFC 4519 and RFC 2307 have them.
pub(super) const GROUP_FILTER: &str = "(|(member={dn})(uniqueMember={dn})(memberUid={username}))";

pub(super) const FILTER: &str = "(uid={username})";

/// Below the 8 seconds after which some clients give up.
const TIMEOUT: Duration = Duration::from_secs(7);

const LONGEST: Duration = Duration::from_secs(60);
