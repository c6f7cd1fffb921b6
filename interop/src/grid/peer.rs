//! The programs of the grid: three versions of Xpra and ours, each as a client that logs in once and as a server.

use std::{env, fs, path::PathBuf, process::Command};

use super::{Came, Transport, certificate};
use crate::{
    Place,
    gateway::{Gateway, countersign},
    modules::{Attempt, Case, Outcome},
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, program, run},
    xpra,
};

/// One program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Debian's Xpra 3.1.3.
    Xpra3,
    /// Xpra 4.4.6, built by `cargo xtask xpra`.
    Xpra4,
    /// Xpra 6.5.5, built by `cargo xtask xpra`.
    Xpra6,
    /// `countersign`.
    Ours,
}

impl Peer {
    /// The other programs.
    pub const THEIRS: [Self; 3] = [Self::Xpra3, Self::Xpra4, Self::Xpra6];

    /// Its name on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xpra3 => "Xpra 3.1.3",
            Self::Xpra4 => "Xpra 4.4.6",
            Self::Xpra6 => "Xpra 6.5.5",
            Self::Ours => "countersign",
        }
    }

    /// Its name in a cell of the page.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::Xpra3 => "3",
            Self::Xpra4 => "4",
            Self::Xpra6 => "6",
            Self::Ours => "c",
        }
    }

    /// Whether it is installed or built here. If it is not, that is said.
    #[must_use]
    pub fn is_here(self) -> bool {
        let missing = self.folder().filter(|folder| !folder.join("complete").is_file());
        if missing.is_some() {
            eprintln!(
                "left out: {} is not built: run `cargo xtask xpra`, which needs the network",
                self.name()
            );
        }
        missing.is_none()
    }

    /// Where it was built, for those that Debian has not.
    fn folder(self) -> Option<PathBuf> {
        let version = match self {
            Self::Xpra4 => "4.4.6",
            Self::Xpra6 => "6.5.5",
            Self::Xpra3 | Self::Ours => return None,
        };
        let test = env::current_exe().expect("the path of this test");
        let target = test.ancestors().nth(3).expect("tests lie in target/PROFILE/deps");
        Some(target.join("xpra").join(version))
    }

    /// The start of its command line.
    fn command(self) -> Command {
        let Some(folder) = self.folder() else { return program("xpra") };
        let mut command = program("/usr/bin/python3");
        command.arg(folder.join("run"));
        command
    }

    /// More options of a module, for a server that asks what its configuration says and nothing besides.
    fn strictness(self, module: &str) -> String {
        let mut options = String::new();
        if self == Self::Xpra6 {
            // Where root runs it, it lets no other name in.
            options.push_str(",verify-username=no");
        }
        if self != Self::Xpra3 && module.starts_with("peercred") {
            // Else whoever runs it gets in, listed or not.
            options.push_str(",allow-owner=no");
        }
        options
    }

    /// Logs in once and asks who that was.
    #[must_use]
    pub fn log_in(self, attempt: &Attempt, transport: Transport, served: &Served) -> Came {
        let home = Place::new();
        let address = served.address(self, transport, attempt.user);
        let mut command = if self == Self::Ours {
            let options = ["info", "--ca", &served.authority].map(str::to_owned);
            countersign(&home, &[&options[..], &attempt.our_arguments(), &[address]].concat())
        } else {
            let mut command = self.command();
            command.args(["info", &address, "--ssl-protocol=TLS"]);
            command.arg(format!("--ssl-ca-certs={}", served.authority)).args(attempt.xpra_arguments());
            xpra::at_home(&mut command, &home);
            command
        };
        command.envs(attempt.environment.iter().map(|(name, value)| (name, value)));
        let finished = run(&mut command);
        match self.outcome(finished.code) {
            _ if finished.all().contains("this login needs an encrypted connection") => Came::TooOpen,
            Some(outcome) => Came::To(outcome),
            None => Came::Broke(format!("exit code {}: {}", finished.code, finished.all())),
        }
    }

    /// What an exit code says of a login.
    fn outcome(self, code: i32) -> Option<Outcome> {
        [Outcome::In, Outcome::Refused, Outcome::NothingToSay].into_iter().find(|outcome| {
            code == match (self, outcome) {
                (Self::Ours, _) => outcome.our_code(),
                // Newer ones tell a refusal from a connection that ends for another reason.
                (Self::Xpra4 | Self::Xpra6, Outcome::Refused) => xpra::exit::AUTHENTICATION_FAILED,
                _ => outcome.xpra_code(),
            }
        })
    }

    /// Starts it as a server with this chain on a socket of each kind.
    #[must_use]
    pub fn serve(self, case: &Case, transports: &[Transport]) -> Served {
        if self == Self::Ours {
            Served::gateway(case, transports)
        } else {
            Served::xpra(self, case, transports)
        }
    }
}

/// A running server with one chain on all of its sockets.
#[derive(Debug)]
pub struct Served {
    /// The certificates that vouch for its own.
    authority: String,
    /// Its sockets: a port of the loopback, or a path.
    sockets: Vec<(Transport, String)>,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Gateway(Gateway),
    Xpra(Daemon, #[expect(dead_code, reason = "its folder lasts as long as it")] Place),
}

impl Served {
    /// A gateway of ours that says who somebody is.
    fn gateway(case: &Case, transports: &[Transport]) -> Self {
        let (place, options) = (Place::new(), case.options());
        let path = place.text("front");
        let bind = |transport: &Transport| match transport {
            Transport::Unix => format!("--bind={path}{options}"),
            other => format!("--bind-{}=127.0.0.1:0{options}", other.scheme()),
        };
        let arguments: Vec<_> = transports.iter().map(bind).collect();
        let gateway = Gateway::start_in(place, &arguments, |command| {
            command.envs(case.environment.iter().map(|(name, value)| (name, value)));
        });
        let mut ports = gateway.ports().into_iter();
        let socket = |&transport: &Transport| match transport {
            Transport::Unix => (transport, path.clone()),
            _ => (transport, ports.next().expect("a port for each kind of socket").to_string()),
        };
        let sockets = transports.iter().map(socket).collect();
        Self { authority: gateway.root(), sockets, server: Server::Gateway(gateway) }
    }

    /// Xpra's proxy server: it needs no display, and `info` is answered to whoever is let in.
    fn xpra(peer: Peer, case: &Case, transports: &[Transport]) -> Self {
        let home = Place::new();
        let (certificate, both) = certificate::of_server(&home);
        for folder in ["sockets", "sessions", "pages"] {
            fs::create_dir(home.path(folder)).expect("a folder in the test's own place");
        }
        let mut command = peer.command();
        command.args(["proxy", ":500", "--daemon=no", "--mdns=no", "--systemd-run=no"]);
        command.args(["--dbus-control=no", "--start-new-commands=no", "--ssl-protocol=TLS"]);
        // Before 6.x there is no WebSocket in TLS where there are no pages.
        command.arg(format!("--html={}", home.text("pages")));
        command.arg(format!("--ssl-cert={both}")).arg(format!("--socket-dirs={}", home.text("sockets")));
        if peer == Peer::Xpra3 {
            command.args(["--dbus-proxy=no", "--ssl=on"]);
        } else {
            command.arg(format!("--sessions-dir={}", home.text("sessions")));
        }
        let mut sockets = Vec::new();
        for &transport in transports {
            let socket =
                if transport == Transport::Unix { home.text("front") } else { free_port().to_string() };
            let (host, kind) = match transport {
                Transport::Unix => ("", String::new()),
                other => ("127.0.0.1:", format!("-{}", other.scheme())),
            };
            command.arg(format!("--bind{kind}={host}{socket}"));
            let switch =
                kind.strip_prefix('-').map_or_else(|| "auth".to_owned(), |kind| format!("{kind}-auth"));
            for module in &case.xpra {
                command.arg(format!("--{switch}={module}{}", peer.strictness(module)));
            }
            sockets.push((transport, socket));
        }
        xpra::at_home(&mut command, &home);
        command.envs(case.environment.iter().map(|(name, value)| (name, value)));
        let server = Daemon::start(command);
        server.wait_for("being ready", |output| output.contains("xpra is ready").then_some(()));
        for (transport, socket) in &sockets {
            match socket.parse() {
                Ok(port) if *transport != Transport::Unix => wait_for_tcp(&server, port),
                _ => wait_for_unix(&server, socket.as_ref()),
            }
        }
        Self { authority: certificate, sockets, server: Server::Xpra(server, home) }
    }

    /// What the server has printed.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.server {
            Server::Gateway(gateway) => gateway.log(),
            Server::Xpra(server, _) => server.output(),
        }
    }

    fn address(&self, client: Peer, transport: Transport, user: &str) -> String {
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
