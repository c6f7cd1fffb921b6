//! A client in memory for the tests of the modules: one login, and what could be seen of it.

use std::{sync::Arc, time::Instant};

use crate::{
    Chain, Claim, Grant, Peer, Refusal, Secret,
    modules::{
        Context, Options, Registry,
        trial::{self, End},
    },
    proto::{
        chain::Link,
        challenge::{Challenge, Hello, Offer, Response},
        client,
        error::Reason,
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
    Registry::builtin().link(Options::new(module, options), &Context::default())
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
    let mut salts = 0_u8;
    let random = move |bytes: &mut [u8]| {
        salts += 1;
        bytes.fill(salts);
    };
    converse(peer, chain, name, random, |challenge| {
        let client_salt = vec![0xc5; 32];
        let combined = hmac::combine_salts(Hash::Sha512, &client_salt, &challenge.salt);
        let secret = Secret::new(secret);
        let value = match challenge.mechanism {
            Mechanism::Hmac(hash) => hmac::respond(hash, &secret, &combined),
            _ => xor::mask(&secret, &combined),
        };
        Response::new(value, client_salt)
    })
}

/// A login with the salts and the answers of the caller.
pub(super) fn converse(
    peer: Peer,
    chain: &Arc<Chain>,
    name: &str,
    random: impl FnMut(&mut [u8]) + Send + 'static,
    answer: impl Fn(&Challenge) -> Response,
) -> Login {
    let now = Instant::now();
    let (chain, peer) = (Arc::clone(chain), Arc::new(peer));
    let mut offer = Offer::of_client(peer.confidential);
    // As a client does whose security key is at hand.
    offer.mechanisms.extend(["u2f", "fido2"].map(str::to_owned));
    let hello = || Hello::new(Claim::named(name).unwrap(), offer.clone());
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
                let answer = hello().with_response(Some(answer(&challenge)));
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

/// A login with our own client, which answers with `responders` and sees the TLS session that `peer` has.
pub(super) fn meet(peer: Peer, chain: &Arc<Chain>, name: &str, responders: Vec<client::Responder>) -> Login {
    let claim = Claim::named(name).unwrap();
    let trial = trial::run(Arc::clone(chain), peer, claim, responders.into(), "tls://gateway");
    let asked = trial.asked.iter().map(|question| format!("{} {}", question.mechanism, question.prompt));
    let (last, end) = match trial.end {
        End::Passed(grant) => (None, Ok(grant)),
        End::Refused(refusal) => (Some(refusal.public().to_owned()), Err(refusal)),
        End::Unanswered(failure) => (None, Err(Refusal::new(Reason::PeerLeft, failure.cause))),
    };
    Login { seen: asked.chain(last).collect(), end }
}

/// The logins of real Xpra clients at Xpra's own modules, as they were recorded.
mod recorded {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use serde_json::Value;

    use super::*;

    #[test]
    fn what_xpras_sqlite_and_multifile_let_in_ours_let_in_and_nothing_else() {
        let vectors =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../countersign-proto/tests/vectors/xpra/users.json");
        let vectors: Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
        let mut passed = Vec::new();
        for connection in vectors["connections"].as_array().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let title = connection["title"].as_str().unwrap();
            let module = title.split(':').next().unwrap();
            let path = folder.path().join("users");
            write_users(module, &path, connection["users"].as_object().unwrap());
            let chain = chain(link(module, &[("filename", path.to_str().unwrap())]).unwrap());
            let round = &connection["challenges"][0];
            let salt = bytes(&round["server_salt"]);
            let random = move |out: &mut [u8]| out.iter_mut().zip(&salt).for_each(|(to, from)| *to = *from);
            let name = connection["secrets"]["username"].as_str().unwrap();
            let login = converse(Peer::unix(None), &chain, name, random, |_| {
                Response::new(Secret::new(bytes(&round["response"])), bytes(&round["client_salt"]))
            });
            assert_eq!(login.end.is_ok(), connection["client"]["exit_code"] == 0, "{title}");
            passed.push(login.end.is_ok());
        }
        assert!(passed.contains(&true) && passed.contains(&false));
    }

    fn write_users(module: &str, path: &Path, users: &serde_json::Map<String, Value>) {
        let users = users.iter().map(|(name, password)| (name.as_str(), password.as_str().unwrap()));
        if module == "sqlite" {
            let database = rusqlite::Connection::open(path).unwrap();
            database.execute_batch("CREATE TABLE users (username, password, uid, gid, displays)").unwrap();
            for user in users {
                database.execute("INSERT INTO users (username, password) VALUES (?, ?)", user).unwrap();
            }
        } else {
            let lines: String = users.map(|(name, password)| format!("{name}|{password}\n")).collect();
            fs::write(path, lines).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn bytes(hex: &Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap().as_bytes();
        let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
        hex.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}
