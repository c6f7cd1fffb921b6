//! A real HAProxy in front of a gateway, which says by the PROXY protocol where its clients are.

use std::net::Ipv4Addr;

use crate::{
    Place,
    net::{free_port, wait_for_tcp},
    process::{Daemon, program},
};

/// Passes streams on, with a header in front of each.
#[derive(Debug)]
pub struct Haproxy {
    /// Its port on every loopback address.
    pub port: u16,
    /// The process.
    pub server: Daemon,
    _place: Place,
}

impl Haproxy {
    /// Starts an HAProxy that reaches the port `gateway` from [`HOP`], with more options of its server line:
    /// `send-proxy` and its kind.
    #[must_use]
    pub fn start(gateway: u16, options: &str) -> Self {
        let (place, port) = (Place::new(), free_port());
        let config = format!(
            "global\n    maxconn 100\ndefaults\n    mode tcp\n    timeout connect 30s\n    timeout client 60s\n    \
             timeout server 60s\nlisten door\n    bind 0.0.0.0:{port}\n    \
             server gateway 127.0.0.1:{gateway} source {HOP} {options}\n"
        );
        let mut command = program("haproxy");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["-db", "-f", &place.file("haproxy.cfg", config)]);
        let server = Daemon::start(command);
        wait_for_tcp(&server, port);
        Self { port, server, _place: place }
    }
}

/// The address that its connections come from: no client of a test has it.
pub const HOP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
