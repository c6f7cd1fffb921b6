//! Connection files, at the built command and with the names of options that the installed programs have.

use std::{collections::BTreeSet, process::Command};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::{must, run},
};

#[test]
fn a_connection_file_logs_in_by_each_mode() {
    let (place, gateway) = gate();
    for (mode, ports) in
        [("tcp", gateway.ports()[0]), ("ssl", gateway.ports()[1]), ("ws", gateway.ports()[0])]
    {
        let lines = format!(
            "# saved\nmode = {mode}\nhost = 127.0.0.1\nport = {ports}\nusername = alice\npassword = {RIGHT}\n"
        );
        let file = place.file(&format!("{mode}.xpra"), lines);
        let root = gateway.root();
        let shown = run(&mut countersign(&place, &["info", "--ca", &root, &file])).expect_success();
        shown.expect_text("proofs=[file:hmac+sha512]");
    }
    let as_alice = || gateway.log().matches(r#"claimed\":\"alice"#).count() == 3;
    assert!(gateway.daemon().eventually(as_alice), "{}", gateway.log());
    let lines =
        format!("mode=tcp\nhost=127.0.0.1\nport={}\nusername=alice\npassword=wrong\n", gateway.port());
    run(&mut countersign(&place, &["info", &place.file("wrong.xpra", lines)])).expect_code(77);
    run(&mut countersign(&place, &["info", &place.file("none.xpra", "mode=tcp\n")]))
        .expect_code(2)
        .expect_text("host: it is missing");
}

/// Every long option that Xpra's client and ours print in their help stands in one file, with a command as its
/// value: the login is the same, nothing runs, and each is named.
#[test]
fn s_047_no_option_of_any_program_comes_from_a_connection_file() {
    let (place, gateway) = gate();
    let canary = place.path("canary");
    let mut names = options(&mut Command::new("xpra"), "--help");
    names.extend(options(&mut countersign(&place, &["connect"]), "--help"));
    names.extend(options(&mut countersign(&place, &["serve"]), "--help"));
    assert!(
        names.len() > 200 && names.contains("exec-wrapper") && names.contains("challenge-handlers"),
        "{names:?}"
    );
    for said in SAID {
        names.remove(*said);
    }
    let mut lines =
        format!("mode=tcp\nhost=127.0.0.1\nport={}\nusername=alice\npassword={RIGHT}\n", gateway.port());
    for name in &names {
        lines += &format!("{name}=/bin/sh -c 'touch {}'\n", canary.display());
    }
    let finished = run(&mut countersign(&place, &["info", &place.file("all.xpra", lines)])).expect_success();
    for name in &names {
        let notice = format!("`{name}` is not taken from a file");
        assert!(finished.stderr.contains(&notice), "{name}: {}", finished.stderr);
    }
    assert!(!canary.exists());
}

fn gate() -> (Place, Gateway) {
    let place = Place::new();
    let auth = format!("auth=file(filename={})", place.file("password", RIGHT));
    let gateway =
        Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,{auth}"), format!("--bind-ssl=127.0.0.1:0,{auth}")]);
    (place, gateway)
}

/// The long options in a program's help.
fn options(command: &mut Command, help: &str) -> BTreeSet<String> {
    let text = must(command.arg(help));
    let sign = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split("--").skip(1).filter_map(|rest| rest.split(|c: char| !sign(c)).next());
    words
        .filter(|word| word.len() > 1 && !word.starts_with('-') && !word.ends_with('-'))
        .map(str::to_owned)
        .collect()
}

/// What a file may say, or always does.
const SAID: &[&str] = &[
    "username",
    "display",
    "host",
    "port",
    "path",
    "encoding",
    "quality",
    "min-quality",
    "speed",
    "min-speed",
];

const RIGHT: &str = "a-password-of-the-file";
