//! Where a command takes a secret from: a file, standard input, the terminal without echo, or, with a
//! warning, its arguments.

use std::{
    fmt,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use countersign::{Secret, sys::title::replace_argument};

use crate::report::{Exit, Report};

/// A file or standard input.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// Read it from a file; one newline at its end is left out.
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    file: Option<PathBuf>,
    /// Read it from standard input; one newline at its end is left out.
    #[arg(long)]
    stdin: bool,
}

impl SecretArgs {
    /// The secret; asked for with `question` if neither is given, and again with `again`.
    pub(crate) fn read(&self, question: &str, again: Option<&str>) -> Result<Secret, Report> {
        match (&self.file, self.stdin) {
            (Some(file), _) => of_file(file),
            (None, true) => of_input(),
            (None, false) => ask(question, again, "--file or --stdin"),
        }
    }
}

/// The content of a file.
pub(crate) fn of_file(file: &Path) -> Result<Secret, Report> {
    std::fs::read(file).map(without_newline).map_err(|error| {
        Report::new(Exit::Failure, format!("{}: it cannot be read: {error}", file.display()))
            .fix("name a file that holds the secret, or use --stdin")
    })
}

/// What comes on standard input.
pub(crate) fn of_input() -> Result<Secret, Report> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST).read_to_end(&mut bytes)?;
    Ok(without_newline(bytes))
}

/// Asks on the terminal, without echo. `instead` names the options for where there is none.
pub(crate) fn ask(question: &str, again: Option<&str>, instead: &str) -> Result<Secret, Report> {
    if !std::io::stdin().is_terminal() {
        let what = question.trim_end_matches([':', ' ']);
        return Err(Report::new(Exit::NoCredential, format!("{what}: there is no terminal to ask on"))
            .fix(format!("use {instead}")));
    }
    let first = Secret::new(rpassword::prompt_password(question)?);
    if let Some(again) = again
        && !first.matches(rpassword::prompt_password(again)?.as_bytes())
    {
        return Err(Report::new(Exit::Failure, "the two are not the same").fix("try again"));
    }
    Ok(first)
}

fn without_newline(mut bytes: Vec<u8>) -> Secret {
    let end = bytes.strip_suffix(b"\n").map_or(bytes.len(), <[u8]>::len);
    bytes.truncate(end);
    Secret::new(bytes)
}

/// An argument that may hold a secret, so that no error message of the parser repeats it (S-88).
#[derive(Clone)]
pub(crate) struct Private(pub(crate) String);

impl Private {
    /// Takes the secret out of the process list (S-48), where `shown` stands from now on, and warns: it
    /// was readable until now. To be called before there are threads.
    pub(crate) fn hide(&self, shown: &str, instead: &str) {
        // Where the system has no way to do it, the warning remains.
        let _ = replace_argument(&self.0, shown);
        eprintln!(
            "warning: a secret on the command line can be read by every user of this machine, and stays in the \
             shell's history: use {instead}"
        );
    }
}

impl FromStr for Private {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(<set>)")
    }
}

/// The longest secret in bytes.
const MOST: u64 = 65_536;
