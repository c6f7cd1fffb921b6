//! The command `countersign`: reads arguments, prints, exits. What it does is the library's.
#![forbid(unsafe_code)]

mod args;
mod audit;
mod authenticate;
mod connect;
mod generate;
mod identity;
mod info;
mod keys;
mod logging;
mod login;
mod modules;
mod penalties;
mod relay;
mod report;
mod secret;
mod serve;
mod server;
mod settings;
mod trust;
mod tryout;
mod users;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(end) = countersign::modules::run_worker() {
        return end;
    }
    let args = args::Args::parse();
    match args.run() {
        Ok(code) => code,
        Err(report) => report.print(),
    }
}
