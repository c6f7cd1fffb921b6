//! `otp`: codes that `oathtool` makes, at the gateway, with our client and Xpra's.

use std::process::Command;

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::{Finished, must, run},
    xpra,
};

#[test]
fn codes_of_oathtool_let_each_user_in_and_nobody_else() {
    let door = Door::open("");
    door.knock("alice", &code(ALICE, 0)).expect_success().expect_text("alice");
    door.knock("bob", &code(BOB, 0)).expect_success().expect_text("bob");
    for (name, code) in [("bob", code(ALICE, 1)), ("mallory", code(ALICE, 1)), ("alice", "12345".to_owned())]
    {
        door.knock(name, &code).expect_code(77).expect_text("authentication failed");
    }
}

#[test]
fn s_077_a_code_counts_once_also_after_the_gateway_was_killed() {
    let door = Door::open("");
    let (now, next) = (code(ALICE, 0), code(ALICE, 1));
    door.knock("alice", &now).expect_success();
    door.knock("alice", &now).expect_code(77);
    let door = door.killed_and_started();
    door.knock("alice", &now).expect_code(77);
    door.knock("alice", &next).expect_success();
    let door = door.killed_and_started();
    door.knock("alice", &next).expect_code(77);
}

#[test]
fn s_077_of_many_logins_with_one_code_at_once_one_passes() {
    let door = Door::open("");
    let code = code(ALICE, 0);
    let passed = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| door.knock("alice", &code).code)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    assert_eq!(passed.iter().filter(|code| **code == 0).count(), 1, "{passed:?}");
}

#[test]
fn s_077_codes_of_a_clock_that_is_off_are_taken_as_far_as_the_window_goes() {
    let door = Door::open(",valid-window=4");
    door.knock("alice", &code(ALICE, -6)).expect_code(77);
    door.knock("alice", &code(ALICE, -3)).expect_success();
    door.knock("alice", &code(ALICE, 3)).expect_success();
    door.knock("alice", &code(ALICE, 6)).expect_code(77);
}

#[test]
fn s_027_s_077_guesses_are_counted_over_a_restart() {
    let door = Door::open("");
    for _ in 0..5 {
        door.knock("alice", "000000").expect_code(77);
    }
    let refused = |door: &Door| {
        let finished = door.knock("alice", &code(ALICE, 0));
        assert_ne!(finished.code, 0, "{}", finished.all());
    };
    refused(&door);
    refused(&door.killed_and_started());
}

#[test]
fn a_password_and_a_code_in_one_chain_each_from_its_own_place() {
    let place = Place::new();
    let users = place.file("users", "alice|the password\n");
    let secrets = place.file("secrets", format!("alice|{}\n", ALICE[0]));
    let gateway = Gateway::start_in(
        Place::new(),
        &[format!(
            "--bind={},auth=multifile(filename={users}),auth=otp(filename={secrets})",
            place.text("door")
        )],
        |_| {},
    );
    let (password, secret) = (place.file("password", "the password"), place.file("secret", ALICE[0]));
    let address = format!("unix://alice@{}", place.text("door"));
    let log_in =
        |handlers: &str| run(&mut countersign(&place, &["info", "--challenge-handlers", handlers, &address]));
    // Whichever is written first: the code is for the question that asks for one.
    let both = |password: &str, secret: &str| format!("file(filename={password}),otp(filename={secret})");
    log_in(&both(&password, &secret)).expect_success().expect_text("alice");
    let other = place.file("other", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR");
    log_in(&both(&password, &other)).expect_code(77);
    log_in(&format!("otp(filename={secret})")).expect_code(79);
    let log = gateway.log();
    assert!(!log.contains(ALICE[0]), "{log}");
}

#[test]
fn s_033_no_code_is_asked_for_where_others_can_read_it() {
    let place = Place::new();
    let secrets = place.file("secrets", format!("alice|{}\n", ALICE[0]));
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=otp(filename={secrets})")]);
    let mut client = countersign(&place, &["info", &format!("tcp://alice@{}/", gateway.tcp())]);
    let refused = run(client.env("XPRA_PASSWORD", code(ALICE, 0)));
    refused.expect_code(76).expect_text("this login needs an encrypted connection");
}

#[test]
fn s_088_otp_leaves_no_trace() {
    let door = Door::before(Place::new(), "", &["--debug=all".to_owned()]);
    let (alice, bob) = (code(ALICE, 0), code(BOB, 0));
    door.knock("alice", &alice).expect_success();
    door.knock("bob", &bob).expect_success();
    door.knock("bob", &bob).expect_code(77);
    let log = door.gateway.log();
    assert!(log.contains("auth failure"), "{log}");
    let state = std::fs::read(door.gateway.place().path("state/state.db")).expect("the state");
    let state = String::from_utf8_lossy(&state);
    // The secrets as they are written and as they are, and the longer code.
    for secret in
        [ALICE[0], BOB[0], "12345678901234567890", "3132333435363738393031323334", "abcdefghijkl", &bob]
    {
        assert!(!log.contains(secret) && !state.contains(secret), "{secret} is in the log or the state");
    }
}

#[test]
fn xpras_client_gets_in_with_a_code_of_oathtool() {
    let session = xpra::Session::open("coded");
    let door = Door::before(Place::new(), "", &[format!("--backend=xpra+unix:{}", session.socket)]);
    let place = Place::new();
    let knock = |code: &str| {
        let file = place.file("code", code);
        xpra::info(&format!("socket://alice@{}", door.socket()), &[format!("--password-file={file}")], &[])
    };
    let code = code(ALICE, 0);
    xpra::expect_answer_of(&session, knock(&code));
    knock(&code).expect_code(xpra::exit::CONNECTION_FAILED);
}

/// A gateway on a Unix socket that asks for codes.
struct Door {
    gateway: Gateway,
    window: String,
}

impl Door {
    fn open(window: &str) -> Self {
        Self::before(Place::new(), window, &[])
    }

    fn before(place: Place, window: &str, more: &[String]) -> Self {
        let secrets = place.file("secrets", format!("alice|{}\nbob|{}\n", ALICE[0], BOB_AS_URI));
        let bind = format!("--bind={},auth=otp(filename={secrets}{window})", place.text("door"));
        let gateway = Gateway::start_in(place, &[&[bind], more].concat(), |_| {});
        Self { gateway, window: window.to_owned() }
    }

    /// The same gateway again, after an end without warning.
    fn killed_and_started(self) -> Self {
        Self::before(self.gateway.kill(), &self.window, &[])
    }

    fn socket(&self) -> String {
        self.gateway.place().text("door")
    }

    fn knock(&self, name: &str, code: &str) -> Finished {
        let address = format!("unix://{name}@{}", self.socket());
        let mut client = countersign(self.gateway.place(), &["info", &address]);
        run(client.env("XPRA_PASSWORD", code))
    }
}

/// What `oathtool` shows now, or `steps` later.
fn code(secret: [&str; 4], steps: i64) -> String {
    let [secret, kind, digits, period] = secret;
    let offset: i64 = steps * period.parse::<i64>().expect("seconds");
    let mut oathtool = Command::new("oathtool");
    oathtool.args([&format!("--totp={kind}"), "--base32", &format!("--digits={digits}")]);
    oathtool.args([&format!("--time-step-size={period}s"), &format!("--now=now {offset:+} seconds"), secret]);
    must(&mut oathtool).trim().to_owned()
}

/// A secret, its hash, digits and period.
const ALICE: [&str; 4] = ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "sha1", "6", "30"];
const BOB: [&str; 4] = ["MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U", "sha256", "8", "60"];
const BOB_AS_URI: &str = "otpauth://totp/Example:bob?secret=MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U&issuer=Example&algorithm=SHA256&digits=8&period=60";
