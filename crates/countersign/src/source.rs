//! Where a connection comes from, as far as that is not free to choose.
//!
//! The crowd of those who log in (`crowd.rs`) and the ledger of their failures (`penalties/`) count by it.
#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::{Peer, proto::peer::Origin};

/// One source of connections (S-04, S-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Source {
    /// An IPv4 address, also one that is mapped into IPv6.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address: whoever has one address of a network has them all.
    V6([u8; 8]),
    /// A user of this machine, as the kernel says at a Unix socket.
    User(u32),
    /// A virtual machine, or the host of ours, by its number on vsock.
    Machine(u32),
    /// Somebody of this machine of whom the kernel says no more.
    Local,
    /// The holder of an accepted certificate, wherever that is: the first 64 bits of its fingerprint.
    Certificate([u8; 8]),
}

impl Source {
    /// Where `peer` is, whatever it holds.
    pub fn of(peer: &Peer) -> Self {
        if let Origin::Vsock { cid, .. } = peer.origin {
            return Self::Machine(cid);
        }
        match (peer.address().map(|address| address.ip().to_canonical()), peer.credentials()) {
            (Some(IpAddr::V4(address)), _) => Self::V4(address.octets()),
            (Some(IpAddr::V6(address)), _) => Self::V6(first_half(address)),
            (None, Some(credentials)) => Self::User(credentials.uid),
            (None, None) => Self::Local,
        }
    }

    /// The holder of a certificate that was accepted.
    pub fn holder(fingerprint: &[u8; 32]) -> Self {
        Self::Certificate(fingerprint.first_chunk().copied().unwrap_or_default())
    }
}

/// As `countersign status` shows it: `192.0.2.7`, `2001:db8::/64`, `uid:1000`, `vsock:3`, `local`, `certificate:` and
/// 16 digits.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bytes) => IpAddr::from(*bytes).fmt(f),
            Self::V6(bytes) => {
                let network = u128::from(u64::from_be_bytes(*bytes)) << 64;
                write!(f, "{}/64", Ipv6Addr::from(network))
            }
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Machine(cid) => write!(f, "vsock:{cid}"),
            Self::Local => f.write_str("local"),
            Self::Certificate(first) => write!(f, "certificate:{}", hex(first)),
        }
    }
}

/// As it is shown, and any address of an IPv6 network, and any longer part of a fingerprint.
impl FromStr for Source {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(uid) = text.strip_prefix("uid:") {
            return uid.parse().map(Self::User).map_err(|_| ());
        }
        if let Some(cid) = text.strip_prefix("vsock:") {
            return cid.parse().map(Self::Machine).map_err(|_| ());
        }
        if let Some(digits) = text.strip_prefix("certificate:") {
            let first = digits.get(..16).ok_or(())?;
            return u64::from_str_radix(first, 16)
                .map(|first| Self::Certificate(first.to_be_bytes()))
                .map_err(|_| ());
        }
        if text == "local" {
            return Ok(Self::Local);
        }
        match text.strip_suffix("/64").unwrap_or(text).parse::<IpAddr>().map(|address| address.to_canonical())
        {
            Ok(IpAddr::V4(address)) if !text.ends_with("/64") => Ok(Self::V4(address.octets())),
            Ok(IpAddr::V6(address)) => Ok(Self::V6(first_half(address))),
            _ => Err(()),
        }
    }
}

fn first_half(address: Ipv6Addr) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = address.octets();
    [a, b, c, d, e, f, g, h]
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer::Credentials;

    #[test]
    fn s_024_a_source_is_an_address_a_64_or_a_uid_and_mapped_ipv4_is_ipv4() {
        let local = "127.0.0.1:1".parse().unwrap();
        let of = |text: &str| Source::of(&Peer::tcp(text.parse().unwrap(), local));
        assert_eq!(of("[::ffff:192.0.2.7]:5"), of("192.0.2.7:6"));
        assert_ne!(of("192.0.2.8:5"), of("192.0.2.7:5"));
        assert_eq!(of("[2001:db8:0:1:2::3]:5"), of("[2001:db8:0:1:ffff::9]:6"));
        assert_ne!(of("[2001:db8:0:1::1]:5"), of("[2001:db8:0:2::1]:5"));
        let user = |uid| Source::of(&Peer::unix(Some(Credentials::new(uid, 0))));
        assert!(user(1000) != user(1001) && user(0) != Source::of(&Peer::unix(None)));
        // A machine has any number of ports, and no part in what this one's users do.
        let machine = |cid, port| Source::of(&Peer::vsock(cid, port));
        assert!(machine(3, 1) == machine(3, 2) && machine(3, 1) != machine(4, 1));
        assert!(machine(3, 1) != user(3) && machine(1, 1) != Source::of(&Peer::unix(None)));
    }

    #[test]
    fn a_source_is_read_as_it_is_shown() {
        let holder = Source::holder(&[0xab; 32]);
        let shown = [
            "192.0.2.7",
            "2001:db8:0:1::/64",
            "uid:1000",
            "vsock:3",
            "local",
            "certificate:abababababababab",
        ];
        for text in shown {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!(shown[5].parse(), Ok(holder));
        assert_eq!("2001:db8:0:1::7".parse(), "2001:db8:0:1::/64".parse::<Source>());
        assert_eq!("::ffff:192.0.2.7".parse(), "192.0.2.7".parse::<Source>());
        for wrong in [
            "",
            "x",
            "uid:",
            "uid:-1",
            "vsock:any",
            "192.0.2.7/64",
            "192.0.2.0/24",
            "certificate:ab",
            "certificate:üüüüüüüüü",
        ] {
            assert_eq!(wrong.parse::<Source>(), Err(()), "{wrong}");
        }
    }
}
