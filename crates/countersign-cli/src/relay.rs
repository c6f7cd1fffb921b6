//! `countersign _relay`: the far end of `ssh://`, which nobody has to type.

use clap::Args;
use countersign::connect::relay_for_ssh;

use crate::report::Report;

/// Pass bytes between a Unix socket of this machine and standard input and output: what `ssh://` runs.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// The socket, unix:PATH. Without it the one that a gateway of this user or machine makes of itself.
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
}

pub(crate) fn run(args: &RelayArgs) -> Result<(), Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let done =
        runtime.block_on(relay_for_ssh(args.address.as_deref(), tokio::io::stdin(), tokio::io::stdout()));
    // A read of standard input that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    Ok(done?)
}
