//! Fields of a protobuf message: number, wire type, value (protobuf's encoding guide).

use super::{WireError, buffer::Buffer};
use crate::secret::Secret;

/// A field's value as far as the wire tells its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which no message of ours has.
    Fixed,
}

impl<'a> Field<'a> {
    /// The text of a `string`.
    pub(super) fn text(bytes: &'a [u8]) -> Result<&'a str, WireError> {
        std::str::from_utf8(bytes).map_err(|_| WireError::Utf8)
    }

    /// The `int32` that was sent as a number of 64 bits, sign included.
    #[expect(clippy::cast_possible_truncation, reason = "protobuf cuts an int32 to its low bits")]
    pub(super) fn int32(number: u64) -> i32 {
        number as i32
    }
}

/// The fields of a message in order of appearance. Of a field that comes twice the last one counts (proto3).
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, Field<'a>), WireError> {
        let tag = self.number()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::FieldNumber)?;
        if number == 0 || number > LAST_NUMBER {
            return Err(WireError::FieldNumber);
        }
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| WireError::Truncated)?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return Err(WireError::WireType),
        };
        Ok((number, field))
    }

    fn number(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(WireError::Truncated)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(WireError::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Number)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Writes a message; like every proto3 writer it leaves fields out that have their default.
#[derive(Default)]
pub(super) struct Writer(Buffer);

impl Writer {
    pub(super) fn bytes(mut self, number: u8, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.write_number(u64::from(number) << 3 | 2);
            self.write_number(u64::try_from(value.len()).unwrap_or(u64::MAX));
            self.0.extend(value);
        }
        self
    }

    #[expect(clippy::cast_sign_loss, reason = "protobuf writes an int32 with the sign in all 64 bits")]
    pub(super) fn int32(mut self, number: u8, value: i32) -> Self {
        if value != 0 {
            self.write_number(u64::from(number) << 3);
            self.write_number(i64::from(value) as u64);
        }
        self
    }

    pub(super) fn flag(self, number: u8, value: bool) -> Self {
        self.int32(number, value.into())
    }

    pub(super) fn finish(self) -> Secret {
        self.0.into_secret()
    }

    fn write_number(&mut self, mut number: u64) {
        loop {
            let [bits, ..] = (number & 0x7f).to_le_bytes();
            number >>= 7;
            if number == 0 {
                return self.0.extend(&[bits]);
            }
            self.0.extend(&[bits | 0x80]);
        }
    }
}

/// 2^29 - 1.
const LAST_NUMBER: u32 = 0x1fff_ffff;

#[cfg(test)]
mod tests {
    use super::{Field, Fields, WireError};

    fn read(message: &[u8]) -> Result<Vec<(u32, Field<'_>)>, WireError> {
        Fields::of(message).collect()
    }

    #[test]
    fn every_wire_type_of_proto3_is_read() {
        let message =
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x01x\x1d1234\x2112345678\x28\x80\x00"
                .as_slice();
        let expected = [
            (1, Field::Number(u64::MAX)),
            (2, Field::Bytes(b"x")),
            (3, Field::Fixed),
            (4, Field::Fixed),
            (5, Field::Number(0)),
        ];
        assert_eq!(read(message).unwrap(), expected);
        assert_eq!(Field::int32(u64::MAX), -1);
    }

    #[test]
    fn s_019_malformed_fields_have_their_reason() {
        for (message, expected) in [
            (&b"\x08"[..], WireError::Truncated),
            (b"\x0a\x02x", WireError::Truncated),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", WireError::Truncated),
            (b"\x09\x01", WireError::Truncated),
            (b"\x0d\x01", WireError::Truncated),
            (b"\x02\x00", WireError::FieldNumber),
            (b"\x80\x80\x80\x80\x10\x00", WireError::FieldNumber),
            (b"\x0b\x0c", WireError::WireType),
            (b"\x0f", WireError::WireType),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", WireError::Number),
            (b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", WireError::Number),
        ] {
            assert_eq!(read(message), Err(expected), "{message:02x?}");
        }
    }
}
