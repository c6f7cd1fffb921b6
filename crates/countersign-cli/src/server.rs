//! Calls to a server that lets certificates in: which one, how it is known, and what it is shown.

use std::{future::Future, path::PathBuf, sync::Arc};

use clap::Args;
use countersign::{
    ConfigError,
    connect::{Calls, Cause, ConnectError, Connector, KnownServers, OwnIdentity, ServerTrust, Uri},
    transport::tls::{self, Fingerprint},
};

use crate::{
    login::Terminal,
    report::{Exit, Report},
};

/// How a server is known, and what it is shown.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Know the server by the certificate authorities in this PEM file, and no others.
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    ca: Option<PathBuf>,
    /// Know the server by the SHA-256 of its key or certificate, and nothing else.
    #[arg(long, value_name = "HEX", conflicts_with = "ca", help_heading = SERVER)]
    pin: Option<String>,
    /// Where servers are remembered that no authority vouches for.
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    known_servers: Option<PathBuf>,
    /// Take a server that was never seen before and remember it. A changed one is still refused.
    #[arg(long, help_heading = SERVER)]
    trust_on_first_use: bool,
    /// Show this certificate to the server: a PEM file, with its key unless --key names that. `none`
    /// shows none. Else your own is shown, which is made when a server first asks for one.
    #[arg(long, value_name = "FILE", help_heading = SERVER)]
    cert: Option<PathBuf>,
    /// The private key of --cert.
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = SERVER)]
    key: Option<PathBuf>,
}

pub(crate) const SERVER: &str = "Server";

impl ServerArgs {
    /// A connector to that server.
    pub(crate) fn connector(&self, uri: Uri) -> Result<Connector, ConnectError> {
        let connector = Connector::new(uri).with_trust(self.trust()?).with_person(Arc::new(Terminal));
        Ok(match &self.cert {
            // Without a home directory there is no place for one.
            None => match OwnIdentity::of_user() {
                Ok(own) => connector.with_own_identity(own),
                Err(_) => connector,
            },
            Some(none) if none.as_os_str() == "none" => connector,
            Some(cert) => {
                let chain = read(cert)?;
                let key = self.key.as_ref().map_or_else(|| Ok(chain.clone()), read)?;
                let what = format!("certificate {}", cert.display());
                connector.with_identity(tls::certified_key(&what, &chain, &key)?)
            }
        })
    }

    /// The same, for a server whose key is known already, whatever else is said.
    pub(crate) fn connector_pinned(&self, uri: Uri, key: Fingerprint) -> Result<Connector, ConnectError> {
        let mut trust = self.trust()?;
        (trust.pin, trust.ca) = (Some(key), None);
        Ok(self.connector(uri)?.with_trust(trust))
    }

    fn trust(&self) -> Result<ServerTrust, ConfigError> {
        let mut trust = ServerTrust::default();
        trust.ca.clone_from(&self.ca);
        let pin = self.pin.as_deref().map(|pin| pin.strip_prefix("sha256:").unwrap_or(pin).parse());
        trust.pin = pin.transpose().map_err(|error: ConfigError| error.within("pin"))?;
        trust.known_servers = self.known_servers.clone().map(KnownServers::at);
        trust.on_first_use = self.trust_on_first_use;
        Ok(trust)
    }
}

/// The server that is meant: what was given, or what the environment names, as Multipass's clients
/// read it too.
pub(crate) fn address(given: Option<&str>) -> Result<Option<Uri>, Report> {
    let of_environment =
        || ADDRESSES.iter().find_map(|name| std::env::var(name).ok().filter(|address| !address.is_empty()));
    let Some(address) = given.map(str::to_owned).or_else(of_environment) else { return Ok(None) };
    let uri = Uri::for_calls(&address)
        .map_err(|error| Report::new(Exit::Usage, &error).fix(error.fix().to_owned()))?;
    Ok(Some(uri))
}

/// Makes calls, on a connection that ends with them.
pub(crate) fn calling<T, F: Future<Output = Result<T, ConnectError>>>(
    connector: &Connector,
    calls: impl FnOnce(Calls) -> F,
) -> Result<T, Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done = runtime.block_on(async { calls(connector.calls().await?).await });
    // A question on the terminal that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    Ok(done?)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|error| {
        ConnectError::new(Cause::Usage, path.display().to_string(), format!("it cannot be read: {error}"))
            .with_fix("name a readable PEM file")
    })
}

/// Variables that name a server, the first that is set.
const ADDRESSES: [&str; 2] = ["COUNTERSIGN_SERVER_ADDRESS", "MULTIPASS_SERVER_ADDRESS"];
