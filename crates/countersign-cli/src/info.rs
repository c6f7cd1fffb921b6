//! `countersign info`: logs in, asks the server who we are there, and leaves.

use clap::Args;

use crate::{
    login::LoginArgs,
    report::{Report, print, print_json},
};

/// Log in at a server and show what it says: who you are there, or its session's facts.
///
/// Nothing behind the server is started. A countersign gateway says whom it takes you for and by
/// which proofs; an Xpra server sends the answer of its own `info`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign info tls://alice@app.example:10000
  countersign info --password-file=$HOME/.app-password unix:/run/app.sock
  countersign info --json tcp://127.0.0.1:10000 | jq .server

The exit code tells whether a credential is good: 0 yes, 77 refused, 79 none found, 69 unreachable.")]
pub(crate) struct InfoArgs {
    /// Print JSON: `client` for what this end found out, `server` for what the server says.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: LoginArgs,
}

pub(crate) fn run(args: InfoArgs) -> Result<(), Report> {
    let connector = args.login.connector()?.requesting("info");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connected = runtime.block_on(connector.connect())?;
    if args.json {
        return print_json(&connected.server.to_json());
    }
    print(&connected.server.lines().iter().map(|line| format!("{line}\n")).collect::<String>())
}
