//! A module of your own beside the builtin ones: lets in between two hours of the day (UTC).
//!
//! ```console
//! $ cargo run --example custom_module
//! ```

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use countersign::{
    Chain, Claim, ConfigError, Identity, Peer, Refusal, Verifier,
    modules::{Module, OptionSpec, Options, Registry},
    proto::chain::CheckPeer,
};

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

    fn configure(&self, options: &mut Options) -> Result<Verifier, ConfigError> {
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

fn main() -> Result<(), ConfigError> {
    let registry = Registry::builtin().with(&Hours);
    let options = Options::new("hours", [("from".to_owned(), "8".to_owned())]);
    let chain = Chain::new(vec![registry.link(options)?]);
    println!("{:?}", Arc::new(chain));
    Ok(())
}
