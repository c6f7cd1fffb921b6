//! The programs of the grid: three versions of Xpra and ours. Here each is a client that logs in once.

use std::{env, path::PathBuf, process::Command};

use super::{Came, Served, Transport};
use crate::{
    Place,
    gateway::countersign,
    modules::{Attempt, Outcome},
    process::{Finished, program, run},
    xpra::{self, exit},
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
    pub(super) fn command(self) -> Command {
        let Some(folder) = self.folder() else { return program("xpra") };
        let mut command = program("/usr/bin/python3");
        command.arg(folder.join("run"));
        command
    }

    /// A module with more options, for a server that asks what its configuration says and nothing besides.
    pub(super) fn strictly(self, module: &str) -> String {
        let mut strict = module.to_owned();
        let mut add = |option: &str| {
            strict.push(if strict.contains(':') { ',' } else { ':' });
            strict.push_str(option);
        };
        if self == Self::Xpra6 {
            // Where root runs it, it lets no other name in.
            add("verify-username=no");
        }
        if self != Self::Xpra3 && module.starts_with("peercred") {
            // Else whoever runs it gets in, listed or not.
            add("allow-owner=no");
        }
        strict
    }

    /// Logs in once and asks who that was: what came of it, and all that the client said.
    #[must_use]
    pub(super) fn log_in(self, attempt: &Attempt, transport: Transport, served: &Served) -> (Came, String) {
        let mut arguments = match self {
            Self::Ours => vec![format!("--ca={}", served.authority)],
            _ => vec!["--ssl-protocol=TLS".to_owned(), format!("--ssl-ca-certs={}", served.authority)],
        };
        if transport == Transport::Aes {
            arguments.extend(self.encryption("AES", &served.key));
        }
        arguments.extend(if self == Self::Ours { attempt.our_arguments() } else { attempt.xpra_arguments() });
        let address = served.address(self, transport, attempt.user);
        let before = served.decisions();
        let finished = self.info(&address, &arguments, &attempt.environment);
        let said = finished.all();
        let is_in = finished.succeeded() && served.has_answered(&finished.stdout, before);
        let came = match self.outcome(finished.code, is_in, &said) {
            _ if TOO_OPEN.iter().any(|text| said.contains(text)) => Came::TooOpen,
            _ if NOT_OFFERED.iter().any(|text| said.contains(text)) => Came::NotOffered,
            Some(outcome) => Came::To(outcome),
            None => Came::Broke(format!("exit code {}: {said}", finished.code)),
        };
        (came, said)
    }

    /// Asks a server of itself.
    #[must_use]
    pub fn info(
        self,
        address: &str,
        arguments: &[String],
        environment: &[(&'static str, String)],
    ) -> Finished {
        let home = Place::new();
        let mut command = if self == Self::Ours { countersign(&home, &["info"]) } else { self.command() };
        if self != Self::Ours {
            xpra::at_home(command.arg("info"), &home);
        }
        run(command.args(arguments).arg(address).envs(environment.iter().map(|(name, value)| (name, value))))
    }

    /// The options of a client that encrypts so, with the key of a file.
    #[must_use]
    pub fn encryption(self, mode: &str, key: &str) -> [String; 2] {
        let kind = if self == Self::Ours { "encryption" } else { "tcp-encryption" };
        [format!("--{kind}={mode}"), format!("--{kind}-keyfile={key}")]
    }

    /// What the end of a client says of its login. Those of Xpra end with 0 as well when the connection is lost once they
    /// were asked, as it is, at times, before they read that they are refused: in is only who was answered.
    fn outcome(self, code: i32, is_in: bool, said: &str) -> Option<Outcome> {
        match (self, code) {
            _ if is_in => Some(Outcome::In),
            (Self::Ours, _) => [Outcome::Refused, Outcome::NothingToSay]
                .into_iter()
                .find(|outcome| code == outcome.our_code()),
            (_, exit::OK) => Some(Outcome::Refused),
            (_, exit::PASSWORD_REQUIRED) => Some(Outcome::NothingToSay),
            (Self::Xpra3, exit::CONNECTION_FAILED) => Some(Outcome::Refused),
            // Newer ones tell a refusal from a connection that ends for another reason, if it is not about one module.
            (Self::Xpra4 | Self::Xpra6, exit::AUTHENTICATION_FAILED) => Some(Outcome::Refused),
            (Self::Xpra4 | Self::Xpra6, exit::NO_SESSION) if said.contains("authentication failed") => {
                Some(Outcome::Refused)
            }
            _ => None,
        }
    }
}

/// What is said where a secret would travel as it is and others could read it: by our gateway, and by our client that is
/// asked for a ticket.
const TOO_OPEN: [&str; 2] = [
    "this login needs an encrypted connection",
    "the server asks for a ticket, and the connection is not encrypted",
];

/// What a server says to a client that does not offer what its chain asks for: ours; Xpra's.
const NOT_OFFERED: [&str; 3] = [
    "no acceptable digest is offered",
    "unexpected challenge response",
    "authentication challenge processing error",
];
