//! What every command that logs in at a server has: its options, and the person who runs it.

use std::{
    fmt,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use clap::Args;
use countersign::{
    ConfigError, Username,
    connect::{
        Cause, ConnectError, Connector, FirstContact, KnownServers, OwnIdentity, Person, ServerTrust, Uri,
    },
    handlers::{Registry, Sources},
    sys::{accounts::Account, environment::scrub_env, title::replace_argument},
    transport::tls,
};

use crate::report::{Exit, Report};

/// Where to log in, as whom, and with what.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server: tcp://USER@HOST:PORT, tls://USER@HOST:PORT, unix:PATH, tls+unix:PATH or
    /// unix:@NAME.
    #[arg(value_name = "ADDRESS", env = "COUNTERSIGN_SERVER_ADDRESS", hide_env_values = true)]
    address: Private,
    /// Log in as NAME, whatever the address says. Else the address, XPRA_USERNAME, or your login name.
    #[arg(long, short = 'u', value_name = "NAME", env = "COUNTERSIGN_USERNAME", hide_env_values = true, help_heading = LOGIN)]
    username: Option<String>,
    /// A file whose whole content is the password; again for each further question of the server.
    #[arg(long, value_name = "FILE", help_heading = LOGIN)]
    password_file: Vec<PathBuf>,
    /// Where answers are looked for, in order: uri, file, env, prompt; with options as in
    /// `file(filename=PATH)`. `none` answers nothing.
    #[arg(long, value_name = "LIST", default_value = "all", help_heading = LOGIN)]
    challenge_handlers: Private,
    /// Leave a server that lets everybody in.
    #[arg(long, help_heading = LOGIN)]
    require_auth: bool,
    /// Never use a connection that is not encrypted.
    #[arg(long, help_heading = SERVER)]
    require_encryption: bool,
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

const LOGIN: &str = "Login";
const SERVER: &str = "Server";

impl LoginArgs {
    /// A connector with all of it. To be called before there are threads: secrets leave the process's
    /// arguments and environment here.
    pub(crate) fn connector(self) -> Result<Connector, ConnectError> {
        let uri: Uri = self.address.0.parse()?;
        if uri.password.is_some() {
            hide(&self.address.0, &uri);
        }
        let username = self.username(&uri)?;
        let mut sources = Sources::new().with_address_password(uri.password.clone());
        for file in &self.password_file {
            sources = sources.with_password_file(file);
        }
        let responders = Registry::builtin().select(&self.challenge_handlers.0, sources)?;
        // S-90: the handlers have it. A variable of another name stays; its owner chose that.
        let _ = scrub_env("XPRA_PASSWORD");
        let connector = Connector::new(uri)
            .with_username(username)
            .with_handlers(responders)
            .with_trust(self.trust()?)
            .with_person(Arc::new(Terminal))
            .requiring_auth(self.require_auth)
            .requiring_encryption(self.require_encryption);
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

    fn username(&self, uri: &Uri) -> Result<Option<Username>, ConfigError> {
        let named = |name: &str| {
            let name = Username::parse(name);
            name.map(Some)
                .map_err(|refusal| ConfigError::new("username", refusal.cause, "write another name"))
        };
        if let Some(name) = &self.username {
            return if name.is_empty() { Ok(None) } else { named(name) };
        }
        if uri.username.is_some() {
            return Ok(uri.username.clone());
        }
        if let Some(name) = std::env::var("XPRA_USERNAME").ok().filter(|name| !name.is_empty()) {
            return named(&name);
        }
        // Without an account of this uid there is no name to claim, which many servers take.
        let account = Account::own().ok().flatten();
        account.map_or(Ok(None), |account| named(&account.name))
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

/// Takes the password out of the process list and the environment (S-48, S-90). The connector warns
/// of the address either way, so where this cannot be done nothing more is said.
fn hide(address: &str, uri: &Uri) {
    let _ = replace_argument(address, &uri.to_string());
    let _ = scrub_env("COUNTERSIGN_SERVER_ADDRESS");
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|error| {
        ConnectError::new(Cause::Usage, path.display().to_string(), format!("it cannot be read: {error}"))
            .with_fix("name a readable PEM file")
    })
}

/// An argument that may hold a password, so that no error message of the parser repeats it (S-88).
#[derive(Clone)]
struct Private(String);

impl FromStr for Private {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(<set>)")
    }
}

/// Whoever runs the command: warned on standard error, asked on the terminal if there is one.
pub(crate) struct Terminal;

impl Person for Terminal {
    fn tell(&self, notice: &str) {
        eprintln!("warning: {notice}");
    }

    fn accepts(&self, contact: &FirstContact) -> bool {
        if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
            return false;
        }
        let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
        let Ok(mut terminal) = opened else { return false };
        let question = format!(
            "{} was never seen here, and nobody vouches for it.\nIts key is sha256:{}\n\
             Is that the key of the server you mean? [yes/no] ",
            contact.server, contact.fingerprint
        );
        let mut answer = String::new();
        let asked = terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush());
        let heard = asked.and_then(|()| BufReader::new(terminal).read_line(&mut answer));
        heard.is_ok() && answer.trim().eq_ignore_ascii_case("yes")
    }
}

impl From<ConnectError> for Report {
    fn from(error: ConnectError) -> Self {
        let exit = match error.exit_code() {
            2 => Exit::Usage,
            69 => Exit::Unavailable,
            75 => Exit::Temporary,
            76 => Exit::Protocol,
            77 => Exit::Refused,
            79 => Exit::NoCredential,
            _ => Exit::Failure,
        };
        let report = Self::new(exit, &error);
        match error.fix() {
            Some(fix) => report.fix(fix),
            None => report,
        }
    }
}
