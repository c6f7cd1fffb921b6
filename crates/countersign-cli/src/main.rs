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
mod running;
mod secret;
mod serve;
mod server;
mod settings;
mod trust;
mod tryout;
mod users;

use std::process::ExitCode;

use clap::Parser as _;

/// Whatever is freed is erased first: a password has been in buffers of TLS, of packets and of the log before it is in
/// a value that knows that it is secret (S-91).
#[global_allocator]
static ERASING: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    if let Some(end) = countersign::modules::run_worker() {
        return end;
    }
    // A client holds passwords too. Where the system refuses it, that is told by the gateway alone.
    let _ = countersign::sys::memory::keep_to_ourselves();
    let args = args::Args::parse();
    match args.run() {
        Ok(code) => code,
        Err(report) => report.print(),
    }
}
