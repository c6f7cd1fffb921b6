//! TLS over any [`Stream`](super::Stream), at both ends. Called by the listeners, by the client, and by the
//! `tls:` backend.
//!
//! | file | holds |
//! |---|---|
//! | `server` | [`ServerTls`]: the certificate of the client is asked for and judged later, by the chain |
//! | `client` | [`ClientTls`]: how a server is known, and one that nobody knows yet |
//! | `possession` | the proof that a peer holds the key of its certificate, whatever the certificate says |
//! | `credential` | reading a chain and its private key |
//!
//! TLS 1.3, and 1.2 where the caller says so; no early data, no resumption (S-37, S-40): every
//! connection proves everything anew, so revoking a certificate needs no list of tickets.

use std::{
    fmt, io,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use rustls::{
    CommonState, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, crypto::CryptoProvider,
};

mod client;
mod credential;
mod possession;
mod server;

pub use client::{ClientTls, Connected, Trust};
pub use credential::{certificates, certified_key};
pub use possession::has_signed;
pub use server::{ENROLMENT, ServerTls};

use crate::{
    error::ConfigError,
    proto::{
        error::{Reason, Refusal},
        peer::TlsFacts,
    },
};

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "anything older is refused for good (S-37)")]
pub enum OldestVersion {
    /// TLS 1.3 (RFC 8446) and nothing else.
    #[default]
    Tls13,
    /// TLS 1.2 (RFC 5246) too: AEAD ciphers and ephemeral keys only, as RFC 9325 asks.
    Tls12,
}

impl OldestVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWEST_FIRST: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Tls13 => NEWEST_FIRST.split_at(1).0,
            Self::Tls12 => &NEWEST_FIRST,
        }
    }
}

/// A SHA-256 of a certificate or of its public key, in lower-case hexadecimal.
///
/// Colons and upper case are read too, as `openssl x509 -fingerprint` writes them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "it is 32 bytes and a way to write them")]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of the whole certificate.
    pub fn of_certificate(der: &[u8]) -> Self {
        use sha2::{Digest as _, Sha256};
        Self(Sha256::digest(der).into())
    }

    /// Of the certificate's public key (RFC 7469 2.4: the DER of `SubjectPublicKeyInfo`), which
    /// stays the same when a certificate is renewed for the same key. `None` if that cannot be read.
    pub fn of_key(der: &[u8]) -> Option<Self> {
        possession::public_key(der).map(Self::of_certificate)
    }
}

impl FromStr for Fingerprint {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let bad = || {
            ConfigError::new(
                "fingerprint",
                "it is not 64 hexadecimal digits",
                "write the SHA-256 that `openssl x509 -noout -fingerprint -sha256` prints",
            )
        };
        let digits: Vec<u32> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16))
            .collect::<Option<_>>()
            .ok_or_else(bad)?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(bad());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = pair.iter().fold(0, |value, digit| value * 16 + digit);
            *byte = u8::try_from(value).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no TLS connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The handshake did not end in time.
    Timeout,
    /// The peer broke the protocol, left, or is not who it must be.
    Handshake(io::Error),
    /// The server could not be verified, and nobody accepted it as it is.
    Unverified,
}

impl TlsError {
    /// The same as the end of a login.
    pub fn refusal(&self) -> Refusal {
        let reason = match self {
            Self::Timeout => Reason::Timeout,
            Self::Unverified => Reason::PeerDenied,
            Self::Handshake(error) => match error.kind() {
                io::ErrorKind::InvalidData if !is_alert(error) => Reason::Malformed,
                _ => Reason::PeerLeft,
            },
        };
        Refusal::new(reason, self.to_string())
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("TLS handshake: it did not end in time"),
            Self::Handshake(error) => write!(f, "TLS handshake: {error}"),
            Self::Unverified => f.write_str("TLS handshake: the server is not verified"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        Self::Handshake(error)
    }
}

/// Whether the peer said that it leaves, for example because it does not know our certificate. rustls
/// has one kind of I/O error for that and for a peer that broke the protocol.
fn is_alert(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::AlertReceived(_)))
}

/// The provider of every primitive. Passed explicitly: a process-wide default is somebody else's.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

/// Version and cipher of a finished handshake.
fn facts(connection: &CommonState, server_name: Option<&str>) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let cipher = connection.negotiated_cipher_suite().map_or("", standard_name);
    TlsFacts::new(version, cipher, server_name.map(str::to_owned))
}

/// The name in the IANA registry, which is what a backend's log is searched for. rustls has its own
/// spelling for TLS 1.3.
fn standard_name(suite: SupportedCipherSuite) -> &'static str {
    use rustls::CipherSuite as Suite;
    match suite.suite() {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// The `tls-exporter` channel binding (RFC 9266 section 2) from a connection's exporter.
///
/// TLS 1.3 only: with 1.2 it is unique only under the extended master secret, which cannot be told
/// from here (RFC 9266 section 4.2, S-35).
fn channel_binding(
    connection: &CommonState,
    export: impl FnOnce([u8; 32]) -> Result<[u8; 32], rustls::Error>,
) -> Option<Arc<[u8]>> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    export([0; 32]).ok().map(|binding| Arc::from(&binding[..]))
}

/// The label of the exporter (RFC 9266 section 2).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

#[cfg(test)]
mod tests;
