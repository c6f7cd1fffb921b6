//! Inflating what clients compress before they know the server. We never compress: secrets stand next to text
//! that the peer chose.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use zeroize::Zeroizing;

use super::WireError;

/// How a payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// A zlib stream (RFC 1950).
    Zlib,
    /// Four bytes of inflated size, little-endian, then one LZ4 block.
    Lz4,
}

impl Compression {
    /// Judges the header's level byte: the low nibble is a level, the high one an algorithm.
    pub(super) fn read(level: u8) -> Result<Self, WireError> {
        match (level >> 4, level & 0x0f) {
            (0, 0) => Ok(Self::None),
            (_, 0) => Err(WireError::Level),
            (0, _) => Ok(Self::Zlib),
            (0x1, _) => Ok(Self::Lz4),
            (0x2 | 0x4 | 0x8, _) => Err(WireError::Compressor),
            _ => Err(WireError::Level),
        }
    }

    /// Inflates a payload to at most `limit` bytes (S-10); wiped when dropped, because responses are in it.
    ///
    /// # Errors
    /// [`WireError::InflatesTooLarge`] as soon as the limit is passed, [`WireError::Inflate`] for damaged data and for
    /// bytes behind its end, [`WireError::Empty`] if nothing comes out.
    pub fn inflate(self, payload: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
        let inflated = match self {
            Self::None => Zeroizing::new(payload.to_vec()),
            Self::Zlib => zlib(payload, limit)?,
            Self::Lz4 => lz4(payload, limit)?,
        };
        match inflated.len() {
            0 => Err(WireError::Empty),
            length if length > limit => Err(WireError::InflatesTooLarge),
            _ => Ok(inflated),
        }
    }
}

fn zlib(payload: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    // Real hellos become three times as long. Room for all that could come out is made for the others only: it has
    // to be cleared before and wiped behind, which would cost us more than it costs the peer.
    let usual = payload.len().saturating_mul(ZLIB_USUAL_RATIO).min(limit);
    match zlib_within(payload, usual) {
        Err(WireError::InflatesTooLarge) => zlib_within(payload, limit),
        inflated => inflated,
    }
}

fn zlib_within(payload: &[u8], most: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    const FLAGS: u32 = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
        | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    // One buffer that never grows: nothing more can come out, and no copy of a secret stays behind.
    let mut out = Zeroizing::new(vec![0; most]);
    let mut state = Box::<DecompressorOxide>::default();
    let (status, read, written) = decompress(&mut state, payload, &mut out, 0, FLAGS);
    match status {
        TINFLStatus::Done if read == payload.len() => {
            out.truncate(written);
            Ok(out)
        }
        TINFLStatus::HasMoreOutput => Err(WireError::InflatesTooLarge),
        _ => Err(WireError::Inflate),
    }
}

fn lz4(payload: &[u8], limit: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let (declared, block) = payload.split_first_chunk().ok_or(WireError::Inflate)?;
    let declared = usize::try_from(u32::from_le_bytes(*declared)).map_err(|_| WireError::InflatesTooLarge)?;
    if declared > limit {
        return Err(WireError::InflatesTooLarge);
    }
    // Without this a few bytes could claim the whole limit.
    if declared > block.len().saturating_mul(LZ4_RATIO) {
        return Err(WireError::Inflate);
    }
    let mut out = Zeroizing::new(vec![0; declared]);
    match lz4_flex::block::decompress_into(block, &mut out) {
        Ok(written) if written == declared => Ok(out),
        _ => Err(WireError::Inflate),
    }
}

const ZLIB_USUAL_RATIO: usize = 16;
/// The most that a byte of an LZ4 block can become: 255 more of a match.
const LZ4_RATIO: usize = 255;
