//! Where a key may be used from: `from=` of `authorized_keys`, `source-address` of certificates.

use std::net::IpAddr;

use crate::Peer;

/// A list of addresses. Names never match, as with sshd's `UseDNS no`: nobody's resolver decides here.
pub(super) struct Sources(Vec<(bool, Pattern)>);

enum Pattern {
    Network(IpAddr, u32),
    /// With `*` and `?`, against the address as text.
    Glob(String),
}

impl Sources {
    /// Reads `from=`: networks, addresses and patterns, `!` in front of those that must not match.
    ///
    /// `None` if a network cannot be read; what is meant is then unknown.
    pub(super) fn of_patterns(list: &str) -> Option<Self> {
        list.split(',').map(|item| Self::item(item.trim(), true)).collect::<Option<_>>().map(Self)
    }

    /// Reads `source-address`: networks and addresses only.
    pub(super) fn of_networks(list: &str) -> Option<Self> {
        list.split(',').map(|item| Self::item(item.trim(), false)).collect::<Option<_>>().map(Self)
    }

    fn item(item: &str, patterns: bool) -> Option<(bool, Pattern)> {
        let (wanted, text) = match item.strip_prefix('!') {
            Some(rest) if patterns => (false, rest),
            _ => (true, item),
        };
        let pattern = match network(text) {
            Some((address, bits)) => Pattern::Network(address, bits),
            None if patterns && !text.is_empty() && !text.contains('/') => Pattern::Glob(text.to_owned()),
            None => return None,
        };
        Some((wanted, pattern))
    }

    /// Whether the peer has an address that something here matches, and nothing that must not.
    pub(super) fn contain(&self, peer: &Peer) -> bool {
        let Some(address) = peer.address().map(|address| address.ip().to_canonical()) else { return false };
        let matching = |wanted| self.0.iter().any(|(is, pattern)| *is == wanted && pattern.matches(address));
        matching(true) && !matching(false)
    }
}

impl Pattern {
    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network, bits) => match (*network, address) {
                (IpAddr::V4(network), IpAddr::V4(address)) => {
                    same_bits(network.to_bits().into(), address.to_bits().into(), 32 - bits)
                }
                (IpAddr::V6(network), IpAddr::V6(address)) => {
                    same_bits(network.to_bits(), address.to_bits(), 128 - bits)
                }
                _ => false,
            },
            Self::Glob(glob) => matches_glob(glob.as_bytes(), address.to_string().as_bytes()),
        }
    }
}

fn same_bits(one: u128, other: u128, behind: u32) -> bool {
    (one ^ other).checked_shr(behind).unwrap_or(0) == 0
}

/// An address, or one with the number of its bits that count.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

/// `*` is any run of characters, `?` is one. Linear but for the last `*` that was passed.
fn matches_glob(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut star, mut position) = (0, None, 0);
    while let Some(byte) = text.get(position) {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(byte) => {
                at += 1;
                position += 1;
            }
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    (at, position) = (back + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(list: &str, address: &str) -> bool {
        let address = address.parse().unwrap();
        Sources::of_patterns(list).unwrap().contain(&Peer::tcp(address, address))
    }

    #[test]
    fn s_024_lists_are_read_as_sshd_reads_them() {
        for (list, address) in [
            ("192.0.2.7", "192.0.2.7:1"),
            ("192.0.2.0/24", "192.0.2.7:1"),
            ("10.0.0.0/8,192.0.2.*", "192.0.2.7:1"),
            ("192.0.2.?", "192.0.2.7:1"),
            ("0.0.0.0/0", "192.0.2.7:1"),
            ("192.0.2.0/24,!192.0.2.8", "192.0.2.7:1"),
            ("192.0.2.7", "[::ffff:192.0.2.7]:1"),
            ("2001:db8::/32", "[2001:db8::1]:1"),
            ("::/0", "[2001:db8::1]:1"),
            ("*", "[2001:db8::1]:1"),
        ] {
            assert!(contain(list, address), "{list} {address}");
        }
        for (list, address) in [
            ("192.0.2.8", "192.0.2.7:1"),
            ("192.0.2.0/25,!192.0.2.0/24", "192.0.2.7:1"),
            ("!192.0.2.8", "192.0.2.7:1"),
            ("192.0.2.?", "192.0.2.77:1"),
            ("host.example,*.example", "192.0.2.7:1"),
            ("::/0", "192.0.2.7:1"),
            ("192.0.2.*8*", "192.0.2.7:1"),
        ] {
            assert!(!contain(list, address), "{list} {address}");
        }
        assert!(!Sources::of_patterns("*").unwrap().contain(&Peer::unix(None)));
        for bad in ["192.0.2.0/33", "192.0.2.0/x", "::/129", "a/24", "", "a,,b"] {
            assert!(Sources::of_patterns(bad).is_none(), "{bad}");
        }
        assert!(Sources::of_networks("192.0.2.*").is_none() && Sources::of_networks("!192.0.2.1").is_none());
    }
}
