//! The Xpra codec against recorded conversations, the real codecs' output, and everything that must be refused.

mod codecs;
mod limits;
mod messages;
mod transcripts;
mod vectors;
