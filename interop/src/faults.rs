//! What a gateway has to bear: a disk without room, a clock that jumps; and the people who come meanwhile.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    Place,
    account::is_root,
    gateway::{Gateway, countersign},
    process::{Finished, must, run, run_with_input},
};

/// Somebody with a home of its own, and so a key of its own.
#[derive(Debug, Default)]
pub struct Person(Place);

impl Person {
    /// Runs a command as this person.
    pub fn does(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = countersign(&self.0, arguments);
        run_with_input(command.env_remove("SUDO_UID"), input.as_bytes())
    }
}

/// A gateway with one door for accepted certificates, one for a word and one for codes, all of them Unix sockets.
#[derive(Debug)]
pub struct Site {
    /// The gateway.
    pub gateway: Gateway,
    folder: Place,
    more: Vec<String>,
}

impl Site {
    /// Starts it in the folder that another one left, or a new one, with more arguments.
    pub fn start_in(place: Place, more: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        Self::open(place, Place::new(), more.iter().map(|&word| word.to_owned()).collect(), adjust)
    }

    fn open(place: Place, folder: Place, more: Vec<String>, adjust: impl FnOnce(&mut Command)) -> Self {
        let mut arguments = arguments(&folder);
        arguments.extend(more.iter().cloned());
        Self { gateway: Gateway::start_in(place, &arguments, adjust), folder, more }
    }

    /// The same again after `kill -9`; in between somebody may do something to the state directory.
    #[must_use]
    pub fn killed_and_started(self, between: impl FnOnce(&Path)) -> Self {
        let place = self.gateway.kill();
        between(&place.path("state"));
        Self::open(place, self.folder, self.more, |_| {})
    }

    /// Ends it, and says what a start there comes to.
    #[must_use]
    pub fn killed_and_tried(self, between: impl FnOnce(&Path)) -> (Finished, Place) {
        let place = self.gateway.kill();
        between(&place.path("state"));
        let mut serve = countersign(&place, &["serve", "--state-dir", &place.text("state")]);
        let finished = run(serve.args(arguments(&self.folder)).args(&self.more));
        (finished, place)
    }

    /// A file in the state directory.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.gateway.place().path("state").join(name)
    }

    /// Somebody shows a certificate.
    pub fn comes(&self, person: &Person) -> Finished {
        person.does(&["info", &format!("tls+unix:{}", self.folder.text("cert"))], "")
    }

    /// Somebody wants to be accepted by an invitation or the passphrase.
    pub fn enrols(&self, person: &Person, secret: &str) -> Finished {
        let server = format!("tls+unix:{}", self.folder.text("cert"));
        match secret.starts_with("cs1-") {
            true => person.does(&["authenticate", "--stdin"], secret),
            false => person.does(&["authenticate", "--stdin", "--server", &server], secret),
        }
    }

    /// Somebody says a word at the door for it.
    pub fn says(&self, word: &str) -> Finished {
        self.logs_in("word", "alice", word)
    }

    /// A user of [`secret_of`] comes with a code.
    pub fn code(&self, user: usize, code: &str) -> Finished {
        self.logs_in("code", &format!("user{user}"), code)
    }

    fn logs_in(&self, door: &str, name: &str, word: &str) -> Finished {
        let address = format!("unix://{name}@{}", self.folder.text(door));
        run(countersign(self.gateway.place(), &["info", &address]).env("XPRA_PASSWORD", word))
    }

    /// What its owner does.
    pub fn owner(&self, words: &[&str], input: &str) -> Finished {
        let state = self.gateway.place().text("state");
        let mut command = countersign(self.gateway.place(), words);
        run_with_input(command.args(["--state-dir", &state]), input.as_bytes())
    }

    /// What is listed, as JSON.
    #[track_caller]
    pub fn listed(&self, words: &[&str]) -> Vec<serde_json::Value> {
        let all = self.owner(&[words, &["--json"]].concat(), "").expect_success().stdout;
        serde_json::from_str(&all).expect("a list")
    }

    /// A new invitation of this name, if the gateway lives long enough to make one.
    #[must_use]
    pub fn invites(&self, name: &str) -> Option<String> {
        let made = self.owner(&["trust", "invite", "--name", name], "");
        made.succeeded().then(|| made.stdout.trim().to_owned())
    }

    /// The path of the door for a word.
    #[must_use]
    pub fn word_door(&self) -> PathBuf {
        self.folder.path("word")
    }
}

fn arguments(folder: &Place) -> Vec<String> {
    let word = folder.file("is", WORD);
    let secrets: String = (0..USERS).map(|user| format!("user{user}|{}\n", secret_of(user))).collect();
    let secrets = folder.file("secrets", secrets);
    vec![
        format!("--bind={},require-tls=yes,auth=certificate", folder.text("cert")),
        format!("--bind={},auth=file(filename={word})", folder.text("word")),
        format!("--bind={},auth=otp(filename={secrets})", folder.text("code")),
        "--refusal-delay=0s".to_owned(),
    ]
}

/// The word that lets in.
pub const WORD: &str = "a word that lets in";

/// How many users have a secret for codes: their file may have 64 KiB.
pub const USERS: usize = 1400;

/// A user's secret in base32.
#[must_use]
pub fn secret_of(user: usize) -> String {
    // Digits of base 26 as letters, before as many as 160 bits want.
    let letter = |power: u32| char::from(b'A' + u8::try_from(user / 26_usize.pow(power) % 26).unwrap_or(0));
    format!("{}{}{}{}", letter(2), letter(1), letter(0), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQ")
}

/// The code of a user at some second since 1970, as `oathtool` has it.
#[must_use]
pub fn code_of(user: usize, at: u64) -> String {
    let mut oathtool = Command::new("oathtool");
    oathtool.args(["--totp", "--base32", &format!("--now=@{at}"), &secret_of(user)]);
    must(&mut oathtool).trim().to_owned()
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A small disk at the place of a state directory that is not there yet. To be made before the gateway's value, so
/// that it goes after it.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one, or says why not.
    #[must_use]
    pub fn at_state_of(place: &Place) -> Option<Self> {
        let path = place.path("state");
        fs::create_dir(&path).expect("a folder");
        if !is_root() {
            eprintln!("skipped: only root can mount the small disk that this test fills");
            return None;
        }
        let mounted =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs"]).arg(&path));
        if !mounted.succeeded() {
            eprintln!("skipped: this machine lets not even root mount a disk: {}", mounted.all());
            return None;
        }
        Some(Self(path))
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).expect("an entry of the folder");
        for size in [4096, 1] {
            let full = loop {
                match filler.write_all(&vec![b'x'; size]) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).expect("the filler");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
        // The folder could not go with its disk.
        let _ = fs::remove_dir(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// The clock of a gateway: the machine's, set off by what a file says. The steady one beside it goes on.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// One that is right so far, for the gateway that will have its state in this place.
    #[must_use]
    pub fn for_state_of(place: &Place) -> Self {
        let state = place.path("state");
        fs::create_dir(&state).expect("a folder");
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("an own folder");
        // Where the gateway may read files when it has fenced itself in.
        let clock = Self(state.join("clock"));
        clock.jump(0);
        clock
    }

    /// Has a program live by it.
    pub fn rule(&self, command: &mut Command) {
        // One name for each architecture's folder; the loader knows them.
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets it this many seconds away from what is right, at once.
    pub fn jump(&self, seconds: i64) {
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).expect("a file");
        fs::rename(next, &self.0).expect("a file");
    }
}

/// Debian's libfaketime, in the folder of this architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("a folder of libraries").flatten();
    let found =
        folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.expect("libfaketime is installed: `cargo xtask deps`")
}
