//! A module of your own beside the builtin ones: lets in between two hours of the day (UTC).
//!
//! ```console
//! $ cargo run --example custom_module -- /tmp/hours.sock 'hours(from=8,to=18)'
//! $ countersign connect unix:///tmp/hours.sock
//! ```

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign::{
    Chain, Claim, ConfigError, Identity, Peer, Refusal, Verifier,
    config::ModuleSpec,
    gateway::drive::Acceptor,
    modules::{Context, Module, OptionSpec, Options, Registry},
    proto::chain::CheckPeer,
    transport::{Address, Listener, UnixOptions},
};
use tokio::io::AsyncWriteExt as _;

struct Hours;

impl Module for Hours {
    fn name(&self) -> &'static str {
        "hours"
    }

    fn summary(&self) -> &'static str {
        "lets in between two hours of the day"
    }

    fn options(&self) -> &'static [OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec::new("from", "HOUR", "0", "the first hour, UTC"),
            OptionSpec::new("to", "HOUR", "23", "the last hour, UTC"),
        ];
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It looks at the clock alone and names nobody: put it before a module that asks."
    }

    fn example(&self) -> &'static str {
        "hours(from=8,to=18)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let (from, to) = (options.number("from", 0, 0..=23)?, options.number("to", 23, 0..=23)?);
        Ok(Verifier::Peer(Box::new(Open { from, to })))
    }
}

struct Open {
    from: u64,
    to: u64,
}

impl CheckPeer for Open {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let hour = now / 3600 % 24;
        match (self.from..=self.to).contains(&hour) {
            true => Ok(None),
            false => Err(Refusal::peer_denied("outside the hours")),
        }
    }

    fn may_block(&self) -> bool {
        false
    }
}

/// Who is let in by one module, of ours or of the builtin ones.
fn acceptor(module: &str) -> Result<Acceptor, Box<dyn std::error::Error>> {
    let registry = Registry::builtin().with(&Hours);
    let options = ModuleSpec::parse(module, &registry)?.to_options();
    let chain = Chain::new(vec![registry.link(options, &Context::default())?])
        .map_err(|refusal| refusal.to_string())?;
    Ok(Acceptor::new(Arc::new(chain)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "hours.sock".to_owned());
    let acceptor = acceptor(&arguments.next().unwrap_or_else(|| Hours.example().to_owned()))?;
    let listener = Listener::bind(&Address::Unix(path.into()), &UnixOptions::default()).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        // One after the other: `embed_server` shows how each gets a task of its own.
        match acceptor.accept(stream, peer).await {
            Ok(admitted) => admitted.into_stream().await?.write_all(b"come in\n").await?,
            Err(turned) => eprintln!("turned away: {turned}"),
        }
    }
}
