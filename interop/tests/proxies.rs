//! Proxies in front of a gateway that say by the PROXY protocol where their clients are: HAProxy and `curl` (S-83).

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
};

use countersign_interop::{
    Place,
    gateway::{Gateway, counted, countersign},
    haproxy::{HOP, Haproxy},
    net::dial_from,
    process::run,
    wire::{self, Received, Value, hello, honest, with},
    xpra,
};

/// Everything counts for whoever is announced, in both versions of the header: in the audit trail, in penalties, and
/// for real clients of Xpra and ours.
#[test]
fn s_083_behind_haproxy_everything_counts_for_who_is_announced() {
    for options in
        ["send-proxy", "send-proxy-v2-ssl proxy-v2-options crc32c check check-send-proxy inter 100ms"]
    {
        let gate = Gate::open(&[]);
        let haproxy = Haproxy::start(gate.port(), options);
        let through = SocketAddr::from((Ipv4Addr::LOCALHOST, haproxy.port));
        let tries =
            (0..30).position(|_| gate.says(&mut dial_from(GUESSER, through), WRONG) == "session busy");
        assert!(tries.is_some_and(|judged| judged > 0), "{options}: {tries:?}");
        assert_eq!(gate.says(&mut dial_from(GUESSER, through), RIGHT), "session busy");
        assert_eq!(gate.says(&mut dial_from(NEIGHBOUR, through), RIGHT), "hello");

        let password = format!("--password-file={}", gate.place.file("said", RIGHT));
        let address = format!("tcp://alice@127.0.0.1:{}/", haproxy.port);
        xpra::info(&address, std::slice::from_ref(&password), &[])
            .expect_success()
            .expect_text("peer=127.0.0.1:");
        let info = run(&mut countersign(&gate.place, &["info", "--json", &password, &address]));
        let facts: serde_json::Value = serde_json::from_str(&info.expect_success().stdout).expect("JSON");
        assert!(facts.to_string().contains(r#""peer":"127.0.0.1:"#), "{facts}");
        assert_eq!(gate.penalised(), [GUESSER.to_string()]);

        let decided = |outcome: &str, host: Ipv4Addr| {
            let peer = format!("\"tcp:{host}:");
            gate.trail().lines().any(|line| line.contains(outcome) && line.contains(&peer))
        };
        let trail = gate.trail();
        assert!(decided("refused", GUESSER) && !decided("accepted", GUESSER), "{trail}");
        assert!(decided("accepted", NEIGHBOUR) && decided("accepted", Ipv4Addr::LOCALHOST), "{trail}");
        // Its own checks are nobody's login, and it finds somebody there.
        assert!(!decided("accepted", HOP) && !decided("refused", HOP), "{trail}");
        assert_eq!(gate.says(&mut dial_from(NEIGHBOUR, through), RIGHT), "hello");
    }
}

/// Whoever is not listed is not heard, whatever it announces; the hop has to say who is there, and what it does for
/// itself counts for nobody.
#[test]
fn s_083_unlisted_peers_are_refused_and_the_hop_itself_is_never_penalised() {
    let gate = Gate::open(&[]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gate.port()));
    let line = b"PROXY TCP4 127.0.0.3 127.0.0.1 1 2\r\n";
    for (host, said) in [
        (NEIGHBOUR, &line[..]),
        (NEIGHBOUR, LOCAL),
        (HOP, b"PROXY UNKNOWN\r\n"),
        (HOP, b"PROXY TCP4 127.0.0.3 127.0.0.1 1\r\n"),
        (HOP, b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\x7f\0\0\x03\x7f\0\0\x01\0\x01\0\x02"),
        (HOP, b""),
    ] {
        let mut stream = dial_from(host, address);
        // It may be closed before.
        let _ = stream.write_all(said).and_then(|()| stream.write_all(&hello(honest("alice"))));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{}: {}", said.escape_ascii(), answer.escape_ascii());
    }
    let for_itself = || {
        let mut stream = dial_from(HOP, address);
        stream.write_all(LOCAL).expect("a header");
        stream
    };
    for _ in 0..20 {
        assert_eq!(gate.says(&mut for_itself(), WRONG), "authentication failed");
    }
    assert_eq!(gate.says(&mut for_itself(), RIGHT), "hello");
    let mut announced = dial_from(HOP, address);
    announced.write_all(line).expect("a header");
    assert_eq!(gate.says(&mut announced, RIGHT), "hello");
    assert!(gate.penalised().is_empty());
}

/// On each kind of socket the header is in front of everything: HTTP, TLS, SSH, calls.
#[test]
fn s_083_the_header_is_in_front_of_whatever_a_socket_carries() {
    let hops = format!("accept-proxy={HOP}");
    let gateway = Gateway::start(&[
        format!("--bind-wss=127.0.0.1:0,auth=reject,login-page=yes,websocket-origins=https://gate,{hops}"),
        format!("--bind-rpc=127.0.0.1:0,{hops}"),
        format!("--bind-ws=127.0.0.1:0,auth=reject,{hops}"),
        format!("--bind-ssh=127.0.0.1:0,auth=reject,{hops}"),
    ]);
    let [ws, wss, ssh, rpc] = gateway.ports()[..] else { panic!("four ports") };
    let curl = |host: Ipv4Addr, url: &str| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--include", "--max-time", "30", "--haproxy-protocol"]);
        run(command.args(["--interface", &host.to_string(), url]))
    };
    let page = format!("https://127.0.0.1:{wss}/");
    curl(HOP, &page).expect_success().expect_text(" 200").expect_text("<html");
    let calls = format!("https://127.0.0.1:{rpc}/countersign");
    curl(HOP, &calls).expect_success().expect_text("HTTP/2 200").expect_text("grpc-status");
    curl(HOP, &format!("http://127.0.0.1:{ws}/")).expect_success().expect_text("HTTP/1.1 200");
    assert!(!curl(NEIGHBOUR, &page).succeeded());
    let mut bare = Command::new("curl");
    bare.args(["--silent", "--insecure", "--interface", &HOP.to_string(), &page]);
    assert!(!run(&mut bare).succeeded(), "without a header");

    let haproxy = Haproxy::start(ssh, "send-proxy-v2");
    let mut client = dial_from(NEIGHBOUR, SocketAddr::from((Ipv4Addr::LOCALHOST, haproxy.port)));
    let mut banner = [0; 8];
    client.read_exact(&mut banner).expect("a banner");
    assert_eq!(&banner, b"SSH-2.0-");
}

/// A gateway with one password, behind a hop, which keeps a trail.
struct Gate {
    gateway: Gateway,
    place: Place,
}

impl Gate {
    fn open(arguments: &[&str]) -> Self {
        let place = Place::new();
        let password = place.file("password", RIGHT);
        let bind = format!("--bind-tcp=127.0.0.1:0,accept-proxy={HOP},auth=file(filename={password})");
        let arguments = [&[bind.as_str(), "--refusal-delay=0", "--audit=required"], arguments].concat();
        Self { gateway: Gateway::start_with(&arguments, counted), place }
    }

    fn port(&self) -> u16 {
        self.gateway.port()
    }

    /// How a login of alice ends on a connection: `hello`, or why not.
    fn says(&self, stream: &mut TcpStream, password: &str) -> String {
        wire::send(stream, &hello(honest("alice")));
        let ended = match wire::read(stream) {
            Received::Packet(kind, items) if kind == "challenge" => {
                let challenge = Received::Packet(kind, items).challenge();
                let salt = [0x5a; 32];
                let proof = wire::answer(&challenge, &salt, password.as_bytes());
                let caps = with(honest("alice"), "challenge_response", Value::Bytes(proof));
                let caps = with(caps, "challenge_client_salt", Value::Bytes(salt.to_vec()));
                wire::send(stream, &hello(caps));
                wire::read(stream)
            }
            other => other,
        };
        match ended {
            Received::Packet(kind, items) if kind == "disconnect" => items[0].text(),
            Received::Packet(kind, _) => kind,
            other => panic!("{other:?}: {}", self.gateway.log()),
        }
    }

    /// The sources that have a penalty.
    fn penalised(&self) -> Vec<String> {
        let state = self.gateway.place().text("state");
        let list = ["penalties", "--state-dir", &state, "list", "--json"];
        let listed = run(&mut countersign(&self.place, &list)).expect_success().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let listed = listed["penalties"].as_array().expect("a list").iter();
        listed.map(|one| one["source"].as_str().expect("a source").to_owned()).collect()
    }

    fn trail(&self) -> String {
        fs::read_to_string(self.gateway.place().path("state/audit.jsonl")).expect("the trail")
    }
}

const RIGHT: &str = "correct horse";
const WRONG: &str = "battery staple";
const GUESSER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Version 2, `LOCAL`, nothing behind it.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
