//! The user's next key and certificate, made while the present one still counts.
//!
//! Called after a login that showed the user's own certificate. From 30 days before its end there is a
//! next pair beside it, and each server that accepted the present certificate is told of the next one at
//! the next login there, by whoever holds both keys (`rpc`, `Renew`). A server that has it is shown
//! it from then on (also one that is reached at another address, when it refuses the present one); every other one sees the present one, whatever its date, because servers that
//! keep lists do not look at it. When the next one comes to its own end, it becomes the present one.
//!
//! | file beside `client.pem` | holds |
//! |---|---|
//! | `client.next.pem` | the next pair |
//! | `client.next.servers` | `ADDRESS sha256:HEX`: who has which next certificate |

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    error::{Cause, ConnectError},
    identity::{ClientIdentity, OwnIdentity},
    known_servers::KnownServers,
    person::Person,
};
use crate::{sys::files, transport::tls::Fingerprint};

/// A certificate that comes to its end, and the one that follows it.
pub(super) struct Succession {
    pub(super) present: ClientIdentity,
    pub(super) next: ClientIdentity,
    heard: KnownServers,
}

impl Succession {
    /// Remembers that `server` accepts the next certificate.
    pub(super) fn accepted_by(&self, server: &str) -> Result<(), ConnectError> {
        self.heard.remember(server, &self.next.fingerprint())
    }
}

impl OwnIdentity {
    /// What `server` is shown: the next pair if it has accepted that, else the present one.
    ///
    /// # Errors
    /// As [`OwnIdentity::open`], for the one that is to be shown.
    pub(super) fn for_server(
        &self,
        server: &str,
        person: &dyn Person,
        now: SystemTime,
    ) -> Result<ClientIdentity, ConnectError> {
        let next = self.next();
        if next.exists()
            && let Some(accepted) = self.heard().find(server)?
            && let Some(identity) = next.load_if_there(person, now)?
            && identity.fingerprint() == accepted
        {
            return Ok(identity);
        }
        self.load(person, now)
    }

    /// Both certificates, if `shown` is the present one and has less than 30 days left. The next pair is
    /// made if there is none.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub(super) fn succession(
        &self,
        shown: Fingerprint,
        person: &dyn Person,
        now: SystemTime,
    ) -> Result<Option<Succession>, ConnectError> {
        let next = self.next();
        if let Some(following) = next.load_if_there(person, now)?
            && is_due(&following, now)
        {
            self.promote(following.fingerprint(), person, now)?;
        }
        let present = self.load(person, now)?;
        if present.fingerprint() != shown || !is_due(&present, now) {
            return Ok(None);
        }
        let next = next.open(person, now)?;
        Ok(Some(Succession { present, next, heard: self.heard() }))
    }

    /// The same for a server that refused `shown`, the present certificate: it may be one that has heard of
    /// the next one at another address, and takes that alone. `None` if nobody has heard of it.
    ///
    /// # Errors
    /// The files cannot be read.
    pub(super) fn refused(
        &self,
        shown: Fingerprint,
        person: &dyn Person,
        now: SystemTime,
    ) -> Result<Option<Succession>, ConnectError> {
        let (next, heard) = (self.next(), self.heard());
        let present = self.load(person, now)?;
        let Some(next) = next.load_if_there(person, now)? else { return Ok(None) };
        let may_be_known = present.fingerprint() == shown && heard.any_has(&next.fingerprint())?;
        Ok(may_be_known.then_some(Succession { present, next, heard }))
    }

    /// Puts the next pair, whose certificate is `next`, in the place of the present one. Of several clients
    /// one does it: under a lock, after another look.
    fn promote(&self, next: Fingerprint, person: &dyn Person, now: SystemTime) -> Result<(), ConnectError> {
        let cannot = |error: io::Error| {
            let what = format!("client certificate {}", self.path().display());
            ConnectError::new(Cause::System, what, format!("the next one cannot take its place: {error}"))
                .with_fix("make its directory writable, with space left")
        };
        let _lock = locked(&self.path().with_extension("lock")).map_err(cannot)?;
        let following = self.next();
        if following.load_if_there(person, now)?.is_some_and(|following| following.fingerprint() == next) {
            fs::rename(following.path(), self.path()).map_err(cannot)?;
            files::sync_directory(files::directory_of(self.path())).map_err(cannot)?;
        }
        Ok(())
    }

    fn next(&self) -> Self {
        self.beside("next.pem")
    }

    fn heard(&self) -> KnownServers {
        KnownServers::at(self.path().with_extension("next.servers"))
    }
}

fn is_due(identity: &ClientIdentity, now: SystemTime) -> bool {
    identity.not_after() <= now + AHEAD
}

/// The lock is released when the file is closed, also by a crash.
fn locked(path: &Path) -> io::Result<File> {
    let file = files::open_or_create_private(path)?;
    file.lock()?;
    Ok(file)
}

/// As the gateway renews its own (S-42).
const AHEAD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::Nobody;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    fn place() -> (tempfile::TempDir, OwnIdentity, ClientIdentity, SystemTime) {
        let folder = tempfile::tempdir().unwrap();
        let own = OwnIdentity::at(folder.path().join("client.pem"));
        let now = SystemTime::now();
        let first = own.open(&Nobody, now).unwrap();
        (folder, own, first, now)
    }

    fn shown(own: &OwnIdentity, server: &str, now: SystemTime) -> Fingerprint {
        own.for_server(server, &Nobody, now).unwrap().fingerprint()
    }

    #[test]
    fn s_042_a_server_that_has_the_next_certificate_sees_it_and_others_the_present_one() {
        let (_folder, own, first, start) = place();
        let succession = |shown, now| own.succession(shown, &Nobody, now).unwrap();
        assert!(succession(first.fingerprint(), start + YEAR - 31 * DAY).is_none());
        assert!(!own.next().exists());
        let due = start + YEAR - 29 * DAY;
        let both = succession(first.fingerprint(), due).unwrap();
        assert_eq!(both.present.fingerprint(), first.fingerprint());
        assert!(both.next.not_after() > first.not_after() && both.next.fingerprint() != first.fingerprint());
        assert_ne!(Fingerprint::of_key(both.next.certificate()), Fingerprint::of_key(first.certificate()));
        assert_eq!(shown(&own, "tls://a:1", due), first.fingerprint());
        assert!(own.refused(first.fingerprint(), &Nobody, due).unwrap().is_none(), "nobody has heard of it");
        both.accepted_by("tls://a:1").unwrap();
        let next = both.next.fingerprint();
        assert_eq!(shown(&own, "tls://a:1", due), next);
        // Who has not heard of it sees the old one, also after its end; and then may hear of it.
        let late = start + YEAR + DAY;
        assert_eq!(shown(&own, "tls://b:1", late), first.fingerprint());
        assert_eq!(succession(first.fingerprint(), late).unwrap().next.fingerprint(), next);
        assert!(succession(next, late).is_none(), "who sees the next one has nothing to hear");
        // One that refuses the old one may be one that has heard of the next at another address.
        let refused = |shown| own.refused(shown, &Nobody, late).unwrap().map(|both| both.next.fingerprint());
        assert_eq!((refused(first.fingerprint()), refused(next)), (Some(next), None));
    }

    #[test]
    fn s_042_the_next_one_takes_the_place_when_its_own_end_is_near() {
        let (_folder, own, first, start) = place();
        let due = start + YEAR - 29 * DAY;
        let both = own.succession(first.fingerprint(), &Nobody, due).unwrap().unwrap();
        both.accepted_by("tls://a:1").unwrap();
        let second = both.next.fingerprint();
        let due = due + YEAR - 29 * DAY;
        let both = own.succession(second, &Nobody, due).unwrap().unwrap();
        assert_eq!(both.present.fingerprint(), second);
        assert!(![first.fingerprint(), second].contains(&both.next.fingerprint()));
        // What was noted of the second does not count for the third.
        assert_eq!(shown(&own, "tls://a:1", due), second);
        both.accepted_by("tls://a:1").unwrap();
        assert_eq!(shown(&own, "tls://a:1", due), both.next.fingerprint());
    }

    #[test]
    fn s_042_clients_that_are_due_at_once_have_the_same_pairs() {
        let (_folder, own, first, start) = place();
        let second = {
            let due = start + YEAR - 29 * DAY;
            own.succession(first.fingerprint(), &Nobody, due).unwrap().unwrap().next.fingerprint()
        };
        let due = start + 2 * YEAR - 50 * DAY;
        let found: Vec<_> = std::thread::scope(|scope| {
            let ask = || own.succession(second, &Nobody, due).unwrap().unwrap();
            let asks: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asks.into_iter().map(|ask| ask.join().unwrap()).collect()
        });
        for both in &found {
            assert_eq!(both.present.fingerprint(), second);
            assert_eq!(both.next.fingerprint(), found[0].next.fingerprint());
        }
    }
}
