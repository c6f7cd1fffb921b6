//! A real PostgreSQL on a port and on a Unix socket, with a fresh cluster.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Place,
    account::leave_root,
    net::free_port,
    process::{Daemon, must, program},
};

/// A running PostgreSQL that trusts whoever reaches it.
#[derive(Debug)]
pub struct Postgres {
    /// Its TCP port on 127.0.0.1.
    pub port: u16,
    /// Its Unix socket.
    pub socket: String,
    _server: Daemon,
    _place: Place,
}

impl Postgres {
    /// Makes a cluster and starts a server on it, as the account `postgres` where we are root: it refuses to be root.
    #[must_use]
    pub fn start() -> Self {
        let place = Place::new();
        let bin = programs();
        let data = place.text("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            "-D",
            &data,
        ]);
        leave_root(&mut initdb, "postgres", &place);
        initdb.current_dir("/");
        must(&mut initdb);
        let port = free_port();
        let mut command = program(bin.join("postgres").to_str().expect("a UTF-8 path"));
        command.args([
            "-D",
            &data,
            "-p",
            &port.to_string(),
            "-k",
            &place.text(""),
            "-c",
            "listen_addresses=127.0.0.1",
        ]);
        command.args(["-c", "fsync=off", "-c", "shared_buffers=16MB"]).current_dir("/");
        leave_root(&mut command, "postgres", &place);
        let server = Daemon::start(command);
        server.wait_for("accepting connections", |output| {
            output.contains("ready to accept connections").then_some(())
        });
        let socket = place.text(&format!(".s.PGSQL.{port}"));
        Self { port, socket, _server: server, _place: place }
    }
}

/// Runs one statement through a local port and returns what it prints, unaligned and without headers.
#[must_use]
pub fn query(port: u16, statement: &str) -> String {
    must(&mut psql(&format!("host=127.0.0.1 port={port}"), statement)).trim_end().to_owned()
}

/// `psql` with a connection string, to which the account and the database are added, and one statement.
#[must_use]
pub fn psql(connection: &str, statement: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "-At", "-d", &format!("{connection} user=postgres dbname=postgres")]);
    command.args(["-c", statement]).env("PGCONNECT_TIMEOUT", "30").current_dir("/");
    command
}

/// The newest installed server's programs, which Debian keeps off the search path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max();
    newest.expect("PostgreSQL is not installed: `cargo xtask deps`")
}
