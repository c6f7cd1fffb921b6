//! Where directories are, and how the connection to one is kept private.

use std::{fmt, net::IpAddr, sync::Arc};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult};
use rustls::ClientConfig;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{ConfigError, modules::Options};

/// One directory server.
#[derive(Debug)]
pub(super) struct Server {
    url: String,
    privacy: Privacy,
}

/// What keeps others from reading what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privacy {
    /// TLS from the first byte.
    Tls,
    /// TLS after the first question, before anything else is said.
    StartTls,
    /// Nothing, or that it stays on this machine.
    Nothing,
}

impl Server {
    /// The servers that the options name, in the order to try them in.
    ///
    /// # Errors
    /// None is named, or it is no address, or passwords would be sent to another machine in the clear
    /// without `insecure=yes`.
    pub(super) fn from_options(options: &mut Options) -> Result<Vec<Self>, ConfigError> {
        let urls = options.take_all("url");
        let host = options.take("host")?;
        let port = options.take("port")?;
        let tls = options.take("tls")?;
        let wanted = match tls.as_ref().map(|tls| tls.trim().to_ascii_lowercase()).as_deref() {
            None => None,
            Some("starttls") => Some(Privacy::StartTls),
            Some("yes" | "true" | "1" | "on") => Some(Privacy::Tls),
            Some("no" | "false" | "0" | "off") => Some(Privacy::Nothing),
            Some(_) => {
                let fix = "write tls=starttls, tls=yes (ldaps) or tls=no";
                return Err(options.error("tls", "it is none of the ways", fix));
            }
        };
        let insecure = options.flag("insecure", false)?;
        let servers = match (urls.as_slice(), host, port) {
            ([], host, port) => {
                let host = host.as_ref().map_or("localhost", |host| host.trim());
                vec![Self::at_host(options, host, port.as_ref().map(|port| port.trim()), wanted)?]
            }
            (urls, None, None) => {
                let urls = urls.iter().flat_map(|urls| urls.split_ascii_whitespace());
                urls.map(|url| Self::at_url(options, url, wanted)).collect::<Result<_, _>>()?
            }
            _ => return Err(options.error("url", "host and port are written too", "leave them out")),
        };
        let open = servers.iter().any(|server| server.privacy == Privacy::Nothing && !server.is_local());
        if open && !insecure {
            let why = "passwords would be sent to another machine in the clear";
            return Err(options.error("tls", why, "leave tls=no out, or ask for this with insecure=yes"));
        }
        Ok(servers)
    }

    fn at_host(
        options: &Options,
        host: &str,
        port: Option<&str>,
        wanted: Option<Privacy>,
    ) -> Result<Self, ConfigError> {
        let privacy = wanted.unwrap_or(Privacy::StartTls);
        let scheme = if privacy == Privacy::Tls { "ldaps" } else { "ldap" };
        let host =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
        let url = match port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        let fix = "write the name or address of one server, and the number of its port";
        let url =
            checked(&url).ok_or_else(|| options.error("host", "it is no address with its port", fix))?;
        Ok(Self { url, privacy })
    }

    fn at_url(options: &Options, url: &str, wanted: Option<Privacy>) -> Result<Self, ConfigError> {
        let fix =
            "write ldaps://HOST, ldap://HOST, each with :PORT if need be, or ldapi://%2Fpath%2Fof%2Fsocket";
        let url = checked(url).ok_or_else(|| options.error("url", "it is no address of a directory", fix))?;
        let scheme = url.split(':').next().unwrap_or_default();
        let privacy = match (scheme, wanted) {
            ("ldaps", None | Some(Privacy::Tls)) => Privacy::Tls,
            ("ldap", None) => Privacy::StartTls,
            ("ldap", Some(privacy @ (Privacy::StartTls | Privacy::Nothing))) => privacy,
            ("ldapi", None | Some(Privacy::Nothing)) => Privacy::Nothing,
            _ => {
                let why = "it contradicts the address";
                return Err(options.error(
                    "tls",
                    why,
                    "write ldaps:// and no tls=, or ldap:// and tls=starttls",
                ));
            }
        };
        Ok(Self { url, privacy })
    }

    /// Whether nothing that is said leaves this machine.
    fn is_local(&self) -> bool {
        let Some((scheme, authority)) = self.url.split_once("://") else { return false };
        let (host, _) = split_port(authority);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
        scheme == "ldapi" || host.eq_ignore_ascii_case("localhost") || loopback
    }

    /// Whether certificates are looked at.
    pub(super) fn is_private(&self) -> bool {
        self.privacy != Privacy::Nothing
    }

    async fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> Result<Connection, LdapError> {
        let mut settings = LdapConnSettings::new().set_starttls(self.privacy == Privacy::StartTls);
        if let Some(tls) = tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &self.url).await?;
        Ok(Connection { ldap, driver: tokio::spawn(async { drop(connection.drive().await) }) })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A connection, which ends when it is dropped.
pub(super) struct Connection {
    pub(super) ldap: Ldap,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection to the first of `servers` that has one to give. Each is waited for as long as leaves
/// the same time to those after it.
///
/// # Errors
/// What is wrong with each of them.
pub(super) async fn connect(
    servers: &[Server],
    tls: Option<&Arc<ClientConfig>>,
    deadline: Instant,
) -> Result<Connection, String> {
    let mut faults = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let left = u32::try_from(servers.len() - index).unwrap_or(u32::MAX);
        // One share more than there are servers: the questions take time too.
        let share = deadline.saturating_duration_since(Instant::now()) / (left + u32::from(left > 1));
        match timeout(share, server.connect(tls)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => faults.push(format!("{server}: {}", message(&error))),
            Err(_) => faults.push(format!("{server}: no answer within {share:.1?}")),
        }
    }
    Err(faults.join("; "))
}

/// What the library says, without its own words for where it happened.
pub(super) fn message(error: &LdapError) -> String {
    match error {
        LdapError::Io { source } => source.to_string(),
        LdapError::ResultRecv { .. } | LdapError::OpSend { .. } | LdapError::EndOfStream => {
            "the connection broke".to_owned()
        }
        LdapError::LdapResult { result } => answer(result),
        other => other.to_string(),
    }
}

/// What a server answers instead of success: its number, and its own words cut to a line's length.
pub(super) fn answer(result: &LdapResult) -> String {
    let words: String = result.text.chars().take(200).collect();
    if words.is_empty() { format!("result {}", result.rc) } else { format!("result {}: {words}", result.rc) }
}

/// An address that is whole: scheme and host in small letters, a port that is a number, nothing behind.
fn checked(url: &str) -> Option<String> {
    let (scheme, authority) = url.trim().split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let right = match scheme.as_str() {
        "ldapi" => is_host(authority, "%-._~") && authority.to_ascii_lowercase().starts_with("%2f"),
        "ldap" | "ldaps" => {
            let (host, port) = split_port(authority);
            let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let named = inside.map_or_else(|| is_host(host, "-._"), |host| is_host(host, ":."));
            named && port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port != 0))
        }
        _ => false,
    };
    right.then(|| format!("{scheme}://{authority}"))
}

fn is_host(host: &str, beside: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || beside.contains(c))
}

/// The host, with its brackets if it has some, and the port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(values: &[(&str, &str)]) -> Result<Vec<String>, ConfigError> {
        let mut options = Options::new("ldap", values.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        let servers = Server::from_options(&mut options)?;
        options.finish(&[])?;
        Ok(servers.iter().map(|server| format!("{server} {:?}", server.privacy)).collect())
    }

    #[test]
    fn servers_are_named_by_address_or_as_xpra_names_them() {
        for (values, found) in [
            (&[][..], "ldap://localhost StartTls"),
            (&[("url", "ldap://a.example")], "ldap://a.example StartTls"),
            (&[("url", "LDAPS://a.example:1636/")], "ldaps://a.example:1636 Tls"),
            (&[("url", "ldap://a.example"), ("tls", "starttls")], "ldap://a.example StartTls"),
            (&[("url", "ldapi://%2Frun%2Fldapi")], "ldapi://%2Frun%2Fldapi Nothing"),
            (&[("host", "a.example"), ("tls", "1"), ("port", "7")], "ldaps://a.example:7 Tls"),
            (&[("host", "::1"), ("tls", "no")], "ldap://[::1] Nothing"),
            (&[("url", "ldap://[::1]:389"), ("tls", "no")], "ldap://[::1]:389 Nothing"),
        ] {
            assert_eq!(servers(values).unwrap(), [found]);
        }
        let both = servers(&[("url", "ldaps://a ldaps://b"), ("url", "ldaps://c")]).unwrap();
        assert_eq!(both, ["ldaps://a Tls", "ldaps://b Tls", "ldaps://c Tls"]);
    }

    #[test]
    fn s_072_passwords_leave_this_machine_in_the_clear_only_if_that_is_asked_for() {
        for local in ["localhost", "127.0.0.1", "127.9.9.9:389", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(servers(&[("url", &format!("ldap://{local}")), ("tls", "no")]).is_ok(), "{local}");
        }
        for far in ["a.example", "192.0.2.1", "localhost.example", "[2001:db8::1]:389", "127.0.0.1.example"] {
            let url = format!("ldap://{far}");
            let error = servers(&[("url", &url), ("tls", "no")]).unwrap_err();
            assert!(error.fix().contains("insecure=yes"), "{far}");
            assert!(servers(&[("url", "ldapi://%2Fx"), ("url", &url), ("tls", "no")]).is_err(), "{far}");
            assert!(servers(&[("url", &url), ("tls", "no"), ("insecure", "yes")]).is_ok(), "{far}");
            assert!(servers(&[("host", far.split(']').next().unwrap()), ("tls", "0")]).is_err(), "{far}");
        }
    }

    #[test]
    fn s_065_what_is_no_address_or_contradicts_itself_is_a_start_error_that_repeats_nothing() {
        for bad in [
            &[("url", "http://canary")][..],
            &[("url", "canary")],
            &[("url", "ldap://")],
            &[("url", "ldap://canary:x")],
            &[("url", "ldap://canary:0")],
            &[("url", "ldap://canary:65536")],
            &[("url", "ldap://user:canary@host")],
            &[("url", "ldap://canary/o=x??sub")],
            &[("url", "ldap://canary?x")],
            &[("url", "ldapi:///")],
            &[("url", "ldapi://run%2Fcanary")],
            &[("url", "ldaps://canary"), ("tls", "starttls")],
            &[("url", "ldaps://canary"), ("tls", "no"), ("insecure", "yes")],
            &[("url", "ldap://canary"), ("tls", "yes")],
            &[("url", "ldap://canary"), ("host", "canary")],
            &[("url", "ldap://canary"), ("port", "389")],
            &[("host", "canary canary")],
            &[("host", "")],
            &[("port", "canary")],
            &[("tls", "canary")],
        ] {
            let error = servers(bad).unwrap_err();
            assert!(!format!("{error} {}", error.fix()).contains("canary"), "{error}");
        }
    }
}
