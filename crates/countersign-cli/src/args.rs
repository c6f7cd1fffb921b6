//! The command line: what can be typed, with help and examples.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    audit, authenticate, connect, generate, identity, info, keys, modules, penalties, relay, report::Report,
    running, serve, settings, trust, tryout, users,
};

/// Authentication in front of any daemon.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100, subcommand_required = true)]
#[command(after_help = "Examples:
  countersign try --script
  countersign serve --bind=./app.sock,auth=peercred --backend=tcp:[::1]:5432
  countersign info unix:./app.sock
  countersign connect unix:./app.sock

`countersign COMMAND --help` says more, with examples.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Check(serve::CheckArgs),
    Explain(serve::ExplainArgs),
    Connect(connect::ConnectArgs),
    Info(info::InfoArgs),
    Identity(identity::IdentityArgs),
    #[command(visible_alias = "auth")]
    Authenticate(authenticate::AuthenticateArgs),
    Get(settings::GetArgs),
    Set(settings::SetArgs),
    Trust(trust::TrustArgs),
    Users(users::UsersArgs),
    Keys(keys::KeysArgs),
    Modules(modules::ModulesArgs),
    Audit(audit::AuditArgs),
    Penalties(penalties::PenaltiesArgs),
    Status(running::StatusArgs),
    Sessions(running::SessionsArgs),
    Reload(running::ReloadArgs),
    Drain(running::DrainArgs),
    Try(tryout::TryArgs),
    #[command(name = "_relay", hide = true)]
    Relay(relay::RelayArgs),
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, Report> {
        match self.command {
            Command::Serve(args) => serve::serve(&args),
            Command::Check(args) => serve::check(&args).map(|()| ExitCode::SUCCESS),
            Command::Explain(args) => serve::explain_config(&args).map(|()| ExitCode::SUCCESS),
            Command::Connect(args) => connect::run(args).map(|()| ExitCode::SUCCESS),
            Command::Info(args) => info::run(args).map(|()| ExitCode::SUCCESS),
            Command::Identity(args) => identity::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Authenticate(args) => authenticate::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Get(args) => settings::show(&args).map(|()| ExitCode::SUCCESS),
            Command::Set(args) => settings::set(&args).map(|()| ExitCode::SUCCESS),
            Command::Trust(args) => trust::run(args).map(|()| ExitCode::SUCCESS),
            Command::Users(args) => users::run(args).map(|()| ExitCode::SUCCESS),
            Command::Keys(args) => keys::run(args).map(|()| ExitCode::SUCCESS),
            Command::Modules(args) => modules::run(args),
            Command::Audit(args) => audit::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Penalties(args) => penalties::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Status(args) => running::status(&args),
            Command::Sessions(args) => running::sessions(&args).map(|()| ExitCode::SUCCESS),
            Command::Reload(args) => running::reload(&args).map(|()| ExitCode::SUCCESS),
            Command::Drain(args) => running::drain(&args).map(|()| ExitCode::SUCCESS),
            Command::Try(args) => tryout::run(&args),
            Command::Relay(args) => relay::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        }
    }
}
