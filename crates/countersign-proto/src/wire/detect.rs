//! Which protocol a connection speaks, judged by its first bytes.
//!
//! The gateway calls it on a socket that takes several protocols. Nothing is consumed: the bytes stay in the
//! reader's buffer for the protocol that is found.

/// What the first bytes announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detected {
    /// Too few bytes to tell; ask again with more, or with `ended`.
    NeedMore,
    /// Xpra packets.
    Packets,
    /// A TLS record.
    Tls,
    /// An HTTP request: web page, WebSocket upgrade or HTTP/2 preface.
    Http,
    /// An SSH banner.
    Ssh,
    /// VNC's remote frame buffer.
    Rfb,
    /// None of these.
    Unknown,
}

/// Judges the bytes read so far. `ended`: no more will come, by end of stream or because patience is over, so
/// the answer is never `NeedMore`.
#[must_use]
pub fn detect(first: &[u8], ended: bool) -> Detected {
    match first {
        [] => undecided(ended, Detected::Unknown),
        [TLS_HANDSHAKE, ..] => Detected::Tls,
        // An Xpra header alone has its second byte below 0x20: no HTTP method that starts with `P` does. Whether
        // the rest of the header is sound is for the packet decoder, which has a reason for each fault.
        [b'P', flags, ..] if *flags < 0x20 => Detected::Packets,
        [b'P'] => undecided(ended, Detected::Packets),
        _ => text(first, ended),
    }
}

fn text(first: &[u8], ended: bool) -> Detected {
    for (prefix, found) in PREFIXES {
        if first.starts_with(prefix) {
            return found;
        }
    }
    // Judged from the front up to where the text ends, so that more bytes never change an answer.
    let start = first.get(..FIRST_LINE).unwrap_or(first);
    let end = start.iter().position(|byte| !matches!(byte, b' '..=b'~'));
    let line = end.and_then(|end| start.get(..end)).unwrap_or(start);
    if line.windows(HTTP_VERSION.len()).any(|word| word == HTTP_VERSION) {
        Detected::Http
    } else if end.is_some() || line.len() >= FIRST_LINE {
        Detected::Unknown
    } else {
        undecided(ended, Detected::Unknown)
    }
}

fn undecided(ended: bool, otherwise: Detected) -> Detected {
    if ended { otherwise } else { Detected::NeedMore }
}

const TLS_HANDSHAKE: u8 = 0x16;
const HTTP_VERSION: &[u8] = b"HTTP/";
const PREFIXES: [(&[u8], Detected); 4] = [
    (b"GET ", Detected::Http),
    (b"POST ", Detected::Http),
    (b"SSH-", Detected::Ssh),
    (b"RFB ", Detected::Rfb),
];
/// A request line of a method without a prefix of its own is waited for up to this many bytes.
const FIRST_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{Detected, FIRST_LINE, detect};

    #[test]
    fn the_first_bytes_name_the_protocol() {
        let cases: [(&[u8], Detected); 14] = [
            (b"P\x18\x11\x00\x00\x00\x02\x38", Detected::Packets),
            (b"P\x01", Detected::Packets),
            (b"P\x00\x00\x00\xff\xff\xff\xff", Detected::Packets),
            (b"POST / HTTP/1.1\r\n", Detected::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Detected::Http),
            (b"GET /", Detected::Http),
            (b"OPTIONS * HTTP/1.0\r\n", Detected::Http),
            (b"\x16\x03\x01\x02\x00", Detected::Tls),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Detected::Ssh),
            (b"RFB 003.008\n", Detected::Rfb),
            (b"\x03\x00\x00\x13", Detected::Unknown),
            (b"P\x40\x00\x00", Detected::Unknown),
            (b"hello\n", Detected::Unknown),
            (b"\nGET / HTTP/1.1\r\n", Detected::Unknown),
        ];
        for (first, expected) in cases {
            assert_eq!(detect(first, false), expected, "{first:02x?}");
            assert_eq!(detect(first, true), expected, "{first:02x?} at the end");
        }
    }

    #[test]
    fn a_prefix_waits_for_more_until_there_is_no_more() {
        let cases: [(&[u8], Detected); 7] = [
            (b"", Detected::Unknown),
            (b"P", Detected::Packets),
            (b"G", Detected::Unknown),
            (b"POS", Detected::Unknown),
            (b"SSH", Detected::Unknown),
            (b"RFB", Detected::Unknown),
            (b"DELETE /session", Detected::Unknown),
        ];
        for (first, at_end) in cases {
            assert_eq!(detect(first, false), Detected::NeedMore, "{first:02x?}");
            assert_eq!(detect(first, true), at_end, "{first:02x?} at the end");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_not_waited_for() {
        assert_eq!(detect(&[b'a'; FIRST_LINE], false), Detected::Unknown);
    }

    #[test]
    fn more_bytes_never_change_a_decision() {
        let late = [&[b'a'; FIRST_LINE][..], b" HTTP/1.1\r\n"].concat();
        let whole: [&[u8]; 8] = [
            b"POST / HTTP/1.1\r\n",
            b"PUT / HTTP/1.1\r\n",
            b"SSH-2.0-x\r\n",
            b"P\x10\x00\x00",
            b"\xf3GET / HTTP/1.1\r\n",
            b"GE\0 HTTP/1.1\r\n",
            b"PUT / HTTP/\xf3\r\n",
            &late,
        ];
        for whole in whole {
            let last = detect(whole, true);
            for cut in 0..whole.len() {
                let early = detect(&whole[..cut], false);
                assert!(early == Detected::NeedMore || early == last, "{whole:02x?} cut at {cut}: {early:?}");
            }
        }
    }
}
