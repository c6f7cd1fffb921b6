//! A real MariaDB on a port and on a Unix socket, with fresh tables.

use std::{fs, process::Command};

use crate::{
    Place,
    account::{give_file, leave_root},
    certificate::Pair,
    net::free_port,
    process::{Daemon, must, program},
};

/// A running MariaDB with a certificate, whose account `root` needs no password.
#[derive(Debug)]
pub struct MariaDb {
    /// Its TCP port on 127.0.0.1.
    pub port: u16,
    /// Its Unix socket.
    pub socket: String,
    server: Option<Daemon>,
    place: Place,
}

impl MariaDb {
    /// Makes the system's tables and starts a server on them, as the account `mysql` where we are root.
    #[must_use]
    pub fn launch(own: &Pair) -> Self {
        let place = Place::new();
        let copy = |name: &str, from: &str| place.file(name, fs::read(from).expect("an own file"));
        for file in [copy("own.pem", &own.cert), copy("own_key.pem", &own.key)] {
            give_file(&file, "mysql");
        }
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--skip-name-resolve", "--skip-log-bin", &format!("--datadir={}", place.text("data"))]);
        // A server that starts clears temporary tables away, those of its neighbours too.
        install.env("TMPDIR", place.text("."));
        leave_root(install.current_dir("/"), "mysql", &place);
        must(&mut install);
        let (port, socket) = (free_port(), place.text("mysqld.sock"));
        let mut mariadb = Self { port, socket, server: None, place };
        mariadb.resume();
        mariadb
    }

    /// Starts it again on the same port, after [`MariaDb::stop`].
    pub fn resume(&mut self) {
        let mut command = program("/usr/sbin/mariadbd");
        let text = |name: &str| self.place.text(name);
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]);
        command.args([
            format!("--datadir={}", text("data")),
            format!("--socket={}", self.socket),
            format!("--port={}", self.port),
            format!("--pid-file={}", text("mysqld.pid")),
            format!("--ssl-cert={}", text("own.pem")),
            format!("--ssl-key={}", text("own_key.pem")),
        ]);
        command.args(["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]);
        command.env("TMPDIR", text("."));
        leave_root(command.current_dir("/"), "mysql", &self.place);
        let server = Daemon::start(command);
        server.wait_for("accepting connections", |output| {
            output.contains("ready for connections").then_some(())
        });
        self.server = Some(server);
    }

    /// Ends it, its clients' connections included.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// `mariadb` as `root`, for these statements.
    #[must_use]
    pub fn client(&self, statements: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "--unbuffered", "--skip-column-names", "--user=root"]);
        command.args([&format!("--socket={}", self.socket), "--execute", statements]);
        command
    }
}
