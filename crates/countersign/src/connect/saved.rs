//! Connection files, `NAME.xpra`: what Xpra's launcher saves of a server.
//!
//! The commands that log in read one in place of an address. A file comes from anybody, by mail or from a page, so it
//! may say where and as whom, and nothing else: no command, no proxy, no handler and no file to read (S-47). What
//! else stands in it is passed over, with a notice that names it. No notice and no error repeats a value (S-88).

use std::{collections::BTreeMap, fmt, io::Read as _, path::Path, sync::Arc};

use zeroize::Zeroizing;

use super::uri::Uri;
use crate::{Secret, error::ConfigError, sys::files::open_private};

/// What a connection file says.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectionFile {
    /// Where the server is, who logs in there, and what session is wanted.
    pub uri: Uri,
    /// The password, which Xpra's launcher saves where it is told to.
    pub password: Option<Arc<Secret>>,
    /// What a person should know: what was passed over, and who can read the password.
    pub notices: Vec<String>,
}

impl ConnectionFile {
    /// Whether an address is the path of such a file: it ends with `.xpra` and is no address of another kind.
    pub fn is_named(address: &str) -> bool {
        let ends = address.len() > SUFFIX.len()
            && address
                .get(address.len() - SUFFIX.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX));
        ends && (!address.contains(':') || Path::new(address).is_file())
    }

    /// Reads the file at `path`, of up to 64 KiB.
    ///
    /// # Errors
    /// It cannot be read, names no server, or says something twice or in no known way.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let mut text = Zeroizing::new(String::new());
        // A pipe of that name would keep us waiting for a writer.
        let is_file = path.metadata().map(|facts| facts.is_file());
        let read = is_file.and_then(|is_file| match is_file {
            true => std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text),
            false => Err(std::io::Error::other("it is no regular file")),
        });
        if let Err(error) = read {
            let fix = "name a connection file, or write a socket of that name as unix:PATH";
            return Err(ConfigError::new(name, format!("it cannot be read: {error}"), fix));
        }
        if text.len() as u64 > LONGEST {
            let fix = "name a connection file, as Xpra's launcher saves it";
            return Err(ConfigError::new(name, "it is longer than 64 KiB", fix));
        }
        let mut file = Self::parse(&text).map_err(|error| error.within(&name))?;
        if let Some(fault) = file.password.as_ref().and_then(|_| open_private(path, false).err()) {
            file.notices.push(format!("{name}: others can read the password in it: {}", fault.fix()));
        }
        Ok(file)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// As [`ConnectionFile::read`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (mut said, mut notices) = (BTreeMap::new(), Vec::new());
        for (number, line) in lines(text) {
            let Some((key, value)) = line.split_once('=') else {
                notices.push(format!("line {number} has no `=` and is passed over"));
                continue;
            };
            let (key, value) = (key.trim().to_ascii_lowercase().replace('_', "-"), value.trim());
            match TAKEN.iter().find(|taken| **taken == key) {
                // The launcher writes every key, also those that nothing is said by.
                _ if value.is_empty() => {}
                Some(taken) => {
                    if said.insert(*taken, Zeroizing::new(value.to_owned())).is_some() {
                        return Err(wrong(taken, "it is given twice", "write it once"));
                    }
                }
                None if IDLE.contains(&&*key) => {}
                None => notices.push(passed_over(number, &key)),
            }
        }
        let (uri, password) = address(&said)?;
        Ok(Self { uri, password, notices })
    }
}

/// Without the password.
impl fmt::Debug for ConnectionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFile")
            .field("uri", &self.uri)
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}

/// The lines that say something, with the number of their first one; a backslash at the end joins the next.
fn lines(text: &str) -> Vec<(usize, Zeroizing<String>)> {
    let mut lines = Vec::new();
    let mut rest = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    while let Some((number, first)) = rest.next() {
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = Zeroizing::new(first.to_owned());
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, next)) = rest.next() else { break };
            whole.push_str(next);
        }
        lines.push((number, whole));
    }
    lines
}

/// The address that the keys amount to. It is read as any other, so a file can say no more than one.
fn address(
    said: &BTreeMap<&'static str, Zeroizing<String>>,
) -> Result<(Uri, Option<Arc<Secret>>), ConfigError> {
    let value = |key: &str| said.get(key).map(|value| value.as_str());
    if let Some((key, _)) = said.iter().find(|(_, value)| value.chars().any(char::is_control)) {
        return Err(wrong(key, "it holds a control character", "remove it"));
    }
    let Some(host) = value("host") else {
        return Err(wrong("host", "it is missing", "write host=NAME"));
    };
    if host.contains(['/', '@', '?', '#']) {
        return Err(wrong("host", "it is neither a name nor an address", "write host=NAME"));
    }
    let mode = value("mode").map(str::to_ascii_lowercase);
    let scheme = match mode.as_deref() {
        // Whoever wrote it means to go through a machine in between, and not past it.
        Some("ssh -> ssh") => return Err(wrong("mode", "no machine in between is gone through", MODES)),
        Some(mode) if mode.bytes().all(|byte| byte.is_ascii_alphanumeric()) => mode,
        Some(_) => return Err(wrong("mode", "there is no such one", MODES)),
        None => return Err(wrong("mode", "it is missing", MODES)),
    };
    let port = match value(if scheme == "ssh" { "ssh-port" } else { "port" }) {
        None => String::new(),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!(":{port}"),
        Some(_) => return Err(wrong("port", "it is no number", "write port=NUMBER")),
    };
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let path = value("path").map(|path| path.trim_start_matches('/'));
    // The path is HTTP's where it goes by HTTP, and names a session elsewhere.
    let (path, session) = if scheme.starts_with("ws") { (path, None) } else { (None, path) };
    if path.is_some_and(|path| path.contains(['?', '#'])) {
        return Err(wrong("path", "it holds `?` or `#`", "write the path alone"));
    }
    let uri: Uri = format!("{scheme}://{host}{port}/{}", path.unwrap_or_default()).parse()?;
    let mut uri = uri.with_credentials(value("username").unwrap_or_default(), String::new())?;
    uri.display = value("display").or(session).map(str::to_owned);
    Ok((uri, value("password").map(|password| Arc::new(Secret::new(password)))))
}

/// The name is repeated where it is one; another text there may be anything.
fn passed_over(number: usize, key: &str) -> String {
    let is_name = !key.is_empty()
        && key.len() <= 40
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let what = if is_name { format!("`{key}`") } else { "what it says".to_owned() };
    format!("line {number}: {what} is not taken from a file. If you mean it, write it as a switch")
}

fn wrong(key: &str, why: &'static str, fix: &'static str) -> ConfigError {
    ConfigError::new(key.to_owned(), why, fix)
}

const SUFFIX: &str = ".xpra";

/// Bytes of a file. Those of the launcher have hundreds.
const LONGEST: u64 = 64 * 1024;

/// All that a file may say: where, as whom, and what session is wanted.
const TAKEN: &[&str] = &["display", "host", "mode", "password", "path", "port", "ssh-port", "username"];

/// What the launcher writes in every file, and means nothing here: how the session looks, and the machine in
/// between, which mode `ssh -> ssh` alone has.
const IDLE: &[&str] = &[
    "autoconnect",
    "encoding",
    "min-quality",
    "min-speed",
    "proxy-host",
    "proxy-key",
    "proxy-password",
    "proxy-port",
    "proxy-username",
    "quality",
    "speed",
];

const MODES: &str = "write mode=tcp, ssl, ws or wss";

#[cfg(test)]
mod tests;
