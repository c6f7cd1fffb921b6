//! Tests of the ledger: its rules one by one with a clock that is wound, and all of them against a plain model.

use std::mem::size_of;

use proptest::prelude::*;

use super::*;

const MIN: Duration = Duration::from_secs(15);
const MAX: Duration = Duration::from_secs(600);

fn ledger() -> Ledger {
    Ledger::new(MIN, MAX)
}

fn at(source: &str, account: u64) -> Who {
    Who { source: source.parse().unwrap(), account: Account(account) }
}

fn seconds(wait: Option<Duration>) -> Option<u64> {
    wait.map(|wait| wait.as_secs())
}

fn fail(ledger: &mut Ledger, who: &Who, times: usize, now: Instant) {
    for _ in 0..times {
        assert!(ledger.fail(who, Fault::Failure, None, now));
    }
}

#[test]
fn s_021_penalties_add_up_and_decay_and_are_enforced_from_15_s_to_10_min() {
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let alice = at("192.0.2.7", 1);
    let weights = [Fault::Failure, Fault::Malformed, Fault::Abandoned, Fault::Late]
        .map(|fault| fault.weight().as_millis());
    assert_eq!(weights, [5000, 2000, 2500, 10_000], "a challenge that is abandoned counts half");

    let mut book = ledger();
    fail(&mut book, &alice, 2, start);
    assert_eq!(book.wait(&alice, start), None, "s_025: two mistakes keep nobody out");
    fail(&mut book, &alice, 1, later(1));
    assert_eq!(book.wait(&alice, later(1)), None, "a second was taken off");
    book.fail(&alice, Fault::Malformed, None, later(1));
    assert_eq!(seconds(book.wait(&alice, later(1))), Some(16));
    assert_eq!(seconds(book.wait(&alice, later(16))), Some(1), "until nothing is left");
    assert_eq!(book.wait(&alice, later(17)), None);
    fail(&mut book, &alice, 2, later(17));
    assert_eq!(book.wait(&alice, later(17)), None, "it begins anew");
    fail(&mut book, &alice, 1000, later(17));
    assert_eq!(seconds(book.wait(&alice, later(17))), Some(600));
}

#[test]
fn s_022_neighbours_at_one_address_are_apart_until_it_fails_at_many_names() {
    let (mut book, now) = (ledger(), Instant::now());
    fail(&mut book, &at("192.0.2.7", 1), 3, now);
    assert!(book.wait(&at("192.0.2.7", 1), now).is_some());
    assert_eq!(book.wait(&at("192.0.2.7", 2), now), None, "another name");
    assert_eq!(book.wait(&at("192.0.2.8", 1), now), None, "the same name from elsewhere");
    // A name each time: what is left after the first three is 15 s.
    let judged = (10..1000).filter(|name| {
        let who = at("192.0.2.7", *name);
        book.wait(&who, now).is_none() && book.fail(&who, Fault::Failure, None, now)
    });
    assert_eq!(judged.count(), 9, "s_021: the source as a whole from 60 s on");
    assert_eq!(book.wait(&at("192.0.2.8", 1), now), None);
    assert_eq!(book.wait(&at("certificate:0123456789abcdef", 1), now), None, "the lane of a known key");
}

#[test]
fn s_021_one_wrong_secret_that_is_repeated_counts_once() {
    let (mut book, now) = (ledger(), Instant::now());
    let alice = at("192.0.2.7", 1);
    let counted = (0..100).filter(|_| book.fail(&alice, Fault::Failure, Some(7), now)).count();
    assert_eq!((counted, book.wait(&alice, now)), (1, None));
    assert!(
        book.fail(&at("192.0.2.7", 2), Fault::Failure, Some(7), now),
        "at another name it is another guess"
    );
    assert!(book.fail(&alice, Fault::Failure, Some(8), now));
    assert!(book.fail(&alice, Fault::Failure, Some(7), now), "guesses in turn all count");
}

#[test]
fn s_023_an_account_that_failed_a_hundred_times_in_a_row_is_judged_seldom_and_never_locked() {
    let (mut book, start) = (ledger(), Instant::now());
    let later = |seconds| start + Duration::from_secs(seconds);
    for source in 0..100 {
        let stranger = at(&format!("198.51.100.{source}"), 1);
        assert!(book.may_judge(&stranger, start));
        book.fail_in_row(&stranger, start);
    }
    let home = at("192.0.2.7", 1);
    assert!(book.may_judge(&home, start), "its owner is judged at once from elsewhere");
    assert!(!book.may_judge(&home, later(29)));
    assert!(book.may_judge(&at("192.0.2.7", 2), later(29)), "other accounts are not slowed");
    assert!(book.may_judge(&home, later(30)));
    assert!(!book.may_judge(&at("198.51.100.99", 1), later(29)));
    book.succeed(&home, later(31));
    for _ in 0..10 {
        assert!(book.may_judge(&home, later(31)), "a success ends the row");
    }
}

#[test]
fn s_024_a_login_of_ones_own_takes_off_what_was_failed_with_that_name_alone() {
    let (mut book, now) = (ledger(), Instant::now());
    let (alice, mallory) = (at("192.0.2.7", 1), at("192.0.2.7", 2));
    let left = |book: &Ledger| book.list(now).first().map_or(0, |penalised| penalised.left.as_secs());
    fail(&mut book, &alice, 5, now);
    book.succeed(&mallory, now);
    assert_eq!((left(&book), seconds(book.wait(&alice, now))), (25, Some(25)));
    fail(&mut book, &mallory, 2, now);
    book.succeed(&mallory, now);
    assert_eq!(left(&book), 25);
    book.succeed(&alice, now);
    assert_eq!((left(&book), book.wait(&alice, now)), (0, None));
}

#[test]
fn s_024_at_most_65536_sources_of_a_family_and_16_mib_and_the_smallest_leave_first() {
    /// Of a map of so many places, each with a byte of its own.
    const fn table<K, V>() -> usize {
        (size_of::<(K, V)>() + 1) * 65_536
    }
    let bytes = 3 * table::<Source, Penalty>() + table::<Who, Named>() + table::<Account, u32>();
    assert!(bytes <= 16 * 1024 * 1024, "{bytes}");

    let (mut book, now) = (ledger(), Instant::now());
    let worst = at("192.0.2.7", 1);
    fail(&mut book, &worst, 100, now);
    let six = at("2001:db8::1", 1);
    fail(&mut book, &six, 3, now);
    for number in 0..150_000_u32 {
        let source = Source::V4(number.to_be_bytes());
        let who = Who { source, account: Account(number.into()) };
        book.fail(&who, Fault::Malformed, None, now);
        book.fail_in_row(&who, now);
    }
    let maps = [book.v4.len(), book.v6.len(), book.names.len(), book.rows.len()];
    assert!(maps.iter().all(|len| *len <= MOST) && MOST <= 65_536, "{maps:?}");
    assert!(
        [book.v4.capacity(), book.names.capacity(), book.rows.capacity()].iter().all(|room| *room <= MOST)
    );
    assert_eq!(seconds(book.wait(&worst, now)), Some(500));
    assert_eq!(seconds(book.wait(&six, now)), Some(15), "a flood of one family leaves the other alone");
}

#[test]
fn the_owner_sees_the_worst_first_and_forgets_one_or_all() {
    let (mut book, now) = (ledger(), Instant::now());
    fail(&mut book, &at("192.0.2.7", 1), 3, now);
    fail(&mut book, &at("2001:db8::1", 1), 2, now);
    for name in 0..12 {
        fail(&mut book, &at("uid:1000", name), 1, now);
    }
    let shown = |book: &Ledger| {
        let list = book.list(now).into_iter();
        list.map(|p| (p.source.to_string(), p.left.as_secs(), p.enforced, p.names)).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&book),
        [
            ("uid:1000".to_owned(), 60, true, 0),
            ("192.0.2.7".to_owned(), 15, false, 1),
            ("2001:db8::/64".to_owned(), 10, false, 0)
        ]
    );
    assert!(book.list(now + Duration::from_secs(61)).is_empty());
    assert!(book.clear(&"uid:1000".parse().unwrap()) && !book.clear(&"uid:1000".parse().unwrap()));
    assert_eq!(shown(&book).len(), 2);
    assert_eq!(book.wait(&at("uid:1000", 1), now), None);
    book.clear_all();
    assert!(shown(&book).is_empty());
    assert_eq!(book.wait(&at("192.0.2.7", 1), now), None);
}

#[test]
fn s_027_what_outlives_the_process_goes_on_fading_and_is_bounded() {
    let (mut book, now) = (ledger(), Instant::now());
    let later = |seconds| now + Duration::from_secs(seconds);
    let (worst, slow) = (at("192.0.2.7", 1), at("2001:db8::1", 2));
    fail(&mut book, &worst, 100, now);
    fail(&mut book, &slow, 1, now);
    for _ in 0..ROW {
        book.fail_in_row(&slow, now);
    }
    for number in 0..20_000_u32 {
        let source = Source::V4(number.to_be_bytes());
        let who = Who { source, account: Account(u64::from(number) + 10) };
        book.fail(&who, Fault::Malformed, None, now);
        book.fail_in_row(&who, now);
    }
    let kept = book.kept(now);
    assert_eq!(
        (kept.sources.len(), kept.names.len(), kept.rows.len()),
        (MOST_KEPT + 1, MOST_KEPT, MOST_KEPT)
    );

    let start = later(1000);
    let mut anew = ledger().with(kept.clone(), Duration::from_secs(30), start);
    assert_eq!(seconds(anew.wait(&worst, start)), Some(470), "30 s were without a gateway");
    assert_eq!(seconds(anew.wait(&worst, start + Duration::from_secs(469))), Some(1));
    assert_eq!(anew.list(start).len(), 1, "what has ended is not taken over");
    assert!(anew.may_judge(&slow, start) && !anew.may_judge(&slow, start), "s_023: the row goes on");

    // A clock that was set back, or a file that says more than we ever write.
    let long = Left { left: Duration::MAX, enforced: true };
    let forged = Kept { sources: vec![(worst.source, long)], ..Kept::default() };
    let anew = ledger().with(forged, Duration::ZERO, start);
    assert_eq!(anew.wait(&worst, start), Some(MAX));
    assert!(ledger().with(kept, Duration::from_secs(601), start).list(start).is_empty());
}

/// What can happen.
#[derive(Clone, Debug)]
enum Event {
    /// So many milliseconds pass.
    Wait(u64),
    Fail(Who, Fault, Option<u64>),
    Succeed(Who),
    Clear(Source),
}

fn event() -> impl Strategy<Value = Event> {
    let who = (0..3_u8, 0..3_u64).prop_map(|(source, account)| Who {
        source: Source::V4([192, 0, 2, source]),
        account: Account(account),
    });
    let fault =
        prop_oneof![Just(Fault::Failure), Just(Fault::Malformed), Just(Fault::Abandoned), Just(Fault::Late)];
    prop_oneof![
        2 => (0..20_000_u64).prop_map(Event::Wait),
        6 => (who.clone(), fault, proptest::option::of(0..3_u64)).prop_map(|(who, fault, wrong)| Event::Fail(who, fault, wrong)),
        1 => who.clone().prop_map(Event::Succeed),
        1 => who.prop_map(|who| Event::Clear(who.source)),
    ]
}

/// The same rules in the plainest words: milliseconds left, taken off one by one as time passes.
#[derive(Default)]
struct Model {
    names: HashMap<Who, (u64, bool)>,
    totals: HashMap<Source, (u64, bool)>,
    wrong: HashMap<Who, u64>,
}

impl Model {
    fn pass(&mut self, milliseconds: u64) {
        for (left, enforced) in self.names.values_mut().chain(self.totals.values_mut()) {
            *left = left.saturating_sub(milliseconds);
            *enforced &= *left > 0;
        }
    }

    fn fail(&mut self, who: Who, fault: Fault, wrong: Option<u64>) {
        if let Some(wrong) = wrong
            && self.wrong.insert(who, wrong) == Some(wrong)
        {
            return;
        }
        let weight = fault.weight().as_millis() as u64;
        let add = |(left, enforced): &mut (u64, bool), from: u64| {
            *left = (*left + weight).min(600_000);
            *enforced |= *left >= from;
        };
        add(self.names.entry(who).or_default(), 15_000);
        add(self.totals.entry(who.source).or_default(), 60_000);
    }

    fn succeed(&mut self, who: Who) {
        self.wrong.remove(&who);
        let (own, _) = self.names.remove(&who).unwrap_or_default();
        let (left, enforced) = self.totals.entry(who.source).or_default();
        *left = left.saturating_sub(own);
        *enforced &= *left > 0;
    }

    fn clear(&mut self, source: Source) {
        self.totals.remove(&source);
        self.names.retain(|who, _| who.source != source);
        self.wrong.retain(|who, _| who.source != source);
    }

    fn wait(&self, who: &Who) -> Option<u64> {
        let both = [self.names.get(who), self.totals.get(&who.source)];
        both.into_iter().flatten().filter(|(_, enforced)| *enforced).map(|(left, _)| *left).max()
    }
}

proptest! {
    #[test]
    fn s_101_the_ledger_and_a_plain_model_agree_whatever_happens(events in prop::collection::vec(event(), 0..120)) {
        let (mut book, mut model, mut now) = (ledger(), Model::default(), Instant::now());
        for event in events {
            match event {
                Event::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    model.pass(milliseconds);
                }
                Event::Fail(who, fault, wrong) => {
                    // Whoever has to wait is not judged, and nothing is added.
                    if book.wait(&who, now).is_none() {
                        book.fail(&who, fault, wrong, now);
                        model.fail(who, fault, wrong);
                    }
                }
                Event::Succeed(who) => {
                    book.succeed(&who, now);
                    model.succeed(who);
                }
                Event::Clear(source) => {
                    book.clear(&source);
                    model.clear(source);
                }
            }
            for source in 0..3 {
                for account in 0..3 {
                    let who = Who { source: Source::V4([192, 0, 2, source]), account: Account(account) };
                    let wait = book.wait(&who, now).map(|wait| wait.as_millis() as u64);
                    prop_assert_eq!(wait, model.wait(&who));
                }
            }
        }
    }
}
