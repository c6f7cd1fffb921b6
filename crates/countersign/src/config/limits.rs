//! Times and numbers that hold for all sockets: section `[limits]`.

use std::{str::FromStr, time::Duration};

use super::{Layers, one, socket};
use crate::{
    Peer,
    error::ConfigError,
    modules::{Options, network::Network},
};

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
    pub penalty_exempt: Exempt,
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
            penalty_exempt: Exempt::read(layers)?,
        })
    }
}

/// A number of clients, at least one.
pub(super) fn clients(options: &mut Options, key: &str, default: u64) -> Result<usize, ConfigError> {
    let number = options.number(key, default, 1..=1_000_000)?;
    usize::try_from(number).map_err(|_| options.error(key, "it is out of range", "write a smaller number"))
}

/// Sources that are never penalised nor counted by where they come from: proxies that many clients come through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    networks: Vec<Network>,
    uids: Vec<u32>,
}

impl Exempt {
    /// Whether a peer is among them.
    pub fn holds(&self, peer: &Peer) -> bool {
        match (peer.address(), peer.credentials()) {
            (Some(address), _) => self.networks.iter().any(|network| network.holds(address.ip())),
            (None, Some(credentials)) => self.uids.contains(&credentials.uid),
            (None, None) => false,
        }
    }

    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let mut exempt = Self::default();
        for written in layers.all(PENALTY_EXEMPT) {
            exempt.add(&written.text).map_err(|error| written.origin.told(error))?;
        }
        Ok(exempt)
    }

    fn add(&mut self, text: &str) -> Result<(), ConfigError> {
        let text = text.trim();
        let uid = text.strip_prefix("uid:").and_then(|uid| uid.trim().parse().ok());
        match (uid, Network::parse(text)) {
            (Some(uid), _) => self.uids.push(uid),
            (None, Some(network)) => self.networks.push(network),
            (None, None) => {
                return Err(ConfigError::new(
                    PENALTY_EXEMPT,
                    "it is no address, network or uid, or has bits behind its prefix",
                    "write 192.0.2.7, 192.0.2.0/24, 2001:db8::/64 or uid:1000",
                ));
            }
        }
        Ok(())
    }
}

/// One of them, as in the configuration.
impl FromStr for Exempt {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut exempt = Self::default();
        exempt.add(text).map(|()| exempt)
    }
}

const PENALTY_EXEMPT: &str = "limits.penalty-exempt";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer::Credentials;

    #[test]
    fn s_024_exempt_are_addresses_networks_and_uids_and_nobody_else() {
        let tcp = |text: &str| Peer::tcp(text.parse().unwrap(), "192.0.2.1:1".parse().unwrap());
        let unix = |uid| Peer::unix(Some(Credentials::new(uid, 0)));
        let exempt: Exempt = "192.0.2.0/24".parse().unwrap();
        assert!(exempt.holds(&tcp("192.0.2.9:5")) && exempt.holds(&tcp("[::ffff:192.0.2.9]:5")));
        assert!(!exempt.holds(&tcp("192.0.3.9:5")) && !exempt.holds(&unix(0)));
        let exempt: Exempt = "uid:1000".parse().unwrap();
        assert!(exempt.holds(&unix(1000)) && !exempt.holds(&unix(1001)) && !exempt.holds(&Peer::unix(None)));
        assert!(!Exempt::default().holds(&tcp("127.0.0.1:5")), "loopback is not exempt");
        for wrong in ["", "everybody", "192.0.2.7/24", "uid:", "uid:x", "alice"] {
            assert!(wrong.parse::<Exempt>().is_err(), "{wrong}");
        }
    }
}
