//! The gRPC programs of the tests against each other, so that what a later test finds is the gateway's doing.

use countersign_interop::{
    Place,
    certificate::Pair,
    grpc::{Client, Server},
};
use serde_json::json;

#[test]
fn every_kind_of_call_works_without_a_gateway() {
    let (server, mut client) = both();
    assert_eq!(client.call(&["echo", "hello"])["text"], "hello");
    assert_eq!(client.call(&["sum", "1", "2", "3"])["sum"], 6);
    assert_eq!(client.call(&["count", "3"])["count"], json!([1, 2, 3]));
    assert_eq!(client.call(&["chat", "one", "two"])["heard"], json!(["one", "two"]));
    for shape in ["old", "cli", "gui"] {
        let answer = client.call(&["get", "key", "--shape", shape]);
        assert_eq!(answer["replies"], json!([{ "value": "the daemon's key" }]), "{shape}");
    }
    let answer = client.call(&["set", "key", "value"]);
    assert_eq!(answer["replies"], json!([{ "needs_authorization": true }, { "reply_message": "key=value" }]));
    assert_eq!(client.code(&["wait", "600000", "--patience", "0.2"]), "DEADLINE_EXCEEDED");
    server.wait_for_end("wait");
}

#[test]
fn a_thousand_streams_and_a_hundred_megabytes_work_without_a_gateway() {
    let (_server, mut client) = both();
    let many = client.call(&["many", "1000"]);
    assert_eq!(many, json!({ "results": { "OK": 1000 }, "most": 1000 }));
    let big = client.call(&["big", "100"]);
    assert_eq!((&big["length"], &big["same"]), (&json!(100_000_000), &json!(true)), "{big}");
}

fn both() -> (Server, Client) {
    let (server, place) = (Server::start(), Place::new());
    let pair = Pair::of_client(&place, "alice");
    let mut client = Client::new(&format!("localhost:{}", server.tls), &server.identity.cert, Some(&pair));
    // Once it answers it has read its files, and the folder may go.
    assert_eq!(client.code(&["ping"]), "OK");
    (server, client)
}
