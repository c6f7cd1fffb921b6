//! The clients that are not let in yet: bounded, and nobody can hold the places (S-03, S-04).
//!
//! One [`Crowd`] for all doors of a gateway. A newcomer always gets a place; where none is free, one
//! of those inside, chosen at random, gives its place up. Whoever fills the gateway with connections
//! that say nothing, or with logins that a slow module is asked about, therefore pushes out mostly
//! its own, and a client that knows what to say is through before its turn comes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::sys::descriptors::most_descriptors;

/// Who is inside and not decided upon yet.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    seats: Mutex<Vec<Arc<Seat>>>,
}

impl Crowd {
    /// A crowd of at most `most`, at least one; and of half of the descriptors that this process may
    /// open, so that sessions and their backends find some (S-05).
    pub fn new(most: usize) -> Self {
        let half = most_descriptors().map_or(usize::MAX, |most| most / 2);
        Self { most: most.min(half).max(1), seats: Mutex::default() }
    }

    /// A place for a newcomer, until it is dropped.
    pub fn enter(self: &Arc<Self>) -> Place {
        let mut seats = self.seats();
        if seats.len() >= self.most {
            let chosen = at_random(seats.len());
            if let Some(seat) = seats.get(chosen).cloned() {
                remove(&mut seats, &seat);
                seat.given_up.notify_one();
            }
        }
        let seat = Arc::new(Seat { index: AtomicUsize::new(seats.len()), given_up: Notify::new() });
        seats.push(Arc::clone(&seat));
        Place { crowd: Arc::clone(self), seat }
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a [`Crowd`].
#[derive(Debug)]
pub struct Place {
    crowd: Arc<Crowd>,
    seat: Arc<Seat>,
}

impl Place {
    /// Ends when the place was given to somebody else.
    pub async fn given_up(&self) {
        self.seat.given_up.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove(&mut self.crowd.seats(), &self.seat);
    }
}

#[derive(Debug)]
struct Seat {
    /// Where it stands among the seats; changed under their lock only.
    index: AtomicUsize,
    given_up: Notify,
}

/// Takes `seat` out, if it is still there, and tells the one that moves into its index.
fn remove(seats: &mut Vec<Arc<Seat>>, seat: &Arc<Seat>) {
    let index = seat.index.load(Ordering::Relaxed);
    if seats.get(index).is_some_and(|there| Arc::ptr_eq(there, seat)) {
        seats.swap_remove(index);
        if let Some(moved) = seats.get(index) {
            moved.index.store(index, Ordering::Relaxed);
        }
    }
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

    fn gone(places: &[Place]) -> HashSet<usize> {
        let given_up =
            |place: &Place| pin!(place.given_up()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let gone = places.iter().enumerate().filter(|(_, place)| given_up(place));
        gone.map(|(index, _)| index).collect()
    }

    #[test]
    fn s_004_a_newcomer_gets_the_place_of_one_chosen_at_random() {
        let crowd = Arc::new(Crowd::new(8));
        let mut chosen = HashSet::new();
        for _ in 0..100 {
            let places: Vec<Place> = (0..8).map(|_| crowd.enter()).collect();
            assert!(gone(&places).is_empty());
            let newcomer = crowd.enter();
            assert!(gone(std::slice::from_ref(&newcomer)).is_empty(), "never the newcomer itself");
            let left = gone(&places);
            assert_eq!((left.len(), crowd.seats().len()), (1, 8));
            chosen.extend(left);
        }
        assert!(chosen.len() > 4, "{chosen:?}");
        assert!(crowd.seats().is_empty());
    }

    #[test]
    fn s_004_a_place_that_is_left_is_free() {
        let crowd = Arc::new(Crowd::new(2));
        let first = crowd.enter();
        for _ in 0..10 {
            drop(crowd.enter());
        }
        assert!(gone(std::slice::from_ref(&first)).is_empty());
        let others: Vec<Place> = (0..50).map(|_| crowd.enter()).collect();
        assert_eq!(gone(&others).len() + gone(&[first]).len(), 49);
    }
}
