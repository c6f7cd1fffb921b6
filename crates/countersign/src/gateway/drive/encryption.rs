//! Xpra's encryption in a login: what the client announces in its hellos, before anything else in them counts.
//!
//! The first hello is in clear, and so is whatever it holds. From there on everything is under the key of the socket,
//! and what cannot be read ends the login as a wrong answer does (S-38).

use std::io;

use tokio::io::AsyncReadExt as _;

use crate::{
    Chain, Refusal,
    proto::{
        error::Reason,
        wire::xpra::{Decoder, Hello, Kind, Limits, Packet, ServerHello, cipher::Parameters},
    },
    transport::{Disagreement, Stream},
};

/// Takes what a hello announces. `behind`: bytes came with it, which are not read yet.
///
/// # Errors
/// The socket takes nothing but encrypted packets and the client does not speak its cipher, or the other way round.
pub(super) async fn heed(
    stream: &mut Stream,
    hello: &mut Hello,
    chain: &Chain,
    behind: bool,
) -> Result<(), Refusal> {
    let Some(sealed) = stream.sealed() else {
        return match Parameters::read(hello.caps()) {
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(_)) => Err(Refusal::new(
                Reason::NoCommonCipher,
                "the client encrypts, and this socket has no encryption=",
            )),
        };
    };
    let in_clear = !sealed.is_agreed();
    let heeded = sealed.heed(hello.caps()).await.map_err(refusal);
    // What was under encryption may have been altered, and nobody is told where.
    heeded.map_err(|told| if in_clear { told } else { Refusal::new(Reason::BadCipher, told.cause) })?;
    if in_clear {
        if behind {
            // Somebody in between could have put them there.
            return Err(Refusal::new(Reason::BadCipher, "bytes in clear follow the first hello"));
        }
        forget_credentials(hello, chain);
    }
    Ok(())
}

/// What came in clear proves nothing under encryption, whatever the wire is worth from here on.
fn forget_credentials(hello: &mut Hello, chain: &Chain) {
    (hello.response, hello.initial_response) = (None, None);
    hello.first_words.clear();
    for wanted in chain.capabilities().filter(|wanted| wanted.credential) {
        drop(hello.said(wanted));
    }
}

fn refusal(disagreement: Disagreement) -> Refusal {
    match disagreement {
        Disagreement::None => {
            Refusal::new(Reason::NotEncrypted, "the client does not encrypt, and this socket has encryption=")
        }
        Disagreement::Unspoken(error) => {
            Refusal::new(Reason::NoCommonCipher, format!("{}: {error}", error.reason()))
        }
        Disagreement::OtherMode(mode) => {
            let cause = format!("the client's mode is {}, which is not that of encryption=", mode.name());
            Refusal::new(Reason::NoCommonCipher, cause)
        }
        Disagreement::Lost(error) => Refusal::module_failed(format!("the key cannot be stretched: {error}")),
    }
}

/// What could not be read: under encryption nobody is told what was wrong with it (S-38).
pub(super) fn unreadable(stream: &mut Stream, refusal: Refusal) -> Result<Refusal, Refusal> {
    match stream.sealed() {
        Some(sealed) if sealed.is_agreed() => Err(Refusal::new(Reason::BadCipher, refusal.cause)),
        _ => Ok(refusal),
    }
}

/// Puts what this end announces into the hello by which an Xpra server begins a session: the client waits for it there.
/// Without encryption nothing is read. Answers to requests hold nothing of it.
///
/// # Errors
/// The server asks for a login of its own, which nobody could answer under encryption, or breaks the protocol.
pub(in crate::gateway) async fn adopt(client: &mut Stream, server: &mut Stream) -> io::Result<()> {
    let Some(sealed) = client.sealed() else { return Ok(()) };
    let mut buffer = Vec::new();
    let packet = next_packet(server, &mut buffer).await?;
    let encoder = packet.encoder;
    let bytes = match packet.kind {
        Kind::Hello => {
            let hello = ServerHello::read(packet).map_err(io::Error::other)?;
            let caps = sealed.announce(hello.caps().clone()).await?;
            ServerHello::with_caps(caps).map_err(io::Error::other)?.packet(encoder).encode()
        }
        Kind::Challenge => {
            let why = "it asks for a login of its own, which cannot be passed on under encryption";
            return Err(io::Error::other(why));
        }
        _ => packet.encode(),
    };
    server.unread([bytes.map_err(io::Error::other)?, buffer].concat());
    Ok(())
}

/// The first packet of a daemon, which is trusted with more than a stranger.
async fn next_packet(server: &mut Stream, buffer: &mut Vec<u8>) -> io::Result<Packet> {
    let mut limits = Limits::default();
    (limits.wire, limits.decoded) = (4 << 20, 16 << 20);
    (limits.entries, limits.values) = (1 << 16, 1 << 18);
    let decoder = Decoder::new(limits);
    loop {
        if let Some((packet, length)) = decoder.decode(buffer).map_err(io::Error::other)? {
            buffer.drain(..length);
            return Ok(packet);
        }
        if server.read_buf(buffer).await? == 0 {
            return Err(io::Error::other("it closed the connection instead of an answer to the hello"));
        }
    }
}
