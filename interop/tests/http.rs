//! HTTP: `curl` to a server on a Unix socket, and nginx as a backend that is told the client's address.

use std::process::Command;

use countersign_interop::{
    Place,
    account::is_root,
    gateway::{Door, Gateway},
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, must, program, run},
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
    let (cert, key) = certificate(&place);
    let gateway = Gateway::start(&[
        format!("--bind-ssl=127.0.0.1:0,protocol=stream,auth=none,ssl-cert={cert},ssl-key={key}"),
        format!("--backend=tls:127.0.0.1:{},ca={},server-name=localhost", web.tls, web.certificate),
    ]);
    let page = format!("https://localhost:{}/page", gateway.port());
    assert_eq!(curl(&["--cacert", &cert, &page]), "a page over TLSv1.3\n");
    // Neither end takes the other for somebody else.
    assert_eq!(
        run(Command::new("curl").args(["--silent", "--cacert", &web.certificate, &page])).code,
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

/// A certificate for `localhost` that vouches for itself, and its key.
fn certificate(place: &Place) -> (String, String) {
    let (cert, key) = (place.text("cert.pem"), place.text("key.pem"));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args([
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "keyUsage=digitalSignature",
    ]);
    command.args(["-addext", "basicConstraints=critical,CA:false", "-keyout", &key, "-out", &cert]);
    must(&mut command);
    (cert, key)
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

/// A running nginx: pages on a Unix socket, and a port that insists on the PROXY protocol.
struct Nginx {
    socket: String,
    proxied: u16,
    tls: u16,
    certificate: String,
    _server: Daemon,
    _place: Place,
}

impl Nginx {
    fn start() -> Self {
        let place = Place::new();
        let (socket, proxied, tls) = (place.text("web"), free_port(), free_port());
        let (certificate, key) = certificate(&place);
        let secured = format!(
            "listen 127.0.0.1:{tls} ssl;\n        ssl_protocols TLSv1.2 TLSv1.3;\n        \
             ssl_certificate {certificate};\n        ssl_certificate_key {key};"
        );
        let config = configuration(&place, &socket, proxied, &secured);
        let mut command = program("nginx");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["-e", "stderr", "-p", &place.text(""), "-c", &place.file("nginx.conf", config)]);
        let server = Daemon::start(command);
        wait_for_unix(&server, socket.as_ref());
        wait_for_tcp(&server, proxied);
        wait_for_tcp(&server, tls);
        Self { socket, proxied, tls, certificate, _server: server, _place: place }
    }
}

fn configuration(place: &Place, socket: &str, proxied: u16, secured: &str) -> String {
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
    server {{
        {secured}
        location = /page {{ return 200 "a page over $ssl_protocol\n"; }}
    }}
}}
"#,
        pid = place.text("pid"),
    )
}
