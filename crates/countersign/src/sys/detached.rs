//! Calls of libraries that cannot be interrupted, each with a time after which nobody waits for it.
//!
//! Called by the modules and handlers of Kerberos: its library asks one silent KDC after the other, several
//! times, and has no way to be told to stop.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

/// Threads that may be left behind, up to a number.
///
/// A call that comes too late is not waited for any more; its thread ends with it, and counts until then.
#[derive(Debug)]
pub struct Detached {
    running: Arc<AtomicUsize>,
    most: usize,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each means something else to who asked")]
pub enum Lost {
    /// It takes too long.
    Late,
    /// As many as allowed are running, most of them late.
    Full,
    /// It crashed, or no thread could be started for it.
    Crashed,
}

impl Detached {
    /// At most `most` calls at one time, those that nobody waits for included.
    pub fn new(most: usize) -> Self {
        Self { running: Arc::default(), most }
    }

    /// Makes a call, and waits for it until `limit` is over.
    ///
    /// # Errors
    /// There is no result, and none will come.
    pub fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let place = Place(Arc::clone(&self.running));
        if self.running.fetch_add(1, Ordering::SeqCst) >= self.most {
            return Err(Lost::Full);
        }
        let (tell, told) = sync_channel(1);
        let started = thread::Builder::new().name("detached".to_owned()).spawn(move || {
            let done = call();
            // Before the result is told, so that whoever hears it finds the place free.
            drop(place);
            // Nobody may be there to hear it.
            let _ = tell.send(done);
        });
        started.map_err(|_| Lost::Crashed)?;
        told.recv_timeout(limit).map_err(|end| match end {
            RecvTimeoutError::Timeout => Lost::Late,
            RecvTimeoutError::Disconnected => Lost::Crashed,
        })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "no answer came in time",
            Self::Full => "too many calls wait for an answer",
            Self::Crashed => "the call crashed",
        })
    }
}

impl std::error::Error for Lost {}

/// Given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Instant};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_late_call_is_left_behind_and_counts_until_it_ends() {
        let calls = Detached::new(2);
        let (end, wait) = channel::<()>();
        assert_eq!(calls.run(SOON, move || wait.recv()), Err(Lost::Late));
        assert_eq!(calls.run(LONG, || 1), Ok(1), "another place is free");
        let (_end, wait) = channel::<()>();
        assert_eq!(calls.run(SOON, move || wait.recv()), Err(Lost::Late));
        assert_eq!(calls.run(LONG, || 1), Err(Lost::Full));
        drop(end);
        let since = Instant::now();
        while calls.run(LONG, || 1) == Err(Lost::Full) {
            assert!(since.elapsed() < LONG);
        }
        assert_eq!(calls.run(LONG, || 1), Ok(1));
    }

    #[test]
    fn s_020_a_call_that_crashes_has_no_result_and_gives_its_place_back() {
        let calls = Detached::new(1);
        let crash = || -> u8 { panic!("as a test wants it") };
        assert_eq!(calls.run(LONG, crash), Err(Lost::Crashed));
        let since = Instant::now();
        while calls.run(LONG, || 1) != Ok(1) {
            assert!(since.elapsed() < LONG);
        }
    }
}
