//! What no honest client sends, byte by byte: a clear refusal, the connection closed in time, nothing given away, and
//! the next honest client served as if nothing had been.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    net::dial,
    process::run,
    wire::{self, Challenge, Received, Value, framed, header, hello, honest, packet, texts, with, without},
};

#[test]
fn an_honest_client_gets_in() {
    Gate::open().honest_login();
}

/// S-09: a record is judged by its header.
#[test]
fn headers_that_cannot_be_are_refused_at_once() {
    let payload = hello(honest("alice"))[8..].to_vec();
    let at_once = Duration::from_secs(5);
    for (what, bytes) in [
        ("a size of 4 GiB - 1", header(FLAG, 0, 0, u32::MAX).to_vec()),
        ("a size of 64 MiB", header(FLAG, 0, 0, 64 << 20).to_vec()),
        ("a byte more than may be", header(FLAG, 0, 0, (64 << 10) + 1).to_vec()),
        ("a size of nothing", header(FLAG, 0, 0, 0).to_vec()),
        ("an unknown flag", framed(FLAG | 0x80, 0, 0, &payload)),
        ("two encoders", framed(FLAG | 0x01, 0, 0, &payload)),
        ("a cipher nobody agreed on", framed(FLAG | 0x02, 0, 0, &payload)),
        ("an unknown compressor", framed(FLAG, 0x21, 0, &payload)),
        ("two compressors", framed(FLAG, 0x91, 0, &payload)),
        ("a raw chunk before login", framed(0, 0, 3, &payload)),
        ("another magic byte", [b"Q".as_slice(), &hello(honest("alice"))[1..]].concat()),
        ("an old RFB client", b"RFB 003.008\n".to_vec()),
        ("a line of text", b"LOGIN alice password\r\n".to_vec()),
        ("an SSH client", b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
    ] {
        Gate::open().refuses(what, &bytes, at_once);
    }
}

/// S-10: what a payload may unfold to is bounded.
#[test]
fn payloads_that_unfold_without_end_are_refused() {
    let zeros = 255 << 20;
    let mut lz4 = vec![0; 4];
    lz4.copy_from_slice(&(zeros as u32).to_le_bytes());
    lz4.extend([0x1f, 0, 1, 0].iter().chain([255; 40_000].iter()));
    for (what, level, payload) in [
        ("lz4 that declares 255 MiB", 0x11, lz4),
        ("lz4 that declares 4 GiB", 0x11, [[0xff; 4].as_slice(), &[0x10, b'a']].concat()),
        ("lz4 that declares less than it holds", 0x11, [[1, 0, 0, 0].as_slice(), &[0x50], b"hello"].concat()),
        ("zlib that is none", 0x01, b"this is not a zlib stream at all".to_vec()),
        ("zlib that unfolds to 60 MiB", 0x01, zlib_bomb()),
    ] {
        let gate = Gate::open();
        let before = gate.memory();
        gate.refuses(what, &framed(FLAG, level, 0, &payload), Duration::from_secs(5));
        let grown = gate.memory().saturating_sub(before);
        assert!(grown < 32 << 20, "{what}: {} KiB more memory", grown >> 10);
    }
}

/// S-11, S-13: encodings that lie, nest or repeat.
#[test]
fn payloads_that_are_no_hello_are_refused() {
    let valid = hello(honest("alice"));
    let half = &valid[8..valid.len() / 2];
    let dictionary = |entries| packet(&Value::List(vec!["hello".into(), Value::Dict(entries)]));
    for (what, bytes) in [
        ("50,000 nested lists", framed(FLAG, 0, 0, &vec![59; 50_000])),
        ("50,000 nested dictionaries", framed(FLAG, 0, 0, &[60, 0].repeat(25_000))),
        ("30,000 nested lists in bencode", framed(0, 0, 0, &vec![b'l'; 30_000])),
        ("half a value", framed(FLAG, 0, 0, half)),
        ("a value and more", framed(FLAG, 0, 0, &[&valid[8..], b"more"].concat())),
        ("a text longer than its packet", framed(FLAG, 0, 0, b"\xc299999:hello")),
        ("a length without end", framed(FLAG, 0, 0, &[b'9'; 3000])),
        (
            "an integer of 3,000 digits",
            framed(FLAG, 0, 0, &[&[61], [b'9'; 3000].as_slice(), &[127]].concat()),
        ),
        ("an unknown type byte", framed(FLAG, 0, 0, &[45])),
        ("text that is not UTF-8", framed(FLAG, 0, 0, &[194, 133, b'h', b'e', b'l', 0xff, 0xfe, 102])),
        (
            "noise",
            framed(
                FLAG,
                0,
                0,
                &(0..4000).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>(),
            ),
        ),
        ("no packet type", packet(&Value::List(Vec::new()))),
        (
            "a number for a packet type",
            packet(&Value::List(vec![Value::Int(7), Value::Dict(honest("alice"))])),
        ),
        ("a text instead of a packet", packet(&"hello".into())),
        ("a hello without capabilities", packet(&Value::List(vec!["hello".into()]))),
        ("a list for capabilities", packet(&Value::List(vec!["hello".into(), texts(&["version"])]))),
        ("5,000 entries", dictionary((0..5000).map(|n| (Value::Int(n), Value::Int(n))).collect())),
        (
            "the same key twice",
            dictionary([honest("alice"), vec![("username".into(), "bob".into())]].concat()),
        ),
    ] {
        Gate::open().refuses(what, &bytes, Duration::from_secs(5));
    }
}

/// S-13: every field has a type and a length.
#[test]
fn fields_of_the_wrong_type_or_size_are_refused() {
    let list = Value::List(vec![Value::Int(1)]);
    let mut cases = Vec::new();
    for key in ["digest", "salt-digest", "challenge_response", "challenge_client_salt"] {
        let dictionary = Value::Dict(vec![("".into(), Value::Int(1))]);
        cases.push((format!("a dictionary for {key}"), with(honest("alice"), key, dictionary)));
        cases.push((format!("a number for {key}"), with(honest("alice"), key, Value::Int(5))));
    }
    let dictionary = Value::Dict(vec![("".into(), Value::from("alice"))]);
    cases.push(("a dictionary for username".to_owned(), with(honest("alice"), "username", dictionary)));
    let latin1 = Value::Bytes(vec![b'a', 0xe9]);
    cases.push(("a name that is not UTF-8".to_owned(), with(honest("alice"), "username", latin1)));
    cases.push(("a number for username".to_owned(), with(honest("alice"), "username", Value::Int(5))));
    cases.push(("a list for username".to_owned(), with(honest("alice"), "username", list.clone())));
    cases.push(("numbers in digest".to_owned(), with(honest("alice"), "digest", list)));
    cases.push(("1,000 digests".to_owned(), with(honest("alice"), "digest", texts(&["hmac+sha512"; 1000]))));
    for (what, name) in [
        ("a NUL in the name", Value::from("ali\0ce")),
        ("a line break in the name", Value::from("alice\nroot")),
        ("a name of 60,000 bytes", Value::from("a".repeat(60_000).as_str())),
        ("a path for a name", Value::from("/etc/passwd")),
        ("an option for a name", Value::from("--help")),
    ] {
        cases.push((what.to_owned(), with(honest("alice"), "username", name)));
    }
    for (what, caps) in cases {
        Gate::open().refuses(&what, &hello(caps), Duration::from_secs(5));
    }
    let mut bytes = hello(with(honest("alice"), "username", "zz".into()));
    let at = bytes.windows(4).position(|window| window == b"2:zz").expect("the name in the packet");
    bytes[at + 2..at + 4].copy_from_slice(&[0xff, 0xfe]);
    Gate::open().refuses("a name that is not UTF-8", &bytes, Duration::from_secs(5));
    let megabyte = hello(with(honest("alice"), "username", Value::from("a".repeat(1 << 20).as_str())));
    Gate::open().refuses("a name of 1 MB", &megabyte, Duration::from_secs(5));
}

/// S-29: nothing weaker than HMAC with SHA-2 is ever agreed on, and a challenge is not even made.
#[test]
fn digests_that_give_the_secret_away_are_refused_without_a_challenge() {
    for (what, key, offer) in [
        ("xor only", "digest", vec!["xor"]),
        ("des only", "digest", vec!["des"]),
        ("md5 and sha1 only", "digest", vec!["hmac", "hmac+md5", "hmac+sha1"]),
        ("an unknown digest", "digest", vec!["rot13"]),
        ("no digest", "digest", vec![]),
        ("salts by xor", "salt-digest", vec!["xor"]),
        ("salts by md5", "salt-digest", vec!["hmac+md5"]),
        ("no salt digest", "salt-digest", vec![]),
    ] {
        Gate::open().refuses(what, &hello(with(honest("alice"), key, texts(&offer))), Duration::from_secs(5));
    }
    Gate::open().refuses(
        "no word on digests",
        &hello(without(honest("alice"), "digest")),
        Duration::from_secs(5),
    );
    // Whatever comes first in the offer, the strongest is taken.
    let gate = Gate::open();
    let mut stream = dial(gate.gateway.tcp());
    let offer = texts(&["xor", "hmac+sha224", "des", "hmac+sha256", "hmac+sha512"]);
    wire::send(&mut stream, &hello(with(honest("alice"), "digest", offer)));
    assert_eq!(wire::read(&mut stream).challenge().digest, "hmac+sha512");
}

/// S-14: before login only a hello is answered.
#[test]
fn packets_out_of_order_are_refused() {
    for (what, value) in [
        ("a ping", Value::List(vec!["ping".into(), Value::Int(1)])),
        ("a challenge from the client", Value::List(vec!["challenge".into(), [7; 64].as_slice().into()])),
        ("an upgrade", Value::List(vec!["ssl-upgrade".into(), Value::Dict(Vec::new())])),
    ] {
        Gate::open().refuses(what, &packet(&value), Duration::from_secs(5));
    }
}

/// S-15, S-16: one response to one challenge, by the one who asked for it.
#[test]
fn answers_that_do_not_belong_to_their_challenge_are_refused() {
    type Answer = fn(&Challenge) -> Vec<(Value, Value)>;
    let cases: [(&str, Answer); 11] = [
        ("the wrong secret", |challenge| answered("alice", challenge, b"wrong")),
        ("an empty secret", |challenge| answered("alice", challenge, b"")),
        ("the secret itself", |challenge| {
            with(answered("alice", challenge, SECRET), "challenge_response", Value::from(SECRET))
        }),
        ("no client salt", |challenge| {
            without(answered("alice", challenge, SECRET), "challenge_client_salt")
        }),
        ("an empty client salt", |challenge| salted(challenge, b"")),
        ("a client salt of one byte", |challenge| salted(challenge, b"x")),
        ("a client salt of 5,000 bytes", |challenge| salted(challenge, &[7; 5000])),
        ("no response", |_| honest("alice")),
        ("an empty response", |challenge| {
            with(answered("alice", challenge, SECRET), "challenge_response", b"".as_slice().into())
        }),
        ("another name (S-16)", |challenge| answered("bob", challenge, SECRET)),
        ("letters in upper case", |challenge| {
            let response = wire::answer(challenge, &SALT, SECRET).to_ascii_uppercase();
            with(answered("alice", challenge, SECRET), "challenge_response", response.as_slice().into())
        }),
    ];
    for (what, answer) in cases {
        let gate = Gate::open();
        let mut stream = dial(gate.gateway.tcp());
        wire::send(&mut stream, &hello(honest("alice")));
        let challenge = wire::read(&mut stream).challenge();
        // S-15: the right response right behind the wrong one counts for nothing.
        let right = hello(answered("alice", &challenge, SECRET));
        wire::send(&mut stream, &[hello(answer(&challenge)), right].concat());
        gate.expect_refusal(what, &mut stream, Duration::from_secs(5));
    }
}

/// S-28: a salt is used once and bound to its connection.
#[test]
fn a_replayed_response_is_refused() {
    let gate = Gate::open();
    let mut first = dial(gate.gateway.tcp());
    wire::send(&mut first, &hello(honest("alice")));
    let challenge = wire::read(&mut first).challenge();
    let response = hello(answered("alice", &challenge, SECRET));
    wire::send(&mut first, &response);
    assert!(matches!(wire::read(&mut first), Received::Packet(kind, _) if kind == "hello"));

    let mut second = dial(gate.gateway.tcp());
    wire::send(&mut second, &hello(honest("alice")));
    let other = wire::read(&mut second).challenge();
    assert_ne!(other.salt, challenge.salt);
    wire::send(&mut second, &response);
    gate.expect_refusal("a recorded response", &mut second, Duration::from_secs(5));

    // Before any challenge a response is no answer to anything: the challenge comes all the same.
    let mut third = dial(gate.gateway.tcp());
    wire::send(&mut third, &response);
    assert!(!matches!(wire::read(&mut third), Received::Packet(kind, _) if kind == "hello"));
}

/// S-01: silence and slowness are not waited for beyond the deadline.
#[test]
fn clients_that_never_finish_are_cut_off_at_the_deadline() {
    let whole = hello(honest("alice"));
    let gate = Gate::open();
    thread::scope(|scope| {
        for (what, bytes) in [
            ("silence", &whole[..0]),
            ("one byte", &whole[..1]),
            ("half a header", &whole[..5]),
            ("a header", &whole[..8]),
            ("half a payload", &whole[..whole.len() / 2]),
            ("the beginning of TLS", b"\x16\x03\x01\x02\x00\x01".as_slice()),
        ] {
            let gate = &gate;
            scope.spawn(move || gate.refuses_without_login(what, bytes, Duration::from_secs(40)));
        }
        let (gate, whole) = (&gate, whole.clone());
        scope.spawn(move || {
            let mut stream = dial(gate.gateway.tcp());
            let mut sender = stream.try_clone().expect("a second handle");
            thread::spawn(move || {
                for byte in whole.chunks(1).take(60) {
                    wire::send(&mut sender, byte);
                    thread::sleep(Duration::from_millis(500));
                }
            });
            gate.expect_refusal("a byte at a time", &mut stream, Duration::from_secs(25));
        });
    });
    gate.honest_login();
}

/// A password that is empty lets nobody in, least of all with an empty answer.
#[test]
fn an_empty_password_opens_nothing() {
    let place = Place::new();
    let table = place.file("table", "alice||nobody|nogroup||\nbob|x|nobody|nogroup||\n");
    let gate = Gate::with(&format!("multifile(filename={table})"));
    let mut stream = dial(gate.gateway.tcp());
    wire::send(&mut stream, &hello(honest("alice")));
    let challenge = wire::read(&mut stream).challenge();
    wire::send(&mut stream, &hello(answered("alice", &challenge, b"")));
    gate.expect_refusal("an empty answer", &mut stream, Duration::from_secs(5));

    // For one password for everybody it is a mistake of the configuration.
    let bind = format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", place.file("empty", ""));
    run(&mut countersign(&place, &["check", &bind])).expect_code(78).expect_text("1 to 65536 bytes");
}

/// A gateway that asks for one password on a TCP port.
struct Gate {
    gateway: Gateway,
    _place: Place,
}

impl Gate {
    fn open() -> Self {
        let place = Place::new();
        let password = place.file("password", SECRET);
        Self { gateway: start(&format!("file(filename={password})")), _place: place }
    }

    fn with(chain: &str) -> Self {
        Self { gateway: start(chain), _place: Place::new() }
    }

    /// Sends bytes, expects a refusal, then an honest login at the same gateway.
    #[track_caller]
    fn refuses(&self, what: &str, bytes: &[u8], within: Duration) {
        self.refuses_without_login(what, bytes, within);
        self.honest_login();
    }

    #[track_caller]
    fn refuses_without_login(&self, what: &str, bytes: &[u8], within: Duration) {
        let mut stream = dial(self.gateway.tcp());
        wire::send(&mut stream, bytes);
        self.expect_refusal(what, &mut stream, within);
    }

    /// Reads to the end of the connection: it comes in time, without a success, and the log knows why.
    #[track_caller]
    fn expect_refusal(&self, what: &str, stream: &mut std::net::TcpStream, within: Duration) {
        let started = Instant::now();
        let mut told = Vec::new();
        loop {
            match wire::read(stream) {
                Received::End => break,
                Received::Packet(kind, items) => {
                    assert_eq!(kind, "disconnect", "{what}: {items:?}\n{}", self.gateway.log());
                    told.push(format!("{items:?}"));
                }
                Received::Text(line) => told.push(line),
            }
        }
        assert!(started.elapsed() < within, "{what}: closed after {:?}", started.elapsed());
        let secret = String::from_utf8_lossy(SECRET);
        let log = self.gateway.log();
        assert!(
            !log.contains(&*secret) && !told.join(" ").contains(&*secret),
            "{what}: the secret is told\n{log}"
        );
        let known = self.gateway.daemon().eventually(|| self.gateway.log().contains("auth failure"));
        assert!(known, "{what}: no reason on record; told {told:?}\n{}", self.gateway.log());
    }

    #[track_caller]
    fn honest_login(&self) {
        let mut stream = dial(self.gateway.tcp());
        wire::send(&mut stream, &hello(honest("alice")));
        let challenge = wire::read(&mut stream).challenge();
        wire::send(&mut stream, &hello(answered("alice", &challenge, SECRET)));
        let answer = wire::read(&mut stream);
        assert!(
            matches!(&answer, Received::Packet(kind, _) if kind == "hello"),
            "{answer:?}\n{}",
            self.gateway.log()
        );
    }

    /// Resident memory in bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.gateway.daemon().id()))
            .expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the largest resident size");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") << 10
    }
}

fn start(chain: &str) -> Gateway {
    // Refusals without their usual delay: there are some hundred of them here.
    Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth={chain}"), "--refusal-delay=50ms".to_owned()])
}

/// The second hello of a client that knows this secret.
fn answered(user: &str, challenge: &Challenge, secret: &[u8]) -> Vec<(Value, Value)> {
    let caps = without(honest(user), "challenge");
    let response = wire::answer(challenge, &SALT, secret);
    let caps = with(caps, "challenge_response", response.as_slice().into());
    with(caps, "challenge_client_salt", SALT.as_slice().into())
}

/// The same with another client salt, which the response takes into account.
fn salted(challenge: &Challenge, salt: &[u8]) -> Vec<(Value, Value)> {
    let response = wire::answer(challenge, salt, SECRET);
    let caps = with(answered("alice", challenge, SECRET), "challenge_response", response.as_slice().into());
    with(caps, "challenge_client_salt", salt.into())
}

/// A zlib stream of some 60 KiB that unfolds to 60 MiB of one byte.
fn zlib_bomb() -> Vec<u8> {
    let place = Place::new();
    let script = "import sys,zlib; sys.stdout.buffer.write(zlib.compress(b'\\0' * (60 << 20), 9))";
    let path = place.path("bomb");
    let file = fs::File::create(&path).expect("a file in the test's own folder");
    let status =
        std::process::Command::new("python3").args(["-c", script]).stdout(file).status().expect("python3");
    assert!(status.success());
    fs::read(path).expect("an own file")
}

const FLAG: u8 = wire::RENCODEPLUS;
const SECRET: &[u8] = b"open-sesame-4711";
const SALT: [u8; 32] = *b"thirty-two bytes of client salt!";
