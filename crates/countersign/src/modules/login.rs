//! A client in memory for the tests of the modules: one login, and what could be seen of it.

use std::{sync::Arc, time::Instant};

use crate::{
    Chain, Claim, Grant, Peer, Refusal, Secret,
    modules::{Options, Registry},
    proto::{
        chain::Link,
        challenge::{Hello, Offer, Response},
        mechanism::{Hash, Mechanism, hmac, xor},
        server::{Action, ClientMessage, Conversation, Settings},
    },
};

/// What one login looked like from outside, and how it ended.
pub(super) struct Login {
    /// The actions of the server in order, without salts.
    pub(super) seen: Vec<String>,
    /// The end.
    pub(super) end: Result<Grant, Refusal>,
}

/// A link of `module` with these options, as the registry makes it.
pub(super) fn link(module: &str, options: &[(&str, &str)]) -> Result<Link, crate::ConfigError> {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Registry::builtin().link(Options::new(module, options))
}

/// A socket that asks `link` only.
pub(super) fn chain(link: Link) -> Arc<Chain> {
    Arc::new(Chain::new(vec![link]).unwrap())
}

/// Logs in at `chain` over a local socket as `name` with `secret`.
pub(super) fn login(chain: &Arc<Chain>, name: &str, secret: &str) -> Login {
    login_from(Peer::unix(None), chain, name, secret)
}

/// The same from any peer.
pub(super) fn login_from(peer: Peer, chain: &Arc<Chain>, name: &str, secret: &str) -> Login {
    let now = Instant::now();
    let (chain, peer) = (Arc::clone(chain), Arc::new(peer));
    let offer = Offer::of_client(peer.confidential);
    let hello = || Hello::new(Claim::named(name).unwrap(), offer.clone());
    let mut salts = 0_u8;
    let random = move |bytes: &mut [u8]| {
        salts += 1;
        bytes.fill(salts);
    };
    let mut server = Conversation::new(chain, peer, Settings::default(), random, now);
    server.handle(now, ClientMessage::Hello(Box::new(hello())));
    let mut seen = Vec::new();
    loop {
        match server.poll() {
            Some(Action::Check(check)) => {
                let done = check.run();
                server.handle_checked(now, done);
            }
            Some(Action::Challenge(challenge)) => {
                seen.push(format!("{} {}", challenge.mechanism, challenge.prompt));
                let client_salt = vec![0xc5; 32];
                let combined = hmac::combine_salts(Hash::Sha512, &client_salt, &challenge.salt);
                let secret = Secret::new(secret);
                let value = match challenge.mechanism {
                    Mechanism::Hmac(hash) => hmac::respond(hash, &secret, &combined),
                    _ => xor::mask(&secret, &combined),
                };
                let answer = hello().with_response(Some(Response::new(value, client_salt)));
                server.handle(now, ClientMessage::Hello(Box::new(answer)));
            }
            Some(Action::Accept(grant)) => {
                seen.push("accepted".to_owned());
                return Login { seen, end: Ok(grant) };
            }
            Some(Action::Refuse(refusal)) => {
                seen.push(refusal.public().to_owned());
                return Login { seen, end: Err(refusal) };
            }
            None => server.handle_timeout(server.poll_timeout().unwrap()),
        }
    }
}
