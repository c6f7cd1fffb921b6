//! FIDO2's messages (CTAP 2.1, 6): CBOR in its canonical form, made and read by `ciborium`.

use std::time::{Duration, Instant};

use ciborium::{Value, cbor};

use super::{
    broken,
    ctaphid::{Channel, Command},
};
use crate::keys::{Algorithm, Assertion, KeyError, NewKey, PublicKey, Registered, Signing, assertion::hash};

/// Makes a key (6.1), not a resident one: the handle brings it back.
pub(super) fn register(
    channel: &mut Channel,
    new: &NewKey<'_>,
    patience: Duration,
) -> Result<Registered, KeyError> {
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).map_err(|_| broken("the system gives no random bytes"))?;
    let (app_id, user) = (new.app_id, new.user);
    let id = hash(user.as_bytes());
    let request = cbor!({
        1 => Value::Bytes(challenge.to_vec()),
        2 => { "id" => app_id, "name" => app_id },
        3 => { "id" => Value::Bytes(id.to_vec()), "name" => user },
        4 => [{ "alg" => cose(new.algorithm), "type" => "public-key" }],
    });
    let answer = ask(channel, MAKE_CREDENTIAL, request.ok(), patience)?;
    let data = field(&answer, 2).and_then(Value::as_bytes).ok_or_else(|| broken("it gives no key"))?;
    let made = read_credential(data, app_id).ok_or_else(|| broken("its new key cannot be read"))?;
    if made.key.algorithm() == new.algorithm { Ok(made) } else { Err(broken("it made another kind of key")) }
}

/// Signs (6.2), with a finger or its own PIN where the device has such a thing by itself.
pub(super) fn sign(
    channel: &mut Channel,
    signing: &Signing<'_>,
    patience: Duration,
) -> Result<Assertion, KeyError> {
    let app_id = signing.app_id;
    let hash_of_data = Value::Bytes(signing.client_data_hash.to_vec());
    let keys = cbor!([{ "id" => Value::Bytes(signing.handle.to_vec()), "type" => "public-key" }]);
    let keys = keys.map_err(|_| broken("the question cannot be written"))?;
    let request = if knows_its_user(channel, patience)? {
        cbor!({ 1 => app_id, 2 => hash_of_data, 3 => keys, 5 => { "uv" => true } })
    } else {
        cbor!({ 1 => app_id, 2 => hash_of_data, 3 => keys })
    };
    let answer = ask(channel, GET_ASSERTION, request.ok(), patience)?;
    let bytes = |key| field(&answer, key).and_then(Value::as_bytes);
    let (data, signature) = bytes(2).zip(bytes(3)).ok_or_else(|| broken("it gives no signature"))?;
    let (flags, counter, more) =
        read_data(data, app_id).ok_or_else(|| broken("it signed for another place"))?;
    if !more.is_empty() {
        return Err(broken("it signed more than it was asked to"));
    }
    Ok(Assertion::new(flags, counter, signature.clone()))
}

/// Whether it checks fingers, or its own keypad, by itself (6.4: the option `uv`).
fn knows_its_user(channel: &mut Channel, patience: Duration) -> Result<bool, KeyError> {
    let info = ask(channel, GET_INFO, None, patience)?;
    let options = field(&info, 4).and_then(Value::as_map);
    let uv = options.and_then(|options| options.iter().find(|(key, _)| key.as_text() == Some("uv")));
    Ok(uv.is_some_and(|(_, value)| value.as_bool() == Some(true)))
}

/// Sends a command with its parameters, if it has any.
fn ask(
    channel: &mut Channel,
    command: u8,
    parameters: Option<Value>,
    patience: Duration,
) -> Result<Value, KeyError> {
    let mut message = vec![command];
    if let Some(parameters) = parameters {
        let written = ciborium::into_writer(&parameters, &mut message);
        written.map_err(|_| broken("the question cannot be written"))?;
    }
    let answer = channel.call(Command::Ctap2, &message, Instant::now() + patience)?;
    let (status, content) = answer.split_first().ok_or_else(|| broken("it answers with nothing"))?;
    match status {
        0x00 => ciborium::de::from_reader_with_recursion_limit(content, 8)
            .map_err(|_| broken("its answer cannot be read")),
        0x26 => Err(KeyError::Unable("it does not know that algorithm".to_owned())),
        0x2e => Err(KeyError::NotMine),
        0x27 | 0x2d | 0x2f | 0x3a => Err(KeyError::NobodyThere),
        0x31..=0x36 => Err(KeyError::WantsPin),
        other => Err(KeyError::Broken(format!("it answers with error {other:#04x}"))),
    }
}

fn field(map: &Value, key: i64) -> Option<&Value> {
    let found = map.as_map()?.iter().find(|(found, _)| found.as_integer() == Some(key.into()));
    found.map(|(_, value)| value)
}

/// 6.1 of WebAuthn: `SHA-256(application) | flags | counter | more`.
fn read_data<'a>(data: &'a [u8], app_id: &str) -> Option<(u8, u32, &'a [u8])> {
    let rest = data.strip_prefix(&hash(app_id.as_bytes()))?;
    let (flags, rest) = rest.split_first()?;
    let (counter, more) = rest.split_first_chunk::<4>()?;
    Some((*flags, u32::from_be_bytes(*counter), more))
}

/// 6.5.1 of WebAuthn: `AAGUID (16) | length (2) | credential id | public key in COSE`.
fn read_credential(data: &[u8], app_id: &str) -> Option<Registered> {
    let (_, _, more) = read_data(data, app_id)?;
    let (_, rest) = more.split_at_checked(16)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (handle, key) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let key: Value = ciborium::de::from_reader_with_recursion_limit(key, 8).ok()?;
    let bytes = |label| field(&key, label).and_then(Value::as_bytes);
    let key = match field(&key, 3)?.as_integer().map(i128::from)? {
        // RFC 9053 7.1.1 and 7.2: curve, then coordinates.
        -7 => {
            let (x, y) = (bytes(-2)?, bytes(-3)?);
            PublicKey::new(Algorithm::Es256, &[&[0x04], x.as_slice(), y.as_slice()].concat())
        }
        -8 => PublicKey::new(Algorithm::EdDsa, bytes(-2)?),
        _ => return None,
    };
    Some(Registered { key: key.ok()?, handle: handle.to_owned() })
}

/// The numbers of RFC 9053.
const fn cose(algorithm: Algorithm) -> i64 {
    match algorithm {
        Algorithm::Es256 => -7,
        Algorithm::EdDsa => -8,
    }
}

const MAKE_CREDENTIAL: u8 = 0x01;
const GET_ASSERTION: u8 = 0x02;
const GET_INFO: u8 = 0x04;
