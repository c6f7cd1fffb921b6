//! What `explain` says, word for word, and what one client would meet.

use super::*;
use crate::config::tests::{CANARY, flags, registry};

fn config() -> Config {
    flags(&[
        "bind=/run/app.sock,mode=660",
        "bind-tcp=127.0.0.1:1",
        &format!("bind-tcp=*:2,name=web,require-tls=yes,backend=exec:/bin/run {CANARY},auth=hosts,auth=file(filename={CANARY},username=app)"),
        "bind-tcp=*:3,auth=fail,auth=pam",
        "bind-ssl=[::]:4,auth=peercred,auth=env(username=bob,verify-username=yes)",
    ])
    .unwrap()
}

#[test]
fn a_unix_socket_says_which_wires_it_carries() {
    let sealed = "bind=/c,encryption=AES-CTR,keydata=0x6b6579";
    let config = flags(&["bind=/a,require-tls=yes", "bind=/b,protocols=plain+tls", sealed]).unwrap();
    let carried: Vec<String> =
        explain(&config, &registry()).into_iter().map(|report| report.carries).collect();
    assert_eq!(
        carried,
        [
            "a Unix socket, TLS only; the first bytes tell the protocol",
            "a Unix socket in the clear and TLS, under one chain; the first bytes tell the protocol",
            "a Unix socket; the first bytes tell the protocol, under AES-CTR only"
        ]
    );
}

#[test]
fn s_067_s_088_a_report_says_who_gets_in_and_repeats_no_value() {
    let reports = explain(&config(), &registry());
    let text: String = reports.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text, @r"
    unix:/run/app.sock
      carries: a Unix socket; the first bytes tell the protocol
      lets in: everybody who may open the socket's file, without a proof
      1. none: asks nothing and lets everybody in; asks nothing
      backend: builtin:whoami
      warning: no authentication: everybody who may open the socket's file gets in.
               Add auth=NAME, or auth=none if that is meant
    tcp:127.0.0.1:1
      carries: TCP in the clear and TLS, under one chain; the first bytes tell the
               protocol
      lets in: every local user, without a proof
      1. none: asks nothing and lets everybody in; asks nothing
      backend: builtin:whoami
      warning: no authentication: every local user gets in. Add auth=NAME, or
               auth=none if that is meant
    web tcp:0.0.0.0:2
      carries: TLS only; the first bytes tell the protocol
      lets in: everybody who reaches the address and passes both links, in this
               order
      1. hosts: stands in for the real one; asks nothing
      2. file: stands in for the real one; asks for a proof of the secret; always
         checks app
      backend: exec:/bin/run
    tcp:0.0.0.0:3
      carries: TCP in the clear and TLS, under one chain; the first bytes tell the
               protocol
      lets in: nobody
      1. fail: refuses everybody without a question; asks nothing
      2. pam: stands in for the real one; asks for the password itself, on
         confidential wires only
      backend: builtin:whoami
      warning: fail refuses everybody: this socket lets nobody in
      warning: pam needs the secret itself, which is refused without TLS. Add
               require-tls=yes, so that clients learn it before they try
    tls:[::]:4
      carries: TLS only; the first bytes tell the protocol
      lets in: everybody who reaches the address and passes both links, in this
               order
      1. peercred: stands in for the real one; asks nothing
      2. env: stands in for the real one; asks for a proof of the secret; refuses
         everybody but bob
      backend: builtin:whoami
    ");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json = serde_json::to_string(&reports).unwrap();
    assert!(!text.contains(CANARY) && !json.contains(CANARY), "{json}");
}

#[test]
fn one_client_is_played_over_every_socket_it_can_reach() {
    let ends = |visitor: &str| -> Vec<String> {
        let visits = play(&config(), &visitor.parse().unwrap());
        visits.into_iter().map(|visit| visit.end).collect()
    };
    let out = "is not reached from there";
    assert_eq!(
        ends("alice@192.0.2.7"),
        [
            out,
            out,
            "let in if its answers satisfy file",
            "refused by fail, without a question",
            "refused by env, without a question"
        ]
    );
    assert_eq!(ends("bob@198.51.100.1")[2], "refused by hosts, without a question");
    assert_eq!(
        ends("bob@192.0.2.7")[4],
        "let in if peercred accepts the connection and its answers satisfy env"
    );
    assert_eq!(ends("@127.0.0.1")[..2], [out, "let in without a question"]);
    assert_eq!(ends("alice@[2001:db8::1]")[..3], [out, out, out]);
    assert_eq!(ends("alice@local")[..2], ["let in without a question", out]);
}

#[test]
fn a_visit_prints_the_links_up_to_the_one_that_refuses() {
    let visits = play(&config(), &"alice@192.0.2.7".parse().unwrap());
    let text: String = visits.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text, @r"
    unix:/run/app.sock: is not reached from there
    tcp:127.0.0.1:1: is not reached from there
    web: let in if its answers satisfy file
      1. hosts passes it without a question
      2. file asks for a proof of the secret
    tcp:0.0.0.0:3: refused by fail, without a question
      1. fail refuses it: the module `fail` refuses everybody
    tls:[::]:4: refused by env, without a question
      1. peercred decides by what only a real connection has
      2. env refuses it: the client names another user
    ");
    assert!(
        serde_json::to_string(&visits).unwrap().contains(r#"{"asks":{"what":"for a proof of the secret"}}"#)
    );
}

#[test]
fn a_visitor_is_a_name_and_an_address() {
    let parse = |text: &str| text.parse::<Visitor>();
    assert_eq!(parse("a@b@192.0.2.1").unwrap(), parse("a@b@::ffff:192.0.2.1").unwrap());
    assert_eq!(parse("alice@unix").unwrap(), parse("alice@local").unwrap());
    for wrong in ["alice", "alice@", "alice@host", "a/b@local", "alice@[::1", "192.0.2.1"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn s_083_behind_hops_a_client_is_wherever_they_say_and_nobody_is_on_this_machine() {
    let config = flags(&["bind-tcp=127.0.0.1:1,auth=none,accept-proxy=127.0.0.1"]).unwrap();
    let text: String = explain(&config, &registry()).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text, @r"
    tcp:127.0.0.1:1
      carries: TCP in the clear and TLS, under one chain; the first bytes tell the
               protocol; where its clients are is said by 127.0.0.1, in PROXY
               headers
      lets in: everybody who reaches the address, without a proof
      1. none: asks nothing and lets everybody in; asks nothing
      backend: builtin:whoami
      warning: none proves nothing: everybody who reaches the address gets in
    ");
    let end = |visitor: &str| play(&config, &visitor.parse().unwrap()).remove(0).end;
    assert_eq!(end("alice@203.0.113.7"), "let in without a question");
    assert_eq!(end("alice@local"), "is not reached from there");
}
