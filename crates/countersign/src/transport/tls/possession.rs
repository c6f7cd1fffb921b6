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
use x509_parser::asn1_rs::{Any, BitString, Class, FromDer, Tag};

use crate::proto::peer::LARGEST_CERTIFICATE;

/// The public key of a certificate: its whole `SubjectPublicKeyInfo`. `None` if there is none that can
/// be read, or if the certificate is larger than [`LARGEST_CERTIFICATE`].
///
/// What stands in the other fields is stepped over (RFC 5280 4.1).
pub(super) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    if certificate.len() > LARGEST_CERTIFICATE {
        return None;
    }
    let (behind, certificate) = element(certificate, Tag::Sequence)?;
    if !behind.is_empty() {
        return None;
    }
    let (_, mut fields) = element(certificate, Tag::Sequence)?;
    let (behind, first) = Any::from_der(fields).ok()?;
    if first.header.class() == Class::ContextSpecific && first.tag() == Tag(0) {
        // The version, which those of X.509 v1 leave out.
        fields = behind;
    }
    for before in [Tag::Integer, Tag::Sequence, Tag::Sequence, Tag::Sequence, Tag::Sequence] {
        (fields, _) = element(fields, before)?;
    }
    let (behind, _) = element(fields, Tag::Sequence)?;
    fields.get(..fields.len().checked_sub(behind.len())?)
}

/// The content of the `AlgorithmIdentifier` of a public key, and the key's bits.
fn algorithm_and_bits(key: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let (_, content) = element(key, Tag::Sequence)?;
    let (behind, algorithm) = element(content, Tag::Sequence)?;
    let (_, bits) = BitString::from_der(behind).ok()?;
    Some((algorithm, bits.data.into_owned()))
}

/// What is behind the first element, and that element's content.
fn element(input: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (behind, found) = Any::from_der(input).ok()?;
    (found.header.class() == Class::Universal && found.tag() == tag).then_some((behind, found.data))
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
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), signed, algorithms)
}

/// Verifies a TLS 1.2 `CertificateVerify` or key exchange signature (RFC 5246 7.4.8, 7.4.3). There
/// an ECDSA scheme names no curve, so each algorithm of the scheme that fits the key is tried.
pub(super) fn verify_tls12(
    message: &[u8],
    certificate: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = public_key(certificate).and_then(algorithm_and_bits);
    let (algorithm, bits) = key.ok_or(CertificateError::BadEncoding)?;
    let of_scheme = |(scheme, _): &&(SignatureScheme, _)| *scheme == signed.scheme;
    let Some((_, candidates)) = algorithms.mapping.iter().find(of_scheme) else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let valid = candidates
        .iter()
        .filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
        .any(|candidate| candidate.verify_signature(&bits, message, signed.signature()).is_ok());
    if valid { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
}

/// Whether the key of `certificate` (DER), one of P-256, made `signature` (ASN.1) over the SHA-256 of `statement`.
pub fn has_signed(certificate: &[u8], statement: &[u8], signature: &[u8]) -> bool {
    let Some((algorithm, bits)) = public_key(certificate).and_then(algorithm_and_bits) else { return false };
    let algorithms = super::provider().signature_verification_algorithms;
    algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256)
        .flat_map(|(_, candidates)| *candidates)
        .filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
        // The scheme of TLS 1.2 names the digest only: the key says whether it is of the curve.
        .any(|candidate| candidate.verify_signature(&bits, statement, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use x509_parser::{pem::parse_x509_pem, prelude::X509Certificate};

    use super::*;

    #[test]
    fn s_039_the_key_of_every_shape_is_found_and_half_a_certificate_has_none() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        let mut shapes = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            let Some(pem) = parse_x509_pem(&text).ok().filter(|(_, pem)| pem.label == "CERTIFICATE") else {
                continue;
            };
            let der = pem.1.contents;
            let (_, parsed) = X509Certificate::from_der(&der).unwrap();
            assert_eq!(public_key(&der), Some(parsed.tbs_certificate.subject_pki.raw));
            for length in 0..der.len() {
                assert!(public_key(&der[..length]).is_none());
            }
            assert!(public_key(&[&der[..], &[0]].concat()).is_none());
            shapes += 1;
        }
        assert!(shapes >= 7, "{shapes}");
    }

    #[test]
    fn s_020_a_changed_certificate_is_read_or_refused() {
        let der = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.der().to_vec();
        for at in 0..der.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= change;
                let key = public_key(&changed);
                assert!(key.is_none_or(|key| key.len() < changed.len()));
                let _ = key.and_then(algorithm_and_bits);
            }
        }
    }
}
