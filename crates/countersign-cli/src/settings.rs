//! `countersign get` and `set`: the settings of a gateway, of which there is one, the passphrase.

use std::time::Duration;

use clap::Args;
use countersign::{
    ConfigError, Secret,
    connect::Uri,
    control::{PassphraseFacts, Request, Response},
    trust::ADVISED_LENGTH,
};

use crate::{
    report::{Exit, Report, print, print_json},
    secret::{Private, SecretArgs},
    server::{self, ServerArgs},
    trust::{
        from_now,
        owner::{OwnerArgs, unexpected},
        time,
    },
};

/// Change a setting of a gateway: the passphrase that lets certificates in.
///
/// The new passphrase is asked for twice on the terminal unless a way to read it is given. An empty one
/// unsets it: nobody is let in by it any more, and whoever is in stays in.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign set local.passphrase
  sudo countersign set local.passphrase --expires 1h --uses 3
  countersign set local.passphrase --server tls://gate.example:10000 --stdin

Without a server, it is about the gateway of this machine or user, by its
control socket, or by its state directory while it does not run.

Exit codes: 0 set, 1 anything not named here, 2 usage, 69 unreachable, 75 try
again later, 76 the server is not the right one, 77 not yours to set,
78 configuration, 79 there was nothing to set it to.")]
pub(crate) struct SetArgs {
    /// The setting, local.passphrase. With =VALUE others can read it: better be asked for it.
    #[arg(value_name = "KEY[=VALUE]")]
    assignment: Private,
    #[command(flatten)]
    secret: SecretArgs,
    /// When it shall stop letting anybody in, from now: 10m, 12h. Through the control socket only.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<Duration>,
    /// How many certificates it may let in. Through the control socket only.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Show a setting of a gateway: `true` if a passphrase is set, `false` if not. Never the passphrase.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign get local.passphrase
  countersign get local.passphrase --server tls://gate.example:10000

Exit codes: 0 shown, and otherwise as `countersign set`.")]
pub(crate) struct GetArgs {
    /// The setting: local.passphrase.
    #[arg(value_name = "KEY")]
    setting: String,
    /// Print JSON: `set`, and of our own gateway `expires` and `uses`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Whose settings.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// The gateway of this machine or user, whatever the environment says.
    #[arg(long, conflicts_with = "server")]
    local: bool,
    #[command(flatten)]
    owner: OwnerArgs,
    /// A server where your certificate is accepted: tls://HOST:PORT, unix:PATH, or HOST:PORT
    /// [env: COUNTERSIGN_SERVER_ADDRESS, MULTIPASS_SERVER_ADDRESS].
    #[arg(long, value_name = "ADDRESS", help_heading = server::SERVER)]
    server: Option<String>,
    #[command(flatten)]
    known: ServerArgs,
}

impl PlaceArgs {
    /// The server; `None` for the gateway that is ours.
    fn server(&self) -> Result<Option<Uri>, Report> {
        if self.local || (self.server.is_none() && self.owner.is_given()) {
            return Ok(None);
        }
        server::address(self.server.as_deref())
    }
}

pub(crate) fn set(args: &SetArgs) -> Result<(), Report> {
    let (key, value) = match args.assignment.0.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (args.assignment.0.as_str(), None),
    };
    if value.is_some_and(|value| !value.is_empty()) {
        args.assignment.hide(key, "the prompt, --stdin or --file");
    }
    known(key)?;
    let server = args.place.server()?;
    if server.is_some() && (args.expires.is_some() || args.uses.is_some()) {
        return Err(Report::new(Exit::Usage, "--expires and --uses: a server takes only the passphrase")
            .fix("leave them out, or run the command where the gateway is, with --local"));
    }
    let passphrase = match value {
        Some(value) => Secret::new(value),
        None => args.secret.read("new passphrase: ", Some("the same again: "))?,
    };
    warn_if_short(&passphrase);
    let is_set = !passphrase.is_empty();
    match server {
        Some(uri) => {
            let connector = args.place.known.connector(uri)?;
            server::calling(&connector, async |calls| calls.set_passphrase(passphrase).await)?;
        }
        None => {
            let expires = args.expires.map(from_now).transpose()?;
            let request = match is_set {
                true => Request::SetPassphrase { passphrase, expires, uses: args.uses },
                false => Request::UnsetPassphrase,
            };
            args.place.owner.reach()?.ask(request)?;
        }
    }
    print(if is_set { "the passphrase is set\n" } else { "the passphrase is unset\n" })
}

pub(crate) fn show(args: &GetArgs) -> Result<(), Report> {
    known(&args.setting)?;
    let facts = match args.place.server()? {
        Some(uri) => {
            let connector = args.place.known.connector(uri)?;
            let set = server::calling(&connector, async |calls| calls.passphrase_is_set().await)?;
            PassphraseFacts::is_set(set)
        }
        None => match args.place.owner.reach()?.ask(Request::Passphrase)? {
            Response::Passphrase(facts) => facts,
            other => return Err(unexpected(&other)),
        },
    };
    match args.json {
        true => print_json(&facts),
        false => print(if facts.set { "true\n" } else { "false\n" }),
    }
}

fn known(key: &str) -> Result<(), Report> {
    match key == PASSPHRASE {
        true => Ok(()),
        false => {
            let error = ConfigError::unknown("the settings", key, [PASSPHRASE]);
            Err(Report::new(Exit::Usage, &error).fix(error.fix().to_owned()))
        }
    }
}

fn warn_if_short(passphrase: &Secret) {
    let characters = String::from_utf8_lossy(passphrase.expose()).chars().count();
    if (1..ADVISED_LENGTH).contains(&characters) {
        eprintln!(
            "warning: the passphrase has fewer than {ADVISED_LENGTH} characters: whoever reaches the gateway can guess at \
             it; an invitation cannot be guessed (countersign trust invite)"
        );
    }
}

/// The one setting, as Multipass calls it.
const PASSPHRASE: &str = "local.passphrase";
