//! WebSocket with real programs at the other end: Xpra's client and server, a library of Python's, curl, and nginx in
//! front of the gateway.

use std::process::Command;

use countersign_interop::{
    Place,
    gateway::{Door, Gateway, countersign},
    net::{free_port, wait_for_tcp},
    nginx::FrontDoor,
    process::{run, run_with_input},
    wire::{self, hello, honest},
    xpra::{self, Session, exit},
};

#[test]
fn the_real_xpra_client_logs_in_over_websocket_on_every_socket_that_takes_it() {
    let place = Place::new();
    let (right, wrong) = (place.file("right", "sesame"), place.file("wrong", "mesame"));
    let session = Session::open("behind-the-web");
    for kind in ["bind-ws", "bind-tcp"] {
        let gateway = Gateway::start(&[
            format!("--{kind}=127.0.0.1:0,auth=file(filename={right})"),
            format!("--backend=xpra+tcp:127.0.0.1:{}", session.port),
        ]);
        let address = format!("ws://alice@127.0.0.1:{}/", gateway.port());
        for (file, code) in [(&right, exit::OK), (&wrong, exit::CONNECTION_FAILED)] {
            let finished = xpra::info(&address, &[format!("--password-file={file}")], &[]).expect_code(code);
            if code == exit::OK {
                xpra::expect_answer_of(&session, finished);
            }
        }
        let plain = xpra::info(&address.replace("ws:", "tcp:"), &[format!("--password-file={right}")], &[]);
        assert_eq!(plain.code == exit::OK, kind == "bind-tcp", "{}", plain.all());
    }
}

#[test]
fn our_client_logs_in_at_the_websocket_of_a_real_xpra_server() {
    let place = Place::new();
    let (right, wrong) = (place.file("right", "sesame"), place.file("wrong", "mesame"));
    let port = free_port();
    let session = Session::start("on-the-web", &[], |command| {
        command.arg(format!("--bind-ws=127.0.0.1:{port}")).arg(format!("--ws-auth=file:filename={right}"));
    });
    wait_for_tcp(session.server(), port);
    let info = |file: &str| {
        let arguments = ["info", "--password-file", file, &format!("ws://alice@127.0.0.1:{port}/")];
        run(&mut countersign(&place, &arguments))
    };
    let told = info(&right).expect_success().stdout;
    assert!(told.contains(&session.name), "{told}");
    let refused = info(&wrong).expect_code(77);
    assert!(refused.stderr.contains("refused"), "{}", refused.all());
    // A real client over a door of ours, which speaks WebSocket for it.
    let door = Door::open(&format!("ws://alice@127.0.0.1:{port}/"), &["--password-file", &right]);
    let through = xpra::info(&format!("tcp://alice@127.0.0.1:{}/", door.port), &[], &[]);
    xpra::expect_answer_of(&session, through.expect_success());
}

#[test]
fn our_client_logs_in_at_our_gateway_in_the_clear_and_in_tls() {
    let place = Place::new();
    let right = place.file("right", "sesame");
    let gateway = Gateway::start(&[
        format!("--bind-ws=127.0.0.1:0,websocket-path=/door,auth=file(filename={right})"),
        format!("--bind-wss=127.0.0.1:0,auth=file(filename={right})"),
    ]);
    let root = gateway.root();
    for (scheme, path, confidential) in [("ws", "door", false), ("wss", "", true)] {
        let port = gateway.ports()[usize::from(confidential)];
        let address = format!("{scheme}://alice@127.0.0.1:{port}/{path}");
        let arguments = ["info", "--json", "--ca", &root, "--password-file", &right, &address];
        let told = run(&mut countersign(&place, &arguments)).expect_success().stdout.replace(' ', "");
        assert!(told.contains(&format!("\"transport\":\"{scheme}\"")), "{told}");
        assert!(told.contains(&format!("\"confidential\":{confidential}")), "{told}");
        let lost =
            run(&mut countersign(&place, &["info", "--ca", &root, &format!("{address}x")])).expect_code(69);
        assert!(lost.stderr.contains("it answers 404 in place of an upgrade"), "{}", lost.all());
        // What follows the login comes back from the echo behind it, whole and in order.
        let text = "0123456789abcdef".repeat(20_000);
        let arguments = ["connect", "--ca", &root, "--password-file", &right, &address];
        let echoed = run_with_input(&mut countersign(&place, &arguments), text.as_bytes()).expect_success();
        assert!(echoed.stdout.ends_with(&text), "{} bytes came back", echoed.stdout.len());
    }
}

#[test]
fn a_library_of_python_is_let_in_from_listed_pages_only() {
    let gateway =
        Gateway::start(&["--bind-ws=127.0.0.1:0,websocket-origins=https://app.example,auth=none".to_owned()]);
    let packet = hello(wire::without(honest("alice"), "challenge"));
    let say = |field: &str| {
        let address = format!("ws://127.0.0.1:{}/", gateway.port());
        run_with_input(Command::new("/usr/bin/python3").args(["-c", SAY, &address, field]), &packet)
    };
    for field in ["", "Origin: https://app.example"] {
        let told = say(field).expect_success().stdout;
        assert!(told.contains("hello") && told.contains("transport"), "{told}");
    }
    let refused = say("Origin: https://evil.example");
    assert!(refused.code != 0 && refused.stderr.contains("403"), "{}", refused.all());
}

#[test]
fn curl_is_told_that_there_is_no_page_and_its_upgrade_is_accepted() {
    let gateway = Gateway::start(&["--bind-tcp=127.0.0.1:0,auth=none"]);
    let port = gateway.port();
    for scheme in ["http", "https"] {
        let curl = |arguments: &[&str]| {
            let page = format!("{scheme}://127.0.0.1:{port}/");
            let usual =
                ["--silent", "--show-error", "--insecure", "--http1.1", "--include", "--max-time", "40"];
            run(Command::new("curl").args(usual).args(arguments).arg(page))
        };
        let page = curl(&[]).expect_success().stdout;
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.contains("This is the login gateway of a service"),
            "{page}"
        );
        let head = curl(&["--head"]).expect_success().stdout;
        assert!(head.contains("Connection: close") && !head.contains("login gateway"), "{head}");
        assert!(curl(&["--data", "x=y"]).expect_success().stdout.starts_with("HTTP/1.1 405"));
        assert!(
            curl(&["--header", &format!("X: {}", "y".repeat(20_000))]).stdout.starts_with("HTTP/1.1 431")
        );
        let upgraded = curl(&[
            "--max-time",
            "1",
            "--header",
            "Connection: Upgrade",
            "--header",
            "Upgrade: websocket",
            "--header",
            "Sec-WebSocket-Version: 13",
            "--header",
            "Sec-WebSocket-Protocol: binary",
            "--header",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]);
        assert!(upgraded.stdout.starts_with("HTTP/1.1 101"), "{}", upgraded.all());
        assert!(upgraded.stdout.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{}", upgraded.all());
    }
}

#[test]
fn nginx_in_front_says_who_it_is_and_nobody_else_can() {
    let gateway = Gateway::start(&[
        "--bind-ws=127.0.0.1:0,protocol=stream,auth=http-header(user-header=X-Remote-User,proxy=127.0.0.2)",
    ]);
    let nginx = FrontDoor::start(gateway.port(), "127.0.0.2", &[("alice", "sesame"), ("bob", "mesame")]);
    let say = |port: u16, fields: &[&str]| {
        let address = format!("ws://127.0.0.1:{port}/");
        run_with_input(Command::new("/usr/bin/python3").args(["-c", SAY, &address]).args(fields), b"")
    };
    // `alice:sesame`, in base64 as RFC 7617 has it.
    let login = "Authorization: Basic YWxpY2U6c2VzYW1l";
    for fields in [&[login][..], &[login, "X-Remote-User: root"]] {
        let told = say(nginx.port, fields).expect_success().stdout;
        assert!(told.contains("\"user\":\"alice\"") && told.contains("\"http-header\""), "{told}");
        assert!(told.contains("pong"), "{told}");
    }
    assert!(say(nginx.port, &["X-Remote-User: alice"]).stderr.contains("401"), "nginx asks for itself");
    // Around the proxy, with the very same field.
    let forged = say(gateway.port(), &["X-Remote-User: alice"]);
    assert!(forged.code != 0 && !forged.stdout.contains("alice"), "{}", forged.all());
    let log = gateway.log();
    assert!(log.contains("the client is not the proxy that is trusted"), "{log}");
}

/// Opens a WebSocket with the fields, sends what it reads, and prints the answer; then waits for a pong.
const SAY: &str = r"
import asyncio, sys, websockets
async def main():
    fields = [tuple(field.split(': ', 1)) for field in sys.argv[2:] if field]
    async with websockets.connect(sys.argv[1], subprotocols=['binary'], extra_headers=fields) as socket:
        assert socket.subprotocol == 'binary'
        text = sys.stdin.buffer.read()
        if text:
            await socket.send([text[:7], text[7:]])
        print(await asyncio.wait_for(socket.recv(), 20))
        if not text:
            await asyncio.wait_for(await socket.ping(), 20)
            print('pong')
asyncio.run(main())
";
