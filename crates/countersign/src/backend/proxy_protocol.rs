//! Who is there, as the first bytes of a stream: the header of the PROXY protocol, version 2
//! (HAProxy, `doc/proxy-protocol.txt`, sections 2.2 and 2.2.1 to 2.2.8).
//!
//! The command is always `PROXY`: `LOCAL` would let the backend take the gateway for the client. A
//! client on a Unix socket is family `AF_UNIX` (0x31) with empty paths, for its socket has no name. That
//! is the truth, and nginx and HAProxy both read over the address of a family they do not use and go on
//! with the connection; `UNSPEC` would invite the backend to use the address of the gateway instead.

use x509_parser::{asn1_rs::FromDer, prelude::X509Certificate};

use super::{BackendError, SessionFacts, facts};
use crate::{
    Grant,
    proto::{
        peer::{Origin, TlsFacts},
        wire::proxy::{self, Announced, ProxyError, tlv},
    },
};

/// The header for one session.
///
/// # Errors
/// It would be longer than a header can be (64 KiB).
pub(super) fn header(grant: &Grant, session: &SessionFacts) -> Result<Vec<u8>, BackendError> {
    let header = tlvs(grant, session).and_then(|tlvs| proxy::write(&announced(&grant.peer().origin), &tlvs));
    header.map_err(|error| BackendError::unavailable(error.to_string()))
}

fn announced(origin: &Origin) -> Announced {
    match *origin {
        Origin::Tcp { remote, local } => Announced::Tcp { remote, local },
        // It has no family of its own there; the identity's TLV says which machine it is.
        Origin::Vsock { .. } => Announced::Somebody,
        _ => Announced::Unix,
    }
}

fn tlvs(grant: &Grant, session: &SessionFacts) -> Result<Vec<u8>, ProxyError> {
    let mut tlvs = Vec::new();
    if let Some(tls) = &grant.peer().tls {
        if let Some(name) = &tls.server_name {
            tlv(&mut tlvs, AUTHORITY, name.as_bytes())?;
        }
        tlv(&mut tlvs, SSL, &ssl(tls, grant)?)?;
    }
    let id = session.id.as_bytes();
    tlv(&mut tlvs, UNIQUE_ID, id.get(..id.len().min(LONGEST_ID)).unwrap_or_default())?;
    tlv(&mut tlvs, IDENTITY, facts::of(grant, session).to_string().as_bytes())?;
    Ok(tlvs)
}

/// The value of `PP2_TYPE_SSL` (2.2.6). The certificate flags and name are there only where a link of
/// the chain has accepted the certificate.
fn ssl(tls: &TlsFacts, grant: &Grant) -> Result<Vec<u8>, ProxyError> {
    let certificate = facts::accepted_certificate(grant);
    let client = if certificate.is_some() { CLIENT_SSL | CLIENT_CERT_CONN } else { CLIENT_SSL };
    // Zero says: a certificate was presented and verified.
    let verify = u32::from(certificate.is_none());
    let mut value = vec![client];
    value.extend(verify.to_be_bytes());
    tlv(&mut value, SSL_VERSION, tls.version.as_bytes())?;
    tlv(&mut value, SSL_CIPHER, tls.cipher.as_bytes())?;
    if let Some(name) = certificate.and_then(|certificate| common_name(&certificate.der)) {
        tlv(&mut value, SSL_CN, name.as_bytes())?;
    }
    Ok(value)
}

fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

const AUTHORITY: u8 = 0x02;
const UNIQUE_ID: u8 = 0x05;
const LONGEST_ID: usize = 128;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
/// Ours, from the range for custom use (2.2.8): the facts as JSON.
const IDENTITY: u8 = 0xe0;
