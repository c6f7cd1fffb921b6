//! Where to log in, and as whom: `tcp://alice@host:10000/`, `unix:/run/app.sock` and their kin.
//!
//! Every form that Xpra's clients took is read (`docs/protocol/xpra.md`, addresses); user and password are
//! percent-decoded (RFC 3986 section 2.1). An address sets host, port, user, password and display,
//! and nothing else: whoever sends somebody an address must not be able to make their client run or
//! read anything (S-47). No error repeats what was written, for it may hold a password (S-88).

use std::{fmt, net::Ipv6Addr, path::PathBuf, str::FromStr, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use super::{
    display,
    ssh::{self, Wanted},
};
use crate::{
    Secret, Username,
    error::{ConfigError, nearest},
    sys::vsock,
    transport::Address,
};

/// The address of a server, and what the client says and answers there.
#[derive(Clone)]
#[non_exhaustive]
pub struct Uri {
    /// Where the server is.
    pub address: Address,
    /// Whether the stream is TLS.
    pub tls: bool,
    /// What is wanted on the machine at [`Uri::address`], where the system's `ssh` logs in there; its port is 0
    /// where `ssh` is to choose.
    pub ssh: Option<Wanted>,
    /// The path that is asked for by HTTP, where the stream is in a WebSocket.
    pub websocket: Option<String>,
    /// The name to log in as, if the address says.
    pub username: Option<Username>,
    /// The password, if the address holds one. It warns who connects (S-48).
    pub password: Option<Arc<Secret>>,
    /// The session wanted there: a display's number, a name.
    pub display: Option<String>,
}

impl FromStr for Uri {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(wrong("it holds a control character", "leave it out, or write it as %XX"));
        }
        if text.starts_with('/') {
            return Ok(Self::local(Address::Unix(text.into())));
        }
        if let Some(name) = text.strip_prefix('@').filter(|name| !name.is_empty()) {
            return Ok(Self::local(Address::Abstract(name.to_owned())));
        }
        if text.starts_with(':') || text.starts_with(|first: char| first.is_ascii_digit()) {
            let (number, query) = text.split_once('?').unwrap_or((text, ""));
            let socket = display::socket_of(number.strip_prefix(':').unwrap_or(number))?;
            return Self::local(Address::Unix(socket)).with_query(query);
        }
        if text.starts_with("\\\\") {
            return Err(unavailable("named-pipe"));
        }
        let (scheme, rest) = split_scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            return Err(wrong("it holds a `#`", "write %23 for it in a user name or password"));
        }
        let uri = match scheme {
            Scheme::Tcp => Self::network(rest, false, 14500)?,
            Scheme::Tls => Self::network(rest, true, 443)?,
            Scheme::Ws => Self::websocket(rest, false, 80)?,
            Scheme::Wss => Self::websocket(rest, true, 443)?,
            Scheme::Ssh => Self::ssh(rest)?,
            Scheme::Unix => Self::unix(rest, false)?,
            Scheme::TlsUnix => Self { tls: true, ..Self::unix(rest, false)? },
            Scheme::Socket => Self::unix(rest, true)?,
            Scheme::Vsock => Self::vsock(rest)?,
        };
        uri.with_query(query)
    }
}

impl Uri {
    /// Such an address without a user, password or display.
    pub fn new(address: Address, tls: bool) -> Self {
        Self { tls, ..Self::local(address) }
    }

    /// Reads the address of a server that takes calls, as Multipass spells it (`unix:PATH`, `HOST:PORT`), as
    /// a `rpc:` address, or as any other. Calls are made inside TLS, also on Unix sockets.
    ///
    /// # Errors
    /// It is no address, or one in the clear.
    pub fn for_calls(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        let head = text.get(..RPC.len()).filter(|head| head.eq_ignore_ascii_case(RPC));
        let uri: Self = match head.and_then(|head| text.get(head.len()..)) {
            Some(rest) => match rest.split_at_checked("+unix:".len()) {
                Some((plus, path)) if plus.eq_ignore_ascii_case("+unix:") => {
                    format!("tls+unix:{path}").parse()?
                }
                _ if rest.starts_with(':') => Self::network(rest.trim_start_matches(':'), true, RPC_PORT)?,
                _ => text.parse()?,
            },
            None if is_host_and_port(text) => Self::network(text, true, RPC_PORT)?,
            None => text.parse()?,
        };
        match uri.address {
            Address::Tcp { .. } if !uri.tls || uri.websocket.is_some() || uri.ssh.is_some() => {
                Err(wrong("calls are made inside TLS", "write rpc://HOST:PORT or tls://HOST:PORT"))
            }
            _ => Ok(Self { tls: true, ..uri }),
        }
    }

    /// Whether the bytes leave this machine.
    pub fn is_remote(&self) -> bool {
        match &self.address {
            Address::Tcp { host, .. } => {
                let ip: Option<std::net::IpAddr> = host.parse().ok();
                !(host == "localhost" || ip.is_some_and(|ip| ip.to_canonical().is_loopback()))
            }
            _ => false,
        }
    }

    /// What stands before the `unix:` of a local address.
    fn prefix(&self) -> &'static str {
        if self.tls { "tls+" } else { "" }
    }

    fn local(address: Address) -> Self {
        Self {
            address,
            tls: false,
            ssh: None,
            websocket: None,
            username: None,
            password: None,
            display: None,
        }
    }

    /// `//user:password@host:port/display`, with or without the slashes in front.
    fn network(rest: &str, tls: bool, default_port: u16) -> Result<Self, ConfigError> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (userinfo, place),
            // The legacy `tcp:user:password/...` is not read: it has no host.
            None => ("", authority),
        };
        let (host, port) = split_port(place)?;
        let port = match port {
            None | Some("0") => default_port,
            Some(port) => port.parse().map_err(|_| {
                let fix = "write HOST:PORT, and %2F, %3F, %23 for /, ? and # in a user name or password";
                wrong("its port is no number from 1 to 65535", fix)
            })?,
        };
        let uri = Self::new(Address::Tcp { host, port }, tls).with_userinfo(userinfo)?;
        let display = decode(path.trim_end_matches('/'))?;
        if display.contains([',', '=']) {
            return Err(foreign_option());
        }
        Ok(Self { display: Some(display).filter(|display| !display.is_empty()), ..uri })
    }

    /// `//user:password@host:port/path`. The path is HTTP's, as it stands.
    fn websocket(rest: &str, tls: bool, default_port: u16) -> Result<Self, ConfigError> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains([',', '=']) {
            return Err(foreign_option());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("its path holds signs that are not HTTP's", "write them as %XX"));
        }
        Ok(Self { websocket: Some(format!("/{path}")), ..Self::network(authority, tls, default_port)? })
    }

    /// `//user@host:port`, `//user@host/path/of/socket`, `//user@host/display`.
    fn ssh(rest: &str) -> Result<Self, ConfigError> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let uri = Self { ssh: Some(Wanted::parse(&decode(path)?)?), ..Self::network(authority, false, 0)? };
        let host = if let Address::Tcp { host, .. } = &uri.address { host } else { "" };
        if !ssh::is_plain(host) {
            return Err(wrong(
                "its host is no name that ssh may be given",
                "write letters, digits, dots and dashes",
            ));
        }
        Ok(uri)
    }

    /// `/path`, `///path`, `//user:password@/path`, `@name`; `legacy` reads `user:password/path` too.
    fn unix(rest: &str, legacy: bool) -> Result<Self, ConfigError> {
        let bare = rest.strip_prefix("//").unwrap_or(rest);
        let before_path = bare.split('/').next().unwrap_or_default();
        let (userinfo, place) = match before_path.rsplit_once('@') {
            Some((userinfo, host)) if host.is_empty() && !userinfo.is_empty() => {
                (userinfo, bare.get(before_path.len()..).unwrap_or_default())
            }
            None if legacy && before_path.contains(':') => {
                (before_path, bare.get(before_path.len()..).unwrap_or_default())
            }
            _ => ("", bare),
        };
        let place = decode(place)?;
        let address = match place.strip_prefix('@') {
            _ if place.is_empty() || place == "@" => {
                return Err(wrong("it names no socket", "write unix:/PATH or unix:@NAME"));
            }
            Some(name) => Address::Abstract(name.to_owned()),
            None => Address::Unix(PathBuf::from(place)),
        };
        Self::local(address).with_userinfo(userinfo)
    }

    /// `//user:password@CID:PORT/display`, with or without the slashes in front. A client calls one machine: `any`
    /// and `auto`, which Xpra's clients take too, name none.
    fn vsock(rest: &str) -> Result<Self, ConfigError> {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let fix = "write vsock://CID:PORT, as in vsock://host:10000 or vsock://3:10000";
        let (cid, port) = place.split_once(':').ok_or_else(|| wrong("it names no machine and port", fix))?;
        let number = |text| vsock::number(text).filter(|number| *number != vsock::ANY);
        let Some(cid) = number(cid) else { return Err(wrong("its machine is no number of one", fix)) };
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| number(port)).flatten();
        let port = port.ok_or_else(|| wrong("its port is no number", fix))?;
        let display = decode(path.trim_end_matches('/'))?;
        if display.contains([',', '=']) {
            return Err(foreign_option());
        }
        let uri = Self::local(Address::Vsock { cid, port }).with_userinfo(userinfo)?;
        Ok(Self { display: Some(display).filter(|display| !display.is_empty()), ..uri })
    }

    fn with_userinfo(self, userinfo: &str) -> Result<Self, ConfigError> {
        let (name, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        self.with_credentials(&decode(name)?, decode(password)?)
    }

    /// What the query says, where the address itself did not.
    fn with_query(mut self, query: &str) -> Result<Self, ConfigError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(foreign_option)?;
            let value = decode(value)?;
            self = match key {
                "username" if self.username.is_none() => self.with_credentials(&value, String::new())?,
                "password" if self.password.is_none() => self.with_credentials("", value)?,
                "username" | "password" => self,
                _ => return Err(foreign_option()),
            };
        }
        self.is_ssh_own_affair()?;
        Ok(self)
    }

    /// `ssh` asks for its passwords itself, and is given no name that it could take for something else.
    fn is_ssh_own_affair(&self) -> Result<(), ConfigError> {
        if self.ssh.is_none() {
            return Ok(());
        }
        if self.password.is_some() {
            let fix = "leave it out: ssh asks for its own, and --password-file is for what follows";
            return Err(wrong("ssh takes no password from an address", fix));
        }
        match self.username.as_ref().is_none_or(|name| ssh::is_plain(name.as_str())) {
            true => Ok(()),
            false => {
                let fix = "set User for the host in ~/.ssh/config, and leave it out here";
                Err(wrong("its user is no name that ssh may be given", fix))
            }
        }
    }

    /// Sets what is not empty.
    pub(super) fn with_credentials(mut self, name: &str, password: String) -> Result<Self, ConfigError> {
        if !name.is_empty() {
            let name = Username::parse(name).map_err(|refusal| wrong(refusal.cause, "write another name"))?;
            self.username = Some(name);
        }
        if !password.is_empty() {
            self.password = Some(Arc::new(Secret::new(password)));
        }
        Ok(self)
    }
}

/// Without user and password: `tls://host:443`, `wss://host:443/x`, `ssh://host/run/app.sock`, `unix:/run/app.sock`. It reads back as the same
/// address, and has neither blanks nor line ends: known servers are remembered by it, on one line
/// each, and nobody's address can write a second one (S-43).
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(wanted), Address::Tcp { host, port }) = (&self.ssh, &self.address) {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let port = if *port == 0 { String::new() } else { format!(":{port}") };
            return write!(f, "ssh://{host}{port}{wanted}");
        }
        let scheme = match (&self.websocket, self.tls) {
            (None, false) => "tcp",
            (None, true) => "tls",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let path = self.websocket.as_deref().filter(|path| *path != "/").unwrap_or_default();
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}{path}")
            }
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}{path}"),
            Address::Vsock { cid, port } => write!(f, "vsock://{cid}:{port}"),
            Address::Unix(path) => {
                let path = path.as_os_str().as_encoded_bytes();
                // What would be taken for the mark of an authority keeps its own in front.
                let slashes = if path.starts_with(b"//") { "//" } else { "" };
                write!(f, "{}unix:{slashes}{}", self.prefix(), percent_encode(path, IN_PATH))
            }
            Address::Abstract(name) => {
                write!(f, "{}unix:@{}", self.prefix(), percent_encode(name.as_bytes(), IN_PATH))
            }
        }
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uri")
            .field("address", &self.to_string())
            .field("username", &self.username)
            .field("password", &self.password)
            .field("display", &self.display)
            .finish()
    }
}

/// What this build connects to.
#[derive(Clone, Copy)]
enum Scheme {
    Tcp,
    Tls,
    Ws,
    Wss,
    Unix,
    TlsUnix,
    Socket,
    Ssh,
    Vsock,
}

/// What has a meaning of its own in the path of a socket, or would end its line.
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'@');

/// All words for them, those of Xpra's pages included.
const SCHEMES: &[(&str, Scheme)] = &[
    ("socket", Scheme::Socket),
    ("ssh", Scheme::Ssh),
    ("ssl", Scheme::Tls),
    ("ssl+unix", Scheme::TlsUnix),
    ("tcp", Scheme::Tcp),
    ("tls", Scheme::Tls),
    ("tls+unix", Scheme::TlsUnix),
    ("unix", Scheme::Unix),
    ("vsock", Scheme::Vsock),
    ("ws", Scheme::Ws),
    ("wss", Scheme::Wss),
    ("xpra", Scheme::Tcp),
    ("xpra+ssh", Scheme::Ssh),
    ("xpra+ssl", Scheme::Tls),
    ("xpra+tcp", Scheme::Tcp),
    ("xpra+tls", Scheme::Tls),
    ("xpra+ws", Scheme::Ws),
    ("xpra+wss", Scheme::Wss),
    ("xpras", Scheme::Tls),
];

/// Words that mean something that this build does not connect to.
const UNAVAILABLE: &[&str] = &["named-pipe", "quic", "rfb", "rpc", "vnc"];

const RPC: &str = "rpc";

/// Multipass's port.
const RPC_PORT: u16 = 50051;

/// `localhost:50051`, `[::1]:50051`: no scheme, and a port of digits.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let bracketed = host.starts_with('[') && host.ends_with(']');
    digits && !host.is_empty() && !host.contains(['/', '@', '+']) && (bracketed || !host.contains(':'))
}

/// The scheme, and what follows its `:`; the old form with `/` in place of `://` too.
fn split_scheme(text: &str) -> Result<(Scheme, &str), ConfigError> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '-');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let word = word.to_ascii_lowercase();
    let known = SCHEMES.iter().find(|(name, _)| *name == word).map(|(_, scheme)| *scheme);
    match (known, rest.split_at_checked(1)) {
        (Some(scheme), Some((":", rest))) => Ok((scheme, rest)),
        (Some(scheme @ (Scheme::Tcp | Scheme::Tls)), Some(("/", rest))) => Ok((scheme, rest)),
        (None, Some((":" | "/", _))) if UNAVAILABLE.contains(&&*word) => Err(unavailable(&word)),
        (None, Some((":", rest))) if rest.starts_with("//") => {
            let fix = match nearest(&word, SCHEMES.iter().map(|(name, _)| *name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "use tcp, tls, ws, wss, ssh, unix, or tls+unix".to_owned(),
            };
            Err(wrong("what stands before `://` is no known kind of address", fix))
        }
        _ => Err(wrong(
            "it does not say what kind of address it is",
            "write tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH",
        )),
    }
}

/// A host and what may be its port. The brackets of an IPv6 address may be missing.
fn split_port(place: &str) -> Result<(String, Option<&str>), ConfigError> {
    let nowhere = || wrong("it names no host", "write HOST:PORT");
    let (host, port) = if let Some(inside) = place.strip_prefix('[') {
        let (host, port) =
            inside.split_once(']').ok_or_else(|| wrong("a `]` is missing", "write [::1]:PORT"))?;
        let parsed: Result<Ipv6Addr, _> = host.parse();
        parsed.map_err(|_| wrong("what stands in brackets is no IPv6 address", "write [::1]:PORT"))?;
        match port.strip_prefix(':') {
            None if port.is_empty() => (host, None),
            Some(port) => (host, Some(port)),
            None => return Err(wrong("something follows the `]`", "write [::1]:PORT")),
        }
    } else {
        match place.rsplit_once(':') {
            // `::1:80` is read as `[::1]:80`, as Xpra does.
            Some((host, port)) if !host.contains(':') || host.parse::<Ipv6Addr>().is_ok() => {
                (host, Some(port))
            }
            Some(_) if place.parse::<Ipv6Addr>().is_ok() => (place, None),
            Some(_) => return Err(wrong("it has too many colons", "write HOST:PORT, or [IPV6]:PORT")),
            None => (place, None),
        }
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        Err(nowhere())
    } else {
        Ok((host.to_owned(), port))
    }
}

fn decode(text: &str) -> Result<String, ConfigError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded =
        decoded.map_err(|_| wrong("a %XX in it is no part of a UTF-8 text", "write %25 for a %"))?;
    if decoded.contains('\0') {
        return Err(wrong("it holds a %00", "leave that out"));
    }
    Ok(decoded.into_owned())
}

fn foreign_option() -> ConfigError {
    let fix = "leave other options out of the address and write them as switches";
    wrong("an address sets host, port, user, password and display only", fix)
}

fn unavailable(scheme: &str) -> ConfigError {
    if scheme == RPC {
        let fix = "log in at the server's tls:// address, or use authenticate, get or set";
        return wrong("rpc: is for calls, not for logins", fix);
    }
    wrong(
        format!("{scheme}: is not available in this build"),
        "use tcp://HOST:PORT, tls://HOST:PORT or unix:/PATH",
    )
}

fn wrong(
    why: impl Into<std::borrow::Cow<'static, str>>,
    fix: impl Into<std::borrow::Cow<'static, str>>,
) -> ConfigError {
    ConfigError::new("address", why, fix)
}

#[cfg(test)]
mod tests;
