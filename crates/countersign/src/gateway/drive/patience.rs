//! How long a connection is waited for: one timer for a whole login.
//!
//! A timer for each wait would be made and thrown away several times a login, and each time wake the
//! thread that keeps the time.

use std::{future::Future, pin::Pin, time::Instant};

use tokio::time::{Sleep, sleep_until};

/// The time by which a login's deadlines and its timers both go: a test may wind it.
pub(in crate::gateway) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The moment at which a connection's time is up, which may be moved.
pub(super) struct Patience {
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    /// Waits until `deadline` and no longer.
    pub(super) fn until(deadline: Instant) -> Self {
        Self { until: deadline, timer: Box::pin(sleep_until(deadline.into())) }
    }

    /// Moves the moment.
    pub(super) fn extend(&mut self, deadline: Instant) {
        // A later moment costs nothing now: the timer is set again when it goes off too early.
        if deadline < self.until {
            self.timer.as_mut().reset(deadline.into());
        }
        self.until = deadline;
    }

    /// What comes of `future`; `None` if the time is up first. Traffic does not move the moment
    /// (S-01): a peer that always has a byte ready is cut off like a silent one.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.up() => None,
            output = future => Some(output),
        }
    }

    async fn up(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.timer.deadline() >= self.until.into() {
                return;
            }
            self.timer.as_mut().reset(self.until.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, time::Duration};

    use super::*;

    #[tokio::test]
    async fn s_001_the_moment_comes_whatever_is_ready_and_may_be_moved() {
        let past = Instant::now() - Duration::from_millis(50);
        let mut patience = Patience::until(past);
        assert_eq!(patience.wait(ready(1)).await, None);
        patience.extend(Instant::now() + Duration::from_secs(60));
        assert_eq!(patience.wait(ready(1)).await, Some(1));
        patience.extend(Instant::now() + Duration::from_millis(20));
        assert_eq!(patience.wait(std::future::pending::<()>()).await, None);
    }
}
