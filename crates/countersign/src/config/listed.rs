//! Peers by where they are, as lists of the configuration name them: `penalty-exempt`, `accept-proxy`.

use std::{fmt, str::FromStr};

use crate::{
    Peer,
    error::ConfigError,
    modules::{Options, network::Network},
};

/// Addresses, networks and users of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    networks: Vec<Network>,
    uids: Vec<u32>,
}

impl Listed {
    /// Whether a peer is among them.
    pub fn holds(&self, peer: &Peer) -> bool {
        match (peer.address(), peer.credentials()) {
            (Some(address), _) => self.networks.iter().any(|network| network.holds(address.ip())),
            (None, Some(credentials)) => self.uids.contains(&credentials.uid),
            (None, None) => false,
        }
    }

    /// The list that an option holds, separated by commas (then in quotes) or blanks; `None` without the option.
    ///
    /// # Errors
    /// It is empty, or one of them is none.
    pub(super) fn take(options: &mut Options, name: &str) -> Result<Option<Self>, ConfigError> {
        let Some(text) = options.take(name)? else { return Ok(None) };
        let mut listed = Self::default();
        for one in text.split([',', ' ']).filter(|one| !one.is_empty()) {
            listed.add(one, |why, fix| options.error(name, why, fix))?;
        }
        match listed == Self::default() {
            true => Err(options.error(name, "the list is empty", FORMS)),
            false => Ok(Some(listed)),
        }
    }

    /// Adds one, as in the configuration.
    ///
    /// # Errors
    /// It is none: `wrong` makes the error of why and what to do.
    pub(super) fn add(
        &mut self,
        text: &str,
        wrong: impl FnOnce(&'static str, &'static str) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let text = text.trim();
        let uid = text.strip_prefix("uid:").and_then(|uid| uid.trim().parse().ok());
        match (uid, Network::parse(text)) {
            (Some(uid), _) => self.uids.push(uid),
            (None, Some(network)) => self.networks.push(network),
            (None, None) => {
                return Err(wrong("it is no address, network or uid, or has bits behind its prefix", FORMS));
            }
        }
        Ok(())
    }
}

/// As in the configuration, separated by commas.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(ToString::to_string);
        let all: Vec<_> = networks.chain(self.uids.iter().map(|uid| format!("uid:{uid}"))).collect();
        f.write_str(&all.join(", "))
    }
}

/// One of them, as in the configuration.
impl FromStr for Listed {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut listed = Self::default();
        listed.add(text, |why, fix| ConfigError::new("the list", why, fix)).map(|()| listed)
    }
}

const FORMS: &str = "write 192.0.2.7, 192.0.2.0/24, 2001:db8::/64 or uid:1000";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::peer::Credentials;

    #[test]
    fn s_024_exempt_are_addresses_networks_and_uids_and_nobody_else() {
        let tcp = |text: &str| Peer::tcp(text.parse().unwrap(), "192.0.2.1:1".parse().unwrap());
        let unix = |uid| Peer::unix(Some(Credentials::new(uid, 0)));
        let exempt: Listed = "192.0.2.0/24".parse().unwrap();
        assert!(exempt.holds(&tcp("192.0.2.9:5")) && exempt.holds(&tcp("[::ffff:192.0.2.9]:5")));
        assert!(!exempt.holds(&tcp("192.0.3.9:5")) && !exempt.holds(&unix(0)));
        let exempt: Listed = "uid:1000".parse().unwrap();
        assert!(exempt.holds(&unix(1000)) && !exempt.holds(&unix(1001)) && !exempt.holds(&Peer::unix(None)));
        assert!(!Listed::default().holds(&tcp("127.0.0.1:5")), "loopback is not exempt");
        for wrong in ["", "everybody", "192.0.2.7/24", "uid:", "uid:x", "alice"] {
            assert!(wrong.parse::<Listed>().is_err(), "{wrong}");
        }
    }
}
