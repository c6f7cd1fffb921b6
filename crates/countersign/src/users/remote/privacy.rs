//! What keeps others from reading what a database is asked, and from answering in its place.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{Secret, sys::authorities::authorities};

/// What is wrong with an address of a database, and what to do about it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Which option.
    pub(crate) option: &'static str,
    /// Why.
    pub(crate) why: String,
    /// How to mend it.
    pub(crate) fix: String,
}

/// What the options say of it.
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    /// Who vouches for the server, in place of the system's authorities.
    pub(crate) ca: Option<PathBuf>,
    /// Whether others may read and answer.
    pub(crate) insecure: bool,
}

impl Privacy {
    /// Who has to vouch for the server's certificate, as PEM; `None` if nobody has to. `verified` is
    /// whether the address itself says that certificate and name are looked at, if it says something.
    ///
    /// # Errors
    /// Others could read or answer, which nobody asked for; the authorities cannot be read.
    pub(super) fn judge(
        &self,
        socket: bool,
        host: &str,
        verified: Option<bool>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let is_local = socket || is_loopback(host);
        if verified == Some(false) && !is_local && !self.insecure {
            return Err(Fault::new(
                "uri",
                "others could read what the server is asked, or answer in its place",
                "leave the mode of TLS out of it, or ask for this with insecure=yes",
            ));
        }
        let wanted = match verified {
            Some(verified) => verified,
            None => !socket && (self.ca.is_some() || (!is_local && !self.insecure)),
        };
        match (&self.ca, wanted) {
            (Some(_), false) => {
                Err(Fault::new("ca", "no certificate will be looked at", "remove it, or the mode of TLS"))
            }
            (ca, true) => as_pem(ca.as_deref()).map(Some),
            (None, false) => Ok(None),
        }
    }
}

impl Fault {
    fn new(option: &'static str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { option, why: why.into(), fix: fix.into() }
    }
}

/// The names of what stands behind the `?` of an address, each of which must be known (S-65).
pub(super) fn parameters(uri: &str, known: &'static [&'static str]) -> Result<Vec<&'static str>, Fault> {
    let Some((_, query)) = uri.split_once('?') else { return Ok(Vec::new()) };
    let each = query.split('&').map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        known.iter().find(|known| **known == name).copied()
    });
    each.collect::<Option<_>>().ok_or_else(|| {
        Fault::new(
            "uri",
            "it sets what is not known",
            format!("behind the `?` write any of {}", known.join(", ")),
        )
    })
}

pub(super) fn no_address(example: &str) -> Fault {
    let fix = format!("write it as {example}, with %XX for special characters");
    Fault::new("uri", "it is no address of a database", fix)
}

pub(super) fn no_database(example: &str) -> Fault {
    Fault::new("uri", "it names no database", format!("write it as {example}"))
}

/// A password as text.
pub(super) fn text(password: &Secret) -> Result<&str, Fault> {
    std::str::from_utf8(password.expose())
        .map_err(|_| Fault::new("password-file", "it holds no UTF-8 text", "write the password into it"))
}

fn is_loopback(host: &str) -> bool {
    let inside = host.trim_start_matches('[').trim_end_matches(']');
    let address = inside.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
    address || host.eq_ignore_ascii_case("localhost")
}

/// The authorities as PEM: the library takes nothing else.
fn as_pem(ca: Option<&Path>) -> Result<Vec<u8>, Fault> {
    let found = authorities(ca).map_err(|(why, fix)| Fault::new("ca", why, fix))?;
    let mut pem = String::new();
    for certificate in found {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in STANDARD.encode(&certificate).as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(pem.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_073_a_server_elsewhere_is_verified_unless_somebody_asks_for_less() {
        let privacy = |insecure| Privacy { ca: None, insecure };
        let verified = |host, said, insecure| {
            privacy(insecure).judge(false, host, said).map(|authorities| authorities.is_some())
        };
        for local in ["localhost", "127.0.0.1", "::1", "[::1]"] {
            assert!(!verified(local, None, false).unwrap() && !verified(local, Some(false), false).unwrap());
        }
        for far in ["db.example", "192.0.2.1", "localhost.example"] {
            // A machine without authorities says so; it never goes on without.
            assert!(verified(far, None, false).unwrap_or(true), "{far}");
            assert_eq!(verified(far, Some(false), false).unwrap_err().option, "uri");
            assert!(!verified(far, Some(false), true).unwrap() && !verified(far, None, true).unwrap());
        }
        let ca = Privacy { ca: Some("/nonexistent/ca".into()), insecure: false };
        assert_eq!(ca.judge(true, "", None).unwrap_err().option, "ca");
        assert_eq!(ca.judge(false, "localhost", None).unwrap_err().option, "ca");
    }

    #[test]
    fn s_065_an_address_sets_only_what_is_known() {
        assert_eq!(
            parameters("postgres://a/b?host=c&sslmode=d", &["sslmode", "host"]).unwrap(),
            ["host", "sslmode"]
        );
        for bad in ["a?", "a?canary", "a?host=1&canary=2", "a?host=1&"] {
            let fault = parameters(bad, &["host"]).unwrap_err();
            assert!(!format!("{} {}", fault.why, fault.fix).contains("canary"));
        }
    }
}
