//! `countersign audit`: whether the audit trail is whole.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign::{
    config::{Config, Paths, StatePlace, audit_trail},
    trail::{Key, Report as Verdict, verify},
};

use crate::report::{Exit, Report, print, print_json};

/// Verify the audit trail of a gateway.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign audit verify
  countersign audit verify /var/log/countersign/audit.jsonl*
  countersign audit verify --key audit.key copy.jsonl --json

A gateway keeps a trail with --audit-file=FILE or --audit=required. Each record
is joined to the one before by a key in the state directory, so that every
edit, and every record that is dropped, moved or cut off, is found and named.
Files that logrotate moved away are read in any order, if not compressed.")]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether every record is as it was written; exit code 1 if one is not.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The files of one trail [default: the gateway's].
    files: Vec<PathBuf>,
    /// A copy of the key, for files of another machine. What was cut off at the end is then not seen.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The gateway's state directory, where the key and the end of the trail are.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// The gateway's configuration file, which may name both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &AuditArgs) -> Result<(), Report> {
    let Command::Verify(args) = &args.command;
    let paths = Paths::system()?;
    let mut layers = Config::layers(args.config.as_deref(), &paths, std::env::vars_os())?;
    if let Some(directory) = &args.state_dir {
        layers.flag("state-dir", directory)?;
    }
    let place = StatePlace::read(&layers, &paths)?;
    let files = match audit_trail(&layers, &place.state_dir)? {
        _ if !args.files.is_empty() => args.files.clone(),
        Some(options) => vec![options.file],
        None => {
            let what = "the configuration: it keeps no audit trail";
            return Err(Report::new(Exit::Config, what).fix("name the files, or set audit.file"));
        }
    };
    let (key, state_dir) = match &args.key {
        Some(file) => (Key::read(file)?, None),
        None => (Key::of(&place.state_dir)?, Some(place.state_dir.as_path())),
    };
    let verdict = verify(&files, &key, state_dir)?;
    if args.json {
        print_json(&verdict)?;
    } else {
        print(&in_words(&verdict))?;
    }
    match verdict.findings.len() {
        0 => Ok(()),
        found => {
            Err(Report::new(Exit::Failure, format!("the audit trail: {found} finding(s), it is not whole"))
                .fix(
                    "compare it with a copy that was shipped to another machine; what is whole still counts",
                ))
        }
    }
}

fn in_words(verdict: &Verdict) -> String {
    let mut text: String = verdict.findings.iter().map(|finding| format!("{finding}\n")).collect();
    match (verdict.first, verdict.last) {
        (Some(first), Some(last)) => {
            text.push_str(&format!(
                "{} records are as they were written, of {first} to {last}\n",
                verdict.records
            ));
        }
        _ => text.push_str("no record is as it was written\n"),
    }
    if let (true, Some(first)) = (verdict.continues, verdict.first) {
        text.push_str(&format!("records before {first} are in files that were not given\n"));
    }
    text
}
