//! Systems whose service manager is told nothing.

use std::time::Duration;

/// Nothing.
pub fn ready(_: &str) {}

/// Nothing.
pub fn reloading() {}

/// Nothing.
pub fn stopping(_: &str) {}

/// Nothing.
pub fn alive(_: &str) {}

/// Nobody waits for a sign of life.
pub fn watchdog() -> Option<Duration> {
    None
}
