//! vsock: a whole login between the built gateway and the built client. A machine calls itself only where its kernel
//! has `vsock_loopback`; `cargo xtask vsock` runs this very test in a virtual one that has it. What holds without is in the
//! unit tests of `transport` and `peercred`.

use std::path::Path;

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::run,
};

#[test]
fn s_033_s_063_a_login_over_vsock_tells_the_machine_and_may_use_the_password_itself() {
    if !Path::new("/dev/vsock").exists() {
        eprintln!("NOT PLAYED: this kernel has no vsock; `cargo xtask vsock` plays it in a virtual machine");
        return;
    }
    let place = Place::new();
    let word = place.file("word", "the word");
    let wrong = place.file("wrong", "another");
    // The module wants the password itself, which goes over no open wire.
    let clear = "auth=exec(command=/bin/true,require-challenge=yes)";
    let gateway = Gateway::start(&[
        format!("--bind-vsock=any:any,auth=file(filename={word})"),
        format!("--bind-vsock=any:any,auth=peercred(cid=1),{clear}"),
        "--bind-vsock=any:any,auth=peercred(cid=3)".to_owned(),
    ]);
    let log = gateway.log();
    let ports: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("listening on vsock:any:"))
        .map(|(_, port)| port.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default())
        .collect();
    let [plain, cleartext, another] = ports[..] else { panic!("three ports: {log}") };
    assert!(plain != cleartext && cleartext != another && !plain.is_empty(), "{log}");
    if !Path::new("/sys/module/vsock_loopback").exists() {
        eprintln!(
            "NOT PLAYED: the kernel has no vsock_loopback, so nothing can call this machine; \
             `cargo xtask vsock` plays it in a virtual one"
        );
        return;
    }
    let ask = |port: &str, password: &str| {
        let word = format!("--password-file={password}");
        run(&mut countersign(&place, &["info", "--json", &word, &format!("vsock://me@local:{port}")]))
    };
    for port in [plain, cleartext] {
        let told = ask(port, &word).expect_code(0);
        drop(told.expect_text("\"vsock:1:").expect_text("\"transport\": \"vsock\""));
    }
    drop(ask(plain, &wrong).expect_code(77));
    drop(ask(another, &word).expect_code(77));
    assert!(gateway.log().contains("cid=1"), "{}", gateway.log());
    eprintln!("PLAYED: the right word is in twice, another word and the number of another machine are out");
}
