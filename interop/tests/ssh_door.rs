//! `--bind-ssh`: the clients of OpenSSH, of Xpra and of ours log in by SSH, and the chain decides.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, counted, countersign},
    net::dial,
    process::{Finished, must, run, run_with_input},
    ssh::{Agent, certify, key, public},
    xpra::{self, Session},
};

/// A gateway with one socket of SSH, and the files of its clients.
struct Door {
    gateway: Gateway,
    place: Place,
}

impl Door {
    fn open(place: Place, chain: &str) -> Self {
        Self::with(place, chain, &[])
    }

    fn with(place: Place, chain: &str, more: &[&str]) -> Self {
        let socket = format!("--bind-ssh=127.0.0.1:0,{chain}");
        let gateway = Gateway::start_with(&[&[&*socket], more].concat(), counted);
        let host = must(Command::new("ssh-keygen").args([
            "-y",
            "-f",
            &gateway.place().text("state/ssh/host_ed25519"),
        ]));
        let known = place.file("known_hosts", format!("[127.0.0.1]:{} {host}", gateway.port()));
        let config = format!(
            "UserKnownHostsFile {known}\nStrictHostKeyChecking yes\nIdentityFile none\nIdentityAgent none\n\
             GSSAPIAuthentication no\nLogLevel INFO\n"
        );
        let config = place.file("ssh_config", config);
        place.file_with_mode("ssh", format!("#!/bin/sh\nexec /usr/bin/ssh -F {config} \"$@\"\n"), 0o755);
        Self { gateway, place }
    }

    /// `ssh` as alice, who answers what contains a word with what stands behind it: `1 of 2=one`.
    fn ssh(&self, answers: &[(&str, &str)], options: &[&str]) -> Command {
        self.ssh_as("alice", answers, options)
    }

    fn ssh_as(&self, user: &str, answers: &[(&str, &str)], options: &[&str]) -> Command {
        let cases: String =
            answers.iter().map(|(asked, answer)| format!("*'{asked}'*) echo '{answer}';;\n")).collect();
        let script = format!("#!/bin/sh\ncase \"$1\" in\n{cases}*) exit 1;;\nesac\n");
        let name = format!("askpass{:?}", thread::current().id()).replace(['(', ')'], "");
        let askpass = self.place.file_with_mode(&name, script, 0o700);
        let mut command = Command::new(self.place.path("ssh"));
        command.args(["-T", "-l", user, "-p", &self.gateway.port().to_string()]).args(options);
        command.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// The whole of a session that says nothing.
    fn login(&self, answers: &[(&str, &str)], options: &[&str]) -> Finished {
        run(self.ssh(answers, options).arg("127.0.0.1"))
    }

    /// A home in which Paramiko finds the gateway's key: Xpra looks for the host without its port.
    fn paramiko_home(&self) -> String {
        let home = self.place.text("paramiko");
        fs::create_dir_all(format!("{home}/.ssh")).expect("a folder of the test's own");
        let known = fs::read_to_string(self.place.path("known_hosts")).expect("what ssh knows");
        let key = known.split_once(' ').map_or("", |(_, key)| key);
        fs::write(format!("{home}/.ssh/known_hosts"), format!("127.0.0.1 {key}")).expect("a file of its own");
        home
    }

    /// Waits until the log has this.
    #[track_caller]
    fn expect_log(&self, text: &str) {
        let told = self.gateway.daemon().eventually(|| self.gateway.log().contains(text));
        assert!(told, "`{text}` expected in:\n{}", self.gateway.log());
    }
}

#[test]
fn a_password_logs_in_by_both_methods_and_a_wrong_one_by_none() {
    let place = Place::new();
    let secret = place.file("secret", "correct horse");
    let door = Door::open(place, &format!("auth=file(filename={secret})"));
    for method in ["password", "keyboard-interactive"] {
        let method = format!("-oPreferredAuthentications={method}");
        door.login(&[("password", "correct horse")], &[&method])
            .expect_success()
            .expect_text("\"proofs\":[\"file:hmac+sha512\"]")
            .expect_text("\"transport\":\"ssh\"")
            .expect_text("\"confidential\":true");
        for wrong in ["battery staple", ""] {
            let refused = door.login(&[("password", wrong)], &[&method]).expect_code(255);
            // Which of the two messages a client shows depends on how fast it is.
            let told = ["Permission denied", "authentication failed"];
            assert!(told.iter().any(|text| refused.stderr.contains(text)), "{}", refused.stderr);
        }
    }
    door.expect_log("auth failure from 127.0.0.1 user \\\"alice\\\" socket tcp:127.0.0.1:");
    door.expect_log("link 1/1 file reason wrong_secret");
    door.expect_log("\\\"encryption\\\":\\\"ssh\\\"");
}

/// S-27: by source and name, as at every other door, and refused before a question.
#[test]
fn s_027_wrong_passwords_by_ssh_are_counted_and_keep_the_name_out_for_a_while() {
    let place = Place::new();
    let secret = place.file("secret", "correct horse");
    let chain = format!("auth=file(filename={secret})");
    let door = Door::with(place, &chain, &["--refusal-delay=0", "--penalty-min=30s"]);
    let (right, wrong) = ([("password", "correct horse")], [("password", "battery staple")]);
    let refused = (0..50).any(|_| {
        door.login(&wrong, &[]).expect_code(255);
        door.gateway.log().contains("reason busy")
    });
    assert!(refused, "{}", door.gateway.log());
    door.login(&right, &[]).expect_code(255);
    run(door.ssh_as("bob", &right, &[]).arg("127.0.0.1")).expect_success();
}

#[test]
fn a_chain_asks_one_link_after_the_other() {
    let place = Place::new();
    let (one, two) = (place.file("one", "first"), place.file("two", "second"));
    let chain = format!("auth=file(filename={one}),auth=file(filename={two})");
    let door = Door::open(place, &chain);
    let right = [("1 of 2", "first"), ("2 of 2", "second")];
    let in_words = "-oPreferredAuthentications=keyboard-interactive";
    door.login(&right, &[in_words]).expect_success().expect_text("\"file:hmac+sha512\",\"file:hmac+sha512\"");
    let swapped = [("1 of 2", "second"), ("2 of 2", "first")];
    door.login(&swapped, &[]).expect_code(255);
    door.login(&[("1 of 2", "first"), ("2 of 2", "first")], &[]).expect_code(255);
    door.expect_log("link 2/2 file");
    // By passwords alone a client answers one link after the other without being told which.
    let place = Place::new();
    let (one, two) = (place.file("one", "the same"), place.file("two", "the same"));
    let door = Door::open(place, &format!("auth=file(filename={one}),auth=file(filename={two})"));
    let by_password = ["-oPreferredAuthentications=password", "-v"];
    let twice = door.login(&[("s password", "the same")], &by_password).expect_success();
    assert!(twice.stderr.contains("partial success"), "{}", twice.stderr);
}

#[test]
fn every_kind_of_password_module_judges_what_the_client_typed() {
    let place = Place::new();
    let table = place.file("table", "alice|correct horse|1000|1000||\n");
    let users = place.text("users.sdb");
    must(&mut countersign(&place, &["users", "init", &users]));
    let mut add = countersign(&place, &["users", "add", "--stdin", &users, "alice"]);
    run_with_input(&mut add, b"correct horse").expect_success();
    for (chain, proof) in [
        (format!("multifile(filename={table})"), "multifile:hmac+sha512"),
        (format!("scram(filename={users})"), "scram:SCRAM-SHA-512"),
        (format!("sqlite(filename={users})"), "sqlite:"),
    ] {
        let door = Door::open(Place::new(), &format!("auth={chain}"));
        door.login(&[("password", "correct horse")], &[])
            .expect_success()
            .expect_text("\"user\":\"alice\"")
            .expect_text(proof);
        door.login(&[("password", "battery staple")], &[]).expect_code(255);
        run(door.ssh_as("bob", &[("password", "correct horse")], &[]).arg("127.0.0.1")).expect_code(255);
    }
}

#[test]
fn keys_log_in_as_authorized_keys_says() {
    let place = Place::new();
    let keys: Vec<String> = ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521"]
        .iter()
        .enumerate()
        .map(|(number, kind)| key(&place, &format!("k{number}"), kind))
        .collect();
    let stranger = key(&place, "stranger", "ed25519");
    let lines: String = keys.iter().map(|key| public(key) + "\n").collect();
    fs::create_dir(place.path("keys")).expect("an own folder");
    place.file("keys/alice", lines);
    let folder = place.text("keys");
    let door = Door::open(place, &format!("auth=ssh-key(filename={folder}/%u,channel-binding=require)"));
    let identity = |key: &str| format!("-oIdentityFile={key}");
    for key in &keys {
        door.login(&[], &[&identity(key)])
            .expect_success()
            .expect_text("\"user\":\"alice\"")
            .expect_text("ssh-key:ssh-key:ssh");
    }
    door.login(&[], &[&identity(&stranger)]).expect_code(255).expect_text("Permission denied (publickey)");
    door.login(&[], &[]).expect_code(255);
    run(door.ssh_as("bob", &[], &[&identity(&keys[0])]).arg("127.0.0.1")).expect_code(255);
    // Of an agent's keys the third is the right one; after six in vain it is over.
    let agent = |right_at: usize| {
        let place = Place::new();
        let mut mine: Vec<String> =
            (0..8).map(|number| key(&place, &format!("a{number}"), "ed25519")).collect();
        mine[right_at].clone_from(&keys[0]);
        Agent::with(&mine.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (right_at, code) in [(2, 0), (6, 255)] {
        let agent = agent(right_at);
        let option = format!("-oIdentityAgent={}", agent.socket);
        door.login(&[], &[&option]).expect_code(code);
    }
    // Asking for another thing than the key is no way around it.
    door.login(&[("password", "x")], &["-oPreferredAuthentications=password,keyboard-interactive"])
        .expect_code(255);
}

/// RSA by SHA-2, and by neither SHA-1 nor a key that is too short; with `ssh` and with Paramiko.
#[test]
fn keys_of_rsa_log_in_with_sha_2_alone() {
    let place = Place::new();
    let [mine, stranger] = ["mine", "stranger"].map(|name| key(&place, name, "rsa -b 3072"));
    let (short, authority) = (key(&place, "short", "rsa -b 1024"), key(&place, "authority", "rsa -b 2048"));
    let certified = key(&place, "certified", "rsa -b 2048");
    certify(&authority, &certified, &["-n", "alice"]);
    fs::create_dir(place.path("keys")).expect("an own folder");
    let lines = format!("{}\n{}\ncert-authority {}\n", public(&mine), public(&short), public(&authority));
    place.file("keys/alice", lines);
    let folder = place.text("keys");
    let door = Door::open(place, &format!("auth=ssh-key(filename={folder}/%u)"));
    let by = |key: &str, algorithms: &str| {
        let options = [format!("-oIdentityFile={key}"), format!("-oPubkeyAcceptedAlgorithms={algorithms}")];
        door.login(&[], &options.each_ref().map(String::as_str))
    };
    for algorithm in ["rsa-sha2-256", "rsa-sha2-512"] {
        by(&mine, algorithm).expect_success().expect_text("ssh-key:ssh-key:ssh");
        by(&stranger, algorithm).expect_code(255).expect_text("Permission denied (publickey)");
        by(&short, algorithm).expect_code(255);
        by(&certified, &format!("{algorithm}-cert-v01@openssh.com")).expect_success();
        // The key by itself is in no line.
        by(&certified, algorithm).expect_code(255);
    }
    // ssh(1) keeps to what the gateway says that it takes.
    by(&mine, "ssh-rsa").expect_code(255).expect_text("Permission denied (publickey)");
    // Paramiko does not; the last one says SHA-2 and signs with SHA-1.
    let paramiko = |key: &str, how: &str| {
        let mut command = Command::new("/usr/bin/python3");
        run(command.args(["-c", PARAMIKO_RSA, &door.gateway.port().to_string(), key, how]))
    };
    for how in ["rsa-sha2-256", "rsa-sha2-512"] {
        paramiko(&mine, how).expect_success().expect_text("in");
        paramiko(&stranger, how).expect_code(1).expect_text("AuthenticationException");
    }
    for how in ["ssh-rsa", "pretend"] {
        paramiko(&mine, how).expect_code(1).expect_text("AuthenticationException");
    }
}

/// The gateway signs for nobody by RSA (decision 0026).
#[test]
fn a_host_key_of_rsa_is_refused_at_start() {
    let place = Place::new();
    let host = key(&place, "host", "rsa -b 2048");
    let socket = format!("--bind-ssh=127.0.0.1:0,auth=fail,host-key={host}");
    let state = format!("--state-dir={}", place.text("state"));
    run(&mut countersign(&place, &["serve", &state, &socket]))
        .expect_code(78)
        .expect_text("Ed25519 and ECDSA are")
        .expect_text("ssh-keygen -t ed25519");
}

#[test]
fn certificates_log_in_and_a_password_may_follow_a_key() {
    let place = Place::new();
    let (authority, mine) = (key(&place, "authority", "ed25519"), key(&place, "mine", "ecdsa -b 256"));
    fs::create_dir(place.path("keys")).expect("an own folder");
    place.file("keys/alice", format!("cert-authority {}\n", public(&authority)));
    let (folder, secret) = (place.text("keys"), place.file("secret", "and a word"));
    let chain = format!("auth=ssh-key(filename={folder}/%u),auth=file(filename={secret})");
    let door = Door::open(place, &chain);
    let identity = format!("-oIdentityFile={mine}");
    for (options, code) in [
        (&["-n", "alice"][..], 0),
        (&["-n", "bob"], 255),
        (&["-n", "alice", "-V", "-2d:-1d"], 255),
        (&["-n", "alice", "-O", "force-command=/bin/true"], 255),
        (&["-n", "alice", "-h"], 255),
    ] {
        certify(&authority, &mine, options);
        door.login(&[("2 of 2", "and a word")], &[&identity]).expect_code(code);
    }
    certify(&authority, &mine, &["-n", "alice"]);
    let verbose = door.login(&[("2 of 2", "and a word")], &[&identity, "-v"]).expect_success();
    assert!(verbose.stderr.contains("partial success"), "{}", verbose.stderr);
    door.login(&[("2 of 2", "wrong")], &[&identity]).expect_code(255);
    door.login(&[("password", "and a word")], &["-oPreferredAuthentications=keyboard-interactive,password"])
        .expect_code(255);
}

#[test]
fn s_080_the_method_none_lets_nobody_in_whatever_the_chain() {
    let place = Place::new();
    let secret = place.file("secret", "correct horse");
    let door = Door::open(place, &format!("auth=file(filename={secret})"));
    door.login(&[], &["-oPreferredAuthentications=none"]).expect_code(255).expect_text("Permission denied");
    let refused = door.login(&[], &["-oPreferredAuthentications=none", "-v"]);
    assert!(!refused.stderr.contains("Authenticated to"), "{}", refused.stderr);
    // A chain that asks nothing: none is refused there too, and a round without a question lets in.
    let open = Door::open(Place::new(), "auth=none");
    open.login(&[], &["-oPreferredAuthentications=none"]).expect_code(255).expect_text("Permission denied");
    open.login(&[], &["-oPreferredAuthentications=keyboard-interactive"])
        .expect_success()
        .expect_text("\"proofs\":[\"none\"]");
    let closed = Door::open(Place::new(), "auth=fail");
    closed.login(&[], &[]).expect_code(255);
    closed.expect_log("link 1/1 fail");
}

#[test]
fn the_daemons_bytes_pass_both_ways_at_once_and_each_end_is_passed_on() {
    let door = Door::with(Place::new(), "auth=none", &["--backend=exec:/bin/cat"]);
    // Far more than all buffers on the way: what comes back is taken while more is sent.
    let bytes: Vec<u8> = (0..6_000_000_u32).flat_map(u32::to_le_bytes).map(|byte| byte % 94 + 33).collect();
    let finished = run_with_input(door.ssh(&[], &["127.0.0.1"]).arg("-s").arg("countersign"), &bytes);
    let finished = finished.expect_success();
    assert!(finished.stdout.as_bytes() == bytes, "{} of {} bytes", finished.stdout.len(), bytes.len());
    let small = run_with_input(door.ssh(&[], &[]).arg("127.0.0.1"), b"word").expect_success();
    assert_eq!(small.stdout, "word");
}

#[test]
fn s_086_a_daemon_that_does_not_read_costs_no_memory() {
    let door = Door::with(Place::new(), "auth=none", &["--backend=exec:/bin/sleep 50"]);
    let resident = || {
        let status =
            fs::read_to_string(format!("/proc/{}/status", door.gateway.daemon().id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    run(door.ssh(&[], &["-s"]).args(["127.0.0.1", "sftp"])).expect_code(255);
    let before = resident();
    let mut command = door.ssh(&[], &[]);
    let mut client =
        Running(command.arg("127.0.0.1").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("ssh"));
    let mut input = client.0.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || {
        let mut sent = 0_usize;
        while sent < 64 << 20 && input.write_all(&[b'x'; 65536]).is_ok() {
            sent += 65536;
        }
    });
    door.expect_log("auth success");
    thread::sleep(Duration::from_secs(3));
    let grown = resident().saturating_sub(before);
    assert!(grown < 12 << 10, "{grown} KiB for one session");
    drop(client);
    writer.join().expect("the writer ends with its pipe");
}

#[test]
fn nothing_else_is_done_for_whoever_is_let_in() {
    let place = Place::new();
    let made = place.text("made");
    let door = Door::open(place, "auth=none");
    for command in [format!("touch {made}"), "ls".to_owned(), "countersign info".to_owned()] {
        run(door.ssh(&[], &[]).args(["127.0.0.1", &command])).expect_text("exec request failed");
    }
    assert!(!fs::exists(&made).expect("an own folder"));
    run(door.ssh(&[], &["-s"]).args(["127.0.0.1", "sftp"])).expect_code(255);
    run(door.ssh(&[], &["-W", "127.0.0.1:22"]).arg("127.0.0.1"))
        .expect_code(255)
        .expect_text("administratively prohibited");
    run(door.ssh(&[], &["-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"]).arg("127.0.0.1"))
        .expect_code(255);
    run(door.ssh(&[], &["-tt", "-A", "-X"]).arg("127.0.0.1")).expect_text("PTY allocation request failed");
}

#[test]
fn s_001_whoever_does_not_come_to_the_point_is_left_in_time() {
    let place = Place::new();
    let secret = place.file("secret", "correct horse");
    let chain = format!("handshake-timeout=2s,login-timeout=4s,auth=file(filename={secret})");
    let door = Door::open(place, &chain);
    let ends = |mut stream: TcpStream, say: &[u8]| {
        let started = Instant::now();
        // It may be closed already.
        let _ = stream.write_all(say);
        let _ = stream.read_to_end(&mut Vec::new());
        started.elapsed()
    };
    let junk = [b"SSH-2.0-x\r\n".as_slice(), &[0, 0, 0x10, 0]].concat();
    for say in [&b""[..], b"SSH-2.0-x", b"SSH-2.0-x\r\n", &junk] {
        let took = ends(dial(door.gateway.tcp()), say);
        assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(4), "{say:?}: {took:?}");
    }
    let slow = door.place.file_with_mode("slow", "#!/bin/sh\nsleep 6\n", 0o700);
    let finished = run(door.ssh(&[], &[]).arg("127.0.0.1").env("SSH_ASKPASS", slow));
    finished.expect_code(255);
    door.expect_log("reason timeout");
    let wrong = ends(dial(door.gateway.tcp()), b"GET / HTTP/1.1\r\n\r\n");
    assert!(wrong < Duration::from_secs(2), "{wrong:?}");
}

#[test]
fn our_own_client_is_told_who_it_is_and_reaches_the_daemon() {
    let place = Place::new();
    fs::create_dir(place.path("keys")).expect("an own folder");
    let mine = key(&place, "mine", "ed25519");
    place.file("keys/alice", public(&mine));
    let folder = place.text("keys");
    let door =
        Door::with(place, &format!("auth=ssh-key(filename={folder}/%u)"), &["--backend=exec:/bin/cat"]);
    let agent = Agent::with(&[&mine]);
    let config = door.place.text("ssh_config");
    let script =
        format!("#!/bin/sh\nexec /usr/bin/ssh -F {config} -oIdentityAgent={} \"$@\"\n", agent.socket);
    fs::create_dir(door.place.path("bin")).expect("an own folder");
    door.place.file_with_mode("bin/ssh", script, 0o755);
    let ours = |words: &[&str], input: &[u8]| {
        let address = format!("ssh://alice@127.0.0.1:{}", door.gateway.port());
        let mut command = countersign(&door.place, &[words, &[&address]].concat());
        command.env("PATH", format!("{}:/usr/bin:/bin", door.place.text("bin")));
        run_with_input(&mut command, input).expect_success()
    };
    ours(&["info"], b"")
        .expect_text("user=alice")
        .expect_text("transport=ssh")
        .expect_text("client.encrypted=yes");
    assert_eq!(ours(&["connect"], b"through both").stdout, "through both");
    let secret = door.place.file("secret", "not asked for here");
    ours(&["info", "--password-file", &secret], b"").expect_text("user=alice");
}

#[test]
fn xpras_client_reaches_a_real_server_by_ssh() {
    let session = Session::open("behind-ssh");
    let place = Place::new();
    let secret = place.file("secret", "correct horse");
    let backend = format!("--backend=xpra+unix:{}", session.socket);
    let door = Door::with(place, &format!("auth=file(filename={secret})"), &[&backend]);
    let command = door.ssh(&[("password", "correct horse")], &[]);
    let askpass = command.get_envs().find(|(name, _)| *name == "SSH_ASKPASS").and_then(|(_, value)| value);
    let askpass = askpass.and_then(|path| path.to_str()).expect("a UTF-8 path").to_owned();
    let address = format!("ssh://alice@127.0.0.1:{}/", door.gateway.port());
    let program = format!("--ssh={}", door.place.text("ssh"));
    let environment = [("SSH_ASKPASS", &*askpass), ("SSH_ASKPASS_REQUIRE", "force")];
    xpra::expect_answer_of(&session, xpra::info(&address, &[program], &environment));
}

/// Xpra's client without the system's `ssh`: by Paramiko, which first looks for the program by `which`.
#[test]
fn xpras_client_reaches_a_real_server_by_paramiko() {
    let session = Session::open("behind-paramiko");
    let place = Place::new();
    let secret = place.file("secret", "correct-horse");
    let backend = format!("--backend=xpra+unix:{}", session.socket);
    let door = Door::with(place, &format!("auth=file(filename={secret})"), &[&backend]);
    let home = door.paramiko_home();
    // What it tries first has to be right: before the second it asks for the service of logins again, which is passed
    // over here, and goes on waiting.
    let environment = [("HOME", &*home), ("XPRA_SSH_NONE_AUTH", "0")];
    let address = format!("ssh://alice:correct-horse@127.0.0.1:{}/", door.gateway.port());
    xpra::expect_answer_of(&session, xpra::info(&address, &["--ssh=paramiko".to_owned()], &environment));
}

/// The commands by which Xpra's clients, the newer ones too, look for the program before they run it.
#[test]
fn whoever_looks_for_xpra_is_told_that_it_is_there_and_nothing_is_run() {
    let place = Place::new();
    let secret = place.file("secret", "correct-horse");
    let door = Door::open(place, &format!("auth=file(filename={secret})"));
    let looks = [
        "echo %OS%",
        "echo $OSTYPE",
        "command",
        "command -v xpra",
        "which xpra",
        "which sh",
        "which xpra; id",
        "id",
    ];
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PARAMIKO, &door.gateway.port().to_string(), "correct-horse"]).args(looks);
    let told = run(&mut command).expect_success().stdout;
    let mut wrong = Command::new("/usr/bin/python3");
    wrong.args(["-c", PARAMIKO, &door.gateway.port().to_string(), "another", "which xpra"]);
    drop(run(&mut wrong).expect_code(1).expect_text("paramiko.ssh_exception.").expect_without("which xpra:"));
    let expected = "echo %OS%: 1 []\necho $OSTYPE: 1 []\ncommand: 0 []\ncommand -v xpra: 0 ['xpra']\n\
                    which xpra: 0 ['xpra']\nwhich sh: 1 []\nwhich xpra; id: 1 []\nid: refused\n";
    assert_eq!(told, expected);
}

/// Runs commands as Xpra's clients do, each on a channel of its own.
const PARAMIKO: &str = r#"
import sys, paramiko
transport = paramiko.Transport(("127.0.0.1", int(sys.argv[1])))
transport.start_client(timeout=30)
transport.auth_password("alice", sys.argv[2])
for command in sys.argv[3:]:
    channel = transport.open_session(window_size=None, max_packet_size=0, timeout=30)
    try:
        channel.exec_command(command)
    except paramiko.SSHException:
        print(f"{command}: refused")
        continue
    status = channel.recv_exit_status()
    channel.settimeout(30)
    print(f"{command}: {status} {[line.rstrip() for line in channel.makefile()]}")
    channel.close()
"#;

/// Logs in by a key of RSA and one way to sign with it, or by one that says SHA-2 and signs with SHA-1.
const PARAMIKO_RSA: &str = r#"
import sys, paramiko
port, path, how = sys.argv[1:]

class Pretender(paramiko.RSAKey):
    def sign_ssh_data(self, data, algorithm=None):
        return super().sign_ssh_data(data, "ssh-rsa")

key = (Pretender if how == "pretend" else paramiko.RSAKey).from_private_key_file(path)
class Deaf(paramiko.Transport):
    _preferred_pubkeys = ("rsa-sha2-512" if how == "pretend" else how,)
    # What it hears from the gateway would overrule that.
    server_extensions = property(lambda self: {}, lambda self, heard: None)

transport = Deaf(("127.0.0.1", int(port)))
transport.start_client(timeout=30)
transport.auth_publickey("alice", key)
print("in" if transport.is_authenticated() else "out")
"#;

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
