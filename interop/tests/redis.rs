//! `redis-cli` through the gateway to a real Redis.

use std::{fmt::Write as _, process::Command};

use countersign_interop::{
    Place,
    gateway::{Door, Gateway},
    net::wait_for_unix,
    process::{Daemon, must, program, run_with_input},
};

#[test]
fn redis_cli_reads_and_writes_through_the_gateway() {
    let place = Place::new();
    let (server, socket) = redis(&place);
    let password = place.file("password", "a word for the store");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
        format!("--backend=unix:{socket}"),
    ]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let door = Door::open(&address, &[format!("--password-file={password}")]);
    assert_eq!(cli(door.port, &["SET", "greeting", "hello"]), "OK");
    assert_eq!(cli(door.port, &["GET", "greeting"]), "hello");

    // A pipeline that keeps both directions busy at once.
    let mut commands = String::new();
    for number in 0..50_000 {
        writeln!(commands, "INCRBY total {number}").expect("text");
    }
    let port = door.port.to_string();
    run_with_input(
        Command::new("redis-cli").args(["-p", &port, "--pipe"]),
        commands.replace('\n', "\r\n").as_bytes(),
    )
    .expect_success()
    .expect_text("errors: 0, replies: 50000");
    assert_eq!(cli(door.port, &["GET", "total"]), "1249975000");
    drop(server);
}

#[test]
fn the_end_of_the_server_reaches_the_client() {
    let place = Place::new();
    let (server, socket) = redis(&place);
    let gateway =
        Gateway::start(&["--bind-tcp=127.0.0.1:0,auth=none".to_owned(), format!("--backend=unix:{socket}")]);
    let door = Door::open::<&str>(&format!("tcp://127.0.0.1:{}/", gateway.port()), &[]);
    let port = door.port.to_string();
    let mut command = program("redis-cli");
    command.args(["-p", &port, "--no-raw", "SUBSCRIBE", "news"]);
    let client = Daemon::start(command);
    client.wait_for("the subscription", |output| output.contains("subscribe").then_some(()));
    drop(server);
    client.wait();
    assert!(client.output().contains("Server closed the connection"), "{}", client.output());
}

fn redis(place: &Place) -> (Daemon, String) {
    let socket = place.text("redis");
    let mut command = program("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", &socket]);
    command.args(["--dir", &place.text(""), "--daemonize", "no"]);
    let server = Daemon::start(command);
    wait_for_unix(&server, socket.as_ref());
    (server, socket)
}

fn cli(port: u16, arguments: &[&str]) -> String {
    must(Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments)).trim_end().to_owned()
}
