//! `authorized_keys` (sshd(8)): whose keys are accepted, and on which conditions.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::sources::Sources;
use crate::sys::clock::Civil;

/// A line that names a key.
pub(super) struct Line {
    /// The public key, as SSH encodes it: a user's, or that of an authority.
    pub(super) key: Vec<u8>,
    pub(super) options: LineOptions,
}

/// What stands in front of the key.
#[derive(Default)]
pub(super) struct LineOptions {
    /// The key is an authority's, and signs certificates.
    pub(super) is_authority: bool,
    /// One of these must be in the certificate, in place of the user's name.
    pub(super) principals: Option<Vec<String>>,
    /// A security key need not be touched.
    pub(super) no_touch: bool,
    /// A security key must know the person.
    pub(super) verify_required: bool,
    sources: Option<Sources>,
    /// Seconds since 1970.
    expires: Option<i64>,
}

impl LineOptions {
    /// Whether the line counts at this time for this peer.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn judge(&self, now: u64, peer: &crate::Peer) -> Result<(), &'static str> {
        let expired = |end: i64| u64::try_from(end).unwrap_or(0) <= now;
        if self.expires.is_some_and(expired) {
            return Err("the key has expired");
        }
        match &self.sources {
            Some(sources) if !sources.contain(peer) => Err("the key is not for this address"),
            _ => Ok(()),
        }
    }
}

/// The lines of a file, each with its number, and what is wrong with those that are not used (S-79).
pub(super) fn parse(content: &str) -> Vec<(usize, Result<Line, String>)> {
    let lines = content.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let meant = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    meant.map(|(number, line)| (number, parse_line(line))).collect()
}

fn parse_line(line: &str) -> Result<Line, String> {
    // A line without options begins with the kind of its key.
    if let Some(key) = parse_key(line) {
        return Ok(Line { key, options: LineOptions::default() });
    }
    let (options, rest) = split_options(line).ok_or("its options cannot be read")?;
    let key = parse_key(rest.trim_start()).ok_or("it holds no key of a kind that is read here")?;
    Ok(Line { key, options: parse_options(&options)? })
}

/// A kind and a key in base64, perhaps with a comment behind.
fn parse_key(text: &str) -> Option<Vec<u8>> {
    let mut words = text.split_ascii_whitespace();
    let (kind, key) = (words.next()?, STANDARD.decode(words.next()?).ok()?);
    let named = crate::proto::mechanism::ssh_key::Reader::new(&key).string()? == kind.as_bytes();
    let known = super::key::PublicKey::read(&key).is_some();
    (named && known).then_some(key)
}

type Pairs = Vec<(String, Option<String>)>;

/// The options up to the first blank outside of quotation marks, and what follows.
fn split_options(line: &str) -> Option<(Pairs, &str)> {
    let mut options = Pairs::new();
    let (mut name, mut value, mut quoted) = (String::new(), None::<String>, false);
    let mut characters = line.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match (character, quoted) {
            ('\\', true) if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                value.as_mut()?.push('"');
            }
            ('"', true) => quoted = false,
            ('"', false) if value.as_ref().is_some_and(String::is_empty) => quoted = true,
            (inside, true) => value.as_mut()?.push(inside),
            ('=', false) if value.is_none() => value = Some(String::new()),
            (',' | ' ' | '\t', false) => {
                options.push((std::mem::take(&mut name), value.take()));
                if character != ',' {
                    return line.get(at..).map(|rest| (options, rest));
                }
            }
            (plain, false) if value.is_none() => name.push(plain),
            // A value without quotation marks, or something behind them.
            _ => return None,
        }
    }
    None
}

/// # Errors
/// An option that is unknown here, or damaged: a line whose meaning is not known whole lets nobody in.
fn parse_options(pairs: &Pairs) -> Result<LineOptions, String> {
    let mut options = LineOptions::default();
    for (name, value) in pairs {
        let damaged = || format!("its option {name} cannot be read");
        match (name.to_ascii_lowercase().as_str(), value.as_deref()) {
            ("cert-authority", None) => options.is_authority = true,
            ("principals", Some(list)) => {
                options.principals = Some(list.split(',').map(|name| name.trim().to_owned()).collect());
            }
            ("from", Some(list)) => {
                options.sources = Some(Sources::of_patterns(list).ok_or_else(damaged)?);
            }
            ("expiry-time", Some(time)) => {
                let end = parse_time(time).ok_or_else(damaged)?;
                // Of several, the first to come counts.
                options.expires = Some(options.expires.map_or(end, |other| other.min(end)));
            }
            ("no-touch-required", None) => options.no_touch = true,
            ("verify-required", None) => options.verify_required = true,
            (vacuous, None) if VACUOUS.contains(&vacuous) => {}
            _ => {
                return Err(format!(
                    "its option {} is not one of those that mean something here",
                    shown(name)
                ));
            }
        }
    }
    Ok(options)
}

/// What may be shown of a name that means nothing.
fn shown(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect()
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in this system's time zone, or in UTC with `Z`.
fn parse_time(text: &str) -> Option<i64> {
    let (digits, utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<i32>().ok());
    let civil = Civil {
        year: part(0, 4)?,
        month: part(4, 6)?,
        day: part(6, 8)?,
        hour: part(8, 10)?,
        minute: part(10, 12)?,
        second: part(12, 14)?,
    };
    let exists =
        (1970..=9999).contains(&civil.year) && civil.hour < 24 && civil.minute < 60 && civil.second < 61;
    exists.then(|| civil.to_unix(utc)).flatten()
}

/// Options about what SSH itself can do for a user. There is none of it here, so they hold.
const VACUOUS: &[&str] = &[
    "restrict",
    "agent-forwarding",
    "no-agent-forwarding",
    "port-forwarding",
    "no-port-forwarding",
    "pty",
    "no-pty",
    "user-rc",
    "no-user-rc",
    "x11-forwarding",
    "no-x11-forwarding",
];
