//! The messages that the gateway answers itself, as Multipass's clients of all versions write and read them. Fields that
//! are not listed are skipped, so newer clients may add some.

use super::{
    WireError,
    field::{Field, Fields, Writer},
};
use crate::secret::Secret;

/// A message: its bytes behind the frame head, and back.
///
/// Encoded messages are [`Secret`] because some hold passphrases.
pub trait Message: Sized {
    /// Reads a message. A field with another type than ours is skipped, like one we do not know.
    ///
    /// # Errors
    /// Bytes that are not fields, or text that is not UTF-8.
    fn decode(payload: &[u8]) -> Result<Self, WireError>;

    /// Writes it.
    fn encode(&self) -> Secret;
}

/// Asks whether the caller is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingRequest;

/// "Yes".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PingReply;

/// Asks to be accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthenticateRequest {
    /// The passphrase, or the text of an invitation. Text in UTF-8.
    pub passphrase: Secret,
    /// 0 to 4: how much of the server's log is wanted. None is ever sent.
    pub verbosity_level: i32,
}

/// "Accepted", if the status is OK; otherwise a line of the server's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthenticateReply {
    /// A line of the server's log.
    pub log_line: String,
}

/// Asks for a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetRequest {
    /// The setting's name.
    pub key: String,
    /// As in [`AuthenticateRequest`].
    pub verbosity_level: i32,
}

/// A setting's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetReply {
    /// For `local.passphrase`: empty when unset. Clients show `true` for anything else.
    pub value: String,
    /// A line of the server's log.
    pub log_line: String,
}

/// Asks to change a setting.
#[derive(Debug)]
#[non_exhaustive]
pub struct SetRequest {
    /// The setting's name.
    pub key: String,
    /// Its new value; empty unsets. Text in UTF-8, perhaps the passphrase.
    pub val: Secret,
    /// As in [`AuthenticateRequest`].
    pub verbosity_level: i32,
    /// The answer "yes" to a question of the server.
    pub authorized: bool,
}

/// The outcome of a change, or a question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetReply {
    /// A line of the server's log.
    pub log_line: String,
    /// What the question is about.
    pub reply_message: String,
    /// Whether the server waits for a second request that says `authorized`.
    pub needs_authorization: bool,
}

/// Asks that the certificate of this connection takes the place of an accepted one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewRequest {
    /// The accepted certificate, in DER.
    pub certificate: Vec<u8>,
    /// A signature over [`RenewRequest::statement`] by that certificate's key: ECDSA with SHA-256, in ASN.1.
    pub proof: Vec<u8>,
}

/// "Renewed".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewReply;

impl AuthenticateRequest {
    /// A request with this passphrase or invitation.
    #[must_use]
    pub fn new(passphrase: Secret) -> Self {
        Self { passphrase, verbosity_level: 0 }
    }
}

impl GetRequest {
    /// A request for this setting.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), verbosity_level: 0 }
    }
}

impl GetReply {
    /// A reply with this value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), log_line: String::new() }
    }
}

impl SetRequest {
    /// A request to give this setting this value.
    #[must_use]
    pub fn new(key: impl Into<String>, val: Secret) -> Self {
        Self { key: key.into(), val, verbosity_level: 0, authorized: false }
    }
}

impl RenewRequest {
    /// A request in the name of `certificate` (DER), whose key made `proof`.
    #[must_use]
    pub fn new(certificate: impl Into<Vec<u8>>, proof: impl Into<Vec<u8>>) -> Self {
        Self { certificate: certificate.into(), proof: proof.into() }
    }

    /// What the key of the old certificate signs: that the certificate with the fingerprint `newcomer` may follow it, on
    /// the connection with this `channel_binding` (`tls-exporter`) and on no other, so a proof cannot be replayed.
    #[must_use]
    pub fn statement(channel_binding: &[u8], newcomer: &[u8; 32]) -> Vec<u8> {
        // The fixed part ends in a zero and the fingerprint has a fixed length: no two statements have the same bytes.
        [b"countersign renew\0", channel_binding, newcomer].concat()
    }
}

impl Message for PingRequest {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        skip_all(payload).map(|()| Self)
    }

    fn encode(&self) -> Secret {
        Writer::default().finish()
    }
}

impl Message for PingReply {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        skip_all(payload).map(|()| Self)
    }

    fn encode(&self) -> Secret {
        Writer::default().finish()
    }
}

impl Message for AuthenticateRequest {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::new(Secret::new(""));
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.passphrase = secret(bytes)?,
                (2, Field::Number(number)) => message.verbosity_level = Field::int32(number),
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        let fields = Writer::default().bytes(1, self.passphrase.expose());
        fields.int32(2, self.verbosity_level).finish()
    }
}

impl Message for AuthenticateReply {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        for field in Fields::of(payload) {
            if let (1, Field::Bytes(bytes)) = field? {
                message.log_line = Field::text(bytes)?.to_owned();
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        Writer::default().bytes(1, self.log_line.as_bytes()).finish()
    }
}

impl Message for GetRequest {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.key = Field::text(bytes)?.to_owned(),
                (2, Field::Number(number)) => message.verbosity_level = Field::int32(number),
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        Writer::default().bytes(1, self.key.as_bytes()).int32(2, self.verbosity_level).finish()
    }
}

impl Message for GetReply {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.value = Field::text(bytes)?.to_owned(),
                (2, Field::Bytes(bytes)) => message.log_line = Field::text(bytes)?.to_owned(),
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        Writer::default().bytes(1, self.value.as_bytes()).bytes(2, self.log_line.as_bytes()).finish()
    }
}

impl Message for SetRequest {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::new("", Secret::new(""));
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.key = Field::text(bytes)?.to_owned(),
                (2, Field::Bytes(bytes)) => message.val = secret(bytes)?,
                (3, Field::Number(number)) => message.verbosity_level = Field::int32(number),
                (4, Field::Number(number)) => message.authorized = number != 0,
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        let fields = Writer::default().bytes(1, self.key.as_bytes()).bytes(2, self.val.expose());
        fields.int32(3, self.verbosity_level).flag(4, self.authorized).finish()
    }
}

impl Message for SetReply {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.log_line = Field::text(bytes)?.to_owned(),
                (2, Field::Bytes(bytes)) => message.reply_message = Field::text(bytes)?.to_owned(),
                (3, Field::Number(number)) => message.needs_authorization = number != 0,
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        let fields =
            Writer::default().bytes(1, self.log_line.as_bytes()).bytes(2, self.reply_message.as_bytes());
        fields.flag(3, self.needs_authorization).finish()
    }
}

impl Message for RenewRequest {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        for field in Fields::of(payload) {
            match field? {
                (1, Field::Bytes(bytes)) => message.certificate = bytes.to_vec(),
                (2, Field::Bytes(bytes)) => message.proof = bytes.to_vec(),
                _ => {}
            }
        }
        Ok(message)
    }

    fn encode(&self) -> Secret {
        Writer::default().bytes(1, &self.certificate).bytes(2, &self.proof).finish()
    }
}

impl Message for RenewReply {
    fn decode(payload: &[u8]) -> Result<Self, WireError> {
        skip_all(payload).map(|()| Self)
    }

    fn encode(&self) -> Secret {
        Writer::default().finish()
    }
}

fn secret(bytes: &[u8]) -> Result<Secret, WireError> {
    Field::text(bytes)?;
    Ok(Secret::new(bytes))
}

fn skip_all(payload: &[u8]) -> Result<(), WireError> {
    Fields::of(payload).try_for_each(|field| field.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::{AuthenticateRequest, Message, PingRequest, RenewRequest, SetRequest, WireError};
    use crate::secret::Secret;

    #[test]
    fn unknown_fields_are_skipped_and_the_last_of_two_counts() {
        let payload = b"\x0a\x05first\x7a\x03new\x0a\x03foo\xf8\x07\x01";
        let request = AuthenticateRequest::decode(payload).unwrap();
        assert!(request.passphrase.matches(b"foo"));
        assert!(
            AuthenticateRequest::decode(b"\x08\x07").unwrap().passphrase.is_empty(),
            "a number is no text"
        );
        assert!(PingRequest::decode(b"\x7a\x03new").is_ok());
        assert_eq!(PingRequest::decode(b"\x7a\x04new"), Err(WireError::Truncated));
    }

    #[test]
    fn s_031_a_passphrase_keeps_every_byte() {
        let text = "pässwörd ✓\0=\n";
        let request = SetRequest::new("local.passphrase", Secret::new(text));
        assert!(SetRequest::decode(request.encode().expose()).unwrap().val.matches(text.as_bytes()));
        assert_eq!(AuthenticateRequest::decode(b"\x0a\x01\xff").unwrap_err(), WireError::Utf8);
    }

    #[test]
    fn s_091_messages_do_not_print_passphrases() {
        let printed = format!(
            "{:?} {:?}",
            AuthenticateRequest::new(Secret::new("hunter2")),
            SetRequest::new("local.passphrase", Secret::new("hunter2"))
        );
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn s_035_a_renewal_is_bound_to_its_connection_and_newcomer() {
        let statement = RenewRequest::statement(b"binding", &[7; 32]);
        assert_ne!(statement, RenewRequest::statement(b"another", &[7; 32]));
        assert_ne!(statement, RenewRequest::statement(b"binding", &[8; 32]));
    }
}
