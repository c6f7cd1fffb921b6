//! `hosts` beside the real TCP wrappers: each table is put to `tcpdmatch` and to the gateway.

use std::{fs, process::Command};

use countersign_interop::{
    Place,
    gateway::Gateway,
    process::{Finished, run},
};

#[test]
fn the_gateway_decides_as_tcp_wrappers_do() {
    for (allow, deny) in TABLES {
        let tables = Tables::write(allow, deny);
        for client in ["127.0.0.1", "127.0.0.9", "127.1.2.3", "::1"] {
            let expected = tables.wrappers_let_in(client);
            assert_eq!(tables.gateway_lets_in(client), expected, "{client} by\n{allow}--- deny\n{deny}");
        }
    }
}

/// Here we differ on purpose (W21): the wrappers behind Xpra take every IPv6 address for a local host name, because
/// it has no dot. `LOCAL` is the loopback and real names without a dot.
#[test]
fn local_is_the_loopback() {
    let tables = Tables::write("xpra: LOCAL\n", "ALL: ALL\n");
    for client in ["127.0.0.1", "127.0.0.9", "::1"] {
        assert!(tables.gateway_lets_in(client), "{client} is local");
    }
    let tables = Tables::write("", "xpra: LOCAL\n");
    assert!(!tables.gateway_lets_in("127.0.0.1"));
}

#[test]
fn the_name_of_the_daemon_is_ours_or_xpras_or_the_one_given() {
    for (line, expected) in [("countersign: ALL\n", true), ("xpra: ALL\n", true), ("sshd: ALL\n", false)] {
        assert_eq!(Tables::write(line, "ALL: ALL\n").gateway_lets_in("127.0.0.1"), expected, "{line}");
    }
    let mut tables = Tables::write("payroll: ALL\n", "ALL: ALL\n");
    assert!(!tables.gateway_lets_in("127.0.0.1"));
    tables.options = ",daemon=payroll".to_owned();
    assert!(tables.gateway_lets_in("127.0.0.1"));
}

#[test]
fn both_links_of_a_chain_must_agree() {
    let tables = Tables::write("xpra: 127.0.0.1\n", "ALL: ALL\n");
    let chain = format!("{},auth=reject", tables.module());
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth={chain}")]);
    let finished =
        countersign_interop::xpra::info(&format!("tcp://a:b@127.0.0.1:{}/", gateway.port()), &[], &[]);
    finished
        .expect_code(countersign_interop::xpra::exit::CONNECTION_FAILED)
        .expect_text("authentication failed");
}

/// A pair of tables in a folder of their own.
struct Tables {
    place: Place,
    options: String,
}

impl Tables {
    fn write(allow: &str, deny: &str) -> Self {
        let place = Place::new();
        place.file("hosts.allow", allow);
        place.file("hosts.deny", deny);
        Self { place, options: String::new() }
    }

    fn module(&self) -> String {
        format!(
            "hosts(allow={},deny={}{})",
            self.place.text("hosts.allow"),
            self.place.text("hosts.deny"),
            self.options
        )
    }

    /// What the real library says; `-d` makes it read the tables of the current folder.
    fn wrappers_let_in(&self, client: &str) -> bool {
        let tool = ["/usr/sbin/tcpdmatch", "/usr/bin/tcpdmatch"]
            .into_iter()
            .find(|path| fs::exists(path).is_ok_and(|is| is));
        let mut command = Command::new(tool.expect("tcpdmatch is not installed: `cargo xtask deps`"));
        let finished =
            run(command.args(["-d", "xpra", client]).current_dir(self.place.path(""))).expect_success();
        let granted = finished.stdout.contains("access:   granted");
        assert!(granted || finished.stdout.contains("access:   denied"), "{}", finished.stdout);
        granted
    }

    /// Connects from this address of the loopback and sees whether the backend answers.
    fn gateway_lets_in(&self, client: &str) -> bool {
        let host = if client.contains(':') { "[::1]" } else { "127.0.0.1" };
        let gateway =
            Gateway::start(&[format!("--bind-tcp={host}:0,protocol=stream,auth={}", self.module())]);
        let finished = knock(host, gateway.port(), client);
        let let_in = finished.stdout.starts_with('{');
        assert!(let_in || finished.stdout.is_empty(), "whoami or nothing: {}", finished.all());
        let_in
    }
}

fn knock(host: &str, port: u16, client: &str) -> Finished {
    let target = if host.starts_with('[') {
        format!("TCP6:{host}:{port}")
    } else {
        format!("TCP4:{host}:{port},bind={client}")
    };
    run(Command::new("socat").args(["-t", "20", "-", &target]))
}

/// hosts.allow and hosts.deny.
const TABLES: &[(&str, &str)] = &[
    ("", ""),
    ("", "ALL: ALL\n"),
    ("xpra: 127.0.0.1\n", "ALL: ALL\n"),
    ("xpra: 127.0.0.\n", "ALL: ALL\n"),
    ("xpra: 127.\n", "xpra: 127.0.0.9\n"),
    ("xpra: 127.0.0.0/255.255.255.0\n", "ALL: ALL\n"),
    ("xpra: 127.0.0.0/255.0.0.0 EXCEPT 127.0.0.9\n", "ALL: ALL\n"),
    ("xpra: [::1]\n", "ALL: ALL\n"),
    ("xpra: [::]/64\n", "ALL: ALL\n"),
    ("", "xpra: [::1], 127.0.0.9\n"),
    ("ALL EXCEPT sshd: 127.0.0.1\n", "ALL: ALL\n"),
    ("ALL EXCEPT xpra: 127.0.0.1\n", "ALL: ALL\n"),
    ("# a comment\nxpra: 127.0.0.1, \\\n 127.0.0.9\n", "ALL: ALL\n"),
];
