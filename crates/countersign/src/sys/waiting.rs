//! Waiting for other people's servers, in code that may block.
//!
//! Called by the modules that ask a directory or a database. They run on a thread that may wait; what
//! they wait for is driven by a small runtime of its own, so that it makes no difference who calls: the
//! gateway, `countersign modules test`, a test. Names of hosts are looked up on its threads too, so that
//! a resolver that hangs takes none of the gateway's.

use std::{io, sync::LazyLock, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// The end of `work`, or `None` if that does not come within `deadline`. Then it is dropped.
///
/// # Errors
/// The system gives no thread to wait with.
///
/// # Panics
/// On a thread that drives other tasks, which must not wait.
pub fn wait<T>(deadline: Duration, work: impl Future<Output = T>) -> io::Result<Option<T>> {
    Ok(runtime()?.block_on(async { tokio::time::timeout(deadline, work).await }).ok())
}

/// What waits, for things that outlive a single wait: a pool of connections.
///
/// # Errors
/// As [`wait`].
pub fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(RESOLVERS).thread_name("waiting");
        builder.enable_io().enable_time().build()
    });
    RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// How many names of hosts may be looked up at once.
const RESOLVERS: usize = 32;

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Instant};

    use super::*;

    #[test]
    fn a_wait_ends_with_its_work_or_with_its_deadline_wherever_it_is_called() {
        assert_eq!(wait(Duration::from_secs(60), async { 1 }).unwrap(), Some(1));
        let start = Instant::now();
        assert_eq!(wait(Duration::from_millis(50), pending::<()>()).unwrap(), None);
        assert!(start.elapsed() >= Duration::from_millis(50));
        let elsewhere = Builder::new_current_thread().build().unwrap();
        let called = || wait(Duration::from_secs(60), async { 2 }).unwrap();
        assert_eq!(elsewhere.block_on(async { tokio::task::spawn_blocking(called).await.unwrap() }), Some(2));
    }
}
