//! The proxy in front whose words count: for modules that believe what others could say as well.

use super::{OptionSpec, Options, network::Network};
use crate::{
    Peer,
    error::ConfigError,
    sys::{
        accounts::{own_uid, parse_uid},
        peer::is_account,
    },
};

/// Who is taken for the proxy.
pub(super) struct Proxy {
    networks: Vec<Network>,
    users: Vec<u32>,
}

impl Proxy {
    /// The networks of `proxy`, nobody without them; and root, the gateway's own user and those of `proxy-user`.
    ///
    /// # Errors
    /// One that is no network, or no user.
    pub(super) fn take(options: &mut Options) -> Result<Self, ConfigError> {
        let networks = Network::take_all(options, "proxy")?;
        let mut users = vec![0, own_uid()];
        for user in options.take_all("proxy-user") {
            let wrong = |_| options.error("proxy-user", "there is no such user", "write a name or number");
            users.push(parse_uid(user.trim()).map_err(wrong)?);
        }
        Ok(Self { networks, users })
    }

    /// Whether the peer is it: on TCP by its address, on a Unix socket by its user.
    pub(super) fn is(&self, peer: &Peer) -> bool {
        match peer.address() {
            Some(address) => self.networks.iter().any(|network| network.holds(address.ip())),
            None => peer
                .credentials()
                .is_some_and(|known| is_account(known.uid) && self.users.contains(&known.uid)),
        }
    }
}

/// The options that say who it is.
pub(super) const PROXY: OptionSpec =
    OptionSpec::new("proxy", "NETWORK", "", "an address or network of the proxy; may be repeated");
pub(super) const PROXY_USER: OptionSpec =
    OptionSpec::new("proxy-user", "USER", "root, the gateway's own", "the proxy's user; may be repeated");
