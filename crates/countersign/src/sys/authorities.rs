//! Who vouches for servers: the authorities in a file, or those of the system.
//!
//! Called by the modules that ask a server over TLS, once, at start.

use std::{fs::File, io::Read as _, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::files;

/// Why nobody can vouch, and what to do about it.
pub type Fault = (String, String);

/// The authorities in the PEM file `ca`, or without one those of the system.
///
/// # Errors
/// The file cannot be used, or others can change it; the system has no authority.
pub fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    match ca {
        Some(path) => in_file(path),
        None => of_system(),
    }
}

fn in_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let file = files::open_unforged(path).map_err(|fault| (fault.to_string(), fault.fix()))?;
    let bad =
        |why: &str| (format!("{}: {why}", path.display()), "name a PEM file of CA certificates".to_owned());
    let pem = read(file).map_err(|error| bad(&error.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| bad("it is no readable PEM file"))?;
    if found.is_empty() {
        return Err(bad("it holds no certificate"));
    }
    for certificate in &found {
        RootCertStore::empty().add(certificate.clone()).map_err(|error| bad(&error.to_string()))?;
    }
    Ok(found)
}

/// One broken file among the system's hundreds is the system's affair; none at all is ours.
fn of_system() -> Result<Vec<CertificateDer<'static>>, Fault> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    found.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if found.is_empty() {
        let fix = "install ca-certificates, or write ca=FILE".to_owned();
        return Err(("the system has no authorities".to_owned(), fix));
    }
    Ok(found)
}

fn read(file: File) -> std::io::Result<Vec<u8>> {
    /// Bytes of a file that are read.
    const MOST: u64 = 16 << 20;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn s_061_a_file_of_authorities_is_whole_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        for (content, mode, count) in [
            (format!("{pem}{pem}"), 0o644, Some(2)),
            (pem.clone(), 0o666, None),
            (String::new(), 0o644, None),
            ("no certificate".to_owned(), 0o644, None),
            (pem.replace('M', "*"), 0o644, None),
        ] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(authorities(Some(&path)).ok().map(|found| found.len()), count);
        }
        fs::remove_file(&path).unwrap();
        assert!(authorities(Some(&path)).is_err());
    }
}
