//! Debian's Xpra 3.1.3: a whole session on a virtual display, and the client command that proves a login.
//!
//! Only `info` and `attach` prove a login: `version` and some other requests are answered before it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::{
    Place,
    account::Account,
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, Finished, program, run},
};

/// The client's exit codes (3.1.3).
pub mod exit {
    /// Logged in and answered.
    pub const OK: i32 = 0;
    /// A password is wanted and none was found.
    pub const PASSWORD_REQUIRED: i32 = 3;
    /// The server ended the connection before there was a session; so every refusal.
    pub const CONNECTION_FAILED: i32 = 7;
    /// A password was configured and never asked for.
    pub const NO_AUTHENTICATION: i32 = 11;
    /// There was no session, from 4.x on.
    pub const NO_SESSION: i32 = 18;
    /// The login was refused, from 4.x on.
    pub const AUTHENTICATION_FAILED: i32 = 28;
}

/// An X server without a screen, on a display number of its own choice.
#[derive(Debug)]
pub struct Display {
    name: String,
    _server: Daemon,
}

impl Display {
    /// Starts Xvfb.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let mut command = program("Xvfb");
        command.args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0", "640x480x24"]);
        command.args(more);
        let server = Daemon::start(command);
        let number = server.wait_for("a display number", |output| {
            output
                .lines()
                .find(|line| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()))
                .map(str::to_owned)
        });
        Self { name: format!(":{number}"), _server: server }
    }

    /// Its name, as in `DISPLAY`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A running Xpra session that listens on a loopback port and on a Unix socket.
#[derive(Debug)]
pub struct Session {
    /// Its name, which `xpra info` shows to whoever got in.
    pub name: String,
    /// Its TCP port on 127.0.0.1.
    pub port: u16,
    /// Its Unix socket.
    pub socket: String,
    // Dropped in this order: the session leaves its display before that ends.
    server: Daemon,
    _display: Display,
    home: Place,
}

impl Session {
    /// A session that lets everybody in, as it stands behind a gateway.
    #[must_use]
    pub fn open(name: &str) -> Self {
        Self::start(name, &[], |_| {})
    }

    /// A session whose two sockets ask for this chain of modules, written as Xpra 3.1 does: `file:filename=PATH`.
    #[must_use]
    pub fn with_chain(name: &str, chain: &[String]) -> Self {
        Self::start(name, chain, |_| {})
    }

    /// The same; `adjust` may change the command line, for example add an environment variable.
    #[must_use]
    pub fn start(name: &str, chain: &[String], adjust: impl FnOnce(&mut Command)) -> Self {
        let home = Place::new();
        let display = Display::start();
        let port = free_port();
        let socket = home.text("session");
        let mut command = program("xpra");
        command.args(["start", display.name(), "--use-display=yes", "--daemon=no"]);
        command.arg(format!("--session-name={name}"));
        command.arg(format!("--bind-tcp=127.0.0.1:{port}")).arg(format!("--bind={socket}"));
        for module in chain {
            command.arg(format!("--tcp-auth={module}")).arg(format!("--auth={module}"));
        }
        command.args(QUIET);
        at_home(&mut command, &home);
        adjust(&mut command);
        let server = Daemon::start(command);
        server.wait_for("being ready", |output| output.contains("xpra is ready").then_some(()));
        wait_for_tcp(&server, port);
        wait_for_unix(&server, socket.as_ref());
        Self { name: name.to_owned(), port, socket, server, _display: display, home }
    }

    /// What the server has printed, for a failing test.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.output()
    }

    /// The process.
    #[must_use]
    pub fn server(&self) -> &Daemon {
        &self.server
    }

    /// The folder the session lives in.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.home
    }
}

/// A session that a local account runs, with its socket where Xpra puts it: `FOLDER/HOST-DISPLAY`.
#[derive(Debug)]
pub struct OwnSession {
    /// Its name, which `xpra info` shows.
    pub name: String,
    /// Its display, as in `:10`.
    pub display: String,
    _server: Daemon,
    _display: Display,
}

impl OwnSession {
    /// Starts one in the account's folder of sockets; its home is a folder of the account's.
    #[must_use]
    pub fn start(account: &Account, name: &str, home: &str, sockets: &str) -> Self {
        // It lets every local account in: the server and its display belong to different ones.
        let display = Display::start_with(&["-ac"]);
        let mut command = account.command("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "xpra", "start", display.name(), "--use-display=yes"]);
        command.args(["--daemon=no", "--bind=auto"]).arg(format!("--session-name={name}"));
        command.arg(format!("--socket-dirs={sockets}")).arg(format!("--socket-dir={sockets}")).args(QUIET);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("HOME", home).env("XDG_RUNTIME_DIR", home).env("USER", &account.name).current_dir(home);
        let server = Daemon::start(command);
        server.wait_for("being ready", |output| output.contains("xpra is ready").then_some(()));
        Self { name: name.to_owned(), display: display.name().to_owned(), _server: server, _display: display }
    }
}

/// Runs `xpra info ADDRESS` with more arguments and the given environment.
#[must_use]
pub fn info(address: &str, arguments: &[String], environment: &[(&str, &str)]) -> Finished {
    let home = Place::new();
    let mut command = Command::new("xpra");
    command.args(["info", address]).args(arguments);
    at_home(&mut command, &home);
    command.envs(environment.iter().copied());
    run(&mut command)
}

/// A client that stays: `xpra attach ADDRESS` on a display of its own.
#[derive(Debug)]
pub struct Attached {
    /// The client, with its output.
    pub client: Daemon,
    _display: Display,
    _home: Place,
}

impl Attached {
    /// Starts the client; it is not connected yet when this returns.
    #[must_use]
    pub fn start(address: &str, arguments: &[String]) -> Self {
        let (home, display) = (Place::new(), Display::start());
        let mut command = program("xpra");
        command.args(["attach", address]).args(arguments).args(QUIET_CLIENT);
        at_home(&mut command, &home);
        command.env("DISPLAY", display.name());
        Self { client: Daemon::start(command), _display: display, _home: home }
    }
}

/// Fails the test unless the client got in and was answered by this session.
#[track_caller]
pub fn expect_answer_of(session: &Session, finished: Finished) {
    finished.expect_code(exit::OK).expect_text(&format!("session.name={}", session.name));
}

/// Keeps a program away from the files, displays and secrets of whoever runs the tests.
pub(crate) fn at_home(command: &mut Command, home: &Place) {
    at_home_in(command, &home.path(""));
}

/// The same in a folder that is there already.
pub(crate) fn at_home_in(command: &mut Command, home: &Path) {
    let runtime = home.join("runtime");
    fs::create_dir_all(&runtime).expect("a folder in the test's own place");
    // Newer servers refuse one that others can read.
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("permissions of an own folder");
    command.env("HOME", home).env("XDG_RUNTIME_DIR", runtime).env("LC_ALL", "C.UTF-8");
    for name in [
        "DISPLAY",
        "XPRA_PASSWORD",
        "XAUTHORITY",
        "SSH_AUTH_SOCK",
        "DBUS_SESSION_BUS_ADDRESS",
        "XPRA_USERNAME",
        "XPRA_ENCRYPTION_KEY",
    ] {
        command.env_remove(name);
    }
}

/// Everything of a session that the tests do not need and a bare machine does not have.
const QUIET: &[&str] = &[
    "--mdns=no",
    "--ssl=no",
    "--html=off",
    "--dbus-proxy=no",
    "--dbus-launch=no",
    "--dbus-control=no",
    "--pulseaudio=no",
    "--notifications=no",
    "--printing=no",
    "--webcam=no",
    "--speaker=disabled",
    "--microphone=disabled",
    "--systemd-run=no",
    "--start-via-proxy=no",
    "--opengl=no",
];
const QUIET_CLIENT: &[&str] = &[
    "--speaker=disabled",
    "--microphone=disabled",
    "--webcam=no",
    "--printing=no",
    "--notifications=no",
    "--opengl=no",
    "--tray=no",
];
