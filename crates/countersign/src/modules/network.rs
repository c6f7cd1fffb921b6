//! Networks of addresses, as options name them: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/64`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Options;
use crate::error::ConfigError;

/// The addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of `address` with that many leading bits. IPv4-mapped is IPv4 (S-24).
    pub(crate) fn of(address: IpAddr, v4_prefix: u8, v6_prefix: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let prefix = v4_prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { first: Ipv4Addr::from(u32::from(address) & mask).into(), prefix }
            }
            IpAddr::V6(address) => {
                let prefix = v6_prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { first: Ipv6Addr::from(u128::from(address) & mask).into(), prefix }
            }
        }
    }

    /// Reads a network; `None` if it is none, or has bits behind its prefix.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(most), |prefix| prefix.trim().parse().ok())?;
        let network = Self::of(address, prefix, prefix);
        (prefix <= most && network.first == address).then_some(network)
    }

    /// Whether an address is in it.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.first.is_ipv4() == address.is_ipv4() && Self::of(address, self.prefix, self.prefix) == *self
    }

    /// Takes every value of an option that names networks.
    ///
    /// # Errors
    /// One that is none.
    pub(crate) fn take_all(options: &mut Options, name: &str) -> Result<Vec<Self>, ConfigError> {
        let mut networks = Vec::new();
        for value in options.take_all(name) {
            let network = Self::parse(value.trim());
            networks.push(network.ok_or_else(|| {
                let why = "it is no address or network, or has bits behind its prefix";
                options.error(name, why, format!("write {name}=192.0.2.7 or {name}=192.0.2.0/24"))
            })?);
        }
        Ok(networks)
    }
}

/// As in options.
impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = if self.first.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole { self.first.fmt(f) } else { write!(f, "{}/{}", self.first, self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let network = |text| Network::parse(text).unwrap();
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("2001:db8::/64", "2001:db8::ffff:1", "2001:db8:0:1::1"),
            ("::/0", "::1", "127.0.0.1"),
        ] {
            let network = network(text);
            assert!(network.holds(inside.parse().unwrap()), "{text}");
            assert!(!network.holds(outside.parse().unwrap()), "{text}");
            assert_eq!(network.to_string(), text);
        }
        assert!(network("192.0.2.0/24").holds("::ffff:192.0.2.7".parse().unwrap()), "s_024");
        for wrong in ["", "x", "192.0.2.7/24", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
