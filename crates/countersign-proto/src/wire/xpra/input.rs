//! The unread part of a payload, and the little that all decoders read from one.

use super::{Value, WireError};

/// The unread part of a payload.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// Reads a decimal integer and the byte that ends it.
    pub(super) fn integer(&mut self, end: u8) -> Result<Value, WireError> {
        // A sign and 64 digits; whatever is longer is refused without a look at the rest.
        let longest = super::Decimal::DIGITS + 1;
        let found = self.0.iter().take(longest + 1).position(|byte| *byte == end);
        let missing = if self.0.len() > longest { WireError::Integer } else { WireError::Truncated };
        let digits = self.take(found.ok_or(missing)?)?;
        self.byte()?;
        Value::integer(digits).ok_or(WireError::Integer)
    }

    /// Reads the rest of a canonical decimal length whose first digit is given, and the byte behind it.
    pub(super) fn length(&mut self, first: u8) -> Result<(usize, u8), WireError> {
        let mut length = digit(first).ok_or(WireError::Length)?;
        loop {
            let next = self.byte()?;
            match digit(next) {
                None => return Ok((length, next)),
                // A zero stands alone.
                Some(_) if length == 0 => return Err(WireError::Length),
                Some(digit) => {
                    let longer = length.checked_mul(10).and_then(|length| length.checked_add(digit));
                    length = longer.ok_or(WireError::Length)?;
                }
            }
        }
    }
}

/// A string of an encoding that has one string type.
pub(super) fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Bytes(bytes.to_vec()),
    }
}

/// A string that must be UTF-8 (S-11).
pub(super) fn text(bytes: &[u8]) -> Result<Value, WireError> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| WireError::Utf8)
}

fn digit(byte: u8) -> Option<usize> {
    byte.is_ascii_digit().then(|| usize::from(byte - b'0'))
}
