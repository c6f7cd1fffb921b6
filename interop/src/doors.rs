//! A gateway with many doors, to try the options of one module.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    Place,
    gateway::{Gateway, countersign, encoded},
    process::{Finished, run},
};

/// One gateway with a private socket for each way to ask a directory.
#[derive(Debug)]
pub struct Doors {
    gateway: Gateway,
    place: Place,
}

impl Doors {
    /// Opens a gateway with `auth=MODULE(WAY)` on each of its sockets.
    #[must_use]
    pub fn open(module: &str, ways: &[String]) -> Self {
        let place = Place::new();
        let door =
            |(number, way)| format!("--bind={},auth={module}({way})", place.text(&format!("door{number}")));
        let arguments: Vec<_> = ways.iter().enumerate().map(door).collect();
        Self { gateway: Gateway::start(&arguments), place }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self, door: usize) -> PathBuf {
        self.place.path(&format!("door{door}"))
    }

    /// Logs in and asks who that was.
    pub fn log_in(&self, door: usize, user: &str, password: &str) -> Finished {
        let client = Place::new();
        let file = format!("--password-file={}", client.file("password", password));
        let address = format!("unix://{}@{}", encoded(user), self.path(door).display());
        run(&mut countersign(&client, &["info", "--json", &file, &address]))
    }

    /// What the gateway says of somebody who is let in.
    ///
    /// # Panics
    /// If nobody is.
    #[track_caller]
    #[must_use]
    pub fn say(&self, door: usize, user: &str, password: &str) -> Value {
        let finished = self.log_in(door, user, password);
        assert_eq!(finished.code, 0, "door {door}, {user}: {}\n{}", finished.all(), self.gateway.log());
        serde_json::from_str::<Value>(&finished.stdout).expect("JSON")["server"].take()
    }

    /// Whom the gateway lets in.
    #[track_caller]
    #[must_use]
    pub fn who(&self, door: usize, user: &str, password: &str) -> String {
        self.say(door, user, password)["user"].as_str().expect("a name").to_owned()
    }

    /// Nobody is let in, and the log says why.
    #[track_caller]
    pub fn refused(&self, door: usize, user: &str, password: &str, why: &str) -> Finished {
        let before = self.gateway.log().len();
        let finished = self.log_in(door, user, password).expect_code(77);
        let new = || self.gateway.log().get(before..).unwrap_or_default().to_owned();
        let told = || new().lines().any(|line| line.contains("auth failure") && line.contains(why));
        assert!(self.gateway.daemon().eventually(told), "door {door}, {user}, {why}:\n{}", new());
        finished.expect_text("authentication failed")
    }
}
