//! What a login costs: processor time of the gateway per connection, beside a bare relay.
//!
//! `cargo bench -p countersign --bench login`. Each server runs in a process of its own (this program,
//! started again with a role); the clients and the daemon behind run here, so they are not counted. A
//! connection is: connect, TLS where there is TLS, log in where there is a login, one byte to the
//! daemon and back, close. The servers are all kept running and take short turns, so that whatever else the
//! machine does falls on each of them alike; a row shows the median of its turns, and the ratio is the median of
//! the ratios of neighbouring turns. `CONNECTIONS` (a turn) and `ROUNDS` change the length.
#![cfg(target_os = "linux")]

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use countersign::{
    Secret,
    config::{Config, Layers, Paths},
    gateway::Gateway,
    modules::Registry,
    proto::{
        challenge::{self, Response},
        mechanism::{Hash, hmac},
        wire::xpra::{Challenge, ClientHello, Decoder, Encoder, Kind, Limits, Packet},
    },
    transport::{
        Stream,
        tls::{ClientTls, OldestVersion, Trust, certified_key},
    },
    trust::ServerIdentity,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::Runtime,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

mod process;

use process::{cpu, number, resident};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["role", kind, folder] => role(kind, Path::new(folder)),
        // `cargo test --benches` runs this too; there is nothing to measure then.
        _ if words.contains(&"--test") => {}
        _ => {
            compare();
            idle();
        }
    }
}

/// The servers that are compared, in pairs: bare relay, then the gateway on the same wire.
const SERVERS: [(&str, &str); 4] = [
    ("bare-unix", "bare tokio relay, Unix socket, no login"),
    ("gate-unix", "gateway, Unix socket, HMAC login"),
    ("bare-tls", "bare tokio + rustls relay, TLS 1.3 with client certificate, no login"),
    ("gate-tls", "gateway, TCP + TLS 1.3 with client certificate, HMAC login"),
];

const PASSWORD: &str = "correct-horse";

/// Clients at a time: enough that no server waits for work, so that waking up is not what is measured.
const AT_ONCE: usize = 64;

/// What the daemon hears first.
const FIRST: &[u8] = b"x";

fn compare() {
    let (connections, rounds) = (number("CONNECTIONS", 256) as usize, number("ROUNDS", 101));
    let runtime = Runtime::new().expect("a runtime");
    let mut sides: Vec<Side> = SERVERS.iter().map(|(kind, _)| Side::start(&runtime, kind)).collect();
    let mut turns: Vec<[f64; 4]> = Vec::new();
    for _ in 0..rounds {
        turns.push(std::array::from_fn(|side| sides[side].turn(&runtime, connections)));
    }
    println!(
        "Processor time of the server per connection, median of {rounds} turns of {connections} connections\n"
    );
    println!("| server | us | to its bare relay |\n|---|---|---|");
    for (side, (_, title)) in SERVERS.iter().enumerate() {
        let bare = side / 2 * 2;
        let (spent, ratio) =
            (median(&turns, |turn| turn[side]), median(&turns, |turn| turn[side] / turn[bare]));
        println!("| {title} | {spent:.0} | {ratio:.2} |");
    }
}

fn median(turns: &[[f64; 4]], of: impl Fn(&[f64; 4]) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of the whole gateway for each client that has logged in and says nothing.
fn idle() {
    let connections = number("IDLE", 2000);
    let runtime = Runtime::new().expect("a runtime");
    println!("\nResident memory of the gateway per idle client that has logged in, {connections} clients\n");
    println!("| client | KiB |\n|---|---|");
    for (kind, title) in [("gate-unix", "Unix socket"), ("gate-tls", "TLS 1.3 with client certificate")] {
        let side = Side::start(&runtime, kind);
        let each = runtime.block_on(async {
            let mut kept = Vec::new();
            let before = resident(side.server.process.id());
            for _ in 0..connections {
                kept.push(side.client.enter().await);
            }
            (resident(side.server.process.id()) - before) / connections as f64
        });
        println!("| {title} | {each:.1} |");
    }
}

/// The daemon behind: gives one byte back and waits for the end.
async fn echo(listener: UnixListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut byte = [0; 1];
            if socket.read_exact(&mut byte).await.is_ok() {
                let _ = socket.write_all(&byte).await;
                let _ = socket.read(&mut byte).await;
            }
        });
    }
}

/// A server with its daemon and its clients, kept running while others have their turn.
struct Side {
    server: Server,
    client: Arc<Client>,
    daemon: JoinHandle<()>,
    _folder: TempDir,
}

impl Side {
    fn start(runtime: &Runtime, kind: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        runtime.block_on(async {
            let daemon =
                tokio::spawn(echo(UnixListener::bind(folder.path().join("echo")).expect("a socket")));
            let server = start(kind, folder.path());
            let client = Arc::new(Client::new(kind, &server.address));
            // What the first connections load once is not theirs.
            client.repeat(200).await;
            Self { server, client, daemon, _folder: folder }
        })
    }

    /// Microseconds of the server for each connection.
    fn turn(&mut self, runtime: &Runtime, connections: usize) -> f64 {
        let before = cpu(self.server.process.id());
        runtime.block_on(self.client.repeat(connections));
        let spent = cpu(self.server.process.id()) - before;
        spent / connections as f64 * 1e6
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.server.process.kill();
        let _ = self.server.process.wait();
        self.daemon.abort();
    }
}

struct Client {
    address: String,
    tls: Option<ClientTls>,
    logs_in: bool,
}

impl Client {
    fn new(kind: &str, address: &str) -> Self {
        let tls = kind.ends_with("tls").then(|| {
            let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
            let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            let pair = certified_key("client", certificate.as_bytes(), key.as_bytes()).expect("a pair");
            ClientTls::new(&Trust::Unverified, Some(pair), OldestVersion::Tls13).expect("a client")
        });
        Self { address: address.to_owned(), tls, logs_in: kind.starts_with("gate") }
    }

    /// So many connections, [`AT_ONCE`] at a time.
    async fn repeat(self: &Arc<Self>, connections: usize) {
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let client = Arc::clone(self);
            workers.spawn(async move {
                for _ in 0..connections / AT_ONCE {
                    client.once().await;
                }
            });
        }
        workers.join_all().await;
    }

    async fn once(&self) {
        let _ = self.enter().await.shutdown().await;
    }

    /// A connection that has logged in and reached the daemon.
    async fn enter(&self) -> Stream {
        let mut stream = match self.address.strip_prefix("unix:") {
            Some(path) => Stream::new(UnixStream::connect(path).await.expect("the server listens")),
            None => {
                let address = self.address.trim_start_matches("tcp:");
                let socket = TcpStream::connect(address).await.expect("the server listens");
                socket.set_nodelay(true).expect("a socket");
                Stream::new(socket)
            }
        };
        let mut binding = None;
        if let Some(tls) = &self.tls {
            let deadline = Instant::now() + Duration::from_secs(60);
            let connected = tls.connect(stream, "localhost", deadline).await.expect("a handshake");
            binding = connected.channel_binding().cloned();
            stream = connected.into_stream_of_judged_server();
        }
        if let (true, Some(binding)) = (self.logs_in, &binding) {
            log_in_unasked(&mut stream, binding, FIRST).await;
        } else if self.logs_in {
            log_in(&mut stream, FIRST).await;
        } else {
            stream.write_all(FIRST).await.expect("the relay takes it");
            stream.flush().await.expect("the relay takes it");
        }
        stream.read_exact(&mut [0]).await.expect("the echo");
        stream
    }
}

/// The hello with the answer that need not be asked for, as our client says it over TLS 1.3.
async fn log_in_unasked(stream: &mut Stream, binding: &[u8], first: &[u8]) {
    let mut inbox = Vec::new();
    let response = answer(&challenge::Challenge::implied(binding).salt);
    say(stream, hello(None, Some((response, first))), &[]).await;
    assert_eq!(hear(stream, &mut inbox).await.kind, Kind::Hello, "the login passes");
    stream.unread(inbox);
}

fn answer(server_salt: &[u8]) -> Response {
    let salt = vec![7; 32];
    let combined = hmac::combine_salts(Hash::Sha512, &salt, server_salt);
    Response::new(hmac::respond(Hash::Sha512, &Secret::new(PASSWORD), &combined), salt)
}

/// The hello, the challenge and its answer with the first words behind it, as our client sends them.
async fn log_in(stream: &mut Stream, first: &[u8]) {
    let mut inbox = Vec::new();
    say(stream, hello(None, None), &[]).await;
    let challenge = Challenge::read(hear(stream, &mut inbox).await).expect("a challenge");
    assert!(challenge.caps.find("last").is_some(), "nothing else is asked");
    say(stream, hello(Some(answer(&challenge.salt)), None), first).await;
    assert_eq!(hear(stream, &mut inbox).await.kind, Kind::Hello, "the login passes");
    stream.unread(inbox);
}

fn hello(response: Option<Response>, initial: Option<(Response, &[u8])>) -> Packet {
    let digests = vec!["hmac+sha512".to_owned()];
    let (initial_response, first_words) = initial.map(|(answer, words)| (answer, words.to_vec())).unzip();
    let hello = ClientHello {
        version: "6.5".into(),
        uuid: "00".repeat(16),
        username: "alice".into(),
        salt_digests: digests.clone(),
        digests,
        response,
        initial_response,
        first_words: first_words.unwrap_or_default(),
        ..ClientHello::default()
    };
    let mut packet = hello.packet(Encoder::Rencodeplus);
    if let Some(countersign::proto::wire::xpra::Value::Dict(caps)) = packet.items.first_mut() {
        caps.push(("countersign".into(), "bench".into()));
    }
    packet
}

async fn say(stream: &mut Stream, packet: Packet, behind: &[u8]) {
    let bytes = [&packet.encode().expect("a packet"), behind].concat();
    stream.write_all(&bytes).await.expect("the server takes it");
    stream.flush().await.expect("the server takes it");
}

async fn hear(stream: &mut Stream, inbox: &mut Vec<u8>) -> Packet {
    loop {
        if let Some((packet, length)) = Decoder::new(Limits::default()).decode(inbox).expect("a packet") {
            inbox.drain(..length);
            return packet;
        }
        assert!(stream.read_buf(inbox).await.expect("an answer") > 0, "the server closed");
    }
}

/// A server in a process of its own.
struct Server {
    process: Child,
    address: String,
}

fn start(kind: &str, folder: &Path) -> Server {
    let mut process = Command::new(env::current_exe().expect("this program"))
        .args(["role", kind])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut address = String::new();
    let output = process.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut address).expect("its address");
    Server { process, address: address.trim().to_owned() }
}

/// What the process of a server does.
fn role(kind: &str, folder: &Path) {
    let runtime = Runtime::new().expect("a runtime");
    match kind {
        "bare-unix" => runtime.block_on(bare_unix(folder)),
        "bare-tls" => runtime.block_on(bare_tls(folder)),
        "gate-unix" => gate(&runtime, folder, "bind", &folder.join("door").display().to_string()),
        _ => gate(&runtime, folder, "bind-ssl", "127.0.0.1:0"),
    }
}

fn gate(runtime: &Runtime, folder: &Path, flag: &str, address: &str) {
    let mut layers = Layers::default();
    for (flag, value) in [
        ("state-dir", folder.join("state").display().to_string()),
        (flag, format!("{address},auth=password(value={PASSWORD})")),
        ("backend", format!("unix:{}", folder.join("echo").display())),
    ] {
        layers.flag(flag, &value).expect("a setting");
    }
    let paths = Paths::system().expect("a system");
    let config = Config::new(&layers, &Registry::builtin(), &paths).expect("a configuration");
    runtime.block_on(async {
        let gateway = Gateway::open(&config).await.expect("a gateway");
        for (_, address) in gateway.sockets() {
            println!("{address}");
        }
        gateway.run(std::future::pending(), std::future::pending()).await;
    });
}

async fn bare_unix(folder: &Path) {
    let listener = UnixListener::bind(folder.join("door")).expect("a socket");
    println!("unix:{}", folder.join("door").display());
    while let Ok((mut client, _)) = listener.accept().await {
        let echo = folder.join("echo");
        tokio::spawn(async move {
            let mut backend = UnixStream::connect(echo).await.expect("the daemon");
            let _ = copy_bidirectional(&mut client, &mut backend).await;
        });
    }
}

async fn bare_tls(folder: &Path) {
    let identity =
        ServerIdentity::open(&folder.join("state"), "localhost", SystemTime::now()).expect("a pair");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_client_cert_verifier(Arc::new(AnyHolder(provider)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    // As the gateway has it: no resumption, so every connection is a whole handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("tcp:{}", listener.local_addr().expect("an address"));
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, echo) = (acceptor.clone(), folder.join("echo"));
        tokio::spawn(async move {
            client.set_nodelay(true).expect("a socket");
            let mut client = acceptor.accept(client).await.expect("a handshake");
            let mut backend = UnixStream::connect(echo).await.expect("the daemon");
            let _ = copy_bidirectional(&mut client, &mut backend).await;
        });
    }
}

/// Takes every certificate whose key the client holds.
#[derive(Debug)]
struct AnyHolder(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyHolder {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
