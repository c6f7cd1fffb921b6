//! Why bytes of a call were refused.

use std::fmt;

/// What was wrong with a message, its head or a field of it. Never repeats a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The flag byte says compressed: nothing is decompressed before a peer is accepted (S-19).
    Compressed,
    /// The flag byte has a value that nobody assigned.
    Flag,
    /// The head declares more bytes than are read here (S-19).
    TooLarge,
    /// The stream ended inside a message, or without one.
    Incomplete,
    /// A field goes on behind the end of the message.
    Truncated,
    /// A number has more than 64 bits.
    Number,
    /// A field has number 0, or one over 2^29 - 1.
    FieldNumber,
    /// A field has a wire type that proto3 does not use.
    WireType,
    /// A text field is not UTF-8.
    Utf8,
}

impl WireError {
    /// The stable name of the cause, for audit records and metrics; it never changes between releases.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.describe().0
    }

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Compressed => ("grpc-compressed", "message: it is compressed, send it uncompressed"),
            Self::Flag => ("grpc-flag", "message head: the flag is neither 0 nor 1"),
            Self::TooLarge => ("grpc-too-large", "message head: the size is over the limit"),
            Self::Incomplete => ("grpc-incomplete", "stream: it ends before a whole message"),
            Self::Truncated => ("grpc-truncated", "message: it ends inside a field"),
            Self::Number => ("grpc-number", "message: a number has more than 64 bits"),
            Self::FieldNumber => ("grpc-field-number", "message: a field number is out of range"),
            Self::WireType => ("grpc-wire-type", "message: a field has an unknown wire type"),
            Self::Utf8 => ("grpc-utf8", "message: text is not UTF-8"),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe().1)
    }
}

impl std::error::Error for WireError {}
