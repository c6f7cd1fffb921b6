//! Keys, certificates and agents of OpenSSH.

use std::process::Command;

use crate::{
    Place,
    net::wait_for_unix,
    process::{Daemon, must, program},
};

/// Makes a key pair without a passphrase and returns the path of the private key; `kind` is as in `ed25519` or
/// `rsa -b 2048`.
pub fn key(place: &Place, name: &str, kind: &str) -> String {
    key_with_passphrase(place, name, kind, "")
}

/// The same with a passphrase.
pub fn key_with_passphrase(place: &Place, name: &str, kind: &str, passphrase: &str) -> String {
    let path = place.text(name);
    must(
        Command::new("ssh-keygen")
            .args(["-q", "-N", passphrase, "-C", name, "-f", &path, "-t"])
            .args(kind.split(' ')),
    );
    path
}

/// The public key beside a private one, as a line.
#[must_use]
pub fn public(key: &str) -> String {
    std::fs::read_to_string(format!("{key}.pub")).expect("a public key").trim_end().to_owned()
}

/// Signs the public key beside `key`: what is asked of `ssh-keygen` for the certificate stands in `options`.
pub fn certify(authority: &str, key: &str, options: &[&str]) {
    must(
        Command::new("ssh-keygen")
            .args(["-q", "-s", authority, "-I", "test"])
            .args(options)
            .arg(format!("{key}.pub")),
    );
}

/// A running ssh-agent.
#[derive(Debug)]
pub struct Agent {
    /// Its socket.
    pub socket: String,
    _daemon: Daemon,
    _place: Place,
}

impl Agent {
    /// Starts an agent and adds these private keys, each with the certificate beside it if there is one.
    pub fn with(keys: &[&str]) -> Self {
        let place = Place::new();
        let socket = place.text("agent");
        let mut command = program("ssh-agent");
        command.args(["-D", "-a", &socket]);
        let daemon = Daemon::start(command);
        wait_for_unix(&daemon, &place.path("agent"));
        for key in keys {
            must(Command::new("ssh-add").args(["-q", key]).env("SSH_AUTH_SOCK", &socket));
        }
        Self { socket, _daemon: daemon, _place: place }
    }
}
