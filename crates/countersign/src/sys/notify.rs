//! What the service manager is told (`sd_notify(3)`): nothing, where `NOTIFY_SOCKET` is not set.
//!
//! Called by the gateway, where whoever runs it wants that.

use std::{borrow::Cow, time::Duration};

use sd_notify::NotifyState;

/// Everything that was asked for is done: the start, or reading the configuration again.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// The configuration is being read again. systemd from 253 on wants to know when that began, so that it takes no
/// earlier [`ready`] for its end.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("the service manager is not told of a reload: no clock: {error}"),
    }
}

/// The end has begun.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&line(status))]);
}

/// It still lives; for [`watchdog`].
pub fn alive(status: &str) {
    tell(&[NotifyState::Watchdog, NotifyState::Status(&line(status))]);
}

/// Within which time the service manager wants to hear that this process lives (`WatchdogSec=`).
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager does not hear: {error}");
    }
}

/// A line of its own would be another statement.
fn line(status: &str) -> Cow<'_, str> {
    match status.contains(char::is_control) {
        true => status.replace(char::is_control, " ").into(),
        false => status.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_089_a_status_is_one_line_whatever_it_quotes() {
        assert_eq!(line("two sockets"), "two sockets");
        assert_eq!(line("bad\nREADY=1\r\u{1b}x"), "bad READY=1  x");
    }
}
