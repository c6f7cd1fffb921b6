//! Calls to servers made for the purpose: over our TLS and hyper's HTTP/2, answering what each test wants.

use std::collections::VecDeque;

use hyper::{server::conn::http2, service::service_fn};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::{
    Peer,
    connect::{Nobody, ServerTrust, Uri},
    transport::{
        Stream,
        tls::{OldestVersion, ServerTls, certified_key, has_signed},
    },
};

/// Data frames, then trailers.
#[derive(Clone, Default)]
struct Scripted {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    frames: VecDeque<Vec<u8>>,
    trailers: Option<Vec<(&'static str, &'static str)>>,
    hangs: bool,
}

/// What gRPC answers: replies, and a status behind them.
fn replies(messages: &[Secret], code: &'static str, text: &'static str) -> Scripted {
    Scripted {
        status: 200,
        headers: vec![("content-type", "application/grpc+proto")],
        frames: messages.iter().map(|message| message.expose().to_vec()).collect(),
        trailers: Some(vec![("grpc-status", code), ("grpc-message", text)]),
        hangs: false,
    }
}

/// The status alone, where headers are.
fn at_once(code: &'static str, text: &'static str) -> Scripted {
    let headers = vec![("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", text)];
    Scripted { status: 200, headers, ..Scripted::default() }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(data) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data.into()))));
        }
        if self.hangs {
            return Poll::Pending;
        }
        Poll::Ready(self.trailers.take().map(|pairs| Ok(Frame::trailers(headers(&pairs)))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.trailers.is_none() && !self.hangs
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

/// A request as the server heard it.
#[derive(Clone, Debug)]
struct Heard {
    head: String,
    message: Vec<u8>,
    peer: Peer,
}

/// A server on loopback, whose certificate is remembered in the trust it comes with.
struct Server {
    port: u16,
    trust: ServerTrust,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// Answers every call in the same way, if the client speaks one of these protocols.
    async fn answering(script: Scripted, protocols: &[&str]) -> Self {
        let (identity, certificate) = pair("localhost");
        let tls = Arc::new(ServerTls::speaking(identity, OldestVersion::Tls13, protocols).unwrap());
        let trust =
            ServerTrust { pin: Some(Fingerprint::of_certificate(&certificate)), ..ServerTrust::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                let peer = Peer::tcp(from, socket.local_addr().unwrap());
                let soon = std::time::Instant::now() + Duration::from_secs(10);
                let Ok((stream, peer)) = tls.accept(Stream::new(socket), peer, soon).await else { continue };
                let (script, log) = (script.clone(), Arc::clone(&log));
                let service =
                    service_fn(move |request| hear(request, script.clone(), peer.clone(), Arc::clone(&log)));
                let serving =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Self { port, trust, heard }
    }

    async fn calls(&self) -> Calls {
        self.connector().with_identity(pair("client").0).calls().await.unwrap()
    }

    fn connector(&self) -> Connector {
        let uri = Uri::for_calls(&format!("127.0.0.1:{}", self.port)).unwrap();
        Connector::new(uri).with_trust(self.trust.clone()).with_person(Arc::new(Nobody))
    }
}

/// Takes the whole request in, and answers.
async fn hear(
    request: Request<Incoming>,
    script: Scripted,
    peer: Peer,
    log: Arc<Mutex<Vec<Heard>>>,
) -> Result<Response<Scripted>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut message = Vec::new();
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        message.extend(frame.into_data().unwrap());
    }
    log.lock().push(Heard { head: format!("{head:?}"), message, peer });
    let mut response = Response::builder().status(script.status);
    *response.headers_mut().unwrap() = headers(&script.headers);
    Ok(response.body(script).unwrap())
}

/// A key with its certificate, and the certificate in DER.
fn pair(name: &str) -> (Arc<rustls::sign::CertifiedKey>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    (certified_key(name, pem.as_bytes(), key.as_bytes()).unwrap(), made.cert.der().to_vec())
}

const GRPC: &[&str] = &["h2"];

#[tokio::test]
async fn a_call_is_what_grpc_says_a_call_is() {
    let server = Server::answering(replies(&[framed(&AuthenticateReply::default())], "0", ""), GRPC).await;
    server.calls().await.authenticate(Secret::new("four words of sense")).await.unwrap();
    let heard = server.heard.lock().pop().unwrap();
    for part in [
        "method: POST",
        "/multipass.Rpc/authenticate",
        "\"te\": \"trailers\"",
        "\"content-type\": \"application/grpc\"",
        "\"grpc-timeout\": \"30S\"",
    ] {
        assert!(heard.head.contains(part), "{part}: {}", heard.head);
    }
    let message = Frames::new().read(&mut heard.message.as_slice()).unwrap().unwrap();
    let request = AuthenticateRequest::decode(message.expose()).unwrap();
    assert_eq!(request.passphrase.expose(), b"four words of sense");
    assert!(heard.peer.certificate.is_some(), "the certificate is what it is about");
}

#[tokio::test]
async fn a_server_of_ours_or_multipasss_is_called_and_another_is_not_spoken_to() {
    for protocols in [&["countersign", "h2"][..], &["h2"], &["countersign"]] {
        let server = Server::answering(at_once("0", ""), protocols).await;
        assert!(server.calls().await.authenticate(Secret::new("x")).await.is_ok(), "{protocols:?}");
    }
    let silent = Server::answering(at_once("0", ""), &[]).await;
    let error = silent.connector().calls().await.unwrap_err();
    assert_eq!(error.exit_code(), 76);
    assert!(error.fix().unwrap().contains("auth=certificate"), "{error}");
    assert!(silent.heard.lock().is_empty());
    let clear = Connector::new("tcp://127.0.0.1:1".parse().unwrap()).calls().await.unwrap_err();
    assert_eq!(clear.exit_code(), 2);
}

#[tokio::test]
async fn each_status_has_its_exit_code_and_its_way_out_wherever_it_stands() {
    for (code, exit, way_out) in [
        ("3", 77, "invitation"),
        ("9", 77, "set local.passphrase"),
        ("16", 77, "countersign authenticate"),
        ("7", 77, "countersign authenticate"),
        ("8", 75, "later"),
        ("14", 69, "check that it runs"),
        ("4", 69, "later"),
        ("12", 76, "version"),
        ("13", 1, "log"),
        ("99", 1, "log"),
    ] {
        for script in
            [at_once(code, "no%0Aentry%1B[2J %E2%82%AC"), replies(&[], code, "no%0Aentry%1B[2J %E2%82%AC")]
        {
            let server = Server::answering(script, GRPC).await;
            let error = server.calls().await.authenticate(Secret::new("x")).await.unwrap_err();
            assert_eq!(error.exit_code(), exit, "{code}: {error}");
            assert!(error.fix().unwrap().contains(way_out), "{code}: {:?}", error.fix());
            // S-46: the server's words are shown as its words, and move no cursor.
            let text = error.to_string();
            assert!(text.contains("it says: \"no") && !text.contains(['\n', '\u{1b}']), "{text}");
        }
    }
}

#[tokio::test]
async fn the_passphrase_is_asked_for_set_and_unset() {
    let valued = |value: &str| framed(&GetReply::new(value));
    let log_line = || framed(&GetReply::new(""));
    for (messages, is_set) in [
        (vec![valued("true")], true),
        (vec![valued("")], false),
        (vec![], false),
        (vec![log_line(), valued("true"), log_line()], true),
    ] {
        let server = Server::answering(replies(&messages, "0", ""), GRPC).await;
        assert_eq!(server.calls().await.passphrase_is_set().await.unwrap(), is_set);
    }
    let server = Server::answering(replies(&[framed(&SetReply::default())], "0", ""), GRPC).await;
    let calls = server.calls().await;
    calls.set_passphrase(Secret::new("four words of sense")).await.unwrap();
    calls.set_passphrase(Secret::new("")).await.unwrap();
    let heard: Vec<SetRequest> = server
        .heard
        .lock()
        .iter()
        .map(|heard| Frames::new().read(&mut heard.message.as_slice()).unwrap().unwrap())
        .map(|message| SetRequest::decode(message.expose()).unwrap())
        .collect();
    assert!(heard.iter().all(|request| request.key == "local.passphrase"));
    assert_eq!(heard[0].val.expose(), b"four words of sense");
    assert!(heard[1].val.is_empty());
    let mut question = SetReply::default();
    question.needs_authorization = true;
    let asking = Server::answering(replies(&[framed(&question)], "0", ""), GRPC).await;
    assert!(asking.calls().await.set_passphrase(Secret::new("x")).await.is_err());
}

#[tokio::test]
async fn s_019_what_a_server_sends_is_bounded_and_judged() {
    let good = || framed(&GetReply::new("true")).expose().to_vec();
    let large = framed(&GetReply::new("x".repeat(60_000))).expose().to_vec();
    let with = |frames: Vec<Vec<u8>>| Scripted { frames: frames.into(), ..replies(&[], "0", "") };
    let plain = |kind| Scripted { headers: vec![("content-type", kind)], ..with(vec![good()]) };
    for (script, why) in [
        (with(vec![vec![0, 0xff, 0xff, 0xff, 0xff]]), "size is over the limit"),
        (with(vec![vec![1, 0, 0, 0, 0]]), "compressed"),
        (with(vec![vec![0, 0, 0, 0, 9, 1]]), "ends in the middle"),
        (with(vec![vec![0, 0, 0, 0, 1, 0xff]]), "message"),
        (with(vec![large; 5]), "too long"),
        (Scripted { trailers: None, ..with(vec![good()]) }, "no status"),
        (Scripted { trailers: Some(vec![("x", "y")]), ..with(vec![good()]) }, "ends in the middle"),
        (plain("text/html"), "does not answer in gRPC"),
    ] {
        let server = Server::answering(script, GRPC).await;
        let error = server.calls().await.passphrase_is_set().await.unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    for (status, exit) in [(503, 69), (403, 77), (404, 76), (500, 1)] {
        let server = Server::answering(Scripted { status, ..Scripted::default() }, GRPC).await;
        assert_eq!(server.calls().await.passphrase_is_set().await.unwrap_err().exit_code(), exit, "{status}");
    }
}

#[tokio::test]
async fn s_001_a_server_that_never_answers_is_left() {
    let server = Server::answering(Scripted { hangs: true, ..replies(&[], "0", "") }, GRPC).await;
    let mut calls = server.calls().await;
    calls.patience = Duration::from_millis(50);
    let error = calls.passphrase_is_set().await.unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn without_a_certificate_there_is_nothing_to_accept() {
    let server = Server::answering(at_once("0", ""), GRPC).await;
    let calls = server.connector().calls().await.unwrap();
    let error = calls.authenticate(Secret::new("x")).await.unwrap_err();
    assert_eq!((error.exit_code(), server.heard.lock().len()), (79, 0), "{error}");
    assert_eq!(calls.renew(&pair("old").0).await.unwrap_err().exit_code(), 79);
}

#[tokio::test]
async fn s_035_a_renewal_is_signed_by_the_old_key_for_this_connection_and_no_other() {
    let server = Server::answering(replies(&[framed(&RenewReply::default())], "0", ""), GRPC).await;
    let (old, certificate) = pair("old");
    for _ in 0..2 {
        let calls = server.calls().await;
        calls.renew(&old).await.unwrap();
    }
    let heard = server.heard.lock().clone();
    let requests: Vec<RenewRequest> = heard
        .iter()
        .map(|heard| Frames::new().read(&mut heard.message.as_slice()).unwrap().unwrap())
        .map(|message| RenewRequest::decode(message.expose()).unwrap())
        .collect();
    let statement = |heard: &Heard| {
        let newcomer = heard.peer.certificate.as_ref().unwrap().fingerprint;
        RenewRequest::statement(heard.peer.channel_binding.as_ref().unwrap(), &newcomer)
    };
    for (position, request) in requests.iter().enumerate() {
        assert_eq!(request.certificate, certificate);
        assert!(has_signed(&certificate, &statement(&heard[position]), &request.proof));
        assert!(!has_signed(&certificate, &statement(&heard[1 - position]), &request.proof), "a replay");
    }
    let calls = server.calls().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let other = certified_key("other", pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    assert!(calls.renew(&other).await.unwrap_err().to_string().contains("P-256"));
}
