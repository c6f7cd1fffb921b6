//! The five bytes in front of each message. HTTP/2 may cut a message anywhere, and may put several into one DATA frame.

use std::fmt;

use super::{LARGEST_MESSAGE, Message, WireError, buffer::Buffer};
use crate::secret::Secret;

/// Reads the messages of one direction of one call, whatever the DATA frames were.
///
/// It never holds more than one message, and gives room for bytes that came, not for bytes that were announced.
#[derive(Default)]
pub struct Frames {
    head: Vec<u8>,
    body: Option<Body>,
}

struct Body {
    length: usize,
    bytes: Buffer,
}

impl Frames {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes from the front of `input` what belongs to the message under way. `None`: all of it was taken, and more is
    /// needed. After a message call it again, as `input` may hold another.
    ///
    /// # Errors
    /// A compressed message, an unknown flag, or a declared size over [`LARGEST_MESSAGE`], each judged from the head
    /// alone. The call cannot go on.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Secret>, WireError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                self.head.extend_from_slice(take(input, HEAD.saturating_sub(self.head.len())));
                let Ok(head) = <[u8; HEAD]>::try_from(self.head.as_slice()) else { return Ok(None) };
                self.head.clear();
                Body { length: judge(head)?, bytes: Buffer::default() }
            }
        };
        body.bytes.extend(take(input, body.length.saturating_sub(body.bytes.len())));
        if body.bytes.len() == body.length {
            return Ok(Some(body.bytes.into_secret()));
        }
        self.body = Some(body);
        Ok(None)
    }

    /// Whether the stream may end here: no message is under way.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.head.is_empty() && self.body.is_none()
    }
}

/// Shows nothing of the messages.
impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("between_messages", &self.is_between_messages())
            .finish_non_exhaustive()
    }
}

/// A message with its head, ready for a DATA frame.
#[must_use]
pub fn framed(message: &impl Message) -> Secret {
    let payload = message.encode();
    let mut out = Buffer::default();
    let length = u32::try_from(payload.expose().len()).unwrap_or(u32::MAX);
    out.extend(&[0]);
    out.extend(&length.to_be_bytes());
    out.extend(payload.expose());
    out.into_secret()
}

fn judge(head: [u8; HEAD]) -> Result<usize, WireError> {
    let [flag, length @ ..] = head;
    match flag {
        0 => {}
        1 => return Err(WireError::Compressed),
        _ => return Err(WireError::Flag),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| WireError::TooLarge)?;
    if length > LARGEST_MESSAGE { Err(WireError::TooLarge) } else { Ok(length) }
}

fn take<'a>(input: &mut &'a [u8], wanted: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(wanted).unwrap_or((*input, &[]));
    *input = rest;
    taken
}

const HEAD: usize = 5;

#[cfg(test)]
mod tests {
    use super::{Frames, HEAD, LARGEST_MESSAGE, WireError};

    fn head(flag: u8, length: usize) -> Vec<u8> {
        [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes()].concat()
    }

    #[test]
    fn messages_are_found_whatever_the_cuts() {
        let stream = [head(0, 3), b"one".to_vec(), head(0, 0), head(0, 5), b"three".to_vec()].concat();
        for step in 1..=stream.len() {
            let (mut frames, mut found) = (Frames::new(), Vec::new());
            for mut piece in stream.chunks(step) {
                while let Some(message) = frames.read(&mut piece).unwrap() {
                    found.push(message.expose().to_vec());
                }
                assert!(piece.is_empty());
            }
            assert_eq!(found, [&b"one"[..], b"", b"three"], "pieces of {step}");
            assert!(frames.is_between_messages());
        }
    }

    #[test]
    fn the_end_of_a_stream_inside_a_message_shows() {
        for cut in [&[0][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2], &[0, 0, 0, 0, 2, b'x']] {
            let mut frames = Frames::new();
            assert!(frames.read(&mut &*cut).unwrap().is_none());
            assert!(!frames.is_between_messages(), "{cut:?}");
        }
    }

    #[test]
    fn s_019_a_head_is_judged_before_a_byte_of_its_message_has_room() {
        for (bytes, expected) in [
            (head(0, LARGEST_MESSAGE + 1), WireError::TooLarge),
            (vec![0, 0xff, 0xff, 0xff, 0xff], WireError::TooLarge),
            (head(1, 3), WireError::Compressed),
            (head(2, 3), WireError::Flag),
            (head(0x80, 3), WireError::Flag),
        ] {
            assert_eq!(Frames::new().read(&mut bytes.as_slice()).unwrap_err(), expected, "{bytes:?}");
        }
        let mut frames = Frames::new();
        assert!(frames.read(&mut head(0, LARGEST_MESSAGE).as_slice()).unwrap().is_none());
        assert!(frames.body.unwrap().bytes.len() < HEAD, "announced bytes have no room yet");
    }

    #[test]
    fn s_091_what_was_read_is_not_printed() {
        let mut frames = Frames::new();
        frames.read(&mut [&head(0, 9)[..], b"hunter2"].concat().as_slice()).unwrap();
        assert_eq!(format!("{frames:?}"), "Frames { between_messages: false, .. }");
    }
}
