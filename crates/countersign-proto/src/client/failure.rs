//! How a login ends without success, told so that it can be mended.

use std::{borrow::Cow, fmt};

/// A login that did not succeed.
///
/// It reads `cause`, then the server's own words in quotation marks if it said any. Neither holds
/// a secret; the server's words are filtered by [`quotable`] (S-46).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Of which kind it is; commands turn that into their exit code.
    pub kind: FailureKind,
    /// What happened.
    pub cause: Cow<'static, str>,
    /// How to mend it, where that is known.
    pub fix: Option<Cow<'static, str>>,
    /// What the server said of it, filtered; empty if it said nothing.
    pub said: String,
}

/// The kinds of failure that somebody has to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The server refused the credential.
    Refused,
    /// The server asks for a credential and there is none, or it cannot be used.
    NoCredential,
    /// The server wants what this client does not do: cleartext on an open wire, a mechanism that
    /// was not offered. Also where it asks for nothing and is not allowed to (S-45).
    Forbidden,
    /// The server has no place, or no patience, for now.
    Busy,
    /// The server ended the connection for a reason of its own.
    Ended,
    /// The server broke the protocol.
    Misbehaved,
    /// The server did not answer in time.
    Timeout,
    /// The server closed the connection without a word.
    Closed,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, cause: cause.into(), fix: None, said: String::new() }
    }

    /// A credential that is configured and cannot be used.
    pub fn unusable(cause: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FailureKind::NoCredential, cause).with_fix(fix)
    }

    /// The same failure with the way out of it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<Cow<'static, str>>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// What a server's last words mean.
    ///
    /// Xpra's servers and ours say `authentication failed` for a wrong credential, and Xpra's up to 5.x name the
    /// module before it where nothing is asked: `exec authentication failed`. The other texts are those of
    /// [`crate::Refusal::public`] (`docs/protocol/xpra.md`, the ends).
    pub(super) fn of_disconnect(words: &[String]) -> Self {
        let says = |text: &str| words.iter().any(|word| word == text);
        let refused = |word: &String| {
            let module = word.strip_suffix("authentication failed");
            module.is_some_and(|module| module.is_empty() || module.ends_with(' '))
        };
        let begins = |text: &str| words.iter().any(|word| word.starts_with(text));
        let failure = if words.iter().any(refused) {
            Self::new(FailureKind::Refused, "the server refused the login")
                .with_fix("check the user name and the password")
        } else if says("session busy") {
            Self::new(FailureKind::Busy, "the server takes no login for now").with_fix(
                "wait a minute, after many failed logins up to ten; a certificate that the gateway accepts gets in meanwhile",
            )
        } else if begins("this login needs an encrypted connection") {
            Self::new(FailureKind::Forbidden, "the server needs the password itself, and the wire is open")
                .with_fix(OPEN_WIRE)
        } else if begins("this socket takes AES only") || begins("missing encryption tokens") {
            Self::new(FailureKind::Forbidden, "the server takes nothing but encrypted packets")
                .with_fix("add --encryption=AES --encryption-keyfile=FILE, with the key that the server has")
        } else if says("no acceptable encryption is offered") {
            Self::new(FailureKind::Forbidden, "the server does not encrypt as this client does")
                .with_fix("name the server's cipher with --encryption, or leave it out")
        } else if says("no acceptable digest is offered") {
            Self::new(FailureKind::Forbidden, "the server accepts no mechanism of this client")
        } else {
            Self::new(FailureKind::Ended, "the server ended the connection")
        };
        Self { said: quotable(&words.join(", ")), ..failure }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, " (it says: \"{}\")", self.said) }
    }
}

impl std::error::Error for Failure {}

/// What helps against a wire that others can read.
pub(super) const OPEN_WIRE: &str = "use an encrypted address (tls://, wss://), the server's Unix socket, or --encryption where the server has it";

/// A server's text as it may be shown between quotation marks: no controls, no quotation marks, no
/// characters that change the direction of writing, one line, at most 200 characters (S-46, S-89).
pub fn quotable(text: &str) -> String {
    let turns =
        |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control() && !turns(c) && !matches!(c, '"' | '\u{201c}' | '\u{201d}'))
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_046_a_servers_words_cannot_leave_their_quotation_marks_or_the_line() {
        let hostile = "no\u{1b}[2J\r\nPassword for \"root\" \u{202e}drow\u{7}";
        assert_eq!(quotable(hostile), "no[2J  Password for root drow");
        assert_eq!(quotable(&"x".repeat(5000)).len(), 200);
    }

    #[test]
    fn last_words_are_told_apart_by_the_whole_text() {
        let kind = |words: &[&str]| {
            Failure::of_disconnect(&words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>()).kind
        };
        assert_eq!(kind(&["connection error", "authentication failed"]), FailureKind::Refused);
        // As 3.1.3 and 4.4.6 say it.
        assert_eq!(kind(&["peercred authentication failed"]), FailureKind::Refused);
        assert_eq!(kind(&["session busy"]), FailureKind::Busy);
        assert_eq!(kind(&["this login needs an encrypted connection"]), FailureKind::Forbidden);
        assert_eq!(kind(&["no acceptable digest is offered"]), FailureKind::Forbidden);
        for other in
            [&["login timeout"][..], &["authentication failed, or so"], &["unauthentication failed"], &[]]
        {
            assert_eq!(kind(other), FailureKind::Ended, "{other:?}");
        }
    }
}
