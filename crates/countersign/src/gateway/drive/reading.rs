//! What a stranger says: read, told apart, and bounded.
//!
//! Every wire of [`super::Acceptor`] reads with it until there is a whole message.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, ReadBuf},
    sync::{Semaphore, SemaphorePermit},
};

use super::{Patience, broken};
use crate::{
    Refusal,
    proto::{
        error::Reason,
        wire::detect::{Detected, detect},
    },
    transport::Stream,
};

/// Reads until the protocol is clear, and gives the bytes back.
pub(super) async fn first_bytes(stream: &mut Stream, patience: &mut Patience) -> Result<Detected, Refusal> {
    let mut seen = Vec::new();
    let found = loop {
        let (ended, late) = match patience.wait(read_some(stream, &mut seen)).await {
            Some(Ok(0)) => (true, false),
            Some(Ok(_)) => (false, false),
            Some(Err(error)) => return Err(broken(&error)),
            None => (true, true),
        };
        if seen.is_empty() {
            return Err(match late {
                true => Refusal::new(Reason::Timeout, "nothing was said in time"),
                false => Refusal::new(Reason::PeerLeft, "the client left without a word"),
            });
        }
        match detect(&seen, ended) {
            Detected::NeedMore => {}
            found => break found,
        }
    };
    stream.unread(seen);
    Ok(found)
}

/// Reads once and appends what came. The room for it is the thread's stack: whoever waits holds none.
pub(super) async fn read_some(stream: &mut Stream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}

/// Memory for a message that has begun and not ended (S-10).
///
/// A stranger has 4 KiB of its own. What is more comes out of 64 MiB that all strangers of the process share: the
/// largest message that is allowed, begun by every one of them, would be four times that.
#[derive(Debug)]
pub(super) struct Room {
    shared: &'static Semaphore,
    taken: Option<SemaphorePermit<'static>>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { shared: &SHARED, taken: None }
    }

    /// Holds as much as the bytes that are kept need.
    ///
    /// # Errors
    /// The others have begun so much that there is no room: the client may come again.
    pub(super) fn hold(&mut self, kept: &Vec<u8>) -> Result<(), Refusal> {
        let units = kept.capacity().saturating_sub(OWN).div_ceil(UNIT);
        let taken = self.taken.as_ref().map_or(0, SemaphorePermit::num_permits);
        let Some(more) = units.checked_sub(taken).filter(|&more| more > 0) else { return Ok(()) };
        let more = u32::try_from(more).ok().and_then(|more| self.shared.try_acquire_many(more).ok());
        let full = || Refusal::new(Reason::Busy, "strangers have begun more messages than there is room for");
        let more = more.ok_or_else(full)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }

    /// The message is whole.
    pub(super) fn leave(&mut self) {
        self.taken = None;
    }
}

/// Bytes that are read at once: a whole hello of most clients, so that it takes one system call.
const READ: usize = 8 * 1024;

/// What a stranger may keep without a share.
const OWN: usize = 4 * 1024;

/// In what shares are counted.
const UNIT: usize = 1024;

/// Of the 64 MiB.
static SHARED: Semaphore = Semaphore::const_new(64 * 1024 * 1024 / UNIT);

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(kib: usize) -> Vec<u8> {
        Vec::with_capacity(kib * 1024)
    }

    #[test]
    fn s_010_strangers_share_a_room_for_messages_that_are_not_whole() {
        static THREE: Semaphore = Semaphore::const_new(3);
        let room = || Room { shared: &THREE, taken: None };
        let (mut first, mut second) = (room(), room());
        assert!(first.hold(&kept(4)).is_ok() && THREE.available_permits() == 3, "what is its own");
        assert!(first.hold(&kept(6)).is_ok() && THREE.available_permits() == 1);
        assert!(first.hold(&kept(5)).is_ok() && THREE.available_permits() == 1, "it has that already");
        assert!(second.hold(&kept(4)).is_ok(), "a full room takes nobody's own");
        assert_eq!(second.hold(&kept(6)).expect_err("two are not there").reason, Reason::Busy);
        assert!(second.hold(&kept(5)).is_ok());
        first.leave();
        assert_eq!(THREE.available_permits(), 2);
        drop(second);
        assert_eq!(THREE.available_permits(), 3);
    }
}
