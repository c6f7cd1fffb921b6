//! What a call is answered with: a message or a refusal of our own, or the daemon's answer as it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::{
    HeaderMap, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::call::Live;
use crate::proto::wire::multipass::{self, Code, Message, Status, framed};

/// The body of every answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing: the status is in the headers.
    Empty,
    /// A message, then the status.
    Own(Option<Bytes>, Option<HeaderMap>),
    /// The daemon's.
    Passed(Incoming, Live),
}

/// A call that ends with `status` and nothing else: HTTP 200, trailers only.
pub(super) fn refused(status: &Status) -> Response<Answer> {
    let mut response = response(Answer::Empty);
    response.headers_mut().extend(trailers(status));
    response
}

/// A call that is answered with one message.
pub(super) fn replied(message: &impl Message) -> Response<Answer> {
    // No reply holds a secret: a passphrase is only ever told to be set.
    let bytes = Bytes::copy_from_slice(framed(message).expose());
    response(Answer::Own(Some(bytes), Some(trailers(&Status::new(Code::Ok, "")))))
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let status = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Own(message, trailers) => {
                let data = message.take().map(Frame::data);
                return Poll::Ready(data.or_else(|| trailers.take().map(Frame::trailers)).map(Ok));
            }
            // A certificate that was taken back ends its calls, also those that move no byte (S-40).
            Self::Passed(body, live) => match (live.has_ended(cx), poll_piece(body, cx)) {
                (true, _) => lost(),
                (_, Poll::Ready(Some(Ok(frame)))) => {
                    live.told(frame.data_ref().map_or(0, Bytes::len));
                    return Poll::Ready(Some(Ok(frame)));
                }
                // The daemon broke off: the client hears of it in gRPC's own way.
                (_, Poll::Ready(Some(Err(_)))) => broke_off(),
                (_, other) => return other,
            },
        };
        *self = Self::Empty;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Own(message, trailers) => message.is_none() && trailers.is_none(),
            Self::Passed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed(body, _) => body.size_hint(),
            Self::Empty | Self::Own(..) => SizeHint::default(),
        }
    }
}

/// The next frame that holds anything. Frames without a byte are counted as a flood at the next end (S-19), and they
/// are the library's way of telling an end as well.
pub(super) fn poll_piece(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    loop {
        let next = ready!(Pin::new(&mut *body).poll_frame(cx));
        let empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        if !next.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(empty)) {
            return Poll::Ready(next);
        }
    }
}

/// What a call hears whose certificate is accepted no more.
pub(super) fn lost() -> Status {
    Status::new(Code::Unauthenticated, "this client is not accepted any more: ask the owner of the machine")
}

fn broke_off() -> Status {
    Status::new(Code::Unavailable, "the service broke off the call, try again later")
}

fn response(body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(multipass::CONTENT_TYPE));
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let code = value(&status.code.number().to_string());
    headers.extend(code.map(|code| (HeaderName::from_static(Status::CODE_HEADER), code)));
    if !status.message.is_empty() {
        let text = value(&status.encoded_message());
        headers.extend(text.map(|text| (HeaderName::from_static(Status::MESSAGE_HEADER), text)));
    }
    headers
}
