//! `countersign connect`: a stream through a login, on standard input and output or at a local door.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use countersign::connect::{ConnectError, Connector, Door, Registrar, pass, relay};
use tokio::signal::unix::{SignalKind, signal};

use crate::{login::LoginArgs, report::Report};

/// Log in at a server and pass bytes between it and standard input and output.
///
/// With --listen a local door stays open, and each connection made to it is logged in at the server:
/// programs that know nothing of logins go through it. An Xpra client that comes to the door keeps its
/// own session with the server, and the door adds the login.
///
/// With --register it is the other way round: a daemon of this machine, which nothing can connect to from outside, waits
/// at the server as the session NAME of --session, and your own clients there are led to it. The server's backend
/// has to be `session:live()`.
///
/// Where the server's socket has `protocol=stream`, `--protocol stream` says nothing: the certificate that
/// it is shown lets in, and every byte is the daemon's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  countersign connect tls://alice@app.example:10000
  countersign connect --password-file=$HOME/.app-password unix:/run/app.sock
  ssh -o ProxyCommand='countersign connect tls://alice@gate.example:10000' inner
  countersign connect --listen 127.0.0.1:5433 tls://alice@gate.example:10000
  countersign connect --listen unix:/run/user/1000/app.sock tls://gate.example
  countersign connect --register unix:/run/user/1000/app.sock --session mail tls://alice@gate
  countersign connect --listen 127.0.0.1:6380 --protocol stream tls://gate.example:6379

Exit codes: 0 done, 1 anything not named here, 2 usage, 69 unreachable, 75 try
again later, 76 the server is not the right one or wants what is forbidden,
77 login refused, 79 no credential.")]
pub(crate) struct ConnectArgs {
    /// Keep a local door at HOST:PORT (loopback only; port 0 chooses one) or unix:PATH.
    #[arg(long, value_name = "LOCAL")]
    listen: Option<String>,
    /// Let a daemon of this machine, unix:PATH or HOST:PORT, wait at the server for your clients, as --session NAME.
    #[arg(long, value_name = "DAEMON", conflicts_with = "listen")]
    register: Option<String>,
    /// What is said to the server, as its socket's `protocol=` has it: the login in packets, or nothing.
    #[arg(long, value_name = "PROTOCOL", default_value = "xpra")]
    protocol: Protocol,
    #[command(flatten)]
    login: LoginArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Xpra,
    Stream,
}

pub(crate) fn run(args: ConnectArgs) -> Result<(), Report> {
    // Before the runtime has threads: files and variables are looked at now.
    let connector = args.login.connector()?.saying_nothing(args.protocol == Protocol::Stream);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        if let Some(daemon) = args.register {
            return register(connector, &daemon).await;
        }
        match args.listen {
            Some(address) => serve(connector, &address).await,
            // What is typed before the login is the password, and nobody types a hello.
            None if std::io::stdin().is_terminal() && !connector.says_nothing() => {
                let stream = connector.connect().await?.stream;
                Ok(relay(stream, tokio::io::stdin(), tokio::io::stdout()).await?)
            }
            None => Ok(pass(&connector, tokio::io::stdin(), tokio::io::stdout()).await?),
        }
    });
    // A read of standard input that nobody waits for any more must not keep the program.
    runtime.shutdown_background();
    done
}

/// Until the server refuses, or a signal.
async fn register(connector: Connector, daemon: &str) -> Result<(), Report> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let registrar = Registrar::new(connector, daemon)?;
    let failed = |error: &ConnectError| eprintln!("error: {error}");
    tokio::select! {
        served = registrar.serve(|| eprintln!("registered, waiting for clients"), failed) => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn serve(connector: Connector, address: &str) -> Result<(), Report> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let door = Door::open(address).await?;
    if matches!(door.address(), countersign::transport::Address::Tcp { .. }) {
        eprintln!("warning: every user of this machine gets in through {}", door.address());
    }
    eprintln!("listening on {}", door.address());
    let failed = |error: &ConnectError| eprintln!("error: {error}");
    // The door is dropped at a signal, and with it its socket's file.
    tokio::select! {
        served = door.serve(connector, failed) => Ok(served?),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
