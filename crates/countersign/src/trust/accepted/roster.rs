//! The entries by fingerprint, as logins look at them: found by one look into memory, also among a million.
//!
//! Those that were there at the start come from the store in the order of their fingerprints and stay in it,
//! which costs a start no hashing. SHA-256 spreads them evenly: the leading bits of one say where in a room half
//! as large again it belongs, and there it is, or a few places behind where its neighbours came first. There is
//! no key in that for an attacker to look for: whoever makes certificates until many begin alike, and has every
//! one of them accepted, makes one row of neighbours longer, and a row is searched by halves. Those that come
//! later are in a table of their own, by a keyed hash.

use std::collections::HashMap;

use super::Accepted;
use crate::sys;

/// The entries of a store.
#[derive(Default)]
pub(super) struct Roster {
    /// In the order of fingerprints, none before the place where it belongs, and no free place between that and
    /// where it is.
    early: Vec<Option<Early>>,
    /// How many places there are to belong to. What belongs to the last may be behind it.
    homes: u64,
    late: HashMap<[u8; 32], Accepted>,
}

/// One that was there at the start. `None` was forgotten.
type Early = ([u8; 32], Option<Accepted>);

impl Roster {
    /// Of entries in the order of the store, or any other, each once. `most` is how many to make room for.
    /// Gives what `fill` does too.
    pub(super) fn filled<T>(
        most: usize,
        fill: impl FnOnce(&mut dyn FnMut([u8; 32], Accepted)) -> T,
    ) -> (Self, T) {
        let mut entries: Vec<Early> = Vec::with_capacity(most.min(MOST_ROOM));
        sys::memory::in_large_pages(&entries);
        let filled = fill(&mut |fingerprint, accepted| entries.push((fingerprint, Some(accepted))));
        if !entries.is_sorted_by_key(|one| one.0) {
            entries.sort_unstable_by_key(|one| one.0);
        }
        (Self::spread(entries), filled)
    }

    fn spread(entries: Vec<Early>) -> Self {
        let room = entries.len() + entries.len() / 2 + 1;
        let mut roster = Self { homes: room as u64, ..Self::default() };
        let mut early = Vec::with_capacity(room + NEIGHBOURS);
        sys::memory::in_large_pages(&early);
        for one in entries {
            early.resize_with(early.len().max(roster.home(&one.0)), || None);
            early.push(Some(one));
        }
        roster.early = early;
        roster
    }

    /// The entry of a certificate.
    pub(super) fn find(&self, fingerprint: &[u8; 32]) -> Option<&Accepted> {
        match self.place(fingerprint) {
            Some(place) => self.early.get(place)?.as_ref()?.1.as_ref(),
            None => self.late.get(fingerprint),
        }
    }

    /// All entries, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Accepted> {
        let early = self.early.iter().flatten().filter_map(|(_, accepted)| accepted.as_ref());
        early.chain(self.late.values())
    }

    /// Adds an entry, or replaces it.
    pub(super) fn put(&mut self, fingerprint: [u8; 32], accepted: Accepted) {
        match self.early_mut(&fingerprint) {
            Some((_, known)) => *known = Some(accepted),
            None => _ = self.late.insert(fingerprint, accepted),
        }
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, fingerprint: &[u8; 32]) {
        match self.early_mut(fingerprint) {
            Some((_, known)) => *known = None,
            None => _ = self.late.remove(fingerprint),
        }
    }

    fn early_mut(&mut self, fingerprint: &[u8; 32]) -> Option<&mut Early> {
        self.place(fingerprint).and_then(|place| self.early.get_mut(place)?.as_mut())
    }

    /// Where an entry is that was there at the start.
    fn place(&self, fingerprint: &[u8; 32]) -> Option<usize> {
        let home = self.home(fingerprint);
        let row = self.early.get(home..)?;
        // Behind a free place is only what belongs behind it.
        let is_before = |place: &Option<Early>| place.as_ref().is_some_and(|(other, _)| other < fingerprint);
        let mut reach = 1;
        while row.get(reach - 1).is_some_and(is_before) {
            reach *= 2;
        }
        let (near, far) = (reach / 2, reach.min(row.len()));
        let place = home + near + row.get(near..far)?.partition_point(is_before);
        let (found, _) = self.early.get(place)?.as_ref()?;
        (found == fingerprint).then_some(place)
    }

    /// Where a fingerprint belongs: as far into the room as it is among all that could be.
    fn home(&self, fingerprint: &[u8; 32]) -> usize {
        let first = fingerprint.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        ((u128::from(first) * u128::from(self.homes)) >> u64::BITS) as usize
    }
}

/// Entries that room is made for before they are seen: the number of a damaged store may be any.
const MOST_ROOM: usize = 1 << 24;

/// Room behind the last place, so that it need not grow for a few who belong there.
const NEIGHBOURS: usize = 64;

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
    fn an_entry_and_the_room_around_it_take_80_bytes_each() {
        assert_eq!((size_of::<Early>(), size_of::<Option<Early>>()), (80, 80));
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

    /// What makes a look short: entries lie evenly in a room half as large again as they need.
    #[test]
    fn each_entry_belongs_as_far_into_the_room_as_its_fingerprint_says() {
        for (count, homes) in [(0, 1), (1, 2), (1000, 1501)] {
            let roster = roster((0..count).map(entry).collect());
            assert_eq!(roster.homes, homes);
            assert!(roster.early.len() as u64 <= homes + NEIGHBOURS as u64);
        }
        let roster = roster((0..1000).map(entry).collect());
        let home = |first: u8| roster.home(&[first; 32]);
        assert_eq!((home(0), home(0x7f), home(0x80), home(0xff)), (0, 747, 753, 1500));
    }
}
