//! Heads of HTTP/1.1, bounded, and what makes one a WebSocket's (RFC 6455 sections 4.1 and 4.2).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha1::{Digest as _, Sha1};

/// The head of a request.
pub struct Request {
    /// `GET`, as it was written.
    pub method: String,
    /// What is asked for, without a query.
    pub path: String,
    fields: Vec<(String, Vec<u8>)>,
    version: u8,
}

impl Request {
    /// Reads a head and says how many bytes it has. `None`: more are needed.
    ///
    /// # Errors
    /// It is malformed, or beyond [`LARGEST_HEAD`] or [`MOST_FIELDS`] (S-18).
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Request::new(&mut fields);
        let Some(length) = whole(head.parse(bytes), bytes)? else { return Ok(None) };
        let target = head.path.unwrap_or_default();
        let request = Self {
            method: head.method.unwrap_or_default().to_owned(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            fields: owned(head.headers),
            version: head.version.unwrap_or_default(),
        };
        Ok(Some((request, length)))
    }

    /// The values of a field, in order; the case of its name does not matter.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = move |(field, _): &&(String, Vec<u8>)| field.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| value.as_slice())
    }

    /// The upgrade that it asks for; `None` if it asks for none.
    ///
    /// # Errors
    /// It does not ask as RFC 6455 section 4.2.1 wants it.
    pub fn upgrade(&self) -> Result<Option<Upgrade>, HeadError> {
        if !self.lists("upgrade", |word| word.eq_ignore_ascii_case("websocket")) {
            return Ok(None);
        }
        if self.method != "GET" || self.version != 1 {
            return Err(HeadError::Malformed("an upgrade is asked for by GET and HTTP/1.1"));
        }
        if !self.lists("connection", |word| word.eq_ignore_ascii_case("upgrade")) {
            return Err(HeadError::Malformed("the field Connection does not say Upgrade"));
        }
        if self.only("sec-websocket-version")? != Some(VERSION) {
            return Err(HeadError::Version);
        }
        if self.only("host")?.is_none() {
            return Err(HeadError::Malformed("the field Host is missing"));
        }
        let has_body = self.values("transfer-encoding").next().is_some()
            || self.values("content-length").any(|length| length != b"0");
        if has_body {
            return Err(HeadError::Malformed("an upgrade has no body"));
        }
        if !self.lists("sec-websocket-protocol", |word| word == SUBPROTOCOL) {
            return Err(HeadError::Malformed("the protocol binary is not among those of the client"));
        }
        let key = self.only("sec-websocket-key")?.filter(|key| is_key(key));
        let key = key.ok_or(HeadError::Malformed("the key has no sixteen bytes"))?;
        let origin = self.only("origin")?.map(str::to_owned);
        Ok(Some(Upgrade { accept: answer_to(key), origin }))
    }

    /// Whether a field that is a list of words holds one like that.
    fn lists(&self, name: &str, like: impl Fn(&str) -> bool) -> bool {
        let texts = self.values(name).filter_map(|value| std::str::from_utf8(value).ok());
        texts.flat_map(|text| text.split(',')).any(|word| like(word.trim()))
    }

    /// The value of a field that may be there once. Of two nobody knows which one a proxy looked at.
    fn only<'a>(&'a self, name: &'static str) -> Result<Option<&'a str>, HeadError> {
        let mut values = self.values(name);
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(_), Some(_)) => return Err(HeadError::Malformed("a field is there twice")),
            (Some(value), None) => std::str::from_utf8(value),
        };
        value.map(|value| Some(value.trim())).map_err(|_| HeadError::Malformed("a field is no text"))
    }
}

/// Without the values of its fields, among which may be secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {:?}, {} fields)", self.method, self.path, self.fields.len())
    }
}

/// An upgrade to WebSocket that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgrade {
    /// What proves to the client that its key was read.
    accept: String,
    /// The page whose script asks, as the browser says; programs say nothing.
    pub origin: Option<String>,
}

impl Upgrade {
    /// The answer that accepts it.
    pub fn accepting(&self) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n",
            self.accept
        );
        head.into_bytes()
    }
}

/// An answer that ends the connection, with a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "whoever answers writes it out")]
pub struct Answer {
    /// `404 Not Found`.
    pub status: &'static str,
    /// Another field, with its line end; or nothing.
    pub field: &'static str,
    /// What a person reads.
    pub text: &'static str,
}

impl Answer {
    /// As bytes; `head_only` for the method HEAD. No program, version or host is named.
    pub fn bytes(&self, head_only: bool) -> Vec<u8> {
        let Self { status, field, text } = self;
        let text_length = text.len() + 1;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {text_length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{field}Connection: close\r\n\r\n"
        );
        let body = if head_only { String::new() } else { format!("{text}\n") };
        (head + &body).into_bytes()
    }
}

impl From<HeadError> for Answer {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Self {
                status: "431 Request Header Fields Too Large",
                field: "",
                text: "The head of the request is too large.",
            },
            HeadError::Version => Self {
                status: "426 Upgrade Required",
                field: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                text: "Version 13 of WebSocket is spoken here.",
            },
            _ => Self { status: "400 Bad Request", field: "", text: "The request is not understood." },
        }
    }
}

/// Why a head is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// It has more than [`LARGEST_HEAD`] bytes or [`MOST_FIELDS`] fields.
    TooLarge,
    /// It breaks the rules of HTTP or of an upgrade.
    Malformed(&'static str),
    /// Another version of WebSocket is asked for.
    Version,
    /// The server answered with this status in place of an upgrade.
    Status(u16),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the head of HTTP is too large"),
            Self::Malformed(why) => f.write_str(why),
            Self::Version => f.write_str("another version of WebSocket is asked for"),
            Self::Status(status) => write!(f, "it answers {status} in place of an upgrade"),
        }
    }
}

impl std::error::Error for HeadError {}

/// A client's key from sixteen random bytes.
pub fn key_of(random: &[u8; 16]) -> String {
    BASE64.encode(random)
}

/// What a server answers to a client's key.
pub fn answer_to(key: &str) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The request of a client: an upgrade of `path` at `host` (`HOST:PORT`).
pub fn request(host: &str, path: &str, key: &str) -> Vec<u8> {
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: {VERSION}\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    head.into_bytes()
}

/// Judges a server's answer to a request with `key`, and says how many bytes its head has. `None`: more are
/// needed.
///
/// # Errors
/// It is no answer of HTTP, or accepts nothing, or not this.
pub fn accepted(bytes: &[u8], key: &str) -> Result<Option<usize>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let Some(length) = whole(head.parse(bytes), bytes)? else { return Ok(None) };
    if head.code != Some(101) {
        return Err(HeadError::Status(head.code.unwrap_or_default()));
    }
    let says = |name: &str, like: &dyn Fn(&str) -> bool| {
        let mut fields = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        fields.any(|field| std::str::from_utf8(field.value).is_ok_and(|value| like(value.trim())))
    };
    if !says("upgrade", &|value| value.eq_ignore_ascii_case("websocket"))
        || !says("connection", &|value| value.eq_ignore_ascii_case("upgrade"))
        || !says("sec-websocket-accept", &|value| value == answer_to(key))
    {
        return Err(HeadError::Malformed("the server's answer accepts something else"));
    }
    if !says("sec-websocket-protocol", &|value| value == SUBPROTOCOL) {
        return Err(HeadError::Malformed("the server does not choose the protocol binary"));
    }
    if says("sec-websocket-extensions", &|_| true) {
        return Err(HeadError::Malformed("the server chooses extensions that nobody offered"));
    }
    Ok(Some(length))
}

/// The length of a head that is there as a whole.
fn whole(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length <= LARGEST_HEAD => Ok(Some(length)),
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST_HEAD => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(_) => Err(HeadError::Malformed("it is no head of HTTP")),
    }
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect()
}

fn is_key(key: &str) -> bool {
    BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Bytes of a head (S-18).
pub const LARGEST_HEAD: usize = 16 * 1024;

/// Fields of a head (S-18).
pub const MOST_FIELDS: usize = 100;

/// RFC 6455 section 4.1.
const VERSION: &str = "13";

/// What Xpra's clients and servers agree on; each insists.
const SUBPROTOCOL: &str = "binary";

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    /// The request and answer of RFC 6455 section 1.2, with our protocol.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn upgrade(bytes: &[u8]) -> Result<Option<Upgrade>, HeadError> {
        Request::read(bytes)?.expect("a whole head").0.upgrade()
    }

    #[test]
    fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
        assert_eq!(answer_to(KEY), ACCEPT);
        assert_eq!(key_of(b"the sample nonce"), KEY);
        let asked = upgrade(&request("h:80", "/x", KEY)).unwrap().unwrap();
        assert_eq!((asked.accept.as_str(), asked.origin.as_deref()), (ACCEPT, None));
        let answer = asked.accepting();
        assert_eq!(accepted(&answer, KEY), Ok(Some(answer.len())));
        assert_eq!(accepted(&answer[..answer.len() - 1], KEY), Ok(None));
    }

    #[test]
    fn the_heads_of_xpra_6_5_5_are_read_and_its_answer_is_ours() {
        let asked = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Protocol: binary\r\nHost: 127.0.0.1:14539\r\n\
                     Sec-WebSocket-Key: t/Pey6HPSau/KPM/Xytw7Q==\r\n\r\n";
        let answer = upgrade(asked.as_bytes()).unwrap().unwrap().accepting();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: ODMttez80mk5IYJjI5J/wO+w0TA=\r\nSec-WebSocket-Protocol: binary\r\n\r\n";
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }

    #[test]
    fn s_018_an_upgrade_is_asked_for_in_one_way_only() {
        let right = String::from_utf8(request("h:80", "/", KEY)).unwrap();
        let origin = right.replace("Host:", "Origin: https://a.example\r\nHost:");
        assert_eq!(upgrade(origin.as_bytes()).unwrap().unwrap().origin.as_deref(), Some("https://a.example"));
        for (old, new) in [
            ("GET", "POST"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("Connection: Upgrade", "Connection: close"),
            ("Host: h:80\r\n", ""),
            ("Host:", "Host: other\r\nHost:"),
            ("binary", "text"),
            (KEY, "c2hvcnQ="),
            (KEY, "no base 64"),
            ("Sec-WebSocket-Key:", "X-Key:"),
            ("Host:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost:"),
            ("Host:", "Origin: https://a.example\r\nOrigin: https://b.example\r\nHost:"),
            ("Host:", "Content-Length: 5\r\nHost:"),
            ("Host:", "Transfer-Encoding: chunked\r\nHost:"),
        ] {
            let changed = right.replacen(old, new, 1);
            assert_ne!(changed, right);
            assert!(matches!(upgrade(changed.as_bytes()), Err(HeadError::Malformed(_))), "{new}");
        }
        for version in ["8", "14", "13, 13"] {
            let changed = right.replace("Version: 13", &format!("Version: {version}"));
            assert_eq!(upgrade(changed.as_bytes()), Err(HeadError::Version), "{version}");
        }
        assert_eq!(upgrade(right.replace("Upgrade: websocket", "Upgrade: h2c").as_bytes()), Ok(None));
    }

    #[test]
    fn s_018_a_head_has_at_most_16_kib_and_100_fields() {
        let read = |text: String| Request::read(text.as_bytes()).map(|read| read.is_some());
        let fields = |number: usize| "X: y\r\n".repeat(number);
        assert_eq!(read(format!("GET / HTTP/1.1\r\n{}\r\n", fields(MOST_FIELDS))), Ok(true));
        assert_eq!(
            read(format!("GET / HTTP/1.1\r\n{}\r\n", fields(MOST_FIELDS + 1))),
            Err(HeadError::TooLarge)
        );
        let long = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length));
        let overhead = long(0).len();
        assert_eq!(read(long(LARGEST_HEAD - overhead)), Ok(true));
        assert_eq!(read(long(LARGEST_HEAD - overhead + 1)), Err(HeadError::TooLarge));
        assert_eq!(read(format!("GET /{}", "x".repeat(LARGEST_HEAD - 6))), Ok(false));
        assert_eq!(read(format!("GET /{}", "x".repeat(LARGEST_HEAD - 5))), Err(HeadError::TooLarge));
        assert_eq!(
            read("GET / HTTP/1.1\r\nbad field\r\n\r\n".into()),
            Err(HeadError::Malformed("it is no head of HTTP"))
        );
        assert!(read("GET / HTTP/2.0\r\n\r\n".into()).is_err());
    }

    #[test]
    fn a_client_takes_no_other_answer_than_the_one_to_its_key() {
        let right = String::from_utf8(Upgrade { accept: ACCEPT.into(), origin: None }.accepting()).unwrap();
        for (old, new) in [
            (ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Connection: Upgrade", "Connection: close"),
            ("Sec-WebSocket-Protocol: binary", "X: y"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        ] {
            assert!(accepted(right.replacen(old, new, 1).as_bytes(), KEY).is_err(), "{new}");
        }
        let refused = Answer { status: "403 Forbidden", field: "", text: "No." };
        assert_eq!(accepted(&refused.bytes(false), KEY), Err(HeadError::Status(403)));
    }

    #[test]
    fn an_answer_says_its_length_and_to_head_no_more() {
        let answer = Answer { status: "404 Not Found", field: "Allow: GET\r\n", text: "Nothing." };
        let (whole, head) = (answer.bytes(false), answer.bytes(true));
        let text = String::from_utf8(whole).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n") && text.ends_with("\r\n\r\nNothing.\n"));
        assert!(text.contains("Content-Length: 9\r\n") && text.contains("Connection: close\r\n"));
        assert_eq!(head, text.strip_suffix("Nothing.\n").unwrap().as_bytes());
    }

    #[test]
    fn a_request_does_not_print_the_values_of_its_fields() {
        let request = Request::read(b"GET /?q=1 HTTP/1.1\r\nCookie: secret\r\n\r\n").unwrap().unwrap().0;
        assert_eq!(format!("{request:?}"), "Request(GET \"/\", 1 fields)");
        assert_eq!(request.values("COOKIE").collect::<Vec<_>>(), [b"secret"]);
    }
}
