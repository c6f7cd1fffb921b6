//! A certificate chain and the private key of its first certificate, from PEM.

use std::sync::Arc;

use rustls::{
    Error, InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::provider;
use crate::error::ConfigError;

/// The certificates in a PEM text, in order. `what` names the file in errors.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(ConfigError::new(
            what.to_owned(),
            "it holds no certificate",
            "give a PEM file with a CERTIFICATE section",
        )),
        Err(_) => Err(ConfigError::new(
            what.to_owned(),
            "it is not a readable PEM file",
            "give a PEM file with a CERTIFICATE section",
        )),
    }
}

/// A chain and its key, ready for a handshake. Both texts may be the same. `what` names them in
/// errors, which never repeat their content.
///
/// # Errors
/// One of them cannot be read, or the key is another certificate's (S-42).
pub fn certified_key(what: &str, chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, ConfigError> {
    let error = |why, fix| ConfigError::new(what.to_owned(), why, fix);
    let chain = certificates(what, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        error("it holds no readable private key", "give a PEM file with an unencrypted PRIVATE KEY section")
    })?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        error("its private key is of no usable kind", "use an EC (P-256, P-384, P-521), Ed25519 or RSA key")
    })?;
    let pair = CertifiedKey::new(chain, key);
    // A certificate too old to be parsed strictly (X.509 v1) is no mismatch: the peer judges it.
    if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = pair.keys_match() {
        return Err(error(
            "the private key does not belong to the certificate",
            "give the key that the certificate was made for",
        ));
    }
    Ok(Arc::new(pair))
}
