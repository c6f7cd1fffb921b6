//! The addresses of sockets, as Xpra writes them and stricter.
//!
//! A host is a literal address or a plain name, so that what is loopback is known without asking a
//! resolver: whether a socket may go without a chain depends on it (S-67).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use super::{kind::Kind, paths::Paths, warning::Warning};
use crate::{
    error::ConfigError,
    sys::vsock,
    transport::{Address, HAS_UNIX_SOCKETS, HAS_VSOCK},
};

/// Reads the address of a socket of `kind`. `None` is `--bind=none`: no socket.
///
/// # Errors
/// It is not of a form that has one meaning.
pub(super) fn parse(
    text: &str,
    kind: Kind,
    paths: &Paths,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Address>, ConfigError> {
    let address = match kind {
        Kind::Unix => unix(text, paths),
        Kind::Tcp => tcp(text, DEFAULT_TCP_PORT, warnings).map(Some),
        Kind::Tls | Kind::Wss => tcp(text, DEFAULT_TLS_PORT, warnings).map(Some),
        Kind::Ws => tcp(text, DEFAULT_HTTP_PORT, warnings).map(Some),
        Kind::Vsock => vsock_port(text).map(Some),
        Kind::Ssh => tcp(text, DEFAULT_SSH_PORT, warnings).map(Some),
        Kind::Rpc => rpc(text, paths, warnings).map(Some),
    }?;
    match &address {
        Some(Address::Vsock { .. }) if !HAS_VSOCK => {
            Err(bad("this system has no vsock", "listen on TCP: bind-tcp or bind-ssl"))
        }
        Some(Address::Unix(_) | Address::Abstract(_)) if !HAS_UNIX_SOCKETS => {
            Err(bad("this system has no Unix sockets", "listen on TCP: bind-tcp, bind-ssl or bind-rpc"))
        }
        _ => Ok(address),
    }
}

/// Whether only programs of this machine reach the address: an IP literal says so, a name never
/// does (`localhost` is read as 127.0.0.1).
pub(super) fn is_local(address: &Address) -> bool {
    match address {
        Address::Tcp { host, .. } => ip(host).is_some_and(|ip| ip.to_canonical().is_loopback()),
        // Other machines, and every program on them.
        Address::Vsock { cid, .. } => *cid == LOCAL_CID,
        _ => true,
    }
}

/// The literal address that a host is, without its zone.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    host.split('%').next()?.parse().ok()
}

/// `none`, `auto`, `noabstract`, `@NAME`, `DIR/` or `PATH`.
fn unix(text: &str, paths: &Paths) -> Result<Option<Address>, ConfigError> {
    if text == "none" {
        return Ok(None);
    }
    if text == "auto" || text == "noabstract" {
        return Ok(Some(Address::Unix(fits(paths.runtime_dir()?.join(SOCKET_NAME))?)));
    }
    unix_place(text).map(Some)
}

/// `auto`, `unix:PATH`, `unix:@NAME`, or as for TCP. What is no `unix:` is a host, also one that is
/// called `unixbox` (M12): whether there is a first use depends on it (S-57).
fn rpc(text: &str, paths: &Paths, warnings: &mut Vec<Warning>) -> Result<Address, ConfigError> {
    if text == "auto" {
        return Ok(Address::Unix(fits(paths.runtime_dir()?.join(RPC_SOCKET_NAME))?));
    }
    match text.strip_prefix("unix:") {
        Some(place) if place.ends_with('/') => {
            Err(bad("it is a directory", "write unix:/PATH of the socket"))
        }
        Some(place) => unix_place(place),
        None => tcp(text, DEFAULT_RPC_PORT, warnings),
    }
}

/// `@NAME`, `DIR/` or `PATH`.
fn unix_place(text: &str) -> Result<Address, ConfigError> {
    if let Some(name) = text.strip_prefix('@') {
        if name.is_empty() || name.len() > LONGEST_UNIX || name.contains('\0') {
            return Err(bad(
                "the abstract name is empty, too long or holds NUL",
                "write @NAME, up to 107 bytes",
            ));
        }
        return Ok(Address::Abstract(name.to_owned()));
    }
    if text.starts_with('~') {
        return Err(bad("`~` is not replaced here", "write the whole path"));
    }
    // A bare word is a misspelt `auto` more often than a file in the present directory.
    if !text.contains('/') {
        return Err(bad("a word is no path", "write /PATH, ./PATH, DIR/, @NAME, auto or none"));
    }
    let path = if text.ends_with('/') { Path::new(text).join(SOCKET_NAME) } else { PathBuf::from(text) };
    Ok(Address::Unix(fits(path)?))
}

fn fits(path: PathBuf) -> Result<PathBuf, ConfigError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() > LONGEST_UNIX || bytes.contains(&0) {
        return Err(bad(
            "the path is longer than 107 bytes, or holds NUL",
            "choose a shorter path: the system allows no more",
        ));
    }
    Ok(path)
}

/// `CID:PORT`, each a number or `any`; `host`, `local` and `hypervisor` for the machines that have their own.
fn vsock_port(text: &str) -> Result<Address, ConfigError> {
    let numbers = text.split_once(':').and_then(|(cid, port)| {
        let port = vsock::number(port).filter(|_| !["hypervisor", "local", "host"].contains(&port))?;
        Some(Address::Vsock { cid: vsock::number(cid)?, port })
    });
    numbers.ok_or_else(|| {
        bad("it is no machine and port of vsock", "write CID:PORT, as in any:10000, host:10000 or 3:10000")
    })
}

/// `[HOST]:PORT`: no host is 127.0.0.1, `*` is every IPv4 address, no port is the default one.
fn tcp(text: &str, default_port: u16, warnings: &mut Vec<Warning>) -> Result<Address, ConfigError> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err(bad("`[` is not closed", FORM));
        };
        let port = port.strip_prefix(':').ok_or_else(|| bad("a port is missing behind `]`", FORM))?;
        return Ok(Address::Tcp { host: ipv6(host)?, port: port_of(port, default_port)? });
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("`:` and a port are missing", FORM))?;
    let port = port_of(port, default_port)?;
    let host = match host {
        "" | "localhost" => Ipv4Addr::LOCALHOST.to_string(),
        "*" => Ipv4Addr::UNSPECIFIED.to_string(),
        _ if host.contains(':') => {
            // `::1:443` is also an IPv6 address without a port, `::1:10000` is not.
            if text.parse::<Ipv6Addr>().is_ok() {
                return Err(bad(
                    "the address can be read in two ways",
                    "put the IPv6 address in []: [::1]:443",
                ));
            }
            let host = ipv6(host)?;
            warnings.push(Warning::Ipv6WithoutBrackets);
            host
        }
        _ => host_name(host)?,
    };
    Ok(Address::Tcp { host, port })
}

/// An IPv6 address, with a zone if it has one, in its one canonical spelling.
fn ipv6(text: &str) -> Result<String, ConfigError> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let address: Ipv6Addr = address.parse().map_err(|_| bad("it is no IPv6 address", FORM))?;
    match zone {
        None => Ok(address.to_string()),
        Some(zone)
            if !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) =>
        {
            Ok(format!("{address}%{zone}"))
        }
        Some(_) => Err(bad("the zone behind `%` is no interface name", FORM)),
    }
}

/// An IPv4 address in its one spelling, or a name.
fn host_name(host: &str) -> Result<String, ConfigError> {
    let valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let lower = host.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if lower.len() > 253 || !name.split('.').all(valid) {
        return Err(bad("the host is neither a name nor an address", FORM));
    }
    // Resolvers read `127.1`, `0x7f.1` and `2130706433` as addresses; nobody reviewing them does.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.chars().all(|c| c.is_ascii_digit());
    if numeric && lower.parse::<Ipv4Addr>().is_err() {
        return Err(bad(
            "the host is an unusual spelling of an address",
            "write all four numbers: 127.0.0.1:PORT",
        ));
    }
    Ok(if name == "localhost" { Ipv4Addr::LOCALHOST.to_string() } else { lower })
}

/// ASCII digits, 0 for a free port of the system's choice.
fn port_of(text: &str, default: u16) -> Result<u16, ConfigError> {
    if text.is_empty() {
        return Ok(default);
    }
    let digits = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse().ok() } else { None };
    port.ok_or_else(|| bad("the port is no number from 0 to 65535", FORM))
}

fn bad(why: &'static str, fix: &'static str) -> ConfigError {
    ConfigError::new("the address", why, fix)
}

/// This machine itself, for whoever is on it (`vsock_loopback`).
const LOCAL_CID: u32 = 1;

const DEFAULT_TCP_PORT: u16 = 14500;
const DEFAULT_SSH_PORT: u16 = 22;
const DEFAULT_TLS_PORT: u16 = 443;
const DEFAULT_HTTP_PORT: u16 = 80;
/// Multipass's own.
const DEFAULT_RPC_PORT: u16 = 50051;

/// The file in a directory of sockets.
const SOCKET_NAME: &str = "countersign.sock";

/// The same for calls.
const RPC_SOCKET_NAME: &str = "rpc.sock";

/// `sun_path` less its final NUL, in bytes.
const LONGEST_UNIX: usize = 107;

const FORM: &str = "write HOST:PORT, :PORT for 127.0.0.1, *:PORT for all, or [IPV6]:PORT";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: Kind) -> Result<(Option<Address>, usize), ConfigError> {
        let mut warnings = Vec::new();
        let paths = Paths::new(true, "/etc/x", "/run/x", "/var/x");
        parse(text, kind, &paths, &mut warnings).map(|address| (address, warnings.len()))
    }

    #[test]
    fn every_form_of_host_and_port_means_one_address() {
        for (text, kind, host, port, warnings) in [
            (":10000", Kind::Tcp, "127.0.0.1", 10000, 0),
            ("localhost:1", Kind::Tcp, "127.0.0.1", 1, 0),
            ("Localhost.:1", Kind::Tcp, "127.0.0.1", 1, 0),
            ("host:", Kind::Tcp, "host", 14500, 0),
            ("host:", Kind::Tls, "host", 443, 0),
            (":", Kind::Tcp, "127.0.0.1", 14500, 0),
            ("[::1]:10000", Kind::Tcp, "::1", 10000, 0),
            ("[0:0::1]:", Kind::Tls, "::1", 443, 0),
            ("localhost:", Kind::Rpc, "127.0.0.1", 50051, 0),
            (":7", Kind::Rpc, "127.0.0.1", 7, 0),
            ("unixbox:50051", Kind::Rpc, "unixbox", 50051, 0),
            ("::1:10000", Kind::Tcp, "::1", 10000, 1),
            ("2001:db8:0:0:0:0:0:1:443", Kind::Tcp, "2001:db8::1", 443, 1),
            ("[fe80::1%eth0]:1", Kind::Tcp, "fe80::1%eth0", 1, 0),
            ("*:10000", Kind::Tcp, "0.0.0.0", 10000, 0),
            ("127.0.0.1:0", Kind::Tcp, "127.0.0.1", 0, 0),
            ("Example.ORG:1", Kind::Tcp, "example.org", 1, 0),
        ] {
            let expected = (Some(Address::Tcp { host: host.to_owned(), port }), warnings);
            assert_eq!(read(text, kind), Ok(expected), "{text}");
        }
        for wrong in [
            "10000",
            "host",
            "",
            "a:-1",
            "a:65536",
            "a:1e3",
            "a: 80",
            "a:80 ",
            "a:８０",
            "a:+1",
            "::1:443",
            "1:2:3",
            "[::1]",
            "[::1:1",
            "[::1]1",
            "[host]:1",
            "127.1:1",
            "0x7f.0.0.1:1",
            "2130706433:1",
            "256.1.1.1:1",
            "a b:1",
            "a..b:1",
            "auth=x:1",
            "[fe80::1%]:1",
            "[fe80::1%a b]:1",
            "*::1",
            "a:000001",
        ] {
            assert!(read(wrong, Kind::Tcp).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_form_of_unix_address_means_one_place() {
        let unix = |path: &str| Some(Address::Unix(path.into()));
        for (text, address) in [
            ("none", None),
            ("auto", unix("/run/x/countersign.sock")),
            ("noabstract", unix("/run/x/countersign.sock")),
            ("/tmp/a.sock", unix("/tmp/a.sock")),
            ("/tmp/a=b", unix("/tmp/a=b")),
            ("./a", unix("./a")),
            ("/run/app/", unix("/run/app/countersign.sock")),
            ("@app", Some(Address::Abstract("app".to_owned()))),
        ] {
            assert_eq!(read(text, Kind::Unix), Ok((address, 0)), "{text}");
        }
        let long = format!("/{}", "x".repeat(107));
        for wrong in ["", "atuo", "@", "~/a", "/a\0b", "@a\0b", &long] {
            assert!(read(wrong, Kind::Unix).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s_057_a_unix_socket_of_calls_is_one_by_its_whole_prefix() {
        let unix = |path: &str| Some(Address::Unix(path.into()));
        for (text, address) in [
            ("auto", unix("/run/x/rpc.sock")),
            ("unix:/run/y", unix("/run/y")),
            ("unix:./y", unix("./y")),
            ("unix:@app", Some(Address::Abstract("app".to_owned()))),
        ] {
            assert_eq!(read(text, Kind::Rpc), Ok((address, 0)), "{text}");
        }
        for wrong in ["", "none", "unix:", "unix:x", "unix:/run/", "/run/y", "unix:~/y", "@app", "unix"] {
            assert!(read(wrong, Kind::Rpc).is_err(), "{wrong}");
        }
    }

    #[test]
    fn s_057_s_067_only_literal_loopback_addresses_are_local() {
        let local = |text| is_local(&read(text, Kind::Tcp).unwrap().0.unwrap());
        for text in [":1", "127.255.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
            assert!(local(text), "{text}");
        }
        for text in ["*:1", "[::]:1", "0.0.0.0:1", "localhost.example.org:1", "ip6-localhost:1", "10.0.0.1:1"]
        {
            assert!(!local(text), "{text}");
        }
    }
}
