//! Says in words what each socket lets in and why, and plays one client over all of them.
//!
//! The commands `explain` and `explain --as user@address` print this, as text or as JSON. It reads
//! the same [`Config`] that the gateway serves, and guesses nothing: what only a real connection
//! can tell is said to depend on it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::Serialize;

use super::{Accepts, Config, Kind, Protocol, SocketConfig, address, chain};
use crate::{
    Claim, Peer, Verifier,
    error::ConfigError,
    modules::Registry,
    proto::chain::{Account, Link},
    transport::Address,
};

/// What every socket lets in.
pub fn explain(config: &Config, registry: &Registry) -> Vec<SocketReport> {
    config.sockets.iter().map(|socket| SocketReport::new(socket, registry)).collect()
}

/// What would happen to one client at every socket.
pub fn play(config: &Config, visitor: &Visitor) -> Vec<VisitReport> {
    config.sockets.iter().map(|socket| VisitReport::new(socket, visitor)).collect()
}

/// One socket in words. It prints as lines of at most 80 columns, where its names allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SocketReport {
    /// Its name or address, as in the logs.
    pub socket: String,
    /// Where it listens.
    pub place: String,
    /// The wires and the protocol it takes.
    pub carries: String,
    /// Who gets in.
    pub lets_in: String,
    /// The links in order.
    pub links: Vec<LinkReport>,
    /// The daemon behind, without the words of a command.
    pub backend: String,
    /// What is to be warned about.
    pub warnings: Vec<String>,
}

impl SocketReport {
    fn new(socket: &SocketConfig, registry: &Registry) -> Self {
        let links: Vec<LinkReport> =
            socket.chain.links().iter().map(|link| LinkReport::new(link, registry)).collect();
        Self {
            socket: socket.label(),
            place: socket.place(),
            carries: carries(socket),
            lets_in: lets_in(socket),
            links,
            backend: socket.backend.explain(),
            warnings: socket.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for SocketReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.socket == self.place { "" } else { &self.place };
        paragraph(f, "", &format!("{} {place}", self.socket))?;
        paragraph(f, "  carries: ", &self.carries)?;
        paragraph(f, "  lets in: ", &self.lets_in)?;
        for (position, link) in self.links.iter().enumerate() {
            paragraph(f, &format!("  {}. ", position + 1), &link.to_string())?;
        }
        paragraph(f, "  backend: ", &self.backend)?;
        self.warnings.iter().try_for_each(|warning| paragraph(f, "  warning: ", warning))
    }
}

/// One link in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkReport {
    /// The module.
    pub module: &'static str,
    /// What it checks with.
    pub does: &'static str,
    /// What the client is asked for.
    pub asks: &'static str,
    /// The account it checks, where it is not the one that the client names.
    pub account: Option<String>,
}

impl LinkReport {
    fn new(link: &Link, registry: &Registry) -> Self {
        let does =
            registry.find(link.module).map_or("a module of the embedding program", |module| module.summary());
        let account = match &link.account {
            Account::Claimed => None,
            Account::Fixed { name, verify: false } => Some(format!("always checks {name}")),
            Account::Fixed { name, verify: true } => Some(format!("refuses everybody but {name}")),
        };
        Self { module: link.module, does, asks: asks(link), account }
    }
}

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; asks {}", self.module, self.does, self.asks)?;
        self.account.iter().try_for_each(|account| write!(f, "; {account}"))
    }
}

/// A made-up client: `alice@192.0.2.7`, `@::1` without a name, `alice@local` on Unix sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    claim: Claim,
    /// `None` is a program of this machine at a Unix socket.
    address: Option<IpAddr>,
}

impl FromStr for Visitor {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = |why| ConfigError::new("the client to play", why, "write USER@ADDRESS or USER@local");
        // A name may hold an `@`, an address cannot.
        let (name, address) = text.rsplit_once('@').ok_or_else(|| wrong("`@` is missing"))?;
        let claim = Claim::named(name).map_err(|_| wrong("no module would be shown such a user name"))?;
        let address = match address {
            "local" | "unix" => None,
            _ => {
                let bare =
                    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
                let ip: IpAddr = bare.parse().map_err(|_| wrong("what follows `@` is no IP address"))?;
                Some(ip.to_canonical())
            }
        };
        Ok(Self { claim, address })
    }
}

impl Visitor {
    /// What it says of itself.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Where it is; `None` is a program of this machine at a Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

/// What would happen to a client at one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VisitReport {
    /// The socket's name or address.
    pub socket: String,
    /// Whether the client can get there at all.
    pub reaches: bool,
    /// The links it would meet, up to the one that refuses it.
    pub steps: Vec<Step>,
    /// How it would end.
    pub end: String,
}

impl VisitReport {
    fn new(socket: &SocketConfig, visitor: &Visitor) -> Self {
        let Some(peer) = peer(socket, visitor) else {
            let end = "is not reached from there".to_owned();
            return Self { socket: socket.label(), reaches: false, steps: Vec::new(), end };
        };
        let mut steps = Vec::new();
        for link in socket.chain.links() {
            let outcome = Outcome::of(link, &peer, &visitor.claim);
            let refused = matches!(outcome, Outcome::Refuses { .. });
            steps.push(Step { module: link.module, outcome });
            if refused {
                break;
            }
        }
        Self { socket: socket.label(), reaches: true, end: end(&steps), steps }
    }
}

impl fmt::Display for VisitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        paragraph(f, "", &format!("{}: {}", self.socket, self.end))?;
        for (position, Step { module, outcome }) in self.steps.iter().enumerate() {
            paragraph(f, &format!("  {}. ", position + 1), &format!("{module} {outcome}"))?;
        }
        Ok(())
    }
}

/// A link on a client's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// The module.
    pub module: &'static str,
    /// What it would do.
    pub outcome: Outcome,
}

/// What a link would do with a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// It passes without a question.
    Passes,
    /// It asks.
    Asks {
        /// For what.
        what: &'static str,
    },
    /// It decides by something that only a real connection has.
    Depends,
    /// It refuses.
    Refuses {
        /// The private cause, as in the audit log.
        why: String,
    },
}

impl Outcome {
    fn of(link: &Link, peer: &Peer, claim: &Claim) -> Self {
        let mut claim = claim.clone();
        if let Account::Fixed { name, verify } = &link.account {
            if *verify && claim.username.as_ref() != Some(name) {
                return Self::Refuses { why: "the client names another user".to_owned() };
            }
            claim.username = Some(name.clone());
        }
        match &link.verifier {
            Verifier::Peer(check) if PLAYED.contains(&link.module) => match check.check(peer, &claim) {
                Ok(_) => Self::Passes,
                Err(refusal) => Self::Refuses { why: refusal.cause.escape_debug().to_string() },
            },
            Verifier::Peer(_) => Self::Depends,
            _ => Self::Asks { what: asks(link) },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes => f.write_str("passes it without a question"),
            Self::Asks { what } => write!(f, "asks {what}"),
            Self::Depends => f.write_str("decides by what only a real connection has"),
            Self::Refuses { why } => write!(f, "refuses it: {why}"),
        }
    }
}

fn end(steps: &[Step]) -> String {
    let of = |wanted: fn(&Outcome) -> bool| {
        let modules = steps.iter().filter(|step| wanted(&step.outcome)).map(|step| step.module);
        modules.collect::<Vec<_>>().join(", ")
    };
    let asked = of(|outcome| matches!(outcome, Outcome::Asks { .. }));
    let open = of(|outcome| matches!(outcome, Outcome::Depends));
    let refused = of(|outcome| matches!(outcome, Outcome::Refuses { .. }));
    match (refused.is_empty(), asked.is_empty(), open.is_empty()) {
        (false, true, _) => format!("refused by {refused}, without a question"),
        (false, false, _) => format!("refused by {refused}, whatever it answers"),
        (true, true, true) => "let in without a question".to_owned(),
        (true, false, true) => format!("let in if its answers satisfy {asked}"),
        (true, true, false) => format!("let in if {open} accepts the connection"),
        (true, false, false) => {
            format!("let in if {open} accepts the connection and its answers satisfy {asked}")
        }
    }
}

/// The facts of the visitor's connection, if it can make one.
fn peer(socket: &SocketConfig, visitor: &Visitor) -> Option<Peer> {
    if socket.hops.is_some() {
        // From anywhere, to whatever address the hop has.
        let near = |remote: IpAddr| SocketAddr::new(remote, 0);
        return visitor.address.map(|remote| Peer::tcp(near(remote), near(remote)));
    }
    let (host, port, remote) = match (&socket.address, visitor.address) {
        (Address::Tcp { host, port }, Some(remote)) => (host, *port, remote),
        (Address::Tcp { .. }, None) | (_, Some(_)) => return None,
        (_, None) => return Some(Peer::unix(None)),
    };
    let unspecified: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let local = address::ip(host).map(|ip| ip.to_canonical());
    if let Some(local) = local {
        // `::` takes IPv4 too unless the system says otherwise.
        let same_family = local.is_ipv4() == remote.is_ipv4() || local == IpAddr::from(Ipv6Addr::UNSPECIFIED);
        if !same_family || (local.is_loopback() && !remote.is_loopback()) {
            return None;
        }
    }
    let local = SocketAddr::new(local.unwrap_or(unspecified), port);
    Some(Peer::tcp(SocketAddr::new(remote, 0), local))
}

fn carries(socket: &SocketConfig) -> String {
    let wire = match (socket.kind, socket.accepts) {
        (Kind::Unix, Accepts::Plain) => "a Unix socket",
        (Kind::Unix, Accepts::Tls) => "a Unix socket, TLS only",
        (Kind::Unix, Accepts::PlainAndTls) => "a Unix socket in the clear and TLS, under one chain",
        (Kind::Rpc, _) if matches!(socket.address, Address::Tcp { .. }) => "TLS only",
        (Kind::Rpc, _) => "a Unix socket, TLS only",
        (Kind::Ssh, _) => "SSH, whose login asks what the chain asks",
        (Kind::Vsock, _) => "vsock",
        (Kind::Ws, _) => "WebSocket over TCP in the clear",
        (Kind::Wss, _) => "WebSocket in TLS",
        (_, Accepts::Plain) => "TCP in the clear",
        (_, Accepts::Tls) => "TLS only",
        (_, Accepts::PlainAndTls) => "TCP in the clear and TLS, under one chain",
    };
    let protocol = match socket.protocol {
        Protocol::Auto if matches!(socket.kind, Kind::Ws | Kind::Wss) => "Xpra's packets",
        Protocol::Auto if socket.websocket.is_none() => "Xpra's packets, and no WebSocket",
        Protocol::Auto => "the first bytes tell the protocol",
        Protocol::Xpra => "Xpra's packets",
        Protocol::Stream => "nothing is said before the daemon's own protocol",
        Protocol::Ssh => "then the daemon's own protocol, or Xpra's packets, in one channel",
        Protocol::Rpc => "calls of gRPC, each judged by itself",
    };
    let cipher = socket
        .encryption
        .as_ref()
        .map_or_else(String::new, |it| format!(", under {} only", it.terms.cipher()));
    let hops = socket.hops.as_ref().map_or_else(String::new, |hops| {
        format!("; where its clients are is said by {hops}, in PROXY headers")
    });
    format!("{wire}; {protocol}{cipher}{hops}")
}

fn lets_in(socket: &SocketConfig) -> String {
    let links = socket.chain.links();
    let audience = super::socket::audience(&socket.address, &socket.unix, socket.hops.is_some());
    if links.iter().any(|link| chain::REFUSE_ALL.contains(&link.module)) {
        return "nobody".to_owned();
    }
    if links.iter().all(|link| chain::PASS_ALL.contains(&link.module)) {
        return format!("{audience}, without a proof");
    }
    match links.len() {
        1 => format!("{audience} and passes its link"),
        2 => format!("{audience} and passes both links, in this order"),
        number => format!("{audience} and passes all {number} links, in this order"),
    }
}

fn asks(link: &Link) -> &'static str {
    match link.verifier {
        Verifier::Peer(_) => "nothing",
        Verifier::Secret(_) => "for a proof of the secret",
        Verifier::Password(_) => "for the password itself, on confidential wires only",
        Verifier::Exchange(_) => "in rounds of its own",
    }
}

/// Writes words in lines of at most 80 columns, the first behind `head`, the others below them.
fn paragraph(f: &mut fmt::Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    let indent = if head.is_empty() { 2 } else { head.chars().count() };
    f.write_str(head)?;
    let mut column = head.chars().count();
    for (position, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if position > 0 && column + 1 + width > COLUMNS {
            write!(f, "\n{:indent$}{word}", "")?;
            column = indent + width;
        } else {
            let blank = if position > 0 { " " } else { "" };
            write!(f, "{blank}{word}")?;
            column += width + blank.len();
        }
    }
    writeln!(f)
}

const COLUMNS: usize = 80;

/// The modules that decide by the address alone and do nothing else: a program is not run, nor a
/// certificate made up, for a client that is not there.
const PLAYED: [&str; 3] = ["fail", "hosts", "none"];

#[cfg(test)]
mod tests;
