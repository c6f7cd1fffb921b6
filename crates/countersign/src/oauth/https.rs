//! Single requests over HTTPS, bounded in time and size, from where it may block.
//!
//! HTTP in the clear is for the loopback only, nothing is redirected, and no proxy of the environment
//! is used: what travels here are tokens, secrets of clients, and the keys that decide who gets in.

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::{
    Secret,
    error::ConfigError,
    transport::{
        self, Address, Stream,
        tls::{ClientTls, OldestVersion, Trust},
    },
};

/// An address that secrets may travel to: `https://`, or `http://` at the loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    text: String,
    uri: Uri,
}

impl Url {
    /// Reads an address.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let uri: Uri = text.parse().map_err(|_| "it is no URL")?;
        if text.contains('#') || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("it holds a user or a fragment");
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => return Err("it is in the clear and not at the loopback"),
            _ => return Err("it is neither https nor http"),
        }
        Ok(Self { text: text.to_owned(), uri })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The address with more of a path, whether or not it ends with a slash.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let text = format!("{}{suffix}", self.text.trim_end_matches('/'));
        // What is put together of two right halves is right; if it were not, it would reach nothing.
        Self { uri: text.parse().unwrap_or_else(|_| self.uri.clone()), text }
    }

    /// The place of a well-known document about it (RFC 8414 section 3.1): before its path.
    pub(super) fn with_well_known(&self, name: &str) -> Self {
        let (scheme, authority) = (self.uri.scheme_str().unwrap_or("https"), self.uri.authority());
        let authority = authority.map_or("", |authority| authority.as_str());
        let path = self.uri.path().trim_end_matches('/');
        let text = format!("{scheme}://{authority}/.well-known/{name}{path}");
        Self { uri: text.parse().unwrap_or_else(|_| self.uri.clone()), text }
    }

    fn is_encrypted(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host without the brackets of IPv6.
    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    fn port(&self) -> u16 {
        let usual = if self.is_encrypted() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(usual)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who asks, for endpoints that want to know (RFC 6749 section 2.3.1).
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The client's id.
    pub(crate) id: String,
    /// Its secret, if it has one.
    pub(crate) secret: Option<Secret>,
}

/// Makes requests to servers that one set of authorities vouches for.
#[derive(Debug)]
pub(crate) struct Client {
    ca: Option<PathBuf>,
    tls: OnceLock<ClientTls>,
}

impl Client {
    /// A client that knows servers by the authorities in `ca`, or by the system's.
    ///
    /// # Errors
    /// The file cannot be read or holds none. The system's are looked for when they are needed.
    pub(crate) fn new(ca: Option<PathBuf>) -> Result<Self, ConfigError> {
        let client = Self { ca, tls: OnceLock::new() };
        if client.ca.is_some() {
            let _ = client.tls.set(client.open()?);
        }
        Ok(client)
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// There is no answer within the limits.
    pub(crate) fn get(&self, url: &Url, deadline: Instant) -> Result<Answer, Fault> {
        let request = prepared(Method::GET, url).body(Full::default());
        self.fetch(url, request, deadline)
    }

    /// Sends a form. Who asks is said in its header if there is a secret, else in the form.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) fn post(
        &self,
        url: &Url,
        form: &[(&str, &[u8])],
        by: Option<&Credentials>,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let mut body = Zeroizing::new(String::new());
        let own = by.filter(|by| by.secret.is_none()).map(|by| ("client_id", by.id.as_bytes()));
        for (name, value) in form.iter().copied().chain(own) {
            let separator = if body.is_empty() { "" } else { "&" };
            body.extend([separator, name]);
            body.push('=');
            body.extend(percent_encoding::percent_encode(value, FORM));
        }
        let mut request =
            prepared(Method::POST, url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(Credentials { id, secret: Some(secret) }) = by {
            request = request.header(AUTHORIZATION, basic(id, secret));
        }
        self.fetch(url, request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))), deadline)
    }

    fn fetch(
        &self,
        url: &Url,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let request = request.map_err(|_| Fault::new(url, "no request can be made of that"))?;
        // A runtime of its own: whoever asks is a thread that may block, with or without one.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Fault::new(url, error))?;
        let done = runtime.block_on(async {
            tokio::time::timeout_at(deadline.into(), self.exchange(url, request, deadline)).await
        });
        // Not waited for: a resolver that hangs would hold the thread for longer than it has.
        runtime.shutdown_background();
        done.unwrap_or_else(|_| Err(Fault::new(url, "it did not answer in time")))
    }

    async fn exchange(
        &self,
        url: &Url,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let broken = |error: &dyn fmt::Display| Fault::new(url, error);
        let stream = self.connect(url, deadline).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        connection.abort();
        Ok(Answer { status, body: Secret::new(body.to_vec()) })
    }

    async fn connect(&self, url: &Url, deadline: Instant) -> Result<Stream, Fault> {
        let address = Address::Tcp { host: url.host().to_owned(), port: url.port() };
        let patience = deadline.saturating_duration_since(Instant::now());
        let unreachable =
            |error: &dyn fmt::Display| Fault::new(url, format!("it cannot be reached: {error}"));
        let stream = transport::connect(&address, patience).await.map_err(|error| unreachable(&error))?;
        if !url.is_encrypted() {
            return Ok(stream);
        }
        let tls = match self.tls.get() {
            Some(tls) => tls,
            None => {
                let opened = self.open().map_err(|error| unreachable(&error))?;
                self.tls.get_or_init(|| opened)
            }
        };
        let connected =
            tls.connect(stream, url.host(), deadline).await.map_err(|error| unreachable(&error))?;
        connected.into_stream().map_err(|error| unreachable(&error))
    }

    fn open(&self) -> Result<ClientTls, ConfigError> {
        let trust = self.ca.clone().map_or(Trust::SystemRoots, Trust::CaFile);
        Ok(ClientTls::new(&trust, None, OldestVersion::Tls12)?.speaking(&["http/1.1"]))
    }
}

/// What came back. It may hold tokens, so it is kept as a secret.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Secret,
}

impl Answer {
    /// The answer, if its status says that it is one.
    ///
    /// # Errors
    /// Any other status than 200. Nothing is followed.
    pub(crate) fn expect_success(self, url: &Url) -> Result<Self, Fault> {
        match self.status {
            200 => Ok(self),
            status => Err(Fault::new(url, format!("it answers with status {status}"))),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none, or not of that form. The error quotes nothing of it.
    pub(crate) fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Fault> {
        let odd = |_| Fault::new(url, "its answer is not what the standard says");
        serde_json::from_slice(self.body.expose()).map_err(odd)
    }
}

/// Why there is no answer: where, and what happened. It holds no secret.
#[derive(Debug)]
pub(crate) struct Fault(String);

impl Fault {
    /// What went wrong at an address.
    pub(crate) fn new(url: &Url, why: impl fmt::Display) -> Self {
        Self(format!("{url}: {why}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn prepared(method: Method, url: &Url) -> hyper::http::request::Builder {
    let target = url.uri.path_and_query().map_or("/", |target| target.as_str());
    Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, url.uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
}

/// RFC 6749 section 2.3.1: both halves are encoded as in a form before they are joined.
fn basic(id: &str, secret: &Secret) -> String {
    let secret = percent_encoding::percent_encode(secret.expose(), FORM);
    let pair = Zeroizing::new(format!("{}:{secret}", utf8_percent_encode(id, FORM)));
    format!("Basic {}", STANDARD.encode(pair.as_bytes()))
}

fn is_loopback(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// What a form leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes of an answer that are read: sets of keys have a few thousand.
const MOST_BYTES: usize = 256 * 1024;

/// How long one answer may take, unless somebody says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_033_secrets_travel_in_the_clear_at_the_loopback_only() {
        for fine in [
            "https://id.example",
            "https://id.example:8443/realms/x",
            "http://127.0.0.1:80",
            "http://[::1]/x",
            "http://LOCALHOST",
        ] {
            assert!(Url::parse(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "id.example",
            "http://id.example",
            "http://127.0.0.1.example",
            "https://",
            "https:///x",
            "https://a@b/",
            "https://b/#c",
            "ftp://127.0.0.1",
            "https://a b/",
        ] {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn documents_about_an_issuer_are_where_the_standards_say() {
        let url = |text| Url::parse(text).unwrap();
        for (issuer, openid, oauth) in [
            ("https://id.example", "https://id.example/.well-known/x", "https://id.example/.well-known/y"),
            (
                "https://id.example/a/b/",
                "https://id.example/a/b/.well-known/x",
                "https://id.example/.well-known/y/a/b",
            ),
        ] {
            assert_eq!(url(issuer).with_suffix("/.well-known/x").text(), openid);
            assert_eq!(url(issuer).with_well_known("y").text(), oauth);
        }
    }

    #[test]
    fn a_client_names_itself_as_the_standard_says() {
        // RFC 6749 section 2.3.1: colons and blanks of the halves do not become separators.
        assert_eq!(
            basic("a:b", &Secret::new("p q%")),
            format!("Basic {}", STANDARD.encode("a%3Ab:p%20q%25"))
        );
    }

    #[test]
    fn a_server_that_says_nothing_or_too_much_ends_at_the_limit() {
        use std::io::Write as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Url::parse(&format!("http://{}/keys", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(None).unwrap();
        let start = Instant::now();
        let silent = client.get(&place, start + Duration::from_millis(200)).unwrap_err();
        assert!(silent.to_string().ends_with("it did not answer in time"), "{silent}");
        assert!(start.elapsed() < Duration::from_secs(5));
        let talker = std::thread::spawn(move || {
            // The first is the silent one's.
            let (_silent, _) = listener.accept().unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        });
        assert!(client.get(&place, Instant::now() + Duration::from_secs(30)).is_err());
        talker.join().unwrap();
    }
}
