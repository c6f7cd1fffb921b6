//! HTTP: `curl` to a server on a Unix socket, and nginx as a backend that is told the client's address.

use std::process::Command;

use countersign_interop::{
    Place,
    certificate::Pair,
    gateway::{Door, Gateway},
    nginx::Nginx,
    process::{must, run},
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

#[test]
fn curl_speaks_tls_to_the_gateway_and_the_gateway_to_nginx() {
    let place = Place::new();
    let web = Nginx::start();
    let Pair { cert, key } = Pair::of_localhost(&place, "gateway");
    let gateway = Gateway::start(&[
        format!("--bind-ssl=127.0.0.1:0,protocol=stream,auth=none,ssl-cert={cert},ssl-key={key}"),
        format!("--backend=tls:127.0.0.1:{},ca={},server-name=localhost", web.tls, web.identity.cert),
    ]);
    let page = format!("https://localhost:{}/page", gateway.port());
    assert_eq!(curl(&["--cacert", &cert, &page]), "a page over TLSv1.3\n");
    // Neither end takes the other for somebody else.
    assert_eq!(
        run(Command::new("curl").args(["--silent", "--cacert", &web.identity.cert, &page])).code,
        CURL_CERTIFICATE
    );
    let gateway = Gateway::start(&[
        "--bind-tcp=127.0.0.1:0,protocol=stream,auth=none".to_owned(),
        format!("--backend=tls:127.0.0.1:{},ca={cert},server-name=localhost", web.tls),
    ]);
    let refused = run(Command::new("curl").args([
        "--silent",
        "--max-time",
        "40",
        &address("127.0.0.1", gateway.port()),
    ]));
    assert_ne!(refused.code, 0, "{}", refused.all());
    assert!(gateway.log().contains("certificate"), "the log says why:\n{}", gateway.log());
}

/// The exit code of curl for a server that it cannot verify.
const CURL_CERTIFICATE: i32 = 60;

fn address(host: &str, port: u16) -> String {
    format!("http://{host}:{port}/address")
}

fn curl(arguments: &[&str]) -> String {
    must(
        Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "40"]).args(arguments),
    )
}
