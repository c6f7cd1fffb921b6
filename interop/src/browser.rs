//! Chromium without a window, driven by `chromedriver` (W3C WebDriver, JSON over HTTP by `curl`).

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    PATIENCE, Place,
    process::{Daemon, must, program},
};

/// A browser with one page, new and empty.
#[derive(Debug)]
pub struct Browser {
    session: String,
    _driver: Daemon,
    _profile: Place,
}

impl Browser {
    /// Starts one that trusts the server whose certificate has this public key ([`public_key`]), and no other that
    /// no authority vouches for.
    #[must_use]
    pub fn start(public_key: &str) -> Self {
        let profile = Place::new();
        let mut command = program("chromedriver");
        // Its own home: neither settings nor caches of whoever runs the tests.
        command.arg("--port=0").env("HOME", profile.path("home")).env("TMPDIR", profile.path(""));
        let driver = Daemon::start(command);
        let port: u16 = driver.wait_for("its port", |output| {
            let (_, rest) = output.split_once("started successfully on port ")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--no-proxy-server",
                format!("--user-data-dir={}", profile.text("profile")),
                format!("--ignore-certificate-errors-spki-list={public_key}"),
            ],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let root = format!("http://127.0.0.1:{port}/session");
        let begun = call("POST", &root, &wanted);
        let id = begun["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {begun}"));
        Self { session: format!("{root}/{id}"), _driver: driver, _profile: profile }
    }

    /// Loads a page.
    pub fn open(&self, address: &str) {
        let _ = self.post("/url", &json!({ "url": address }));
    }

    /// Types into the element that a CSS selector finds, as a person does.
    pub fn type_into(&self, selector: &str, text: &str) {
        let _ = self.post(&format!("{}/clear", self.element(selector)), &json!({}));
        let _ = self.post(&format!("{}/value", self.element(selector)), &json!({ "text": text }));
    }

    /// Clicks on it.
    pub fn click(&self, selector: &str) {
        let _ = self.post(&format!("{}/click", self.element(selector)), &json!({}));
    }

    /// Runs the body of a function in the page and returns what it does.
    #[must_use]
    pub fn run(&self, script: &str, arguments: &[&str]) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Waits until a script returns something but `null`.
    #[must_use]
    pub fn wait_for(&self, script: &str) -> Value {
        let started = Instant::now();
        loop {
            let found = self.run(script, &[]);
            if !found.is_null() {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "never: {script}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        format!("/element/{}", id.unwrap_or_else(|| panic!("no {selector}: {found}")))
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        call("POST", &format!("{}{what}", self.session), body)
    }
}

impl Drop for Browser {
    /// The browser is ended by its driver, which is ended next.
    fn drop(&mut self) {
        let _ = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "20", "-X", "DELETE", &self.session])
            .output();
    }
}

/// What `--ignore-certificate-errors-spki-list` knows the key of a certificate by.
#[must_use]
pub fn public_key(certificate: &str) -> String {
    let pipe = "openssl x509 -in \"$1\" -noout -pubkey | openssl pkey -pubin -outform der \
                | openssl dgst -sha256 -binary | openssl base64";
    must(Command::new("sh").args(["-c", pipe, "sh", certificate])).trim().to_owned()
}

fn call(method: &str, address: &str, body: &Value) -> Value {
    let patience = PATIENCE.as_secs().to_string();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", &patience, "-X", method]);
    curl.args(["-H", "Content-Type: application/json", "--data-raw", &body.to_string(), address]);
    let answer = must(&mut curl);
    let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("no JSON: {answer}"));
    let value = answer["value"].take();
    assert!(value.get("error").is_none(), "{address} {body}: {value}");
    value
}
