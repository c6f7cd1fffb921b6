//! U2F's messages ("FIDO U2F Raw Message Formats" 1.2).

use std::{
    thread,
    time::{Duration, Instant},
};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    broken,
    ctaphid::{Capability, Channel, Command},
};
use crate::keys::{Algorithm, Assertion, KeyError, NewKey, PublicKey, Registered, Signing, assertion::hash};

/// Makes a key (4.3).
pub(super) fn register(
    channel: &mut Channel,
    new: &NewKey<'_>,
    patience: Duration,
) -> Result<Registered, KeyError> {
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).map_err(|_| broken("the system gives no random bytes"))?;
    let app = hash(new.app_id.as_bytes());
    let answer = ask(channel, REGISTER, 0, &[challenge, app].concat(), Instant::now() + patience)?;
    read_registration(&answer, &challenge, &app)
        .ok_or_else(|| broken("the new key is not signed as it should be"))
}

/// Signs (5.1): with a touch, which the device waits for as long as it is asked again.
pub(super) fn sign(
    channel: &mut Channel,
    signing: &Signing<'_>,
    patience: Duration,
) -> Result<Assertion, KeyError> {
    let length = u8::try_from(signing.handle.len()).map_err(|_| KeyError::NotMine)?;
    let app = hash(signing.app_id.as_bytes());
    let data = [&signing.client_data_hash[..], &app, &[length], signing.handle].concat();
    let answer = ask(channel, AUTHENTICATE, PRESENCE_AND_SIGN, &data, Instant::now() + patience)?;
    Assertion::parse(&answer).ok_or_else(|| broken("its signature is too short"))
}

/// Sends a command until the device was touched or time is up.
fn ask(
    channel: &mut Channel,
    instruction: u8,
    how: u8,
    data: &[u8],
    until: Instant,
) -> Result<Vec<u8>, KeyError> {
    if channel.can(Capability::NoCtap1) {
        return Err(KeyError::Unable("it does not know U2F".to_owned()));
    }
    // ISO 7816-4 with extended lengths: three bytes say how long the data are, two how long the answer may be.
    let length = u16::try_from(data.len()).map_err(|_| broken("the message is too long"))?.to_be_bytes();
    let message = [&[0, instruction, how, 0, 0], &length[..], data, &[0, 0]].concat();
    loop {
        let mut answer = channel.call(Command::Ctap1, &message, until)?;
        let status = answer.split_off(answer.len().saturating_sub(2));
        match <[u8; 2]>::try_from(status).map(u16::from_be_bytes) {
            Ok(0x9000) => return Ok(answer),
            Ok(0x6985) if Instant::now() < until => thread::sleep(BETWEEN),
            Ok(0x6985) => return Err(KeyError::NobodyThere),
            Ok(0x6a80) => return Err(KeyError::NotMine),
            Ok(0x6d00) => return Err(KeyError::Unable("it does not know this command".to_owned())),
            Ok(other) => return Err(KeyError::Broken(format!("it answers with status {other:#06x}"))),
            Err(_) => return Err(broken("it answers without a status")),
        }
    }
}

/// 4.3: `0x05 | public key (65) | length | key handle | certificate | signature`. The signature shows that
/// nothing was changed on the way; who made the device is nobody's business here.
fn read_registration(answer: &[u8], challenge: &[u8; 32], app: &[u8; 32]) -> Option<Registered> {
    let (point, rest) = answer.strip_prefix(&[0x05])?.split_at_checked(65)?;
    let (length, rest) = rest.split_first()?;
    let (handle, rest) = rest.split_at_checked(usize::from(*length))?;
    let (signature, certificate) = X509Certificate::from_der(rest).ok()?;
    let maker = certificate.public_key().subject_public_key.as_ref();
    let maker = PublicKey::new(Algorithm::Es256, maker).ok()?;
    let signed = [&[0][..], app, challenge, handle, point].concat();
    let key = PublicKey::new(Algorithm::Es256, point).ok()?;
    maker.verifies(&signed, signature).then(|| Registered { key, handle: handle.to_owned() })
}

const REGISTER: u8 = 0x01;
const AUTHENTICATE: u8 = 0x02;
const PRESENCE_AND_SIGN: u8 = 0x03;

/// Between two questions whether somebody was there.
const BETWEEN: Duration = Duration::from_millis(100);
