//! Mistakes in a configuration: exit code 78 before any socket is opened, the nearest right name, no secret repeated.

use std::path::Path;

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::{Finished, run},
};

#[test]
fn every_mistake_ends_the_start_with_78() {
    let place = Place::new();
    let password = place.file("password", "word");
    let front = place.text("front");
    for (what, options, told) in MISTAKES {
        let options = options.replace("PASSWORD", &password);
        for bind in [format!("--bind={front}{options}"), format!("--bind-tcp=127.0.0.1:0{options}")] {
            let finished = serve(&place, &[&bind]);
            eprintln!("{what}: {bind}\n{}", finished.all());
            let finished = finished.expect_code(78).expect_without(SECRET).expect_without("listening on");
            for text in *told {
                assert!(finished.stderr.contains(text), "{what}: `{text}` expected in\n{}", finished.all());
            }
            assert!(finished.stderr.contains("error: "), "{what}: {}", finished.stderr);
            assert!(!Path::new(&front).exists(), "{what}: a socket was made");
        }
    }
}

#[test]
fn mistakes_of_addresses_end_the_start_with_78() {
    let place = Place::new();
    let front = place.text("front");
    let bind = format!("--bind={front},auth=peercred");
    for (what, arguments, told) in [
        (
            "an address twice",
            vec!["--bind-tcp=127.0.0.1:4711,auth=none", "--bind-tcp=127.0.0.1:4711,auth=reject"],
            "4711",
        ),
        ("a path twice", vec![bind.as_str(), bind.as_str()], front.as_str()),
        ("a port that is none", vec!["--bind-tcp=127.0.0.1:65536,auth=none"], "0 to 65535"),
        ("a host without a port", vec!["--bind-tcp=localhost,auth=none"], "a port"),
        ("an empty address", vec!["--bind-tcp=,auth=none"], "--bind-tcp"),
        ("a backend of an unknown kind", vec![bind.as_str(), "--backend=tpc:127.0.0.1:80"], "tcp"),
        (
            "a misspelt option of a backend",
            vec![bind.as_str(), "--backend=tcp:127.0.0.1:80,proxy-protocl=v2"],
            "proxy-protocol",
        ),
        ("no chain on an open address", vec!["--bind-tcp=0.0.0.0:0"], "auth="),
        ("no socket at all", vec![], "bind"),
    ] {
        let finished = serve(&place, &arguments).expect_code(78).expect_without("listening on");
        assert!(finished.stderr.contains(told), "{what}: `{told}` expected in\n{}", finished.all());
        assert!(!Path::new(&front).exists(), "{what}: a socket was made");
    }
}

#[test]
fn a_word_that_is_no_switch_is_a_usage_error() {
    let place = Place::new();
    let finished = serve(&place, &["--bin-tcp=127.0.0.1:0,auth=none"]).expect_code(2);
    finished.expect_text("--bind-tcp");
}

#[test]
fn check_says_the_same_and_opens_nothing() {
    let place = Place::new();
    let front = place.text("front");
    let arguments = ["check", &format!("--bind={front},auth=peercerd")];
    run(&mut countersign(&place, &arguments)).expect_code(78).expect_text("peercred");
    let arguments = ["check", &format!("--bind={front},auth=peercred")];
    run(&mut countersign(&place, &arguments)).expect_success();
    assert!(!Path::new(&front).exists(), "check opens no socket");
}

#[test]
fn a_bad_line_of_a_file_is_named_without_its_content() {
    let place = Place::new();
    let table = place.file("table", format!("alice|fine|nobody|nogroup||\njust-{SECRET}\n"));
    let gateway =
        Gateway::start(&[format!("--bind={},auth=multifile(filename={table})", place.text("front"))]);
    assert!(gateway.log().contains("line 2"), "{}", gateway.log());
    assert!(!gateway.log().contains(SECRET), "{}", gateway.log());

    // Which of two was meant cannot be known, so nobody gets in by either.
    let table =
        place.file("double", format!("alice|{SECRET}|nobody|nogroup||\nalice|other|nobody|nogroup||\n"));
    let bind = format!("--bind={},auth=multifile(filename={table})", place.text("front"));
    serve(&place, &[&bind]).expect_code(78).expect_without(SECRET).expect_text("line 2");
}

fn serve(place: &Place, arguments: &[&str]) -> Finished {
    let state = place.text("state");
    let all: Vec<_> = ["serve", "--state-dir", &state].iter().chain(arguments).copied().collect();
    run(&mut countersign(place, &all))
}

/// What is wrong, the options after the address, and words of the message.
const MISTAKES: &[(&str, &str, &[&str])] = &[
    ("a misspelt module", ",auth=pasword(value=SECRET-4711)", &["password"]),
    ("a misspelt module in the old form", ",auth=mutlifile:filename=x", &["multifile"]),
    ("a module that does not exist", ",auth=quux", &["use one of: ", "password"]),
    ("`auth` without a value", ",auth", &["no value", "key=value"]),
    ("`auth` with an empty value", ",auth=", &["a value is missing"]),
    ("a misspelt `auth`", ",auht=env", &["auth"]),
    ("a comment among the options", ",#auth=env", &["`#`"]),
    (
        "an option that the socket does not have",
        ",auth=none,colour=blue",
        &["use one of: accept-proxy, auth"],
    ),
    ("a misspelt option of the module", ",auth=file(filname=PASSWORD)", &["filename"]),
    ("an option of another module", ",auth=password(filename=SECRET-4711)", &["use one of: value"]),
    ("an option without its value", ",auth=file(filename)", &["no value", "key=value"]),
    ("a required option that is missing", ",auth=file", &["filename"]),
    ("an option given twice", ",auth=password(value=SECRET-4711,value=SECRET-4711b)", &["value"]),
    ("a bracket that does not close", ",auth=password(value=SECRET-4711", &["bracket"]),
    ("a quote that does not close", ",auth=password(value=\"SECRET-4711)", &["quote"]),
    ("a file that does not exist", ",auth=file(filename=/nonexistent/password)", &["/nonexistent/password"]),
    (
        "a database that does not exist",
        ",auth=sqlite(filename=/nonexistent/users.sdb)",
        &["/nonexistent/users.sdb"],
    ),
    ("a program that does not exist", ",auth=exec(command=/nonexistent/judge)", &["no such program"]),
    ("a time that is none", ",auth=exec(command=/bin/true,timeout=soon)", &["timeout"]),
    ("an account that does not exist", ",auth=peercred(user=nobody-by-this-name)", &["user", "names nobody"]),
    ("the same module twice over by a typo", ",auth=env,auth=evn", &["env"]),
];
const SECRET: &str = "SECRET-4711";
