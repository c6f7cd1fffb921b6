//! Reads `KIND:ADDRESS,option=value,...`.

use std::{path::PathBuf, sync::Arc};

use super::{
    Backend, KINDS, Kind,
    address::{HostPort, TlsAddress, UnixName},
    exec::Program,
    session,
};
use crate::{error::ConfigError, transport::tls::Trust};

/// A backend in its written form.
///
/// # Errors
/// An unknown kind or option, an option given twice or without value, an address that is none. No
/// error repeats a value (S-88).
pub(super) fn parse(text: &str) -> Result<Backend, ConfigError> {
    if let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| SESSIONS.contains(kind)) {
        return sessions(kind, rest);
    }
    let mut parts = split(text, |c| c == ',')?.into_iter();
    let head = parts.next().unwrap_or_default();
    let Some((kind, rest)) = head.split_once(':') else {
        return Err(error(
            "it has no kind",
            "write it as in unix:/run/app.sock, tcp:HOST:PORT or exec:COMMAND",
        ));
    };
    let mut options = Options::read(parts)?;
    let proxy_protocol = proxy_protocol(&mut options)?;
    let (xpra, plain) = match kind.strip_prefix("xpra+") {
        Some(plain @ ("unix" | "tcp")) => (true, plain),
        Some(_) => return Err(ConfigError::unknown(BACKEND, kind, KINDS)),
        None => (false, kind),
    };
    let kind = match plain {
        "builtin" if rest == "whoami" => Kind::Whoami,
        "builtin" => return Err(ConfigError::unknown("backend builtin", rest, ["whoami"])),
        "unix" => Kind::Unix(UnixName::parse(&unquoted(rest)?)?),
        "tcp" => Kind::Tcp(rest.parse()?),
        "tls" => Kind::Tls(Arc::new(tls(rest, &mut options)?)),
        "exec" => Kind::Exec(Arc::new(Program::parse(words(rest)?)?)),
        _ => return Err(ConfigError::unknown(BACKEND, kind, KINDS)),
    };
    if proxy_protocol && matches!(kind, Kind::Whoami) {
        return Err(error("builtin:whoami reads no PROXY header", "leave proxy-protocol out"));
    }
    options.finish()?;
    Ok(Backend { kind, xpra, proxy_protocol })
}

/// A router's own options stand in parentheses, those of every backend behind them.
fn sessions(kind: &str, rest: &str) -> Result<Backend, ConfigError> {
    let (sessions, behind) = session::parse(rest)?;
    let behind = split(behind, |c| c == ',')?;
    let mut options = Options::read(behind.into_iter().filter(|part| !part.is_empty()))?;
    let proxy_protocol = proxy_protocol(&mut options)?;
    options.finish()?;
    let sessions = Arc::new(sessions);
    session::offer(&sessions)?;
    Ok(Backend { kind: Kind::Session(sessions), xpra: kind.starts_with("xpra+"), proxy_protocol })
}

fn proxy_protocol(options: &mut Options) -> Result<bool, ConfigError> {
    match options.take("proxy-protocol")?.as_deref() {
        None => Ok(false),
        Some("v2") => Ok(true),
        Some(_) => Err(ConfigError::new(
            "backend option proxy-protocol",
            "only v2 is written",
            "write proxy-protocol=v2",
        )),
    }
}

fn tls(address: &str, options: &mut Options) -> Result<TlsAddress, ConfigError> {
    let address: HostPort = address.parse()?;
    let trust = match (options.take("ca")?, options.take("pin")?) {
        (None, None) => Trust::SystemRoots,
        (Some(file), None) => Trust::CaFile(PathBuf::from(unquoted(&file)?)),
        (None, Some(pin)) => {
            Trust::Pin(pin.parse().map_err(|e: ConfigError| e.within("backend option pin"))?)
        }
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(
                "backend options ca and pin",
                "a server is known by one or the other",
                "leave one of the two out",
            ));
        }
    };
    TlsAddress::new(address, trust, options.take("server-name")?)
}

/// The options behind the address.
struct Options(Vec<(String, String)>);

impl Options {
    fn read(parts: impl Iterator<Item = String>) -> Result<Self, ConfigError> {
        let mut options: Vec<(String, String)> = Vec::new();
        for part in parts {
            let key = part.split('=').next().unwrap_or_default().trim();
            let key = key.to_ascii_lowercase().replace('_', "-");
            if !OPTIONS.contains(&key.as_str()) {
                return Err(ConfigError::unknown("options of the backend", &key, OPTIONS));
            }
            let value = part.split_once('=').map(|(_, value)| value.trim()).unwrap_or_default();
            if value.is_empty() {
                let what = format!("backend option {key}");
                return Err(ConfigError::new(what, "it has no value", format!("write {key}=VALUE")));
            }
            if options.iter().any(|(other, _)| *other == key) {
                let what = format!("backend option {key}");
                return Err(ConfigError::new(what, "it is given twice", "write it once"));
            }
            options.push((key, value.to_owned()));
        }
        Ok(Self(options))
    }

    fn take(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        let found = self.0.iter().position(|(key, _)| key == name);
        found.map(|at| unquoted(&self.0.swap_remove(at).1)).transpose()
    }

    fn finish(self) -> Result<(), ConfigError> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => {
                let what = format!("backend option {key}");
                Err(ConfigError::new(
                    what,
                    "only a tls: backend has it",
                    "leave it out, or write tls:HOST:PORT",
                ))
            }
        }
    }
}

/// What stands before the closing parenthesis, and what behind it. Parentheses in quotes are text.
#[cfg(unix)]
pub(super) fn enclosed(text: &str) -> Result<(&str, &str), ConfigError> {
    // Cut there, the first part ends where the parentheses are balanced.
    let depth = std::cell::Cell::new(1_u32);
    let closes = |c: char| {
        match c {
            '(' => depth.set(depth.get().saturating_add(1)),
            ')' => depth.set(depth.get().saturating_sub(1)),
            _ => {}
        }
        c == ')' && depth.get() == 0
    };
    let parts = split(text, closes)?;
    let inside = parts.first().map_or(0, String::len);
    match (text.get(..inside), text.get(inside + 1..)) {
        (Some(inside), Some(behind)) if parts.len() > 1 => Ok((inside, behind)),
        _ => Err(error("a parenthesis is not closed", "close it: session:KIND(option=value, ...)")),
    }
}

/// Cuts a text where `separates` says, but not inside quotes. The quotes stay.
pub(super) fn split(text: &str, separates: impl Fn(char) -> bool) -> Result<Vec<String>, ConfigError> {
    let mut parts = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for c in text.chars() {
        let end = quote.is_none() && !escaped && separates(c);
        if end {
            parts.push(String::new());
            continue;
        }
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    if quote.is_some() || escaped {
        return Err(error("a quote is not closed", "close it, or put a \\ before a quote that is meant"));
    }
    Ok(parts)
}

/// The text without its quotes and backslashes, as a shell reads them, but nothing is expanded.
pub(super) fn unquoted(text: &str) -> Result<String, ConfigError> {
    let mut plain = String::new();
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => plain.extend(rest.next()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => plain.push(c),
        }
    }
    if plain.chars().any(char::is_control) {
        return Err(error("it holds a control character", "write it without"));
    }
    Ok(plain)
}

/// The words of a command.
pub(super) fn words(command: &str) -> Result<Vec<String>, ConfigError> {
    let words = split(command, |c| c == ' ')?;
    words.iter().filter(|word| !word.is_empty()).map(|word| unquoted(word)).collect()
}

pub(super) fn error(why: &'static str, fix: &'static str) -> ConfigError {
    ConfigError::new(BACKEND, why, fix)
}

const BACKEND: &str = "backend";
const OPTIONS: [&str; 4] = ["ca", "pin", "proxy-protocol", "server-name"];

/// What stands before the colon of the user's own daemon.
const SESSIONS: [&str; 2] = ["session", "xpra+session"];
