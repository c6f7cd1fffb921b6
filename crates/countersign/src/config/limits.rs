//! Times and numbers that hold for all sockets: section `[limits]`.

use std::time::Duration;

use super::{Layers, Listed, one, socket};
use crate::{error::ConfigError, modules::Options};

/// Times and numbers that hold for all sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Within which time a client's first complete message is due (S-01).
    pub handshake_timeout: Duration,
    /// Within which time a login must have succeeded (S-01).
    pub login_timeout: Duration,
    /// How long every refusal takes at least, whatever its cause.
    pub refusal_delay: Duration,
    /// How long sessions may go on after the gateway was asked to end.
    pub drain_timeout: Duration,
    /// How many clients may be logging in at once (S-04).
    pub max_unauthenticated: usize,
    /// How many of them may be of one address, one IPv6 network of 64 bits, or one uid (S-04).
    pub max_per_source: usize,
    /// Whether failed logins are counted, where a socket does not say (S-21).
    pub penalties: bool,
    /// From which penalty on a name is refused at a source; the source as a whole from four times that on (S-21).
    pub penalty_min: Duration,
    /// The longest penalty (S-21).
    pub penalty_max: Duration,
    /// Who is never slowed or counted by where it comes from (S-21).
    pub penalty_exempt: Listed,
}

impl Limits {
    pub(super) fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let seconds = Duration::from_secs;
        let penalty_min = one(layers, "limits.penalty-min", |o, k| socket::timeout(o, k, seconds(15)))?;
        Ok(Self {
            handshake_timeout: one(layers, "limits.handshake-timeout", |o, k| {
                socket::timeout(o, k, seconds(10))
            })?,
            login_timeout: one(layers, "limits.login-timeout", |o, k| socket::timeout(o, k, seconds(120)))?,
            refusal_delay: one(layers, "limits.refusal-delay", |options, key| {
                let delay = options.duration(key, seconds(1))?;
                // A real client gives up 11 seconds after an unanswered hello.
                let fits = delay <= seconds(8);
                if fits {
                    Ok(delay)
                } else {
                    Err(options.error(key, "clients do not wait so long", "write at most 8s"))
                }
            })?,
            drain_timeout: one(layers, "limits.drain-timeout", |o, k| o.duration(k, seconds(30)))?,
            max_unauthenticated: one(layers, "limits.max-unauthenticated", |o, k| clients(o, k, 4096))?,
            max_per_source: one(layers, "limits.max-per-source", |o, k| clients(o, k, 20))?,
            penalties: one(layers, "limits.penalties", |options, key| options.flag(key, true))?,
            penalty_min,
            penalty_max: one(layers, "limits.penalty-max", |options, key| {
                let max = socket::timeout(options, key, seconds(600))?;
                let fix = "write at least four times penalty-min, or a smaller penalty-min";
                if max < penalty_min * 4 { Err(options.error(key, "it is too short", fix)) } else { Ok(max) }
            })?,
            penalty_exempt: exempt(layers)?,
        })
    }
}

/// A number of clients, at least one.
pub(super) fn clients(options: &mut Options, key: &str, default: u64) -> Result<usize, ConfigError> {
    let number = options.number(key, default, 1..=1_000_000)?;
    usize::try_from(number).map_err(|_| options.error(key, "it is out of range", "write a smaller number"))
}

fn exempt(layers: &Layers) -> Result<Listed, ConfigError> {
    let mut exempt = Listed::default();
    for written in layers.all(PENALTY_EXEMPT) {
        let wrong = |why, fix| written.origin.told(ConfigError::new(PENALTY_EXEMPT, why, fix));
        exempt.add(&written.text, wrong)?;
    }
    Ok(exempt)
}

const PENALTY_EXEMPT: &str = "limits.penalty-exempt";
