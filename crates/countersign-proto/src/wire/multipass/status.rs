//! How a call ends: a code and a text, as gRPC sends them in the headers `grpc-status` and `grpc-message`.

use std::fmt;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What programs look at.
    pub code: Code,
    /// What people are shown; may be empty. From the other end it may hold anything: escape it before showing it.
    pub message: String,
}

impl Status {
    /// The header that carries the code's number.
    pub const CODE_HEADER: &str = "grpc-status";
    /// The header that carries the text, percent-encoded.
    pub const MESSAGE_HEADER: &str = "grpc-message";
    /// The header beside them by which the gateway's records of a refusal are found: 16 hexadecimal digits.
    pub const SESSION_HEADER: &str = "countersign-session";

    /// An end with this code and text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Reads the values of the two headers.
    #[must_use]
    pub fn read(code: &[u8], message: &[u8]) -> Self {
        Self::new(Code::read(code), percent_decoded(message))
    }

    /// The text as the header carries it: printable ASCII.
    #[must_use]
    pub fn encoded_message(&self) -> String {
        percent_encoded(&self.message)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return f.write_str(self.code.name());
        }
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

/// The codes of gRPC (doc/statuscodes.md of gRPC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the list is closed")]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Anything that has no code.
    Unknown = 2,
    /// The request is wrong, whatever the state: for `authenticate`, a wrong passphrase.
    InvalidArgument = 3,
    /// The time was up.
    DeadlineExceeded = 4,
    /// Not there.
    NotFound = 5,
    /// Already there.
    AlreadyExists = 6,
    /// Known, but not allowed.
    PermissionDenied = 7,
    /// Too many, too much or too often.
    ResourceExhausted = 8,
    /// Wrong in this state: for `authenticate`, no passphrase is set.
    FailedPrecondition = 9,
    /// Given up because of another call.
    Aborted = 10,
    /// Out of range.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// The server is broken.
    Internal = 13,
    /// The server, or the one behind it, cannot be reached now.
    Unavailable = 14,
    /// Data is lost.
    DataLoss = 15,
    /// The caller is not accepted.
    Unauthenticated = 16,
}

impl Code {
    /// Every code, by number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads the value of `grpc-status`. A value that is no known number is [`Code::Unknown`], as gRPC asks.
    #[must_use]
    pub fn read(value: &[u8]) -> Self {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
        number.and_then(|number| Self::ALL.get(number).copied()).unwrap_or(Self::Unknown)
    }

    /// The name in gRPC's own pages, for people: `UNAUTHENTICATED`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Text as headers of gRPC carry it: everything but printable ASCII, and `%` itself, as `%XX` (doc/PROTOCOL-HTTP2.md of
/// gRPC, Percent-Encoded).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 0xf)]),
        }
    }
    out
}

/// The reverse. What is no valid escape stays as it is, as gRPC asks: a text is never a reason to lose a status.
fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return String::from_utf8_lossy(&out).into_owned(),
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn hex_digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Code, Status};

    #[test]
    fn codes_have_their_numbers() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            assert_eq!(Code::read(number.to_string().as_bytes()), code);
        }
        assert_eq!(Code::Unauthenticated.number(), 16);
        for odd in [&b""[..], b"17", b"-1", b"four", b"\xff", b"99999999999999999999"] {
            assert_eq!(Code::read(odd), Code::Unknown, "{odd:?}");
        }
    }

    #[test]
    fn texts_survive_the_header() {
        let status = Status::new(Code::Internal, "50 % of \u{201c}x\u{201d}\r\nforged: 1\x7f");
        let encoded = status.encoded_message();
        assert_eq!(encoded, "50 %25 of %E2%80%9Cx%E2%80%9D%0D%0Aforged: 1%7F");
        assert_eq!(Status::read(b"13", encoded.as_bytes()), status);
    }

    #[test]
    fn a_malformed_text_stays_as_it_is() {
        assert_eq!(Status::read(b"2", b"100%, %4, %zz, %ff").message, "100%, %4, %zz, \u{fffd}");
    }

    #[test]
    fn a_status_reads_well() {
        assert_eq!(Status::new(Code::Unauthenticated, "").to_string(), "UNAUTHENTICATED");
        assert_eq!(Status::new(Code::NotFound, "no such key").to_string(), "NOT_FOUND: no such key");
    }
}
