//! The command `countersign`: reads arguments, prints, exits. What it does is the library's.
#![forbid(unsafe_code)]

mod args;
mod connect;
mod generate;
mod identity;
mod info;
mod logging;
mod login;
mod modules;
mod report;
mod serve;
mod trust;
mod tryout;
mod users;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match args.run() {
        Ok(code) => code,
        Err(report) => report.print(),
    }
}
