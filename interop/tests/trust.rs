//! The owner's commands: each does the same with a running gateway and without one.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use countersign_interop::{
    Place,
    account::Account,
    certificate::Pair,
    gateway::{Gateway, binary, countersign},
    process::{Finished, run, run_with_input},
};

#[test]
fn every_command_works_with_a_gateway_and_without() {
    for gateway_runs in [true, false] {
        let place = Place::new();
        let socket = place.text("s");
        let bind = format!("--bind={socket},require-tls=yes,auth=certificate");
        let gateway = Gateway::start(&[bind]);
        let state = gateway.place().text("state");
        let gateway = if gateway_runs { Ok(gateway) } else { Err(gateway.stop()) };
        let owner = Owner { place: Place::new(), state };

        let alice = Pair::of_client(&place, "alice");
        owner.does(&["trust", "list"]).expect_text("nobody is accepted yet");
        owner
            .does(&["trust", "add", &alice.cert, "--name", "alice", "--expires", "90d"])
            .expect_text("added alice");
        owner.does(&["trust", "list"]).expect_text("alice").expect_text("added").expect_text("in 90 days");
        owner.does(&["trust", "rename", "alice", "anna"]).expect_text("renamed anna");
        owner.does(&["trust", "restrict", "anna", "--socket", "web", "--expires", "never"]);
        owner
            .does(&["trust", "show", "anna"])
            .expect_text("socket web; every backend")
            .expect_text("ends         never");
        let pem = owner.does(&["trust", "show", "anna", "--pem"]).stdout;
        assert_eq!(pem, fs::read_to_string(&alice.cert).expect("a certificate"));
        owner.does(&["trust", "remove", "anna", "--why", "left us"]).expect_text("took back anna");
        owner.does(&["trust", "show", "anna"]).expect_text("left us");
        assert_eq!(owner.does(&["trust", "export"]).stdout, "", "only what is accepted");
        owner.does(&["trust", "restore", "anna"]).expect_text("accepted again anna");
        let list = owner.does(&["trust", "export"]).stdout;
        assert_eq!(list, pem);
        owner.does(&["trust", "remove", "anna", "--forget"]).expect_text("forgot anna");
        owner.tries(&["trust", "show", "anna"], "").expect_code(1).expect_text("trust list");
        owner
            .tries(&["trust", "import", "-"], &list)
            .expect_success()
            .expect_text("added 1, known already 0");
        owner
            .tries(&["trust", "import", "-"], &list)
            .expect_success()
            .expect_text("added 0, known already 1");

        let invite = ["trust", "invite", "--name", "bob", "--entry-expires", "30d"];
        match gateway_runs {
            true => owner.does(&invite).expect_text(&format!("tls+unix:{socket}")),
            false => owner.tries(&invite, "").expect_code(2).expect_text("--address"),
        };
        let token = owner.does(&[&invite[..], &["--address", "tls://gate.example:443"]].concat());
        assert!(token.stdout.starts_with("cs1-") && token.stdout.lines().count() == 1, "{}", token.stdout);
        let drawn = owner.does(&[&invite[..], &["--address", "tls://gate.example:443", "--qr"]].concat());
        assert!(drawn.stderr.contains('█') && drawn.stdout.lines().count() == 1);
        let json = owner.json(&["trust", "invitations", "--json"]);
        let ids: Vec<&str> =
            json.as_array().expect("a list").iter().filter_map(|one| one["id"].as_str()).collect();
        assert_eq!(ids.len(), if gateway_runs { 3 } else { 2 });
        for id in ids {
            owner.does(&["trust", "withdraw", id]).expect_text("withdrawn");
            owner.tries(&["trust", "withdraw", id], "").expect_code(1).expect_text("trust invitations");
        }

        owner.does(&["get", "local.passphrase"]).expect_text("false");
        let set = ["set", "local.passphrase", "--stdin", "--expires", "1h", "--uses", "2"];
        owner.tries(&set, "too short\n").expect_success().expect_text("fewer than 15");
        let facts = owner.json(&["get", "local.passphrase", "--json"]);
        assert_eq!((&facts["set"], &facts["uses"]), (&true.into(), &2.into()), "{facts}");
        owner.tries(&["set", "local.passphrase", "--stdin"], "").expect_success().expect_text("unset");
        owner.does(&["get", "local.passphrase"]).expect_text("false");

        owner.does(&["trust", "reset", "--yes"]);
        owner.does(&["trust", "list"]).expect_text("nobody is accepted yet");
        drop(gateway);
    }
}

#[test]
fn who_forgets_sudo_changes_nothing_and_is_told() {
    let Some(account) = Account::create() else { return };
    let home = Place::new();
    home.open_to_all();
    nix::unistd::chown(&home.path(""), Some(account.uid.into()), Some(account.gid.into())).expect("a folder");
    for arguments in [["set", "local.passphrase=therewillbesecrets"], ["trust", "export"]] {
        let mut command = account.command(binary().to_str().expect("a UTF-8 path"));
        run(command.args(arguments).env("HOME", home.text("")).env_remove("XDG_RUNTIME_DIR"))
            .expect_code(69)
            .expect_text("sudo");
    }
    assert!(!home.path(".local/state").exists());
}

#[test]
fn a_control_socket_that_cannot_be_made_is_named_with_the_way_out() {
    let (place, long) = (Place::new(), "x".repeat(110));
    let bind = format!("--bind={},require-tls=yes,auth=certificate", place.text("s"));
    let control = format!("--control={}", place.text(&long));
    let arguments = ["serve", "--state-dir", &place.text("state"), &bind, &control];
    run(&mut countersign(&place, &arguments)).expect_code(69).expect_text("--control=PATH");
}

/// Root changes what belongs to the gateway's user, and that gateway still starts.
#[test]
fn s_061_root_leaves_nothing_behind_that_the_gateways_user_cannot_read() {
    let Some(account) = Account::create() else { return };
    let place = Place::new();
    place.open_to_all();
    let (state, alice) = (place.path("state"), Pair::of_client(&place, "alice"));
    fs::create_dir(&state).expect("an own folder");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("an own folder");
    nix::unistd::chown(&state, Some(account.uid.into()), Some(account.gid.into()))
        .expect("root gives it away");
    let owner = Owner { place: Place::new(), state: place.text("state") };
    owner.does(&["trust", "add", &alice.cert, "--name", "alice"]);
    owner.does(&["trust", "reset", "--yes"]).expect_text("aside");
    owner.does(&["trust", "add", &alice.cert, "--name", "alice"]);
    owner.json(&["trust", "list", "--json"])[0]["by"]
        .as_str()
        .filter(|by| *by == "root")
        .expect("who it was");
    for file in fs::read_dir(&state).expect("the state").flatten() {
        assert_eq!(file.metadata().expect("a file").uid(), account.uid, "{:?}", file.file_name());
    }
    let mut list = account.command(binary().to_str().expect("a UTF-8 path"));
    let list = list.args(["trust", "list", "--state-dir", &owner.state]);
    run(list).expect_success().expect_text("alice");
}

struct Owner {
    place: Place,
    state: String,
}

impl Owner {
    fn does(&self, arguments: &[&str]) -> Finished {
        self.tries(arguments, "").expect_success()
    }

    fn tries(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = countersign(&self.place, arguments);
        run_with_input(command.args(["--state-dir", &self.state]), input.as_bytes())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.does(arguments).stdout).expect("JSON")
    }
}
