//! Certificates of OpenSSH (PROTOCOL.certkeys): what an authority says of a user's key.

use super::{
    key::{Kind, PublicKey},
    sources::Sources,
};
use crate::{Peer, proto::mechanism::ssh_key::Reader};

/// A user's certificate whose authority's signature is right. Whether that authority counts is another
/// question.
pub(super) struct Certificate<'a> {
    pub(super) key: PublicKey<'a>,
    /// Whom it is for; at least one.
    pub(super) principals: Vec<&'a str>,
    /// The authority's public key, as SSH encodes it.
    pub(super) authority: &'a [u8],
    /// A touch is not needed, if the line of the authority says so too.
    pub(super) no_touch: bool,
    valid: std::ops::Range<u64>,
    sources: Option<Sources>,
    pub(super) verify_required: bool,
}

impl<'a> Certificate<'a> {
    /// Whether a blob is meant as a certificate.
    pub(super) fn is_one(blob: &[u8]) -> bool {
        Reader::new(blob).string().is_some_and(|name| name.ends_with(b"-cert-v01@openssh.com"))
    }

    /// Reads a certificate and verifies its authority's signature.
    ///
    /// # Errors
    /// What is wrong with it. Whatever restricts it and is not known here is an error.
    pub(super) fn read(blob: &'a [u8]) -> Result<Self, &'static str> {
        let raw = Raw::read(blob).ok_or("the certificate is damaged or of an unknown kind")?;
        let authority = PublicKey::read(raw.authority).ok_or("its authority has a key of an unknown kind")?;
        let signed = blob.get(..blob.len() - raw.tail).unwrap_or_default();
        // SHA-1 is refused here as everywhere: `verify` does not know `ssh-rsa` signatures.
        if authority.verify(signed, raw.signature).is_none() {
            return Err("the signature of its authority is wrong, or by SHA-1");
        }
        if raw.kind != USER {
            return Err("it is for a host and not for a user");
        }
        let principals = texts(raw.principals).ok_or("its principals cannot be read")?;
        // One without would be for everybody.
        if principals.is_empty() {
            return Err("it names no principal");
        }
        let (mut sources, mut verify_required) = (None, false);
        for (name, value) in pairs(raw.critical).ok_or("its critical options cannot be read")? {
            match name {
                b"source-address" => {
                    let list = std::str::from_utf8(value).ok().and_then(Sources::of_networks);
                    sources = Some(list.ok_or("its source-address cannot be read")?);
                }
                b"verify-required" => verify_required = true,
                // `force-command` too: there is no command here that could take its place.
                _ => return Err("it is restricted in a way that does not exist here"),
            }
        }
        let extensions = pairs(raw.extensions).ok_or("its extensions cannot be read")?;
        let no_touch = extensions.iter().any(|(name, _)| name == b"no-touch-required");
        let Raw { key, authority, valid, .. } = raw;
        Ok(Self { key, principals, authority, no_touch, valid, sources, verify_required })
    }

    /// Whether it counts at this time (seconds since 1970) for this peer.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn judge(&self, now: u64, peer: &Peer) -> Result<(), &'static str> {
        if !self.valid.contains(&now) {
            return Err("the certificate is not valid now");
        }
        match &self.sources {
            Some(sources) if !sources.contain(peer) => Err("the certificate is not for this address"),
            _ => Ok(()),
        }
    }
}

/// The fields as they stand.
struct Raw<'a> {
    key: PublicKey<'a>,
    kind: u32,
    principals: &'a [u8],
    valid: std::ops::Range<u64>,
    critical: &'a [u8],
    extensions: &'a [u8],
    authority: &'a [u8],
    signature: &'a [u8],
    /// Bytes of the signature with its length, at the end.
    tail: usize,
}

impl<'a> Raw<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(blob);
        let name = reader.string()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.certificate_name().as_bytes() == name)?;
        let _nonce = reader.string()?;
        let key = PublicKey::read_fields(kind, &mut reader)?;
        let _serial = reader.u64()?;
        let kind = reader.u32()?;
        let (_key_id, principals) = (reader.string()?, reader.string()?);
        let valid = reader.u64()?..reader.u64()?;
        let (critical, extensions, _reserved) = (reader.string()?, reader.string()?, reader.string()?);
        let authority = reader.string()?;
        let tail = reader.rest().len();
        let signature = reader.string()?;
        let raw = Self { key, kind, principals, valid, critical, extensions, authority, signature, tail };
        reader.is_at_end().then_some(raw)
    }
}

fn texts(bytes: &[u8]) -> Option<Vec<&str>> {
    let mut reader = Reader::new(bytes);
    let mut texts = Vec::new();
    while !reader.is_at_end() {
        texts.push(std::str::from_utf8(reader.string()?).ok()?);
    }
    Some(texts)
}

/// Names with their values, each of which is a string in a string.
fn pairs(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut reader = Reader::new(bytes);
    let mut pairs = Vec::new();
    while !reader.is_at_end() {
        let (name, value) = (reader.string()?, reader.string()?);
        let value = if value.is_empty() { value } else { Reader::new(value).string()? };
        pairs.push((name, value));
    }
    Some(pairs)
}

/// The type of certificates for users.
const USER: u32 = 1;
