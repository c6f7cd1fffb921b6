//! The clients that are not let in yet: bounded, and nobody can hold the places (S-03, S-04).
//!
//! One [`Crowd`] for all doors of a gateway. A newcomer always gets a place; where none is free, one
//! of those inside gives its place up: one of its own source, if that has as many as a source may have, one at its
//! own door, if that is full, and otherwise anyone, chosen at random. Whoever fills the gateway with connections
//! that say nothing, or with logins that a slow module is asked about, therefore pushes out mostly
//! its own, and a client that knows what to say is through before its turn comes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{Peer, config::Listed, source::Source, sys::descriptors::most_descriptors};

/// Who is inside and not decided upon yet.
#[derive(Debug)]
pub struct Crowd {
    seats: Mutex<Seats>,
}

impl Crowd {
    /// A crowd of at most `most`, at least one; and of half of the descriptors that this process may
    /// open, so that sessions and their backends find some (S-05).
    pub fn new(most: usize) -> Self {
        let most = affordable(most);
        let bounds = Bounds { most, most_per_source: most, exempt: Listed::default() };
        Self { seats: Mutex::new(Seats { bounds, ..Seats::default() }) }
    }

    /// The same with at most so many of one source, except for those that are `exempt`.
    #[must_use]
    pub fn per_source(self, most: usize, exempt: Listed) -> Self {
        let all = self.seats().bounds.most;
        self.amend(all, most, exempt);
        self
    }

    /// Other numbers from now on. Whoever is inside stays until newcomers need the place.
    pub(super) fn amend(&self, most: usize, most_per_source: usize, exempt: Listed) {
        let most = affordable(most);
        self.seats().bounds = Bounds { most, most_per_source: most_per_source.clamp(1, most), exempt };
    }

    /// A place for a newcomer, until it is dropped. `quota` is that of its door, if it has one.
    pub fn enter(self: &Arc<Self>, peer: &Peer, quota: Option<Quota>) -> Place {
        let mut seats = self.seats();
        let Bounds { most, most_per_source, exempt } = &seats.bounds;
        let source = Some(Source::of(peer)).filter(|_| !peer.hop && !exempt.holds(peer));
        let of_source = source.filter(|_| most_per_source < most);
        let mut displaced = Vec::new();
        let groups = [
            of_source.map(|source| (Group::Source(source), *most_per_source)),
            quota.map(|quota| (Group::Door(quota.door), quota.most)),
        ];
        for (group, most) in groups.into_iter().flatten() {
            if seats.groups.get(&group).is_some_and(|inside| inside.len() >= most) {
                displaced.extend(seats.give_up_one_of(Some(group)));
            }
        }
        if seats.bounds.drops(seats.all.len()) {
            displaced.extend(seats.give_up_one_of(None));
        }
        let groups = groups.map(|group| group.map(|(group, _)| group));
        let seat = Arc::new(Seat {
            index: AtomicUsize::new(seats.all.len()),
            groups,
            given_up: Notify::new(),
            left: Notify::new(),
        });
        seats.add(&seat);
        Place { crowd: Arc::clone(self), quota, seat, displaced }
    }

    /// How many are inside now, of how many at most, and how many gave their places up so far.
    pub fn count(&self) -> (usize, usize, u64) {
        let seats = self.seats();
        (seats.all.len(), seats.bounds.most, seats.given_up)
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many may be inside.
#[derive(Debug, Default)]
struct Bounds {
    most: usize,
    most_per_source: usize,
    exempt: Listed,
}

impl Bounds {
    /// Whether one of so many inside goes for the newcomer: never while half of the places are free, always when
    /// none is, and in between the more probably the fewer are (S-04, as `MaxStartups` of OpenSSH).
    fn drops(&self, inside: usize) -> bool {
        let half = self.most / 2;
        inside > half && at_random(self.most - half) < inside - half
    }
}

/// How many clients may be logging in at one door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    door: usize,
    most: usize,
}

impl Quota {
    /// At most `most`, at least one, at the door of that number.
    pub fn new(door: usize, most: usize) -> Self {
        Self { door, most: most.max(1) }
    }
}

/// A place in a [`Crowd`].
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    quota: Option<Quota>,
    seat: Arc<Seat>,
    displaced: Vec<Arc<Seat>>,
}

impl Place {
    /// Ends when they have left who gave their places up for this one: a door accepts nobody before that, so that
    /// there are no more connections than places. Whoever takes its time to leave keeps the door no longer than
    /// [`LEAVING`].
    pub(super) fn vacated(&mut self) -> impl Future<Output = ()> + use<> {
        let displaced = std::mem::take(&mut self.displaced);
        let left = async move {
            for seat in displaced {
                seat.left.notified().await;
            }
        };
        async { _ = timeout(LEAVING, left).await }
    }

    /// A place for the client that a hop announces, in exchange for the one that the hop had for it (S-83).
    #[must_use]
    pub fn pass_to(self, client: &Peer) -> Self {
        let (crowd, quota) = (Arc::clone(&self.crowd), self.quota);
        drop(self);
        crowd.enter(client, quota)
    }

    /// Ends when the place was given to somebody else.
    pub async fn given_up(&self) {
        self.seat.given_up.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.seats().remove(&self.seat);
        self.seat.left.notify_one();
    }
}

#[derive(Debug)]
struct Seat {
    /// Where it stands among all seats; changed under their lock only.
    index: AtomicUsize,
    groups: [Option<Group>; 2],
    given_up: Notify,
    /// Its place is dropped, and with it all that it had.
    left: Notify,
}

/// What a seat is counted under, beside the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group {
    Source(Source),
    Door(usize),
}

/// Every seat, and once more under each of its groups.
#[derive(Debug, Default)]
struct Seats {
    bounds: Bounds,
    all: Vec<Arc<Seat>>,
    groups: HashMap<Group, Vec<Arc<Seat>>>,
    given_up: u64,
}

impl Seats {
    fn add(&mut self, seat: &Arc<Seat>) {
        self.all.push(Arc::clone(seat));
        for group in seat.groups.iter().flatten() {
            self.groups.entry(*group).or_default().push(Arc::clone(seat));
        }
    }

    /// One at random has to go: of a group, or of all.
    fn give_up_one_of(&mut self, group: Option<Group>) -> Option<Arc<Seat>> {
        let among = group.map_or(Some(&self.all), |group| self.groups.get(&group));
        let seat = among.and_then(|among| among.get(at_random(among.len()))).cloned()?;
        self.remove(&seat);
        self.given_up += 1;
        seat.given_up.notify_one();
        Some(seat)
    }

    /// Takes `seat` out, if it is still there, and tells the one that moves into its index.
    fn remove(&mut self, seat: &Arc<Seat>) {
        let index = seat.index.load(Ordering::Relaxed);
        if !self.all.get(index).is_some_and(|there| Arc::ptr_eq(there, seat)) {
            return;
        }
        self.all.swap_remove(index);
        if let Some(moved) = self.all.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
        for group in seat.groups.iter().flatten() {
            let Some(inside) = self.groups.get_mut(group) else { continue };
            if let Some(index) = inside.iter().position(|there| Arc::ptr_eq(there, seat)) {
                inside.swap_remove(index);
            }
            if inside.is_empty() {
                self.groups.remove(group);
            }
        }
    }
}

/// How long a door waits for whoever gave its place up. It takes microseconds but where a client of calls is told.
const LEAVING: Duration = Duration::from_millis(50);

/// At most half of the descriptors that this process may open, and at least one place.
fn affordable(most: usize) -> usize {
    let half = most_descriptors().map_or(usize::MAX, |most| most / 2);
    most.min(half).max(1)
}

/// A number below `most` that the clients cannot foresee.
fn at_random(most: usize) -> usize {
    let mut bytes = [0; 8];
    super::drive::random(&mut bytes);
    let most = u64::try_from(most).unwrap_or(u64::MAX).max(1);
    usize::try_from(u64::from_ne_bytes(bytes) % most).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;
    use crate::proto::peer::Credentials;

    fn gone(places: &[Place]) -> HashSet<usize> {
        let given_up =
            |place: &Place| pin!(place.given_up()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let gone = places.iter().enumerate().filter(|(_, place)| given_up(place));
        gone.map(|(index, _)| index).collect()
    }

    fn at(address: &str) -> Peer {
        Peer::tcp(format!("{address}:5").parse().unwrap(), "192.0.2.1:10000".parse().unwrap())
    }

    fn number(number: usize) -> Peer {
        at(&format!("198.51.{}.{}", number / 256, number % 256))
    }

    #[test]
    fn s_004_a_newcomer_gets_the_place_of_one_chosen_at_random() {
        let mut chosen = HashSet::new();
        for _ in 0..100 {
            let crowd = Arc::new(Crowd::new(8));
            let mut places: Vec<Place> = (0..5).map(|of| crowd.enter(&number(of), None)).collect();
            assert!(gone(&places).is_empty(), "while half of the places are free, nobody has to go");
            while crowd.count().0 < 8 {
                places.push(crowd.enter(&number(places.len()), None));
            }
            gone(&places);
            let newcomer = crowd.enter(&number(1000), None);
            assert!(gone(std::slice::from_ref(&newcomer)).is_empty(), "never the newcomer itself");
            let left = gone(&places);
            assert_eq!((left.len(), crowd.count().0), (1, 8));
            chosen.extend(left);
        }
        assert!(chosen.len() > 4, "{chosen:?}");
    }

    #[test]
    fn s_004_places_are_given_up_at_random_from_half_of_them_on() {
        let crowd = Arc::new(Crowd::new(100));
        let places: Vec<Place> = (0..100).map(|of| crowd.enter(&number(of), None)).collect();
        let (inside, most, given_up) = crowd.count();
        assert!((65..97).contains(&inside) && most == 100, "{inside}");
        assert_eq!(given_up, 100 - inside as u64);
        drop(places);
        assert_eq!(crowd.count().0, 0);
        assert!(crowd.seats().groups.is_empty());
    }

    #[tokio::test]
    async fn s_004_a_newcomer_has_its_place_when_whoever_had_it_has_left() {
        let crowd = Arc::new(Crowd::new(1));
        let mut first = crowd.enter(&at("192.0.2.7"), None);
        let start = std::time::Instant::now();
        first.vacated().await;
        let mut second = crowd.enter(&at("192.0.2.8"), None);
        let mut vacated = pin!(second.vacated());
        assert!(vacated.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(gone(std::slice::from_ref(&first)).len(), 1);
        drop(first);
        vacated.await;
        let mut third = crowd.enter(&at("192.0.2.9"), None);
        third.vacated().await;
        assert!(start.elapsed() >= LEAVING, "one that does not leave is not waited for any longer");
        drop(second);
        third.vacated().await;
    }

    #[test]
    fn s_004_a_place_that_is_left_is_free() {
        let crowd = Arc::new(Crowd::new(2));
        let first = crowd.enter(&at("192.0.2.7"), None);
        for _ in 0..10 {
            drop(crowd.enter(&at("192.0.2.7"), None));
        }
        assert!(gone(std::slice::from_ref(&first)).is_empty());
        let others: Vec<Place> = (0..50).map(|_| crowd.enter(&at("192.0.2.7"), None)).collect();
        assert_eq!(gone(&others).len() + gone(&[first]).len(), 49);
    }

    #[test]
    fn s_003_s_004_a_source_and_a_uid_have_their_share_and_push_out_their_own_alone() {
        let crowd = Arc::new(Crowd::new(1000).per_source(20, "203.0.113.0/24".parse().unwrap()));
        let neighbours: Vec<Place> = (0..100).map(|of| crowd.enter(&number(of), None)).collect();
        let user = |uid| Peer::unix(Some(Credentials::new(uid, uid)));
        // Of these two hundred networks of 64 bits every second one is another: it is one source.
        let flood = |peer: &dyn Fn(usize) -> Peer| {
            let before = crowd.count().0;
            let places: Vec<Place> = (0..200).map(|of| crowd.enter(&peer(of), None)).collect();
            assert_eq!(gone(&places).len(), 180);
            assert_eq!(crowd.count().0, before + 20);
        };
        flood(&|_| at("192.0.2.7"));
        flood(&|of| if of % 2 == 0 { at("192.0.2.8") } else { at("[::ffff:192.0.2.8]") });
        flood(&|of| at(&format!("[2001:db8::{of:x}]")));
        flood(&|_| user(1000));
        assert!(gone(&neighbours).is_empty(), "nobody else has to go");
        let proxy: Vec<Place> = (0..200).map(|_| crowd.enter(&at("203.0.113.7"), None)).collect();
        assert!(gone(&proxy).is_empty(), "many come through one that is listed");
    }

    #[test]
    fn s_083_a_hop_has_any_number_of_places_and_each_client_that_it_announces_its_own_share() {
        let crowd = Arc::new(Crowd::new(1000).per_source(20, Listed::default()));
        let mut hop = at("192.0.2.1");
        hop.hop = true;
        let mut places: Vec<Place> =
            (0..200).map(|of| crowd.enter(&hop, (of < 100).then_some(Quota::new(0, 90)))).collect();
        assert_eq!(gone(&places).len(), 10, "those beyond the quota of their door");
        places.drain(..100);
        let announced: Vec<Place> =
            places.into_iter().map(|place| place.pass_to(&at("203.0.113.7"))).collect();
        assert_eq!((gone(&announced).len(), crowd.count().0), (80, 20));
        let place = crowd.enter(&hop, Some(Quota::new(1, 1))).pass_to(&at("203.0.113.8"));
        let _next = crowd.enter(&hop, Some(Quota::new(1, 1)));
        assert_eq!(gone(&[place]).len(), 1, "the quota is the door's whoever is announced");
    }

    #[test]
    fn s_004_a_door_has_its_own_number_and_leaves_the_others_their_places() {
        let crowd = Arc::new(Crowd::new(1000));
        let here: Vec<Place> = (0..50).map(|of| crowd.enter(&number(of), Some(Quota::new(0, 30)))).collect();
        let there: Vec<Place> = (0..50).map(|of| crowd.enter(&number(of), None)).collect();
        assert_eq!((gone(&here).len(), gone(&there).len(), crowd.count().0), (20, 0, 80));
    }
}
