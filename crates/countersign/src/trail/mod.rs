//! The audit trail: a file of records that is chained, so that nobody changes it unseen.
//!
//! The gateway keeps a [`Trail`]; whoever owns the gateway asks [`verify()`] whether it is whole. One thread writes
//! (`writer.rs`), a record is a line (`record.rs`), and the state directory holds the key of the chain and its last
//! link (`anchor.rs`), which shows what was cut off at the end.
//!
//! ```text
//! {"seq":8,"prev":"<mac of 7>","time":"2026-01-02T03:04:05.678Z","event":"login",...,"mac":"<of all before>"}
//! ```
//!
//! The chain is keyed: whoever can write the file but not read the state directory cannot continue it, and
//! cannot mend it behind a change. Root can; against root, ship the file or copy the key to another machine.
#![forbid(unsafe_code)]

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

use crate::error::ConfigError;

mod anchor;
mod record;
mod verify;
mod writer;

pub use anchor::Key;
pub use verify::{Damage, Finding, Report, verify};
use writer::{Order, Writer};

/// What happens while records cannot be kept: the disk is full, failing or slow (S-93).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Logins go on. What is lost is counted, and the count is recorded as soon as that is possible.
    #[default]
    BestEffort,
    /// Nobody is let in without a record that is on the disk.
    Required,
}

/// Where the trail is and what holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrailOptions {
    /// The file. Where another is put in its place, or none (logrotate), a new one is begun.
    pub file: PathBuf,
    /// What happens while records cannot be kept.
    pub policy: Policy,
}

impl TrailOptions {
    /// A file under the usual policy.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), policy: Policy::default() }
    }

    /// The same under another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }
}

/// An open audit trail. What was handed over is written when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Trail(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    /// Taken when the writer shall end.
    orders: Option<SyncSender<Order>>,
    policy: Policy,
    kept: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Trail {
    /// Opens the file, and the chain whose key lies in `state_dir`; both are made where there are none.
    ///
    /// # Errors
    /// One of the files cannot be made or read, others can read the key (S-41), or another gateway writes this
    /// trail (S-64).
    pub fn open(options: &TrailOptions, state_dir: &Path) -> Result<Self, ConfigError> {
        let (kept, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let writer = Writer::open(options, state_dir, [&kept, &lost].map(Arc::clone))?;
        let (orders, queue) = sync_channel(QUEUE);
        let failed = |error: std::io::Error| {
            ConfigError::new("the audit trail", error.to_string(), "allow the gateway another thread")
        };
        let writer = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(failed)?;
        let (orders, writer) = (Some(orders), Mutex::new(Some(writer)));
        Ok(Self(Arc::new(Inside { orders, policy: options.policy, kept, lost, writer })))
    }

    /// Keeps a record that nobody waits for; one that cannot be kept is counted.
    pub fn note(&self, event: &'static str, fields: &impl Serialize) {
        let _ = self.hand_over(event, fields, None);
    }

    /// Keeps a record without which something must not happen. By the policy, it is on the disk then, or on its way.
    ///
    /// # Errors
    /// [`Unkept`]: the policy is [`Policy::Required`], and the disk is full, failing, or slower than 5 seconds.
    pub async fn keep(&self, event: &'static str, fields: &impl Serialize) -> Result<(), Unkept> {
        if self.0.policy == Policy::BestEffort {
            self.note(event, fields);
            return Ok(());
        }
        let (done, kept) = oneshot::channel();
        self.hand_over(event, fields, Some(done))?;
        match timeout(PATIENCE, kept).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Unkept),
        }
    }

    /// Begins a new file if the old one was moved away. That is found out without being told, too, but not before
    /// the next record.
    pub fn reopen(&self) {
        if let Some(orders) = &self.0.orders {
            // In a queue that is full the next record does it.
            let _ = orders.try_send(Order::Reopen);
        }
    }

    /// How many records were kept since the start.
    pub fn kept(&self) -> u64 {
        self.0.kept.load(Ordering::Relaxed)
    }

    /// How many records were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn hand_over(
        &self,
        event: &'static str,
        fields: &impl Serialize,
        done: Option<oneshot::Sender<bool>>,
    ) -> Result<(), Unkept> {
        let fields = serde_json::to_string(fields).unwrap_or_default();
        let order = Order::Record { event, fields, done };
        let Some(orders) = &self.0.orders else { return Err(Unkept) };
        orders.try_send(order).map_err(|_| {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            Unkept
        })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.get_mut().take() {
            // One that crashed has nothing left to write.
            let _ = writer.join();
        }
    }
}

/// A record could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unkept;

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the audit record could not be kept, and the policy requires it")
    }
}

impl std::error::Error for Unkept {}

/// Records that may wait for the disk; some seconds of a flood, some megabytes of memory.
const QUEUE: usize = 8192;

/// How long a login waits for the disk. Less than a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
