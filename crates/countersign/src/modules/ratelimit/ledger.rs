//! What a gate remembers of the logins behind it: failures by source, and failures in a row by account.
//!
//! Time is monotonic and comes from the caller (S-24). The number of sources and of accounts is
//! bounded, and so is what is kept of each.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hash, RandomState},
    time::{Duration, Instant},
};

use super::Network;
use crate::Username;

/// The numbers of a gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) most_failures: u32,
    pub(super) window: Duration,
    pub(super) delay: Duration,
    pub(super) most_delay: Duration,
    pub(super) most_sources: usize,
    pub(super) account_failures: u32,
}

/// Where logins come from, as far as it is not free to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Network(Network),
    /// Users of this machine share its address: the name keeps them apart.
    Loopback(Account),
    /// A uid on a Unix socket, where the kernel tells it.
    User(Option<u32>),
    /// The holder of an accepted certificate.
    Certificate([u8; 32]),
}

/// A claimed name, hashed with a key of this process: names may be long, and some are passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account(u64);

/// What a login that did not succeed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A client that left or broke the protocol: nothing was judged.
    Half,
    Whole,
}

/// The counts of one gate.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    sources: HashMap<Source, Record>,
    /// Failures in a row (S-23).
    accounts: HashMap<Account, u32>,
    hasher: RandomState,
}

/// What is known of a source.
#[derive(Debug, Default)]
struct Record {
    failures: VecDeque<(Instant, Account, Fault)>,
    /// Responses that are being judged now.
    judging: u32,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, sources: HashMap::new(), accounts: HashMap::new(), hasher: RandomState::new() }
    }

    /// The account of a claimed name, or of a client that claims none.
    pub(super) fn account(&self, name: Option<&Username>) -> Account {
        Account(self.hasher.hash_one(name))
    }

    /// Whether nothing of the source is to be judged now.
    pub(super) fn is_blocked(&self, source: &Source, now: Instant) -> bool {
        self.failures(source, now) >= self.limits.most_failures
    }

    /// How long the next login of the source is held up.
    pub(super) fn hold(&self, source: &Source, now: Instant) -> Duration {
        let failures = self.failures(source, now);
        if failures == 0 {
            return Duration::ZERO;
        }
        let doubled = self.limits.delay.saturating_mul(1 << (failures - 1).min(16));
        doubled.min(self.limits.most_delay)
    }

    /// A response is about to be judged; [`Ledger::end`] follows.
    ///
    /// # Errors
    /// Why it may not be.
    pub(super) fn begin(
        &mut self,
        source: &Source,
        account: Account,
        now: Instant,
    ) -> Result<(), &'static str> {
        let failures = self.failures(source, now);
        let judging = self.sources.get(source).map_or(0, |record| record.judging);
        if failures >= self.limits.most_failures {
            return Err("too many of its logins failed a moment ago");
        }
        // Failures that nobody knows of yet: a thousand connections that answer at one instant.
        if failures + judging >= self.limits.most_failures.max(AT_ONCE) {
            return Err("too many of its logins are being judged");
        }
        let row = self.accounts.get(&account).copied().unwrap_or_default();
        if row >= self.limits.account_failures && self.failed_lately(source, account, now) {
            return Err("too many logins of this account failed in a row");
        }
        if self.sources.len() >= self.limits.most_sources && !self.sources.contains_key(source) {
            self.make_room(now);
        }
        self.sources.entry(*source).or_default().judging += 1;
        Ok(())
    }

    /// So many responses that [began](Ledger::begin) are judged.
    pub(super) fn end(&mut self, source: &Source, judged: u32) {
        if let Some(record) = self.sources.get_mut(source) {
            record.judging = record.judging.saturating_sub(judged);
            if record.judging == 0 && record.failures.is_empty() {
                self.sources.remove(source);
            }
        }
    }

    /// A login did not succeed.
    pub(super) fn fail(&mut self, source: Source, account: Account, fault: Fault, now: Instant) {
        let kept = self.kept();
        if self.sources.len() >= self.limits.most_sources && !self.sources.contains_key(&source) {
            self.make_room(now);
        }
        let record = self.sources.entry(source).or_default();
        record.failures.retain(|(when, ..)| now.saturating_duration_since(*when) < kept);
        record.failures.push_back((now, account, fault));
        // More than twice the limit in halves never makes a difference.
        let most = 2 * self.limits.most_failures as usize + AT_ONCE as usize;
        if record.failures.len() > most {
            record.failures.pop_front();
        }
        if fault == Fault::Whole {
            if self.accounts.len() >= self.limits.most_sources && !self.accounts.contains_key(&account) {
                forget_least(&mut self.accounts, |row| *row);
            }
            let row = self.accounts.entry(account).or_default();
            *row = row.saturating_add(1);
        }
    }

    /// A login succeeded. Only what the source failed at with the same name is taken back: a login of
    /// one's own buys no guesses at others (S-24).
    pub(super) fn forgive(&mut self, source: &Source, account: Account) {
        self.accounts.remove(&account);
        if let Some(record) = self.sources.get_mut(source) {
            record.failures.retain(|(_, other, _)| *other != account);
        }
    }

    /// Failures in the window, two halves being one.
    fn failures(&self, source: &Source, now: Instant) -> u32 {
        let Some(record) = self.sources.get(source) else { return 0 };
        let counts = record.failures.iter().filter(|(when, ..)| self.counts(*when, now));
        let halves: u32 = counts.map(|(_, _, fault)| if *fault == Fault::Half { 1 } else { 2 }).sum();
        halves / 2
    }

    fn failed_lately(&self, source: &Source, account: Account, now: Instant) -> bool {
        let lately = |when: Instant| now.saturating_duration_since(when) < ACCOUNT_PAUSE;
        let record = self.sources.get(source);
        record.is_some_and(|record| {
            record
                .failures
                .iter()
                .any(|(when, of, fault)| *of == account && *fault == Fault::Whole && lately(*when))
        })
    }

    fn counts(&self, when: Instant, now: Instant) -> bool {
        now.saturating_duration_since(when) < self.limits.window
    }

    /// How long a failure is remembered.
    fn kept(&self) -> Duration {
        self.limits.window.max(ACCOUNT_PAUSE)
    }

    /// Sources without failures that count go first, then those with the fewest; never one that is
    /// being judged.
    fn make_room(&mut self, now: Instant) {
        let kept = self.kept();
        self.sources.retain(|_, record| {
            record.failures.retain(|(when, ..)| now.saturating_duration_since(*when) < kept);
            record.judging > 0 || !record.failures.is_empty()
        });
        if self.sources.len() >= self.limits.most_sources {
            forget_least(&mut self.sources, |record| match record.judging {
                0 => u32::try_from(record.failures.len()).unwrap_or(u32::MAX),
                _ => u32::MAX,
            });
        }
    }
}

/// Forgets a quarter, the smallest first, so that it is seldom done.
fn forget_least<K: Copy + Eq + Hash, V>(map: &mut HashMap<K, V>, weight: impl Fn(&V) -> u32) {
    let mut all: Vec<(u32, K)> = map.iter().map(|(key, value)| (weight(value), *key)).collect();
    all.sort_unstable_by_key(|(weight, _)| *weight);
    for (_, key) in all.iter().take(all.len().div_ceil(4)) {
        map.remove(key);
    }
}

/// Responses of one source that may be judged at one time, if its limit is not higher (S-04).
const AT_ONCE: u32 = 20;

/// How often a source may try an account that failed too often in a row (S-23).
const ACCOUNT_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(Limits {
            most_failures: 5,
            window: Duration::from_secs(60),
            delay: Duration::from_secs(1),
            most_delay: Duration::from_secs(8),
            most_sources: 100,
            account_failures: 100,
        })
    }

    fn at(text: &str) -> Source {
        Source::Network(Network::of(text.parse().unwrap(), 32, 64))
    }

    fn name(ledger: &Ledger, name: &str) -> Account {
        ledger.account(Some(&Username::parse(name).unwrap()))
    }

    #[test]
    fn s_021_failures_block_a_source_until_they_are_out_of_the_window() {
        let (mut ledger, start) = (ledger(), Instant::now());
        let (here, alice) = (at("192.0.2.7"), name(&ledger, "alice"));
        let mut holds = Vec::new();
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert!(!ledger.is_blocked(&here, now));
            holds.push(ledger.hold(&here, now).as_secs());
            ledger.fail(here, alice, Fault::Whole, now);
        }
        assert_eq!(holds, [0, 1, 2, 4, 8]);
        let now = start + Duration::from_secs(59);
        assert!(ledger.is_blocked(&here, now) && ledger.begin(&here, alice, now).is_err());
        assert!(!ledger.is_blocked(&at("192.0.2.8"), now), "s_022: others are unaffected");
        assert!(!ledger.is_blocked(&here, start + Duration::from_secs(60)));
    }

    #[test]
    fn s_024_ipv6_is_counted_by_its_64_and_mapped_ipv4_as_ipv4() {
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.7"), at("192.0.2.7"));
    }

    #[test]
    fn s_024_a_success_takes_back_failures_with_the_same_name_only() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let here = at("192.0.2.7");
        let (alice, mallory) = (name(&ledger, "alice"), name(&ledger, "mallory"));
        for _ in 0..4 {
            ledger.fail(here, alice, Fault::Whole, now);
        }
        ledger.fail(here, mallory, Fault::Whole, now);
        ledger.forgive(&here, mallory);
        assert_eq!(ledger.failures(&here, now), 4);
        ledger.forgive(&here, alice);
        assert_eq!(ledger.failures(&here, now), 0);
    }

    #[test]
    fn an_abandoned_challenge_counts_half() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let (here, alice) = (at("192.0.2.7"), name(&ledger, "alice"));
        for _ in 0..9 {
            ledger.fail(here, alice, Fault::Half, now);
        }
        assert!(!ledger.is_blocked(&here, now));
        ledger.fail(here, alice, Fault::Half, now);
        assert!(ledger.is_blocked(&here, now));
    }

    #[test]
    fn s_021_answers_at_one_instant_are_counted_before_they_are_judged() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let (here, alice) = (at("192.0.2.7"), name(&ledger, "alice"));
        let judged = (0..1000).filter(|_| ledger.begin(&here, alice, now).is_ok()).count();
        assert_eq!(judged, 20);
        ledger.end(&here, 20);
        assert!(ledger.begin(&here, alice, now).is_ok());
    }

    #[test]
    fn s_023_an_account_that_many_sources_guess_at_is_slowed_and_not_locked() {
        let (mut ledger, start) = (ledger(), Instant::now());
        let alice = name(&ledger, "alice");
        for source in 0..100_u8 {
            ledger.fail(at(&format!("198.51.100.{source}")), alice, Fault::Whole, start);
        }
        let home = at("192.0.2.7");
        assert!(ledger.begin(&home, alice, start).is_ok(), "its owner gets in from elsewhere");
        ledger.end(&home, 1);
        ledger.fail(home, alice, Fault::Whole, start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(ledger.begin(&home, alice, later(29)).is_err());
        assert!(
            ledger.begin(&home, name(&ledger, "bob"), later(29)).is_ok(),
            "other accounts are not slowed"
        );
        assert!(ledger.begin(&home, alice, later(30)).is_ok());
        ledger.forgive(&home, alice);
        ledger.fail(home, alice, Fault::Whole, later(31));
        assert!(ledger.begin(&home, alice, later(32)).is_ok(), "a success starts the row anew");
    }

    #[test]
    fn s_024_the_number_of_sources_and_accounts_is_bounded_and_the_worst_stay() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let (worst, mallory) = (at("192.0.2.7"), name(&ledger, "mallory"));
        for _ in 0..5 {
            ledger.fail(worst, mallory, Fault::Whole, now);
        }
        for number in 0..10_000_u32 {
            let somewhere = at(&std::net::Ipv4Addr::from(number).to_string());
            ledger.fail(somewhere, Account(u64::from(number)), Fault::Whole, now);
            if number == 50 {
                assert!(ledger.begin(&somewhere, mallory, now).is_ok());
            }
            assert!(ledger.sources.len() <= 100 && ledger.accounts.len() <= 100);
        }
        assert!(ledger.is_blocked(&worst, now));
        for _ in 0..1000 {
            ledger.fail(worst, mallory, Fault::Whole, now);
        }
        assert!(ledger.sources[&worst].failures.len() <= 30);
    }
}
