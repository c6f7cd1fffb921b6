//! Bytes to messages and back. Decides nothing, reads no socket.
