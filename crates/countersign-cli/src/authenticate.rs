//! `countersign authenticate`: has your certificate accepted by a server.

use clap::Args;
use countersign::{Secret, connect::Connector, trust::Token};

use crate::{
    report::{Exit, Report, print},
    secret::{Private, SecretArgs},
    server::{self, ServerArgs},
};

/// Have your certificate accepted by a server, for its passphrase or an invitation.
///
/// The passphrase is asked for on the terminal unless a way to read it is given. The token of an
/// invitation may stand wherever a passphrase may; it says by itself which server it is for, and how
/// that is known.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign authenticate --server tls://gate.example:10000
  countersign authenticate --stdin < token
  countersign authenticate --server unix:/run/multipass_socket

Afterwards your certificate alone lets you in: `countersign identity` shows it.

Exit codes: 0 accepted, 1 anything not named here, 2 usage, 69 unreachable,
75 too many tries, 76 the server is not the right one, 77 wrong or none set,
79 nothing to authenticate with.")]
pub(crate) struct AuthenticateArgs {
    /// The passphrase. Others can read it here: better be asked for it.
    #[arg(conflicts_with_all = ["token", "file", "stdin"])]
    passphrase: Option<Private>,
    /// The token of an invitation, which needs no --server.
    #[arg(long, conflicts_with_all = ["file", "stdin"])]
    token: Option<Private>,
    #[command(flatten)]
    secret: SecretArgs,
    /// The server: tls://HOST:PORT, unix:PATH, or HOST:PORT [env: COUNTERSIGN_SERVER_ADDRESS,
    /// MULTIPASS_SERVER_ADDRESS].
    #[arg(long, value_name = "ADDRESS")]
    server: Option<String>,
    #[command(flatten)]
    known: ServerArgs,
}

pub(crate) fn run(args: &AuthenticateArgs) -> Result<(), Report> {
    let given = args.token.as_ref().or(args.passphrase.as_ref());
    let secret = match given {
        Some(given) => {
            given.hide("", "the prompt, --stdin or --file");
            Secret::new(given.0.as_str())
        }
        None => args.secret.read("passphrase or token: ", None)?,
    };
    if secret.is_empty() {
        return Err(Report::new(Exit::Usage, "the passphrase: it is empty, and an empty one is never right")
            .fix("ask somebody who is accepted for the passphrase, or the owner for an invitation"));
    }
    let connector = args.connector(&secret)?;
    server::calling(&connector, async |calls| calls.authenticate(secret).await)?;
    print("authenticated: your certificate is accepted there\n")
}

impl AuthenticateArgs {
    fn connector(&self, secret: &Secret) -> Result<Connector, Report> {
        let uri = server::address(self.server.as_deref())?;
        let token: Option<Token> = match Token::is_meant_by(secret) {
            true => Some(parse(secret)?),
            false if self.token.is_some() => return Err(not_a_token()),
            false => None,
        };
        match (token, uri) {
            // The token's key holds for the address in the token, and for another name of that server.
            (Some(token), uri) => {
                let uri = match uri.filter(|_| self.server.is_some()) {
                    Some(uri) => uri,
                    None => server::address(Some(token.address()))?.ok_or_else(not_a_token)?,
                };
                Ok(self.known.connector_pinned(uri, token.server())?)
            }
            (None, Some(uri)) => Ok(self.known.connector(uri)?),
            (None, None) => Err(Report::new(Exit::Usage, "the server: none is named").fix(
                "write --server tls://HOST:PORT or --server unix:PATH, or set COUNTERSIGN_SERVER_ADDRESS",
            )),
        }
    }
}

fn parse(secret: &Secret) -> Result<Token, Report> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| not_a_token())?;
    text.parse().map_err(|error: countersign::ConfigError| Report::new(Exit::Usage, &error).fix(error.fix()))
}

fn not_a_token() -> Report {
    Report::new(Exit::Usage, "the token: it is not whole")
        .fix("copy all of it, as `countersign trust invite` printed it")
}
