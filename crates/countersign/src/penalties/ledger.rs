//! What is remembered of failed logins, and what follows from it. Time comes from the caller and is monotonic (S-24).
//!
//! A failure adds its weight to two penalties: that of the source with the claimed name, and that of the source
//! as a whole. Time takes one second off each in a second. The first is enforced from `min` on, so
//! that neighbours who share an address do not lock each other out; the second from four times that on, so
//! that nobody guesses at many names from one place. What is enforced stays so until nothing is left of it.

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use super::Source;

/// A claimed name, hashed with a key of the gateway's: names may be long, and some are passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Account(pub(super) u64);

/// Who fails: a source, and the name that is claimed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who {
    pub(super) source: Source,
    pub(super) account: Account,
}

/// What a connection did that is counted (S-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A wrong answer.
    Failure,
    /// What no correct client sends.
    Malformed,
    /// It left instead of an answer.
    Abandoned,
    /// It missed a deadline.
    Late,
}

impl Fault {
    pub(super) fn weight(self) -> Duration {
        match self {
            Self::Failure => FAILURE,
            // Half: nothing was judged, and nobody shall be shown questions for nothing.
            Self::Abandoned => FAILURE / 2,
            Self::Malformed => Duration::from_secs(2),
            Self::Late => Duration::from_secs(10),
        }
    }
}

/// A source that has a penalty, as the owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Penalised {
    /// Where.
    pub source: Source,
    /// What is left of the penalty of the source as a whole.
    pub left: Duration,
    /// Whether everybody there is refused; else at most some of the names are.
    pub enforced: bool,
    /// How many names are refused there.
    pub names: usize,
}

/// What outlives the process: the longest penalties and rows, at most [`MOST_KEPT`] of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) sources: Vec<(Source, Left)>,
    pub(super) names: Vec<(Who, Left)>,
    pub(super) rows: Vec<(Account, u32)>,
}

/// What is left of a penalty at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) left: Duration,
    pub(super) enforced: bool,
}

/// The penalties and the rows of failures.
#[derive(Debug)]
pub(super) struct Ledger {
    min: Duration,
    max: Duration,
    v4: HashMap<Source, Penalty>,
    v6: HashMap<Source, Penalty>,
    /// Users of this machine and holders of certificates.
    others: HashMap<Source, Penalty>,
    names: HashMap<Who, Named>,
    /// Failures in a row, over all sources (S-23).
    rows: HashMap<Account, u32>,
}

/// One penalty.
#[derive(Clone, Copy, Debug)]
struct Penalty {
    /// When nothing will be left of it.
    until: Instant,
    enforced: bool,
}

/// What is known of a name at a source.
#[derive(Clone, Copy, Debug)]
struct Named {
    penalty: Penalty,
    /// The digest of the last wrong secret.
    wrong: Option<u64>,
    /// When a password was last judged, while the account's row is too long.
    judged: Option<Instant>,
}

impl Ledger {
    /// Penalties are enforced from `min` on and never longer than `max`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        let (v4, v6, others) = Default::default();
        Self { min, max, v4, v6, others, names: HashMap::new(), rows: HashMap::new() }
    }

    /// Enforces from `min` on and counts up to `max` from now on.
    pub(super) fn amend(&mut self, min: Duration, max: Duration) {
        (self.min, self.max) = (min, max);
    }

    /// How long nothing of `who` is judged; `None` if it may be now.
    pub(super) fn wait(&self, who: &Who, now: Instant) -> Option<Duration> {
        let total = self.of(&who.source).get(&who.source).and_then(|penalty| penalty.wait(now));
        total.max(self.names.get(who).and_then(|named| named.penalty.wait(now)))
    }

    /// Whether a password of `who` may be judged, as far as its account goes; notes that it was.
    pub(super) fn may_judge(&mut self, who: &Who, now: Instant) -> bool {
        if self.rows.get(&who.account).is_none_or(|row| *row < ROW) {
            return true;
        }
        let named = self.named(who, now);
        let lately = |judged: Instant| now.saturating_duration_since(judged) < ROW_PAUSE;
        if named.judged.is_some_and(lately) {
            return false;
        }
        named.judged = Some(now);
        true
    }

    /// Adds what a fault weighs. `wrong` is the digest of the secret that was wrong, where it is known: one that
    /// a program repeats counts once. Says whether it counted.
    pub(super) fn fail(&mut self, who: &Who, fault: Fault, wrong: Option<u64>, now: Instant) -> bool {
        let (min, max) = (self.min, self.max);
        let named = self.named(who, now);
        if wrong.is_some() && named.wrong == wrong {
            return false;
        }
        named.wrong = wrong.or(named.wrong);
        named.penalty.add(fault.weight(), min, max, now);
        let totals = self.of_mut(&who.source);
        make_room(totals, &who.source, |penalty| penalty.left(now));
        let total = totals.entry(who.source).or_insert_with(|| Penalty::none(now));
        total.add(fault.weight(), min * WHOLE, max, now);
        true
    }

    /// A password of the account was wrong, wherever that was (S-23).
    pub(super) fn fail_in_row(&mut self, who: &Who, now: Instant) {
        make_room(&mut self.rows, &who.account, |row| *row);
        let row = self.rows.entry(who.account).or_default();
        *row = row.saturating_add(1);
        if *row >= ROW {
            self.named(who, now).judged.get_or_insert(now);
        }
    }

    /// A login succeeded. What its own name had is taken off, and nothing else: nobody buys guesses at others by
    /// a login of one's own (S-24). Says whether there was anything.
    pub(super) fn succeed(&mut self, who: &Who, now: Instant) -> bool {
        let had_row = self.rows.remove(&who.account).is_some();
        let Some(named) = self.names.remove(who) else { return had_row };
        let left = named.penalty.left(now);
        let totals = self.of_mut(&who.source);
        let Some(total) = totals.get_mut(&who.source) else { return true };
        match total.until.checked_sub(left).filter(|until| *until > now) {
            Some(until) => total.until = until,
            None => _ = totals.remove(&who.source),
        }
        true
    }

    /// Every source that has a penalty now, the longest first.
    pub(super) fn list(&self, now: Instant) -> Vec<Penalised> {
        let mut refused: HashMap<Source, usize> = HashMap::new();
        for (who, _) in self.names.iter().filter(|(_, named)| named.penalty.wait(now).is_some()) {
            *refused.entry(who.source).or_default() += 1;
        }
        let all = [&self.v4, &self.v6, &self.others].into_iter().flatten();
        let mut list: Vec<Penalised> = all
            .filter(|(_, penalty)| penalty.until > now)
            .map(|(source, penalty)| Penalised {
                source: *source,
                left: penalty.left(now),
                enforced: penalty.enforced,
                names: refused.get(source).copied().unwrap_or_default(),
            })
            .collect();
        list.sort_unstable_by_key(|penalised| (Reverse(penalised.left), penalised.source));
        list
    }

    /// How many sources there are in that list.
    pub(super) fn count(&self, now: Instant) -> usize {
        let all = [&self.v4, &self.v6, &self.others].into_iter().flatten();
        all.filter(|(_, penalty)| penalty.until > now).count()
    }

    /// Forgets the penalties of a source, and says whether it had any.
    pub(super) fn clear(&mut self, source: &Source) -> bool {
        let before = self.names.len();
        self.names.retain(|who, _| who.source != *source);
        self.of_mut(source).remove(source).is_some() || self.names.len() < before
    }

    /// Forgets everything.
    pub(super) fn clear_all(&mut self) {
        *self = Self::new(self.min, self.max);
    }

    /// What is to outlive the process.
    pub(super) fn kept(&self, now: Instant) -> Kept {
        let left = |penalty: &Penalty| {
            Some(Left { left: penalty.left(now), enforced: penalty.enforced })
                .filter(|left| !left.left.is_zero())
        };
        let totals = [&self.v4, &self.v6, &self.others].into_iter().flat_map(|totals| {
            most(totals.iter().filter_map(|(source, total)| Some((*source, left(total)?))), |left| left.left)
        });
        let names = self.names.iter().filter_map(|(who, named)| Some((*who, left(&named.penalty)?)));
        let rows = self.rows.iter().map(|(account, row)| (*account, *row));
        Kept { sources: totals.collect(), names: most(names, |left| left.left), rows: most(rows, |row| *row) }
    }

    /// The same ledger with what another process kept, `elapsed` ago.
    pub(super) fn with(mut self, kept: Kept, elapsed: Duration, now: Instant) -> Self {
        let most = self.max;
        let penalty = |kept: Left| {
            // What was enforced is so until nothing is left of it.
            let left = kept.left.min(most).saturating_sub(elapsed);
            Some(Penalty { until: now + left, enforced: kept.enforced }).filter(|_| !left.is_zero())
        };
        for (source, total) in kept.sources.into_iter().take(3 * MOST_KEPT) {
            if let Some(total) = penalty(total) {
                self.of_mut(&source).insert(source, total);
            }
        }
        for (who, named) in kept.names.into_iter().take(MOST_KEPT) {
            if let Some(penalty) = penalty(named) {
                self.names.insert(who, Named { penalty, wrong: None, judged: None });
            }
        }
        self.rows.extend(kept.rows.into_iter().take(MOST_KEPT));
        self
    }

    fn named(&mut self, who: &Who, now: Instant) -> &mut Named {
        make_room(&mut self.names, who, |named| named.penalty.left(now));
        let fresh = || Named { penalty: Penalty::none(now), wrong: None, judged: None };
        self.names.entry(*who).or_insert_with(fresh)
    }

    fn of(&self, source: &Source) -> &HashMap<Source, Penalty> {
        match source {
            Source::V4(_) => &self.v4,
            Source::V6(_) => &self.v6,
            _ => &self.others,
        }
    }

    fn of_mut(&mut self, source: &Source) -> &mut HashMap<Source, Penalty> {
        match source {
            Source::V4(_) => &mut self.v4,
            Source::V6(_) => &mut self.v6,
            _ => &mut self.others,
        }
    }
}

impl Penalty {
    fn none(now: Instant) -> Self {
        Self { until: now, enforced: false }
    }

    fn left(&self, now: Instant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    /// How long it is enforced yet.
    fn wait(&self, now: Instant) -> Option<Duration> {
        Some(self.left(now)).filter(|left| self.enforced && !left.is_zero())
    }

    fn add(&mut self, weight: Duration, min: Duration, max: Duration, now: Instant) {
        let left = self.left(now);
        let sum = (left + weight).min(max);
        self.enforced = (self.enforced && !left.is_zero()) || sum >= min;
        self.until = now + sum;
    }
}

/// Makes room for a new key where a map is full: a quarter leaves, the smallest first, so that it is seldom done.
fn make_room<K: Copy + Eq + Hash + Ord, V, W: Ord + Copy>(
    map: &mut HashMap<K, V>,
    key: &K,
    weight: impl Fn(&V) -> W,
) {
    if map.len() < MOST || map.contains_key(key) {
        return;
    }
    // All are put in anew: places of keys that were taken out one by one would let the table double.
    let mut all: Vec<(K, V)> = map.drain().collect();
    all.select_nth_unstable_by_key(MOST / 4, |(key, value)| (weight(value), *key));
    map.extend(all.into_iter().skip(MOST / 4));
}

/// What a wrong answer adds (S-21).
const FAILURE: Duration = Duration::from_secs(5);

/// The largest of a table that are kept over a restart.
fn most<K: Copy + Ord, V, W: Ord>(
    all: impl Iterator<Item = (K, V)>,
    weight: impl Fn(&V) -> W,
) -> Vec<(K, V)> {
    let mut all: Vec<(K, V)> = all.collect();
    if all.len() > MOST_KEPT {
        all.select_nth_unstable_by_key(MOST_KEPT, |(key, value)| (Reverse(weight(value)), *key));
        all.truncate(MOST_KEPT);
    }
    all
}

/// How much more a source as a whole may fail than one name there.
const WHOLE: u32 = 4;

/// Failures in a row from which on an account's password is judged seldom (S-23).
const ROW: u32 = 100;

/// How seldom, for each source.
const ROW_PAUSE: Duration = Duration::from_secs(30);

/// Entries of each table: as many as fit into 65,536 places before a table doubles (S-24: at most 65,536 sources of
/// a family, and 16 MiB in all).
const MOST: usize = 57_344;

/// Entries of each table that outlive the process: a file of 3 MiB at most.
const MOST_KEPT: usize = 8192;

#[cfg(test)]
mod tests;
