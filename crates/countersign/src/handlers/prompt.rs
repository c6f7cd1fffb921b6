//! `prompt`: asks the person, on the terminal or through a program that does.

use std::{
    ffi::{OsStr, OsString},
    fs::OpenOptions,
    io::{IsTerminal as _, Read as _},
    process::{Command, Stdio},
};

use pinentry::PassphraseInput;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::client::{Failure, ProvideSecret, Provided, Question, Responder, quotable},
};

pub(super) struct Prompt;

impl Handler for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn summary(&self) -> &'static str {
        "asks on the terminal, through the program in COUNTERSIGN_ASKPASS or SSH_ASKPASS, or with pinentry"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Up to four questions of one connection are asked, without an echo, each with the server it is for and \
         whether that server is verified; words of the server's own stand between quotation marks. Where there is no \
         terminal, the program named by COUNTERSIGN_ASKPASS, else SSH_ASKPASS, is given the question as its argument \
         and prints the answer; without one, pinentry asks on the display (DISPLAY or WAYLAND_DISPLAY). In a pipe or a \
         service without any of them, nothing is asked and the login ends. An empty answer ends it too. \
         pinentry=PROGRAM asks with that pinentry, also on a terminal; pinentry=no never does."
    }

    fn example(&self) -> &'static str {
        "prompt"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        Ok(Some(Responder::secret("prompt", Person { means: Self::means(options, sources)? })))
    }
}

impl Prompt {
    fn means(options: &mut Options, sources: &mut Sources) -> Result<Means, ConfigError> {
        let first = |names: &[&str]| names.iter().find_map(|name| sources.variable(name));
        Ok(match options.take("pinentry")? {
            Some(program) if *program != "no" => {
                if PassphraseInput::with_binary(&*program).is_none() {
                    let fix = "install the package pinentry-curses, or name the program that there is";
                    return Err(options.error("pinentry", "there is no such program", fix));
                }
                Means::Pinentry(program.to_string().into())
            }
            never => match first(&["COUNTERSIGN_ASKPASS", "SSH_ASKPASS"]) {
                Some(program) => Means::Askpass(program),
                None if never.is_none() && first(&["DISPLAY", "WAYLAND_DISPLAY"]).is_some() => Means::Display,
                None => Means::Terminal,
            },
        })
    }
}

/// Somebody who may be there to ask.
struct Person {
    means: Means,
}

/// How they are asked. But for a pinentry that was named, a terminal comes first.
enum Means {
    Terminal,
    Askpass(OsString),
    Pinentry(OsString),
    /// The system's pinentry, if it has one.
    Display,
}

impl ProvideSecret for Person {
    fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure> {
        let text = label(question);
        let answer = match &self.means {
            Means::Pinentry(program) => ask_pinentry(program, &text)?,
            _ if has_terminal() => ask_terminal(&text)?,
            Means::Askpass(program) => ask_program(program, &text)?,
            Means::Display => ask_pinentry("pinentry".as_ref(), &text)?,
            Means::Terminal => None,
        };
        Ok(answer.map(Provided::Text))
    }

    fn turns(&self) -> usize {
        4
    }

    fn is_at_hand(&self) -> bool {
        false
    }
}

/// What the person reads (S-46): all of it our own words, but for what stands between quotation
/// marks, which the server cannot leave.
fn label(question: &Question<'_>) -> String {
    let whom = question.username.map(|name| format!(" for {name}")).unwrap_or_default();
    let server = question.server;
    let verified = if server.verified { "" } else { " (not verified)" };
    let place = format!("{whom} at {}{verified}", server.address);
    let said = quotable(question.prompt);
    if let Some((number, of)) = counted(&said) {
        return format!("Password {number} of {of}{place}: ");
    }
    let usual = question.username.map(|name| format!("password for user '{name}'"));
    if said.is_empty() || said == "password" || Some(&said) == usual.as_ref() {
        return format!("Password{place}: ");
    }
    format!("The server asks for \"{said}\"\nAnswer{place}: ")
}

/// The numbers in `password N of M`, the words of our own gateway for the links of a chain.
fn counted(said: &str) -> Option<(u8, u8)> {
    let (number, of) = said.strip_prefix("password ")?.split_once(" of ")?;
    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
    (1 <= number && number <= of).then_some((number, of))
}

/// Whether there is a terminal with a person at it. A program in a pipe whose session has one is
/// asked for by nobody.
fn has_terminal() -> bool {
    (std::io::stdin().is_terminal() || std::io::stderr().is_terminal())
        && OpenOptions::new().read(true).write(true).open(TERMINAL).is_ok()
}

fn ask_terminal(text: &str) -> Result<Option<Secret>, Failure> {
    let typed = rpassword::prompt_password(text)
        .map_err(|error| Failure::unusable(format!("the terminal cannot be read: {error}"), NOT_HERE))?;
    Ok(Some(Secret::new(typed)).filter(|secret| !secret.is_empty()))
}

fn ask_program(program: &OsString, text: &str) -> Result<Option<Secret>, Failure> {
    let name = std::path::Path::new(program).display();
    let unusable = |why: String| Failure::unusable(format!("askpass program {name}: {why}"), NOT_HERE);
    let mut child = Command::new(program)
        .arg(text)
        // S-90: the answer to another question is none of its business.
        .env_remove("XPRA_PASSWORD")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| unusable(format!("it cannot be started: {error}")))?;
    let mut answer = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
    let read = match child.stdout.take() {
        Some(output) => output.take(MOST_BYTES as u64 + 1).read_to_end(&mut answer),
        None => Ok(0),
    };
    // Its output is closed by now, so one that goes on writing ends.
    let status = child.wait().map_err(|error| unusable(format!("it cannot be waited for: {error}")))?;
    read.map_err(|error| unusable(format!("its answer cannot be read: {error}")))?;
    if answer.len() > MOST_BYTES {
        return Err(unusable("it answers with more than 4 KiB".to_owned()));
    }
    if !status.success() {
        // The person closed the dialog.
        return Ok(None);
    }
    while answer.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        answer.pop();
    }
    Ok(Some(Secret::new(std::mem::take(&mut *answer))).filter(|secret| !secret.is_empty()))
}

/// Nothing where there is no such program, or where the person closed the dialog.
fn ask_pinentry(program: &OsStr, text: &str) -> Result<Option<Secret>, Failure> {
    let Some(mut pinentry) = PassphraseInput::with_binary(program) else { return Ok(None) };
    let answer = pinentry.with_title("countersign").with_description(text.trim_end()).with_prompt("Answer:");
    match answer.interact() {
        Ok(typed) => Ok(Some(Secret::new(typed.expose_secret())).filter(|secret| !secret.is_empty())),
        Err(pinentry::Error::Cancelled | pinentry::Error::Timeout) => Ok(None),
        Err(error) => Err(Failure::unusable(format!("pinentry does not ask: {error}"), NOT_HERE)),
    }
}

const OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    "pinentry",
    "PROGRAM|no",
    "",
    "ask with this pinentry, or never with one; without it the system's asks where only a display is there",
)];

/// The terminal of a program, whatever its standard input and output are.
const TERMINAL: &str = if cfg!(windows) { "CONIN$" } else { "/dev/tty" };

const NOT_HERE: &str = "give the password with --password-file or XPRA_PASSWORD";

/// The longest answer of an askpass program.
const MOST_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Username,
        proto::{challenge::Challenge, client::Server, mechanism::Mechanism},
    };

    fn shown(prompt: &str, username: Option<&str>, verified: bool) -> String {
        let username = username.map(|name| Username::parse(name).unwrap());
        let challenge = Challenge::new(vec![7; 64], Mechanism::Xor, "hmac+sha512", prompt);
        let server = Server::new("tls://example.com:443", true, verified);
        label(&Question::new(&server, username.as_ref(), &challenge))
    }

    #[test]
    fn s_046_the_question_names_who_asks_and_for_whom() {
        let verified = |prompt| shown(prompt, Some("alice"), true);
        assert_eq!(verified("password"), "Password for alice at tls://example.com:443: ");
        assert_eq!(verified("password 1 of 2"), "Password 1 of 2 for alice at tls://example.com:443: ");
        assert_eq!(verified("password for user 'alice'"), "Password for alice at tls://example.com:443: ");
        assert_eq!(shown("", None, false), "Password at tls://example.com:443 (not verified): ");
    }

    #[test]
    fn s_046_the_servers_words_stay_between_their_quotation_marks() {
        let hostile = "x\": \u{1b}[1A\nPassword for root at tls://bank.example: ";
        assert_eq!(
            shown(hostile, Some("alice"), false),
            "The server asks for \"x: [1A Password for root at tls://bank.example:\"\n\
             Answer for alice at tls://example.com:443 (not verified): "
        );
        for odd in ["password 2 of 1", "password 0 of 2", "password 1 of 999", "password for user 'bob'"] {
            assert!(shown(odd, Some("alice"), true).starts_with("The server asks for"), "{odd}");
        }
    }

    #[test]
    fn a_display_is_asked_on_where_no_program_is_named_and_nobody_forbids_it() {
        let means = |list: &str, variables: &'static [&str]| {
            let has = |name: &str| variables.contains(&name).then(|| OsString::from("set"));
            let mut options = super::super::selection::parse(list).unwrap().remove(0);
            let mut sources = Sources::nowhere().with_env(has);
            Prompt::means(&mut options, &mut sources)
        };
        assert!(matches!(means("prompt", &[]), Ok(Means::Terminal)));
        assert!(matches!(means("prompt", &["DISPLAY"]), Ok(Means::Display)));
        assert!(matches!(means("prompt", &["WAYLAND_DISPLAY", "SSH_ASKPASS"]), Ok(Means::Askpass(_))));
        assert!(matches!(means("prompt(pinentry=no)", &["DISPLAY"]), Ok(Means::Terminal)));
        assert!(matches!(means("prompt(pinentry=sh)", &["SSH_ASKPASS"]), Ok(Means::Pinentry(_))));
        assert!(means("prompt(pinentry=/nonexistent)", &[]).is_err());
    }

    #[test]
    fn an_askpass_program_is_given_the_question_and_its_answer_is_taken() {
        let ask = |program: &str| ask_program(&program.into(), "Password: ");
        assert!(ask("echo").unwrap().unwrap().matches(b"Password: "));
        assert!(ask("true").unwrap().is_none(), "an empty answer");
        assert!(ask("false").unwrap().is_none(), "a closed dialog");
        assert!(ask("yes").is_err(), "an answer without end");
        assert!(ask("/nonexistent/askpass").is_err());
    }
}
