//! Frames (RFC 6455 section 5) as a stream of bytes: what is in them, in place, whatever their sizes.
//!
//! A frame may be larger than any memory: its payload is passed on as it arrives, and what is kept of a
//! connection is a header and one control frame.

use std::fmt;

/// Takes frames apart, piece by piece as they arrive.
#[derive(Debug)]
pub struct Unframer {
    masks: Masks,
    /// The header that is being read, until it is whole.
    header: Vec<u8>,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A message has begun and its last frame has not.
    in_message: bool,
    /// The payload of the control frame that is being read.
    control: Vec<u8>,
    ping: Option<Vec<u8>>,
    idle_frames: u64,
    closed: bool,
}

/// Which frames must be masked (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "both ends of the RFC, and Xpra's")]
pub enum Masks {
    /// All: those of a browser.
    Required,
    /// Any: Xpra's own client masks nothing.
    Optional,
    /// None: those of a server.
    Forbidden,
}

impl Unframer {
    /// For frames that are masked so.
    pub fn new(masks: Masks) -> Self {
        Self {
            masks,
            header: Vec::new(),
            frame: None,
            in_message: false,
            control: Vec::new(),
            ping: None,
            idle_frames: 0,
            closed: false,
        }
    }

    /// Takes what arrived: the payload in it is moved to its front, and the length of that is returned.
    /// What follows a frame that closes the connection is dropped.
    ///
    /// # Errors
    /// The other end breaks the RFC. Nothing that follows means anything.
    pub fn take(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() && !self.closed {
            let Some(frame) = &mut self.frame else {
                self.header.extend(bytes.get(at));
                at += 1;
                self.begin()?;
                continue;
            };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let end = at.saturating_add(left).min(bytes.len());
            let piece = bytes.get_mut(at..end).unwrap_or_default();
            frame.unmask(piece);
            if frame.opcode.is_control() {
                self.control.extend_from_slice(piece);
            } else {
                // Both ranges are within: `kept` is never beyond `at`.
                bytes.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
            self.finish()?;
        }
        Ok(kept)
    }

    /// Whether the other end has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the bytes may end here: behind a frame that closes, or between messages. Xpra's programs leave
    /// without the former.
    pub fn may_end(&self) -> bool {
        self.closed || (self.header.is_empty() && self.frame.is_none() && !self.in_message)
    }

    /// Whether a ping was not answered yet.
    pub fn is_pinged(&self) -> bool {
        self.ping.is_some()
    }

    /// The payload of the last ping that was not answered yet (RFC 6455 section 5.5.3).
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Frames so far that moved no payload: those of control, and empty ones.
    pub fn idle_frames(&self) -> u64 {
        self.idle_frames
    }

    /// Begins a frame, if its header is whole.
    fn begin(&mut self) -> Result<(), FrameError> {
        let Some(frame) = Frame::read(&self.header, self.masks)? else { return Ok(()) };
        self.header = Vec::new();
        if frame.opcode.is_control() || frame.left == 0 {
            self.idle_frames += 1;
        }
        match (frame.opcode, self.in_message) {
            (Opcode::Binary, true) => return Err(FrameError("a message begins within another")),
            (Opcode::Continuation, false) => return Err(FrameError("a message goes on that did not begin")),
            (Opcode::Binary | Opcode::Continuation, _) => self.in_message = !frame.last,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
        self.frame = Some(frame);
        self.finish()
    }

    /// Ends the frame, if its payload is whole.
    fn finish(&mut self) -> Result<(), FrameError> {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return Ok(()) };
        if !frame.opcode.is_control() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.control);
        match frame.opcode {
            Opcode::Ping => self.ping = Some(payload),
            Opcode::Close if payload.len() == 1 => return Err(FrameError("a close has half a code")),
            Opcode::Close => self.closed = true,
            Opcode::Pong | Opcode::Binary | Opcode::Continuation => {}
        }
        Ok(())
    }
}

/// A frame whose header was read.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    last: bool,
    /// Bytes of its payload that have not arrived.
    left: u64,
    /// The mask, turned so that its first byte is for the next one of the payload.
    mask: [u8; 4],
}

impl Frame {
    /// Reads a header; `None` if more bytes belong to it.
    fn read(header: &[u8], masks: Masks) -> Result<Option<Self>, FrameError> {
        let Some((&[first, second], rest)) = header.split_first_chunk::<2>() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(FrameError("a reserved bit is set"));
        }
        let (last, masked) = (first & LAST != 0, second & MASKED != 0);
        let opcode = Opcode::read(first & 0x0f)?;
        match masks {
            Masks::Required if !masked => return Err(FrameError("a frame is not masked")),
            Masks::Forbidden if masked => return Err(FrameError("a frame is masked")),
            _ => {}
        }
        let short = second & !MASKED;
        if opcode.is_control() && (!last || usize::from(short) > LONGEST_CONTROL) {
            return Err(FrameError("a frame of control is long or in pieces"));
        }
        let Some((length, rest)) = length(short, rest)? else { return Ok(None) };
        let mask = match (masked, rest.first_chunk::<4>()) {
            (false, _) => [0; 4],
            (true, Some(mask)) => *mask,
            (true, None) => return Ok(None),
        };
        Ok(Some(Self { opcode, last, left: length, mask }))
    }

    /// Takes the mask from the next bytes of the payload.
    fn unmask(&mut self, piece: &mut [u8]) {
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.mask != [0; 4] {
            apply(self.mask, piece);
            self.mask.rotate_left(piece.len() % 4);
        }
    }
}

/// What a frame is for (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the RFC has one more, for text, which nobody here speaks")]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// A message of bytes, or its beginning.
    Binary,
    /// The sender is done.
    Close,
    /// The other end shall answer.
    Ping,
    /// The answer.
    Pong,
}

impl Opcode {
    fn read(code: u8) -> Result<Self, FrameError> {
        match code {
            0x0 => Ok(Self::Continuation),
            0x1 => Err(FrameError("a message of text, where bytes are spoken")),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            _ => Err(FrameError("a kind of frame that is not defined")),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The other end breaks the rules of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError(&'static str);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebSocket: {}", self.0)
    }
}

impl std::error::Error for FrameError {}

/// Appends a frame that is a whole message. A client masks each with new random bytes (RFC 6455 section 5.3).
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.reserve(LONGEST_HEADER + payload.len());
    out.push(LAST | opcode.code());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if usize::from(length) <= LONGEST_CONTROL => out.push(masked | length),
        (_, Ok(length)) => {
            out.push(masked | TWO_BYTES);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | EIGHT_BYTES);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(mask.as_ref().map_or(&[][..], |mask| mask));
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(mask), Some(payload)) = (mask, out.get_mut(start..)) {
        apply(mask, payload);
    }
}

/// The length of a payload, and what stands behind it. It is written in as few bytes as it can be.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    let (length, rest, least) = match short {
        TWO_BYTES => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, u64::from(TWO_BYTES)),
            None => return Ok(None),
        },
        EIGHT_BYTES => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest, 1 << 16),
            None => return Ok(None),
        },
        short => (u64::from(short), rest, 0),
    };
    match length {
        _ if length < least => Err(FrameError("a length is written longer than it is")),
        _ if length > LARGEST_PAYLOAD => Err(FrameError("a length has its highest bit set")),
        _ => Ok(Some((length, rest))),
    }
}

/// Masks bytes, or unmasks them: it is the same.
fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Bytes of the payload of a control frame.
pub const LONGEST_CONTROL: usize = 125;

/// Two bytes, a length of eight, a mask.
const LONGEST_HEADER: usize = 14;

/// The highest bit of a length is not used.
const LARGEST_PAYLOAD: u64 = u64::MAX >> 1;

const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// A length of two bytes follows.
const TWO_BYTES: u8 = 126;
/// A length of eight bytes follows.
const EIGHT_BYTES: u8 = 127;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(masks: Masks, bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        let (mut unframer, mut bytes) = (Unframer::new(masks), bytes.to_vec());
        let kept = unframer.take(&mut bytes)?;
        bytes.truncate(kept);
        Ok(bytes)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // Section 5.7, with the opcode of bytes in place of that of text.
        assert_eq!(take(Masks::Optional, &[0x82, 5, b'H', b'e', b'l', b'l', b'o']).unwrap(), b"Hello");
        let masked = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(take(Masks::Required, &masked).unwrap(), b"Hello");
        let pieces = [0x02, 3, b'H', b'e', b'l', 0x80, 2, b'l', b'o'];
        assert_eq!(take(Masks::Forbidden, &pieces).unwrap(), b"Hello");
        let mut written = Vec::new();
        write_frame(&mut written, Opcode::Binary, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(written, masked);
        for (size, header) in
            [(256, &[0x82, 0x7e, 0x01, 0x00][..]), (65536, &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0])]
        {
            let mut written = Vec::new();
            write_frame(&mut written, Opcode::Binary, &vec![7; size], None);
            assert_eq!(&written[..header.len()], header);
            assert_eq!(take(Masks::Optional, &written).unwrap(), vec![7; size]);
        }
    }

    #[test]
    fn s_018_frames_that_break_the_rfc_end_the_connection() {
        let cases: [(Masks, &[u8]); 15] = [
            (Masks::Optional, &[0xc2, 0]),
            (Masks::Optional, &[0xa2, 0]),
            (Masks::Optional, &[0x92, 0]),
            (Masks::Optional, &[0x83, 0]),
            (Masks::Optional, &[0x8b, 0]),
            (Masks::Optional, &[0x81, 0]),
            (Masks::Required, &[0x82, 1]),
            (Masks::Forbidden, &[0x82, 0x81]),
            (Masks::Optional, &[0x09, 0]),
            (Masks::Optional, &[0x89, 126]),
            (Masks::Optional, &[0x80, 0]),
            (Masks::Optional, &[0x02, 0, 0x02, 0]),
            (Masks::Optional, &[0x82, 126, 0, 125]),
            (Masks::Optional, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            (Masks::Optional, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (masks, bytes) in cases {
            assert!(take(masks, bytes).is_err(), "{masks:?} {bytes:02x?}");
        }
        assert!(take(Masks::Optional, &[0x88, 1, 3]).is_err());
    }

    #[test]
    fn s_018_control_frames_stand_between_pieces_and_only_the_last_ping_is_kept() {
        let mut bytes = Vec::new();
        for ping in [&b"first"[..], &[7; LONGEST_CONTROL]] {
            bytes.extend_from_slice(&[0x89, u8::try_from(ping.len()).unwrap()]);
            bytes.extend_from_slice(ping);
        }
        let bytes = [&[0x02, 1, b'a'][..], &bytes, &[0x8a, 1, b'x', 0x80, 1, b'b', 0x82, 0]].concat();
        let (mut unframer, mut all) = (Unframer::new(Masks::Optional), bytes);
        assert_eq!(unframer.take(&mut all), Ok(2));
        assert_eq!(&all[..2], b"ab");
        assert_eq!(unframer.take_ping().unwrap(), [7; LONGEST_CONTROL]);
        assert_eq!((unframer.take_ping(), unframer.idle_frames()), (None, 4));
        assert!(unframer.may_end() && !unframer.is_closed());
    }

    #[test]
    fn bytes_behind_a_close_and_a_cut_message_are_told_apart_from_an_end() {
        let mut unframer = Unframer::new(Masks::Optional);
        let mut bytes = [0x82, 1, b'a', 0x88, 2, 3, 0xe8, 0x82, 1, b'b'];
        assert_eq!(unframer.take(&mut bytes), Ok(1));
        assert!(unframer.is_closed() && unframer.may_end());
        for cut in [&[0x82][..], &[0x82, 2, b'a'], &[0x02, 1, b'a'], &[0x88, 2, 3]] {
            let (mut unframer, mut bytes) = (Unframer::new(Masks::Optional), cut.to_vec());
            assert!(unframer.take(&mut bytes).is_ok() && !unframer.may_end(), "{cut:02x?}");
        }
    }

    #[test]
    fn s_018_a_frame_of_any_size_costs_no_memory() {
        let mut unframer = Unframer::new(Masks::Optional);
        let mut header = [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(unframer.take(&mut header), Ok(0));
        let mut piece = vec![1; 64 * 1024];
        for _ in 0..64 {
            assert_eq!(unframer.take(&mut piece), Ok(piece.len()));
        }
        assert!(unframer.control.capacity() == 0 && unframer.header.capacity() <= LONGEST_HEADER);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<Option<[u8; 4]>>()), 0..8),
            cut in 1_usize..70,
        ) {
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (piece, mask) in &pieces {
                write_frame(&mut wire, Opcode::Binary, piece, *mask);
                write_frame(&mut wire, Opcode::Ping, b"?", *mask);
                expected.extend_from_slice(piece);
            }
            let (mut unframer, mut read) = (Unframer::new(Masks::Optional), Vec::new());
            for piece in wire.chunks(cut) {
                let mut piece = piece.to_vec();
                let kept = unframer.take(&mut piece).unwrap();
                read.extend_from_slice(&piece[..kept]);
            }
            prop_assert_eq!(read, expected);
            prop_assert!(unframer.may_end());
        }

        #[test]
        fn s_020_noise_is_read_or_refused_the_same_however_it_is_cut(
            noise in prop::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50,
        ) {
            let whole = take(Masks::Optional, &noise);
            let (mut unframer, mut read) = (Unframer::new(Masks::Optional), Vec::new());
            let mut failed = None;
            for piece in noise.chunks(cut) {
                let mut piece = piece.to_vec();
                match unframer.take(&mut piece) {
                    Ok(kept) => read.extend_from_slice(&piece[..kept]),
                    Err(error) => { failed = Some(error); break }
                }
            }
            prop_assert_eq!(failed.map_or(Ok(read), Err), whole);
        }
    }
}
