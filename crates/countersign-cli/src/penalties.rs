//! `countersign penalties`: who has to wait after failed logins, for the owner of a running gateway.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use countersign::control::{ListedPenalty, Request, Response};
use serde::Serialize;

use crate::{
    report::{Exit, Report, print, print_json},
    trust::owner::{OwnerArgs, unexpected},
};

/// Show who has to wait after failed logins, and let them in again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign penalties list
  countersign penalties clear 192.0.2.7
  sudo countersign penalties clear --all

For root and the user that the gateway runs as. docs/guessing.md says what is
counted, and for how long.

Exit codes: 0 done, 1 no such penalty, 2 usage, 69 no gateway answers,
77 not yours to see, 78 configuration.")]
pub(crate) struct PenaltiesArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sources that failed lately, the longest penalty first.
    List {
        /// Print JSON, with the number of logins that were refused so far.
        #[arg(long)]
        json: bool,
    },
    /// Forget the failures of a source, or all.
    Clear {
        /// The source, as `list` shows it, or an address in it.
        #[arg(required_unless_present = "all")]
        source: Option<String>,
        /// Forget everything, also how often an account failed in a row.
        #[arg(long, conflicts_with = "source")]
        all: bool,
    },
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Listing<'a> {
    refused: u64,
    penalties: &'a [ListedPenalty],
}

pub(crate) fn run(args: &PenaltiesArgs) -> Result<(), Report> {
    let owner = args.owner.reach()?;
    if !owner.gateway_runs() {
        return Err(Report::new(Exit::Unavailable, "penalties: no gateway answers that would have any")
            .fix("name its own: --control PATH, --state-dir DIR or --config FILE; or start it"));
    }
    match &args.command {
        Command::List { json } => match owner.ask(Request::Penalties)? {
            Response::Penalties { refused, penalties } if *json => {
                print_json(&Listing { refused, penalties: &penalties })
            }
            Response::Penalties { refused, penalties } => print(&table(refused, &penalties)),
            other => Err(unexpected(&other)),
        },
        Command::Clear { source, .. } => {
            match owner.ask(Request::ClearPenalties { source: source.clone() })? {
                Response::Done => print("cleared\n"),
                other => Err(unexpected(&other)),
            }
        }
    }
}

fn table(refused: u64, penalties: &[ListedPenalty]) -> String {
    let mut text = String::new();
    for (position, penalty) in penalties.iter().enumerate() {
        if position == 0 {
            let _ = writeln!(text, "{:SOURCE$}  {:>8}  REFUSED NOW", "SOURCE", "LEFT");
        }
        let who = match (penalty.enforced, penalty.names) {
            (true, _) => "everybody".to_owned(),
            (false, 0) => "nobody".to_owned(),
            (false, 1) => "1 name".to_owned(),
            (false, names) => format!("{names} names"),
        };
        let left = format!("{} s", penalty.left);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{:SOURCE$}  {left:>8}  {who}", penalty.source);
    }
    let _ = writeln!(text, "{refused} logins were refused for a penalty since the start");
    text
}

/// Columns of a source: the longest is an IPv6 network.
const SOURCE: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_who_is_refused_and_fits_into_80_columns() {
        let json = r#"[{"source":"2001:db8:ffff:ffff::/64","left":600,"enforced":true,"names":7},
            {"source":"192.0.2.7","left":15,"enforced":false,"names":2},
            {"source":"uid:1000","left":5,"enforced":false,"names":0}]"#;
        let text = table(3, &serde_json::from_str::<Vec<ListedPenalty>>(json).unwrap());
        assert_eq!(
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>(),
            [
                "SOURCE LEFT REFUSED NOW",
                "2001:db8:ffff:ffff::/64 600 s everybody",
                "192.0.2.7 15 s 2 names",
                "uid:1000 5 s nobody",
                "3 logins were refused for a penalty since the start"
            ]
        );
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
