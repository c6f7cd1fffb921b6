//! How many wrong guesses at the passphrase, at invitations and at one-time codes are judged (S-27, M4).
//!
//! Each guess is counted under keys: where it came from, which certificate or account it was for, and all
//! newcomers together. A key has a bucket that a guess fills by one and time empties; a full one turns the
//! guess away before it is judged. A guess is counted before it is judged and taken off again if it
//! was right, so that guesses at the same time count too. The store remembers, so that a restart
//! gives nobody new guesses.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::{Peer, transport::tls::Fingerprint};

/// What is remembered of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guess {
    /// `uid:1000`, `ip:192.0.2.7`, `net:2001:db8:0:1::/64`, `certificate:HEX`, `account:otp:NAME`, `all`.
    pub key: String,
    /// When its bucket will be empty, in seconds since 1970. It says all: a fuller bucket is empty later.
    pub until: i64,
}

/// The buckets, by key: when each will be empty.
#[derive(Debug, Default)]
pub(super) struct Guesses(HashMap<String, i64>);

impl Guesses {
    /// What the store remembers.
    pub(super) fn remembered(guesses: Vec<Guess>) -> Self {
        Self(guesses.into_iter().map(|guess| (guess.key, guess.until)).collect())
    }

    /// Counts a guess under all `keys`, if none of them is full.
    ///
    /// # Errors
    /// How long to wait until one would be judged.
    pub(super) fn charge(&mut self, keys: &[String], now: i64) -> Result<(), Duration> {
        let over = |key: &String| self.until(key, now) + Rate::of(key).seconds_each - Rate::of(key).full(now);
        let wait = keys.iter().map(over).max().unwrap_or_default();
        if let Some(wait) = u64::try_from(wait).ok().filter(|wait| *wait > 0) {
            return Err(Duration::from_secs(wait));
        }
        self.make_room(now);
        self.move_by(keys, now, |rate| rate.seconds_each);
        Ok(())
    }

    /// Takes a guess off again: it was right.
    pub(super) fn refund(&mut self, keys: &[String], now: i64) {
        self.move_by(keys, now, |rate| -rate.seconds_each);
    }

    /// The state of `keys`, for the store.
    pub(super) fn notes(&self, keys: &[String]) -> Vec<Guess> {
        let note = |key: &String| Some(Guess { key: key.clone(), until: *self.0.get(key)? });
        keys.iter().filter_map(note).collect()
    }

    fn move_by(&mut self, keys: &[String], now: i64, by: impl Fn(Rate) -> i64) {
        for key in keys {
            let until = self.until(key, now) + by(Rate::of(key));
            self.0.insert(key.clone(), until);
        }
    }

    /// Never later than for a full bucket: a clock that was ahead and is set back makes nobody wait
    /// longer.
    fn until(&self, key: &str, now: i64) -> i64 {
        self.0.get(key).map_or(now, |until| (*until).clamp(now, Rate::of(key).full(now)))
    }

    /// Keeps the number of keys bounded: empty buckets go first, then the emptiest.
    fn make_room(&mut self, now: i64) {
        if self.0.len() < MOST_KEYS {
            return;
        }
        let mut keys: Vec<(i64, String)> =
            self.0.keys().map(|key| (self.until(key, now), key.clone())).collect();
        keys.sort_unstable();
        for (_, key) in keys.into_iter().take(MOST_KEYS / 4) {
            self.0.remove(&key);
        }
    }
}

/// The keys of a guess at something that belongs to an account, `what` being the kind of thing. Not
/// [`ALL`]: who guesses at accounts shall not close the way in for newcomers.
pub(super) fn account_keys(peer: &Peer, what: &str, account: &str) -> [String; 2] {
    [source(peer), format!("{ACCOUNT}{what}:{account}")]
}

/// The keys of a guess at the passphrase or an invitation, for the certificate that was shown, if one was.
pub(super) fn keys(peer: &Peer, certificate: Option<&Fingerprint>) -> Vec<String> {
    let certificate = certificate.map(|certificate| format!("certificate:{certificate}"));
    [source(peer), ALL.to_owned()].into_iter().chain(certificate).collect()
}

/// Where a peer is, as far as addresses are not free to choose: IPv6 by its /64.
fn source(peer: &Peer) -> String {
    match (peer.address().map(|address| address.ip()), peer.credentials()) {
        (Some(IpAddr::V4(address)), _) => format!("ip:{address}"),
        (Some(IpAddr::V6(address)), _) => {
            let [a, b, c, d, ..] = address.segments();
            format!("net:{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        (None, Some(credentials)) => format!("uid:{}", credentials.uid),
        (None, None) => "local".to_owned(),
    }
}

/// How fast a key may guess.
struct Rate {
    /// Guesses that are judged at once.
    at_once: i64,
    /// Seconds after which one more is.
    seconds_each: i64,
}

impl Rate {
    fn of(key: &str) -> Self {
        match key {
            // Many sources together: no single one can fill this, as its own bucket is smaller.
            ALL => Self { at_once: 100, seconds_each: 1 },
            // From many sources at one account (RFC 4226 7.3).
            _ if key.starts_with(ACCOUNT) => Self { at_once: 100, seconds_each: 30 },
            _ => Self { at_once: 5, seconds_each: 30 },
        }
    }

    /// When a bucket that is full now will be empty.
    fn full(&self, now: i64) -> i64 {
        now.saturating_add(self.at_once * self.seconds_each)
    }
}

const ALL: &str = "all";

const ACCOUNT: &str = "account:";

/// Keys that are remembered (S-24: a bounded number).
const MOST_KEYS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Vec<String> {
        vec!["ip:192.0.2.7".to_owned()]
    }

    #[test]
    fn s_027_five_guesses_at_once_then_one_in_thirty_seconds() {
        let mut guesses = Guesses::default();
        for _ in 0..5 {
            guesses.charge(&key(), 1000).unwrap();
        }
        assert_eq!(guesses.charge(&key(), 1000), Err(Duration::from_secs(30)));
        assert_eq!(guesses.charge(&key(), 1010), Err(Duration::from_secs(20)));
        guesses.charge(&key(), 1030).unwrap();
        assert!(guesses.charge(&key(), 1031).is_err());
        guesses.charge(&["ip:192.0.2.8".to_owned()], 1031).unwrap();
    }

    #[test]
    fn s_027_a_restart_and_a_clock_that_is_set_give_no_new_guesses() {
        let mut guesses = Guesses::default();
        for _ in 0..5 {
            guesses.charge(&key(), 1000).unwrap();
        }
        let mut again = Guesses::remembered(guesses.notes(&key()));
        assert!(again.charge(&key(), 1000).is_err());
        // Written under a clock a day ahead: the wait is not a day.
        let mut back = Guesses::remembered(guesses.notes(&key()));
        assert_eq!(back.charge(&key(), 0), Err(Duration::from_secs(30)));
        assert!(again.charge(&key(), 0).is_err());
    }

    #[test]
    fn s_077_an_account_is_guessed_at_a_hundred_times_then_once_in_thirty_seconds() {
        let mut guesses = Guesses::default();
        let from = |host: usize| {
            let peer =
                Peer::tcp(format!("192.0.2.{host}:5").parse().unwrap(), "127.0.0.1:1".parse().unwrap());
            account_keys(&peer, "otp", "alice")
        };
        for guess in 0..100 {
            guesses.charge(&from(guess / 5), 1000).unwrap();
        }
        assert_eq!(guesses.charge(&from(99), 1000), Err(Duration::from_secs(30)));
        guesses.charge(&from(99), 1030).unwrap();
        assert!(guesses.charge(&from(98), 1031).is_err());
        let bob = account_keys(&Peer::unix(None), "otp", "bob");
        guesses.charge(&bob, 1031).unwrap();
        guesses.charge(&[ALL.to_owned()], 1031).unwrap();
    }

    #[test]
    fn a_right_guess_is_taken_off_again() {
        let mut guesses = Guesses::default();
        for _ in 0..100 {
            guesses.charge(&key(), 1000).unwrap();
            guesses.refund(&key(), 1000);
        }
    }

    #[test]
    fn s_024_the_number_of_keys_is_bounded_and_the_fullest_stay() {
        let mut guesses = Guesses::default();
        guesses.charge(&key(), 0).unwrap();
        guesses.charge(&key(), 0).unwrap();
        for number in 0..MOST_KEYS + 10 {
            guesses.charge(&[format!("certificate:{number}")], 0).unwrap();
        }
        assert!(guesses.0.len() <= MOST_KEYS);
        assert_eq!(guesses.until(&key()[0], 0), 60);
    }

    #[test]
    fn s_024_a_source_is_an_address_a_64_or_a_uid() {
        let local = "127.0.0.1:1".parse().unwrap();
        let of = |text: &str| source(&Peer::tcp(text.parse().unwrap(), local));
        assert_eq!(of("192.0.2.7:5"), "ip:192.0.2.7");
        assert_eq!(of("[::ffff:192.0.2.7]:5"), "ip:192.0.2.7");
        assert_eq!(of("[2001:db8:0:1:2::3]:5"), of("[2001:db8:0:1:ffff::9]:6"));
        let unix = Peer::unix(Some(crate::proto::peer::Credentials::new(1000, 1000)));
        assert_eq!(source(&unix), "uid:1000");
    }

    #[test]
    fn s_024_room_is_made_before_there_are_too_many_keys() {
        let mut guesses = Guesses::default();
        for number in 0..=MOST_KEYS {
            guesses.charge(&[format!("certificate:{number}")], 0).unwrap();
            assert!(guesses.0.len() <= MOST_KEYS);
        }
        assert_eq!(guesses.0.len(), MOST_KEYS - MOST_KEYS / 4 + 1, "a quarter left");
    }

    #[test]
    fn s_027_a_guess_at_the_passphrase_counts_for_its_source_its_certificate_and_all_together() {
        let local = "127.0.0.1:1".parse().unwrap();
        let peer = Peer::tcp("192.0.2.7:5".parse().unwrap(), local);
        let certificate = Fingerprint([0xab; 32]);
        assert_eq!(keys(&peer, None), ["ip:192.0.2.7", "all"]);
        let shown = format!("certificate:{certificate}");
        assert_eq!(keys(&peer, Some(&certificate)), ["ip:192.0.2.7", "all", shown.as_str()]);
        let mut guesses = Guesses::default();
        for _ in 0..100 {
            guesses.charge(&[ALL.to_owned()], 1000).unwrap();
        }
        assert_eq!(guesses.charge(&[ALL.to_owned()], 1000), Err(Duration::from_secs(1)));
        guesses.charge(&[ALL.to_owned()], 1001).unwrap();
    }
}
