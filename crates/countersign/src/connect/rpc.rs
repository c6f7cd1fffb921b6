//! Calls to a server that lets certificates in: ours, or one that speaks Multipass's RPC.
//!
//! [`Connector::calls`] opens a connection on which a few gRPC calls are made, each of one message
//! either way, over HTTP/2 in TLS. The server is known as everywhere (S-43); it says by ALPN that it
//! takes calls, so that nothing of them reaches a daemon that speaks something else. Rules of the
//! wire: doc/PROTOCOL-HTTP2.md of gRPC. What the server sends is bounded, and escaped where it is shown.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http2::{Builder, SendRequest},
    header::{CONTENT_TYPE, HeaderValue, TE},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{SignatureScheme, sign::CertifiedKey};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    driver::Connector,
    error::{Cause, ConnectError},
};
use crate::{
    Secret,
    proto::{
        client::{FailureKind, quotable},
        wire::multipass::{
            self, AuthenticateReply, AuthenticateRequest, Code, Frames, GetReply, GetRequest, Message,
            PASSPHRASE_KEY, RenewReply, RenewRequest, SetReply, SetRequest, Status, framed, path,
        },
    },
    transport::{Address, tls::Fingerprint},
};

impl Connector {
    /// Connects for calls: TLS with a server that offers them, and HTTP/2.
    ///
    /// # Errors
    /// The server cannot be reached or verified, or takes no calls.
    pub async fn calls(&self) -> Result<Calls, ConnectError> {
        let uri = self.uri();
        if !uri.tls {
            let why = "calls are made inside TLS only: the certificate is what they are about";
            return Err(ConnectError::new(Cause::Usage, uri.to_string(), why)
                .with_fix("write tls://HOST:PORT or tls+unix:PATH"));
        }
        let reached = self.dial().speaking(PROTOCOLS).reach().await?;
        if reached.protocol.is_none() {
            let why = "the server takes no calls here: it lets nobody in by certificate on this socket";
            return Err(ConnectError::new(Cause::Unverified, uri.to_string(), why)
                .with_fix("use the address of a socket with auth=certificate, or of --bind-rpc"));
        }
        let authority = match &uri.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            _ => "localhost".to_owned(),
        };
        let server = uri.to_string();
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MOST_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(reached.stream));
        let (sender, connection) = match timeout(PATIENCE, handshake).await {
            Ok(done) => done.map_err(|error| broken(&server, &error))?,
            Err(_) => return Err(late(&server)),
        };
        let running = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("the connection for calls ended: {error}");
            }
        });
        Ok(Calls {
            server,
            authority,
            sender,
            shown: reached.shown,
            channel_binding: reached.channel_binding,
            patience: PATIENCE,
            running,
        })
    }
}

/// A connection to a server on which calls are made.
pub struct Calls {
    server: String,
    authority: String,
    sender: SendRequest<Once>,
    shown: Option<Fingerprint>,
    channel_binding: Option<Arc<[u8]>>,
    /// How long a call may take.
    patience: Duration,
    running: JoinHandle<()>,
}

impl Calls {
    /// Has the certificate that was shown on this connection accepted, for the passphrase of the server
    /// or an invitation.
    ///
    /// # Errors
    /// No certificate was shown, or the server says no: 77 where the secret is wrong, spent, or there is
    /// none to be right, 75 where there were too many tries.
    pub async fn authenticate(&self, secret: Secret) -> Result<(), ConnectError> {
        if self.shown.is_none() {
            return Err(self.without_certificate());
        }
        let request = AuthenticateRequest::new(secret);
        let _: Option<AuthenticateReply> = self.call(path::AUTHENTICATE, &request, |_, last| last).await?;
        Ok(())
    }

    /// Whether the server has a passphrase.
    ///
    /// # Errors
    /// The certificate that was shown is not accepted (77), or the call fails.
    pub async fn passphrase_is_set(&self) -> Result<bool, ConnectError> {
        // Servers may send lines of their log as replies of their own, without a value.
        let valued = |before: Option<GetReply>, reply: GetReply| match before {
            Some(before) if reply.value.is_empty() => before,
            _ => reply,
        };
        let reply = self.call(path::GET, &GetRequest::new(PASSPHRASE_KEY), valued).await?;
        Ok(reply.is_some_and(|reply| !reply.value.is_empty()))
    }

    /// Sets the server's passphrase; an empty one unsets it.
    ///
    /// # Errors
    /// As [`Calls::passphrase_is_set`], and where the server does not take such a passphrase.
    pub async fn set_passphrase(&self, passphrase: Secret) -> Result<(), ConnectError> {
        let request = SetRequest::new(PASSPHRASE_KEY, passphrase);
        let reply: Option<SetReply> = self.call(path::SET, &request, |_, last| last).await?;
        match reply.filter(|reply| reply.needs_authorization) {
            None => Ok(()),
            Some(reply) => Err(self.misbehaved(&format!(
                "it asks a question that is not about a passphrase: \"{}\"",
                quotable(&reply.reply_message)
            ))),
        }
    }

    /// Has the certificate that was shown on this connection take the place of `old`, which is accepted:
    /// its key signs for the new one, on this connection and no other (S-35).
    ///
    /// # Errors
    /// The connection is not TLS 1.3, no certificate was shown, the old key is not on P-256, or the server
    /// says no.
    pub async fn renew(&self, old: &CertifiedKey) -> Result<(), ConnectError> {
        let Some(newcomer) = self.shown else { return Err(self.without_certificate()) };
        let statement =
            self.channel_binding.as_ref().map(|binding| RenewRequest::statement(binding, &newcomer.0));
        let proof = statement.and_then(|statement| sign(old, &statement));
        let Some((certificate, proof)) = old.cert.first().zip(proof) else {
            let why = "the new certificate cannot be vouched for: that takes TLS 1.3 and a key on P-256";
            return Err(ConnectError::new(Cause::System, self.server.clone(), why)
                .with_fix("have the new certificate accepted: countersign authenticate"));
        };
        let request = RenewRequest::new(certificate.to_vec(), proof);
        let _: Option<RenewReply> = self.call(path::RENEW, &request, |_, last| last).await?;
        Ok(())
    }

    /// The certificate that the server asked for and was shown.
    pub fn shown(&self) -> Option<Fingerprint> {
        self.shown
    }

    /// One call: the request out, the replies in, folded into one, and the status.
    async fn call<R: Message>(
        &self,
        path: &'static str,
        request: &impl Message,
        fold: impl Fn(Option<R>, R) -> R,
    ) -> Result<Option<R>, ConnectError> {
        let request = self.request(path, framed(request))?;
        let mut sender = self.sender.clone();
        let call = async {
            sender.ready().await.map_err(|error| broken(&self.server, &error))?;
            let response = sender.send_request(request).await;
            self.read(response.map_err(|error| broken(&self.server, &error))?, fold).await
        };
        let (reply, status) =
            timeout(self.patience, call).await.unwrap_or_else(|_| Err(late(&self.server)))?;
        if status.code == Code::Ok { Ok(reply) } else { Err(self.refused(path, &status)) }
    }

    fn request(&self, path: &str, message: Secret) -> Result<Request<Once>, ConnectError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{path}", self.authority))
            .header(TE, HeaderValue::from_static("trailers"))
            .header(CONTENT_TYPE, HeaderValue::from_static(multipass::CONTENT_TYPE))
            .header("grpc-timeout", HeaderValue::from_static(TIMEOUT))
            .header("user-agent", concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .body(Once::new(message));
        request.map_err(|error| {
            ConnectError::new(Cause::Usage, self.server.clone(), error.to_string())
                .with_fix("write the host name as it is in the server's certificate")
        })
    }

    /// Reads replies and status, within limits.
    async fn read<R: Message>(
        &self,
        response: Response<Incoming>,
        fold: impl Fn(Option<R>, R) -> R,
    ) -> Result<(Option<R>, Status), ConnectError> {
        let (head, mut body) = response.into_parts();
        // What ends at once has its status where the trailers are not ("Trailers-Only").
        if let Some(status) = status_in(&head.headers) {
            return Ok((None, status));
        }
        if head.status != StatusCode::OK {
            return Ok((None, Status::new(code_of(head.status), format!("HTTP status {}", head.status))));
        }
        let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(multipass::CONTENT_TYPE.as_bytes());
        if !head.headers.get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(self.misbehaved("it does not answer in gRPC"));
        }
        let (mut frames, mut reply, mut room) = (Frames::new(), None, MOST_REPLIES);
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| broken(&self.server, &error))?;
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let whole = frames.is_between_messages();
                    return match status_in(&trailers) {
                        Some(status) if whole || status.code != Code::Ok => Ok((reply, status)),
                        _ => Err(self.misbehaved("its answer ends in the middle")),
                    };
                }
            };
            room = room.checked_sub(data.len()).ok_or_else(|| self.misbehaved("its answer is too long"))?;
            let mut rest = &*data;
            let wrong = |error: multipass::WireError| self.misbehaved(&error.to_string());
            while let Some(message) = frames.read(&mut rest).map_err(wrong)? {
                reply = Some(fold(reply, R::decode(message.expose()).map_err(wrong)?));
            }
        }
        Err(self.misbehaved("its answer has no status"))
    }

    /// What a status other than OK means to whoever called.
    fn refused(&self, path: &str, status: &Status) -> ConnectError {
        let (cause, why, fix) = meaning(path, status.code);
        let said = match status.message.as_str() {
            "" => String::new(),
            said => format!(" (it says: \"{}\")", quotable(said)),
        };
        ConnectError::new(cause, self.server.clone(), format!("{why}{said}")).with_fix(fix)
    }

    fn misbehaved(&self, why: &str) -> ConnectError {
        let cause = Cause::Login(FailureKind::Misbehaved);
        ConnectError::new(cause, self.server.clone(), format!("the server breaks the protocol: {why}"))
            .with_fix("check that the address is a server that lets certificates in")
    }

    fn without_certificate(&self) -> ConnectError {
        let why = "the server asked for no certificate, or was shown none: there is nothing to accept";
        ConnectError::new(Cause::Login(FailureKind::NoCredential), self.server.clone(), why)
            .with_fix("leave out --cert none, and see that the home directory can be written to")
    }
}

/// Nobody waits for the connection any more.
impl Drop for Calls {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("server", &self.server)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// A body of one message, which zeroes itself when it was sent.
struct Once(Option<Bytes>);

impl Once {
    fn new(message: Secret) -> Self {
        struct Shared(Secret);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                self.0.expose()
            }
        }
        Self(Some(Bytes::from_owner(Shared(message))))
    }
}

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// Signs with a key on P-256: ECDSA with SHA-256, in ASN.1. `None`: the key is of another kind.
fn sign(key: &CertifiedKey, statement: &[u8]) -> Option<Vec<u8>> {
    key.key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?.sign(statement).ok()
}

fn status_in(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get(Status::CODE_HEADER)?;
    let message = headers.get(Status::MESSAGE_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut status = Status::read(code.as_bytes(), message);
    // For whoever asks the server's owner what the matter was.
    let session = headers.get(Status::SESSION_HEADER).and_then(|session| session.to_str().ok());
    if let Some(session) = session.filter(|_| !status.message.is_empty()) {
        status.message = format!("{} [session {session}]", status.message);
    }
    Some(status)
}

/// What a proxy in between means (doc/http-grpc-status-mapping.md of gRPC).
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Whose affair a status is, what it means, and the way out.
fn meaning(path: &str, code: Code) -> (Cause, &'static str, &'static str) {
    let refused = Cause::Login(FailureKind::Refused);
    match (code, path) {
        (Code::InvalidArgument, path::AUTHENTICATE) => (
            refused,
            "the passphrase or invitation is wrong",
            "try again, or ask whoever runs the server for an invitation: countersign trust invite",
        ),
        (Code::FailedPrecondition, path::AUTHENTICATE) => (
            refused,
            "the server has no passphrase",
            "ask somebody who is accepted there to run `countersign set local.passphrase`, or whoever runs the \
             server for an invitation: countersign trust invite",
        ),
        (Code::InvalidArgument, path::SET) => {
            (refused, "the server does not take such a passphrase", "choose a longer one")
        }
        (Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument, path::RENEW) => (
            refused,
            "the old certificate is not accepted, or did not sign for the new one",
            "have the new certificate accepted: countersign authenticate",
        ),
        (Code::Unauthenticated | Code::PermissionDenied, _) => (
            refused,
            "your certificate is not accepted there",
            "have it accepted with a passphrase or invitation: countersign authenticate",
        ),
        (Code::ResourceExhausted | Code::Aborted, _) => {
            (Cause::Login(FailureKind::Busy), "there were too many tries", "wait, and try again later")
        }
        (Code::Unavailable, _) => {
            (Cause::Unreachable, "the server is not available", "check that it runs, and try again")
        }
        (Code::DeadlineExceeded | Code::Cancelled, _) => {
            (Cause::Login(FailureKind::Timeout), "the server took too long", "try again later")
        }
        (Code::Unimplemented, _) => (
            Cause::Unverified,
            "the server does not know this call",
            "check the address, and the server's version",
        ),
        _ => (Cause::System, "the server failed", "look into the server's log"),
    }
}

fn broken(server: &str, error: &hyper::Error) -> ConnectError {
    let why = format!("the connection broke: {}", quotable(&error.to_string()));
    ConnectError::new(Cause::Login(FailureKind::Closed), server.to_owned(), why)
        .with_fix("check that the address is a server that lets certificates in, and its log")
}

fn late(server: &str) -> ConnectError {
    ConnectError::new(Cause::Login(FailureKind::Timeout), server.to_owned(), "there was no answer in time")
        .with_fix("try again later")
}

/// What the server may choose from by ALPN: ours on every socket with certificates, and gRPC's own.
const PROTOCOLS: &[&str] = &["countersign", "h2"];

/// How long a call may take. Hashing a passphrase takes a second on a slow machine, and may have to
/// wait for others.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same, as the server is told.
const TIMEOUT: &str = "30S";

/// Bytes of headers in an answer.
const MOST_HEADERS: u32 = 16 * 1024;

/// Bytes that the server may send ahead; more than one message.
const WINDOW: u32 = 128 * 1024;

/// Bytes of all replies of a call.
const MOST_REPLIES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
