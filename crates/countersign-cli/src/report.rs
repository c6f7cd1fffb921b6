//! What the command says and how it ends: errors with their repair, and exit codes.
//!
//! Every command returns a [`Report`] for what went wrong; [`Report::print`] is the one place that
//! writes it. Text goes to standard error, so that standard output stays what was asked for.

use std::{fmt, io::IsTerminal as _, process::ExitCode};

use countersign::ConfigError;

/// Something went wrong: what, why, how to mend it, and the exit code.
#[derive(Debug)]
pub(crate) struct Report {
    what: String,
    fix: Option<String>,
    exit: Exit,
}

/// Exit codes, after sysexits(3); the table is in the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// Failed while running, or any other failure.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A service or server cannot be reached.
    Unavailable = 69,
    /// Try again later.
    Temporary = 75,
    /// The server's identity changed or cannot be verified, or the protocol was refused.
    Protocol = 76,
    /// Authentication failed, or no permission.
    Refused = 77,
    /// The configuration is wrong.
    Config = 78,
    /// A credential is needed and none could be found.
    NoCredential = 79,
}

impl Report {
    /// `what` reads `what: why`, without a full stop.
    pub(crate) fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), fix: None, exit }
    }

    /// The same with the way to mend it.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Writes it and gives the exit code.
    pub(crate) fn print(self) -> ExitCode {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (red, cyan, plain) = if colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        eprintln!("{red}error{plain}: {}", self.what);
        if let Some(fix) = self.fix {
            eprintln!("{cyan}help{plain}: {fix}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<ConfigError> for Report {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, &error).fix(error.fix())
    }
}

impl From<std::io::Error> for Report {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failure, error)
    }
}

/// Prints a value as JSON on standard output, for `--json`.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Report> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Report::new(Exit::Failure, error))?;
    print(&format!("{text}\n"))
}

/// Prints text on standard output. A reader that has gone away (`| head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Report> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Breaks text into lines of at most `width` columns, each after `indent`. Paragraphs stay apart.
pub(crate) fn wrap(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n") {
        if !out.is_empty() {
            out.push('\n');
        }
        let mut line = String::from(indent);
        for word in paragraph.split_whitespace() {
            if line.len() > indent.len() && line.chars().count() + 1 + word.chars().count() > width {
                out.push_str(&line);
                out.push('\n');
                line = String::from(indent);
            }
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_words_and_paragraphs_stay_apart() {
        assert_eq!(wrap("one two three\n\nfour", "  ", 9), "  one two\n  three\n\n  four\n");
        assert_eq!(wrap("averyverylongword x", "", 5), "averyverylongword\nx\n");
    }
}
