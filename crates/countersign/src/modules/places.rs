//! How many of something a link may have running at one time: programs, helpers of a login (W22).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::{Refusal, proto::error::Reason};

/// A number of places, shared by the logins of a link.
pub(super) struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
    option: &'static str,
}

impl Places {
    /// As many places as `option` says, all free.
    pub(super) fn new(option: &'static str, most: u64) -> Self {
        Self { taken: Arc::default(), most: usize::try_from(most).unwrap_or(usize::MAX), option }
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Reason::Busy`]: there is none. Nobody waits for one, for that would be a queue that strangers
    /// fill.
    pub(super) fn take(&self) -> Result<Place, Refusal> {
        let place = Place(Arc::clone(&self.taken));
        if self.taken.fetch_add(1, Ordering::SeqCst) >= self.most {
            let cause = format!("as many are running as {} allows", self.option);
            return Err(Refusal::new(Reason::Busy, cause));
        }
        Ok(place)
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
