//! The PROXY protocol: who is behind a hop, said in front of its stream (HAProxy, `doc/proxy-protocol.txt`).
//!
//! The gateway reads both versions from hops that it was told of (S-83), and writes the second for daemons (S-82).
//! Nothing is believed here: whoever calls decides whose header is read at all.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// Whom a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "whoever reads one has to decide about each")]
pub enum Announced {
    /// Nobody: the hop came for itself, to see whether it is answered (`LOCAL`).
    Hop,
    /// A client on TCP.
    Tcp {
        /// Its address.
        remote: SocketAddr,
        /// The address that it reached.
        local: SocketAddr,
    },
    /// A client on a Unix socket, whose end has no name (`AF_UNIX`).
    Unix,
    /// Somebody of whom the hop says nothing (`UNKNOWN`, `AF_UNSPEC`).
    Somebody,
}

/// Why bytes are no header, or none can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyError(&'static str);

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for ProxyError {}

/// The header at the beginning of `bytes`, and its length; `None` if it is not complete yet.
///
/// What can still become a header has at most [`LONGEST`] bytes.
///
/// # Errors
/// It is none, whatever follows.
pub fn read(bytes: &[u8]) -> Result<Option<(Announced, usize)>, ProxyError> {
    if begins(bytes, LINE) {
        line(bytes)
    } else if begins(bytes, SIGNATURE) {
        binary(bytes)
    } else {
        Err(ProxyError("there is no PROXY header"))
    }
}

/// A header of version 2 with these TLVs, each as [`tlv`] writes it, and a checksum over all of it.
///
/// # Errors
/// It would be longer than a header can be (64 KiB).
pub fn write(announced: &Announced, tlvs: &[u8]) -> Result<Vec<u8>, ProxyError> {
    let command = if *announced == Announced::Hop { VERSION_2_LOCAL } else { VERSION_2_PROXY };
    let (family, mut body) = addresses(announced);
    body.extend(tlvs);
    // Last, over everything, computed with zeros in its own place (2.2.3).
    tlv(&mut body, CRC32C, &[0; 4])?;
    let mut header = [SIGNATURE, &[command, family], &length(body.len())?].concat();
    header.append(&mut body);
    let checksum = crc32c::crc32c(&header).to_be_bytes();
    header.truncate(header.len() - checksum.len());
    header.extend(checksum);
    Ok(header)
}

/// Appends a value with its kind and length (2.2).
///
/// # Errors
/// It is longer than a value can be (64 KiB).
pub fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), ProxyError> {
    let length = length(value.len())?;
    out.push(kind);
    out.extend(length);
    out.extend(value);
    Ok(())
}

/// The longest header that is read: what tells of TLS and of a client's certificate has its place in it.
pub const LONGEST: usize = HEAD + LONGEST_BODY;

/// Whether `bytes` may be the beginning of what starts so.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, right)| byte == right)
}

/// Version 1 (2.1): one line of text.
fn line(bytes: &[u8]) -> Result<Option<(Announced, usize)>, ProxyError> {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(ProxyError("its line is too long")) };
    };
    let text = bytes.get(LINE.len()..end).and_then(|text| text.strip_suffix(b"\r"));
    let text = text.and_then(|text| str::from_utf8(text).ok()).ok_or(ProxyError("its line is malformed"))?;
    let announced = match text.split_once(' ').unwrap_or((text, "")) {
        // Whatever follows means nothing.
        ("UNKNOWN", _) => Announced::Somebody,
        ("TCP4", rest) => ends::<Ipv4Addr>(rest)?,
        ("TCP6", rest) => ends::<Ipv6Addr>(rest)?,
        _ => return Err(ProxyError("its family is unknown")),
    };
    Ok(Some((announced, end + 1)))
}

/// Two addresses of a family and two ports, each behind one blank.
fn ends<A: FromStr + Into<IpAddr>>(text: &str) -> Result<Announced, ProxyError> {
    let wrong = ProxyError("its line is malformed");
    let words: Vec<&str> = text.splitn(5, ' ').collect();
    let [remote, local, remote_port, local_port] = *words.as_slice() else { return Err(wrong) };
    let address = |text: &str| text.parse::<A>().map(Into::into).map_err(|_| wrong);
    // Decimal without a sign or zeros in front.
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text).ok_or(wrong);
    Ok(Announced::Tcp {
        remote: SocketAddr::new(address(remote)?, port(remote_port)?),
        local: SocketAddr::new(address(local)?, port(local_port)?),
    })
}

/// Version 2 (2.2).
fn binary(bytes: &[u8]) -> Result<Option<(Announced, usize)>, ProxyError> {
    let command = bytes.get(SIGNATURE.len());
    if command.is_some_and(|command| ![VERSION_2_LOCAL, VERSION_2_PROXY].contains(command)) {
        return Err(ProxyError("its version or command is unknown"));
    }
    let Some(([.., command, family, high, low], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST_BODY {
        return Err(ProxyError("it is too long"));
    }
    let (Some(body), Some(header)) = (rest.get(..length), bytes.get(..HEAD + length)) else {
        return Ok(None);
    };
    if *command == VERSION_2_LOCAL {
        // What follows is to be skipped, whatever it is.
        return Ok(Some((Announced::Hop, header.len())));
    }
    let mut rest = body;
    let announced = match *family {
        TCP4 => tcp::<4>(&mut rest)?,
        TCP6 => tcp::<16>(&mut rest)?,
        UNIX_STREAM => take::<{ 2 * UNIX_PATH }>(&mut rest).map(|_| Announced::Unix)?,
        UNSPECIFIED => Announced::Somebody,
        _ => return Err(ProxyError("its family is unknown")),
    };
    tlvs_are_whole(header, rest)?;
    Ok(Some((announced, header.len())))
}

fn tcp<const N: usize>(rest: &mut &[u8]) -> Result<Announced, ProxyError>
where
    IpAddr: From<[u8; N]>,
{
    let (remote, local): (IpAddr, IpAddr) = (take::<N>(rest)?.into(), take::<N>(rest)?.into());
    let mut port = || take::<2>(rest).map(u16::from_be_bytes);
    let (remote_port, local_port) = (port()?, port()?);
    Ok(Announced::Tcp {
        remote: SocketAddr::new(remote, remote_port),
        local: SocketAddr::new(local, local_port),
    })
}

/// Whether the `tlvs` at the end of a header fill it, and the checksum, if there is one, is right (2.2.3).
fn tlvs_are_whole(header: &[u8], mut tlvs: &[u8]) -> Result<(), ProxyError> {
    while !tlvs.is_empty() {
        let [kind, high, low] = take(&mut tlvs)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, after) = tlvs.split_at_checked(length).ok_or(CUT)?;
        if kind == CRC32C {
            let before = header.len().saturating_sub(tlvs.len());
            let checksum = crc32c::crc32c(header.get(..before).unwrap_or_default());
            let checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, &[0; 4]), after);
            if value != checksum.to_be_bytes() {
                return Err(ProxyError("its checksum is wrong"));
            }
        }
        tlvs = after;
    }
    Ok(())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ProxyError> {
    let (taken, after) = rest.split_first_chunk().ok_or(CUT)?;
    *rest = after;
    Ok(*taken)
}

/// Family and addresses (2.2).
fn addresses(announced: &Announced) -> (u8, Vec<u8>) {
    let (remote, local) = match announced {
        Announced::Tcp { remote, local } => (remote, local),
        Announced::Unix => return (UNIX_STREAM, vec![0; 2 * UNIX_PATH]),
        Announced::Hop | Announced::Somebody => return (UNSPECIFIED, Vec::new()),
    };
    let mut body = Vec::new();
    let family = match (remote.ip(), local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => {
            body.extend(remote.octets());
            body.extend(local.octets());
            TCP4
        }
        // Where the two differ, both are written as IPv6 (2.2: IPv4-mapped).
        (remote, local) => {
            body.extend(mapped(remote));
            body.extend(mapped(local));
            TCP6
        }
    };
    let port = |address: &SocketAddr| address.port().to_be_bytes();
    body.extend([port(remote), port(local)].concat());
    (family, body)
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn length(bytes: usize) -> Result<[u8; 2], ProxyError> {
    u16::try_from(bytes).map(u16::to_be_bytes).map_err(|_| ProxyError("the PROXY header is too long"))
}

const CUT: ProxyError = ProxyError("its length is wrong");

const LINE: &[u8] = b"PROXY ";
/// With both ends of the line (2.1).
const LONGEST_LINE: usize = 107;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const HEAD: usize = 16;
const LONGEST_BODY: usize = 2048;
const VERSION_2_LOCAL: u8 = 0x20;
const VERSION_2_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const UNSPECIFIED: u8 = 0x00;
const UNIX_PATH: usize = 108;
const CRC32C: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(remote: &str, local: &str) -> Announced {
        Announced::Tcp { remote: remote.parse().unwrap(), local: local.parse().unwrap() }
    }

    fn client() -> Announced {
        announced("192.0.2.7:51234", "198.51.100.1:10000")
    }

    /// Both versions, of several lengths and families.
    fn headers() -> Vec<(Vec<u8>, Announced)> {
        let v6 = announced("[2001:db8::7]:51234", "[2001:db8::1]:10000");
        let mut tlvs = Vec::new();
        tlv(&mut tlvs, 0x02, b"gateway.example").unwrap();
        tlv(&mut tlvs, 0xe0, &[0; 1500]).unwrap();
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        vec![
            (line("TCP4 192.0.2.7 198.51.100.1 51234 10000"), client()),
            (line("TCP6 2001:db8::7 2001:DB8:0::1 51234 10000"), v6),
            (line("UNKNOWN"), Announced::Somebody),
            (line(&format!("UNKNOWN {}", "f".repeat(91))), Announced::Somebody),
            (write(&client(), &[]).unwrap(), client()),
            (write(&v6, &tlvs).unwrap(), v6),
            (write(&Announced::Unix, &tlvs).unwrap(), Announced::Unix),
            (write(&Announced::Somebody, &tlvs).unwrap(), Announced::Somebody),
            (write(&Announced::Hop, &[]).unwrap(), Announced::Hop),
        ]
    }

    #[test]
    fn s_083_a_header_is_read_byte_by_byte_and_nothing_behind_it() {
        for (header, announced) in headers() {
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None), "{cut} of {}", header.escape_ascii());
            }
            let mut more = header.clone();
            more.extend(b"PROXY \r\n\r\n\0\r\n");
            assert_eq!(read(&header), Ok(Some((announced, header.len()))));
            assert_eq!(read(&more), Ok(Some((announced, header.len()))));
        }
    }

    /// As in the examples of 2.1 and 2.2, which leave the checksum out.
    #[test]
    fn s_083_a_checksum_is_asked_for_where_there_is_one_and_binds_every_byte() {
        let bare = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xc8\x22\x27\x10";
        assert_eq!(read(bare), Ok(Some((client(), bare.len()))));
        let mut tlvs = Vec::new();
        tlv(&mut tlvs, 0x05, b"a session").unwrap();
        let header = write(&client(), &tlvs).unwrap();
        for position in 0..header.len() {
            for bit in 0..8 {
                let mut changed = header.clone();
                changed[position] ^= 1 << bit;
                let skipped = position == 12 && changed[12] == VERSION_2_LOCAL;
                // The kind of the checksum itself: it is none any more.
                let unasked = position == header.len() - 7;
                if !skipped && !unasked {
                    assert!(!matches!(read(&changed), Ok(Some(_))), "bit {bit} of {position}");
                }
            }
        }
    }

    #[test]
    fn s_083_whatever_else_comes_is_no_header() {
        let v2 = |command: u8, family: u8, body: &[u8]| {
            let head = [SIGNATURE, &[command, family], &length(body.len()).unwrap()].concat();
            [&head, body].concat()
        };
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        let (four, six) = ([7; 12], [7; 36]);
        let mut wrong = vec![
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00".to_vec(),
            b"P\0\0\0\0\0\0\x10".to_vec(),
            b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 \xff\r\n".to_vec(),
            b"PROXY ".iter().copied().chain([b'A'; 101]).collect(),
            b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
            // Version 1 in the form of version 2, an unknown command, no address where one is due.
            v2(0x11, TCP4, &four),
            v2(0x22, TCP4, &four),
            v2(0x21, TCP4, &four[1..]),
            v2(0x21, TCP6, &four),
            v2(0x21, UNIX_STREAM, &[0; 215]),
            // UDP, and a family that nobody knows.
            v2(0x21, 0x12, &four),
            v2(0x21, 0x22, &six),
            v2(0x21, 0x41, &six),
            v2(0x21, 0xff, &six),
            // Values that are cut, a checksum that is none.
            v2(0x21, TCP4, &[&four[..], &[0x02]].concat()),
            v2(0x21, TCP4, &[&four[..], &[0x02, 0, 2, b'x']].concat()),
            v2(0x21, TCP4, &[&four[..], &[CRC32C, 0, 0]].concat()),
            v2(0x21, TCP4, &[&four[..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat()),
            v2(0x21, UNSPECIFIED, &[0; LONGEST_BODY + 1]),
            v2(0x20, UNSPECIFIED, &[0; LONGEST_BODY + 1]),
        ];
        wrong.extend(
            [
                "",
                "TCP4",
                "TCP5 192.0.2.7 198.51.100.1 1 2",
                "UDP4 192.0.2.7 198.51.100.1 1 2",
                "TCP4 192.0.2.7 198.51.100.1 1",
                "TCP4 192.0.2.7 198.51.100.1 1 2 3",
                "TCP4  192.0.2.7 198.51.100.1 1 2",
                "TCP4 192.0.2.7 198.51.100.1 1 2 ",
                "TCP4 192.0.2.7 198.51.100.1 01 2",
                "TCP4 192.0.2.7 198.51.100.1 +1 2",
                "TCP4 192.0.2.7 198.51.100.1 1 65536",
                "TCP4 192.0.2.07 198.51.100.1 1 2",
                "TCP4 192.0.2 198.51.100.1 1 2",
                "TCP4 localhost 198.51.100.1 1 2",
                "TCP4 2001:db8::7 2001:db8::1 1 2",
                "TCP6 192.0.2.7 198.51.100.1 1 2",
                "TCP6 fe80::1%eth0 2001:db8::1 1 2",
                "TCP4 192.0.2.7\t198.51.100.1\t1\t2",
            ]
            .map(line),
        );
        for bytes in wrong {
            assert!(read(&bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        assert!(tlv(&mut Vec::new(), 0x02, &[0; 65_536]).is_err());
        assert!(write(&client(), &[0; 65_520]).is_err());
    }
}
