//! Secrets that are typed: on a terminal of their own, without echo, asked for twice where they are new.

use std::process::Command;

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    process::{Finished, run},
};

const TYPED: &str = "typed-and-never-shown";

#[test]
fn a_new_passphrase_is_typed_twice_and_let_in_by_it_without_echo() {
    let place = Place::new();
    let socket = place.text("rpc");
    let gateway = Gateway::start(&[format!("--bind-rpc=unix:{socket}")]);
    let state = gateway.place().text("state");
    let set = ["set", "local.passphrase", "--state-dir", &state];
    let get = ["get", "local.passphrase", "--state-dir", &state];

    let differ = [("new passphrase: ", TYPED), ("the same again: ", "something else")];
    on_a_terminal(&place, &set, &differ).expect_code(1).expect_text("the two are not the same");
    run(&mut countersign(&place, &get)).expect_code(0).expect_text("false");
    let same = [("new passphrase: ", TYPED), ("the same again: ", TYPED)];
    on_a_terminal(&place, &set, &same).expect_code(0).expect_text("the passphrase is set");
    run(&mut countersign(&place, &get)).expect_code(0).expect_text("true");

    let server = format!("unix:{socket}");
    let authenticate = ["authenticate", "--server", &server];
    // Said here already: the server would answer the same, and count it as a guess.
    on_a_terminal(&place, &authenticate, &[("passphrase", "")]).expect_code(2);
    on_a_terminal(&place, &authenticate, &[("passphrase", TYPED)])
        .expect_code(0)
        .expect_text("authenticated");
    let nothing = [("new passphrase: ", ""), ("the same again: ", "")];
    on_a_terminal(&place, &set, &nothing).expect_code(0).expect_text("the passphrase is unset");
    assert!(!gateway.log().contains(TYPED));
}

#[test]
fn pinentry_asks_for_a_password_on_the_terminal_and_can_be_closed() {
    let place = Place::new();
    let socket = place.text("door");
    let gateway = Gateway::start(&[format!("--bind={socket},auth=password(value={TYPED})")]);
    let address = format!("unix:{socket}");
    let info = ["info", "--challenge-handlers", "prompt(pinentry=pinentry-tty)", &address];
    on_a_terminal(&place, &info, &[("Answer:", TYPED)]).expect_code(0).expect_text("client.answered=hmac");
    on_a_terminal(&place, &info, &[("Answer:", "something else")]).expect_code(77);
    on_a_terminal(&place, &info, &[("Answer:", "")]).expect_code(79);
    assert!(!gateway.log().contains(TYPED));
}

#[test]
fn a_module_is_tried_with_what_is_typed_and_tells_its_cause() {
    let place = Place::new();
    let module = format!("file(filename={})", place.file("word", TYPED));
    let test = ["modules", "test", &module, "--as", "alice@local"];
    let question = "Password for alice at the module file: ";
    on_a_terminal(&place, &test, &[(question, TYPED)]).expect_code(0).expect_text("passed");
    on_a_terminal(&place, &test, &[(question, "something else")]).expect_code(77).expect_text("wrong_secret");
    on_a_terminal(&place, &test, &[(question, "")]).expect_code(79).expect_text("unanswered");
}

/// Runs a command on a terminal of its own and types an answer to each question, once echo is off.
fn on_a_terminal(place: &Place, arguments: &[&str], answers: &[(&str, &str)]) -> Finished {
    let inner = countersign(place, arguments);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", TERMINAL]).arg(serde_json::to_string(answers).expect("JSON"));
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run(&mut command).expect_without(TYPED)
}

/// Prints what the terminal showed, and ends as the command did.
const TERMINAL: &str = r"
import json, os, pty, sys, termios, time
answers = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
shown = b''
def more():
    global shown
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        piece = b''
    shown += piece
    return bool(piece)
asked = 0
for question, answer in answers:
    while question.encode() not in shown[asked:]:
        if not more():
            break
    asked = len(shown)
    deadline = time.monotonic() + 10
    while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(terminal, answer.encode() + b'\n')
while more():
    pass
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
