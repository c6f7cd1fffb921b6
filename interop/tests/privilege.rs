//! What the gateway's process may do and shows of itself, as the kernel says of it in `/proc`.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
};

use countersign_interop::{
    Place,
    account::is_root,
    gateway::{Gateway, countersign},
    process::{must, run, run_with_input},
};

#[test]
fn s_091_the_gateway_dumps_no_core_and_is_not_swapped() {
    let place = Place::new();
    let gateway = Gateway::start(&[format!("--bind={},auth=peercred", place.text("door"))]);
    let pid = gateway.daemon().id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the limits of a child");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // Where memory cannot be locked, that is said.
    let locked = status(pid, "VmLck").trim_end_matches(" kB").trim().parse::<u64>().expect("a number");
    assert!(locked > 0 || gateway.log().contains("secrets may get into the swap space"), "{}", gateway.log());
}

/// Cleartext over TLS, which goes through more buffers than anything else. Others of the same account cannot look.
#[test]
fn s_091_after_a_login_in_cleartext_the_password_is_not_in_the_memory_of_the_gateway() {
    let place = Place::new();
    let table = place.text("users.sdb");
    must(&mut countersign(&place, &["users", "init", &table]));
    let mut add = countersign(&place, &["users", "add", "--stdin", &table, "alice"]);
    run_with_input(&mut add, PASSWORD.as_bytes()).expect_success();
    let module = format!("sqlite(filename={table},cleartext=yes)");
    let gateway = Gateway::start(&[format!("--bind-ssl=127.0.0.1:0,auth={module}")]);
    let address = format!("tls://alice@127.0.0.1:{}/", gateway.port());
    let given = format!("--password-file={}", place.file("given", PASSWORD));
    for _ in 0..3 {
        run(&mut countersign(&place, &["info", "--trust-on-first-use", &given, &address])).expect_success();
    }
    let Some(memory) = memory(gateway.daemon().id()) else {
        assert!(!is_root(), "root can read the memory of any process");
        return;
    };
    assert!(holds(&memory, b"countersign"), "it is the memory of the gateway that was read");
    assert!(!holds(&memory, PASSWORD.as_bytes()), "the password is still there");
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status of a child");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

/// Everything that a process can write to; `None` if nobody may look.
fn memory(pid: u32) -> Option<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut file = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        file.seek(SeekFrom::Start(start)).ok()?;
        // Pages that nobody can read, as those of the kernel's own, are left out.
        let _ = (&file).take(end - start).read_to_end(&mut all);
    }
    Some(all)
}

fn holds(memory: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    memory.iter().enumerate().any(|(at, byte)| *byte == first && memory[at..].starts_with(wanted))
}

const PASSWORD: &str = "correct-horse-4711-staple";
