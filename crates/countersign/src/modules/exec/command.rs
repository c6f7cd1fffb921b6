//! The command of `exec`: words with places for facts, filled in for each check.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use crate::{Claim, Peer, Refusal, Username, proto::peer::Origin};

/// A program and its arguments, as far as they are known at start.
#[derive(Debug)]
pub(super) struct CommandLine {
    program: PathBuf,
    arguments: Vec<Vec<Piece>>,
}

/// A part of one argument. Filled in once: what stands for a fact is never looked at again.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Fact(Fact),
}

/// What may be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Info,
    Timeout,
    Username,
    Display,
}

impl CommandLine {
    /// Splits `text` as a shell does, without one, and finds the program.
    ///
    /// # Errors
    /// What is wrong, and how to mend it. Neither repeats the text.
    pub(super) fn parse(text: &str) -> Result<Self, (&'static str, &'static str)> {
        let words = shlex::split(text).ok_or(("its quotes do not close", "close them"))?;
        let Some((program, rest)) = words.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err(("it names no program", "write the program and its arguments"));
        };
        let fixed = pieces(program)?.iter().all(|piece| matches!(piece, Piece::Text(_)));
        if !fixed {
            return Err(("the program itself depends on the client", "write its path as it is"));
        }
        let fix = "write the path of an executable program";
        let program = find(program).ok_or(("there is no such program, or it may not be run", fix))?;
        let mut arguments = rest.iter().map(|word| pieces(word)).collect::<Result<Vec<_>, _>>()?;
        let names_facts = arguments.iter().flatten().any(|piece| matches!(piece, Piece::Fact(_)));
        if !names_facts {
            // The older of the two contracts: description and seconds follow what is written.
            arguments.extend([Fact::Info, Fact::Timeout].map(|fact| vec![Piece::Fact(fact)]));
        }
        Ok(Self { program, arguments })
    }

    /// The program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The arguments for one check. A client's words stay within the argument they are written into.
    ///
    /// # Errors
    /// A client's words would be read as an option of the program.
    pub(super) fn arguments(
        &self,
        peer: &Peer,
        claim: &Claim,
        seconds: u64,
    ) -> Result<Vec<OsString>, Refusal> {
        self.arguments.iter().map(|pieces| fill(pieces, peer, claim, seconds)).collect()
    }
}

/// The facts that every program finds in its environment.
pub(super) fn environment(peer: &Peer, claim: &Claim) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(claim.username.as_ref().map(|name| ("COUNTERSIGN_USERNAME", name.to_string())));
    facts.extend(claim.display.as_ref().map(|display| ("COUNTERSIGN_DISPLAY", display.clone())));
    match &peer.origin {
        Origin::Tcp { remote, local } => {
            facts.push(("COUNTERSIGN_REMOTE_ADDRESS", remote.ip().to_string()));
            facts.push(("COUNTERSIGN_REMOTE_PORT", remote.port().to_string()));
            facts.push(("COUNTERSIGN_SOCKET", format!("tcp:{local}")));
        }
        Origin::Vsock { cid, port } => {
            facts.push(("COUNTERSIGN_REMOTE_CID", cid.to_string()));
            facts.push(("COUNTERSIGN_REMOTE_PORT", port.to_string()));
            facts.push(("COUNTERSIGN_SOCKET", "vsock".to_owned()));
        }
        _ => facts.push(("COUNTERSIGN_SOCKET", "unix".to_owned())),
    }
    facts.extend(peer.credentials().map(|known| ("COUNTERSIGN_PEER_UID", known.uid.to_string())));
    facts
}

fn fill(pieces: &[Piece], peer: &Peer, claim: &Claim, seconds: u64) -> Result<OsString, Refusal> {
    let mut argument = String::new();
    for piece in pieces {
        let client_says = match piece {
            Piece::Text(text) => {
                argument.push_str(text);
                continue;
            }
            Piece::Fact(Fact::Info) => {
                argument.push_str(&format!("Connection request from {peer}"));
                continue;
            }
            Piece::Fact(Fact::Timeout) => {
                argument.push_str(&seconds.to_string());
                continue;
            }
            Piece::Fact(Fact::Username) => claim.username.as_ref().map_or("", Username::as_str),
            Piece::Fact(Fact::Display) => claim.display.as_deref().unwrap_or_default(),
        };
        // `Username` forbids a dash in front; a display may have one.
        if argument.is_empty() && client_says.starts_with('-') {
            return Err(Refusal::peer_denied(
                "the client's display would be read as an option of the program",
            ));
        }
        argument.push_str(client_says);
    }
    Ok(argument.into())
}

/// The text and the facts of one word. `$name` and `${name}` of other names stay as they are.
fn pieces(word: &str) -> Result<Vec<Piece>, (&'static str, &'static str)> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let (name, behind) = variable(after);
        rest = behind;
        match fact(name)? {
            Some(fact) => {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Fact(fact));
            }
            None => {
                let as_written = after.len() - behind.len();
                text.push('$');
                text.push_str(after.get(..as_written).unwrap_or_default());
            }
        }
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

/// The name that stands at the start of `text`, and what follows it.
fn variable(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        return (name, rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn fact(name: &str) -> Result<Option<Fact>, (&'static str, &'static str)> {
    Ok(Some(match name {
        "info" => Fact::Info,
        "timeout" => Fact::Timeout,
        "username" => Fact::Username,
        "display" => Fact::Display,
        "password" => {
            let fix = "read it from standard input, with require-challenge=yes";
            return Err(("a password in an argument is seen by every user of the machine", fix));
        }
        "auth_dialog" => return Err(("no dialog comes with the gateway", "write the path of one")),
        "prompt" => return Err(("it asks for the prompt, which is not passed on", "write the text itself")),
        "http_headers" => {
            return Err(("it asks for HTTP headers, which are not passed on", "leave them out"));
        }
        _ => return Ok(None),
    }))
}

/// The program's path: as written if it has a slash, else the first in `PATH` that may be run.
fn find(program: &str) -> Option<PathBuf> {
    let runnable = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        return std::path::absolute(program).ok().filter(runnable);
    }
    let search = env::var_os("PATH").unwrap_or_else(|| OsStr::new(super::PATH).to_owned());
    env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(runnable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer::tcp("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:10000".parse().unwrap())
    }

    fn arguments(text: &str, claim: &Claim) -> Vec<String> {
        let filled = CommandLine::parse(text).unwrap().arguments(&peer(), claim, 30).unwrap();
        filled.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    fn anonymous(text: &str) -> Vec<String> {
        arguments(text, &Claim::anonymous())
    }

    #[test]
    fn without_a_place_for_facts_description_and_seconds_follow() {
        let info = "Connection request from tcp:192.0.2.7:5000";
        assert_eq!(anonymous("/bin/sh"), [info, "30"]);
        assert_eq!(anonymous("/bin/sh -c 'exit 0' $HOME"), ["-c", "exit 0", "$HOME", info, "30"]);
        assert_eq!(anonymous("/bin/sh ${info} '' --limit=${timeout}s"), [info, "", "--limit=30s"]);
    }

    #[test]
    fn s_074_no_shell_reads_the_words() {
        let words = anonymous("sh 'a b' \"c;d\" e\\ f `id` $(id) ';' $timeout");
        assert_eq!(words, ["a b", "c;d", "e f", "`id`", "$(id)", ";", "30"]);
    }

    #[test]
    fn s_074_what_a_client_says_stays_one_argument_and_is_filled_in_once() {
        for name in ["a b; rm *", "$timeout", "${info}", "`id`", "'\"\\", "$(id)"] {
            let claim = Claim::named(name).unwrap();
            assert_eq!(
                arguments("sh -u $username --user=${username}", &claim),
                ["-u".to_owned(), name.to_owned(), format!("--user={name}")]
            );
        }
        assert_eq!(anonymous("sh $username$timeout"), ["30"]);
        assert_eq!(
            anonymous("sh $usernames ${timeouts} $ $$ ${timeout $timeout"),
            ["$usernames", "${timeouts}", "$", "$$", "${timeout", "30"]
        );
    }

    #[test]
    fn s_074_what_a_client_says_never_becomes_an_option() {
        let mut claim = Claim::named("alice").unwrap();
        claim.display = Some("--delete".into());
        let fill = |text: &str| CommandLine::parse(text).unwrap().arguments(&peer(), &claim, 30);
        assert!(fill("sh $display").is_err());
        assert!(fill("sh ${display}x").is_err());
        assert_eq!(fill("sh --display=$display").unwrap(), ["--display=--delete"]);
        assert!(Claim::named("-rf").is_err());
    }

    #[test]
    fn s_090_a_password_is_never_an_argument_and_mistakes_are_start_errors() {
        for (text, why) in [
            ("sh $password", "seen by every user"),
            ("sh --x=${password}", "seen by every user"),
            ("sh $auth_dialog", "no dialog"),
            ("sh $prompt", "the prompt"),
            ("sh ${http_headers}", "HTTP headers"),
            ("sh 'open", "quotes"),
            ("", "no program"),
            ("'' x", "no program"),
            ("$username", "depends on the client"),
            ("/nonexistent/program", "no such program"),
            ("no-such-program-here", "no such program"),
            ("/etc/passwd", "may not be run"),
            ("/bin", "may not be run"),
        ] {
            let (found, fix) = CommandLine::parse(text).unwrap_err();
            assert!(found.contains(why) && !fix.is_empty(), "{text}: {found}");
        }
    }

    #[test]
    fn the_program_is_found_at_start() {
        assert!(CommandLine::parse("sh").unwrap().program().is_absolute());
        assert_eq!(CommandLine::parse("/bin/sh").unwrap().program(), Path::new("/bin/sh"));
    }
}
