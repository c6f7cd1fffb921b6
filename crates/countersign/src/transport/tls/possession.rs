//! The proof that a peer holds the private key of the certificate it shows.
//!
//! The signature is checked with the raw public key, so that a certificate's form (X.509 v1,
//! expired, an empty or odd extension, a negative serial number, all of which real clients have)
//! decides nothing: trust is the trust store's, by the whole certificate (S-39).

use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::SubjectPublicKeyInfoDer,
};
use x509_parser::{
    asn1_rs::{Any, FromDer},
    certificate::X509CertificateParser,
    nom::Parser as _,
};

/// A certificate's public key.
pub(super) struct PublicKey<'a> {
    /// The whole `SubjectPublicKeyInfo`.
    pub(super) raw: &'a [u8],
    /// The content of its `AlgorithmIdentifier`.
    algorithm: &'a [u8],
    /// The key's bits.
    bits: Vec<u8>,
}

/// Reads the public key of a certificate. `None` if there is none that can be read, or if the
/// certificate is larger than [`LARGEST_CERTIFICATE`].
pub(super) fn public_key(certificate: &[u8]) -> Option<PublicKey<'_>> {
    if certificate.len() > LARGEST_CERTIFICATE {
        return None;
    }
    // What the extensions say decides nothing either.
    let mut reader = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (rest, parsed) = reader.parse(certificate).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let key = parsed.tbs_certificate.subject_pki;
    let (_, whole) = Any::from_der(key.raw).ok()?;
    let (_, algorithm) = Any::from_der(whole.data).ok()?;
    let bits = key.subject_public_key.data.into_owned();
    Some(PublicKey { raw: key.raw, algorithm: algorithm.data, bits })
}

/// Refuses a certificate whose key cannot be used, before anything is verified with it.
pub(super) fn readable(certificate: &[u8]) -> Result<(), Error> {
    public_key(certificate).map(|_| ()).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// Verifies a TLS 1.3 `CertificateVerify` (RFC 8446 4.4.3).
pub(super) fn verify_tls13(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.raw), signed, algorithms)
}

/// Verifies a TLS 1.2 `CertificateVerify` or key exchange signature (RFC 5246 7.4.8, 7.4.3). There
/// an ECDSA scheme names no curve, so each algorithm of the scheme that fits the key is tried.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = public_key(certificate).ok_or(CertificateError::BadEncoding)?;
    let of_scheme = |(scheme, _): &&(SignatureScheme, _)| *scheme == signed.scheme;
    let Some((_, candidates)) = algorithms.mapping.iter().find(of_scheme) else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let valid = candidates
        .iter()
        .filter(|candidate| candidate.public_key_alg_id().as_ref() == key.algorithm)
        .any(|candidate| candidate.verify_signature(&key.bits, message, signed.signature()).is_ok());
    if valid { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
}

/// Bytes of a certificate that are read; real ones have 400 to 4,000.
const LARGEST_CERTIFICATE: usize = 16 * 1024;
