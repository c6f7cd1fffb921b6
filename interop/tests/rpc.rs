//! The RPC door before a real gRPC daemon, with real gRPC clients that know nothing of it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    certificate::Pair,
    gateway::Gateway,
    grpc::{Client, Server},
    process::must,
};
use serde_json::{Value, json};

#[test]
fn every_kind_of_call_passes() {
    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.call(&["echo", "hello"])["text"], "hello");
    assert_eq!(alice.call(&["sum", "1", "2", "3"])["sum"], 6);
    assert_eq!(alice.call(&["sum"])["sum"], 0);
    assert_eq!(alice.call(&["count", "1000"])["count"].as_array().map(Vec::len), Some(1000));
    assert_eq!(alice.call(&["count", "0"])["count"], json!([]));
    assert_eq!(alice.call(&["chat", "one", "two", "three"])["heard"], json!(["one", "two", "three"]));
    let large = alice.call(&["echo", "x", "--times", "5000000"]);
    assert_eq!((&large["code"], &large["length"]), (&json!("OK"), &json!(5_000_000)));
    let compressed = alice.call(&["echo", "x", "--times", "5000000", "--gzip"]);
    assert_eq!((&compressed["code"], &compressed["length"]), (&json!("OK"), &json!(5_000_000)));
}

#[test]
fn a_thousand_streams_are_open_at_once_on_one_connection_and_on_ten() {
    let house = House::open();
    drop(house.first_client());
    // A connection of a client that was accepted before it connected.
    let mut alice = house.client("alice");
    for connections in ["1", "10"] {
        let many = alice.call(&["many", "1000", "--connections", connections]);
        assert_eq!(many, json!({ "results": { "OK": 1000 }, "most": 1000 }), "{connections}");
    }
}

#[test]
fn s_019_a_connection_of_a_stranger_has_a_hundred_streams_and_keeps_them() {
    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["set", "local.passphrase", "a long passphrase"]), "OK");
    // A connection that was there before its certificate was accepted.
    let mut bob = house.client("bob");
    assert_eq!(bob.code(&["echo", "x"]), "UNAUTHENTICATED");
    assert_eq!(bob.code(&["authenticate", "a long passphrase"]), "OK");
    // More calls wait in the client for the end of others, as HTTP/2 has it.
    let many = bob.call(&["many", "100"]);
    assert_eq!(many, json!({ "results": { "OK": 100 }, "most": 100 }));
    let too_many = bob.call(&["many", "101", "--patience", "5"]);
    assert_eq!(too_many["most"], 100, "{too_many}");
    // Whoever may be the first client is a stranger to nobody.
    let many = alice.call(&["many", "1000"]);
    assert_eq!(many, json!({ "results": { "OK": 1000 }, "most": 1000 }));
}

#[test]
fn a_hundred_megabytes_come_back_unchanged() {
    let house = House::open();
    let mut alice = house.first_client();
    let big = alice.call(&["big", "100"]);
    assert_eq!((&big["length"], &big["same"]), (&json!(100_000_000), &json!(true)), "{big}");
}

#[test]
fn metadata_trailers_and_details_pass_both_ways() {
    let house = House::open();
    let mut alice = house.first_client();
    let echo = alice.call(&["echo", "hello", "--metadata", "colour=blue", "--metadata", "shape-bin=00ff00"]);
    assert!(has(&echo["seen"], "colour", "blue") && has(&echo["seen"], "shape-bin", "00ff00"), "{echo}");
    // Nothing is missing, and nothing is added.
    assert_eq!(echo["initial"], json!([["lab-greeting", "good day"], ["lab-greeting-bin", "00ff00"]]));
    assert_eq!(echo["trailers"], json!([["lab-farewell", "good bye"], ["lab-farewell-bin", "ff00ff"]]));
    let failed = alice.call(&["fail", "9", "100 % schön\n", "--status", "0aff", "--trailer", "more-bin=80"]);
    assert_eq!(failed["code"], "FAILED_PRECONDITION");
    assert_eq!(failed["details"], "100 % schön\n");
    assert!(has(&failed["trailers"], "grpc-status-details-bin", "0aff"), "{failed}");
    assert!(has(&failed["trailers"], "more-bin", "80"), "{failed}");
}

#[test]
fn a_deadline_and_a_cancelled_call_reach_the_daemon() {
    let house = House::open();
    let mut alice = house.first_client();
    let echo = alice.call(&["echo", "hello", "--patience", "30"]);
    let remaining = echo["remaining"].as_f64().expect("the daemon sees the deadline");
    assert!((1.0..=31.0).contains(&remaining), "{echo}");
    assert_eq!(alice.code(&["wait", "600000", "--patience", "0.3"]), "DEADLINE_EXCEEDED");
    house.server.wait_for_end("wait");

    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["wait", "600000", "--cancel-after", "0.3"]), "CANCELLED");
    house.server.wait_for_end("wait");
    // The connection is as good as before.
    assert_eq!(alice.code(&["wait", "10"]), "OK");
}

#[test]
fn s_082_the_daemon_is_told_who_calls_and_forged_names_are_taken_away() {
    let house = House::open();
    let mut alice = house.first_client();
    let honest = alice.call(&["echo", "hello"]);
    let told = ours(&honest["seen"]);
    assert!(!told.is_empty(), "the daemon is told nothing: {honest}");
    let mut words = vec!["echo".to_owned(), "hello".to_owned()];
    for (name, _) in &told {
        let value = if name.ends_with("-bin") { "00" } else { "root" };
        words.extend(["--metadata".to_owned(), format!("{name}={value}")]);
    }
    words.extend(["--metadata".to_owned(), "countersign-made-up=root".to_owned()]);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let forged = alice.call(&words);
    assert_eq!(ours(&forged["seen"]), told, "{forged}");
}

#[test]
fn strangers_are_refused_before_the_daemon_hears_of_them() {
    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["echo", "hello"]), "OK");
    let heard = house.server.events().len();
    let mut stranger = house.client("stranger");
    for words in [["echo", "x"].as_slice(), &["sum", "1"], &["count", "1"], &["chat", "x"], &["version"]] {
        let refused = stranger.call(words);
        assert_eq!(refused["code"], "UNAUTHENTICATED", "{words:?}: {refused}");
        let text = refused["details"].as_str().unwrap_or_default();
        assert!(text.contains("authenticate"), "it says what to do: {refused}");
    }
    let ping = stranger.call(&["ping"]);
    assert_eq!(ping["code"], "UNAUTHENTICATED");
    assert_eq!(stranger.code(&["get", "local.passphrase"]), "UNAUTHENTICATED");
    assert_eq!(stranger.code(&["set", "local.passphrase", "mine"]), "UNAUTHENTICATED");
    let mut nobody = Client::new(&house.target(), &house.gateway.root(), None);
    assert_eq!(nobody.code(&["echo", "x"]), "UNAUTHENTICATED");
    assert_eq!(house.server.events().len(), heard, "{:?}", house.server.events());
    // Whoever has the certificate without the key is not even heard.
    let mixed = Pair { cert: house.pair("alice").cert, key: house.pair("stranger").key };
    let mut thief = Client::new(&house.target(), &house.gateway.root(), Some(&mixed));
    assert_eq!(thief.code(&["ping", "--patience", "5"]), "UNAVAILABLE");
    assert_eq!(alice.code(&["echo", "still here"]), "OK");
}

#[test]
fn the_passphrase_lets_others_in_as_multipass_does() {
    let house = House::open();
    let mut alice = house.first_client();
    let mut bob = house.client("bob");
    assert_eq!(bob.code(&["authenticate", "a long passphrase"]), "FAILED_PRECONDITION");
    assert_eq!(bob.code(&["authenticate", ""]), "FAILED_PRECONDITION");
    // Unset is the empty value, which a message leaves out.
    assert_eq!(value(&alice.call(&["get", "local.passphrase"])), "");
    assert_eq!(alice.code(&["set", "local.passphrase", "a long passphrase"]), "OK");
    assert_eq!(value(&alice.call(&["get", "local.passphrase"])), "true");
    assert_eq!(bob.code(&["authenticate", "another passphrase"]), "INVALID_ARGUMENT");
    assert_eq!(bob.code(&["authenticate", ""]), "INVALID_ARGUMENT");
    assert_eq!(bob.code(&["echo", "x"]), "UNAUTHENTICATED");
    // A second connection of the same client: what it wins counts for the first at once.
    let mut bob_again = house.client("bob");
    assert_eq!(bob_again.code(&["authenticate", "a long passphrase"]), "OK");
    assert_eq!(bob.call(&["echo", "x"])["text"], "x");
    assert_eq!(bob.code(&["ping"]), "OK");
    assert_eq!(bob_again.code(&["authenticate", "a long passphrase"]), "OK", "once more does no harm");
    assert_eq!(alice.code(&["set", "local.passphrase", ""]), "OK");
    assert_eq!(house.client("carol").code(&["authenticate", "a long passphrase"]), "FAILED_PRECONDITION");
    assert_eq!(bob.code(&["ping"]), "OK", "who is in stays in");
    let asked = |name| house.server.calls(name);
    assert_eq!(
        (asked("authenticate"), asked("get"), asked("set_")),
        (0, 0, 0),
        "{:?}",
        house.server.events()
    );
}

#[test]
fn other_settings_are_the_daemon_s() {
    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(value(&alice.call(&["get", "client.colour"])), "the daemon's client.colour");
    // The daemon asks back in the middle of the call.
    let set = alice.call(&["set", "client.colour", "blue"]);
    let expected = json!([{ "needs_authorization": true }, { "reply_message": "client.colour=blue" }]);
    assert_eq!(set["replies"], expected, "{set}");
    assert_eq!(alice.code(&["version"]), "OK");
}

#[test]
fn all_three_generations_of_multipass_s_clients_are_understood() {
    let house = House::open();
    let mut alice = house.first_client();
    for shape in ["old", "cli", "gui"] {
        assert_eq!(
            alice.code(&["set", "local.passphrase", "a long passphrase", "--shape", shape]),
            "OK",
            "{shape}"
        );
        assert_eq!(value(&alice.call(&["get", "local.passphrase", "--shape", shape])), "true", "{shape}");
        let mut client = house.client(shape);
        assert_eq!(client.code(&["version", "--shape", shape]), "UNAUTHENTICATED", "{shape}");
        assert_eq!(client.code(&["authenticate", "wrong", "--shape", shape]), "INVALID_ARGUMENT", "{shape}");
        let right = client.code(&["authenticate", "a long passphrase", "--shape", shape]);
        assert_eq!(right, "OK", "{shape}");
        assert_eq!(client.code(&["version", "--shape", shape]), "OK", "{shape}");
    }
}

#[test]
fn s_039_a_certificate_of_any_shape_is_as_good_as_another() {
    let house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["set", "local.passphrase", "a long passphrase"]), "OK");
    for (shape, pair) in Pair::of_every_shape() {
        let mut client = Client::new(&house.target(), &house.gateway.root(), Some(&pair));
        assert_eq!(client.code(&["echo", "x"]), "UNAUTHENTICATED", "{shape}");
        assert_eq!(client.code(&["authenticate", "a long passphrase"]), "OK", "{shape}");
        assert_eq!(client.call(&["echo", "x"])["text"], "x", "{shape}");
    }
}

#[test]
fn m1_the_passphrase_of_a_multipass_daemon_is_taken_over() {
    let house = House::open();
    let mut alice = house.first_client();
    let hash = "import hashlib; print(hashlib.scrypt(b'a long passphrase', salt=b'', n=16384, r=8, p=1, dklen=64).hex())";
    let digits = must(Command::new("python3").args(["-c", hash]));
    let settings = format!("[General]\nlocal.driver=qemu\nlocal.passphrase={}\n", digits.trim());
    let settings = house.place.file("multipassd.conf", settings);
    assert_eq!(value(&alice.call(&["get", "local.passphrase"])), "");
    house.gateway.trust(&["import", &settings]).expect_success().expect_text("took over the passphrase");
    house.gateway.trust(&["import", &settings]).expect_text("one is set here already");
    assert_eq!(value(&alice.call(&["get", "local.passphrase"])), "true");
    for (name, mode) in [("bob", "imported"), ("carol", "ours")] {
        let mut client = house.client(name);
        assert_eq!(client.code(&["authenticate", "a wrong passphrase"]), "INVALID_ARGUMENT", "{mode}");
        assert_eq!(client.code(&["authenticate", "a long passphrase"]), "OK", "{mode}");
        assert_eq!(client.call(&["echo", "x"])["text"], "x", "{mode}");
    }
}

#[test]
fn a_list_of_multipass_is_taken_over() {
    let house = House::open();
    let shapes = Pair::of_every_shape();
    let list: String =
        shapes.iter().map(|(_, pair)| std::fs::read_to_string(&pair.cert).expect("a certificate")).collect();
    house.gateway.trust(&["import", &house.place.file("multipass_client_certs.pem", list)]).expect_success();
    for (shape, pair) in shapes {
        let mut client = Client::new(&house.target(), &house.gateway.root(), Some(&pair));
        assert_eq!(client.call(&["echo", "x"])["text"], "x", "{shape}");
    }
    // The place of the first is taken by them.
    assert_eq!(house.client("late").code(&["echo", "x"]), "UNAUTHENTICATED");
}

#[test]
fn s_040_a_certificate_that_is_taken_back_is_out_at_once_in_the_middle_of_its_calls() {
    let house = House::open();
    let mut alice = house.first_client();
    let mut bob = house.client("bob");
    assert_eq!(bob.code(&["echo", "x"]), "UNAUTHENTICATED");
    house.gateway.trust(&["add", &house.pair("bob").cert, "--name", "bob"]).expect_success();
    assert_eq!(alice.code(&["set", "local.passphrase", "a long passphrase"]), "OK");
    assert_eq!((alice.code(&["hold"]), bob.code(&["hold"])), ("OK".to_owned(), "OK".to_owned()));
    let quickest = (0..5).map(|_| {
        bob.begin(&["held", "--patience", "30"]);
        let begun = Instant::now();
        house.gateway.trust(&["remove", "bob", "--why", "lost"]).expect_success();
        let held = bob.end();
        let took = begun.elapsed();
        assert_eq!(held["code"], "UNAUTHENTICATED", "{held}");
        let refused = bob.call(&["echo", "x"]);
        assert_eq!(refused["code"], "UNAUTHENTICATED", "{refused}");
        // Whoever was put out does not come back by what everybody may know.
        assert_ne!(bob.code(&["authenticate", "a long passphrase"]), "OK");
        house.gateway.trust(&["restore", "bob"]).expect_success();
        assert_eq!(bob.code(&["hold"]), "OK");
        took
    });
    // The best of a few: a loaded machine is slow now and then.
    let quickest = quickest.min().expect("some tries");
    assert!(quickest < Duration::from_millis(100), "{quickest:?}");
    assert_eq!(alice.code(&["held", "--patience", "0.2"]), "nothing happened", "nobody else's streams end");
    // Another gateway after it knows the same.
    house.gateway.trust(&["remove", "bob"]).expect_success();
    let House { server, gateway, place } = house;
    let gateway = Gateway::start_in(gateway.stop(), &House::arguments(&place, &server), |_| {});
    let house = House { server, gateway, place };
    assert_eq!(house.client("bob").code(&["echo", "x"]), "UNAUTHENTICATED");
    assert_eq!(house.client("alice").code(&["echo", "x"]), "OK");
}

#[test]
fn the_first_place_is_free_again_after_a_reset_and_only_then() {
    let house = House::open();
    let mut alice = house.first_client();
    let mut late = house.client("late");
    house.gateway.trust(&["remove", &name_of_only(&house)]).expect_success();
    assert_eq!(alice.code(&["echo", "x"]), "UNAUTHENTICATED");
    assert_eq!(late.code(&["echo", "x"]), "UNAUTHENTICATED", "nobody is accepted, and nobody is first");
    house.gateway.trust(&["reset", "--yes"]).expect_success();
    assert_eq!(late.code(&["echo", "x"]), "OK");
    assert_eq!(alice.code(&["echo", "x"]), "UNAUTHENTICATED");
}

#[test]
fn ping_and_authenticate_never_take_the_first_place() {
    let house = House::open();
    let mut early = house.client("early");
    assert_eq!(early.code(&["ping"]), "UNAUTHENTICATED");
    assert_eq!(early.code(&["authenticate", "a word"]), "FAILED_PRECONDITION");
    let mut nobody = Client::new(&house.target(), &house.gateway.root(), None);
    assert_ne!(nobody.code(&["echo", "x"]), "OK");
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["ping"]), "OK");
    assert_eq!(early.code(&["ping"]), "UNAUTHENTICATED");
}

#[test]
fn s_057_nobody_is_first_on_a_port() {
    let server = Server::start();
    let place = Place::new();
    let gateway = Gateway::start(&[
        "--bind-rpc=127.0.0.1:0,auth=certificate".to_owned(),
        format!("--backend=unix:{}", server.unix),
    ]);
    let target = format!("127.0.0.1:{}", gateway.port());
    let mut early = Client::new(&target, &gateway.root(), Some(&Pair::of_client(&place, "early")));
    assert_eq!(early.code(&["echo", "x"]), "UNAUTHENTICATED");
    assert_eq!(early.code(&["ping"]), "UNAUTHENTICATED");
    assert_eq!(server.calls("echo"), 0);
}

#[test]
fn the_daemon_may_be_reached_over_tcp_and_tls_as_well() {
    let server = Server::start();
    let backends = [
        format!("tcp:127.0.0.1:{}", server.tcp),
        format!("tls:127.0.0.1:{},ca={},server-name=localhost", server.tls, server.identity.cert),
    ];
    for backend in backends {
        let place = Place::new();
        let socket = place.text("rpc");
        let gateway = Gateway::start(&[
            format!("--bind-rpc=unix:{socket},auth=certificate"),
            format!("--backend={backend}"),
        ]);
        let pair = Pair::of_client(&place, "alice");
        let mut alice = Client::new(&format!("unix:{socket}"), &gateway.root(), Some(&pair));
        assert_eq!(alice.call(&["echo", "hello"])["text"], "hello", "{backend}");
        assert_eq!(alice.call(&["chat", "one", "two"])["heard"], json!(["one", "two"]), "{backend}");
        assert_eq!(alice.code(&["fail", "5", "no such thing"]), "NOT_FOUND", "{backend}");
    }
}

#[test]
fn a_daemon_that_is_away_is_unavailable_and_nothing_else() {
    let mut house = House::open();
    let mut alice = house.first_client();
    assert_eq!(alice.code(&["echo", "hello"]), "OK");
    // Another daemon takes the old one's place.
    let socket = house.server.unix.clone();
    house.server = Server::start();
    assert_eq!(alice.code(&["echo", "hello", "--patience", "10"]), "UNAVAILABLE");
    assert_eq!(alice.code(&["get", "local.passphrase"]), "OK", "what is ours works without it");
    std::fs::create_dir_all(std::path::Path::new(&socket).parent().expect("a folder")).expect("a folder");
    std::os::unix::fs::symlink(&house.server.unix, &socket).expect("a link in a temporary folder");
    assert_eq!(alice.code(&["echo", "hello"]), "OK");
    std::fs::remove_dir_all(std::path::Path::new(&socket).parent().expect("a folder"))
        .expect("an own folder");
}

#[test]
fn an_end_that_breaks_off_is_heard_of_at_the_other() {
    let mut house = House::open();
    drop(house.first_client());
    let mut alice = house.client("alice");
    assert_eq!(alice.code(&["hold"]), "OK");
    drop(alice);
    house.server.wait_for_end("chat");

    let mut alice = house.client("alice");
    assert_eq!(alice.code(&["hold"]), "OK");
    house.server = Server::start();
    let held = alice.call(&["held", "--patience", "20"]);
    assert_eq!(held["code"], "UNAVAILABLE", "{held}");
}

/// A gateway with an RPC socket and nobody accepted yet, and a daemon behind it.
struct House {
    server: Server,
    gateway: Gateway,
    place: Place,
}

impl House {
    fn open() -> Self {
        let (server, place) = (Server::start(), Place::new());
        let gateway = Gateway::start(&Self::arguments(&place, &server));
        Self { server, gateway, place }
    }

    fn arguments(place: &Place, server: &Server) -> [String; 2] {
        [
            format!("--bind-rpc=unix:{},auth=certificate", place.text("rpc")),
            format!("--backend=unix:{}", server.unix),
        ]
    }

    fn target(&self) -> String {
        format!("unix:{}", self.place.text("rpc"))
    }

    /// The key and certificate of this client, made when they are first asked for.
    fn pair(&self, name: &str) -> Pair {
        let pair = Pair {
            cert: self.place.text(&format!("{name}.pem")),
            key: self.place.text(&format!("{name}_key.pem")),
        };
        if self.place.path(&format!("{name}.pem")).exists() {
            pair
        } else {
            Pair::of_client(&self.place, name)
        }
    }

    fn client(&self, name: &str) -> Client {
        Client::new(&self.target(), &self.gateway.root(), Some(&self.pair(name)))
    }

    /// The client that takes the first place, by a call that is none of Multipass's.
    fn first_client(&self) -> Client {
        let mut alice = self.client("alice");
        let first = alice.call(&["count", "1"]);
        assert_eq!(first["code"], "OK", "{first}\n{}", self.gateway.log());
        alice
    }
}

/// The name of the only entry in the store.
fn name_of_only(house: &House) -> String {
    let list: Value = serde_json::from_str(&house.gateway.trust(&["list", "--json"]).expect_success().stdout)
        .expect("a list in JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    list[0]["name"].as_str().expect("a name").to_owned()
}

/// Whether a list of metadata has this entry.
fn has(metadata: &Value, name: &str, value: &str) -> bool {
    metadata.as_array().is_some_and(|list| list.contains(&json!([name, value])))
}

/// The metadata with our own names.
fn ours(metadata: &Value) -> Vec<(String, String)> {
    let list: Vec<(String, String)> = serde_json::from_value(metadata.clone()).expect("pairs");
    list.into_iter().filter(|(name, _)| name.starts_with("countersign")).collect()
}

/// The value in the reply of `get`; a message leaves an empty one out.
#[track_caller]
fn value(answer: &Value) -> String {
    assert_eq!(answer["code"], "OK", "{answer}");
    let replies = answer["replies"].as_array().expect("replies");
    replies.last().and_then(|reply| reply["value"].as_str()).unwrap_or_default().to_owned()
}
