//! The programs of the grid as servers: one chain on a socket of each kind.

use std::fs;

use super::{Peer, Transport, certificate};
use crate::{
    Place,
    gateway::Gateway,
    modules::Case,
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::Daemon,
    xpra,
};

/// A running server with one chain on all of its sockets.
#[derive(Debug)]
pub struct Served {
    /// The certificates that vouch for its own.
    pub(super) authority: String,
    /// The file with the key of its encrypted socket.
    pub key: String,
    /// Its sockets: a port of the loopback, or a path.
    sockets: Vec<(Transport, String)>,
    server: Server,
    _place: Place,
}

#[derive(Debug)]
enum Server {
    Gateway(Gateway),
    Xpra(Vec<Daemon>),
}

impl Served {
    /// Starts it with this chain.
    ///
    /// # Errors
    /// What it says if it ends instead.
    pub fn start(peer: Peer, case: &Case, transports: &[Transport]) -> Result<Self, String> {
        if peer == Peer::Ours {
            Ok(Self::gateway(case, transports))
        } else {
            Self::xpra(peer, case, transports)
        }
    }

    /// A gateway of ours that says who somebody is.
    fn gateway(case: &Case, transports: &[Transport]) -> Self {
        let (place, options) = (Place::new(), case.options());
        let (path, key) = (place.text("front"), place.file("key", KEY));
        let bind = |transport: &Transport| match transport {
            Transport::Unix => format!("--bind={path}{options}"),
            Transport::Aes => format!("--bind-tcp=127.0.0.1:0{options},encryption=AES,keyfile={key}"),
            other => format!("--bind-{}=127.0.0.1:0{options}", other.scheme()),
        };
        let arguments: Vec<_> = transports.iter().map(bind).collect();
        let gateway = Gateway::start_with(&arguments, |command| {
            command.envs(case.environment.iter().map(|(name, value)| (name, value)));
        });
        let mut ports = gateway.ports().into_iter();
        let socket = |&transport: &Transport| match transport {
            Transport::Unix => (transport, path.clone()),
            _ => (transport, ports.next().expect("a port for each kind of socket").to_string()),
        };
        let sockets = transports.iter().map(socket).collect();
        Self { authority: gateway.root(), key, sockets, server: Server::Gateway(gateway), _place: place }
    }

    /// Xpra's proxy server: it needs no display, and `info` is answered to whoever is let in. In 3.1.3 either all of
    /// its TCP sockets encrypt or none, so the one that does has a server of its own.
    fn xpra(peer: Peer, case: &Case, transports: &[Transport]) -> Result<Self, String> {
        let place = Place::new();
        let (authority, both) = certificate::of_server(&place);
        let key = place.file("key", KEY);
        let (encrypted, others): (Vec<_>, Vec<_>) =
            transports.iter().partition(|transport| **transport == Transport::Aes);
        let (mut sockets, mut servers) = (Vec::new(), Vec::new());
        for (name, transports) in [("encrypted", encrypted), ("others", others)] {
            if transports.is_empty() {
                continue;
            }
            let home = place.path(name);
            let key = (name == "encrypted").then_some(key.as_str());
            let (server, opened) = proxy(peer, case, &transports, &home, (&both, key))?;
            servers.push(server);
            sockets.extend(opened);
        }
        Ok(Self { authority, key, sockets, server: Server::Xpra(servers), _place: place })
    }

    /// What the server has printed.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.server {
            Server::Gateway(gateway) => gateway.log(),
            Server::Xpra(servers) => servers.iter().map(Daemon::output).collect(),
        }
    }

    /// How often the server has said one of these.
    pub(super) fn times(&self, texts: &[&str]) -> usize {
        let log = self.log();
        texts.iter().map(|text| log.matches(text).count()).sum()
    }

    /// Whether the server says one of these, sooner or later, once more than so often.
    pub(super) fn says_again(&self, texts: &[&str], before: usize) -> bool {
        let daemon = match &self.server {
            Server::Gateway(gateway) => gateway.daemon(),
            Server::Xpra(servers) => servers.first().expect("a server"),
        };
        daemon.eventually(|| self.times(texts) > before)
    }

    /// How often it has let somebody in, and refused somebody, by its own words.
    pub(super) fn decisions(&self) -> [usize; 2] {
        DECISIONS.map(|text| self.times(&[text]))
    }

    /// Whether it has answered a client that ended well and printed this, given what it had decided before. A server of
    /// 3.1.3 or 4.4.6 that does not know the name as an account of the machine lets it in and tells it nothing of use, and
    /// says itself that it is telling it.
    pub(super) fn has_answered(&self, printed: &str, before: [usize; 2]) -> bool {
        let is_answer = |line: &str| ANSWER.iter().any(|key| line.starts_with(key));
        match &self.server {
            _ if printed.lines().any(is_answer) => true,
            Server::Gateway(_) => false,
            Server::Xpra(servers) => {
                let server = servers.first().expect("a server");
                server.eventually(|| self.decisions().iter().zip(before).any(|(now, before)| *now > before));
                self.decisions()[0] > before[0]
            }
        }
    }

    /// Where a client comes to.
    #[must_use]
    pub fn address(&self, client: Peer, transport: Transport, user: &str) -> String {
        let socket = self.sockets.iter().find(|(kind, _)| *kind == transport);
        let (_, socket) = socket.expect("the server was started with a socket of this kind");
        match (transport, client) {
            (Transport::Unix, Peer::Ours) => format!("unix://{user}@{socket}"),
            (Transport::Unix, _) => format!("socket://{user}@{socket}"),
            // A name, because tickets are for names.
            (_, Peer::Ours) => format!("{}://{user}@localhost:{socket}/", transport.scheme()),
            _ => format!("{}://{user}@127.0.0.1:{socket}/", transport.scheme()),
        }
    }
}

/// Starts one proxy server with these sockets, by its certificate and, if they encrypt, its key.
fn proxy(
    peer: Peer,
    case: &Case,
    transports: &[Transport],
    home: &std::path::Path,
    (both, key): (&str, Option<&str>),
) -> Result<(Daemon, Vec<(Transport, String)>), String> {
    let within = |name: &str| home.join(name).to_str().expect("a UTF-8 path").to_owned();
    for folder in ["sockets", "sessions", "pages"] {
        fs::create_dir_all(home.join(folder)).expect("a folder in the test's own place");
    }
    let mut command = peer.command();
    // The number of a display is this server's alone, as a port is.
    command.args(["proxy", &format!(":{}", free_port()), "--daemon=no", "--mdns=no", "--systemd-run=no"]);
    command.args(["--dbus-control=no", "--start-new-commands=no", "--ssl-protocol=TLS"]);
    // Before 6.x there is no WebSocket in TLS where there are no pages.
    command.arg(format!("--html={}", within("pages")));
    command.arg(format!("--ssl-cert={both}")).arg(format!("--socket-dirs={}", within("sockets")));
    if peer == Peer::Xpra3 {
        command.args(["--dbus-proxy=no", "--ssl=on"]);
    } else {
        command.arg(format!("--sessions-dir={}", within("sessions")));
    }
    if let Some(key) = key {
        command.arg("--tcp-encryption=AES").arg(format!("--tcp-encryption-keyfile={key}"));
    }
    let mut sockets = Vec::new();
    for &transport in transports {
        let socket = if transport == Transport::Unix { within("front") } else { free_port().to_string() };
        let (bind, switch) = match transport {
            Transport::Unix => (format!("--bind={socket}"), "auth".to_owned()),
            other => {
                let kind = other.scheme();
                (format!("--bind-{kind}=127.0.0.1:{socket}"), format!("{kind}-auth"))
            }
        };
        command.arg(bind);
        for module in &case.xpra {
            command.arg(format!("--{switch}={}", peer.strictly(module)));
        }
        sockets.push((transport, socket));
    }
    xpra::at_home_in(&mut command, home);
    if key.is_some() && peer == Peer::Xpra6 {
        // Nobody gets anywhere there, and this is a part of how long a client waits until it is told so.
        command.env("XPRA_SOCKET_TIMEOUT", "5");
    }
    command.envs(case.environment.iter().map(|(name, value)| (name, value)));
    let server = Daemon::start(command);
    if !server.eventually(|| server.output().contains("xpra is ready")) {
        // Its last words come after its end.
        server.wait();
        return Err(server.output());
    }
    for (transport, socket) in &sockets {
        match socket.parse() {
            Ok(port) if *transport != Transport::Unix => wait_for_tcp(&server, port),
            _ => wait_for_unix(&server, socket.as_ref()),
        }
    }
    Ok((server, sockets))
}

/// What a server of Xpra says when it tells of itself, which it does only to whoever is let in, and when it refuses.
const DECISIONS: [&str; 2] = ["info request from", "authentication failed"];

/// What each server says of itself to whoever is let in, and nobody else: Xpra's; ours.
const ANSWER: [&str; 2] = ["uuid=", "countersign="];

/// What both ends encrypt with.
const KEY: &str = "0123456789abcdef0123456789abcdef\n";
