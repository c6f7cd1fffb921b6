//! The driver for `protocol=stream` and for calls: nothing is said, the transport's facts decide.

use std::{sync::Arc, time::Instant};

use tokio::time::sleep_until;

use super::{Acceptor, Admitted, Speech, Turned, now};
use crate::{
    Grant, Peer, Refusal,
    proto::{
        error::Reason,
        server::{Action, Conversation},
    },
    transport::Stream,
};

impl Acceptor {
    /// Asks the chain about a peer, which is said nothing. A chain that would have to ask it refuses.
    pub(in crate::gateway) async fn judge(&self, peer: &Arc<Peer>) -> Result<Grant, Refusal> {
        judge(self, peer, now()).await
    }
}

/// Lets the client in by the transport's facts.
pub(super) async fn drive(
    acceptor: &Acceptor,
    stream: Stream,
    peer: Arc<Peer>,
    start: Instant,
) -> Result<Admitted, Turned> {
    match judge(acceptor, &peer, start).await {
        Ok(grant) => Ok(Admitted { grant, stream, speech: Speech::Silent }),
        Err(refusal) => Err(Turned { refusal, peer, username: None }),
    }
}

/// Runs the chain without a word to the client; a chain that would have to ask refuses.
async fn judge(acceptor: &Acceptor, peer: &Arc<Peer>, start: Instant) -> Result<Grant, Refusal> {
    let mut settings = acceptor.settings;
    // Nobody listens for the difference: there is no answer to compare the time of.
    settings.refusal_delay = std::time::Duration::ZERO;
    let chain = Arc::clone(&acceptor.chain);
    let mut conversation =
        Conversation::new(chain, Arc::clone(peer), settings, super::packets::random, start);
    conversation.begin_silent(start);
    loop {
        match conversation.poll() {
            Some(Action::Accept(grant)) => return Ok(grant),
            Some(Action::Refuse(refusal)) => return Err(refusal),
            Some(Action::Check(check)) => acceptor.run(&mut conversation, check).await,
            Some(Action::Challenge(_)) => {
                return Err(Refusal::new(Reason::NoCommonMechanism, "the chain asks on a silent wire"));
            }
            None => {
                // A link may hold the login up; whatever else is due is due now.
                if let Some(due) = conversation.poll_timeout() {
                    sleep_until(due.into()).await;
                }
                conversation.handle_timeout(now());
            }
        }
    }
}
