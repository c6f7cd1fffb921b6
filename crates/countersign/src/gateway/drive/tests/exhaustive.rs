//! All chains of up to four links with all that can become of each, at a socket, with the threads and the clock of a
//! real login: a grant comes out if and only if every link passed.
//!
//! Each login has a runtime of its own, whose clock stands still until nothing is left to do, or the test winds it.

use std::panic::resume_unwind;

use tokio::{runtime::Builder, sync::Notify};

use super::*;
use crate::proto::{
    chain::{Answer, Ask, CheckPassword, Entry, LookupSecret, Verdict},
    mechanism::{
        Hash,
        hmac::{self, StoredSecret},
        xor,
    },
};

/// What becomes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Refuses,
    Fails,
    Panics,
    /// Its answer does not come while the login lasts.
    Hangs,
    /// It passes at the deadline, when both are due at once.
    IsLate,
}

const FATES: [Fate; 6] = [Fate::Passes, Fate::Refuses, Fate::Fails, Fate::Panics, Fate::Hangs, Fate::IsLate];

/// What a link needs, and how often it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Peer,
    Secret,
    Password,
    /// An exchange that decides without a question.
    Silent,
    /// An exchange that asks once.
    Asking,
}

const KINDS: [Kind; 5] = [Kind::Peer, Kind::Secret, Kind::Password, Kind::Silent, Kind::Asking];

/// A module that does as it is told, on a thread of its own.
#[derive(Clone)]
struct Scripted {
    kind: Kind,
    fate: Fate,
    stage: Arc<Stage>,
}

/// Where a login that does not end in time meets the test.
#[derive(Default)]
struct Stage {
    /// A module is asked and does not answer.
    hangs: Notify,
    /// It answers when this is closed.
    curtain: Mutex<()>,
}

impl Scripted {
    fn link(&self) -> Link {
        let own = Box::new(self.clone());
        let verifier = match self.kind {
            Kind::Peer => Verifier::Peer(own),
            Kind::Secret => Verifier::Secret(own),
            Kind::Password => Verifier::Password(own),
            Kind::Silent | Kind::Asking => Verifier::Exchange(own),
        };
        Link::new("scripted", verifier)
    }

    fn decide(&self) -> Result<Option<Identity>, Refusal> {
        match self.fate {
            Fate::Passes => Ok(None),
            Fate::Refuses => Err(Refusal::new(Reason::WrongSecret, "no")),
            Fate::Fails => Err(Refusal::module_failed("out of order")),
            Fate::Panics => resume_unwind(Box::new("a module crashed")),
            Fate::Hangs | Fate::IsLate => {
                self.stage.hangs.notify_one();
                drop(self.stage.curtain.blocking_lock());
                Ok(None)
            }
        }
    }
}

impl CheckPeer for Scripted {
    fn check(&self, _: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        self.decide()
    }
}

impl LookupSecret for Scripted {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        // What a table refuses is a wrong secret.
        let known = if self.fate == Fate::Refuses { "another" } else { RIGHT };
        if self.fate != Fate::Refuses {
            self.decide()?;
        }
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new(known))))
    }
}

impl CheckPassword for Scripted {
    fn check(&self, _: &Peer, _: &Claim, password: &Secret) -> Result<Option<Identity>, Refusal> {
        assert!(password.matches(RIGHT.as_bytes()));
        self.decide()
    }
}

impl OpenExchange for Scripted {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(self.clone()))
    }
}

impl Exchange for Scripted {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        match answer {
            None if self.kind == Kind::Asking => Verdict::Ask(Ask::Cleartext),
            _ => self.decide().map_or_else(Verdict::Refuse, Verdict::Pass),
        }
    }
}

/// Plays one login to its end and past it: whether a grant came out.
fn is_granted(script: &[(Kind, Fate)], protocol: Protocol) -> bool {
    let stage = Arc::new(Stage::default());
    let scripted = |&(kind, fate)| Scripted { kind, fate, stage: Arc::clone(&stage) }.link();
    let chain = Chain::new(script.iter().map(scripted).collect()).unwrap();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // Of the links that do not answer in time the first decides; another is never asked.
    let answers_at_the_deadline =
        script.iter().find(|(_, fate)| *fate != Fate::Passes).is_some_and(|(_, fate)| *fate == Fate::IsLate);
    let granted = runtime.block_on(async {
        let curtain = stage.curtain.lock().await;
        let acceptor = Acceptor::new(Arc::new(chain)).with_protocol(protocol);
        let lanes = Arc::clone(&acceptor.lanes);
        let (theirs, server) = meet(acceptor);
        let client = tokio::spawn(answer_all(theirs));
        let mut server = std::pin::pin!(server);
        let ended = tokio::select! {
            biased;
            () = stage.hangs.notified() => None,
            ended = &mut server => Some(ended),
        };
        let ended = match ended {
            Some(ended) => ended,
            None if answers_at_the_deadline => {
                drop(curtain);
                // The thread gives its place back last: its answer is there, and nobody has looked at it yet.
                while lanes.iter().any(|lane| lane.running() > 0) {
                    std::thread::yield_now();
                }
                tokio::time::advance(LONG).await;
                server.await
            }
            None => {
                tokio::time::advance(LONG).await;
                let ended = server.await;
                drop(curtain);
                ended
            }
        };
        let granted = ended.unwrap().is_ok();
        client.await.unwrap();
        granted
    });
    // Waits for the threads: whatever still came, came to nobody.
    drop(runtime);
    granted
}

/// A client that answers rightly whatever it is asked, until it is let in or the connection closes.
async fn answer_all(mut stream: UnixStream) {
    let decoder = Decoder::new(Limits::default());
    let (mut next, mut bytes) = (hello(), Vec::new());
    loop {
        if stream.write_all(&next.packet(Encoder::Rencodeplus).encode().unwrap()).await.is_err() {
            return;
        }
        let packet = loop {
            if let Ok(Some((Reply::Packet(packet), length))) = decoder.decode_reply(&bytes) {
                bytes.drain(..length);
                break packet;
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let Ok(challenge) = Challenge::read(packet) else { return };
        next = ClientHello { response: Some(answer(&challenge)), ..hello() };
    }
}

fn answer(challenge: &Challenge) -> Response {
    let (salt, right) = (vec![0xc5; 32], Secret::new(RIGHT));
    let combined = hmac::combine_salts(Hash::Sha512, &salt, &challenge.salt);
    let value = match challenge.digest.as_str() {
        "xor" => xor::mask(&right, &combined),
        _ => hmac::respond(Hash::Sha512, &right, &combined),
    };
    Response::new(value, salt)
}

/// What can become of all chains of up to four links.
fn fates() -> impl Iterator<Item = Vec<Fate>> {
    let of = |length: u32| (0..FATES.len().pow(length)).map(move |number| (length, number));
    (1..=4).flat_map(of).map(|(length, number)| {
        (0..length).map(|position| FATES[number / FATES.len().pow(position) % FATES.len()]).collect()
    })
}

/// Runs `cases` on two threads, and says how many there were.
fn all(cases: impl Iterator<Item = (Vec<(Kind, Fate)>, Protocol)> + Send) -> usize {
    let cases = parking_lot::Mutex::new(cases);
    let work = || {
        let mut count = 0;
        loop {
            let Some((script, protocol)) = cases.lock().next() else { return count };
            let all_passed = script.iter().all(|(_, fate)| *fate == Fate::Passes);
            assert_eq!(is_granted(&script, protocol), all_passed, "{protocol:?}: {script:?}");
            count += 1;
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    })
}

#[test]
fn s_065_whatever_becomes_of_its_links_a_login_is_granted_if_and_only_if_all_passed() {
    // Each fate at each place, in each kind of link there.
    let cases = fates().flat_map(|fates| {
        (0..KINDS.len()).map(move |first| {
            let kinds = KINDS.iter().cycle().skip(first).copied();
            (kinds.zip(fates.iter().copied()).collect(), Protocol::Auto)
        })
    });
    assert_eq!(all(cases), 5 * (6 + 36 + 216 + 1296));
}

#[test]
fn s_065_on_a_wire_where_nothing_is_said_the_same_holds() {
    let cases = fates().flat_map(|fates| {
        [Kind::Peer, Kind::Silent]
            .map(|kind| (fates.iter().map(|fate| (kind, *fate)).collect(), Protocol::Stream))
    });
    assert_eq!(all(cases), 2 * (6 + 36 + 216 + 1296));
}

const RIGHT: &str = "right";

/// Longer than any login.
const LONG: Duration = Duration::from_secs(3600);
