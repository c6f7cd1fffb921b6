//! A real nginx: as a daemon behind the gateway, and as a proxy in front of it.

use crate::{
    Place,
    account::is_root,
    certificate::Pair,
    net::{free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, program},
};

/// A running nginx: pages on a Unix socket, and a port that insists on the PROXY protocol.
#[derive(Debug)]
pub struct Nginx {
    /// Its Unix socket, with the pages `/page` and `/size`.
    pub socket: String,
    /// Its port that insists on the PROXY protocol, with the page `/address`.
    pub proxied: u16,
    /// Its port for TLS, with the page `/page`.
    pub tls: u16,
    /// What it proves to be `localhost` with.
    pub identity: Pair,
    _server: Daemon,
    _place: Place,
}

impl Nginx {
    /// Starts an nginx.
    #[must_use]
    pub fn start() -> Self {
        let place = Place::new();
        let (socket, proxied, tls) = (place.text("web"), free_port(), free_port());
        let identity = Pair::of_localhost(&place, "nginx");
        let secured = format!(
            "listen 127.0.0.1:{tls} ssl;\n        ssl_protocols TLSv1.2 TLSv1.3;\n        \
             ssl_certificate {};\n        ssl_certificate_key {};",
            identity.cert, identity.key
        );
        let server = start(&place, &pages(&socket, proxied, &secured));
        wait_for_unix(&server, socket.as_ref());
        wait_for_tcp(&server, proxied);
        wait_for_tcp(&server, tls);
        Self { socket, proxied, tls, identity, _server: server, _place: place }
    }
}

/// An nginx in front of a gateway: it asks for names and passwords itself, and passes WebSocket on with the name.
#[derive(Debug)]
pub struct FrontDoor {
    /// Its port.
    pub port: u16,
    _server: Daemon,
    _place: Place,
}

impl FrontDoor {
    /// Starts an nginx that reaches `gateway` from the loopback address `from` and knows these users.
    #[must_use]
    pub fn start(gateway: u16, from: &str, users: &[(&str, &str)]) -> Self {
        let (place, port) = (Place::new(), free_port());
        let lines: String =
            users.iter().map(|(name, password)| format!("{name}:{{PLAIN}}{password}\n")).collect();
        let users = place.file("users", lines);
        let server = format!(
            r#"
    server {{
        listen 127.0.0.1:{port};
        auth_basic "front door";
        auth_basic_user_file {users};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            proxy_bind {from};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Remote-User $remote_user;
        }}
    }}
"#
        );
        let server = start(&place, &server);
        wait_for_tcp(&server, port);
        Self { port, _server: server, _place: place }
    }
}

/// Starts an nginx with these servers.
fn start(place: &Place, servers: &str) -> Daemon {
    let mut command = program("nginx");
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let config = place.file("nginx.conf", whole(place, servers));
    command.args(["-e", "stderr", "-p", &place.text(""), "-c", &config]);
    Daemon::start(command)
}

fn pages(socket: &str, proxied: u16, secured: &str) -> String {
    format!(
        r#"
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
"#
    )
}

fn whole(place: &Place, servers: &str) -> String {
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
    {servers}
}}
"#,
        pid = place.text("pid"),
    )
}
