//! One GiB through the gateway, compared by checksum, and the ends of streams.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    process::Stdio,
    thread,
};

use countersign_interop::{
    PATIENCE, Place,
    gateway::{Door, Gateway, countersign},
    net::dial,
};
use sha2::{Digest, Sha256};

#[test]
fn a_gibibyte_plain_to_plain() {
    let place = Place::new();
    let backend = Checksum::start(&place.path("sum"));
    let gateway = Gateway::start(&[
        "--bind-tcp=127.0.0.1:0,protocol=stream,auth=none".to_owned(),
        format!("--backend=unix:{}", place.text("sum")),
    ]);
    let (sent, received) = exchange(dial(gateway.tcp()), GIB);
    assert_eq!(sent, received);
    assert_eq!(backend.join().expect("the backend"), sent);
}

#[test]
fn a_gibibyte_after_a_login() {
    let place = Place::new();
    let backend = Checksum::start(&place.path("sum"));
    let password = place.file("password", "a word for the stream");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
        format!("--backend=unix:{}", place.text("sum")),
    ]);
    let door = Door::open(
        &format!("tcp://alice@127.0.0.1:{}/", gateway.port()),
        &[format!("--password-file={password}")],
    );
    let (sent, received) = exchange(dial(([127, 0, 0, 1], door.port).into()), GIB);
    assert_eq!(sent, received);
    assert_eq!(backend.join().expect("the backend"), sent);
}

#[test]
fn standard_input_and_output_are_a_stream_too() {
    let place = Place::new();
    let backend = Checksum::start(&place.path("sum"));
    let password = place.file("password", "a word for the stream");
    let front = place.text("front");
    let gateway = Gateway::start(&[
        format!("--bind={front},auth=file(filename={password})"),
        format!("--backend=unix:{}", place.text("sum")),
    ]);
    let mut command =
        countersign(&place, &["connect", &format!("--password-file={password}"), &format!("unix:{front}")]);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client starts");
    let mut input = client.stdin.take().expect("a piped input");
    let mut sent = Pattern::new(MIB * 64);
    thread::scope(|scope| {
        scope.spawn(|| {
            sent.write_to(&mut input);
            // The end of the input is the half-close; the answer still comes.
            drop(input);
        });
        let mut answer = Vec::new();
        client.stdout.take().expect("a piped output").read_to_end(&mut answer).expect("the answer");
        assert_eq!(answer.len(), 32, "the checksum comes back: {}", gateway.log());
    });
    assert!(client.wait().expect("the client's end").success(), "{}", gateway.log());
    assert_eq!(backend.join().expect("the backend"), sent.sum());
}

#[test]
fn through_tls() {
    let place = Place::new();
    let backend = Checksum::start(&place.path("sum"));
    let password = place.file("password", "a word for the stream");
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
        format!("--backend=unix:{}", place.text("sum")),
    ]);
    // The port takes both; which of the two the client speaks is seen from the first bytes.
    let address = format!("tls://alice@127.0.0.1:{}/", gateway.port());
    let arguments = [format!("--password-file={password}"), "--trust-on-first-use".to_owned()];
    let door = Door::open(&address, &arguments);
    let (sent, received) = exchange(dial(([127, 0, 0, 1], door.port).into()), MIB * 128);
    assert_eq!(sent, received);
    assert_eq!(backend.join().expect("the backend"), sent);
}

/// Sends `length` bytes, ends its own direction, and reads the 32 bytes that must still arrive in the other one.
fn exchange(mut stream: TcpStream, length: usize) -> ([u8; 32], [u8; 32]) {
    let mut pattern = Pattern::new(length);
    pattern.write_to(&mut stream);
    stream.shutdown(Shutdown::Write).expect("half of the connection closes");
    let mut sum = [0; 32];
    stream.read_exact(&mut sum).expect("the checksum comes back after the half-close");
    assert_eq!(stream.read(&mut [0]).expect("the end of the stream"), 0, "nothing follows the checksum");
    (pattern.sum(), sum)
}

/// A backend that reads to the end, then answers with the SHA-256 of what it has read.
struct Checksum;

impl Checksum {
    fn start(path: &Path) -> thread::JoinHandle<[u8; 32]> {
        let listener = UnixListener::bind(path).expect("a socket in the test's own folder");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection from the gateway");
            stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
            let mut hash = Sha256::new();
            let mut buffer = vec![0; MIB];
            loop {
                match stream.read(&mut buffer).expect("bytes, or the half-close") {
                    0 => break,
                    count => hash.update(&buffer[..count]),
                }
            }
            let sum: [u8; 32] = hash.finalize().into();
            stream.write_all(&sum).expect("the other direction is still open");
            sum
        })
    }
}

/// Bytes of which no block equals another, so that a lost, doubled or swapped block shows.
struct Pattern {
    blocks: usize,
    hash: Sha256,
}

impl Pattern {
    fn new(length: usize) -> Self {
        Self { blocks: length / MIB, hash: Sha256::new() }
    }

    fn write_to(&mut self, stream: &mut impl Write) {
        let mut block: Vec<u8> = (0..MIB).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect();
        for number in 0..self.blocks {
            block[..8].copy_from_slice(&number.to_be_bytes());
            self.hash.update(&block);
            stream.write_all(&block).expect("the stream takes every byte");
        }
    }

    fn sum(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
