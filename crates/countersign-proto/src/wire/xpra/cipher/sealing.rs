//! Packets to and from their encrypted form, in whatever pieces they come. Nothing is kept but the end of a packet.

use std::fmt;

use super::{Block, Key, Manner, Mode, Transform};
use crate::wire::xpra::{
    WireError,
    header::{CIPHER, MAGIC},
};

/// What is inside the encrypted packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Packets: their headers are outside, in clear, and the same but for the flag.
    #[default]
    Packets,
    /// Bytes that know nothing of packets, between two ends of this project. Where a packet ends means nothing.
    Bytes,
}

/// Encrypts what one side writes. Without a key everything passes as it is.
#[derive(Default)]
pub struct Sealer {
    cipher: Option<(Box<dyn Transform>, Manner)>,
    framing: Framing,
    head: Vec<u8>,
    /// Bytes of the packet's payload that have yet to come.
    left: usize,
    padding: usize,
    /// The beginning of a block that is not whole yet.
    held: Vec<u8>,
}

impl Sealer {
    /// Goes on with this key, from the next packet on.
    ///
    /// # Errors
    /// [`WireError::Truncated`] in the middle of a packet.
    pub fn rekey(&mut self, key: &Key) -> Result<(), WireError> {
        if self.left != 0 || !self.head.is_empty() {
            return Err(WireError::Truncated);
        }
        self.cipher = key.encryptor().map(|transform| (transform, key.manner));
        Ok(())
    }

    /// Takes bytes in place of packets, or packets again.
    pub fn frame(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Appends what `plain` becomes to `out`. Of a packet that is not whole, up to 15 bytes wait for the rest.
    ///
    /// # Errors
    /// The bytes are no packets: [`WireError::Magic`], [`WireError::Empty`], [`WireError::TooLarge`] over 256 MiB,
    /// [`WireError::Encrypted`]. [`WireError::TooLarge`] also where the mode has no more to encrypt with.
    pub fn seal(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.cipher.is_none() {
            out.extend_from_slice(plain);
            return Ok(());
        }
        while !plain.is_empty() {
            if self.left == 0 {
                plain = match self.framing {
                    Framing::Packets => self.take_head(plain, out)?,
                    Framing::Bytes => self.make_head(plain, out)?,
                };
                if self.left == 0 {
                    continue;
                }
            }
            let (payload, rest) = plain.split_at(self.left.min(plain.len()));
            self.left -= payload.len();
            self.seal_payload(payload, out)?;
            plain = rest;
        }
        Ok(())
    }

    fn take_head<'a>(&mut self, plain: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], WireError> {
        let (front, rest) = plain.split_at(plain.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(front);
        let Some(head) = self.head.first_chunk::<HEAD>() else { return Ok(rest) };
        let (head, size) = judge(head)?;
        if head[1] & CIPHER != 0 {
            return Err(WireError::Encrypted);
        }
        self.begin(head, size, out);
        Ok(rest)
    }

    fn make_head<'a>(&mut self, plain: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], WireError> {
        let size = plain.len().min(LARGEST_PIECE);
        let [a, b, c, d] = u32::try_from(size).map_err(|_| WireError::TooLarge)?.to_be_bytes();
        self.begin([MAGIC, 0, 0, 0, a, b, c, d], size, out);
        Ok(plain)
    }

    fn begin(&mut self, mut head: [u8; HEAD], size: usize, out: &mut Vec<u8>) {
        head[1] |= CIPHER;
        out.extend_from_slice(&head);
        self.head.clear();
        self.left = size;
        self.padding = match &self.cipher {
            Some((_, manner)) if manner.mode == Mode::Cbc => {
                manner.block.unwrap_or(Block::Sixteen).padding(size)
            }
            _ => 0,
        };
    }

    fn seal_payload(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let Some((transform, manner)) = &mut self.cipher else { return Ok(()) };
        let start = out.len();
        out.append(&mut self.held);
        out.extend_from_slice(payload);
        if self.left == 0 {
            out.resize(out.len() + self.padding, manner.padding.byte(self.padding));
        }
        let sealed = out.len() - start;
        if manner.mode == Mode::Cbc {
            self.held = out.split_off(start + sealed - sealed % 16);
        }
        if transform.apply(out.get_mut(start..).unwrap_or_default()) {
            return Ok(());
        }
        out.truncate(start);
        Err(WireError::TooLarge)
    }
}

/// Decrypts what one side reads. Without a key everything passes as it is.
#[derive(Default)]
pub struct Opener {
    cipher: Option<(Box<dyn Transform>, Manner)>,
    framing: Framing,
    head: Vec<u8>,
    /// The packet whose payload is being read.
    packet: Option<Open>,
}

/// A packet of which not everything is read.
struct Open {
    /// Bytes of ciphertext that have yet to come.
    left: usize,
    /// Bytes of payload that were not given out.
    payload: usize,
    size: usize,
    /// The beginning of a block that is not whole yet.
    held: Vec<u8>,
    /// The last that was decrypted: payload, and perhaps padding.
    tail: Vec<u8>,
}

impl Opener {
    /// Goes on with this key, from the next packet on.
    ///
    /// # Errors
    /// [`WireError::Truncated`] in the middle of a packet.
    pub fn rekey(&mut self, key: &Key) -> Result<(), WireError> {
        if !self.is_between() {
            return Err(WireError::Truncated);
        }
        self.cipher = key.decryptor().map(|transform| (transform, key.manner));
        Ok(())
    }

    /// Whether there is a key.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.cipher.is_some()
    }

    /// The block of whoever writes, once a packet told.
    #[must_use]
    pub fn block(&self) -> Option<Block> {
        self.cipher.as_ref().and_then(|(_, manner)| manner.block)
    }

    /// Gives out bytes in place of packets, or packets again.
    pub fn frame(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Takes the beginning of what was no encrypted packet, as far as it is not in what was given last.
    pub fn refused(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }

    /// Whether it stands between two packets, where a stream may end.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.packet.is_none() && self.head.is_empty()
    }

    /// Appends what `sealed` means to `out`, up to the end of the first packet, and says how much of `sealed` that was.
    ///
    /// The last bytes of a payload are given out when its padding was seen and is right, so nobody acts upon a packet
    /// that will turn out to be altered there.
    ///
    /// # Errors
    /// [`WireError::Unencrypted`], [`WireError::Padding`], headers that are none, and as [`Sealer::seal`]. Nothing more
    /// can be read then.
    pub fn open(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<usize, WireError> {
        let Some((transform, manner)) = &mut self.cipher else {
            out.extend_from_slice(sealed);
            return Ok(sealed.len());
        };
        let mut rest = sealed;
        if self.packet.is_none() {
            let (front, behind) = rest.split_at(rest.len().min(HEAD - self.head.len()));
            let head = [&*self.head, front].concat();
            rest = behind;
            let Some(head) = head.first_chunk::<HEAD>() else {
                self.head = head;
                return Ok(sealed.len());
            };
            let (mut head, size) = judge(head)?;
            if head[1] & CIPHER == 0 {
                return Err(WireError::Unencrypted);
            }
            head[1] &= !CIPHER;
            if self.framing == Framing::Packets {
                out.extend_from_slice(&head);
            }
            self.head.clear();
            self.packet = Some(Open::of(size, manner));
        }
        let Some(packet) = &mut self.packet else { return Ok(sealed.len() - rest.len()) };
        loop {
            let (front, behind) = rest.split_at(rest.len().min(packet.left));
            rest = behind;
            packet.take(front, manner.mode, &mut **transform, out)?;
            if packet.left != 0 {
                return Ok(sealed.len() - rest.len());
            }
            if packet.finish(manner, out)? {
                self.packet = None;
                return Ok(sealed.len() - rest.len());
            }
        }
    }
}

impl Open {
    fn of(size: usize, manner: &Manner) -> Self {
        let padding = match manner.mode {
            Mode::Cbc => manner.block.unwrap_or(Block::Sixteen).padding(size),
            _ => 0,
        };
        Self { left: size + padding, payload: size, size, held: Vec::new(), tail: Vec::new() }
    }

    fn take(
        &mut self,
        sealed: &[u8],
        mode: Mode,
        transform: &mut dyn Transform,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.left -= sealed.len();
        self.held.extend_from_slice(sealed);
        let whole = match mode {
            Mode::Cbc => self.held.len() - self.held.len() % 16,
            _ => self.held.len(),
        };
        let start = self.tail.len();
        self.tail.extend(self.held.drain(..whole));
        if !transform.apply(self.tail.get_mut(start..).unwrap_or_default()) {
            return Err(WireError::TooLarge);
        }
        let sure = self.tail.len().saturating_sub(KEPT).min(self.payload);
        self.payload -= sure;
        out.extend(self.tail.drain(..sure));
        Ok(())
    }

    /// Judges the padding and gives out what is left. False: there is another block of padding to read.
    fn finish(&mut self, manner: &mut Manner, out: &mut Vec<u8>) -> Result<bool, WireError> {
        let padding = self.tail.get(self.payload..).unwrap_or_default();
        let count = padding.len();
        if manner.mode == Mode::Cbc && manner.block.is_none() {
            let (short, long) = (Block::Sixteen.padding(self.size), Block::ThirtyTwo.padding(self.size));
            // Where both blocks end at the same place, the packet does not tell.
            if short != long {
                let says = padding.first().copied().map_or(0, usize::from);
                manner.block = Some(if says == long { Block::ThirtyTwo } else { Block::Sixteen });
                if says == long {
                    self.left = long - count;
                    return Ok(false);
                }
            }
        }
        let due = manner.padding.byte(count);
        // Not with the first wrong byte: how many are right is nobody's business.
        if padding.iter().fold(0, |wrong, byte| wrong | (byte ^ due)) != 0 {
            return Err(WireError::Padding);
        }
        out.extend(self.tail.drain(..self.payload));
        Ok(true)
    }
}

/// A header with the size that it names.
fn judge(head: &[u8; HEAD]) -> Result<([u8; HEAD], usize), WireError> {
    let [magic, .., a, b, c, d] = *head;
    if magic != MAGIC {
        return Err(WireError::Magic);
    }
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| WireError::TooLarge)?;
    match size {
        0 => Err(WireError::Empty),
        size if size > LARGEST => Err(WireError::TooLarge),
        size => Ok((*head, size)),
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("framing", &self.framing).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("framing", &self.framing).finish_non_exhaustive()
    }
}

const HEAD: usize = 8;

/// No peer takes a larger packet.
const LARGEST: usize = 256 << 20;

/// Bytes of a piece of a stream that is no packets.
const LARGEST_PIECE: usize = 64 * 1024;

/// Bytes that are kept until the padding was seen: no padding has more.
const KEPT: usize = 32;
