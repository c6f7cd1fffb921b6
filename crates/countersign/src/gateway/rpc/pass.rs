//! A call that passes to the daemon and back: messages, order, metadata, trailers and ends as they are.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use hyper::{
    HeaderMap, Request, Response, Uri,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{HeaderName, HeaderValue},
    http::uri::Scheme,
};

use super::{
    answer::{Answer, poll_piece, refused, replied},
    call::{Calls, Live, Traffic},
};
use crate::{
    Grant,
    backend::{self, SessionFacts},
    proto::wire::multipass::{Code, PingReply, Status, path, percent_encoded},
};

/// Passes a call on. `read` is what was read of it already.
pub(super) async fn on(
    calls: &Calls,
    grant: &Grant,
    request: Request<Incoming>,
    read: Vec<Bytes>,
    mut live: Live,
) -> Response<Answer> {
    if calls.hall().backend.is_builtin() {
        return without_daemon(request.uri().path());
    }
    let request = forwarded(calls, grant, request, read, &live);
    let answered = tokio::select! {
        biased;
        ended = live.ended() => return ended,
        answered = calls.link().send(grant, calls.facts(), request) => answered,
    };
    match answered {
        Ok(response) => response.map(|body| Answer::Passed(body, live)),
        Err(error) => {
            let cause = error.cause().escape_debug();
            tracing::warn!(socket = &*calls.hall().name, "the daemon behind cannot be reached: {cause}");
            // S-86: without paths and addresses.
            refused(&Status::new(Code::Unavailable, error.to_string()))
        }
    }
}

/// Who is there. Metadata is ASCII: names are encoded as gRPC encodes its own text.
pub(super) fn metadata(
    grant: &Grant,
    facts: &SessionFacts,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    backend::metadata_of(grant, facts).into_iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_str(&percent_encoded(&value)).ok()?;
        Some((HeaderName::from_static(name), value))
    })
}

fn without_daemon(path: &str) -> Response<Answer> {
    match path {
        path::PING => replied(&PingReply::default()),
        _ => refused(&Status::new(
            Code::Unimplemented,
            "no daemon takes calls here: the owner of the machine adds bind-rpc with backend=unix:PATH",
        )),
    }
}

/// The request as the daemon sees it: who is there is told by us alone (S-82).
fn forwarded(
    calls: &Calls,
    grant: &Grant,
    request: Request<Incoming>,
    read: Vec<Bytes>,
    live: &Live,
) -> Request<Upward> {
    let (mut parts, body) = request.into_parts();
    parts.uri = over(calls.hall().backend.scheme(), parts.uri);
    without_ours(&mut parts.headers);
    parts.headers.extend(calls.metadata(grant).iter().cloned());
    let pieces = read.into_iter().rev().collect();
    Request::from_parts(parts, Upward { pieces, body, traffic: Arc::clone(live.traffic()) })
}

/// The same address, with the scheme of the wire to the daemon (RFC 9113 8.3.1).
fn over(scheme: Scheme, uri: Uri) -> Uri {
    if uri.scheme() == Some(&scheme) || uri.authority().is_none() {
        return uri;
    }
    let mut parts = uri.into_parts();
    parts.scheme = Some(scheme);
    Uri::from_parts(parts).unwrap_or_default()
}

/// Removes what only the gateway may say. Names of metadata are lower case, and some servers take `_` for `-`.
fn without_ours(headers: &mut HeaderMap) {
    let ours = |name: &str| {
        let rest = name.strip_prefix("countersign");
        rest.is_some_and(|rest| rest.starts_with(['-', '_']))
    };
    let forged: Vec<HeaderName> = headers.keys().filter(|name| ours(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// The client's side of a call, on its way to the daemon.
#[derive(Debug)]
pub(super) struct Upward {
    /// What was read ahead, last first.
    pieces: Vec<Bytes>,
    body: Incoming,
    traffic: Arc<Traffic>,
}

impl Body for Upward {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match self.pieces.pop() {
            Some(piece) => Frame::data(piece),
            None => match ready!(poll_piece(&mut self.body, cx)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            },
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                self.traffic.to_backend.fetch_add(data.len() as u64, Ordering::Relaxed);
                Frame::data(data)
            }
            Err(frame) => match frame.into_trailers() {
                Ok(mut trailers) => {
                    without_ours(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // A declared length counts what was read ahead too, and the header tells it already.
        if self.pieces.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_082_what_only_the_gateway_says_is_removed_in_every_spelling() {
        let mut headers = HeaderMap::new();
        for name in ["countersign-user", "countersign_user", "countersign-x-bin", "Countersign-Proofs"] {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("root"));
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("bob"));
        }
        headers.insert("countersigned", HeaderValue::from_static("kept"));
        headers.insert("x-countersign-user", HeaderValue::from_static("kept"));
        without_ours(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
    }

    #[test]
    fn the_scheme_is_that_of_the_wire_to_the_daemon() {
        let uri = Uri::from_static("https://localhost/multipass.Rpc/list");
        assert_eq!(over(Scheme::HTTP, uri.clone()), "http://localhost/multipass.Rpc/list");
        assert_eq!(over(Scheme::HTTPS, uri.clone()), uri);
    }
}
