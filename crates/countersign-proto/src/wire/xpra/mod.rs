//! Xpra's packets: framing, three encodings of values, and the messages of a login.
//!
//! They are also the native protocol of our own client, so each message is read and written here. The facts of
//! the wire are in `docs/protocol/xpra.md`. Encrypted packets are opened by [`cipher`], under which the others are as
//! without it; those and raw chunks are recognised in the [`Header`] and refused by the [`Decoder`]; YAML is refused by
//! the header.

mod bencode;
mod caps;
mod challenge;
pub mod cipher;
mod compress;
mod disconnect;
mod encoder;
mod error;
mod header;
mod hello;
mod input;
mod line;
mod packet;
mod rencode;
mod server_hello;
mod tree;
mod value;

pub use caps::Caps;
pub use challenge::Challenge;
pub use compress::Compression;
pub use disconnect::Disconnect;
pub use encoder::Encoder;
pub use error::{Fault, WireError};
pub use header::Header;
pub use hello::{ClientHello, FIRST_WORDS, Hello};
pub use line::plain_text;
pub use packet::{Decoder, Kind, Packet, Reply};
pub use server_hello::ServerHello;
pub use value::{Decimal, Value};

/// What a peer may make us hold before it has logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one payload on the wire; 64 KiB (S-09).
    pub wire: usize,
    /// Bytes of one payload after decompression; 256 KiB (S-10).
    pub decoded: usize,
    /// Containers inside each other; 16 (S-11).
    pub depth: usize,
    /// Entries of one container; 4,096 (S-11).
    pub entries: usize,
    /// Values of one packet, keys and containers included; 16,384. The `attach` hello of 3.1.3 describes the
    /// keyboard in some 4,000 values, so the limit of one container cannot be the limit of all.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wire: 64 * 1024, decoded: 256 * 1024, depth: 16, entries: 4096, values: 16 * 1024 }
    }
}
