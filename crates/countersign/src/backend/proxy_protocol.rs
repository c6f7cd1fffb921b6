//! Who is there, as the first bytes of a stream: the header of the PROXY protocol, version 2
//! (HAProxy, `doc/proxy-protocol.txt`, sections 2.2 and 2.2.1 to 2.2.8).
//!
//! The command is always `PROXY`: `LOCAL` would let the backend take the gateway for the client. A
//! client on a Unix socket is family `AF_UNIX` (0x31) with empty paths, for its socket has no name. That
//! is the truth, and nginx and HAProxy both read over the address of a family they do not use and go on
//! with the connection; `UNSPEC` would invite the backend to use the address of the gateway instead.

use std::net::{IpAddr, SocketAddr};

use x509_parser::{asn1_rs::FromDer, prelude::X509Certificate};

use super::{BackendError, SessionFacts, facts};
use crate::{
    Grant,
    proto::peer::{Origin, TlsFacts},
};

/// The header for one session.
///
/// # Errors
/// It would be longer than a header can be (64 KiB).
pub(super) fn header(grant: &Grant, session: &SessionFacts) -> Result<Vec<u8>, BackendError> {
    let (family, mut body) = addresses(&grant.peer().origin);
    if let Some(tls) = &grant.peer().tls {
        if let Some(name) = &tls.server_name {
            tlv(&mut body, AUTHORITY, name.as_bytes())?;
        }
        tlv(&mut body, SSL, &ssl(tls, grant)?)?;
    }
    let id = session.id.as_bytes();
    tlv(&mut body, UNIQUE_ID, id.get(..id.len().min(LONGEST_ID)).unwrap_or_default())?;
    tlv(&mut body, IDENTITY, facts::of(grant, session).to_string().as_bytes())?;
    // Last, over everything, computed with zeros in its own place (2.2.3).
    tlv(&mut body, CRC32C, &[0; 4])?;
    let mut header = [SIGNATURE.as_slice(), &[VERSION_2_PROXY, family], &length(body.len())?].concat();
    header.append(&mut body);
    let checksum = crc32c::crc32c(&header).to_be_bytes();
    header.truncate(header.len() - checksum.len());
    header.extend(checksum);
    Ok(header)
}

/// Family and addresses (2.2).
fn addresses(origin: &Origin) -> (u8, Vec<u8>) {
    let (remote, local) = match origin {
        Origin::Tcp { remote, local } => (remote, local),
        // It has no family of its own there; the identity's TLV says which machine it is.
        Origin::Vsock { .. } => return (UNSPECIFIED, Vec::new()),
        _ => return (UNIX_STREAM, vec![0; 2 * UNIX_PATH]),
    };
    let mut body = Vec::new();
    let family = match (remote.ip(), local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => {
            body.extend(remote.octets());
            body.extend(local.octets());
            TCP4
        }
        // Where the two differ, both are written as IPv6 (2.2: IPv4-mapped).
        (remote, local) => {
            body.extend(mapped(remote));
            body.extend(mapped(local));
            TCP6
        }
    };
    let port = |address: &SocketAddr| address.port().to_be_bytes();
    body.extend([port(remote), port(local)].concat());
    (family, body)
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The value of `PP2_TYPE_SSL` (2.2.6). The certificate flags and name are there only where a link of
/// the chain has accepted the certificate.
fn ssl(tls: &TlsFacts, grant: &Grant) -> Result<Vec<u8>, BackendError> {
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

fn tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) -> Result<(), BackendError> {
    out.push(kind);
    out.extend(length(value.len())?);
    out.extend(value);
    Ok(())
}

fn length(bytes: usize) -> Result<[u8; 2], BackendError> {
    let length =
        u16::try_from(bytes).map_err(|_| BackendError::unavailable("the PROXY header is too long"))?;
    Ok(length.to_be_bytes())
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const UNSPECIFIED: u8 = 0x00;
const UNIX_PATH: usize = 108;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
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
