//! A socket's modules, configured, as a chain that lets in whom its writer meant.
//!
//! [`super::socket`] calls this. It is the one place that decides what a socket without a chain is.

use super::{
    kind::Kind,
    spec::ModuleSpec,
    warning::{Audience, Warning},
};
use crate::{
    error::ConfigError,
    modules::{Context, Options, Registry},
    proto::{Chain, chain::Link},
};

/// What was written about a socket's chain, and the facts of the socket that it depends on.
pub(super) struct Written<'a> {
    pub(super) modules: &'a [ModuleSpec],
    /// `identity=MODULE`.
    pub(super) identity: Option<&'a str>,
    pub(super) kind: Kind,
    /// Nothing can be asked on it (`protocol=stream`, `bind-rpc`).
    pub(super) asks_nothing: bool,
    /// Clients may come with a request of HTTP.
    pub(super) http: bool,
    /// Connections in the clear are taken.
    pub(super) cleartext: bool,
    pub(super) audience: Audience,
    /// What its modules may hold on to.
    pub(super) context: &'a Context,
    /// Its clients come through hops, which say where they are.
    pub(super) behind_hops: bool,
    /// It may be without a chain: a Unix socket or a loopback address (S-67).
    pub(super) open_without: bool,
}

/// Configures the modules and judges the chain they make.
///
/// # Errors
/// A module is wrong in itself, or cannot do its work on such a socket.
pub(super) fn build(
    written: Written<'_>,
    registry: &Registry,
    warnings: &mut Vec<Warning>,
) -> Result<Chain, ConfigError> {
    let links = links(&written, registry, warnings)?;
    if let Some(link) = links.iter().find(|link| written.asks_nothing && link.asks()) {
        return Err(ConfigError::new(
            format!("auth={}", link.module),
            match written.kind {
                Kind::Rpc => "it has to ask, and in a call there is nobody to answer",
                _ => "it has to ask, and on protocol=stream nothing is said",
            },
            "use modules that decide from the connection (certificate, peercred, hosts), or another protocol",
        ));
    }
    if let Some(link) = links.iter().find(|link| !written.http && link.http_fields().next().is_some()) {
        return Err(ConfigError::new(
            format!("auth={}", link.module),
            "it reads the HTTP request of a WebSocket, and this socket takes none",
            "use bind-ws or bind-wss, or protocol=auto with websocket=yes",
        ));
    }
    if let Some(link) =
        links.iter().find(|link| written.kind == Kind::Ssh && NOT_BY_SSH.contains(&link.module))
    {
        return Err(ConfigError::new(
            format!("auth={}", link.module),
            "no client of SSH can answer it",
            "use modules that take a password, a code or an SSH key, or another socket",
        ));
    }
    if let Some(link) = links.iter().find(|link| written.behind_hops && link.module == "peercred") {
        return Err(ConfigError::new(
            format!("auth={}", link.module),
            "with accept-proxy the kernel knows the user of the hop, and nobody behind it",
            "use another module, or another socket",
        ));
    }
    if !written.modules.is_empty() {
        warn(&links, &written, warnings);
    }
    let names: Vec<&'static str> = links.iter().map(|link| link.module).collect();
    let chain =
        Chain::new(links).map_err(|_| ConfigError::new("the chain", "it has no link", "write auth=NAME"))?;
    match written.identity {
        None => Ok(chain),
        Some(wanted) => Ok(chain.with_identity_from(identity(wanted, &names, registry)?)),
    }
}

fn links(
    written: &Written<'_>,
    registry: &Registry,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Link>, ConfigError> {
    if !written.modules.is_empty() {
        return written
            .modules
            .iter()
            .enumerate()
            .map(|(position, module)| {
                match written.modules.iter().take(position).any(|other| other == module) {
                    // The text is the same, so the second answer would prove nothing (S-65).
                    true => Err(ConfigError::new(
                        format!("auth={}", module.name()),
                        "it is written twice",
                        "remove one",
                    )),
                    false => registry.link(module.to_options(), written.context),
                }
            })
            .collect();
    }
    if !written.open_without {
        return Err(ConfigError::new(
            "its chain",
            match written.behind_hops {
                true => "no module is written, and with accept-proxy its clients are anywhere",
                false => "no module is written, and it is neither a Unix socket nor a loopback address",
            },
            "add auth=NAME, or auth=none to let everybody in",
        ));
    }
    warnings.push(Warning::NoChain(written.audience));
    Ok(vec![registry.link(Options::new("none", []), written.context)?])
}

fn identity(wanted: &str, names: &[&'static str], registry: &Registry) -> Result<&'static str, ConfigError> {
    let what = "option identity";
    let wanted = registry.find(wanted).map(|module| module.name()).unwrap_or_default();
    let mut found = names.iter().filter(|name| **name == wanted);
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name),
        (Some(_), Some(_)) => Err(ConfigError::new(
            what,
            "its module is in the chain more than once",
            "name a module that is there once",
        )),
        (None, _) => {
            let fix = format!("name one of: {}", names.join(", "));
            Err(ConfigError::new(what, "its module is not in the chain", fix))
        }
    }
}

fn warn(links: &[Link], written: &Written<'_>, warnings: &mut Vec<Warning>) {
    let passes_all = |link: &&Link| PASS_ALL.contains(&link.module);
    let all_open = links.iter().all(|link| passes_all(&link));
    for link in links {
        if REFUSE_ALL.contains(&link.module) {
            warnings.push(Warning::NobodyGetsIn(link.module));
        }
        if link.needs_cleartext() && written.cleartext {
            warnings.push(Warning::Cleartext(link.module));
        }
    }
    // `allow` first: it is the one that lets the client choose its name.
    let open = links.iter().filter(passes_all).min_by_key(|link| link.module);
    match open {
        Some(link) if all_open => warnings.push(Warning::Open(link.module, written.audience)),
        Some(link) => warnings.push(Warning::Idle(link.module)),
        None => {}
    }
}

/// Whether no link of a chain can say who somebody is (S-68).
pub(super) fn names_nobody(chain: &Chain) -> bool {
    chain.links().iter().all(|link| GATES.contains(&link.module))
}

/// Whether a chain asks for what somebody may guess, and has no limit of its own (S-21).
pub(super) fn can_be_guessed(chain: &Chain) -> bool {
    let links = chain.links();
    links.iter().any(Link::asks) && !links.iter().any(|link| link.module == "ratelimit")
}

/// The modules that ask for what a login by SSH does not carry.
const NOT_BY_SSH: [&str; 6] = ["capability", "fido2", "gss", "kerberos-ticket", "oauth", "u2f"];

/// The modules that never name anybody.
const GATES: [&str; 6] = ["env", "file", "hosts", "none", "password", "ratelimit"];

/// The modules that pass everybody.
pub(super) const PASS_ALL: [&str; 2] = ["allow", "none"];

/// The modules that pass nobody.
pub(super) const REFUSE_ALL: [&str; 2] = ["fail", "reject"];
