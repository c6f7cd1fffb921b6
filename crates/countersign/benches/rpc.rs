//! What a call costs at the gateway beside a bare proxy of hyper: `cargo bench -p countersign --bench rpc`.
//!
//! Each proxy runs in a process of its own (this program, started again with a role), so that what is counted is
//! the proxy and not the load. The load is here: a client with a certificate that makes unary calls of 100 bytes,
//! so many at once, over one connection, and a daemon that sends each message back. The bare proxy is hyper and
//! rustls compiled here: it asks for the client's certificate as the gateway does, judges nothing and changes no
//! header. Processor time is user and system time from `/proc/PID/stat`; the proxies take turns, and the median
//! of the rounds is shown. `CALLS` and `ROUNDS` change the length.
#![cfg(target_os = "linux")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use countersign::{
    Peer,
    config::{Config, Layers, Paths},
    gateway::Gateway,
    modules::Registry,
    transport::{
        Stream,
        tls::{ClientTls, OldestVersion, ServerTls, Trust, certified_key},
    },
    trust::ServerIdentity,
};
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Bytes, Frame, Incoming},
    client::conn::http2 as client,
    header::HeaderValue,
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};

mod process;

use process::{cpu, number, resident};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", kind, folder] => role(kind, Path::new(folder)),
        // `cargo test --benches` runs this too; there is nothing to measure then.
        _ if words.contains(&"--test") => {}
        _ => compare(),
    }
}

const PROXIES: [(&str, &str); 2] =
    [("bare", "bare hyper and rustls proxy"), ("gateway", "gateway, certificate judged for each call")];

fn compare() {
    let (calls, rounds) = (number("CALLS", 40_000), number("ROUNDS", 5));
    println!("Unary calls of 100 bytes over TLS 1.3, median of {rounds} rounds of {calls} calls\n");
    println!(
        "| proxy | at once | calls/s | CPU us/call | to bare | resident, KiB |\n|---|---|---|---|---|---|"
    );
    for at_once in [1, 64] {
        let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((kind, _), samples) in PROXIES.iter().zip(&mut samples) {
                samples.push(measure(kind, at_once, calls / if at_once == 1 { 4 } else { 1 }));
            }
        }
        let medians = samples.map(median);
        let bare = medians[0].cpu;
        for ((_, title), Sample { wall, cpu, resident }) in PROXIES.iter().zip(medians) {
            let (rate, ratio) = (1.0 / wall, cpu / bare);
            println!("| {title} | {at_once} | {rate:.0} | {:.1} | {ratio:.2} | {resident:.0} |", cpu * 1e6);
        }
    }
}

/// Seconds for a call, and the memory of the proxy at the end.
struct Sample {
    wall: f64,
    cpu: f64,
    resident: f64,
}

fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    samples.swap_remove(samples.len() / 2)
}

fn measure(kind: &str, at_once: u64, calls: u64) -> Sample {
    let folder = tempfile::tempdir().expect("a folder");
    Runtime::new().expect("a runtime").block_on(async {
        let daemon = UnixListener::bind(folder.path().join("daemon")).expect("a socket");
        tokio::spawn(serve(daemon));
        let mut proxy = Proxy::start(kind, folder.path());
        let sender = connect(&folder.path().join("door")).await;
        run(&sender, at_once, calls / 10).await;
        let (start, before) = (Instant::now(), cpu(proxy.0.id()));
        run(&sender, at_once, calls).await;
        let (wall, after) = (start.elapsed().as_secs_f64(), cpu(proxy.0.id()));
        let resident = resident(proxy.0.id());
        proxy.end();
        let each = |seconds: f64| seconds / calls as f64;
        Sample { wall: each(wall), cpu: each(after - before), resident }
    })
}

/// Makes so many calls, and has so many under way until the end.
async fn run(sender: &client::SendRequest<Message>, at_once: u64, calls: u64) {
    let left = Arc::new(AtomicU64::new(calls));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (mut sender, left) = (sender.clone(), Arc::clone(&left));
        callers.spawn(async move {
            let another = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, another).is_ok() {
                call(&mut sender).await;
            }
        });
    }
    callers.join_all().await;
}

async fn call(sender: &mut client::SendRequest<Message>) {
    let body = Message([Frame::data(Bytes::from_static(&[0x5a; 100]))].into());
    let mut request = Request::post("https://localhost/bench.Echo/Unary").body(body).expect("a request");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    sender.ready().await.expect("the proxy takes calls");
    let response = sender.send_request(request).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a whole answer");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
}

/// A client with a certificate of its own, the first one at the gateway.
async fn connect(door: &Path) -> client::SendRequest<Message> {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = certified_key("client", certificate.as_bytes(), key.as_bytes()).expect("a pair");
    let tls = ClientTls::new(&Trust::Unverified, Some(identity), OldestVersion::Tls13).expect("a client");
    let stream = Stream::new(UnixStream::connect(door).await.expect("the proxy listens"));
    let deadline = Instant::now() + Duration::from_secs(10);
    let connected = tls.speaking(&["h2"]).connect(stream, "localhost", deadline).await.expect("a handshake");
    let io = TokioIo::new(connected.into_stream_of_judged_server());
    let (sender, connection) =
        client::Builder::new(TokioExecutor::new()).handshake(io).await.expect("HTTP/2 starts");
    tokio::spawn(connection);
    sender
}

/// The daemon: every message comes back.
async fn serve(listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(async |request: Request<Incoming>| {
            let bytes = request.into_body().collect().await.expect("a message").to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Frame::data(bytes), Frame::trailers(trailers)];
            Ok::<_, Infallible>(Response::new(Message(frames.into())))
        });
        let http = server::Builder::new(TokioExecutor::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

struct Message(VecDeque<Frame<Bytes>>);

impl Body for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A proxy in a process of its own.
struct Proxy(Child);

impl Proxy {
    fn start(kind: &str, folder: &Path) -> Self {
        let mut process = Command::new(env::current_exe().expect("this program"))
            .args(["role", kind])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let output = process.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut String::new()).expect("it is ready");
        Self(process)
    }

    fn end(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

fn role(kind: &str, folder: &Path) {
    let (door, daemon) = (folder.join("door"), folder.join("daemon"));
    let runtime = Runtime::new().expect("a runtime");
    match kind {
        "gateway" => runtime.block_on(gateway(folder, &door, &daemon)),
        _ => runtime.block_on(bare(folder, &door, daemon)),
    }
}

async fn gateway(folder: &Path, door: &Path, daemon: &Path) {
    let mut layers = Layers::default();
    let bind = format!("unix:{},backend=unix:{}", door.display(), daemon.display());
    layers.flag("bind-rpc", &bind).expect("a socket");
    layers.flag("state-dir", folder.join("state").to_str().expect("a path")).expect("a folder");
    let nowhere = "/nonexistent";
    let paths = Paths::new(true, nowhere, nowhere, nowhere);
    let config = Config::new(&layers, &Registry::builtin(), &paths).expect("a configuration");
    let gateway = Gateway::open(&config).await.expect("it opens");
    println!("ready");
    gateway.run(std::future::pending(), std::future::pending()).await;
}

/// TLS and HTTP/2 on one side, HTTP/2 on the other, and every request as it comes.
async fn bare(folder: &Path, door: &Path, daemon: PathBuf) {
    let identity =
        ServerIdentity::open(&folder.join("state"), "localhost", SystemTime::now()).expect("an identity");
    let tls = ServerTls::speaking(identity.certified_key(), OldestVersion::Tls12, &["h2"]).expect("a server");
    let (tls, listener) = (Arc::new(tls), UnixListener::bind(door).expect("a socket"));
    println!("ready");
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, daemon) = (Arc::clone(&tls), daemon.clone());
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(10);
            let secured = tls.accept(Stream::new(stream), Peer::unix(None), deadline).await;
            let (stream, _) = secured.expect("a handshake");
            let behind = UnixStream::connect(daemon).await.expect("the daemon");
            let (sender, connection) = client::Builder::new(TokioExecutor::new())
                .handshake::<_, Incoming>(TokioIo::new(behind))
                .await
                .expect("HTTP/2 starts");
            tokio::spawn(connection);
            let service = service_fn(move |request| sender.clone().send_request(request));
            let http = server::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
