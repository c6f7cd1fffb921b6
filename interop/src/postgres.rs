//! A real PostgreSQL on a port and on a Unix socket, with a fresh cluster.

use std::{fs, path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use crate::{
    Place,
    account::{give_file, leave_root},
    certificate::Pair,
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
    settings: Vec<String>,
    server: Option<Daemon>,
    place: Place,
}

impl Postgres {
    /// Makes a cluster and starts a server on it, as the account `postgres` where we are root: it refuses to be root.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(Place::new(), Vec::new(), None)
    }

    /// The same with this certificate, and with passwords asked of everybody but `postgres` itself.
    #[must_use]
    pub fn guarded(own: &Pair) -> Self {
        let place = Place::new();
        let copy = |name: &str, from: &str| place.file(name, fs::read(from).expect("an own file"));
        let (cert, key) = (copy("own.pem", &own.cert), copy("own_key.pem", &own.key));
        [&cert, &key].iter().for_each(|file| give_file(file, "postgres"));
        let settings =
            vec!["ssl=on".to_owned(), format!("ssl_cert_file={cert}"), format!("ssl_key_file={key}")];
        let rules = "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\n\
                     local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
        Self::launch(place, settings, Some(rules))
    }

    fn launch(place: Place, settings: Vec<String>, rules: Option<&str>) -> Self {
        let mut initdb = Command::new(programs().join("initdb"));
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            "-D",
            &place.text("data"),
        ]);
        leave_root(&mut initdb, "postgres", &place);
        initdb.current_dir("/");
        must(&mut initdb);
        if let Some(rules) = rules {
            fs::write(place.path("data/pg_hba.conf"), rules).expect("a file of the cluster");
        }
        let port = free_port();
        let socket = place.text(&format!(".s.PGSQL.{port}"));
        let mut postgres = Self { port, socket, settings, server: None, place };
        postgres.resume();
        postgres
    }

    /// Starts it again on the same port, after [`Postgres::stop`].
    pub fn resume(&mut self) {
        let mut command = program(programs().join("postgres").to_str().expect("a UTF-8 path"));
        command.args([
            "-D",
            &self.place.text("data"),
            "-p",
            &self.port.to_string(),
            "-k",
            &self.place.text(""),
        ]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        leave_root(command.current_dir("/"), "postgres", &self.place);
        let server = Daemon::start(command);
        server.wait_for("accepting connections", |output| {
            output.contains("ready to accept connections").then_some(())
        });
        self.server = Some(server);
    }

    /// Ends it, its clients' connections included.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            // "Fast" shutdown: TERM would wait for the clients to leave.
            server.signal(Signal::SIGINT);
            server.wait();
        }
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
