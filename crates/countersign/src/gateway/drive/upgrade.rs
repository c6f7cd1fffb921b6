//! The upgrade to WebSocket, where a client asks for it, and a line of text for whoever only looks.
//!
//! What is in the frames afterwards is driven as if it had come without them: by the same chain (S-66).

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;

use super::{
    Acceptor, Patience, broken,
    packets::part,
    page,
    reading::{Room, first_bytes, read_some},
};
use crate::{
    Chain, Peer, Refusal, Secret,
    config::WebSocketOptions,
    proto::{
        error::Reason,
        peer::HttpFields,
        wire::{
            detect::Detected,
            websocket::{Answer, HeadError, LARGEST_HEAD, Masks, Request, Upgrade},
        },
    },
    transport::{Stream, WebSocket},
};

/// The stream inside the WebSocket of a client that asks for one, and the stream itself for others where the
/// socket takes them.
///
/// # Errors
/// There is no more to say: a client of HTTP was answered, and others are left without an answer.
pub(super) async fn upgrade(
    acceptor: &Acceptor,
    mut stream: Stream,
    peer: &mut Peer,
    patience: &mut Patience,
) -> Result<Stream, Refusal> {
    let Some(options) = &acceptor.websocket else { return Ok(stream) };
    match first_bytes(&mut stream, patience).await? {
        Detected::Http => {}
        _ if options.required => {
            let why = "the client does not speak HTTP, which this socket requires";
            return Err(Refusal::new(Reason::Malformed, why));
        }
        _ => return Ok(stream),
    }
    let request = match read(&mut stream, patience).await? {
        Ok(request) => request,
        Err(error) => return Err(turn_away(stream, Turn::from(error), false).await),
    };
    let upgrade = match judge(&request, options) {
        Ok(upgrade) => upgrade,
        Err(turn) => return Err(turn_away(stream, turn, request.method == "HEAD").await),
    };
    peer.http = Some(Arc::new(fields(&request, &acceptor.chain)));
    match patience.wait(answer(&mut stream, &upgrade)).await {
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(broken(&error)),
        None => {
            return Err(Refusal::new(Reason::Timeout, "the client does not read the answer to its upgrade"));
        }
    }
    // Browsers say where they come from and mask; Xpra's own client does neither (S-18).
    let masks = if upgrade.origin.is_some() { Masks::Required } else { Masks::Optional };
    Ok(Stream::new(WebSocket::server(stream, masks)))
}

/// Reads a head. What follows it stays unread.
async fn read(stream: &mut Stream, patience: &mut Patience) -> Result<Result<Request, HeadError>, Refusal> {
    let (mut head, mut room) = (Vec::new(), Room::new());
    loop {
        room.hold(&head)?;
        let before = head.len();
        match patience.wait(read_some(stream, &mut head)).await {
            Some(Ok(0)) => return Err(Refusal::new(Reason::PeerLeft, "the client left within its request")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(broken(&error)),
            None => return Err(Refusal::new(Reason::Timeout, "the head of the request did not end in time")),
        }
        // A head ends with a line: bytes that come one by one are not read again and again.
        let has_line = head.get(before..).is_some_and(|new| new.contains(&b'\n'));
        if !has_line && head.len() < LARGEST_HEAD {
            continue;
        }
        match Request::read(&head) {
            Ok(None) => {}
            Ok(Some((request, length))) => {
                stream.unread(head.split_off(length));
                return Ok(Ok(request));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// What a client of HTTP is told that gets no WebSocket, and what the log is.
struct Turn {
    reply: Reply,
    refusal: Refusal,
}

enum Reply {
    Line(Answer),
    LoginPage,
}

impl Reply {
    fn bytes(&self, head_only: bool) -> Vec<u8> {
        match self {
            Self::Line(answer) => answer.bytes(head_only),
            Self::LoginPage => page::answer(head_only),
        }
    }
}

impl From<HeadError> for Turn {
    fn from(error: HeadError) -> Self {
        Self { reply: Reply::Line(error.into()), refusal: Refusal::new(Reason::Malformed, error.to_string()) }
    }
}

fn judge(request: &Request, options: &WebSocketOptions) -> Result<Upgrade, Turn> {
    let looks = |reply| Turn {
        reply,
        refusal: Refusal::new(Reason::PeerLeft, "the client asked for a page and not for WebSocket"),
    };
    match request.upgrade()? {
        Some(_) if request.path != options.path => {
            let refusal =
                Refusal::new(Reason::Malformed, "there is no WebSocket at the path that was asked for");
            Err(Turn { reply: Reply::Line(NOT_FOUND), refusal })
        }
        Some(upgrade) => match upgrade.origin.as_ref().filter(|origin| !options.allows(origin)) {
            Some(origin) => Err(Turn {
                reply: Reply::Line(FORBIDDEN),
                refusal: Refusal::peer_denied(format!(
                    "the script of a page that is not listed: {}",
                    origin.escape_debug()
                )),
            }),
            None => Ok(upgrade),
        },
        None if !["GET", "HEAD"].contains(&request.method.as_str()) => Err(looks(Reply::Line(NOT_ALLOWED))),
        None if request.path != "/" && request.path != options.path => Err(looks(Reply::Line(NOT_FOUND))),
        // Its script connects to the path that it has been loaded from.
        None if options.login_page && request.path == options.path => Err(looks(Reply::LoginPage)),
        None => Err(looks(Reply::Line(PAGE))),
    }
}

/// The fields that links of the chain read.
fn fields(request: &Request, chain: &Chain) -> HttpFields {
    let wanted = chain
        .http_fields()
        .flat_map(|name| request.values(name).map(move |value| (name.to_owned(), Secret::new(value))));
    HttpFields::new(wanted.collect())
}

async fn answer(stream: &mut Stream, upgrade: &Upgrade) -> std::io::Result<()> {
    stream.write_all(&upgrade.accepting()).await?;
    stream.flush().await
}

async fn turn_away(mut stream: Stream, turn: Turn, head_only: bool) -> Refusal {
    part(&mut stream, &turn.reply.bytes(head_only)).await;
    turn.refusal
}

/// For a person who looks with a browser: what this is, and how to go on. The daemon behind is not named, nor any version.
const PAGE: Answer = Answer {
    status: "200 OK",
    field: "",
    text: "This is the login gateway of a service, and no web site: programs log in here over WebSocket.\n\
           \n\
           \x20   countersign connect wss://USER@HOST:PORT/\n\
           \x20   xpra attach wss://USER@HOST:PORT/\n\
           \n\
           Write ws:// where the address of this page begins with http:// and not with https://.",
};
const NOT_FOUND: Answer = Answer { status: "404 Not Found", field: "", text: "There is nothing here." };
const NOT_ALLOWED: Answer = Answer {
    status: "405 Method Not Allowed",
    field: "Allow: GET, HEAD\r\n",
    text: "Only GET is answered here.",
};
const FORBIDDEN: Answer =
    Answer { status: "403 Forbidden", field: "", text: "Pages of this origin may not connect." };
