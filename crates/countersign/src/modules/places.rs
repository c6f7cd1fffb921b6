//! How many of something a link may have running at one time: programs, helpers of a login (W22).
//!
//! Whose turn it is to take one, the driver decides, among all who wait for the link (S-81): such a link lets no more
//! checks run than it has places ([`Places::most`]).

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

use crate::{Refusal, proto::error::Reason};

/// A number of places, shared by the logins of a link.
pub(super) struct Places {
    taken: Arc<Taken>,
    most: usize,
    option: &'static str,
}

impl Places {
    /// As many places as `option` says, all free.
    pub(super) fn new(option: &'static str, most: u64) -> Self {
        Self { taken: Arc::default(), most: usize::try_from(most).unwrap_or(usize::MAX), option }
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Reason::Busy`]: there is none. Nobody waits here for longer than it takes to see the last of what has ended,
    /// for that would be a queue that strangers fill.
    pub(super) fn take(&self) -> Result<Place, Refusal> {
        let mut taken = self.taken.number.lock();
        if *taken >= self.most {
            let _ = self.taken.fewer.wait_while_for(&mut taken, |taken| *taken >= self.most, ENDING);
        }
        if *taken >= self.most {
            let cause = format!("as many are running as {} allows", self.option);
            return Err(Refusal::new(Reason::Busy, cause));
        }
        *taken += 1;
        Ok(Place(Arc::clone(&self.taken)))
    }
}

#[derive(Debug, Default)]
struct Taken {
    number: Mutex<usize>,
    fewer: Condvar,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Taken>);

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.number.lock() -= 1;
        self.0.fewer.notify_one();
    }
}

/// From the answer of a program to the moment when nothing is left of it.
const ENDING: Duration = Duration::from_millis(100);
