//! Frames of HTTP/2 that cost a stranger nothing: counted, and too many of them end the connection (S-19).
//!
//! Streams, headers and resets have their limits in the HTTP/2 library. What is left are frames that move nothing:
//! pings, settings, priorities, empty pieces. They are seen here by their heads, before the library works on them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// What a connection may still send that moves nothing.
#[derive(Debug)]
pub(super) struct Meter {
    switch: Arc<Switch>,
    /// Bytes that belong to the preface or to a frame whose head was read.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    left: f64,
    since: Instant,
}

/// Whether anything is counted, and whether there was too much of it.
#[derive(Debug, Default)]
pub(super) struct Switch {
    trusted: AtomicBool,
    overflowed: AtomicBool,
}

impl Switch {
    /// An accepted client's frames are its own affair.
    pub(super) fn trust(&self, trusted: bool) {
        self.trusted.store(trusted, Ordering::Relaxed);
    }

    /// Whether the connection was ended for a flood.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }
}

impl Meter {
    /// The meter of a connection that starts now.
    pub(super) fn new(switch: &Arc<Switch>) -> Self {
        let switch = Arc::clone(switch);
        Self { switch, skip: PREFACE, head: [0; HEAD], filled: 0, left: BURST, since: Instant::now() }
    }

    /// Takes the bytes that the client sent.
    ///
    /// # Errors
    /// The client sends too much that moves nothing.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.skip > 0 {
                return Ok(());
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if let Some(room) = self.head.get_mut(self.filled) {
                *room = *byte;
            }
            self.filled += 1;
            if self.filled == HEAD {
                self.filled = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// A frame's head is whole (RFC 9113 4.1).
    fn frame(&mut self) -> io::Result<()> {
        let [a, b, c, kind, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = usize::try_from(length).unwrap_or(usize::MAX);
        let moves = match kind {
            HEADERS => true,
            DATA | CONTINUATION => length > 0,
            _ => false,
        };
        if moves || self.switch.trusted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = Instant::now();
        self.left = BURST.min(self.left + now.duration_since(self.since).as_secs_f64() * A_SECOND) - 1.0;
        self.since = now;
        if self.left >= 0.0 {
            return Ok(());
        }
        self.switch.overflowed.store(true, Ordering::Relaxed);
        Err(io::Error::new(io::ErrorKind::InvalidData, "a flood of frames that move nothing"))
    }
}

/// `PRI * HTTP/2.0` and what belongs to it (RFC 9113 3.4).
const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Frames at once. A real client sends ten or so before its first call is answered.
const BURST: f64 = 200.0;
const A_SECOND: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        [&[a, b, c, kind, 0, 0, 0, 0, 1][..], &vec![0xff; length]].concat()
    }

    fn flood(frames: &[u8], trusted: bool, step: usize) -> (bool, bool) {
        let switch = Arc::new(Switch::default());
        switch.trust(trusted);
        let mut meter = Meter::new(&switch);
        let stream = [&[b'P'; PREFACE][..], &frames.repeat(1000)].concat();
        let passed = stream.chunks(step).all(|piece| meter.look(piece).is_ok());
        (passed, switch.has_overflowed())
    }

    #[test]
    fn s_019_a_flood_that_moves_nothing_ends_the_connection_of_a_stranger() {
        const RESET: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        for (kind, length) in
            [(PING, 8), (SETTINGS, 0), (2, 5), (RESET, 4), (DATA, 0), (CONTINUATION, 0), (77, 3)]
        {
            for step in [1, 7, 100_000] {
                assert_eq!(flood(&frame(kind, length), false, step), (false, true), "{kind} {step}");
            }
            assert_eq!(flood(&frame(kind, length), true, 4096), (true, false), "{kind}");
        }
        let call = [frame(HEADERS, 50), frame(DATA, 20)].concat();
        assert_eq!(flood(&call, false, 33), (true, false), "calls have limits of their own");
    }
}
