//! S-86: an Xpra server behind the gateway that accepts and then fails its clients.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::Gateway,
    net::dial,
    wire::{self, Received, Value, framed, hello, honest, packet, texts, with, without},
    xpra::{self, exit},
};

#[test]
fn s_086_an_xpra_server_that_never_answers_gives_one_text_within_5_s() {
    let place = Place::new();
    let path = place.path("silent");
    // The kernel accepts for it, and takes the hello as well.
    let listener = UnixListener::bind(&path).expect("a socket in the test's own folder");
    let gate = Gate::before(&format!("xpra+unix:{}", path.display()));
    let (told, took) = gate.enter(plain_hello());
    assert_eq!(told, ["connection error", "the service does not answer, try again later"]);
    assert!((4.5..6.5).contains(&took.as_secs_f64()), "{took:?}");
    let (mut server, _) = listener.accept().expect("the gateway's connection");
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("the hello and the end");
    assert!(heard.starts_with(b"P"), "the hello was said and the connection closed");
    gate.knows("the daemon behind cannot be reached");
    // What the real client makes of it.
    let finished = xpra::info(&format!("tcp://127.0.0.1:{}/", gate.port()), &[], &[]);
    finished
        .expect_code(exit::CONNECTION_FAILED)
        .expect_text("the service does not answer")
        .expect_without("silent");
}

#[test]
fn s_086_an_xpra_server_that_does_not_read_its_hello_gives_one_text_within_5_s() {
    let place = Place::new();
    let path = place.path("deaf");
    let listener = UnixListener::bind(&path).expect("a socket in the test's own folder");
    let gate = Gate::before(&format!("xpra+unix:{}", path.display()));
    let (told, took) = gate.enter(large_hello());
    assert_eq!(told, ["connection error", "the service does not answer, try again later"]);
    assert!((4.5..6.5).contains(&took.as_secs_f64()), "{took:?}");
    let (mut server, _) = listener.accept().expect("the gateway's connection");
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("what the kernel held");
    assert!(heard.len() < ICONS, "the hello fitted into the socket, so nobody had to wait");
}

#[test]
fn s_086_an_xpra_server_that_closes_instead_of_answering_gives_one_text_at_once() {
    let place = Place::new();
    let path = place.path("closing");
    let listener = UnixListener::bind(&path).expect("a socket in the test's own folder");
    let server = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the gateway's connection");
        client.read_exact(&mut [0; 8]).expect("the beginning of the hello");
    });
    let gate = Gate::before(&format!("xpra+unix:{}", path.display()));
    let (told, took) = gate.enter(plain_hello());
    assert_eq!(told, ["connection error", "the service is not available, try again later"]);
    assert!(took < Duration::from_secs(4), "{took:?}");
    server.join().expect("the server saw the hello");
}

#[test]
fn an_answer_that_takes_its_time_arrives_whole() {
    let place = Place::new();
    let path = place.path("slow");
    let listener = UnixListener::bind(&path).expect("a socket in the test's own folder");
    let answer = packet(&Value::List(vec!["hello".into(), Value::Dict(vec![("late".into(), "yes".into())])]));
    let behind = packet(&Value::List(vec!["draw".into(), texts(&["and", "more"])]));
    let written = [answer.as_slice(), &behind].concat();
    let server = thread::spawn(move || {
        let (mut client, _): (UnixStream, _) = listener.accept().expect("the gateway's connection");
        thread::sleep(Duration::from_secs(2));
        // In pieces: what was waited for is only the first byte.
        for piece in written.chunks(7) {
            client.write_all(piece).expect("the gateway reads");
        }
        client.shutdown(Shutdown::Write).expect("an open connection");
        // Closing with something unread, here the hello, would be a reset.
        client.read_to_end(&mut Vec::new()).expect("the hello and the end");
    });
    let gate = Gate::before(&format!("xpra+unix:{}", path.display()));
    let mut stream = dial(gate.gateway.tcp());
    wire::send(&mut stream, &plain_hello());
    stream.shutdown(Shutdown::Write).expect("an open connection");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the server's bytes and its end");
    assert_eq!(bytes, [answer, behind].concat());
    server.join().expect("the server ends");
}

/// A gateway that asks nothing before this backend.
struct Gate {
    gateway: Gateway,
    backend: String,
}

impl Gate {
    fn before(backend: &str) -> Self {
        let bind = "--bind-tcp=127.0.0.1:0,auth=none".to_owned();
        Self { gateway: Gateway::start(&[bind, format!("--backend={backend}")]), backend: backend.to_owned() }
    }

    fn port(&self) -> u16 {
        self.gateway.port()
    }

    /// Says this hello; what is told at the end, and when.
    fn enter(&self, hello: Vec<u8>) -> (Vec<String>, Duration) {
        let mut stream = dial(self.gateway.tcp());
        wire::send(&mut stream, &hello);
        let started = Instant::now();
        let (told, took) = match wire::read(&mut stream) {
            Received::Packet(kind, reasons) if kind == "disconnect" => (reasons, started.elapsed()),
            other => panic!("{other:?} instead of a refusal before {}", self.backend),
        };
        assert!(matches!(wire::read(&mut stream), Received::End), "one text and no more");
        (told.iter().map(Value::text).collect(), took)
    }

    fn knows(&self, text: &str) {
        assert!(
            self.gateway.daemon().eventually(|| self.gateway.log().contains(text)),
            "{}",
            self.gateway.log()
        );
    }
}

/// The hello of a client that expects no challenge.
fn plain_hello() -> Vec<u8> {
    hello(without(honest("alice"), "challenge"))
}

/// The same with more in it than a socket holds, in an LZ4 block that a login may send (S-10).
fn large_hello() -> Vec<u8> {
    let caps = with(without(honest("alice"), "challenge"), "icons", Value::from([7; ICONS].as_slice()));
    let plain = &hello(caps)[8..];
    let run = plain.windows(2).position(|pair| pair == [7, 7]).expect("the icons");
    // Everything before the icons and one byte of them, that byte again and again, and the last bytes as they are.
    let (head, again, tail) = (&plain[..=run], ICONS - 11, &plain[run + ICONS - 10..]);
    let mut block = u32::try_from(plain.len()).expect("a small packet").to_le_bytes().to_vec();
    block.push(0xff);
    extend_length(&mut block, head.len() - 15);
    block.extend_from_slice(head);
    block.extend([1, 0]);
    extend_length(&mut block, again - 19);
    block.push(u8::try_from(tail.len()).expect("a short tail") << 4);
    block.extend_from_slice(tail);
    framed(wire::RENCODEPLUS, 0x11, 0, &block)
}

/// The rest of a length that did not fit into its four bits, as LZ4 blocks have it.
fn extend_length(block: &mut Vec<u8>, rest: usize) {
    block.extend(std::iter::repeat_n(255, rest / 255));
    block.push(u8::try_from(rest % 255).expect("below 255"));
}

/// More than a Unix socket holds by default, and less than a login may unfold to.
const ICONS: usize = 250_000;
