//! Where an invited client can come in.
//!
//! The gateway lists its entrances for the control socket; an invitation names one.

use std::net::IpAddr;

use crate::{sys::accounts::host_name, transport::Address, transport::tls::Fingerprint};

/// A socket that takes certificates, as invitations name it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entrance {
    /// The socket, as scopes name it.
    pub socket: String,
    /// Its address for clients: `tls://HOST:PORT`, `tls+unix:PATH`.
    pub address: String,
    /// SHA-256 of the key that the server shows there.
    pub server: Fingerprint,
    reach: Reach,
}

/// From where a client can come. What more clients can reach comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Network,
    Machine,
    Unknown,
}

impl Entrance {
    /// The socket of that name, which listens at `address`. One that listens on all addresses is
    /// called after this machine.
    pub fn new(socket: impl Into<String>, address: &Address, server: Fingerprint) -> Self {
        let (text, reach) = match address {
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() => (format!("tls://{}:{port}", host_name()), Reach::Network),
                Ok(ip) if ip.to_canonical().is_loopback() => (network(address), Reach::Machine),
                _ => (network(address), Reach::Network),
            },
            local => (format!("tls+{local}"), Reach::Machine),
        };
        Self { socket: socket.into(), address: text, server, reach }
    }

    /// The server of that key, wherever it listens.
    pub fn somewhere(server: Fingerprint) -> Self {
        Self { socket: String::new(), address: String::new(), server, reach: Reach::Unknown }
    }

    /// Puts those first that more clients can reach.
    pub fn sort(entrances: &mut [Self]) {
        entrances.sort_by_key(|entrance| entrance.reach);
    }
}

fn network(address: &Address) -> String {
    address.to_string().replacen("tcp:", "tls://", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_clients_reach_comes_first_and_all_addresses_are_this_machine() {
        let tcp = |host: &str| Address::Tcp { host: host.into(), port: 99 };
        let all = [Address::Unix("/run/x".into()), tcp("127.0.0.1"), tcp("0.0.0.0"), tcp("2001:db8::1")];
        let mut all: Vec<_> =
            all.iter().map(|address| Entrance::new("s", address, Fingerprint([1; 32]))).collect();
        Entrance::sort(&mut all);
        let found: Vec<&str> = all.iter().map(|entrance| entrance.address.as_str()).collect();
        let own = format!("tls://{}:99", host_name());
        assert_eq!(found, [own.as_str(), "tls://[2001:db8::1]:99", "tls+unix:/run/x", "tls://127.0.0.1:99"]);
    }
}
