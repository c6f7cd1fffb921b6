//! Ends of a SCRAM login that know nothing of the product: GNU SASL, and Python's own libraries. The program lies in
//! `scram/`; here are the wires around it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use crate::{
    certificate::Pair,
    wire::{Received, Value, hello, honest, packet, read, send, texts, with, without},
};

/// One end of a login, which computes its messages by itself.
#[derive(Debug)]
pub struct Sasl {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Sasl {
    /// Starts the `client` or `server` end for `alice`, on a connection with this `tls-exporter` data if any.
    #[must_use]
    pub fn start(end: &str, mechanism: &str, password: &str, binding: Option<&[u8]>) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scram/sasl.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(source).args([end, mechanism, "alice", password]);
        command.args(binding.map(|binding| STANDARD.encode(binding)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 is installed");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    /// Takes what the other end said.
    pub fn hears(&mut self, message: &[u8]) {
        // One that has ended already says so when it is asked.
        let _ = writeln!(self.input, "{}", STANDARD.encode(message));
    }

    /// What it says next, or its last words: `done`, `failed: WHY`.
    pub fn says(&mut self) -> Result<Vec<u8>, String> {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        let line = line.trim();
        if line == "done" || line.starts_with("failed") || line.is_empty() {
            return Err(line.to_owned());
        }
        Ok(STANDARD.decode(line).expect("base64"))
    }
}

impl Drop for Sasl {
    fn drop(&mut self) {
        // It waits for input for ever where a login ended early.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Logs a foreign client in as `alice` at a gateway and asks for `info`: the gateway's last packet, and whether the
/// client is satisfied that the gateway knows the password.
pub fn log_in(stream: &mut (impl Read + Write), mechanism: &str, client: &mut Sasl) -> (Received, bool) {
    let caps = with(without(honest("alice"), "challenge"), "digest", texts(&[mechanism]));
    let mut satisfied = false;
    send(stream, &hello(caps.clone()));
    loop {
        let challenge = match read(stream) {
            Received::Packet(kind, items) if kind == "challenge" => Received::Packet(kind, items).challenge(),
            end => return (end, satisfied),
        };
        let (name, stage) = challenge.digest.split_once(':').expect("a round");
        assert_eq!(name, mechanism);
        if stage != "client-first" {
            client.hears(&challenge.salt);
        }
        let response = client.says().unwrap_or_else(|last| {
            satisfied = last == "done";
            b"OK".to_vec()
        });
        send(stream, &hello(with(caps.clone(), "challenge_response", response.as_slice().into())));
    }
}

/// A foreign server for one login of our client: whether the client was let in, and what it said it could do.
pub fn serve(stream: &mut (impl Read + Write), mechanism: &str, server: &mut Sasl) -> (bool, Vec<String>) {
    let (mut offered, mut stage) = (Vec::new(), "client-first");
    let mut message = vec![7; 64];
    loop {
        let Received::Packet(_, items) = read(stream) else { return (false, offered) };
        let item = |name: &str| match &items[0] {
            Value::Dict(caps) => caps.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value),
            other => panic!("a dictionary expected: {other:?}"),
        };
        if let Some(digests) = item("digest") {
            offered = digests.items().iter().map(Value::text).collect();
        }
        if let Some(response) = item("challenge_response") {
            stage = match stage {
                "client-first" => "server-first",
                "server-first" => "server-final",
                _ => {
                    assert_eq!(response.bytes(), b"OK");
                    send(stream, &hello(vec![("version".into(), "6.5".into())]));
                    return (true, offered);
                }
            };
            server.hears(&response.bytes());
            match server.says() {
                Ok(said) => message = said,
                Err(_) => {
                    let no = ["disconnect", "authentication failed"].map(Value::from);
                    send(stream, &packet(&Value::List(no.to_vec())));
                    return (false, offered);
                }
            }
        }
        let digest = format!("{mechanism}:{stage}");
        let challenge = Value::List(vec![
            "challenge".into(),
            message.as_slice().into(),
            Value::Dict(Vec::new()),
            digest.as_str().into(),
            "hmac+sha512".into(),
            "password".into(),
        ]);
        send(stream, &packet(&challenge));
    }
}

/// A TLS session to a gateway that this root vouches for, and its `tls-exporter` data.
#[must_use]
pub fn tls_client(stream: TcpStream, root: &str) -> (StreamOwned<ClientConnection, TcpStream>, Vec<u8>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).expect("the gateway's root")).expect("a root");
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    }
    let binding = stream.conn.export_keying_material(vec![0; 32], LABEL, Some(b"")).expect("TLS 1.3");
    (stream, binding)
}

/// The same from the server's end, which shows this certificate. `None` if the client does not want it.
#[must_use]
pub fn tls_server(
    stream: TcpStream,
    pair: &Pair,
) -> Option<(StreamOwned<ServerConnection, TcpStream>, Vec<u8>)> {
    let certificate = CertificateDer::from_pem_file(&pair.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let connection = ServerConnection::new(Arc::new(config.expect("a pair"))).expect("a session");
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    let binding = stream.conn.export_keying_material(vec![0; 32], LABEL, Some(b"")).expect("TLS 1.3");
    Some((stream, binding))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// RFC 9266.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
