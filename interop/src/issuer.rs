//! An issuer of tokens: a web server of its own with real JWTs, in Python (`oauth/issuer.py`).

use std::{
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    Place,
    certificate::Pair,
    process::{Daemon, must, program},
};

/// A running issuer.
#[derive(Debug)]
pub struct Issuer {
    /// Where it is: `http://127.0.0.1:PORT`, or `https:` with [`Self::identity`].
    pub base: String,
    /// What it proves to be `127.0.0.1` with, if it speaks TLS.
    pub identity: Option<Pair>,
    _daemon: Daemon,
    _place: Place,
}

impl Issuer {
    /// Starts an issuer without TLS, which the loopback alone may have.
    #[must_use]
    pub fn start() -> Self {
        Self::started(Place::new(), None)
    }

    /// Starts one with TLS.
    #[must_use]
    pub fn start_with_tls() -> Self {
        let place = Place::new();
        let identity = Pair::of_localhost(&place, "issuer");
        Self::started(place, Some(identity))
    }

    fn started(place: Place, identity: Option<Pair>) -> Self {
        let mut command = program("/usr/bin/python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("oauth/issuer.py"));
        if let Some(identity) = &identity {
            command.args(["--tls", &identity.cert, &identity.key]);
        }
        let daemon = Daemon::start(command);
        let base = daemon.wait_for("issuing", |output| {
            output.lines().find_map(|line| Some(line.strip_prefix("issuing at ")?.to_owned()))
        });
        Self { base, identity, _daemon: daemon, _place: place }
    }

    /// Its name in tokens.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/realm", self.base)
    }

    /// Claims of a right token for `user` and the audience `gate`, for a minute from now.
    #[must_use]
    pub fn claims(&self, user: &str) -> Value {
        json!({"iss": self.name(), "aud": "gate", "sub": user, "exp": now() + 60})
    }

    /// A token with these claims, signed by its RSA key.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.mint(&json!({"alg": "RS256", "kid": "first", "claims": claims}))
    }

    /// A token of any shape.
    #[must_use]
    pub fn mint(&self, order: &Value) -> String {
        self.lab("mint", order)["token"].as_str().expect("a token").to_owned()
    }

    /// Adds a key, and takes another away.
    pub fn change_keys(&self, kid: &str, kind: &str, drop: Option<&str>) {
        self.lab("key", &json!({"kid": kid, "kind": kind, "drop": drop}));
    }

    /// Changes how it behaves.
    pub fn set(&self, what: &Value) {
        self.lab("set", what);
    }

    /// How often this path was asked for.
    #[must_use]
    pub fn asked(&self, path: &str) -> u64 {
        let asked = must(self.curl().arg(format!("{}/lab/asked", self.base)));
        let asked: Value = serde_json::from_str(&asked).expect("JSON");
        asked[path].as_u64().unwrap_or_default()
    }

    fn lab(&self, what: &str, order: &Value) -> Value {
        let place = format!("{}/lab/{what}", self.base);
        let answer = must(self.curl().args(["--data-binary", &order.to_string(), &place]));
        serde_json::from_str(&answer).expect("JSON")
    }

    fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--fail", "--noproxy", "*"]);
        if let Some(identity) = &self.identity {
            command.args(["--cacert", &identity.cert]);
        }
        command
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
