//! Packets, and the decoder that finds them in what a reader has buffered.

use std::fmt;

use super::{Compression, Encoder, Header, Limits, Value, WireError, header, line};

/// One packet: its type, and the items behind that.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Packet {
    /// How it came, or is to be written.
    pub encoder: Encoder,
    /// Its type.
    pub kind: Kind,
    /// What follows the type.
    pub items: Vec<Value>,
}

impl Packet {
    /// A packet to be written.
    #[must_use]
    pub fn new(encoder: Encoder, kind: Kind, items: Vec<Value>) -> Self {
        Self { encoder, kind, items }
    }

    /// Its bytes, header included; neither compressed nor encrypted.
    ///
    /// # Errors
    /// [`WireError::Unrepresentable`] for a value that the encoder has no form for, [`WireError::TooDeep`] beyond 16
    /// containers, [`WireError::TooLarge`] for 4 GiB and more.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut bytes = Vec::with_capacity(USUAL_LENGTH);
        bytes.extend_from_slice(&[0; Header::LENGTH]);
        self.encoder.encode_list(&self.kind.name().into(), &self.items, &mut bytes)?;
        let size = u32::try_from(bytes.len().saturating_sub(Header::LENGTH));
        let header = Header::write(self.encoder, size.map_err(|_| WireError::TooLarge)?);
        if let Some(front) = bytes.first_chunk_mut() {
            *front = header;
        }
        Ok(bytes)
    }

    fn from_value(encoder: Encoder, value: Value, aliases: &Value) -> Result<Self, WireError> {
        let Value::List(mut items) = value else { return Err(WireError::NotAPacket) };
        if items.is_empty() {
            return Err(WireError::NotAPacket);
        }
        let kind = match items.remove(0) {
            Value::Int(number) => Kind::by_alias(number, aliases)?,
            word => Kind::read(&word)?,
        };
        Ok(Self { encoder, kind, items })
    }
}

/// The type and the shape of the items.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}) {:?}", self.kind, self.encoder.name(), self.items)
    }
}

/// The type of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// From the client: who it is and what it can do, with the answer to a challenge; from the server: success.
    Hello,
    /// From the server: prove it.
    Challenge,
    /// The end, from either side; some peers call it `connection-close`.
    Disconnect,
    /// Anything else, at most 64 bytes; never answered before login (S-14).
    Other(String),
}

impl Kind {
    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Hello => "hello",
            Self::Challenge => "challenge",
            Self::Disconnect => "disconnect",
            Self::Other(name) => name,
        }
    }

    fn read(word: &Value) -> Result<Self, WireError> {
        let bytes = word.as_bytes().filter(|bytes| bytes.len() <= LONGEST_NAME);
        let name = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(WireError::NotAPacket)?;
        Ok(match name {
            "hello" => Self::Hello,
            "challenge" => Self::Challenge,
            "disconnect" | "connection-close" => Self::Disconnect,
            other => Self::Other(other.to_owned()),
        })
    }

    fn by_alias(number: i64, aliases: &Value) -> Result<Self, WireError> {
        let Value::Dict(entries) = aliases else { return Err(WireError::UnknownAlias) };
        let named = entries.iter().find(|(_, alias)| alias.as_int() == Some(number));
        named.map_or(Err(WireError::UnknownAlias), |(name, _)| Self::read(name))
    }
}

/// Finds packets in buffered bytes. It holds no bytes itself: what was not consumed is offered again with more.
#[derive(Debug, Clone)]
pub struct Decoder {
    limits: Limits,
    aliases: Value,
}

impl Decoder {
    /// A decoder with these limits, for either side.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, aliases: Value::Null }
    }

    /// Takes integers for packet types from now on: a dictionary from name to integer, as a forwarded hello's
    /// `aliases` announced it to the peer being read.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Value) -> Self {
        self.aliases = aliases;
        self
    }

    /// The first packet of `input`, and how many bytes it took; `None`: it is not complete yet.
    ///
    /// A faulty header is refused as soon as its bytes are there, a wrong first byte at once. A reader therefore never
    /// needs to hold more than `limits.wire` and [`Header::LENGTH`].
    ///
    /// # Errors
    /// Everything of [`Header::read`], [`Compression::inflate`](super::Compression::inflate) and
    /// [`Encoder::decode`], raw chunks (S-12), encrypted packets, and values that are not packets.
    pub fn decode(&self, input: &[u8]) -> Result<Option<(Packet, usize)>, WireError> {
        if input.first().is_some_and(|first| *first != header::MAGIC) {
            return Err(WireError::Magic);
        }
        let Some((head, rest)) = input.split_first_chunk() else { return Ok(None) };
        let header = Header::read(head, &self.limits)?;
        if header.index != 0 {
            return Err(WireError::RawChunk);
        }
        if header.encrypted {
            return Err(WireError::Encrypted);
        }
        let Some(payload) = rest.get(..header.size) else { return Ok(None) };
        let packet = self.decode_payload(&header, payload)?;
        Ok(Some((packet, Header::LENGTH.saturating_add(header.size))))
    }

    /// The same for a client: a server may also write a line of plain text in place of a packet.
    ///
    /// # Errors
    /// As [`Decoder::decode`], and [`WireError::LongLine`] for text that does not end within 1 KiB.
    pub fn decode_reply(&self, input: &[u8]) -> Result<Option<(Reply, usize)>, WireError> {
        match input.first() {
            Some(&first) if first != header::MAGIC => {
                Ok(line::read(input)?.map(|(reason, length)| (Reply::PlainText(reason), length)))
            }
            _ => Ok(self.decode(input)?.map(|(packet, length)| (Reply::Packet(packet), length))),
        }
    }

    fn decode_payload(&self, header: &Header, payload: &[u8]) -> Result<Packet, WireError> {
        let inflated;
        let plain = match header.compression {
            // As long as it is not over the limit it is read where it is.
            Compression::None if payload.len() <= self.limits.decoded => payload,
            compression => {
                inflated = compression.inflate(payload, self.limits.decoded)?;
                &inflated
            }
        };
        let value = header.encoder.decode(plain, &self.limits)?;
        Packet::from_value(header.encoder, value, &self.aliases)
    }
}

/// What a client may read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// A packet.
    Packet(Packet),
    /// A refusal in plain text, without controls: the server could not read the client's packet.
    PlainText(String),
}

/// What a hello or a challenge of ours needs.
const USUAL_LENGTH: usize = 512;

/// No name in use is half as long.
const LONGEST_NAME: usize = 64;
