//! All chains of up to four links with all that can become of each link: a grant comes out if and only if
//! every link passed, and nothing that comes after the end changes it.

use std::panic::resume_unwind;

use super::*;

/// What becomes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Refuses,
    Fails,
    Panics,
    /// Its answer never comes.
    Hangs,
    /// It passes, at the login's deadline or after it.
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

/// A module that does as it is told.
#[derive(Clone, Copy)]
struct Scripted(Kind, Fate);

impl Scripted {
    fn link(self) -> Link {
        let verifier = match self.0 {
            Kind::Peer => Verifier::Peer(Box::new(self)),
            Kind::Secret => Verifier::Secret(Box::new(self)),
            Kind::Password => Verifier::Password(Box::new(self)),
            Kind::Silent | Kind::Asking => Verifier::Exchange(Box::new(self)),
        };
        Link::new("scripted", verifier)
    }

    fn decide(self) -> Result<Option<Identity>, Refusal> {
        match self.1 {
            Fate::Passes | Fate::Hangs | Fate::IsLate => Ok(None),
            Fate::Refuses => Err(Refusal::new(Reason::WrongSecret, "no")),
            Fate::Fails => Err(Refusal::module_failed("out of order")),
            Fate::Panics => resume_unwind(Box::new("a module crashed")),
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
        let secret = if self.1 == Fate::Refuses { "another" } else { "right" };
        self.decide().or_else(|refusal| match self.1 {
            Fate::Refuses => Ok(None),
            _ => Err(refusal),
        })?;
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new(secret))))
    }
}

impl CheckPassword for Scripted {
    fn check(&self, _: &Peer, _: &Claim, _: &Secret) -> Result<Option<Identity>, Refusal> {
        self.decide()
    }
}

impl OpenExchange for Scripted {
    fn open(&self, _: &Peer, _: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        Ok(Box::new(*self))
    }
}

impl Exchange for Scripted {
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        match answer {
            None if self.0 == Kind::Asking => Verdict::Ask(Ask::Cleartext),
            _ => self.decide().map_or_else(Verdict::Refuse, Verdict::Pass),
        }
    }
}

/// How the client behaves.
#[derive(Clone, Copy)]
struct Client {
    /// Its first hello holds an answer.
    unasked: bool,
    /// It insists on a question.
    insists: bool,
    /// What is late comes before anybody has looked at the clock.
    overtakes: bool,
}

/// Plays one login to its end and past it: whether a grant came out.
fn is_granted(chain: &[Scripted], client: Client) -> bool {
    const SESSION: &[u8] = &[0xee; 32];
    let links = chain.iter().map(|link| link.link()).collect();
    let mut server =
        Server::new(links, tcp().encrypted(crate::peer::TlsFacts::default(), None, Some(SESSION.into())));
    let initial = client.unasked.then(|| answer(&Challenge::implied(SESSION), "right"));
    server.send(hello("alice").expecting_challenge(client.insists).with_initial_response(initial));
    let (mut granted, mut answered, mut late) = (None, vec![false; chain.len() + 1], None);
    let mut position = 0;
    while let Some(end) = granted.is_none().then(|| server.conversation.poll()) {
        match end {
            Some(Action::Check(check)) => {
                position = check.position();
                let Scripted(kind, fate) = chain[position];
                let decides = kind != Kind::Asking || answered[position];
                match fate {
                    Fate::Hangs if decides => drop(check),
                    Fate::IsLate if decides && client.overtakes => {
                        server.now = server.conversation.poll_timeout().unwrap();
                        server.conversation.handle_checked(server.now, check.run());
                    }
                    Fate::IsLate if decides => late = Some(check.run()),
                    _ => server.conversation.handle_checked(server.now, check.run()),
                }
            }
            Some(Action::Challenge(challenge)) => {
                // An exchange asks from where it was opened; any other link before its check.
                answered[position] = true;
                server.send(hello("alice").with_response(Some(answer(&challenge, "right"))));
            }
            Some(Action::Accept(_)) => granted = Some(true),
            Some(Action::Refuse(_)) => granted = Some(false),
            None => _ = server.wait(),
        }
    }
    // Whatever still comes: the answer of a slow module, the client once more, time.
    if let Some(done) = late {
        server.conversation.handle_checked(server.now, done);
    }
    server.send(hello("alice").with_initial_response(Some(answer(&Challenge::implied(SESSION), "right"))));
    server.conversation.handle_timeout(server.now + Duration::from_secs(3600));
    assert!(server.conversation.poll().is_none() && server.conversation.poll_timeout().is_none());
    granted == Some(true)
}

/// All chains of `length` links, one after the other.
fn chains(length: u32) -> impl Iterator<Item = Vec<Scripted>> {
    let each = KINDS.len() * FATES.len();
    (0..each.pow(length)).map(move |mut number| {
        let mut link = || {
            let (kind, fate) = (number % KINDS.len(), number / KINDS.len() % FATES.len());
            number /= each;
            Scripted(KINDS[kind], FATES[fate])
        };
        (0..length).map(|_| link()).collect()
    })
}

#[test]
fn s_065_a_grant_exists_if_and_only_if_every_link_passed() {
    let mut count = 0;
    for chain in (1..=4).flat_map(chains) {
        let all_passed = chain.iter().all(|link| link.1 == Fate::Passes);
        // Behind the first link that does not pass nothing is asked, so the long chains need one client.
        let clients = if chain.len() < 4 {
            &[(false, false, false), (true, true, true), (true, false, false)][..]
        } else {
            &[(true, true, false)]
        };
        for &(unasked, insists, overtakes) in clients {
            let client = Client { unasked, insists, overtakes };
            assert_eq!(is_granted(&chain, client), all_passed, "{:?}", described(&chain));
            count += 1;
        }
    }
    assert_eq!(count, 3 * (30 + 30 * 30 + 30 * 30 * 30) + 30 * 30 * 30 * 30);
}

fn described(chain: &[Scripted]) -> Vec<(Kind, Fate)> {
    chain.iter().map(|link| (link.0, link.1)).collect()
}
