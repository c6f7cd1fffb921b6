//! What the hand-over costs: processor time per byte beside `socat`, and memory per idle connection.
//!
//! `cargo bench -p countersign --bench relay`. Each relay runs in a process of its own (this program,
//! started again with a role), so that what is counted is the relay and not the load. The load is two
//! threads here: one writes blocks of 256 KiB, one reads them. Processor time is user and system time
//! from `/proc/PID/stat`, memory is `VmRSS` from `/proc/PID/status`. The relays take turns, and the
//! median of the rounds is shown. `GIGABYTES` and `ROUNDS` change the length.
#![cfg(target_os = "linux")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use countersign::{
    Peer,
    gateway::handover::{Control, relay},
    transport::{
        Stream,
        tls::{ClientTls, OldestVersion, ServerTls, Trust, certified_key},
    },
    trust::ServerIdentity,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
};

mod process;

use process::{cpu, number, resident};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", kind, backend, state] => role(kind, backend, state),
        // `cargo test --benches` runs this too; there is nothing to measure then.
        _ if words.contains(&"--test") => {}
        _ => {
            throughput();
            idle();
        }
    }
}

/// The relays that are compared. The last two are children only where `socat` is installed.
const RELAYS: [(&str, &str); 5] = [
    ("relay", "countersign, plain (splice once busy)"),
    ("copy", "tokio copy_bidirectional, 64 KiB"),
    ("tls", "countersign, TLS 1.3 client, plain backend"),
    ("socat", "socat, as it comes (8 KiB)"),
    ("socat64", "socat -b 65536"),
];

fn throughput() {
    let gigabytes = number("GIGABYTES", 2);
    let rounds = number("ROUNDS", 3);
    let socat = Command::new("socat").arg("-V").output().is_ok();
    let mut samples: Vec<(&str, Vec<Sample>)> = RELAYS
        .iter()
        .filter(|(kind, _)| socat || !kind.starts_with("socat"))
        .map(|(_, title)| (*title, Vec::new()))
        .collect();
    for _ in 0..rounds {
        for ((kind, _), (_, samples)) in RELAYS.iter().zip(&mut samples) {
            samples.push(measure(kind, gigabytes << 30));
        }
    }
    println!("Throughput, one TCP connection over loopback, {gigabytes} GiB, median of {rounds} rounds\n");
    println!("| relay | GiB/s | CPU s/GiB | to socat |\n|---|---|---|---|");
    let medians: Vec<(&str, Sample)> =
        samples.into_iter().map(|(title, samples)| (title, median(samples))).collect();
    let of_socat = medians.get(3).map(|(_, sample)| sample.cpu);
    let gib = gigabytes as f64;
    for (title, sample) in medians {
        let ratio = of_socat.map_or_else(|| "-".to_owned(), |socat| format!("{:.2}", sample.cpu / socat));
        println!("| {title} | {:.2} | {:.3} | {ratio} |", gib / sample.wall, sample.cpu / gib);
    }
    if !socat {
        println!("\nsocat is not installed, so nothing is compared with it.");
    }
}

struct Sample {
    wall: f64,
    cpu: f64,
}

fn median(mut samples: Vec<Sample>) -> Sample {
    samples.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    samples.swap_remove(samples.len() / 2)
}

/// Sends `bytes` through a relay of that kind. The first 64 MiB warm it up and are not counted.
fn measure(kind: &str, bytes: u64) -> Sample {
    const WARM_UP: u64 = 64 << 20;
    let state = tempfile::tempdir().expect("a folder");
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut child = start(kind, &backend.local_addr().expect("an address").to_string(), &state);
    let mut sender = client(kind, &child.address);
    let (mut receiver, _) = backend.accept().expect("the relay connects");
    let sending = thread::spawn(move || {
        let block = vec![0x5a; 256 << 10];
        let mut left = WARM_UP + bytes;
        while left > 0 {
            let piece = left.min(block.len() as u64) as usize;
            sender.write_all(&block[..piece]).expect("the relay takes it");
            left -= piece as u64;
        }
        sender
    });
    let mut space = vec![0; 256 << 10];
    receive(&mut receiver, &mut space, WARM_UP);
    let (start, before) = (Instant::now(), cpu(child.process.id()));
    receive(&mut receiver, &mut space, bytes);
    let (wall, after) = (start.elapsed().as_secs_f64(), cpu(child.process.id()));
    drop(sending.join().expect("the sender ends"));
    drop(receiver);
    child.end();
    Sample { wall, cpu: after - before }
}

fn receive(from: &mut TcpStream, space: &mut [u8], mut bytes: u64) {
    while bytes > 0 {
        let most = bytes.min(space.len() as u64) as usize;
        let read = from.read(&mut space[..most]).expect("the relay gives it");
        assert!(read > 0, "the relay ended early");
        bytes -= read as u64;
    }
}

/// The client's end: a blocking writer.
fn client(kind: &str, address: &str) -> Box<dyn Write + Send> {
    let socket = TcpStream::connect(address).expect("the relay listens");
    if kind != "tls" {
        return Box::new(socket);
    }
    let runtime = Runtime::new().expect("a runtime");
    let stream = runtime.block_on(async {
        socket.set_nonblocking(true).expect("a socket");
        let stream = Stream::new(tokio::net::TcpStream::from_std(socket).expect("a socket"));
        connect_tls(&tls_client(), stream).await
    });
    Box::new(Blocking { stream, runtime })
}

struct Blocking {
    stream: Stream,
    runtime: Runtime,
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.runtime.block_on(async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await?;
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client with a certificate of its own, as an enrolled one has.
fn tls_client() -> ClientTls {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = certified_key("client", certificate.as_bytes(), key.as_bytes()).expect("a pair");
    ClientTls::new(&Trust::Unverified, Some(identity), OldestVersion::Tls13).expect("a client")
}

async fn connect_tls(tls: &ClientTls, stream: Stream) -> Stream {
    let connected = tls.connect(stream, "localhost", Instant::now() + Duration::from_secs(60)).await;
    connected.expect("a handshake").into_stream_of_judged_server()
}

fn idle() {
    let connections = number("CONNECTIONS", 2_000);
    let runtime = Runtime::new().expect("a runtime");
    println!("\nResident memory of the relay's process per idle connection, {connections} connections\n");
    println!("| connection | after the handshake, KiB | after 128 KiB each way, KiB |\n|---|---|---|");
    for (kind, title) in [("tls", "TLS 1.3 with a client certificate"), ("relay", "plain TCP")] {
        let state = tempfile::tempdir().expect("a folder");
        let (fresh, used) = runtime.block_on(async {
            let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = backend.local_addr().expect("an address").to_string();
            tokio::spawn(echo(backend));
            let mut child = start(kind, &address, &state);
            let tls = (kind == "tls").then(tls_client);
            // What the first connections load once is not theirs.
            let warm = open(&child.address, tls.as_ref(), 20).await;
            let before = resident(child.process.id());
            let mut streams = open(&child.address, tls.as_ref(), connections).await;
            let fresh = resident(child.process.id());
            for stream in &mut streams {
                talk(stream).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let used = resident(child.process.id());
            drop((warm, streams));
            child.end();
            let each = |after: f64| (after - before) / connections as f64;
            (each(fresh), each(used))
        });
        println!("| {title} | {fresh:.1} | {used:.1} |");
    }
}

async fn open(address: &str, tls: Option<&ClientTls>, connections: u64) -> Vec<Stream> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let socket = tokio::net::TcpStream::connect(address).await.expect("the relay listens");
        socket.set_nodelay(true).expect("a socket");
        let mut stream = Stream::new(socket);
        if let Some(tls) = tls {
            stream = connect_tls(tls, stream).await;
        }
        // One byte there and back: the relay to the backend stands.
        stream.write_all(b"x").await.expect("the relay takes it");
        stream.flush().await.expect("the relay takes it");
        stream.read_exact(&mut [0]).await.expect("the echo");
        streams.push(stream);
    }
    streams
}

async fn talk(stream: &mut Stream) {
    let block = vec![0x5a; 32 << 10];
    let mut back = vec![0; block.len()];
    for _ in 0..4 {
        stream.write_all(&block).await.expect("the relay takes it");
        stream.flush().await.expect("the relay takes it");
        stream.read_exact(&mut back).await.expect("the echo");
    }
}

async fn echo(listener: tokio::net::TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        socket.set_nodelay(true).expect("a socket");
        tokio::spawn(async move {
            let mut space = vec![0; 16 << 10];
            while let Ok(read @ 1..) = socket.read(&mut space).await {
                if socket.write_all(&space[..read]).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A relay in a process of its own.
struct Relay {
    process: Child,
    address: String,
}

impl Relay {
    fn end(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

fn start(kind: &str, backend: &str, state: &tempfile::TempDir) -> Relay {
    if let Some(size) = kind.strip_prefix("socat") {
        return start_socat(if size.is_empty() { "8192" } else { "65536" }, backend);
    }
    let mut process = Command::new(env::current_exe().expect("this program"))
        .args(["role", kind, backend])
        .arg(state.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut address = String::new();
    let output = process.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut address).expect("its address");
    Relay { process, address: address.trim().to_owned() }
}

fn start_socat(size: &str, backend: &str) -> Relay {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let listen = format!("TCP-LISTEN:{},bind=127.0.0.1,reuseaddr", free.port());
    let process = Command::new("socat")
        .args(["-b", size, &listen, &format!("TCP:{backend}")])
        .spawn()
        .expect("socat starts");
    // It listens when the port is in the kernel's table; connecting to find out would be its client.
    let wanted = format!("0100007F:{:04X} 00000000:0000 0A", free.port());
    let table = || std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    while !table().contains(&wanted) {
        thread::sleep(Duration::from_millis(5));
    }
    Relay { process, address: free.to_string() }
}

/// What the process of a relay does: accept, connect, relay, for each connection.
fn role(kind: &str, backend: &str, state: &str) {
    let identity = ServerIdentity::open(state.as_ref(), "localhost", SystemTime::now()).expect("an identity");
    let tls = ServerTls::new(identity.certified_key(), OldestVersion::Tls13).expect("a server");
    let tls = (kind == "tls").then(|| Arc::new(tls));
    let copies = kind == "copy";
    let backend = backend.to_owned();
    Runtime::new().expect("a runtime").block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (client, remote) = listener.accept().await.expect("a client");
            let (tls, backend) = (tls.clone(), backend.clone());
            tokio::spawn(async move {
                client.set_nodelay(true).expect("a socket");
                let peer = Peer::tcp(remote, client.local_addr().expect("an address"));
                let mut client = Stream::new(client);
                if let Some(tls) = tls {
                    let deadline = Instant::now() + Duration::from_secs(60);
                    client = Box::pin(tls.accept(client, peer, deadline)).await.expect("a handshake").0;
                }
                let socket = tokio::net::TcpStream::connect(backend).await.expect("the backend");
                socket.set_nodelay(true).expect("a socket");
                let mut backend = Stream::new(socket);
                if copies {
                    let size = 64 << 10;
                    let _ =
                        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, size, size).await;
                } else {
                    relay(client, backend, Some(Duration::from_secs(3600)), &Control::new()).await;
                }
            });
        }
    });
}
