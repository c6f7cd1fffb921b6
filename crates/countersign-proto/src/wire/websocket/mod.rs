//! WebSocket (RFC 6455) around any bytes: the heads of HTTP that begin it, and the frames that follow.
//!
//! The gateway reads what clients send, the client what servers send; the bytes in the frames are a stream to
//! both, cut wherever the other end likes. Whether an upgrade is wanted at a path or from an origin is decided
//! by the caller. `docs/protocol/websocket.md` says which part of the RFC is spoken.
//!
//! | file | holds |
//! |---|---|
//! | `head` | requests and answers of HTTP, and what makes them an upgrade |
//! | `frame` | frames into payload, in place, and payload into frames |

mod frame;
mod head;

pub use frame::{FrameError, LONGEST_CONTROL, Masks, Opcode, Unframer, write_frame};
pub use head::{
    Answer, HeadError, LARGEST_HEAD, MOST_FIELDS, Request, Upgrade, accepted, answer_to, key_of, request,
};
