//! Why bytes were refused: one variant and one stable reason per cause, for audit and metrics.

use std::fmt;

/// What is wrong with bytes from a peer, or with a value that cannot be written.
///
/// Neither `Debug` nor `Display` repeats anything the peer sent, so both may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The first byte is not `P`.
    Magic,
    /// A flag bit that no version defines.
    UnknownFlag,
    /// More than one encoder bit.
    TwoEncoders,
    /// A YAML payload (S-12).
    Yaml,
    /// An encrypted payload where no cipher is agreed.
    Encrypted,
    /// A payload in clear where a cipher is agreed (S-38).
    Unencrypted,
    /// What follows an encrypted payload is not its padding: another key, or altered bytes (S-38).
    Padding,
    /// A level byte that names no single known compressor with a level.
    Level,
    /// A known compressor that is not read before login (S-10): lzo, brotli, zstd.
    Compressor,
    /// A chunk index over 15.
    Index,
    /// A raw chunk before login (S-12).
    RawChunk,
    /// A payload of no bytes (S-09).
    Empty,
    /// A payload larger than the limit on the wire (S-09).
    TooLarge,
    /// A payload that inflates beyond the limit (S-10).
    InflatesTooLarge,
    /// Compressed data that does not inflate to what it declares.
    Inflate,
    /// The value goes on behind the end of the payload.
    Truncated,
    /// Bytes behind the value (S-11).
    Trailing,
    /// A type code that is not assigned, or a terminator out of place.
    Code,
    /// A length that is not a canonical decimal number.
    Length,
    /// An integer that is not canonical, or has more than 64 digits (S-11).
    Integer,
    /// Text that is not UTF-8 (S-11).
    Utf8,
    /// Containers inside each other beyond the limit (S-11).
    TooDeep,
    /// More values than the limit (S-11).
    TooMany,
    /// A dictionary key that is a container, a float or nothing, or a key without a value (S-11).
    Key,
    /// The same key twice in a dictionary (S-11).
    DuplicateKey,
    /// Not a list that starts with a type of at most 64 bytes.
    NotAPacket,
    /// A packet type by number that was never announced.
    UnknownAlias,
    /// A plain text line longer than 1 KiB.
    LongLine,
    /// A packet of another type than the one being read (S-14).
    OtherPacket,
    /// A field of a message with the wrong type or size (S-13).
    Field(&'static str, Fault),
    /// A value that the chosen encoder cannot write.
    Unrepresentable,
}

/// What is wrong with a field (S-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It has another type than it should.
    Type,
    /// It has too many bytes or entries.
    Size,
    /// It is not there.
    Missing,
    /// It says something that is not spoken.
    Value,
}

impl WireError {
    /// The stable name of the cause, for audit records and metrics; it never changes between releases.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.describe().0
    }

    fn describe(&self) -> (&'static str, &'static str) {
        match self {
            Self::Magic => ("xpra-magic", "packet header: the first byte is not `P`"),
            Self::UnknownFlag => ("xpra-flag", "packet header: an unknown flag is set"),
            Self::TwoEncoders => ("xpra-two-encoders", "packet header: more than one encoder is named"),
            Self::Yaml => ("xpra-yaml", "packet header: YAML is not enabled"),
            Self::Encrypted => ("xpra-encrypted", "packet header: encryption was not agreed"),
            Self::Unencrypted => ("xpra-unencrypted", "packet header: encryption was agreed"),
            Self::Padding => ("xpra-padding", "payload: its padding is wrong, so the keys may differ"),
            Self::Level => ("xpra-level", "packet header: the compression byte is malformed"),
            Self::Compressor => ("xpra-compressor", "packet header: only zlib and lz4 are read"),
            Self::Index => ("xpra-index", "packet header: the chunk index is over 15"),
            Self::RawChunk => ("xpra-raw-chunk", "packet header: raw chunks are not read before login"),
            Self::Empty => ("xpra-empty", "packet header: the payload is empty"),
            Self::TooLarge => ("xpra-too-large", "packet header: the payload is over the limit"),
            Self::InflatesTooLarge => ("xpra-inflates-too-large", "payload: it inflates beyond the limit"),
            Self::Inflate => ("xpra-inflate", "payload: the compressed data is damaged"),
            Self::Truncated => ("xpra-truncated", "payload: it ends inside a value"),
            Self::Trailing => ("xpra-trailing", "payload: bytes follow the value"),
            Self::Code => ("xpra-code", "payload: a type code is not assigned"),
            Self::Length => ("xpra-length", "payload: a length is malformed"),
            Self::Integer => ("xpra-integer", "payload: an integer is malformed"),
            Self::Utf8 => ("xpra-utf8", "payload: text is not UTF-8"),
            Self::TooDeep => ("xpra-too-deep", "payload: containers are nested too deep"),
            Self::TooMany => ("xpra-too-many", "payload: it has too many values"),
            Self::Key => ("xpra-key", "payload: a dictionary key is not a scalar"),
            Self::DuplicateKey => ("xpra-duplicate-key", "payload: a dictionary key appears twice"),
            Self::NotAPacket => ("xpra-not-a-packet", "payload: it is not a list that starts with a type"),
            Self::UnknownAlias => ("xpra-unknown-alias", "packet: its type is a number never announced"),
            Self::LongLine => ("xpra-long-line", "plain text: the line does not end"),
            Self::OtherPacket => ("xpra-other-packet", "packet: another type was expected"),
            Self::Field(_, Fault::Type) => ("xpra-field-type", "has the wrong type"),
            Self::Field(_, Fault::Size) => ("xpra-field-size", "is too long"),
            Self::Field(_, Fault::Missing) => ("xpra-field-missing", "is missing"),
            Self::Field(_, Fault::Value) => ("xpra-field-value", "says something that is not spoken here"),
            Self::Unrepresentable => {
                ("xpra-unrepresentable", "packet: the encoder cannot write one of its values")
            }
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, text) = self.describe();
        match self {
            Self::Field(name, _) => write!(f, "field `{name}`: it {text}"),
            _ => f.write_str(text),
        }
    }
}

impl std::error::Error for WireError {}
