//! `countersign modules`: what this build can check with.

mod trial;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use countersign::{
    ConfigError,
    modules::{COMMON_OPTIONS, Module, OptionSpec, Registry},
};
use serde::Serialize;

use crate::report::{Exit, Report, print, print_json, wrap};

/// Show the modules that a chain is made of.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign modules list
  countersign modules show file
  countersign modules test 'file(filename=/etc/countersign/word)'
  countersign modules list --json | jq -r '.[].name'")]
pub(crate) struct ModulesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the modules with what each checks.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show a module's manual, options and example.
    Show {
        /// Its name, or one of its other names.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    Test(trial::TestArgs),
}

#[derive(Serialize)]
struct Described {
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    uses_username: bool,
    options: Vec<Opt>,
    manual: &'static str,
    example: &'static str,
}

#[derive(Serialize)]
struct Opt {
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
}

pub(crate) fn run(args: ModulesArgs) -> Result<ExitCode, Report> {
    let registry = Registry::builtin();
    let said = match args.command {
        Command::Test(args) => return trial::run(args),
        Command::List { json: true } => print_json(&registry.modules().map(describe).collect::<Vec<_>>()),
        Command::List { json: false } => registry
            .modules()
            .try_for_each(|module| print(&format!("{:<17} {}\n", module.name(), module.summary()))),
        Command::Show { name, json } => {
            let unknown = |error: ConfigError| Report::new(Exit::Usage, &error).fix(error.fix());
            let module = registry.find(&name).map_err(unknown)?;
            if json { print_json(&describe(module)) } else { print(&manual(module)) }
        }
    };
    said.map(|()| ExitCode::SUCCESS)
}

fn describe(module: &dyn Module) -> Described {
    let options = module.options().iter().chain(COMMON_OPTIONS).map(|option| {
        let OptionSpec { name, value, default, help } = *option;
        Opt { name, value, default, help }
    });
    Described {
        name: module.name(),
        aliases: module.aliases(),
        summary: module.summary(),
        uses_username: module.uses_username(),
        options: options.collect(),
        manual: module.manual(),
        example: module.example(),
    }
}

fn manual(module: &dyn Module) -> String {
    let mut text = format!("{}: {}\n", module.name(), module.summary());
    if !module.aliases().is_empty() {
        text.push_str(&format!("also read as: {}\n", module.aliases().join(", ")));
    }
    text.push('\n');
    text.push_str(&wrap(module.manual(), "", 78));
    for (title, options) in [("options", module.options()), ("options of every module", COMMON_OPTIONS)] {
        if options.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{title}:\n"));
        for option in options {
            let default = match option.default {
                "" => String::new(),
                default => format!(" [{default}]"),
            };
            text.push_str(&format!("  {}={}{default}\n", option.name, option.value));
            text.push_str(&wrap(option.help, "      ", 78));
        }
    }
    text.push_str(&format!("\nexample:\n  auth={}\n", module.example()));
    text
}
