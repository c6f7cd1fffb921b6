//! The eight bytes in front of each payload, judged before that payload is read or given room (S-09).

use super::{Compression, Encoder, Limits, WireError};

/// A sound header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// How the payload's value is encoded.
    pub encoder: Encoder,
    /// Whether the payload is encrypted.
    pub encrypted: bool,
    /// How the payload is compressed.
    pub compression: Compression,
    /// 0 for a packet, 1 to 15 for a raw chunk of the next packet.
    pub index: u8,
    /// Bytes of payload that follow, before cipher padding; at least 1.
    pub size: usize,
}

impl Header {
    /// Its length on the wire.
    pub const LENGTH: usize = 8;

    /// Judges a header.
    ///
    /// # Errors
    /// Wrong magic, unknown flags, several encoders, YAML, a malformed or unread compressor, an index over 15, a size
    /// of zero or over `limits.wire`.
    pub fn read(bytes: &[u8; Self::LENGTH], limits: &Limits) -> Result<Self, WireError> {
        let [magic, flags, level, index, size @ ..] = *bytes;
        if magic != MAGIC {
            return Err(WireError::Magic);
        }
        if flags & !KNOWN != 0 {
            return Err(WireError::UnknownFlag);
        }
        let encoder = match flags & ENCODERS {
            0 => Encoder::Bencode,
            RENCODE => Encoder::Rencode,
            RENCODEPLUS => Encoder::Rencodeplus,
            YAML => return Err(WireError::Yaml),
            _ => return Err(WireError::TwoEncoders),
        };
        let compression = Compression::read(level)?;
        if index > LAST_INDEX {
            return Err(WireError::Index);
        }
        let size = usize::try_from(u32::from_be_bytes(size)).map_err(|_| WireError::TooLarge)?;
        match size {
            0 => Err(WireError::Empty),
            size if size > limits.wire => Err(WireError::TooLarge),
            size => Ok(Self { encoder, encrypted: flags & CIPHER != 0, compression, index, size }),
        }
    }

    /// The header of a packet that is neither compressed nor encrypted.
    pub(super) fn write(encoder: Encoder, size: u32) -> [u8; Self::LENGTH] {
        let flags = match encoder {
            Encoder::Rencodeplus => RENCODEPLUS,
            Encoder::Rencode => RENCODE,
            Encoder::Bencode => 0,
        };
        let [a, b, c, d] = size.to_be_bytes();
        [MAGIC, flags, 0, 0, a, b, c, d]
    }
}

/// The first byte of every header.
pub(super) const MAGIC: u8 = b'P';
const RENCODE: u8 = 0x01;
pub(super) const CIPHER: u8 = 0x02;
const YAML: u8 = 0x04;
/// "Nothing else is queued": of no use to a reader.
const FLUSH: u8 = 0x08;
const RENCODEPLUS: u8 = 0x10;
const ENCODERS: u8 = RENCODE | YAML | RENCODEPLUS;
const KNOWN: u8 = ENCODERS | CIPHER | FLUSH;
const LAST_INDEX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::{Compression, Encoder, Header, Limits, WireError};

    fn read(bytes: [u8; 8]) -> Result<Header, WireError> {
        Header::read(&bytes, &Limits::default())
    }

    #[test]
    fn s_009_every_field_of_a_header_is_judged() {
        let cases = [
            ([b'p', 0x10, 0, 0, 0, 0, 0, 8], WireError::Magic),
            ([b'P', 0x20, 0, 0, 0, 0, 0, 8], WireError::UnknownFlag),
            ([b'P', 0x90, 0, 0, 0, 0, 0, 8], WireError::UnknownFlag),
            ([b'P', 0x11, 0, 0, 0, 0, 0, 8], WireError::TwoEncoders),
            ([b'P', 0x14, 0, 0, 0, 0, 0, 8], WireError::TwoEncoders),
            ([b'P', 0x05, 0, 0, 0, 0, 0, 8], WireError::TwoEncoders),
            ([b'P', 0x04, 0, 0, 0, 0, 0, 8], WireError::Yaml),
            ([b'P', 0x10, 0x10, 0, 0, 0, 0, 8], WireError::Level),
            ([b'P', 0x10, 0x31, 0, 0, 0, 0, 8], WireError::Level),
            ([b'P', 0x10, 0xf1, 0, 0, 0, 0, 8], WireError::Level),
            ([b'P', 0x10, 0x21, 0, 0, 0, 0, 8], WireError::Compressor),
            ([b'P', 0x10, 0x41, 0, 0, 0, 0, 8], WireError::Compressor),
            ([b'P', 0x10, 0x81, 0, 0, 0, 0, 8], WireError::Compressor),
            ([b'P', 0x10, 0, 16, 0, 0, 0, 8], WireError::Index),
            ([b'P', 0x10, 0, 0, 0, 0, 0, 0], WireError::Empty),
            ([b'P', 0x10, 0, 0, 0, 1, 0, 1], WireError::TooLarge),
            ([b'P', 0x10, 0, 0, 0x04, 0, 0, 0], WireError::TooLarge),
            ([b'P', 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff], WireError::TooLarge),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn sound_headers_are_read() {
        let header = read([b'P', 0x18, 0x1a, 0, 0, 1, 0, 0]).unwrap();
        assert_eq!(header.encoder, Encoder::Rencodeplus);
        assert_eq!((header.compression, header.size), (Compression::Lz4, 64 * 1024));
        let header = read([b'P', 0x03, 0x09, 15, 0, 0, 0, 1]).unwrap();
        assert_eq!((header.encoder, header.compression), (Encoder::Rencode, Compression::Zlib));
        assert_eq!((header.encrypted, header.index), (true, 15));
        assert_eq!(read([b'P', 0, 0, 0, 0, 0, 0, 1]).unwrap().encoder, Encoder::Bencode);
    }

    #[test]
    fn what_is_written_is_read() {
        for encoder in Encoder::ALL {
            let header = read(Header::write(encoder, 300)).unwrap();
            assert_eq!((header.encoder, header.size), (encoder, 300));
        }
    }
}
