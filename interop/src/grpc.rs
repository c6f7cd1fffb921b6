//! A gRPC daemon and client that know nothing of the gateway: Python's `grpcio`, of the generation that Multipass's
//! own clients are built with. The programs and their messages lie in `grpc/`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    Place,
    account::Account,
    certificate::Pair,
    dialogue::Dialogue,
    process::{Daemon, must, program},
};

/// The daemon of the tests: service `lab.Lab`, and Multipass's, where it tells that it was asked.
#[derive(Debug)]
pub struct Server {
    /// Its Unix socket, plain HTTP/2.
    pub unix: String,
    /// Its port on 127.0.0.1, plain HTTP/2.
    pub tcp: u64,
    /// Its port on 127.0.0.1, TLS with [`Self::identity`].
    pub tls: u64,
    /// What it proves to be `localhost` with.
    pub identity: Pair,
    daemon: Daemon,
    _place: Place,
    _messages: Place,
}

impl Server {
    /// Starts a daemon.
    #[must_use]
    pub fn start() -> Self {
        let place = Place::new();
        let (unix, identity) = (place.text("lab"), Pair::of_localhost(&place, "daemon"));
        let mut command = program(PYTHON);
        command.arg(source("server.py")).args(["--unix", &unix, "--tls", &identity.cert, &identity.key]);
        let messages = generate_messages(&mut command);
        let daemon = Daemon::start(command);
        let ports =
            daemon.wait_for("listening", |output| serde_json::from_str::<Value>(output.lines().next()?).ok());
        let port = |name: &str| ports[name].as_u64().expect("a port");
        Self {
            unix,
            tcp: port("tcp"),
            tls: port("tls"),
            identity,
            daemon,
            _place: place,
            _messages: messages,
        }
    }

    /// Everything that happened since the start, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.daemon.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many calls of this name began, whoever made them.
    #[must_use]
    pub fn calls(&self, name: &str) -> usize {
        self.events().iter().filter(|event| event["event"] == "begins" && event["call"] == name).count()
    }

    /// Waits until a call of this name has begun and none is under way, as far as the daemon can see. Where it would
    /// go on for longer than the test's patience, its client has left.
    pub fn wait_for_end(&self, name: &str) {
        let ended = |event: &Value| event["call"] == name && event["event"] != "begins";
        let is_over = || {
            let over = self.events().into_iter().filter(ended).count();
            over > 0 && over == self.calls(name)
        };
        let over = self.daemon.eventually(is_over);
        assert!(over, "the daemon never saw the end of `{name}`:\n{}", self.daemon.output());
    }
}

/// A client with one channel; each command is a call on it, or many.
#[derive(Debug)]
pub struct Client {
    dialogue: Dialogue,
    _messages: Place,
}

impl Client {
    /// Prepares a channel to `unix:PATH` or `HOST:PORT`, with a certificate of its own and the root that vouches for
    /// the server. Nothing is dialled before the first call.
    #[must_use]
    pub fn new(target: &str, root: &str, pair: Option<&Pair>) -> Self {
        Self::start(Command::new(PYTHON), target, root, pair)
    }

    /// The same as another local account.
    #[must_use]
    pub fn run_by(account: &Account, target: &str, root: &str, pair: &Pair) -> Self {
        Self::start(account.command(PYTHON), target, root, Some(pair))
    }

    /// Makes the call, or calls, of one command of `client.py` and returns what came of it.
    #[track_caller]
    pub fn call(&mut self, words: &[&str]) -> Value {
        let answer = self.dialogue.ask(&json!(words).to_string());
        serde_json::from_str(&answer).expect("the client answers in JSON")
    }

    /// The status code of a call, by its name.
    #[track_caller]
    pub fn code(&mut self, words: &[&str]) -> String {
        self.call(words)["code"].as_str().expect("every call has a status").to_owned()
    }

    /// Begins a command; [`Self::end`] has what came of it.
    #[track_caller]
    pub fn begin(&mut self, words: &[&str]) {
        self.dialogue.begin(&json!(words).to_string());
    }

    /// What came of the command that was begun.
    #[track_caller]
    pub fn end(&mut self) -> Value {
        let answer = self.dialogue.answer("a command begun before");
        serde_json::from_str(&answer).expect("the client answers in JSON")
    }

    fn start(mut command: Command, target: &str, root: &str, pair: Option<&Pair>) -> Self {
        command.arg(source("client.py")).args(["--target", target, "--root", root]);
        if let Some(Pair { cert, key }) = pair {
            command.args(["--cert", cert, "--key", key]);
        }
        let messages = generate_messages(&mut command);
        Self { dialogue: Dialogue::start(&mut command), _messages: messages }
    }
}

/// Puts the generated messages into the command's reach, for as long as the folder is there.
fn generate_messages(command: &mut Command) -> Place {
    let place = Place::new();
    must(Command::new("protoc").args([
        "-I",
        &source(""),
        "--python_out",
        &place.text(""),
        "lab.proto",
        "multipass.proto",
    ]));
    // Other accounts run the client too.
    place.open_to_all();
    for file in fs::read_dir(place.path("")).expect("an own folder").flatten() {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("an own file");
    }
    command.env("PYTHONPATH", place.path("")).env("PYTHONDONTWRITEBYTECODE", "1");
    place
}

fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("grpc").join(name);
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// Debian's own: the `grpcio` package is for this one, whatever other Python comes first on the path.
const PYTHON: &str = "/usr/bin/python3";
