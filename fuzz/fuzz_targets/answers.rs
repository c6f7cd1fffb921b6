//! What a client answers to modules that read more than a password: signatures and certificates of SSH, and of security
//! keys. Nobody gets in by it, no module crashes, and the login ends.
#![no_main]

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use countersign::{
    Chain, Claim, Peer, Secret,
    modules::{Context, Options, Registry},
    trust::Trust,
};
use countersign_proto::{
    challenge::{Hello, Offer, Response},
    error::Reason,
    server::{Action, ClientMessage, Conversation, Settings},
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct Doors {
    chains: [Arc<Chain>; 3],
    _folder: TempDir,
}

static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let trust = Trust::at(folder.path().join("state"));
    trust.open().expect("a new state directory");
    let file = folder.path().join("keys");
    std::fs::write(&file, "").expect("a file in an own folder");
    let file = file.to_str().expect("UTF-8").to_owned();
    let chain = |module: &str, option: &str, value: String| {
        let options = Options::new(module, [(option.to_owned(), value)]);
        let link = Registry::builtin().link(options, &Context::with_trust(trust.clone()));
        Arc::new(Chain::new(vec![link.expect("a link")]).expect("a chain"))
    };
    let chains = [
        chain("ssh-key", "filename", file),
        chain("u2f", "public-key", KEY.to_owned()),
        chain("fido2", "public-key", KEY.to_owned()),
    ];
    Doors { chains, _folder: folder }
});

fuzz_target!(|input: &[u8]| {
    let [door, beside, rest @ ..] = input else { return };
    let chain = &DOORS.chains[usize::from(*door) % DOORS.chains.len()];
    let (beside, value) = rest.split_at(usize::from(*beside).min(rest.len()));
    let mut settings = Settings::default();
    settings.refusal_delay = std::time::Duration::ZERO;
    let now = Instant::now();
    let mut offer = Offer::of_client(true);
    offer.mechanisms.extend(["ssh-key", "u2f", "fido2"].map(str::to_owned));
    let hello = || Hello::new(Claim::named("alice").expect("a name"), offer.clone());
    let mut server = Conversation::new(
        Arc::clone(chain),
        Arc::new(Peer::unix(None)),
        settings,
        |it: &mut [u8]| it.fill(7),
        now,
    );
    server.handle(now, ClientMessage::Hello(Box::new(hello())));
    for _ in 0..100 {
        match server.poll() {
            Some(Action::Check(check)) => server.handle_checked(now, check.run()),
            Some(Action::Challenge(_)) => {
                let response = Response::new(Secret::new(value), beside.to_vec());
                server.handle(now, ClientMessage::Hello(Box::new(hello().with_response(Some(response)))));
            }
            Some(Action::Accept(grant)) => panic!("let in: {grant:?}"),
            Some(Action::Refuse(refusal)) => {
                assert_ne!(refusal.reason, Reason::ModulePanicked);
                return;
            }
            None => server.handle_timeout(server.poll_timeout().unwrap_or(now)),
        }
    }
    panic!("the login does not end");
});

/// A point of P-256.
const KEY: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                   4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
