//! HTTP: `curl` to a server on a Unix socket, and nginx as a backend that is told the client's address.

use std::process::Command;

use countersign_interop::{
    Place,
    account::is_root,
    gateway::{Door, Gateway},
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, must, program},
};

#[test]
fn curl_reaches_a_server_on_a_unix_socket() {
    let place = Place::new();
    let web = Nginx::start();
    let password = place.file("password", "a word for the pages");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
        format!("--backend=unix:{}", web.socket),
    ]);
    let door = Door::open(
        &format!("tcp://alice@127.0.0.1:{}/", gateway.port()),
        &[format!("--password-file={password}")],
    );
    let page = curl(&[&format!("http://127.0.0.1:{}/page", door.port)]);
    assert_eq!(page, "a page\n");
    // Several requests on one connection, a body each way.
    let address = format!("http://127.0.0.1:{}/page", door.port);
    assert_eq!(curl(&[&address, &address, &address]), "a page\n".repeat(3));
    let body = place.file("body", "b".repeat(3_000_000));
    let size = curl(&["--data-binary", &format!("@{body}"), &format!("http://127.0.0.1:{}/size", door.port)]);
    assert_eq!(size, "3000000\n");
}

#[test]
fn nginx_sees_the_address_of_the_client() {
    let web = Nginx::start();
    let gateway = Gateway::start(&[
        "--bind-tcp=127.0.0.1:0,protocol=stream,auth=none".to_owned(),
        format!("--backend=tcp:127.0.0.1:{},proxy-protocol=v2", web.proxied),
    ]);
    // Any address of 127.0.0.0/8 is the client's to take: this one cannot be the gateway's own.
    let seen = curl(&[
        "--interface",
        "127.0.0.9",
        "--local-port",
        "20000-29999",
        &address("127.0.0.1", gateway.port()),
    ]);
    let words: Vec<_> = seen.split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("127.0.0.9", "127.0.0.1"), "the client and the gateway: {seen}");
    let port: u16 = words[1].parse().expect("a port");
    assert!((20_000..30_000).contains(&port), "the client's own port: {seen}");
}

#[test]
fn nginx_sees_an_address_of_ipv6() {
    let web = Nginx::start();
    let gateway = Gateway::start(&[
        "--bind-tcp=[::1]:0,protocol=stream,auth=none".to_owned(),
        format!("--backend=tcp:127.0.0.1:{},proxy-protocol=v2", web.proxied),
    ]);
    let seen = curl(&["--globoff", &address("[::1]", gateway.port())]);
    assert!(seen.starts_with("::1 "), "{seen}");
}

#[test]
fn nginx_sees_the_address_of_a_client_that_logged_in() {
    let place = Place::new();
    let web = Nginx::start();
    let password = place.file("password", "a word for the pages");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=[::1]:0,auth=file(filename={password})"),
        format!("--backend=tcp:127.0.0.1:{},proxy-protocol=v2", web.proxied),
    ]);
    let door = Door::open(
        &format!("tcp://alice@[::1]:{}/", gateway.port()),
        &[format!("--password-file={password}")],
    );
    let seen = curl(&[&address("127.0.0.1", door.port)]);
    assert!(seen.starts_with("::1 "), "{seen}");
}

fn address(host: &str, port: u16) -> String {
    format!("http://{host}:{port}/address")
}

fn curl(arguments: &[&str]) -> String {
    must(
        Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "40"]).args(arguments),
    )
}

/// A running nginx: pages on a Unix socket, and a port that insists on the PROXY protocol.
struct Nginx {
    socket: String,
    proxied: u16,
    _server: Daemon,
    _place: Place,
}

impl Nginx {
    fn start() -> Self {
        let place = Place::new();
        let (socket, proxied) = (place.text("web"), free_port());
        let config = configuration(&place, &socket, proxied);
        let mut command = program("nginx");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["-e", "stderr", "-p", &place.text(""), "-c", &place.file("nginx.conf", config)]);
        let server = Daemon::start(command);
        wait_for_unix(&server, socket.as_ref());
        wait_for_tcp(&server, proxied);
        Self { socket, proxied, _server: server, _place: place }
    }
}

fn configuration(place: &Place, socket: &str, proxied: u16) -> String {
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        folders.iter().map(|name| format!("{name}_temp_path {};\n", place.text(name))).collect();
    // As root the worker would become another account, which cannot enter the test's folder.
    let user = if is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
daemon off;
worker_processes 1;
pid {pid};
events {{}}
http {{
    access_log off;
    {temporary}
    client_max_body_size 10m;
    server {{
        listen unix:{socket};
        location = /page {{ return 200 "a page\n"; }}
        # Answered only when the whole body has arrived, because it is passed on.
        location = /size {{ proxy_pass http://unix:{socket}:/length; }}
        location = /length {{ return 200 "$content_length\n"; }}
    }}
    server {{
        listen 127.0.0.1:{proxied} proxy_protocol;
        location = /address {{ return 200 "$proxy_protocol_addr $proxy_protocol_port $remote_addr\n"; }}
    }}
}}
"#,
        pid = place.text("pid"),
    )
}
