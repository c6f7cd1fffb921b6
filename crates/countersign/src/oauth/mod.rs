//! Issuers of tokens: OAuth 2.0 and OpenID Connect, as far as both ends of a login need them.
//!
//! The module `oauth` asks an issuer for its keys or its judgement, the handler `oauth` for tokens.
//! Both find the issuer's endpoints here ([`Issuer`]) and reach them over `https.rs`.
#![forbid(unsafe_code)]

mod https;

use std::{path::PathBuf, time::Instant};

use serde::Deserialize;

pub(crate) use https::{Client, Credentials, Fault, PATIENCE, Url};

/// An issuer, known by its address.
#[derive(Debug)]
pub(crate) struct Issuer {
    url: Url,
}

/// What an issuer says of itself (RFC 8414 section 2, OpenID Connect Discovery 1.0 section 3).
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    /// Where its keys are.
    pub(crate) jwks_uri: Option<String>,
    /// Where tokens are asked for.
    pub(crate) token_endpoint: Option<String>,
    /// Where a device begins (RFC 8628 section 4).
    pub(crate) device_authorization_endpoint: Option<String>,
}

impl Issuer {
    /// The issuer of that address.
    pub(crate) fn new(url: Url) -> Self {
        Self { url }
    }

    /// Its address; tokens have to name it exactly so.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// It cannot be reached, or says that it is another: then nothing it says counts (RFC 8414 3.3).
    pub(crate) fn metadata(&self, client: &Client, deadline: Instant) -> Result<Metadata, Fault> {
        let openid = self.url.with_suffix("/.well-known/openid-configuration");
        let answer = client.get(&openid, deadline)?;
        let (place, answer) = match answer.status {
            404 => {
                let oauth = self.url.with_well_known("oauth-authorization-server");
                let answer = client.get(&oauth, deadline)?;
                (oauth, answer)
            }
            _ => (openid, answer),
        };
        let metadata: Metadata = answer.expect_success(&place)?.json(&place)?;
        if metadata.issuer != self.url.text() {
            return Err(Fault::new(&place, "it says that it is another issuer"));
        }
        Ok(metadata)
    }
}

/// How an option that names a URL or a file of authorities is read by both ends.
pub(crate) mod options {
    use super::{Client, PathBuf, Url};
    use crate::{error::ConfigError, options::Options};

    /// Takes a URL that tokens and keys may travel to.
    ///
    /// # Errors
    /// It is none, or in the clear.
    pub(crate) fn url(options: &mut Options, name: &str) -> Result<Option<Url>, ConfigError> {
        let Some(text) = options.take(name)? else { return Ok(None) };
        let fix = format!("write {name}=https://HOST/PATH; http:// is for the loopback only");
        Url::parse(&text).map(Some).map_err(|why| options.error(name, why, fix))
    }

    /// Takes `ca`: the authorities that servers are known by, in place of the system's.
    ///
    /// # Errors
    /// They cannot be read, or there are none.
    pub(crate) fn client(options: &mut Options) -> Result<Client, ConfigError> {
        let ca = options.take("ca")?.map(|path| PathBuf::from(&**path));
        Client::new(ca)
    }
}
