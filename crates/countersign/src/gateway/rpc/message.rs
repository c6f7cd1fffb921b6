//! The first message of a call that is answered here.

use hyper::body::{Body, Bytes, Incoming};
use std::{future::poll_fn, pin::Pin};

use crate::{
    Secret,
    proto::wire::multipass::{Code, Frames, Status, WireError},
};

/// The first message, and the bytes it came in.
pub(super) struct First {
    pub(super) message: Secret,
    /// For passing on: they hold what followed it too.
    pub(super) read: Vec<Bytes>,
}

/// Reads until the first message is whole; the client need not have ended its side (S-19).
///
/// # Errors
/// What the client is told: the message is too large, compressed or cut, or made of nothing.
pub(super) async fn first(body: &mut Incoming) -> Result<First, Status> {
    let (mut frames, mut read) = (Frames::new(), Vec::new());
    for _ in 0..MOST_PIECES {
        let piece = match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            Some(Ok(frame)) => frame.into_data().map_err(|_| fault(WireError::Incomplete))?,
            Some(Err(_)) => return Err(Status::new(Code::Cancelled, "the call was cancelled")),
            None => return Err(fault(WireError::Incomplete)),
        };
        let message = frames.read(&mut &*piece).map_err(fault)?;
        read.push(piece);
        if let Some(message) = message {
            return Ok(First { message, read });
        }
    }
    Err(Status::new(Code::ResourceExhausted, "message: it comes in too many pieces"))
}

/// What a client is told of bytes that are no message.
pub(super) fn fault(error: WireError) -> Status {
    let code = match error {
        WireError::Compressed => Code::Unimplemented,
        WireError::TooLarge => Code::ResourceExhausted,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.to_string())
}

/// Pieces of one message: a client that sends byte by byte, or nothing at all, does not go on for ever.
const MOST_PIECES: usize = 4096;
