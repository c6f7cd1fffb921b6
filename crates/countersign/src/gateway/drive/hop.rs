//! What a hop says before anything else: whose connection it passes on (S-83).
//!
//! A socket with `accept-proxy` believes the hops that it lists, demands the header from each of them, and lets nobody
//! else near: whether there is a header is never guessed. A gateway asks before it counts a newcomer, so that its
//! places and its penalties go by the client that is announced.

use std::{sync::Arc, time::Instant};

use super::{Acceptor, Patience, Turned, broken, reading::read_some};
use crate::{
    Peer, Refusal,
    config::Listed,
    proto::{
        error::Reason,
        wire::proxy::{self, Announced},
    },
    transport::Stream,
};

impl Acceptor {
    /// The same for clients that come through one of these `hops`, each of which says in a PROXY header in front of
    /// everything where its client is (S-83). Whoever else comes is refused, and so is a hop without a header.
    #[must_use]
    pub fn behind(mut self, hops: Arc<Listed>) -> Self {
        self.hops = Some(hops);
        self
    }

    /// Whether its clients come through hops.
    pub(in crate::gateway) fn is_behind_hops(&self) -> bool {
        self.hops.is_some()
    }

    /// Somebody who has just come, marked where it is one of the hops.
    pub(in crate::gateway) fn recognised(&self, mut peer: Peer) -> Peer {
        peer.hop = self.hops.as_ref().is_some_and(|hops| hops.holds(&peer));
        peer
    }

    /// Who is there, which behind hops one of them has to say, within `handshake_timeout` of `start`.
    pub(in crate::gateway) async fn announced(
        &self,
        stream: &mut Stream,
        peer: Peer,
        start: Instant,
    ) -> Result<Peer, Turned> {
        if self.hops.is_none() {
            return Ok(peer);
        }
        let hop = self.recognised(peer);
        let mut patience = Patience::until(start + self.settings.handshake_timeout);
        let announced = announced(stream, hop.clone(), &mut patience).await;
        announced.map_err(|refusal| Turned { refusal, peer: Arc::new(hop), username: None })
    }
}

impl Turned {
    /// Whether it is only a hop that looked whether somebody is there, as HAProxy does every two seconds: nobody's
    /// login, so there is nothing to record.
    pub(in crate::gateway) fn is_probe(&self) -> bool {
        self.peer.hop && self.refusal.reason == Reason::PeerLeft
    }
}

/// The client that `hop` announces, or the hop itself where it came for itself. What follows the header is left in
/// the stream.
async fn announced(stream: &mut Stream, hop: Peer, patience: &mut Patience) -> Result<Peer, Refusal> {
    if !hop.hop {
        return Err(Refusal::new(Reason::PeerDenied, "it is none of the hops that accept-proxy lists"));
    }
    let mut seen = Vec::new();
    let (announced, length) = loop {
        match patience.wait(read_some(stream, &mut seen)).await {
            Some(Ok(1..)) => {}
            Some(Ok(0)) => {
                return Err(Refusal::new(Reason::PeerLeft, "the hop left before its PROXY header"));
            }
            Some(Err(error)) => return Err(broken(&error)),
            None => return Err(Refusal::new(Reason::Timeout, "no PROXY header came in time")),
        }
        let found = proxy::read(&seen);
        let found = found.map_err(|error| malformed(format!("the PROXY header of the hop: {error}")))?;
        if let Some(found) = found {
            break found;
        }
    };
    stream.unread(seen.split_off(length));
    match announced {
        Announced::Hop => Ok(hop),
        Announced::Tcp { remote, local } => Ok(Peer::tcp(remote, local)),
        Announced::Unix | Announced::Somebody => {
            Err(malformed("the PROXY header of the hop has no address".to_owned()))
        }
    }
}

fn malformed(cause: String) -> Refusal {
    Refusal::new(Reason::Malformed, cause)
}
