//! Somebody is locked out, in each way that users of such systems met, and the way back by commands
//! (`docs/lockouts.md` has the same in words).

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use countersign_interop::{
    Place,
    account::{Account, is_root},
    certificate::Pair,
    gateway::{Gateway, binary, countersign},
    process::{Finished, must, run, run_with_input},
};

#[test]
fn m5_the_wrong_client_came_first() {
    let rig = Rig::start();
    let (wrong, right) = (Person::new(), Person::new());
    rig.comes(&wrong).expect_success();
    rig.comes(&right).expect_code(77);
    // Whoever is out can neither use a passphrase that is not set nor set one.
    rig.authenticates(&right, "a guess of some length").expect_code(77).expect_text("invit");
    rig.calls(&right, &["get", "local.passphrase"])
        .expect_code(77)
        .expect_text("authenticate")
        .expect_text("first here was")
        .expect_text(&wrong.fingerprint()[..16]);

    rig.owner(&["trust", "list"]).expect_success().expect_text("first-use");
    let token = rig.owner(&["trust", "invite", "--name", "right"]).expect_success().stdout;
    right.does_with_input(&["authenticate", "--stdin"], &token).expect_success();
    rig.comes(&right).expect_success();
    let fingerprint = wrong.fingerprint();
    rig.owner(&["trust", "remove", &fingerprint[..16], "--why", "the GUI started by itself"])
        .expect_success();
    rig.comes(&wrong).expect_code(77);
    rig.authenticates(&wrong, token.trim()).expect_code(77);
    rig.owner(&["trust", "show", &fingerprint]).expect_success().expect_text("the GUI started by itself");
}

#[test]
fn m5_the_installer_runs_as_root_for_somebody_else() {
    if !is_root() {
        let (rig, person) = (Rig::start(), Person::new());
        person.does(&rig.of_gateway(&["trust", "add", "--self"])).expect_success();
        rig.comes(&person).expect_success();
        return;
    }
    let Some(account) = Account::create() else { return };
    let home = Place::new();
    home.open_to_all();
    nix::unistd::chown(&home.path(""), Some(account.uid.into()), Some(account.gid.into())).expect("a folder");
    must(Command::new("usermod").args(["--home", &home.text(""), &account.name]));
    let rig = Rig::start();
    rig.owner(&["trust", "add", "--self"]).expect_code(2).expect_text("--user NAME");
    for way in ["--user", "sudo"] {
        let mut command = match way {
            "sudo" => {
                let mut command =
                    countersign(rig.gateway.place(), &rig.of_gateway(&["trust", "add", "--self"]));
                command.env("SUDO_UID", account.uid.to_string());
                command
            }
            _ => countersign(
                rig.gateway.place(),
                &rig.of_gateway(&["trust", "add", "--self", "--user", &account.name]),
            ),
        };
        run(&mut command).expect_success().expect_text(&account.name);
    }
    let key = home.path(".local/share/countersign/client.pem");
    let facts = fs::metadata(&key).expect("the user's key");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!((facts.uid(), facts.mode() & 0o777), (account.uid, 0o600));
    let listed = rig.owner(&["trust", "list", "--json"]).expect_success().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "the same certificate both times: {listed}");
    assert_eq!((&listed[0]["name"], &listed[0]["uid"]), (&account.name.as_str().into(), &account.uid.into()));
    // That user is in, over TCP, where nobody can be first.
    let mut command = account.command(binary().to_str().expect("a UTF-8 path"));
    command.env("HOME", home.text("")).args(["info", "--trust-on-first-use", &rig.tcp()]);
    run(&mut command).expect_success();
}

#[test]
fn the_passphrase_is_lost_or_unset_and_everybody_else_is_out() {
    let rig = Rig::start();
    let (first, second, third) = (Person::new(), Person::new(), Person::new());
    rig.comes(&first).expect_success();
    rig.sets_passphrase("nobody remembers this one");
    rig.owner(&["set", "local.passphrase="]).expect_success();
    rig.owner(&["get", "local.passphrase"]).expect_text("false");
    rig.authenticates(&second, "nobody remembers this one").expect_code(77);
    rig.sets_passphrase("written on the fridge");
    rig.owner(&["get", "local.passphrase"]).expect_text("true");
    rig.authenticates(&second, "written on the fridge").expect_success();
    rig.comes(&second).expect_success();
    // An accepted client can do the same, from anywhere.
    second
        .does_with_input(&rig.at_server(&["set", "local.passphrase", "--stdin"]), "another one for the third")
        .expect_success();
    rig.authenticates(&third, "another one for the third").expect_success();
    rig.calls(&third, &["get", "local.passphrase"]).expect_success().expect_text("true");
}

#[test]
fn the_only_client_lost_its_key() {
    let rig = Rig::start();
    let person = Person::new();
    rig.comes(&person).expect_success();
    let old = person.fingerprint();
    fs::remove_file(person.key()).expect("the key");
    rig.comes(&person).expect_code(77);
    let mut add = vec!["trust", "add", "--self", "--name", "me"];
    add.extend(if is_root() { &["--user", "root"][..] } else { &[] });
    person.does(&rig.of_gateway(&add)).expect_success();
    rig.comes(&person).expect_success();
    rig.owner(&["trust", "remove", &old, "--forget"]).expect_success();
    rig.owner(&["trust", "list"]).expect_success().expect_without("first-use");
}

#[test]
fn every_certificate_was_taken_back_or_forgotten() {
    let rig = Rig::start();
    let (first, second) = (Person::new(), Person::new());
    rig.comes(&first).expect_success();
    let fingerprint = first.fingerprint();
    rig.owner(&["trust", "remove", &fingerprint]).expect_success();
    rig.comes(&first).expect_code(77);
    rig.comes(&second).expect_code(77);
    rig.owner(&["trust", "restore", &fingerprint]).expect_success();
    rig.comes(&first).expect_success();
    rig.owner(&["trust", "restrict", &fingerprint, "--socket", "no such socket"]).expect_success();
    rig.comes(&first).expect_code(77);
    rig.owner(&["trust", "restrict", &fingerprint, "--everywhere"]).expect_success();
    rig.comes(&first).expect_success();
    rig.owner(&["trust", "remove", &fingerprint, "--forget"]).expect_success();
    rig.comes(&first).expect_code(77);
    assert_eq!(rig.mode(), 0o666, "the first place stays taken");

    // And the last resort, while the gateway runs: everybody is forgotten, and somebody is first again.
    rig.owner(&["trust", "reset", "--yes"]).expect_success();
    let closed = if is_root() { 0o660 } else { 0o600 };
    assert!(rig.gateway.daemon().eventually(|| rig.mode() == closed), "{:o}", rig.mode());
    rig.comes(&second).expect_success();
    assert!(rig.gateway.daemon().eventually(|| rig.mode() == 0o666), "{:o}", rig.mode());
    rig.comes(&first).expect_code(77);
}

#[test]
fn the_store_is_damaged_or_gone_and_a_reset_keeps_what_is_left() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 2] = [
        ("damaged", |path| fs::write(path, "no store").expect("an own file")),
        ("gone", |path| fs::remove_file(path).expect("an own file")),
    ];
    for (what, damage) in damages {
        let rig = Rig::start();
        let person = Person::new();
        rig.comes(&person).expect_success();
        let saved = rig.owner(&["trust", "export"]).expect_success().stdout;
        let arguments = rig.arguments.clone();
        let place = rig.gateway.stop();
        // With its copy: a store alone is made again from that.
        for name in ["state/state.db", "state/state.copy"] {
            damage(&place.path(name));
        }
        let mut serve = countersign(&place, &["serve", "--state-dir", &place.text("state")]);
        run(serve.args(&arguments)).expect_code(78).expect_text("countersign trust reset");
        let of_state = ["--state-dir", &place.text("state")];
        let mut list = countersign(&place, &["trust", "list"]);
        run(list.args(of_state)).expect_code(1).expect_text("countersign trust reset");
        let mut reset = countersign(&place, &["trust", "reset", "--yes"]);
        let reset = run(reset.args(of_state)).expect_success();
        assert_eq!(reset.stdout.contains("state.db.aside-"), what == "damaged", "{}", reset.stdout);
        // A list that was exported in time saves everybody the way.
        let mut import = countersign(&place, &["trust", "import", "-"]);
        run_with_input(import.args(of_state), saved.as_bytes()).expect_text("added 1");
        let rig = Rig::start_in(place, arguments);
        rig.comes(&person).expect_success();
    }
}

#[test]
fn the_servers_certificate_has_ended_while_nobody_ran_it() {
    let rig = Rig::start();
    let person = Person::new();
    rig.comes(&person).expect_success();
    person.does(&["info", "--trust-on-first-use", &rig.tcp()]).expect_success();
    let (port, mut arguments) = (rig.gateway.port(), rig.arguments.clone());
    arguments[1] = format!("--bind-ssl=127.0.0.1:{port},auth=certificate");
    let place = rig.gateway.stop();
    // As it is found a year later: the same key, and a certificate that no client would take.
    let path = place.path("state/tls/server.pem");
    let key = fs::read_to_string(&path).expect("the server's key");
    let key = rcgen::KeyPair::from_pem(&key).expect("a key");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let ended = params.self_signed(&key).expect("a certificate").pem();
    fs::write(&path, key.serialize_pem() + &ended).expect("an own file");
    let rig = Rig::start_in(place, arguments);
    assert!(!fs::read_to_string(&path).expect("the renewed pair").contains(&ended));
    person.does(&["info", &rig.tcp()]).expect_success();
    rig.comes(&person).expect_success();
}

#[test]
fn the_control_socket_is_not_there() {
    let rig = Rig::start_with(&["--control=none"]);
    let person = Person::new();
    rig.comes(&person).expect_success();
    rig.owner(&["trust", "list"]).expect_code(69).expect_text("stop the gateway");
    let place = rig.gateway.stop();
    let list = ["trust", "list", "--state-dir", &place.text("state")];
    run(&mut countersign(&place, &list)).expect_success().expect_text("first-use");
}

#[test]
fn s_058_another_user_is_not_answered() {
    let Some(account) = Account::create() else { return };
    let folder = Place::new();
    folder.open_to_all();
    let socket = folder.text("control.sock");
    let rig = Rig::start_with(&[&format!("--control={socket}")]);
    let ask = || {
        let mut command = account.command(binary().to_str().expect("a UTF-8 path"));
        run(command.args(["trust", "list", "--state-dir", &folder.text("none"), "--control", &socket]))
    };
    ask().expect_code(77).expect_text("sudo");
    // Also where the file's mode would let it.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("an own file");
    ask().expect_code(77).expect_text("only root and the gateway's own user");
    assert!(
        rig.gateway.log().contains(&format!("uid {} was turned away", account.uid)),
        "{}",
        rig.gateway.log()
    );
    rig.owner(&["trust", "list", "--control", &socket]).expect_success();
}

#[test]
fn s_056_an_invitation_lets_one_certificate_in_and_no_second_one() {
    let rig = Rig::start();
    let (alice, thief, late) = (Person::new(), Person::new(), Person::new());
    rig.comes(&Person::new()).expect_success();
    let token = |arguments: &[&str]| rig.owner(arguments).expect_success().stdout.trim().to_owned();
    let once = token(&["trust", "invite", "--name", "alice", "--entry-expires", "90d"]);
    alice.does(&["authenticate", "--token", &once]).expect_success();
    rig.comes(&alice).expect_success().expect_text("alice");
    thief.does_with_input(&["authenticate", "--stdin"], &once).expect_code(77);
    rig.comes(&thief).expect_code(77);
    let withdrawn = token(&["trust", "invite", "--name", "late"]);
    let all = rig.owner(&["trust", "invitations", "--json"]).expect_success();
    let all: serde_json::Value = serde_json::from_str(&all.stdout).expect("JSON");
    let id = all.as_array().expect("a list").iter().find(|one| one["name"] == "late").expect("it is listed");
    rig.owner(&["trust", "withdraw", id["id"].as_str().expect("an id")]).expect_success();
    late.does_with_input(&["authenticate", "--stdin"], &withdrawn).expect_code(77);
    for token in [once, withdrawn] {
        assert!(!rig.gateway.log().contains(&token[4..26]), "{}", rig.gateway.log());
    }
}

#[test]
fn s_088_a_passphrase_on_its_way_to_the_owner_is_in_no_log() {
    let rig = Rig::start_with(&["--log-level=trace"]);
    const CANARY: &str = "canary-Xy7-passphrase";
    rig.sets_passphrase(CANARY);
    let told = rig.owner(&["set", &format!("local.passphrase={CANARY}")]).expect_success();
    told.expect_text("warning").expect_without(CANARY);
    let person = Person::new();
    rig.authenticates(&person, CANARY).expect_success().expect_without(CANARY);
    rig.owner(&["trust", "list", "--json"]).expect_success().expect_without(CANARY);
    let base64 = "Y2FuYXJ5LVh5Ny1wYXNzcGhyYXNl";
    for spelled in [CANARY, base64] {
        assert!(!rig.gateway.log().contains(spelled), "{}", rig.gateway.log());
    }
}

#[test]
fn a_list_of_multipass_lets_its_clients_in() {
    let rig = Rig::start();
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/countersign/tests/certificates/store.pem");
    let place = rig.gateway.stop();
    let of_state = ["--state-dir", &place.text("state")];
    run(countersign(&place, &["trust", "import", store]).args(of_state))
        .expect_success()
        .expect_text("added 7");
    let rig = Rig::start_in(place, rig.arguments);
    let person = Person::new();
    rig.comes(&person).expect_code(77);
    for (shape, Pair { cert, key }) in Pair::of_every_shape() {
        let info = person.does(&["info", "--cert", &cert, "--key", &key, &rig.unix()]);
        assert_eq!(info.code, 0, "{shape}: {}", info.all());
    }
}

/// A gateway with a Unix and a TCP socket, both for accepted certificates.
struct Rig {
    gateway: Gateway,
    arguments: Vec<String>,
    folder: Place,
}

impl Rig {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let folder = Place::new();
        folder.open_to_all();
        let socket = folder.text("app.sock");
        let mut arguments = vec![
            format!("--bind={socket},require-tls=yes,auth=certificate"),
            "--bind-ssl=127.0.0.1:0,auth=certificate".to_owned(),
            "--refusal-delay=0s".to_owned(),
        ];
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Self { gateway: Gateway::start(&arguments), arguments, folder }
    }

    /// The same with the state that another one left.
    fn start_in(place: Place, arguments: Vec<String>) -> Self {
        let folder = Place::new();
        folder.open_to_all();
        let bind = format!("--bind={},require-tls=yes,auth=certificate", folder.text("app.sock"));
        let arguments: Vec<String> = [bind].into_iter().chain(arguments.into_iter().skip(1)).collect();
        Self { gateway: Gateway::start_in(place, &arguments, |_| {}), arguments, folder }
    }

    fn unix(&self) -> String {
        format!("tls+unix:{}", self.folder.text("app.sock"))
    }

    fn tcp(&self) -> String {
        format!("tls://{}", self.gateway.tcp())
    }

    fn mode(&self) -> u32 {
        let facts = fs::metadata(self.folder.path("app.sock")).expect("the socket");
        facts.permissions().mode() & 0o777
    }

    /// Arguments about this gateway, for its owner.
    fn of_gateway(&self, arguments: &[&str]) -> Vec<String> {
        let state = self.gateway.place().text("state");
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .chain(["--state-dir".to_owned(), state])
            .collect()
    }

    /// Arguments about this server, for a client.
    fn at_server(&self, arguments: &[&str]) -> Vec<String> {
        arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .chain(["--server".to_owned(), self.unix()])
            .collect()
    }

    /// What the owner of the gateway does.
    fn owner(&self, arguments: &[&str]) -> Finished {
        run(&mut countersign(self.gateway.place(), &self.of_gateway(arguments)))
    }

    fn sets_passphrase(&self, passphrase: &str) {
        let arguments = self.of_gateway(&["set", "local.passphrase", "--stdin"]);
        run_with_input(&mut countersign(self.gateway.place(), &arguments), passphrase.as_bytes())
            .expect_success();
    }

    /// Somebody connects.
    fn comes(&self, person: &Person) -> Finished {
        person.does(&["info", &self.unix()])
    }

    fn calls(&self, person: &Person, arguments: &[&str]) -> Finished {
        person.does(&self.at_server(arguments))
    }

    fn authenticates(&self, person: &Person, secret: &str) -> Finished {
        person.does_with_input(&self.at_server(&["authenticate", "--stdin"]), secret)
    }
}

/// Somebody with a home of its own, and so a key of its own.
struct Person(Place);

impl Person {
    fn new() -> Self {
        Self(Place::new())
    }

    fn does<S: AsRef<str>>(&self, arguments: &[S]) -> Finished {
        self.does_with_input(arguments, "")
    }

    fn does_with_input<S: AsRef<str>>(&self, arguments: &[S], input: &str) -> Finished {
        let mut command = countersign(&self.0, arguments);
        // The server of an invitation is known by its token, and that of a test by its uid.
        run_with_input(command.env_remove("SUDO_UID"), input.as_bytes())
    }

    fn fingerprint(&self) -> String {
        let shown = self.does(&["identity", "--json"]).expect_success().stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        shown["fingerprint"].as_str().expect("a fingerprint").trim_start_matches("sha256:").to_owned()
    }

    fn key(&self) -> PathBuf {
        self.0.path("home/countersign/client.pem")
    }
}
