//! `exec`: lets in whom a program of the operator's lets in.
//!
//! | file | holds |
//! |---|---|
//! | `command.rs` | the words of the command, and the facts that are filled in |
//! | `child.rs` | one run of the program, its deadline and its end |

mod child;
mod command;

use std::{process::Command, time::Duration};

use serde::Deserialize;

use self::{child::Ended, command::CommandLine};
use super::{Context, Module, OptionSpec, Options, places::Places};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    error::ConfigError,
    needs::Need,
    proto::{
        chain::{CHECKS_AT_ONCE, CheckPassword, CheckPeer},
        error::Reason,
    },
};

pub(super) struct Exec;

impl Module for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn summary(&self) -> &'static str {
        "lets in whom a program of yours lets in"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Runs a program for each login; exit status 0 lets the client in, everything else refuses. The command is \
         split into words as a shell does, but no shell runs. In its arguments $info (who connects, in words), \
         $timeout (seconds), $username and $display are replaced, as ${info} too, once, within the argument they \
         are written in. A command without any of these gets the description and the seconds as two more arguments. \
         A display that would be read as an option of the program is refused; names cannot start with a dash.\n\n\
         The environment holds PATH, LANG and COUNTERSIGN_USERNAME, _DISPLAY, _REMOTE_ADDRESS, _REMOTE_PORT, \
         _SOCKET and _PEER_UID as far as they are known; name and display are the client's own words. With \
         require-challenge=yes the client is asked for a password, which the program reads from standard input with \
         a newline after it, and from nowhere else. \
         The program runs in a process group of its own, which is killed when the program ends; when its time is \
         over it is sent TERM and two seconds later KILL. At most max-concurrent programs run for a socket; who \
         comes then waits for a turn, which sources take one after the other, and is refused as busy if none comes \
         within ten seconds.\n\n\
         A program may say who it is by one JSON object on standard output, 64 KiB at most: {\"username\": \"alice\", \
         \"uid\": 1000, \"gid\": 1000, \"displays\": [\":10\"]}, the name alone being required. Other output is \
         ignored, and without the object nobody is named."
    }

    fn example(&self) -> &'static str {
        "exec(command=\"/usr/bin/test -n $username\", timeout=30s)"
    }

    fn needs(&self, _: &Options) -> Vec<Need> {
        vec![Need::Programs]
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let asks = options.flag("require-challenge", false)?;
        let program = Program::configure(options)?;
        Ok(if asks { Verifier::Password(Box::new(program)) } else { Verifier::Peer(Box::new(program)) })
    }

    fn uses_username(&self) -> bool {
        true
    }
}

/// The configured program, and how many of it are running.
struct Program {
    command: CommandLine,
    timeout: Duration,
    dialog_display: Option<String>,
    running: Places,
}

impl Program {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let command = options.required("command")?;
        let command =
            CommandLine::parse(&command).map_err(|(why, fix)| options.error("command", why, fix))?;
        let timeout = options.duration("timeout", Duration::from_secs(600))?;
        if timeout.is_zero() || timeout > Duration::from_secs(24 * 3600) {
            let fix = "write a length of time from a moment to a day, as timeout=30s";
            return Err(options.error("timeout", "a check must end", fix));
        }
        let most = options.number("max-concurrent", 8, 1..=CHECKS_AT_ONCE as u64)?;
        let dialog_display = options.take("display")?.map(|display| display.to_string());
        Ok(Self { command, timeout, dialog_display, running: Places::new("max-concurrent", most) })
    }

    /// `None` if the program says no.
    fn run(&self, peer: &Peer, claim: &Claim, password: Option<&Secret>) -> Result<Option<Ended>, Refusal> {
        let place = self.running.take()?;
        let mut command = Command::new(self.command.program());
        command
            .args(self.command.arguments(peer, claim, self.timeout.as_secs().max(1))?)
            .env_clear()
            .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
            .envs(self.dialog_display.iter().map(|display| ("DISPLAY", display)))
            .envs(command::environment(peer, claim))
            .current_dir("/");
        let ended = child::run(&mut command, password, self.timeout, place)?;
        Ok(child::how_it_ended(ended.status)?.then_some(ended))
    }
}

impl CheckPeer for Program {
    fn check(&self, peer: &Peer, claim: &Claim) -> Result<Option<Identity>, Refusal> {
        let ended = self.run(peer, claim, None)?;
        let ended = ended.ok_or_else(|| Refusal::peer_denied("the program refuses this client"))?;
        stated(&ended.output)
    }

    fn at_once(&self) -> usize {
        self.running.most()
    }
}

impl CheckPassword for Program {
    fn check(&self, peer: &Peer, claim: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        let ended = self.run(peer, claim, Some(password))?;
        let ended =
            ended.ok_or_else(|| Refusal::new(Reason::WrongSecret, "the program refuses this password"))?;
        stated(&ended.output)
    }

    fn at_once(&self) -> usize {
        self.running.most()
    }
}

/// What a program may say on its standard output.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    username: String,
    uid: Option<u32>,
    gid: Option<u32>,
    #[serde(default)]
    displays: Vec<String>,
}

/// The identity that the output states. An object that is started must be whole and right: half an
/// identity is none to act on.
fn stated(output: &[u8]) -> Result<Option<Identity>, Refusal> {
    if !output.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let wrong = || Refusal::module_failed("the program's JSON states no identity");
    let said: Statement = serde_json::from_slice(output).map_err(|_| wrong())?;
    // The number that means "unchanged" to setuid(2) is nobody's (S-70).
    if [said.uid, said.gid].contains(&Some(u32::MAX)) {
        return Err(wrong());
    }
    let name = Username::parse(&said.username)?;
    let identity = Identity::new(name).with_ids(said.uid, said.gid);
    Ok(Some(identity.with_session(said.displays, Vec::new(), Vec::new())))
}

/// What programs are found by, here and by the program itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("command", "COMMAND", "", "the program and its arguments, as one quoted text"),
    OptionSpec::new("timeout", "TIME", "600s", "how long the program may take"),
    OptionSpec::new("require-challenge", "yes|no", "no", "ask for a password and give it to the program"),
    OptionSpec::new("max-concurrent", "NUMBER", "8", "how many may run for this socket at one time"),
    OptionSpec::new("display", "DISPLAY", "", "the X11 display for a program that shows a dialog"),
];

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    fn configured(values: &[(&str, &str)]) -> Result<Verifier, ConfigError> {
        let mut options = Options::new("exec", values.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        Exec.configure(&mut options, &Context::default())
    }

    fn peer() -> Peer {
        Peer::tcp("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:10000".parse().unwrap())
    }

    fn checked(command: &str, claim: &Claim) -> Result<Option<Identity>, Refusal> {
        let Verifier::Peer(module) = configured(&[("command", command)]).unwrap() else {
            panic!("nothing is asked")
        };
        module.check(&peer(), claim)
    }

    fn check(command: &str) -> Result<Option<Identity>, Refusal> {
        checked(command, &Claim::named("alice").unwrap())
    }

    /// A command that runs a script. The shell reads it: a file that was written a moment ago may be
    /// "busy" for exec while another test forks.
    fn script(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        fs::write(&path, text).unwrap();
        let command = format!("sh {}", path.display());
        (folder, command)
    }

    #[test]
    fn s_074_exit_0_alone_passes_and_names_nobody() {
        assert_eq!(check("true"), Ok(None));
        assert_eq!(check("false").unwrap_err().reason, Reason::PeerDenied);
        assert_eq!(check("sh -c 'kill -9 $$'").unwrap_err().reason, Reason::ModuleFailed);
        assert_eq!(check("echo alice"), Ok(None));
    }

    #[test]
    fn both_contracts_reach_the_program() {
        let (_folder, command) = script(
            r#"test "$#" = 2 && test "$1" = "Connection request from tcp:192.0.2.7:5000" && test "$2" = 600"#,
        );
        assert_eq!(check(&command), Ok(None));
        let (_folder, command) = script(r#"test "$#" = 1 && test "$1" = "a b; exit 0 \$timeout""#);
        let claim = Claim::named("a b; exit 0 $timeout").unwrap();
        assert_eq!(checked(&format!("{command} $username"), &claim), Ok(None));
    }

    #[test]
    fn s_074_the_environment_holds_the_facts_and_nothing_of_ours() {
        let (_folder, command) = script(
            r#"test "$COUNTERSIGN_USERNAME $COUNTERSIGN_REMOTE_ADDRESS $COUNTERSIGN_REMOTE_PORT" = "alice 192.0.2.7 5000" || exit 1
            test "$COUNTERSIGN_SOCKET" = tcp:192.0.2.1:10000 || exit 2
            test -z "${COUNTERSIGN_PEER_UID+x}$CARGO_MANIFEST_DIR$HOME$USER" || exit 3
            test "$DISPLAY" = :7 && test "$(pwd)" = /"#,
        );
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let verifier = configured(&[("command", &command), ("display", ":7")]).unwrap();
        let Verifier::Peer(module) = verifier else { panic!("nothing is asked") };
        assert_eq!(module.check(&peer(), &Claim::named("alice").unwrap()), Ok(None));
    }

    #[test]
    fn s_074_a_password_is_read_from_standard_input() {
        let (_folder, command) = script(r#"read -r word; test "$word" = "it's \$me""#);
        let Verifier::Password(module) =
            configured(&[("command", &command), ("require-challenge", "yes")]).unwrap()
        else {
            panic!("the password is needed in the clear")
        };
        let check = |password: &str| module.check(&peer(), &Claim::anonymous(), &Secret::new(password));
        assert_eq!(check("it's $me"), Ok(None));
        assert_eq!(check("wrong").unwrap_err().reason, Reason::WrongSecret);
    }

    #[test]
    fn s_068_a_program_states_an_identity_by_a_whole_json_object_only() {
        let (_folder, command) =
            script(r#"echo '{"username": "Zoë", "uid": 1000, "gid": 100, "displays": [":10", ":11"]}'"#);
        let identity = check(&command).unwrap().unwrap();
        assert_eq!((identity.name.as_str(), identity.uid, identity.gid), ("Zoë", Some(1000), Some(100)));
        assert_eq!(identity.sessions, [":10", ":11"]);
        assert!(stated(b" {\"username\": \"bob\"}\n").unwrap().unwrap().uid.is_none());
        for nobody in [&b""[..], b"\n", b"welcome", b"[1]"] {
            assert_eq!(stated(nobody), Ok(None));
        }
        for wrong in [
            &b"{"[..],
            b"{}",
            b"{\"username\": \"a/b\"}",
            b"{\"username\": \"\"}",
            b"{\"username\": \"a\", \"uid\": -1}",
            b"{\"username\": \"a\", \"uid\": 4294967295}",
            b"{\"username\": \"a\", \"gid\": \"0\"}",
            b"{\"username\": \"a\", \"admin\": true}",
            b"{\"username\": \"a\"} {\"username\": \"b\"}",
            b"{\"username\": \"\xff\"}",
        ] {
            assert!(stated(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn w22_more_than_the_allowed_number_are_refused_as_busy_until_a_place_is_free() {
        let values = [("command", "sh -c 'sleep 600'"), ("timeout", "500ms"), ("max-concurrent", "2")];
        let Verifier::Peer(module) = configured(&values).unwrap() else { panic!("nothing is asked") };
        let module = &*module;
        let reasons: Vec<Reason> = std::thread::scope(|scope| {
            let checks: Vec<_> = (0..6)
                .map(|_| scope.spawn(move || module.check(&peer(), &Claim::anonymous()).unwrap_err().reason))
                .collect();
            checks.into_iter().map(|check| check.join().unwrap()).collect()
        });
        assert_eq!(reasons.iter().filter(|reason| **reason == Reason::Busy).count(), 4);
        assert_eq!(reasons.iter().filter(|reason| **reason == Reason::ModuleFailed).count(), 2);
        let start = Instant::now();
        while module.check(&peer(), &Claim::anonymous()).unwrap_err().reason == Reason::Busy {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn s_065_what_cannot_work_is_a_start_error_that_repeats_no_value() {
        for wrong in [
            &[][..],
            &[("command", "")],
            &[("command", "/nonexistent/secret-value")],
            &[("command", "true $password secret-value")],
            &[("command", "true"), ("timeout", "0")],
            &[("command", "true"), ("timeout", "secret-value")],
            &[("command", "true"), ("timeout", "2d")],
            &[("command", "true"), ("max-concurrent", "0")],
            &[("command", "true"), ("require-challenge", "secret-value")],
        ] {
            let error = configured(wrong).unwrap_err();
            assert!(!format!("{error}{}", error.fix()).contains("secret-value"), "{error}");
        }
    }
}
