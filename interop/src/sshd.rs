//! The server of OpenSSH on loopback, where whoever runs the tests may log in, and its client, which knows it.

use std::{fs, process::Command};

use crate::{
    Place,
    gateway::{binary, countersign},
    net::{free_port, wait_for_tcp},
    process::{Daemon, must, program},
    ssh::{key, public},
};

/// A running sshd.
#[derive(Debug)]
pub struct Sshd {
    /// Its port on 127.0.0.1.
    pub port: u16,
    place: Place,
    daemon: Daemon,
}

impl Sshd {
    /// Starts a server whose commands find the `countersign` under test.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in its configuration, which win over those here.
    #[must_use]
    pub fn start_with(lines: &str) -> Self {
        let (place, port) = (Place::new(), free_port());
        let host_key = key(&place, "hostkey", "ed25519");
        let authorized = place.file("authorized_keys", public(&key(&place, "id", "ed25519")));
        if nix::unistd::geteuid().is_root() {
            // The directory of its privilege separation.
            must(Command::new("mkdir").args(["-p", "/run/sshd"]));
        }
        let folder = binary().parent().expect("a folder").to_str().expect("a UTF-8 path").to_owned();
        let config = format!(
            "{lines}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n\
             AuthorizedKeysFile {authorized}\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n\
             SetEnv PATH={folder}:/usr/bin:/bin\n"
        );
        let mut command = program("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f", &place.file("sshd_config", config)]);
        let daemon = Daemon::start(command);
        wait_for_tcp(&daemon, port);
        Self { port, place, daemon }
    }

    /// A folder with an `ssh` that knows this server and logs in with the key that it accepts. It is the system's own,
    /// told to read a configuration of the test's: the own one it finds without regard to `HOME`.
    #[must_use]
    pub fn client(&self) -> String {
        self.client_with_key(&self.place.text("id"))
    }

    /// The same with this key.
    #[must_use]
    pub fn client_with_key(&self, key: &str) -> String {
        let host = public(&self.place.text("hostkey"));
        let known = self.place.file("known_hosts", format!("[127.0.0.1]:{} {host}\n", self.port));
        let config = self.place.file(
            "ssh_config",
            format!(
                "UserKnownHostsFile {known}\nStrictHostKeyChecking yes\nIdentityFile {key}\nIdentitiesOnly yes\n\
                 IdentityAgent none\nBatchMode yes\n"
            ),
        );
        fs::create_dir_all(self.place.path("bin")).expect("a folder in the test's own place");
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {config} \"$@\"\n");
        self.place.file_with_mode("bin/ssh", script, 0o755);
        self.place.text("bin")
    }

    /// `countersign ...` whose `ssh` is the [client](Self::client).
    pub fn countersign<S: AsRef<str>>(&self, place: &Place, arguments: &[S]) -> Command {
        let mut command = countersign(place, arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.client()));
        command
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.output()
    }
}
