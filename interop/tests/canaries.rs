//! S-88, S-92: known secrets go to every place that takes one, and then into right and wrong logins by every module;
//! nothing that is printed, logged at any level or kept may hold them, in any spelling.

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    net::dial_unix,
    pam::Services,
    process::{must, run, run_with_input},
    wire::{self, Received, Value, hello, honest, texts, with, without},
};

#[test]
fn s_088_password_in_an_argument_the_environment_or_a_file_leaves_no_trace() {
    let module = format!("password(value={RIGHT})");
    play(|_| Row::of(&module));
    play(|_| Row { auth: Auth::Environment, ..Row::of(&module) });
    play(|_| Row { auth: Auth::File, ..Row::of(&module) });
}

#[test]
fn s_088_file_leaves_no_trace() {
    play(|place| Row::of(&format!("file(filename={})", place.file("password", RIGHT))));
}

#[test]
fn s_088_env_leaves_no_trace() {
    play(|_| Row { environment: vec![("DOOR_SECRET", RIGHT)], ..Row::of("env(name=DOOR_SECRET)") });
}

#[test]
fn s_088_multifile_leaves_no_trace() {
    play(|place| {
        let lines = format!("bob|{RIGHT}-too|nobody|nogroup||\nalice|{RIGHT}|nobody|nogroup||\n");
        Row::of(&format!("multifile(filename={})", place.file("table", lines)))
    });
}

/// S-92: neither of the two ways to keep it has the password in the table itself.
#[test]
fn s_088_s_092_sqlite_leaves_no_trace_in_its_log_or_its_table() {
    play(|place| Row { kept: Some("users.sdb"), ..Row::of(&format!("sqlite(filename={})", table(place))) });
    play(|place| {
        let module = format!("sqlite(filename={},cleartext=yes)", table(place));
        Row { kept: Some("users.sdb"), ..Row::of(&module) }
    });
}

/// Also where the program that is given the password repeats it on both of its outputs.
#[test]
fn s_088_exec_leaves_no_trace() {
    play(|place| {
        let script = format!(
            "#!/bin/sh\nread -r given\necho \"$given\"\necho \"$given\" >&2\ntest \"$given\" = '{RIGHT}'\n"
        );
        let script = place.file_with_mode("judge", script, 0o700);
        Row::of(&format!("exec(command={script},require-challenge=yes)"))
    });
}

/// Also where a module of PAM prints the password on both outputs of the process that asks it.
#[test]
fn s_088_pam_leaves_no_trace() {
    let services = Services::new();
    let script = format!(
        "#!/bin/sh\ngiven=$(tr -d '\\000')\necho \"$given\"\necho \"$given\" >&2\ntest \"$given\" = '{RIGHT}'\n"
    );
    let script = services.place().file_with_mode("script", script, 0o755);
    let rules =
        format!("auth required pam_exec.so expose_authtok stdout {script}\naccount required pam_permit.so\n");
    play(|_| Row::of(&services.chain("app", &rules, "")));
}

/// The search itself finds what it is for.
#[test]
fn a_leak_in_any_spelling_is_found() {
    let found = |text: &str| Canaries::default().search(text);
    for leak in [
        format!("value={RIGHT},x"),
        format!("0x{}", hex(RIGHT.as_bytes())),
        hex(WRONG.as_bytes()).to_uppercase(),
        format!("{:?}", RIGHT.as_bytes()),
        STANDARD_NO_PAD.encode(RIGHT),
        STANDARD_NO_PAD.encode(format!("a{RIGHT}")),
        STANDARD_NO_PAD.encode(format!("alice:{WRONG}\n")),
        format!("response {}", "0123456789abcdef".repeat(8)),
    ] {
        assert!(found(&leak).is_some(), "not found: {leak}");
    }
    assert_eq!(found(&format!("fingerprint {}", "0123456789abcdef".repeat(4))), None);
}

/// A chain of one module, and where its secret stands.
struct Row {
    module: String,
    auth: Auth,
    environment: Vec<(&'static str, &'static str)>,
    /// A file of the module's that must not hold the secret either.
    kept: Option<&'static str>,
}

/// Where the chain is written.
#[derive(Clone, Copy)]
enum Auth {
    Argument,
    Environment,
    File,
}

impl Row {
    fn of(module: &str) -> Self {
        Self { module: module.to_owned(), auth: Auth::Argument, environment: Vec::new(), kept: None }
    }

    /// A gateway that logs all there is, with the chain on a Unix socket and on TCP, which takes TLS.
    fn gateway(&self, place: &Place, format: &str) -> Gateway {
        let options = match self.auth {
            Auth::Argument => format!(",auth={}", self.module),
            Auth::Environment | Auth::File => String::new(),
        };
        let mut arguments = vec![
            format!("--bind={}{options}", place.text("door")),
            format!("--bind-tcp=127.0.0.1:0{options}"),
            "--refusal-delay=50ms".to_owned(),
            "--debug=all".to_owned(),
            format!("--log-format={format}"),
        ];
        if let Auth::File = self.auth {
            let lines = format!("auth = '{0}'\ntcp-auth = '{0}'\n", self.module);
            arguments.push(format!("--config={}", place.file("countersign.toml", lines)));
        }
        Gateway::start_with(&arguments, |command| {
            command.env("COUNTERSIGN_LOG", "trace").envs(self.environment.iter().copied());
            if let Auth::Environment = self.auth {
                command.env("COUNTERSIGN_AUTH", &self.module).env("COUNTERSIGN_TCP_AUTH", &self.module);
            }
        })
    }
}

/// Right and wrong logins at one chain, in both forms of the log, and then the search.
fn play(row: impl Fn(&Place) -> Row) {
    for format in ["text", "json"] {
        let place = Place::new();
        let row = row(&place);
        let gateway = row.gateway(&place, format);
        let mut canaries = Canaries::default();
        // Our own bytes: the response, and the salt that it is made with, are known to the test.
        for (secret, is_let_in) in [(RIGHT, true), (WRONG, false)] {
            canaries.log_in(&place.path("door"), secret, is_let_in);
        }
        for (secret, code) in [(RIGHT, 0), (WRONG, 77)] {
            for mut client in clients(&place, &gateway, secret) {
                let finished =
                    run(&mut client).expect_code(code).expect_text("DEBUG we say hello: user \"alice\"");
                canaries.absent_from("what the client prints", &finished.all());
            }
        }
        for (word, most) in [("auth success", 5), ("auth failure", 5), ("the client says hello: user", 10)] {
            let all = gateway.daemon().eventually(|| gateway.log().matches(word).count() >= most);
            assert!(all, "{word} of each client:\n{}", gateway.log());
        }
        canaries.absent_from("the log", &gateway.log());
        for path in files_in(&gateway.place().path("")).iter().chain(&row.kept.map(|name| place.path(name))) {
            // Sockets keep nothing.
            if !path.is_file() {
                continue;
            }
            let content = fs::read(path).expect("a file that was just listed");
            canaries.absent_from(&path.display().to_string(), &String::from_utf8_lossy(&content));
        }
    }
}

/// Our client with this password, in each way that it takes one.
fn clients(place: &Place, gateway: &Gateway, secret: &str) -> Vec<Command> {
    let door = place.text("door");
    let (tls, unix) = (gateway.port(), format!("unix://alice@{door}"));
    let file = format!("--password-file={}", place.file("given", secret));
    let with_secret = format!("tls://alice:{secret}@127.0.0.1:{tls}/");
    let info = |arguments: &[&str]| {
        let arguments = [&["info", "--trust-on-first-use", "--debug=auth"], arguments].concat();
        let mut command = countersign(place, &arguments);
        command.env("COUNTERSIGN_LOG", "trace");
        command
    };
    let mut by_variable = info(&[&unix]);
    by_variable.env("XPRA_PASSWORD", secret);
    let mut by_address_in_variable = info(&[]);
    by_address_in_variable.env("COUNTERSIGN_SERVER_ADDRESS", format!("unix://alice:{secret}@{door}"));
    vec![info(&[&with_secret]), info(&[&file, &unix]), by_variable, by_address_in_variable]
}

/// A table of our own with alice in it.
fn table(place: &Place) -> String {
    let table = place.text("users.sdb");
    must(&mut countersign(place, &["users", "init", &table]));
    let mut add = countersign(place, &["users", "add", "--stdin", &table, "alice"]);
    run_with_input(&mut add, RIGHT.as_bytes()).expect_success();
    table
}

/// What must be nowhere.
struct Canaries {
    secrets: Vec<Vec<u8>>,
}

impl Default for Canaries {
    fn default() -> Self {
        Self { secrets: [RIGHT, WRONG].map(|secret| secret.as_bytes().to_vec()).to_vec() }
    }
}

impl Canaries {
    /// Logs in with our own bytes, or is refused, and remembers what was sent.
    fn log_in(&mut self, door: &Path, secret: &str, is_let_in: bool) {
        let mut stream = dial_unix(door);
        let caps = with(honest("alice"), "digest", texts(&["hmac+sha512", "xor"]));
        wire::send(&mut stream, &hello(caps.clone()));
        let challenge = wire::read(&mut stream).challenge();
        let response = wire::answer(&challenge, &SALT, secret.as_bytes());
        self.secrets.push(wire::combined(&challenge, &SALT));
        self.secrets.push(response.clone());
        let caps = with(without(caps, "challenge"), "challenge_response", response.as_slice().into());
        wire::send(&mut stream, &hello(with(caps, "challenge_client_salt", Value::from(SALT.as_slice()))));
        let expected = if is_let_in { "hello" } else { "disconnect" };
        let answer = wire::read(&mut stream);
        assert!(matches!(&answer, Received::Packet(kind, _) if kind == expected), "{answer:?}");
        self.absent_from("the answer", &format!("{answer:?}"));
    }

    #[track_caller]
    fn absent_from(&self, place: &str, text: &str) {
        if let Some(found) = self.search(text) {
            panic!("{place} holds `{found}`:\n{text}");
        }
    }

    /// The first spelling of a secret, or anything as long as a response, in `text`.
    fn search(&self, text: &str) -> Option<String> {
        let text = text.to_lowercase();
        let spelt = self.secrets.iter().flat_map(|secret| spellings(secret));
        let responses = text.split(|letter: char| !letter.is_ascii_hexdigit());
        // A fingerprint has 64 digits; responses, salts and derived salts have 128.
        let responses = responses.filter(|digits| digits.len() > 64).map(str::to_owned);
        spelt.filter(|spelling| text.contains(spelling)).chain(responses).next()
    }
}

/// A secret raw, in hexadecimal, as a list of numbers, and in base64 wherever in its three bytes it begins; all in
/// lower case, as the text that is searched.
fn spellings(secret: &[u8]) -> Vec<String> {
    let numbers = format!("{secret:?}");
    let mut spellings = vec![hex(secret), numbers.trim_matches(['[', ']']).to_owned()];
    spellings.extend(String::from_utf8(secret.to_vec()));
    for before in 0..3 {
        let shifted = STANDARD_NO_PAD.encode([&[0; 2][..before], secret].concat());
        // The letters at both ends also depend on the neighbours.
        let inner = &shifted[[0, 2, 3][before]..shifted.len() - 1];
        spellings.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
    }
    spellings.iter().map(|spelling| spelling.to_lowercase()).collect()
}

/// Every file below a folder.
fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder of the test").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Long, unlike any word, and the same in addresses, JSON and debug output.
const RIGHT: &str = "canary-4711-quickbrownfox-right";
const WRONG: &str = "canary-0815-lazydogfence-wrong";
const SALT: [u8; 32] = *b"thirty-two bytes of client salt!";
