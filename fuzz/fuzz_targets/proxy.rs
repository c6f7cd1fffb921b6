//! Headers of the PROXY protocol: an answer never changes when more bytes come, and what is read is what is written.
//!
//! The input: a stream; or, behind a byte of 1, two addresses and values to write.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use countersign_proto::wire::proxy::{Announced, LONGEST, read, tlv, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match input {
        [1, rest @ ..] => written(rest),
        _ => stream(input),
    }
});

fn stream(input: &[u8]) {
    let mut decided = Ok(None);
    // Beyond that no header goes on.
    for end in 0..=input.len().min(LONGEST) {
        let found = read(&input[..end]);
        assert!(decided == Ok(None) || decided == found, "{decided:?}, then {found:?}");
        decided = found;
    }
    assert!(input.len() < LONGEST || decided != Ok(None));
    let Ok(Some((announced, length))) = decided else { return };
    let header = &input[..length];
    assert_eq!(read(&[header, input].concat()), decided);
    let Announced::Tcp { remote, local } = announced else { return };
    if header.starts_with(b"PROXY ") {
        let family = if remote.is_ipv4() { "TCP4" } else { "TCP6" };
        let (ips, ports) = ([remote.ip(), local.ip()], [remote.port(), local.port()]);
        let line = format!("PROXY {family} {} {} {} {}\r\n", ips[0], ips[1], ports[0], ports[1]);
        assert_eq!(read(line.as_bytes()), Ok(Some((announced, line.len()))));
        assert!(family == "TCP6" || line.as_bytes() == header, "there is one way to write IPv4");
        return;
    }
    let tlvs = &header[if remote.is_ipv4() { 28 } else { 52 }..];
    let again = write(&announced, tlvs).expect("a header of that length");
    // All but the length, and the checksum behind it.
    assert_eq!(again[..14], header[..14]);
    assert_eq!(again[16..again.len() - 7], header[16..]);
}

fn written(rest: &[u8]) {
    let Some(([what, addresses @ ..], values)) = rest.split_first_chunk::<38>() else { return };
    let address = |from: usize, port: usize| {
        let octets: [u8; 16] = addresses[from..from + 16].try_into().expect("16 bytes");
        let ip = if what & 8 == 0 {
            IpAddr::from(octets)
        } else {
            IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
        };
        SocketAddr::new(ip, u16::from_be_bytes([addresses[port], addresses[port + 1]]))
    };
    let announced = match what & 3 {
        0 => Announced::Tcp { remote: address(0, 32), local: address(16, 34) },
        1 => Announced::Unix,
        2 => Announced::Somebody,
        _ => Announced::Hop,
    };
    let mut tlvs = Vec::new();
    for value in values.chunks(100).take(15) {
        // The checksum is the writer's own.
        tlv(&mut tlvs, value[0] | 0x80, value).expect("a short value");
    }
    let mut header = write(&announced, &tlvs).expect("a short header");
    assert_eq!(read(&header), Ok(Some((announced, header.len()))));
    if announced != Announced::Hop {
        let last = header.len() - 1;
        header[last] ^= 1 << (what >> 5);
        assert!(read(&header).is_err(), "another checksum");
    }
}
