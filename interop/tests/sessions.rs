//! `session:`: each user's own daemon, with three local accounts made by the test. Only root can make them.

use std::{fs, process::Command};

use countersign_interop::{
    Place,
    account::Account,
    gateway::{Gateway, countersign},
    net::{dial, wait_for_unix},
    process::{Daemon, Finished, run},
    wire::{self, Received, Value, answer, hello, honest, with, without},
};

/// Every way to say which session is meant, with all that the other user could be reached by.
#[test]
fn s_085_two_users_and_all_selectors_reach_the_users_own_sessions_alone() {
    let Some(yard) = Yard::new() else { return };
    let (app, mail) = (yard.place.text("run/{uid}/app.sock"), yard.place.text("run/{uid}/mail.sock"));
    let _daemons: Vec<_> = yard
        .both()
        .flat_map(|user| {
            ["app", "mail"].map(|name| yard.serve(user, &format!("run/{}/{name}.sock", user.uid)))
        })
        .collect();
    let router = format!("session:template(path={app},path=mail={mail})");
    let (plain, packets) = (yard.gate(&router), yard.gate(&format!("xpra+{router}")));
    let (mut own, mut refused) = (0, 0);
    for (user, other) in [(&yard.alice, &yard.bob), (&yard.bob, &yard.alice)] {
        let theirs = format!("{}/{}", yard.place.text("run"), other.uid);
        let right = ["app", "mail", ":mail"].map(str::to_owned);
        let wrong = [
            other.name.clone(),
            other.uid.to_string(),
            format!("{}/app", other.uid),
            format!("{}:app", other.name),
            format!("{}@app", other.name),
            format!("{theirs}/app.sock"),
            format!("unix:{theirs}/mail.sock"),
            format!("socket://{theirs}/mail.sock"),
            format!("../{}/app", other.uid),
            "{uid}".to_owned(),
            "root".to_owned(),
        ];
        for (wanted, is_own) in
            right.iter().map(|wanted| (wanted, true)).chain(wrong.iter().map(|w| (w, false)))
        {
            let mut answers = Vec::new();
            for selector in ["display", "session-name"] {
                answers.push(yard.raw(&packets, user, &[(selector, wanted)]));
            }
            // The display is what counts, whatever else is said.
            answers.push(yard.raw(&packets, user, &[("display", wanted), ("session-name", "app")]));
            answers.push(yard.raw(&packets, user, &[("display", wanted), ("session-id", &other.name)]));
            answers.push(said(&yard.ask(&plain, user, &["--session", wanted], "")));
            // What an address cannot hold is no selector.
            if !wanted.contains(['/', '{', '@']) {
                answers.push(said(&yard.ask(&plain, user, &[], wanted)));
            }
            for answer in answers {
                assert!(!answer.contains(&format!("\"uids\":[{}", other.uid)), "{wanted}: {answer}");
                if is_own {
                    assert!(
                        answer.contains(&format!("\"uids\":[{0},{0},{0}]", user.uid)),
                        "{wanted}: {answer}"
                    );
                    own += 1;
                } else {
                    assert!(answer.contains("there is no such session: you have `app`, `mail`"), "{answer}");
                    assert!(!answer.contains(&theirs) && !answer.contains("sock"), "{answer}");
                    refused += 1;
                }
            }
        }
    }
    eprintln!(
        "two users: {own} selectors reached the user's own session, {refused} were refused, 0 the other's"
    );
    // Without a name the list is told; a name in the login that is not the proved one changes nothing.
    let several = said(&yard.ask(&plain, &yard.alice, &[], ""));
    assert!(several.contains("say which session you want: you have `app`, `mail`"), "{several}");
    let none = said(&yard.ask(&plain, &yard.carol, &["--session", "app"], ""));
    assert!(none.contains("the service is not available"), "{none}");
    let none = said(&yard.ask(&plain, &yard.carol, &[], ""));
    assert!(none.contains("you have no session here"), "{none}");
}

/// Three users, a place for their sockets, and what a gateway knows them by.
struct Yard {
    alice: Account,
    bob: Account,
    /// Has an account, and no session.
    carol: Account,
    accounts: String,
    program: String,
    place: Place,
}

impl Yard {
    fn new() -> Option<Self> {
        let place = Place::new();
        place.open_to_all();
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Account::at_home(&place, name));
        let (alice, bob, carol) = (alice?, bob?, carol?);
        let mut accounts = String::new();
        for user in [&alice, &bob, &carol] {
            accounts += &format!("{0}|word of {0}|{1}|{2}||\n", user.name, user.uid, user.gid);
            place.file(&format!("{}.word", user.name), format!("word of {}", user.name));
            let _ = user.folder(&place, &format!("run/{}", user.uid));
        }
        let accounts = place.file("accounts", accounts);
        let program = place.text("user-daemon");
        // Others may not look into the folder that it was built in.
        fs::copy(env!("CARGO_BIN_EXE_user-daemon"), &program).expect("a copy of the daemon");
        Some(Self { alice, bob, carol, accounts, program, place })
    }

    fn both(&self) -> impl Iterator<Item = &Account> {
        [&self.alice, &self.bob].into_iter()
    }

    /// A gateway that knows the users by password, before this backend.
    fn gate(&self, backend: &str) -> Gateway {
        let bind = format!("--bind-tcp=127.0.0.1:0,auth=multifile(filename={})", self.accounts);
        Gateway::start(&[bind, format!("--backend={backend}")])
    }

    /// A daemon that the user has started, with its socket at this place.
    fn serve(&self, user: &Account, socket: &str) -> Daemon {
        let mut command = user.command("setpriv");
        command.args(["--pdeathsig", "TERM", "--", &self.program]).arg(self.place.path(socket));
        let daemon = Daemon::start(isolated(command));
        wait_for_unix(&daemon, &self.place.path(socket));
        daemon
    }

    /// Our client as this user: what came back.
    fn ask(&self, gateway: &Gateway, user: &Account, options: &[&str], display: &str) -> Finished {
        let word = format!("--password-file={}", self.place.text(&format!("{}.word", user.name)));
        let address = format!("tcp://{}@127.0.0.1:{}/{display}", user.name, gateway.port());
        run(&mut countersign(&self.place, &[&["connect", &word], options, &[&address]].concat()))
    }

    /// A login in our own bytes with more in its hello: the daemon's first line, or the refusal's texts.
    fn raw(&self, gateway: &Gateway, user: &Account, said: &[(&str, &str)]) -> String {
        let salt = *b"thirty-two bytes of client salt!";
        let mut stream = dial(gateway.tcp());
        let add = |caps, (name, text): &(&str, &str)| with(caps, name, Value::from(*text));
        let caps = said.iter().fold(honest(&user.name), add);
        wire::send(&mut stream, &hello(caps.clone()));
        let challenge = wire::read(&mut stream).challenge();

        let response = answer(&challenge, &salt, format!("word of {}", user.name).as_bytes());
        let caps = with(without(caps, "challenge"), "challenge_response", response.as_slice().into());
        wire::send(&mut stream, &hello(with(caps, "challenge_client_salt", Value::from(salt.as_slice()))));
        match wire::read(&mut stream) {
            Received::Text(line) => line,
            Received::Packet(_, reasons) => texts(&reasons),
            Received::End => "nothing".to_owned(),
        }
    }
}

fn texts(values: &[Value]) -> String {
    values.iter().map(Value::text).collect::<Vec<_>>().join(" | ")
}

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}

/// Nothing of the environment that the tests run in.
fn isolated(mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command
}
