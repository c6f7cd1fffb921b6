//! The work of one connection, done in one task.
//!
//! The HTTP/2 library wants a task for each call and for each of its two connections. Run one by one by the
//! runtime they wake each other across threads several times a call, and that costs more than what they do. Here
//! [`super::talk`] runs them in turns inside the connection's own task: waking one from another is a push onto a
//! queue. Many connections still spread over all threads; one connection uses one at a time.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use hyper::rt::Executor;
use parking_lot::Mutex;

/// Takes work for the task of a connection.
#[derive(Clone, Default)]
pub(super) struct Crew(Arc<Board>);

impl Crew {
    /// Does `first` and whatever is given to the crew, until `first` is done. What is left then goes on by itself,
    /// so that the daemon hears in order how its calls ended. Dropped before that, all of it is dropped.
    pub(super) async fn run(self, first: impl Future<Output = ()> + Send + 'static) {
        let mut members = Members::new(Arc::clone(&self.0));
        drop(self);
        let first = members.add(Box::pin(first));
        poll_fn(|cx| members.poll_until(cx, |members| !members.has(first))).await;
        if !members.are_none() {
            tokio::spawn(async move { poll_fn(|cx| members.poll_until(cx, Members::are_none)).await });
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Crew {
    fn execute(&self, work: F) {
        self.0.add(Due::New(Box::pin(work)));
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").finish_non_exhaustive()
    }
}

/// What is to be done next.
#[derive(Default)]
struct Board(Mutex<Turn>);

#[derive(Default)]
struct Turn {
    due: VecDeque<Due>,
    /// The task's, while it sleeps: it looks at the queue again before it does.
    sleeper: Option<Waker>,
}

enum Due {
    New(Work),
    Again(usize),
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Board {
    fn add(&self, due: Due) {
        let sleeper = {
            let mut turn = self.0.lock();
            turn.due.push_back(due);
            turn.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// The next in turn; if there is none, the task sleeps until there is.
    fn next(&self, cx: &Context<'_>) -> Option<Due> {
        let mut turn = self.0.lock();
        let next = turn.due.pop_front();
        if next.is_none() {
            turn.sleeper = Some(cx.waker().clone());
        }
        next
    }
}

/// Work that was begun, each at a number of its own.
struct Members {
    board: Arc<Board>,
    working: Vec<Option<Member>>,
    free: Vec<usize>,
}

struct Member {
    work: Work,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Rings for a member's turn. A late ring finds nobody, or a newer member that has a look for nothing.
struct Bell {
    number: usize,
    is_due: AtomicBool,
    board: Arc<Board>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_due.swap(true, Ordering::AcqRel) {
            self.board.add(Due::Again(self.number));
        }
    }
}

impl Members {
    fn new(board: Arc<Board>) -> Self {
        Self { board, working: Vec::new(), free: Vec::new() }
    }

    fn has(&self, number: usize) -> bool {
        self.working.get(number).is_some_and(Option::is_some)
    }

    fn are_none(&self) -> bool {
        self.free.len() == self.working.len()
    }

    /// Gives work a number and its first turn.
    fn add(&mut self, work: Work) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.working.push(None);
            self.working.len() - 1
        });
        let bell = Arc::new(Bell { number, is_due: AtomicBool::new(false), board: Arc::clone(&self.board) });
        let waker = Waker::from(Arc::clone(&bell));
        if let Some(place) = self.working.get_mut(number) {
            *place = Some(Member { work, bell, waker });
        }
        self.turn(number);
        number
    }

    /// Gives turns until `is_done`, nobody is due, or other tasks are to have theirs.
    fn poll_until(&mut self, cx: &mut Context<'_>, is_done: impl Fn(&Self) -> bool) -> Poll<()> {
        for _ in 0..TURNS {
            if is_done(self) {
                return Poll::Ready(());
            }
            match self.board.next(cx) {
                Some(Due::New(work)) => {
                    self.add(work);
                }
                Some(Due::Again(number)) => self.turn(number),
                None => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, number: usize) {
        let Some(place) = self.working.get_mut(number) else { return };
        let Some(Member { work, bell, waker }) = place else { return };
        bell.is_due.store(false, Ordering::Release);
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(waker))));
        // Work that crashes ends alone, as a task of the runtime does (S-20).
        if !matches!(polled, Ok(Poll::Pending)) {
            *place = None;
            self.free.push(number);
        }
    }
}

impl Drop for Members {
    /// Work holds the board it is on: what nobody will begin would hold itself.
    fn drop(&mut self) {
        self.working.clear();
        let left = std::mem::take(&mut self.board.0.lock().due);
        drop(left);
    }
}

/// Turns before other tasks of the thread have theirs.
const TURNS: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::{sync::oneshot, time::Duration};

    use super::*;

    #[tokio::test]
    async fn work_that_waits_for_other_work_is_done_and_what_is_left_goes_on() {
        let (crew, done) = (Crew::default(), Arc::new(AtomicUsize::new(0)));
        let (told, hear) = oneshot::channel();
        let (late, later) = oneshot::channel::<()>();
        let (last, ended) = oneshot::channel();
        let (inner, count) = (crew.clone(), Arc::clone(&done));
        let first = async move {
            for _ in 0..1000 {
                let count = Arc::clone(&count);
                inner.execute(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
            inner.execute(async move {
                let _ = later.await;
                let _ = last.send(());
            });
            inner.execute(async move { told.send(()).unwrap() });
            let _ = hear.await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        crew.run(first).await;
        assert_eq!(done.load(Ordering::Relaxed), 1000);
        late.send(()).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn s_020_work_that_crashes_ends_alone() {
        let crew = Crew::default();
        let (told, hear) = oneshot::channel();
        let inner = crew.clone();
        let first = async move {
            inner.execute(async { panic!("on purpose") });
            inner.execute(async move { told.send(7).unwrap() });
            tokio::task::yield_now().await;
        };
        crew.run(first).await;
        assert_eq!(hear.await, Ok(7));
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_leaves_nothing_behind() {
        let (crew, kept) = (Crew::default(), Arc::new(()));
        let (inner, held) = (crew.clone(), Arc::clone(&kept));
        let running = tokio::spawn(crew.run(std::future::pending()));
        tokio::task::yield_now().await;
        running.abort();
        let own = inner.clone();
        inner.execute(async move {
            let _both = (own, held);
            std::future::pending::<()>().await;
        });
        assert!(running.await.is_err());
        drop(inner);
        assert_eq!(Arc::strong_count(&kept), 1);
    }
}
