//! Programs that know TLS and nothing else of us, with the certificate that lets them in and with others:
//! `openssl s_client`, `curl`, `psql`.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    certificate::Pair,
    gateway::{Door, Gateway, countersign},
    nginx::Nginx,
    postgres::{Postgres, psql},
    process::{Daemon, program, run, run_with_input},
};
use serde_json::Value;

/// What a row of clients tries at a gateway: certificates that are accepted there, and some that are not.
struct Clients {
    accepted: Vec<Pair>,
    refused: Vec<Pair>,
}

#[test]
fn certificates_of_an_authority_reach_the_daemons_behind() {
    let place = Place::new();
    let (ours, other) = (Pair::of_authority(&place, "ours"), Pair::of_authority(&place, "other"));
    let clients = Clients {
        accepted: vec![Pair::signed_by(&ours, &place, "alice"), Pair::signed_by(&ours, &place, "bob")],
        refused: vec![Pair::signed_by(&other, &place, "mallory"), Pair::of_client(&place, "nobody")],
    };
    let chain = format!("certificate(ca={})", ours.cert);
    curl_is_served(&chain, &clients, |_| {});
    psql_is_served(&chain, &clients, |_| {});
    let who = openssl_is_served(&chain, &clients, |_| {});
    assert_eq!(who[0]["user"], "alice", "{who:?}");
    assert_eq!(who[1]["user"], "bob", "{who:?}");
}

#[test]
fn certificates_of_the_trust_store_reach_the_daemons_behind() {
    let place = Place::new();
    let clients = Clients {
        accepted: vec![Pair::of_client(&place, "alice")],
        refused: vec![Pair::of_client(&place, "mallory")],
    };
    let add = |gateway: &Gateway| {
        gateway.trust(&["add", &clients.accepted[0].cert, "--name", "the door"]).expect_success();
    };
    curl_is_served("certificate", &clients, add);
    psql_is_served("certificate", &clients, add);
    // The first client of the Unix socket beside is accepted on the port too.
    let come_first = |gateway: &Gateway| {
        let socket = gateway.place().text("first");
        let first = whoami(&["-unix", &socket], gateway, Some(&clients.accepted[0]));
        assert!(first.is_some(), "the first client\n{}", gateway.log());
    };
    openssl_is_served("certificate", &clients, come_first);
    let who = openssl_is_served("certificate", &clients, add);
    assert_eq!(who[0]["user"], "the door", "{who:?}");
}

#[test]
fn s_040_the_session_of_a_certificate_that_is_taken_back_ends_at_once() {
    let place = Place::new();
    let alice = Pair::of_client(&place, "alice");
    let gateway = gateway("certificate", "", "builtin:whoami");
    gateway.trust(&["add", &alice.cert, "--name", "alice"]).expect_success();
    let address = format!("localhost:{}", gateway.port());
    let quickest = (0..5).map(|_| {
        let session = s_client(&["-connect", &address], &gateway, Some(&alice));
        session.wait_for("what whoami says", first_line);
        let begun = Instant::now();
        gateway.trust(&["remove", "alice", "--why", "lost"]).expect_success();
        session.wait();
        let took = begun.elapsed();
        assert_eq!(whoami(&["-connect", &address], &gateway, Some(&alice)), None);
        gateway.trust(&["restore", "alice"]).expect_success();
        took
    });
    // The best of a few: a loaded machine is slow now and then.
    let quickest = quickest.min().expect("some tries");
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
}

#[test]
fn our_own_client_says_nothing_to_a_socket_that_is_told_nothing() {
    let place = Place::new();
    let (alice, mallory) = (Pair::of_client(&place, "alice"), Pair::of_client(&place, "mallory"));
    let web = Nginx::start();
    let gateway = gateway("certificate", "", &format!("unix:{}", web.socket));
    gateway.trust(&["add", &alice.cert, "--name", "alice"]).expect_success();
    let (root, address) = (gateway.root(), format!("tls://localhost:{}", gateway.port()));
    let shows = |pair: &Pair| ["--ca", &root, "--cert", &pair.cert, "--key", &pair.key].map(str::to_owned);
    let page = |port: u16| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "40"]);
        run(command.arg(format!("http://127.0.0.1:{port}/page")))
    };
    let silent = |pair: &Pair| [&["--protocol".to_owned(), "stream".to_owned()][..], &shows(pair)].concat();
    let door = Door::open(&address, &silent(&alice));
    for _ in 0..3 {
        assert_eq!(page(door.port).expect_success().stdout, "a page\n", "{}", gateway.log());
    }
    let shut = Door::open(&address, &silent(&mallory));
    assert_ne!(page(shut.port).code, 0);
    assert!(shut.log().contains("without a byte"), "{}", shut.log());

    // Standard input and output, at a daemon that speaks first and then says what it hears.
    let first = format!("tls+unix:{}", gateway.place().text("first"));
    let connect = |pair: &Pair, protocol: &str| {
        let mut arguments = vec!["connect".to_owned(), "--protocol".to_owned(), protocol.to_owned()];
        arguments.extend(shows(pair));
        arguments.push(first.clone());
        run_with_input(&mut countersign(&place, &arguments), b"heard\n")
    };
    let whoami = connect(&alice, "stream").expect_success().stdout;
    assert_eq!(first_line(&whoami).expect("a line of JSON")["user"], "alice", "{whoami}");
    assert!(whoami.ends_with("\nheard\n"), "{whoami}");
    connect(&mallory, "stream").expect_code(69).expect_text("countersign authenticate");
    connect(&alice, "xpra").expect_text("add --protocol stream");
}

fn curl_is_served(chain: &str, clients: &Clients, enrol: impl Fn(&Gateway)) {
    let web = Nginx::start();
    let gateway = gateway(chain, "", &format!("unix:{}", web.socket));
    enrol(&gateway);
    let curl = |pair: Option<&Pair>| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "40", "--cacert", &gateway.root()]);
        if let Some(Pair { cert, key }) = pair {
            command.args(["--cert", cert, "--key", key]);
        }
        run(command.arg(format!("https://localhost:{}/page", gateway.port())))
    };
    for pair in &clients.accepted {
        assert_eq!(curl(Some(pair)).expect_success().stdout, "a page\n", "{chain}\n{}", gateway.log());
    }
    for pair in clients.refused.iter().map(Some).chain([None]) {
        let refused = curl(pair);
        assert_ne!(refused.code, 0, "{chain}: {}", refused.all());
        assert_eq!(refused.stdout, "", "{chain}: nothing of the page");
    }
}

fn psql_is_served(chain: &str, clients: &Clients, enrol: impl Fn(&Gateway)) {
    let database = Postgres::start();
    let gateway = gateway(chain, ",starttls=postgres", &format!("unix:{}", database.socket));
    enrol(&gateway);
    let root = gateway.root();
    let server = format!("host=localhost hostaddr=127.0.0.1 port={} sslrootcert={root}", gateway.port());
    for pair in &clients.accepted {
        for mode in ["require", "verify-full"] {
            let connection = format!("{server} sslmode={mode} sslcert={} sslkey={}", pair.cert, pair.key);
            let answer = run(&mut psql(&connection, "select 6 * 7")).expect_success().stdout;
            assert_eq!(answer, "42\n", "{chain} {mode}");
        }
    }
    for pair in &clients.refused {
        let connection = format!("{server} sslmode=require sslcert={} sslkey={}", pair.cert, pair.key);
        assert_ne!(run(&mut psql(&connection, "select 6 * 7")).code, 0, "{chain}");
    }
    // A file that is not there: no certificate is shown.
    let none = format!("{server} sslmode=require sslcert={}", gateway.place().text("none"));
    assert_ne!(run(&mut psql(&none, "select 6 * 7")).code, 0, "{chain}");
}

/// Returns what the backend knows of each accepted client.
fn openssl_is_served(chain: &str, clients: &Clients, enrol: impl Fn(&Gateway)) -> Vec<Value> {
    let gateway = gateway(chain, "", "builtin:whoami");
    enrol(&gateway);
    let address = format!("localhost:{}", gateway.port());
    let knock = |pair| whoami(&["-connect", &address], &gateway, pair);
    for pair in clients.refused.iter().map(Some).chain([None]) {
        assert_eq!(knock(pair), None, "{chain}");
    }
    let accepted = clients.accepted.iter();
    accepted.map(|pair| knock(Some(pair)).unwrap_or_else(|| panic!("{chain}\n{}", gateway.log()))).collect()
}

/// A TLS port with this chain, and a Unix socket where the trust store decides.
fn gateway(chain: &str, options: &str, backend: &str) -> Gateway {
    let place = Place::new();
    let first = place.text("first");
    Gateway::start_in(
        place,
        &[
            format!("--bind-ssl=127.0.0.1:0,protocol=stream,auth={chain}{options}"),
            format!("--bind={first},require-tls=yes,protocol=stream,auth=certificate,backend=builtin:whoami"),
            format!("--backend={backend}"),
        ],
        |_| {},
    )
}

/// The line that `builtin:whoami` begins with; `None` if the server closes instead.
fn whoami(address: &[&str], gateway: &Gateway, pair: Option<&Pair>) -> Option<Value> {
    let client = s_client(address, gateway, pair);
    client.eventually(|| first_line(&client.output()).is_some());
    first_line(&client.output())
}

/// It may stand behind the beginning of a line that `openssl` says about the certificates.
fn first_line(output: &str) -> Option<Value> {
    output.lines().find_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok())
}

/// `openssl s_client`, until the server closes.
fn s_client(address: &[&str], gateway: &Gateway, pair: Option<&Pair>) -> Daemon {
    let mut command = program("openssl");
    command.arg("s_client").args(address).args(["-servername", "localhost", "-verify_hostname", "localhost"]);
    // Quiet, it goes on after the end of its input.
    command.args(["-CAfile", &gateway.root(), "-verify_return_error", "-quiet"]);
    if let Some(Pair { cert, key }) = pair {
        command.args(["-cert", cert, "-key", key]);
    }
    Daemon::start(command)
}
