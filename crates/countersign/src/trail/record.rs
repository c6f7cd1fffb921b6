//! One record as a line: what stands in it, and the code that joins it to the record before.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac as _};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Key;

/// HMAC-SHA-256 of a record. As `prev` of the next record it makes the chain.
pub(super) type Mac = [u8; 32];

/// What the first record of a chain names as the one before it.
pub(super) const NONE_BEFORE: Mac = [0; 32];

/// Writes a record: `fields` is a JSON object, or nothing.
pub(super) fn write(line: &mut String, key: &Key, place: (u64, &Mac), event: &str, fields: &str) -> Mac {
    let (seq, prev) = place;
    let start = line.len();
    let time = now();
    line.push_str(&format!(r#"{{"seq":{seq},"prev":"{}","time":"{time}","event":"{event}""#, hex(prev)));
    let inner = fields.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or_default();
    if !inner.is_empty() {
        line.push(',');
        line.push_str(inner);
    }
    let mac = code(key, line.get(start..).unwrap_or_default().as_bytes());
    line.push_str(SEAM);
    line.push_str(&hex(&mac));
    line.push_str("\"}\n");
    mac
}

/// A record that this key wrote and nobody changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) prev: Mac,
    pub(super) mac: Mac,
    /// It begins a file because the one before was moved away, or a run of the gateway.
    pub(super) begins: bool,
}

/// Reads a line, without its end. `None`: it is not as it was written, or by another key.
pub(super) fn read(line: &[u8], key: &Key) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?;
    // The last one: what a client said of itself stands before it, with its quotes escaped.
    let (body, rest) = text.rsplit_once(SEAM)?;
    let mac = unhex(rest.strip_suffix("\"}")?)?;
    if !bool::from(code(key, body.as_bytes()).ct_eq(&mac)) {
        return None;
    }
    let object = format!("{body}}}");
    let head: Head<'_> = serde_json::from_str(&object).ok()?;
    let begins = matches!(head.event, OPENED | CONTINUED);
    Some(Record { seq: head.seq, prev: unhex(head.prev)?, mac, begins })
}

#[derive(Deserialize)]
struct Head<'a> {
    seq: u64,
    prev: &'a str,
    event: &'a str,
}

fn code(key: &Key, body: &[u8]) -> Mac {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes()) else {
        unreachable!("HMAC takes keys of every length");
    };
    mac.update(DOMAIN);
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Mac> {
    let mut mac = [0; 32];
    if text.len() != 2 * mac.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in mac.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(mac)
}

/// RFC 3339, in UTC, to the millisecond.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        since.subsec_millis()
    )
}

/// The first record of a run of the gateway.
pub(super) const OPENED: &str = "opened";

/// The first record of a file that was begun while the gateway ran.
pub(super) const CONTINUED: &str = "continued";

/// How many records were lost before this one.
pub(super) const LOST: &str = "lost";

/// What stands before the code of a record.
const SEAM: &str = r#","mac":""#;

/// So that a code made for something else is none of ours.
const DOMAIN: &[u8] = b"countersign audit trail 1\0";
