//! The examples of the library do what their first lines promise: a login that works, and one that does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use countersign_interop::{
    Place,
    account::Account,
    gateway::{Gateway, binary, countersign, example},
    net::{dial_unix, wait_for_unix},
    process::{Daemon, program, run},
    wire::{self, Received},
};
use nix::unistd::{Uid, User};

#[test]
fn embed_server_greets_its_own_clients_by_name() {
    let server = Example::start("embed_server", &[]);
    let greeting = format!("hello, {}\n", me());
    let finished = run(&mut countersign(&server.place, &["connect", &server.address()])).expect_success();
    assert_eq!(finished.stdout, greeting);
    // Its twin is as good a client, and the server goes on after whoever speaks no protocol at all.
    let mut stranger = dial_unix(&server.socket());
    wire::send(&mut stranger, b"HELP\r\n");
    let answer = wire::read(&mut stranger);
    assert!(matches!(&answer, Received::Text(text) if text.contains("protocol error")), "{answer:?}");
    let mut client = Command::new(example("embed_client"));
    let finished = run(client.arg(server.address()).stdin(Stdio::null())).expect_success();
    assert_eq!(finished.stdout, greeting);
    finished.expect_text("let in at");
    assert!(server.daemon.output().contains("turned away: "), "{}", server.daemon.output());
}

#[test]
fn embed_server_turns_another_account_away() {
    let Some(other) = Account::create() else { return };
    let server = Example::start("embed_server", &[]);
    server.open_to_all();
    // A copy, for the account may not be able to reach the folder of the build.
    let client = server.place.text("client");
    fs::copy(binary(), &client).expect("a copy in the test's own folder");
    let mut client = other.command(&client);
    let finished = run(client.args(["connect", &server.address()])).expect_code(77);
    assert_eq!(finished.stdout, "", "nothing of the server's own reaches it");
    finished.expect_text("authentication failed");
    assert!(server.daemon.output().contains("peer_denied"), "{}", server.daemon.output());
}

#[test]
fn embed_client_logs_in_with_the_right_password_alone() {
    let place = Place::new();
    let socket = place.text("gate");
    let password = place.file("password", "right");
    let _gateway = Gateway::start(&[format!("--bind={socket},auth=file(filename={password})")]);
    let attempt = |password: &str| {
        let mut client = Command::new(example("embed_client"));
        client.arg(format!("unix://alice@{socket}")).env("XPRA_PASSWORD", password);
        run(client.env("HOME", place.path("home")))
    };
    let finished = attempt("right").expect_success().expect_text("let in at");
    assert!(finished.stdout.starts_with('{'), "whoami answers in JSON: {}", finished.all());
    let finished = attempt("wrong").expect_code(1).expect_text("authentication failed");
    assert_eq!(finished.stdout, "");
}

#[test]
fn embed_http_answers_the_owners_requests() {
    let server = Example::start("embed_http", &[]);
    let finished = run(&mut curl(Command::new("curl"), &server)).expect_success();
    assert_eq!(finished.stdout, format!("{} asks for /page\n", me()));
    let Some(other) = Account::create() else { return };
    server.open_to_all();
    let finished = run(&mut curl(other.command("curl"), &server));
    assert_ne!(finished.code, 0, "{}", finished.all());
    assert_eq!(finished.stdout, "");
    run(&mut curl(Command::new("curl"), &server)).expect_success();
}

#[test]
fn custom_module_lets_in_within_its_hours() {
    let open = Example::start("custom_module", &["hours(from=0,to=23)"]);
    let finished = run(&mut countersign(&open.place, &["connect", &open.address()])).expect_success();
    assert_eq!(finished.stdout, "come in\n");
    // No hour is from 23 on and until 0.
    let closed = Example::start("custom_module", &["hours(from=23,to=0)"]);
    let finished = run(&mut countersign(&closed.place, &["connect", &closed.address()]));
    assert_eq!(finished.expect_code(77).expect_text("authentication failed").stdout, "");
    assert!(closed.daemon.output().contains("outside the hours"), "{}", closed.daemon.output());
    // Its options are checked like those of the builtin ones.
    let mut command = Command::new(example("custom_module"));
    let finished = run(command.args(["unused", "hours(until=9)"]).current_dir(closed.place.path("")));
    finished.expect_code(1).expect_text("use one of: from, to");
}

/// A running example that listens on a Unix socket.
struct Example {
    daemon: Daemon,
    place: Place,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let place = Place::new();
        let mut command = program(example(name).to_str().expect("a UTF-8 target folder"));
        command.arg(place.path("app")).args(arguments);
        let daemon = Daemon::start(command);
        wait_for_unix(&daemon, &place.path("app"));
        Self { daemon, place }
    }

    fn socket(&self) -> PathBuf {
        self.place.path("app")
    }

    fn address(&self) -> String {
        format!("unix://{}", self.place.text("app"))
    }

    /// Lets every account reach the socket, so that only the example itself decides.
    fn open_to_all(&self) {
        self.place.open_to_all();
        let mode = fs::Permissions::from_mode(0o666);
        fs::set_permissions(self.place.path("app"), mode).expect("permissions of an own socket");
    }
}

fn curl(mut command: Command, server: &Example) -> Command {
    command.args(["--silent", "--show-error", "--fail", "--max-time", "40", "--unix-socket"]);
    command.arg(server.place.path("app")).arg("http://app/page");
    command
}

fn me() -> String {
    User::from_uid(Uid::effective()).expect("the user database").expect("an own account").name
}
