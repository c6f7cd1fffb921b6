//! The entries by fingerprint, as logins look at them: found in few lines of memory, also among a million.
//!
//! Those that were there at the start come from the store in the order of their fingerprints and stay in it,
//! which costs a start no hashing and no memory out of turn. SHA-256 spreads them evenly, so that the leading
//! bits of one say where it is but for a few neighbours. There is no key in that for an attacker to look for:
//! whoever makes certificates until many begin alike, and has every one of them accepted, makes one run of
//! neighbours longer, and a run is searched by halves. Those that come later are in a table of their own, by a
//! keyed hash.

use std::collections::HashMap;

use super::Accepted;
use crate::sys;

/// The entries of a store.
#[derive(Default)]
pub(super) struct Roster {
    /// In the order of fingerprints. `None` was forgotten.
    early: Vec<([u8; 32], Option<Accepted>)>,
    /// For each value of the leading bits, and one more, how many entries have a lower one.
    runs: Vec<u32>,
    late: HashMap<[u8; 32], Accepted>,
}

impl Roster {
    /// Of entries in the order of the store, or any other, each once. `most` is how many to make room for.
    /// Gives what `fill` does too.
    pub(super) fn filled<T>(
        most: usize,
        fill: impl FnOnce(&mut dyn FnMut([u8; 32], Accepted)) -> T,
    ) -> (Self, T) {
        let mut early = Vec::with_capacity(most.min(MOST_ROOM));
        sys::memory::in_large_pages(&early);
        let mut is_sorted = true;
        let mut last = [0; 32];
        let filled = fill(&mut |fingerprint: [u8; 32], accepted| {
            is_sorted &= last <= fingerprint;
            last = fingerprint;
            early.push((fingerprint, Some(accepted)));
        });
        if !is_sorted {
            early.sort_unstable_by_key(|one| one.0);
        }
        let runs = runs(&early);
        (Self { early, runs, late: HashMap::new() }, filled)
    }

    /// The entry of a certificate.
    pub(super) fn find(&self, fingerprint: &[u8; 32]) -> Option<&Accepted> {
        match self.place(fingerprint) {
            Some(place) => self.early.get(place)?.1.as_ref(),
            None => self.late.get(fingerprint),
        }
    }

    /// Adds an entry, or replaces it.
    pub(super) fn put(&mut self, fingerprint: [u8; 32], accepted: Accepted) {
        match self.place(&fingerprint).and_then(|place| self.early.get_mut(place)) {
            Some((_, known)) => *known = Some(accepted),
            None => _ = self.late.insert(fingerprint, accepted),
        }
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, fingerprint: &[u8; 32]) {
        match self.place(fingerprint).and_then(|place| self.early.get_mut(place)) {
            Some((_, known)) => *known = None,
            None => _ = self.late.remove(fingerprint),
        }
    }

    /// Where an entry is that was there at the start.
    fn place(&self, fingerprint: &[u8; 32]) -> Option<usize> {
        // As many values as there are places for their beginnings, but for the last one.
        let bits = self.runs.len().checked_ilog2()?;
        let run = leading(fingerprint, bits);
        let (start, end) = (*self.runs.get(run)? as usize, *self.runs.get(run + 1)? as usize);
        let within = self.early.get(start..end)?.binary_search_by(|one| one.0.cmp(fingerprint)).ok()?;
        Some(start + within)
    }
}

/// Where each run begins: two to four runs for each entry, so that most hold one or none.
fn runs(early: &[([u8; 32], Option<Accepted>)]) -> Vec<u32> {
    let bits = (early.len().max(1).ilog2() + 2).min(u32::BITS - 1);
    let mut runs = Vec::with_capacity((1 << bits) + 1);
    for (lower, (fingerprint, _)) in (0..).zip(early) {
        let run = leading(fingerprint, bits);
        if runs.len() <= run {
            runs.resize(run + 1, lower);
        }
    }
    runs.resize((1 << bits) + 1, u32::try_from(early.len()).unwrap_or(u32::MAX));
    runs
}

/// The first so many bits of a fingerprint, 1 to 32 of them.
fn leading(fingerprint: &[u8; 32], bits: u32) -> usize {
    let first = fingerprint.first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
    (first >> (u32::BITS - bits)) as usize
}

/// Entries that room is made for before they are seen: the number of a damaged store may be any.
const MOST_ROOM: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Username,
        transport::tls::Fingerprint,
        trust::entry::{Entry, Way},
    };

    fn entry(number: u32) -> ([u8; 32], Accepted) {
        let name = Username::parse(&format!("user-{number}")).unwrap();
        let fingerprint = Fingerprint::of_certificate(&number.to_be_bytes());
        (fingerprint.0, Accepted::of(Entry::new(fingerprint, name, Way::Added, "", 0).into()))
    }

    fn roster(entries: Vec<([u8; 32], Accepted)>) -> Roster {
        Roster::filled(10, |put| entries.into_iter().for_each(|(key, entry)| put(key, entry))).0
    }

    fn name(roster: &Roster, fingerprint: &[u8; 32]) -> Option<String> {
        roster.find(fingerprint).map(|found| found.name.username().unwrap().to_string())
    }

    #[test]
    fn every_entry_is_found_and_nothing_else_whatever_their_number_and_order() {
        for count in [0, 1, 2, 3, 4, 5, 31, 32, 33, 1000] {
            let mut roster = roster((0..count).map(entry).collect());
            for number in 0..count + 50 {
                let wanted = (number < count).then(|| format!("user-{number}"));
                assert_eq!(name(&roster, &entry(number).0), wanted, "{number} of {count}");
            }
            // Later ones, changes of both kinds, and what was forgotten.
            for number in (0..count + 50).step_by(3) {
                roster.put(entry(number).0, entry(number + 10_000).1);
            }
            for number in (0..count + 50).step_by(4) {
                roster.remove(&entry(number).0);
            }
            for number in 0..count + 50 {
                let wanted = match number {
                    _ if number % 4 == 0 => None,
                    _ if number % 3 == 0 => Some(format!("user-{}", number + 10_000)),
                    _ => (number < count).then(|| format!("user-{number}")),
                };
                assert_eq!(name(&roster, &entry(number).0), wanted, "{number} of {count}");
            }
            roster.put(entry(4).0, entry(4).1);
            assert_eq!(name(&roster, &entry(4).0).as_deref(), Some("user-4"));
        }
    }

    #[test]
    fn certificates_that_were_made_to_begin_alike_are_found_by_halves() {
        let alike = |number: u32| {
            let mut fingerprint = [0xab; 32];
            fingerprint[28..].copy_from_slice(&number.to_be_bytes());
            fingerprint
        };
        let roster = roster((0..50_000).map(|number| (alike(number), entry(number).1)).collect());
        let start = std::time::Instant::now();
        for number in 0..50_000 {
            assert_eq!(name(&roster, &alike(number)), Some(format!("user-{number}")));
        }
        assert!(roster.find(&alike(50_000)).is_none());
        // One after the other this would take a thousand million looks.
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}
