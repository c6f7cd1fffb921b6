//! Whole lives of certificates, with real stores in folders.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Barrier, time::Duration};

use super::*;
use crate::{
    Peer, Secret, Username,
    proto::peer::{Certificate, Credentials, TlsFacts},
    trust::{
        entry::Way, error::EnrolError, invitation::NewInvitation, multipass::MultipassVerifier,
        newcomer::Newcomer, passphrase::NewPassphrase, store::Applied,
    },
};

const GUESS: &str = "therewillbesecrets";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn open(folder: &tempfile::TempDir) -> TrustStore {
    TrustStore::open(folder.path()).unwrap()
}

/// A client with a certificate of its own, at its own address.
fn newcomer(number: u16) -> Newcomer {
    let [high, low] = number.to_be_bytes();
    let remote = format!("192.0.{high}.{low}:1").parse().unwrap();
    let certificate = Certificate::new(format!("certificate {number}").as_bytes());
    let peer = Peer::tcp(remote, remote).encrypted(TlsFacts::default(), Some(certificate), None);
    Newcomer::of(&Arc::new(peer)).unwrap()
}

fn local(number: u16, uid: u32) -> Newcomer {
    let certificate = Certificate::new(format!("certificate {number}").as_bytes());
    let peer = Peer::unix(Some(Credentials::new(uid, uid)));
    Newcomer::of(&Arc::new(peer.encrypted(TlsFacts::default(), Some(certificate), None))).unwrap()
}

fn judged(store: &TrustStore, newcomer: &Newcomer) -> Result<Identity, Refusal> {
    store.judge(&newcomer.fingerprint().0, &Place::new("rpc", "tcp:db:1"))
}

fn with_passphrase(store: &TrustStore) {
    store.set_passphrase(Some(&NewPassphrase::new(Secret::new(GUESS))), "root").unwrap();
}

fn invited(store: &TrustStore) -> Secret {
    let name = Username::parse("bob").unwrap();
    let mut new = NewInvitation::new(name, now() + 600, Fingerprint([1; 32]), "tls://gate:1");
    new.scope = Scope::new(vec!["rpc".into()], Vec::new());
    let (_, token) = store.invite(new, "root").unwrap();
    Secret::new(token.expose().as_bytes())
}

#[test]
fn s_049_of_many_at_once_exactly_one_is_first_and_stays_it() {
    let folder = folder();
    let store = open(&folder);
    assert!(store.is_pristine());
    let start = Barrier::new(64);
    let winners: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..64)
            .map(|number| {
                let (store, start) = (&store, &start);
                scope.spawn(move || {
                    start.wait();
                    store.take_first_place(&newcomer(number)).is_ok().then_some(number)
                })
            })
            .collect();
        tries.into_iter().filter_map(|tried| tried.join().unwrap()).collect()
    });
    assert_eq!(winners.len(), 1);
    drop(store);
    let store = open(&folder);
    assert!(!store.is_pristine());
    for number in 0..64 {
        assert_eq!(judged(&store, &newcomer(number)).is_ok(), winners.contains(&number), "{number}");
        assert!(matches!(store.take_first_place(&newcomer(number)), Err(EnrolError::Taken)));
    }
}

#[test]
fn s_051_without_a_certificate_there_is_no_newcomer() {
    let address = "192.0.2.1:1".parse().unwrap();
    assert!(Newcomer::of(&Arc::new(Peer::tcp(address, address))).is_none());
}

#[test]
fn a_newcomer_is_named_by_its_account_or_by_its_certificate() {
    let folder = folder();
    let store = open(&folder);
    let identity = store.take_first_place(&local(1, 0)).unwrap();
    assert_eq!(identity.name.as_str(), "root");
    let entry = store.entries().unwrap().remove(0);
    assert_eq!((entry.way, entry.by.as_str(), entry.uid), (Way::FirstUse, "uid 0", Some(0)));
    with_passphrase(&store);
    let stranger = newcomer(2);
    let identity = store.enrol_by_passphrase(&stranger, &Secret::new(GUESS)).unwrap();
    let digits = &stranger.fingerprint().to_string()[..8];
    assert_eq!(identity.name.as_str(), format!("client-{digits}"));
}

#[test]
fn m1_the_passphrase_lets_in_and_nothing_else_does() {
    let folder = folder();
    let store = open(&folder);
    let none = store.enrol_by_passphrase(&newcomer(1), &Secret::new(GUESS));
    assert!(matches!(none, Err(EnrolError::NoPassphrase)));
    with_passphrase(&store);
    for wrong in ["", "therewillbesecrets\0", "x"] {
        let refused = store.enrol_by_passphrase(&newcomer(1), &Secret::new(wrong));
        assert!(matches!(refused, Err(EnrolError::Wrong)), "{wrong:?}");
    }
    assert!(judged(&store, &newcomer(1)).is_err());
    store.enrol_by_passphrase(&newcomer(1), &Secret::new(GUESS)).unwrap();
    store.enrol_by_passphrase(&newcomer(1), &Secret::new(GUESS)).unwrap();
    assert_eq!(store.entries().unwrap().len(), 1, "authenticating again changes nothing");
    drop(store);
    let store = open(&folder);
    assert!(judged(&store, &newcomer(1)).is_ok() && store.has_passphrase() && !store.is_pristine());
    store.set_passphrase(None, "root").unwrap();
    assert!(!store.has_passphrase());
    assert!(judged(&store, &newcomer(1)).is_ok(), "unsetting it takes nobody's place");
}

#[test]
fn m1_multipass_s_verifier_is_used_once_and_replaced_by_one_with_a_salt() {
    // hashlib.scrypt(b"therewillbesecrets", salt=b"", n=16384, r=8, p=1, dklen=64)
    let digits = "6c163226f6501360d072778c60a8df4439efaaa1d4de874fa8c32fad1d8208450a9f3a9bdc6b228a0be54854cf4870f0e0daa056cb34fb641e85c295da0a0367";
    let verifier = MultipassVerifier::of_hex(digits).unwrap();
    let folder = folder();
    let store = open(&folder);
    store.bring_passphrase(&verifier, "root").unwrap();
    assert!(store.bring_passphrase(&verifier, "root").is_err(), "one is set");
    drop(store);
    let store = open(&folder);
    let is_brought = |store: &TrustStore| store.passphrase().unwrap().is_brought();
    for wrong in ["therewillbesecret", "therewillbesecrets\0"] {
        let refused = store.enrol_by_passphrase(&newcomer(9), &Secret::new(wrong));
        assert!(matches!(refused, Err(EnrolError::Wrong)), "{wrong:?}");
    }
    assert!(is_brought(&store));
    // Right guesses at one instant: all are let in.
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                store.enrol_by_passphrase(&newcomer(number), &Secret::new(GUESS)).unwrap();
            });
        }
    });
    assert!(!is_brought(&store));
    drop(store);
    let file = fs::read(folder.path().join("state.db")).unwrap();
    let log = fs::read(folder.path().join("state.db-wal")).unwrap_or_default();
    let kept = |bytes: &[u8]| bytes.windows(64).any(|window| window == &digits.as_bytes()[..64]);
    assert!(!kept(&file) && !kept(&log), "the old verifier stays in no file");
    let store = open(&folder);
    assert!(!is_brought(&store) && store.has_passphrase());
    store.enrol_by_passphrase(&newcomer(5), &Secret::new(GUESS)).unwrap();
    // A guess without a certificate is as good a moment.
    store.set_passphrase(None, "root").unwrap();
    store.bring_passphrase(&verifier, "root").unwrap();
    let judged = store.judge_without_certificate(newcomer(6).peer(), &Secret::new(GUESS));
    assert!(matches!(judged, EnrolError::NoCertificate) && !is_brought(&store));
}

#[test]
fn a_passphrase_may_be_for_a_time_and_a_number_of_uses() {
    let folder = folder();
    let store = open(&folder);
    let mut new = NewPassphrase::new(Secret::new(GUESS));
    new.uses = Some(1);
    store.set_passphrase(Some(&new), "root").unwrap();
    store.enrol_by_passphrase(&newcomer(1), &Secret::new(GUESS)).unwrap();
    let used = store.enrol_by_passphrase(&newcomer(2), &Secret::new(GUESS));
    assert!(matches!(used, Err(EnrolError::NoPassphrase)));
    new.uses = None;
    new.expires = Some(now() - 1);
    store.set_passphrase(Some(&new), "root").unwrap();
    let ended = store.enrol_by_passphrase(&newcomer(2), &Secret::new(GUESS));
    assert!(matches!(ended, Err(EnrolError::NoPassphrase)) && !store.has_passphrase());
}

#[test]
fn s_027_guesses_are_limited_for_a_source_also_after_a_restart_and_for_nobody_else() {
    let folder = folder();
    let store = open(&folder);
    with_passphrase(&store);
    let wrong = |store: &TrustStore| store.enrol_by_passphrase(&newcomer(1), &Secret::new("wrong"));
    for _ in 0..5 {
        assert!(matches!(wrong(&store), Err(EnrolError::Wrong)));
    }
    assert!(matches!(wrong(&store), Err(EnrolError::TooMany { .. })));
    let right = store.enrol_by_passphrase(&newcomer(1), &Secret::new(GUESS));
    assert!(matches!(right, Err(EnrolError::TooMany { .. })), "a right one is not looked at either");
    drop(store);
    let store = open(&folder);
    assert!(matches!(wrong(&store), Err(EnrolError::TooMany { .. })));
    store.enrol_by_passphrase(&newcomer(2), &Secret::new(GUESS)).unwrap();
}

#[test]
fn s_056_an_invitation_is_spent_once_whoever_comes_at_the_same_time() {
    let folder = folder();
    let store = open(&folder);
    for round in 0..5_u16 {
        let token = invited(&store);
        let start = Barrier::new(8);
        let winners: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8_u16)
                .map(|number| {
                    let (store, start, token) = (&store, &start, &token);
                    scope.spawn(move || {
                        start.wait();
                        store.enrol_by_token(&newcomer(100 * (round + 1) + number), token).is_ok()
                    })
                })
                .collect();
            tries.into_iter().filter(|_| true).map(|tried| usize::from(tried.join().unwrap())).sum()
        });
        assert_eq!(winners, 1);
    }
    let entries = store.entries().unwrap();
    assert_eq!(entries.len(), 5);
    assert!(entries.iter().all(|entry| entry.name.as_str() == "bob" && entry.way == Way::Invitation));
    let spent = store.invitations();
    assert!(spent.iter().all(|invitation| invitation.spent_by.is_some()));
}

#[test]
fn s_056_an_invitation_gives_its_name_and_scope_and_can_be_withdrawn() {
    let folder = folder();
    let store = open(&folder);
    let token = invited(&store);
    store.enrol_by_token(&newcomer(1), &token).unwrap();
    assert!(judged(&store, &newcomer(1)).is_ok());
    let elsewhere = store.judge(&newcomer(1).fingerprint().0, &Place::new("web", "tcp:db:1"));
    assert_eq!(elsewhere.unwrap_err().reason, Reason::PeerDenied);
    let token = invited(&store);
    let id = store.invitations().last().unwrap().id.clone();
    let id = if store.invitations()[0].spent.is_none() { store.invitations()[0].id.clone() } else { id };
    store.withdraw(&id).unwrap();
    assert!(matches!(store.enrol_by_token(&newcomer(2), &token), Err(EnrolError::Wrong)));
    assert!(matches!(store.enrol_by_token(&newcomer(3), &Secret::new("cs1-x")), Err(EnrolError::Wrong)));
}

#[tokio::test]
async fn s_040_a_revoked_certificate_is_refused_at_once_and_its_sessions_are_told() {
    let folder = folder();
    let store = open(&folder);
    with_passphrase(&store);
    let (alice, bob) = (newcomer(1), newcomer(2));
    for newcomer in [&alice, &bob] {
        store.enrol_by_passphrase(newcomer, &Secret::new(GUESS)).unwrap();
    }
    let (mut hers, mut his) = (store.lease(alice.fingerprint().0), store.lease(bob.fingerprint().0));
    store.revoke(&alice.fingerprint(), "lost").unwrap();
    tokio::time::timeout(Duration::from_secs(5), hers.changed()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), his.changed()).await.is_err());
    assert!(judged(&store, &alice).is_err() && judged(&store, &bob).is_ok());
    assert_eq!(store.standing(&alice.fingerprint().0), Standing::Revoked);
    let again = store.enrol_by_passphrase(&alice, &Secret::new(GUESS));
    assert!(matches!(again, Err(EnrolError::Revoked)), "what was taken back does not come back by itself");
    drop((hers, his));
    assert!(store.leases.are_none());
    let mut entry = store.entries().unwrap().into_iter().find(|entry| entry.revoked.is_some()).unwrap();
    entry.revoked = None;
    store.add(entry, b"certificate 1").unwrap();
    assert!(judged(&store, &alice).is_ok(), "the owner adds it again");
}

#[tokio::test]
async fn s_040_the_end_of_an_entry_is_told_in_time_and_may_be_moved() {
    let folder = folder();
    let store = open(&folder);
    store.take_first_place(&newcomer(1)).unwrap();
    let (fingerprint, place) = (newcomer(1).fingerprint(), Place::new("rpc", "tcp:db:1"));
    let lost = || store.lost(fingerprint.0, &place);
    let still = tokio::time::timeout(Duration::from_millis(20), lost()).await;
    assert!(still.is_err(), "without an end");
    let ends = |end| store.amend(&fingerprint, |entry| entry.expires = end).unwrap();
    ends(Some(now() + 1));
    // Moved while somebody waits, away and back.
    let (told, end) = tokio::join!(tokio::time::timeout(Duration::from_millis(1500), lost()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let end = now() + 3;
        ends(Some(end));
        end
    });
    assert!(told.is_err(), "it was moved");
    lost().await;
    let after = crate::sys::clock::since_1970().checked_sub(Duration::from_secs(end.try_into().unwrap()));
    assert!(after.is_some_and(|after| after < Duration::from_millis(100)), "{after:?}");
    assert!(judged(&store, &newcomer(1)).is_err() && store.leases.are_none());
    // An end that is over, and one that the clock cannot reach.
    lost().await;
    ends(Some(i64::MAX - 1));
    assert!(tokio::time::timeout(Duration::from_millis(20), lost()).await.is_err());
}

#[test]
fn an_entry_is_renamed_restricted_ended_and_forgotten() {
    let folder = folder();
    let store = open(&folder);
    store.take_first_place(&newcomer(1)).unwrap();
    let fingerprint = newcomer(1).fingerprint();
    store.amend(&fingerprint, |entry| entry.name = Username::parse("alice").unwrap()).unwrap();
    assert_eq!(judged(&store, &newcomer(1)).unwrap().name.as_str(), "alice");
    store.amend(&fingerprint, |entry| entry.expires = Some(1)).unwrap();
    assert!(judged(&store, &newcomer(1)).is_err());
    store.forget(&fingerprint).unwrap();
    assert_eq!(store.standing(&fingerprint.0), Standing::Unknown);
    assert!(!store.is_pristine(), "S-53: an emptied store is not a new one");
    assert!(matches!(store.take_first_place(&newcomer(2)), Err(EnrolError::Taken)));
    assert!(store.forget(&fingerprint).is_err() && store.revoke(&fingerprint, "").is_err());
    store.reset().unwrap();
    assert!(store.is_pristine());
    store.take_first_place(&newcomer(2)).unwrap();
}

#[test]
fn a_renewal_counts_beside_the_old_certificate_until_it_is_seen() {
    let folder = folder();
    let store = open(&folder);
    store.take_first_place(&newcomer(1)).unwrap();
    let (old, new) = (newcomer(1), newcomer(2));
    store.amend(&old.fingerprint(), |entry| entry.name = Username::parse("alice").unwrap()).unwrap();
    assert!(matches!(store.renew(&newcomer(9).fingerprint().0, &new), Err(EnrolError::Revoked)));
    store.renew(&old.fingerprint().0, &new).unwrap();
    assert!(judged(&store, &old).is_ok());
    store.flush().unwrap();
    assert!(judged(&store, &old).is_ok(), "nobody has seen the new one yet");
    assert_eq!(judged(&store, &new).unwrap().name.as_str(), "alice");
    store.flush().unwrap();
    assert_eq!(store.standing(&old.fingerprint().0), Standing::Revoked);
    drop(store);
    let store = open(&folder);
    assert!(judged(&store, &new).is_ok() && judged(&store, &old).is_err());
}

#[test]
fn when_it_was_last_seen_is_kept() {
    let folder = folder();
    let store = open(&folder);
    store.take_first_place(&newcomer(1)).unwrap();
    assert_eq!(store.entries().unwrap()[0].last_seen, None);
    judged(&store, &newcomer(1)).unwrap();
    judged(&store, &newcomer(1)).unwrap();
    assert_eq!(store.seen.lock().len(), 1, "not every login is worth a write");
    assert!(store.entries().unwrap()[0].last_seen.is_some_and(|at| now() - at < 60));
}

#[test]
fn s_064_a_second_store_on_the_directory_gives_up() {
    let folder = folder();
    let store = open(&folder);
    assert!(matches!(TrustStore::open(folder.path()), Err(TrustError::Held { .. })));
    assert!(TrustStore::reset_in(folder.path()).is_err());
    store.take_first_place(&newcomer(1)).unwrap();
    drop(store);
    assert!(TrustStore::reset_in(folder.path()).unwrap().is_some());
    assert!(open(&folder).is_pristine());
}

#[test]
fn s_054_an_enrolment_that_cannot_be_kept_is_refused_and_the_next_one_works() {
    #[derive(Debug)]
    struct Full(Box<dyn Store>, std::sync::atomic::AtomicBool);
    impl Store for Full {
        fn load(&self, each: &mut dyn FnMut(Known)) -> Result<super::super::Contents, TrustError> {
            self.0.load(each)
        }
        fn count(&self) -> Result<usize, TrustError> {
            self.0.count()
        }
        fn entries(&self) -> Result<Vec<Entry>, TrustError> {
            self.0.entries()
        }
        fn entry(&self, fingerprint: &Fingerprint) -> Result<Option<Entry>, TrustError> {
            self.0.entry(fingerprint)
        }
        fn first(&self) -> Result<Option<Entry>, TrustError> {
            if self.1.load(Ordering::Relaxed) {
                return Err(TrustError::Io { path: "state.db".into(), why: "input/output error".into() });
            }
            self.0.first()
        }
        fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Vec<u8>>, TrustError> {
            self.0.certificate(fingerprint)
        }
        fn mark(&self, key: &str) -> Result<Option<i64>, TrustError> {
            self.0.mark(key)
        }
        fn apply(&self, change: &Change<'_>) -> Result<Applied, TrustError> {
            if self.1.load(Ordering::Relaxed) {
                return Err(TrustError::Io { path: "state.db".into(), why: "no space left".into() });
            }
            self.0.apply(change)
        }
    }
    let folder = folder();
    let full = Full(Box::new(SqliteStore::open(folder.path()).unwrap()), true.into());
    let store = TrustStore::over(Box::new(full), None).unwrap();
    let refused = store.take_first_place(&newcomer(1)).unwrap_err();
    assert!(matches!(refused, EnrolError::Failed(_)) && !refused.to_string().contains("state.db"));
    assert!(store.is_pristine() && judged(&store, &newcomer(1)).is_err());
    assert!(!store.is_up());
}

#[test]
fn s_053_a_directory_has_a_store_from_its_first_opening_on() {
    let folder = folder();
    assert!(!TrustStore::is_in(folder.path()));
    drop(open(&folder));
    assert!(TrustStore::is_in(folder.path()));
    fs::remove_file(folder.path().join("state.db")).unwrap();
    assert!(TrustStore::is_in(folder.path()), "there was one: its mark is there still");
}

/// Or a clock that was ahead once would keep the sight of that day for good.
#[test]
fn a_last_sight_that_lies_ahead_of_the_clock_is_mended_by_the_next_login() {
    let folder = folder();
    let store = open(&folder);
    store.take_first_place(&newcomer(1)).unwrap();
    store.amend(&newcomer(1).fingerprint(), |entry| entry.last_seen = Some(now() + 100_000)).unwrap();
    judged(&store, &newcomer(1)).unwrap();
    assert!(store.entries().unwrap()[0].last_seen.is_some_and(|at| at <= now()));
}

#[test]
fn s_088_a_store_prints_where_it_is_and_nothing_of_who_is_in_it() {
    let folder = folder();
    let store = open(&folder);
    with_passphrase(&store);
    store.take_first_place(&local(1, 0)).unwrap();
    let shown = format!("{store:?}");
    assert!(shown.starts_with("TrustStore") && shown.contains("state.db"), "{shown}");
    assert!(!shown.contains("uid 0") && !shown.contains("argon2id"), "{shown}");
}

/// The owner compares it with what a client shows.
#[test]
fn the_certificate_of_an_entry_is_kept_as_it_was_shown() {
    let folder = folder();
    let store = open(&folder);
    let first = newcomer(1);
    store.take_first_place(&first).unwrap();
    assert_eq!(store.certificate(&first.fingerprint()).unwrap(), b"certificate 1");
    assert!(store.certificate(&newcomer(2).fingerprint()).is_err());
}

/// A passphrase is used up by its revision: two of the same would share their uses.
#[test]
fn each_passphrase_that_is_set_is_told_from_every_other() {
    let folder = folder();
    let store = open(&folder);
    let revision = || {
        with_passphrase(&store);
        store.passphrase().unwrap().revision
    };
    assert_ne!(revision(), revision());
}
