//! WebSocket on a socket: whether, at which path, and for the scripts of which pages.
//!
//! [`super::socket`] reads these options of each socket; the gateway's driver goes by them.

use super::{
    kind::Kind,
    wires::{Accepts, Protocol},
};
use crate::{error::ConfigError, modules::Options};

/// How a socket takes WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebSocketOptions {
    /// Nothing else is taken: `--bind-ws`, `--bind-wss`.
    pub required: bool,
    /// Where it is, without a query.
    pub path: String,
    /// The origins of pages whose scripts may connect (RFC 6455 section 10.2). Programs that are no
    /// browser name none, and this says nothing about them.
    pub origins: Vec<String>,
    /// Browsers that ask for a page are given one to log in with.
    pub login_page: bool,
}

impl WebSocketOptions {
    /// At `/`, from no page.
    pub fn new(required: bool) -> Self {
        Self { required, path: "/".to_owned(), origins: Vec::new(), login_page: false }
    }

    /// Whether the script of a page may connect. Browsers write hosts in lower case, people may not.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// `None` where WebSocket is not spoken.
    pub(super) fn take(
        options: &mut Options,
        kind: Kind,
        (protocol, accepts): (Protocol, Accepts),
    ) -> Result<Option<Self>, ConfigError> {
        let required = matches!(kind, Kind::Ws | Kind::Wss);
        // Nothing is said before the daemon's own protocol, so nothing tells an upgrade from it.
        let possible = required || protocol == Protocol::Auto;
        let wanted = required || options.flag("websocket", possible)?;
        if wanted && !possible {
            return Err(options.error(
                "websocket",
                "this protocol is not told from HTTP by its first bytes",
                "use bind-ws or bind-wss, or protocol=auto",
            ));
        }
        let (path, origins) = (path(options)?, origins(options)?);
        let login_page = login_page(options, wanted && accepts == Accepts::Tls, &origins)?;
        if !wanted {
            return match path.is_some() || !origins.is_empty() {
                true => Err(options.error(
                    if path.is_some() { PATH } else { ORIGINS },
                    "no WebSocket is spoken on this socket",
                    "remove it, or use bind-ws or bind-wss",
                )),
                false => Ok(None),
            };
        }
        Ok(Some(Self { path: path.unwrap_or_else(|| "/".to_owned()), origins, required, login_page }))
    }
}

/// Its script may connect only if the page is listed like any other: a name that leads here and is not ours is not.
fn login_page(options: &mut Options, is_possible: bool, origins: &[String]) -> Result<bool, ConfigError> {
    let wanted = options.flag(LOGIN_PAGE, false)?;
    if wanted && !is_possible {
        return Err(options.error(
            LOGIN_PAGE,
            "whoever is on the way could change a page that is sent in clear",
            "use bind-wss, or TLS alone with websocket=yes",
        ));
    }
    if wanted && origins.is_empty() {
        return Err(options.error(
            LOGIN_PAGE,
            "the script of the page may not connect",
            "write websocket-origins=https://HOST:PORT, as the browser shows the page's address",
        ));
    }
    Ok(wanted)
}

fn path(options: &mut Options) -> Result<Option<String>, ConfigError> {
    let Some(path) = options.take(PATH)? else { return Ok(None) };
    let valid = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    match path.starts_with('/') && path.bytes().all(valid) {
        true => Ok(Some(path.to_string())),
        false => Err(options.error(
            PATH,
            "it is no path of HTTP",
            "write /NAME, with %XX for whatever is no sign of ASCII",
        )),
    }
}

/// Separated by commas (then in quotes) or blanks.
fn origins(options: &mut Options) -> Result<Vec<String>, ConfigError> {
    let Some(list) = options.take(ORIGINS)? else { return Ok(Vec::new()) };
    let origins: Vec<String> =
        list.split([',', ' ']).filter(|origin| !origin.is_empty()).map(str::to_owned).collect();
    // RFC 6454 section 6.2: scheme, host, and the port where it is not the usual one. `null` is every page that
    // has none.
    let valid = |origin: &String| {
        origin.split_once("://").is_some_and(|(scheme, host)| {
            let host_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            let scheme_sign = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            !scheme.is_empty()
                && scheme.bytes().all(scheme_sign)
                && !host.is_empty()
                && host.bytes().all(host_sign)
        })
    };
    match origins.is_empty() || !origins.iter().all(valid) {
        true => Err(options.error(
            ORIGINS,
            "one is not the origin of a page",
            "write them as browsers do: https://HOST, or https://HOST:PORT, without a path",
        )),
        false => Ok(origins),
    }
}

const PATH: &str = "websocket-path";
const ORIGINS: &str = "websocket-origins";
const LOGIN_PAGE: &str = "login-page";
