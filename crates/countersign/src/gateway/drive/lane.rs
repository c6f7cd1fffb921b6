//! The checks of one link: so many at a time, and sources take turns.
//!
//! Called by the [`Acceptor`](super::Acceptor) for every check that may wait or is dear: a password hash, a
//! directory, PAM. Whoever asks for many of them waits behind everybody who asks for few.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout_at};

use super::patience::now;
use crate::{Refusal, proto::error::Reason, source::Source};

/// The way to one link, for all logins of its socket.
#[derive(Debug)]
pub(super) struct Lane {
    at_once: usize,
    state: Mutex<State>,
}

/// While somebody waits, all turns are taken.
#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    /// Who waits, by where they come from, first come first.
    queues: HashMap<Source, VecDeque<oneshot::Sender<Turn>>>,
    /// Sources with somebody waiting, the next one first.
    order: VecDeque<Source>,
}

/// A check of a link that may run, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Lane>);

impl Lane {
    /// With room for so many checks at a time, at least one.
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once: at_once.max(1), state: Mutex::default() }
    }

    /// Waits for a turn, for [`QUEUED`] at most and half of what is left until `deadline`, so that a login which
    /// gets none is told to come again in time.
    ///
    /// # Errors
    /// [`Reason::Busy`]: no turn came, or the queue is full and nobody in it asks for more than this source.
    pub(super) async fn turn(self: &Arc<Self>, source: Source, deadline: Instant) -> Result<Turn, Refusal> {
        let Some(turn) = self.queue(source)? else { return Ok(Turn(Arc::clone(self))) };
        let start = now();
        let patience = QUEUED.min(deadline.saturating_duration_since(start) / 2);
        match timeout_at((start + patience).into(), turn).await {
            Ok(turn) => turn.map_err(|_| busy("the place in the queue went to a source that asks for less")),
            Err(_) => Err(busy("no turn came in time")),
        }
    }

    /// A turn at once, which is `None`, or a place in the queue.
    fn queue(&self, source: Source) -> Result<Option<oneshot::Receiver<Turn>>, Refusal> {
        let mut state = self.state.lock();
        if state.running < self.at_once {
            state.running += 1;
            return Ok(None);
        }
        if state.waiting >= MOST_WAITING {
            state.forget_who_left();
        }
        if state.waiting >= MOST_WAITING {
            state.make_room_for(source)?;
        }
        let (sender, receiver) = oneshot::channel();
        state.add(source, sender);
        Ok(Some(receiver))
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.state.lock().running
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting
    }
}

impl State {
    fn add(&mut self, source: Source, waiter: oneshot::Sender<Turn>) {
        let queue = self.queues.entry(source).or_default();
        if queue.is_empty() {
            self.order.push_back(source);
        }
        queue.push_back(waiter);
        self.waiting += 1;
    }

    /// Who is next: the first one of the next source, which then is the last.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let source = self.order.pop_front()?;
        let queue = self.queues.get_mut(&source)?;
        let waiter = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.queues.remove(&source)),
            false => self.order.push_back(source),
        }
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }

    /// Sends away the last one of the source with most in the queue.
    fn make_room_for(&mut self, source: Source) -> Result<(), Refusal> {
        let own = self.queues.get(&source).map_or(0, VecDeque::len);
        let longest = self.queues.values_mut().max_by_key(|queue| queue.len());
        match longest.filter(|queue| queue.len() > own + 1) {
            Some(queue) => self.waiting -= usize::from(queue.pop_back().is_some()),
            None => return Err(busy("as many checks wait as may")),
        }
        Ok(())
    }

    fn forget_who_left(&mut self) {
        self.queues.retain(|_, queue| {
            queue.retain(|waiter| !waiter.is_closed());
            !queue.is_empty()
        });
        self.order.retain(|source| self.queues.contains_key(source));
        self.waiting = self.queues.values().map(VecDeque::len).sum();
    }
}

/// The next one is let in; whoever has left in the meantime drops the turn it gets, at most [`MOST_WAITING`] deep.
impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.state.lock();
            let next = state.next();
            state.running -= usize::from(next.is_none());
            next
        };
        if let Some(next) = next {
            drop(next.send(Self(Arc::clone(&self.0))));
        }
    }
}

fn busy(cause: &'static str) -> Refusal {
    Refusal::new(Reason::Busy, cause)
}

/// Logins that wait for one link: a login that waits costs what a connection costs.
const MOST_WAITING: usize = 256;

/// How long a login waits for its turn.
const QUEUED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Source = Source::User(1);
    const OTHER: Source = Source::User(2);

    fn later() -> Instant {
        now() + Duration::from_secs(60)
    }

    fn lane(at_once: usize) -> Arc<Lane> {
        Arc::new(Lane::new(at_once))
    }

    /// A login that keeps its turn until it is told to go on, and says whose it was.
    fn log_in(lane: &Arc<Lane>, source: Source) -> tokio::task::JoinHandle<Result<Turn, Refusal>> {
        let lane = Arc::clone(lane);
        tokio::spawn(async move { lane.turn(source, later()).await })
    }

    async fn waiting(lane: &Lane, count: usize) {
        while lane.waiting() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn s_081_sources_take_turns_and_a_turn_that_nobody_wants_goes_on() {
        let lane = lane(1);
        let first = lane.turn(ONE, later()).await.unwrap();
        let mut many = Vec::new();
        for count in 1..=10 {
            many.push(log_in(&lane, ONE));
            waiting(&lane, count).await;
        }
        let few = log_in(&lane, OTHER);
        waiting(&lane, 11).await;
        many.remove(0).abort();
        drop(first);
        let turn = few.await.unwrap().unwrap();
        assert!(many.iter().all(|login| !login.is_finished()), "the one before it had left");
        drop(turn);
        for login in many {
            drop(login.await.unwrap().unwrap());
        }
        assert_eq!((lane.running(), lane.waiting()), (0, 0));
        assert!(lane.state.lock().queues.is_empty() && lane.state.lock().order.is_empty());
    }

    #[tokio::test]
    async fn s_081_a_full_queue_sends_away_who_asks_for_most() {
        let lane = lane(1);
        let first = lane.turn(ONE, later()).await.unwrap();
        let mut many = Vec::new();
        for count in 1..=MOST_WAITING {
            many.push(log_in(&lane, ONE));
            waiting(&lane, count).await;
        }
        assert_eq!(log_in(&lane, ONE).await.unwrap().unwrap_err().reason, Reason::Busy);
        let few = log_in(&lane, OTHER);
        let last = many.pop().unwrap().await.unwrap();
        assert_eq!(last.unwrap_err().reason, Reason::Busy);
        // Those who left hold nobody's place.
        many.iter().for_each(tokio::task::JoinHandle::abort);
        for login in many {
            assert!(login.await.is_err());
        }
        let late = log_in(&lane, ONE);
        waiting(&lane, 2).await;
        drop(first);
        drop(few.await.unwrap().unwrap());
        drop(late.await.unwrap().unwrap());
        assert_eq!(lane.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn s_081_who_gets_no_turn_is_told_to_come_again_before_its_deadline() {
        let lane = lane(1);
        let _first = lane.turn(ONE, later()).await.unwrap();
        let start = now();
        let refused = lane.turn(OTHER, later()).await.unwrap_err();
        assert_eq!((refused.reason, now().duration_since(start).as_secs()), (Reason::Busy, 10));
        let deadline = now() + Duration::from_secs(4);
        assert_eq!(lane.turn(OTHER, deadline).await.unwrap_err().reason, Reason::Busy);
        assert!(now() < deadline);
    }
}
