//! The product as a program: `countersign serve` and the client commands.

use std::{env, net::SocketAddr, path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use crate::{
    Place,
    process::{Daemon, Finished, program, run},
};

/// A running `countersign serve` with a state folder of its own.
#[derive(Debug)]
pub struct Gateway {
    daemon: Daemon,
    place: Place,
    addresses: Vec<String>,
}

impl Gateway {
    /// Starts a gateway with these arguments after `serve` and waits until every socket listens.
    pub fn start<S: AsRef<str>>(arguments: &[S]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    /// The same; `adjust` may change the command, for example add an environment variable.
    pub fn start_with<S: AsRef<str>>(arguments: &[S], adjust: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(Place::new(), arguments, adjust)
    }

    /// The same in a folder of an earlier gateway, with the state that it [left](Self::stop).
    pub fn start_in<S: AsRef<str>>(place: Place, arguments: &[S], adjust: impl FnOnce(&mut Command)) -> Self {
        let mut command = program(binary().to_str().expect("a UTF-8 target folder"));
        command.arg("serve").arg("--state-dir").arg(place.path("state"));
        command.args(arguments.iter().map(AsRef::as_ref));
        away_from_home(&mut command, &place);
        spare(&mut command);
        adjust(&mut command);
        let daemon = Daemon::start(command);
        let expected = arguments.iter().filter(|argument| argument.as_ref().starts_with("--bind")).count();
        let addresses = daemon.wait_for("listening on every socket", |output| {
            let found: Vec<_> = output.lines().filter_map(listening).collect();
            (found.len() >= expected).then_some(found)
        });
        Self { daemon, place, addresses }
    }

    /// The port chosen for the first TCP socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.tcp().port()
    }

    /// The address of the first TCP socket.
    #[must_use]
    pub fn tcp(&self) -> SocketAddr {
        let found = self.addresses.iter().find_map(|address| address.strip_prefix("tcp:")?.parse().ok());
        found.unwrap_or_else(|| panic!("no TCP socket among {:?}", self.addresses))
    }

    /// The ports of all TCP sockets, in the order of their kinds.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let ports =
            self.addresses.iter().filter_map(|address| address.strip_prefix("tcp:")?.rsplit(':').next());
        ports.map(|port| port.parse().expect("a port")).collect()
    }

    /// Ends the gateway in good order and keeps its folder.
    #[must_use]
    pub fn stop(self) -> Place {
        drop(self.daemon);
        self.place
    }

    /// Kills the gateway, if it still lives, and keeps its folder.
    #[must_use]
    pub fn kill(self) -> Place {
        if self.daemon.ended().is_none() {
            self.daemon.signal(Signal::SIGKILL);
        }
        self.stop()
    }

    /// The certificate that vouches for the gateway's own.
    #[must_use]
    pub fn root(&self) -> String {
        self.place.text("state/tls/root.crt")
    }

    /// Runs `countersign trust` as its owner.
    pub fn trust(&self, words: &[&str]) -> Finished {
        let state = self.place.text("state");
        run(&mut countersign(&self.place, &[&["trust", "--state-dir", &state], words].concat()))
    }

    /// Everything the gateway has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.output()
    }

    /// The process.
    #[must_use]
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Its folder.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// A `countersign` command with these arguments, kept away from the files of whoever runs the tests.
pub fn countersign<S: AsRef<str>>(place: &Place, arguments: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments.iter().map(AsRef::as_ref));
    away_from_home(&mut command, place);
    command
}

/// Has a gateway count whoever comes from here, as it does everywhere but in tests: to be given to
/// [`Gateway::start_with`].
pub fn counted(command: &mut Command) {
    command.env_remove(EXEMPT);
}

/// Tests fail on purpose more often than people do (S-21), and come in crowds (S-04): none of that is counted.
fn spare(command: &mut Command) {
    let own = nix::unistd::geteuid();
    command.env(EXEMPT, format!(r#"["127.0.0.1", "::1", "uid:{own}"]"#));
}

const EXEMPT: &str = "COUNTERSIGN_LIMITS__PENALTY_EXEMPT";

/// A local door: `countersign connect --listen 127.0.0.1:PORT`, logged in anew for each connection made to it.
#[derive(Debug)]
pub struct Door {
    /// The local port.
    pub port: u16,
    daemon: Daemon,
    _place: Place,
}

impl Door {
    /// Opens a door to a server, with more arguments before the address.
    pub fn open<S: AsRef<str>>(address: &str, arguments: &[S]) -> Self {
        let place = Place::new();
        let mut command = program(binary().to_str().expect("a UTF-8 target folder"));
        command.args(["connect", "--listen", "127.0.0.1:0"]);
        command.args(arguments.iter().map(AsRef::as_ref)).arg(address);
        away_from_home(&mut command, &place);
        let daemon = Daemon::start(command);
        let port = daemon.wait_for("listening", |output| {
            output.lines().filter_map(listening).find_map(|address| address.rsplit(':').next()?.parse().ok())
        });
        Self { port, daemon, _place: place }
    }

    /// What the client has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.output()
    }
}

/// A user name as it stands in an address: every byte but letters and digits as `%XX`.
#[must_use]
pub fn encoded(user: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    user.bytes().map(byte).collect()
}

/// The command under test, built beside the running test: `target/debug/countersign`.
#[must_use]
pub fn binary() -> PathBuf {
    built("countersign", "cargo build -p countersign-cli")
}

/// An example of the library, as `cargo build --examples` leaves it: `target/debug/examples/NAME`.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built(&format!("examples/{name}"), "cargo build --examples -p countersign")
}

/// A program in the folder of the profile that the running test was built with.
fn built(name: &str, how: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests lie in target/PROFILE/deps");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is not built: run `{how}` first", program.display());
    program
}

/// The address in a line such as `listening on tcp:127.0.0.1:4711`, whatever format the log has.
fn listening(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    Some(rest.split([' ', '"', ',', '\u{1b}']).next()?.to_owned())
}

fn away_from_home(command: &mut Command, place: &Place) {
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, place.path("home"));
    }
    for name in [
        "XPRA_PASSWORD",
        "XPRA_USERNAME",
        "XPRA_ENCRYPTION_KEY",
        "COUNTERSIGN_CONFIG",
        "COUNTERSIGN_LOG",
        "COUNTERSIGN_STATE_DIR",
    ] {
        command.env_remove(name);
    }
}
