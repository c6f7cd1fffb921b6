//! What every command that logs in at a server has: its options, and the person who runs it.

use std::{
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use countersign::{
    ConfigError, Secret, Username,
    config::read_key,
    connect::{ConnectError, ConnectionFile, Connector, FirstContact, Person, Uri},
    handlers::{Registry, Sources},
    proto::wire::xpra::cipher::Cipher,
    sys::{accounts::Account, environment::scrub_env, title::replace_argument},
    transport::Encryption,
};

use crate::{
    logging,
    report::{Exit, Report},
    secret::Private,
    server::{SERVER, ServerArgs},
};

/// Where to log in, as whom, and with what.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server: tcp://USER@HOST:PORT, tls://USER@HOST:PORT, unix:PATH, tls+unix:PATH,
    /// unix:@NAME or ssh://USER@HOST/PATH; or a file that Xpra's launcher saved, NAME.xpra.
    #[arg(value_name = "ADDRESS", env = "COUNTERSIGN_SERVER_ADDRESS", hide_env_values = true)]
    address: Private,
    /// Log in as NAME, whatever the address says. Else the address, XPRA_USERNAME, or your login name.
    #[arg(long, short = 'u', value_name = "NAME", env = "COUNTERSIGN_USERNAME", hide_env_values = true, help_heading = LOGIN)]
    username: Option<String>,
    /// A file whose whole content is the password; again for each further question of the server.
    #[arg(long, value_name = "FILE", help_heading = LOGIN)]
    password_file: Vec<PathBuf>,
    /// Where answers are looked for, in order: otp, uri, file, env, kerberos, gss, scram, ssh-key, fido2, u2f, oauth,
    /// prompt; with options as in `file(filename=PATH)`. `none` answers nothing.
    #[arg(long, value_name = "LIST", default_value = "all", help_heading = LOGIN)]
    challenge_handlers: Private,
    /// The session you want there, where the server has more than one for you: a name, or a display's number.
    /// Else that of the address.
    #[arg(long, value_name = "NAME", help_heading = LOGIN)]
    session: Option<String>,
    /// Leave a server that lets everybody in.
    #[arg(long, help_heading = LOGIN)]
    require_auth: bool,
    /// Never use a connection that is not encrypted.
    #[arg(long, help_heading = SERVER)]
    require_encryption: bool,
    /// Encrypt packets as Xpra does: AES-CBC, which AES is too, AES-CTR, AES-GCM or AES-CFB.
    #[arg(long, value_name = "CIPHER", alias = "tcp-encryption", help_heading = SERVER)]
    encryption: Option<String>,
    /// A file with the key of --encryption. Without it the key is in XPRA_ENCRYPTION_KEY; a password never is one.
    #[arg(long, value_name = "FILE", alias = "tcp-encryption-keyfile", help_heading = SERVER)]
    encryption_keyfile: Option<PathBuf>,
    /// Show a category on standard error: auth (what is asked and offered, and no secret), all, or a log target.
    #[arg(short = 'd', long = "debug", value_name = "CATEGORY", help_heading = LOGIN)]
    debug: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

const LOGIN: &str = "Login";

/// Where Xpra's clients look for the key too.
const KEY: &str = "XPRA_ENCRYPTION_KEY";

impl LoginArgs {
    /// A connector with all of it. To be called before there are threads: secrets leave the process's
    /// arguments and environment here.
    pub(crate) fn connector(self) -> Result<Connector, ConnectError> {
        logging::start_debug(&self.debug);
        let (mut uri, password) = self.server()?;
        uri.display = self.session.clone().or(uri.display);
        let username = self.username(&uri)?;
        let mut sources = Sources::new().with_address_password(password);
        for file in &self.password_file {
            sources = sources.with_password_file(file);
        }
        let responders = Registry::builtin().select(&self.challenge_handlers.0, sources)?;
        // S-90: the handlers have it. A variable of another name stays; its owner chose that.
        let _ = scrub_env("XPRA_PASSWORD");
        let encryption = self.encryption()?;
        let connector = self.server.connector(uri)?;
        Ok(connector
            .with_encryption(encryption)
            .with_username(username)
            .with_handlers(responders)
            .requiring_auth(self.require_auth)
            .requiring_encryption(self.require_encryption))
    }

    fn encryption(&self) -> Result<Option<Encryption>, ConfigError> {
        let cipher = match &self.encryption {
            Some(text) => text.parse().map_err(|_| {
                let fix = "write AES, AES-CBC, AES-CTR, AES-GCM or AES-CFB";
                ConfigError::new("--encryption", "there is no such cipher", fix)
            })?,
            // As Xpra has it, a key without a cipher is one for AES.
            None if self.encryption_keyfile.is_some() => Cipher::default(),
            None => return Ok(None),
        };
        let key = match &self.encryption_keyfile {
            Some(path) => read_key(path, "--encryption-keyfile")?,
            None => Secret::new(std::env::var_os(KEY).unwrap_or_default().into_encoded_bytes()),
        };
        let _ = scrub_env(KEY);
        let terms = Encryption::new(cipher, &key);
        terms.map(Some).ok_or_else(|| {
            let fix = "name its file with --encryption-keyfile, or set XPRA_ENCRYPTION_KEY";
            ConfigError::new("--encryption", "there is no key", fix)
        })
    }

    /// Where to log in, and the password that stands with it, in the address or in a connection file.
    fn server(&self) -> Result<(Uri, Option<Arc<Secret>>), ConnectError> {
        if ConnectionFile::is_named(&self.address.0) {
            let file = ConnectionFile::read(Path::new(&self.address.0))?;
            file.notices.iter().for_each(|notice| Terminal.tell(notice));
            return Ok((file.uri, file.password));
        }
        let uri: Uri = self.address.0.parse()?;
        if uri.password.is_some() {
            hide(&self.address.0, &uri);
        }
        let password = uri.password.clone();
        Ok((uri, password))
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
}

/// Takes the password out of the process list and the environment (S-48, S-90). The connector warns
/// of the address either way, so where this cannot be done nothing more is said.
fn hide(address: &str, uri: &Uri) {
    let _ = replace_argument(address, &uri.to_string());
    let _ = scrub_env("COUNTERSIGN_SERVER_ADDRESS");
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
