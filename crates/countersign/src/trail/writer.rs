//! The one thread that writes: many records in one step, and none in halves.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
};

use tokio::sync::oneshot;

use super::{
    Policy, TrailOptions,
    anchor::{Anchor, Head},
    record::{self, CONTINUED, LOST, NONE_BEFORE, OPENED},
};
use crate::{
    error::ConfigError,
    sys::files::{open_or_create_private, same_file},
};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// A record, and who waits until it is kept.
    Record { event: &'static str, fields: String, done: Option<oneshot::Sender<bool>> },
    /// To look whether the file was moved away.
    Reopen,
}

/// The file and the end of its chain.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    policy: Policy,
    anchor: Anchor,
    file: File,
    /// Where the next record begins; what is behind it was not written whole.
    size: u64,
    last: Head,
    /// Those of whoever handed them over.
    kept: Arc<AtomicU64>,
    /// Counted by whoever could not hand a record over, and here.
    lost: Arc<AtomicU64>,
    /// How many of them are on record.
    confessed: u64,
    is_failing: bool,
}

impl Writer {
    pub(super) fn open(
        options: &TrailOptions,
        state_dir: &Path,
        [kept, lost]: [Arc<AtomicU64>; 2],
    ) -> Result<Self, ConfigError> {
        let path = options.file.clone();
        let anchor = Anchor::take(state_dir)?;
        let failed = |error: io::Error| {
            let fix = "name a file in a writable directory: --audit-file=PATH";
            ConfigError::new(format!("audit file {}", path.display()), error.to_string(), fix)
        };
        let mut file = open(&path).map_err(failed)?;
        let tail = Tail::of(&mut file, &anchor).map_err(failed)?;
        let last = tail.last(anchor.head);
        if tail.is_foreign {
            tracing::error!(
                "the end of the audit trail {} is not what this gateway wrote: `countersign audit verify` says \
                 what was changed",
                path.display()
            );
        }
        let (policy, is_failing) = (options.policy, false);
        let mut writer = Self {
            path: path.clone(),
            policy,
            anchor,
            file,
            size: tail.size,
            last,
            kept,
            lost,
            confessed: 0,
            is_failing,
        };
        let opened = format!(r#"{{"version":"{}","torn":{}}}"#, env!("CARGO_PKG_VERSION"), tail.torn);
        writer.append(&[(OPENED, &opened)]).map_err(failed)?;
        Ok(writer)
    }

    /// Until nobody can hand over a record any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let (mut records, mut waiting) = (Vec::new(), Vec::new());
            for order in std::iter::once(first).chain(orders.try_iter()).take(AT_ONCE) {
                if let Order::Record { event, fields, done } = order {
                    records.push((event, fields));
                    waiting.extend(done);
                }
            }
            let kept = self.keep(&records);
            for done in waiting {
                // Whoever has given up is not told.
                let _ = done.send(kept);
            }
        }
        let _ = self.file.sync_all();
    }

    /// Whether the records are kept as the policy says. What is not is counted.
    fn keep(&mut self, records: &[(&'static str, String)]) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        let confession = format!(r#"{{"records":{}}}"#, lost - self.confessed);
        let lines = records.iter().map(|(event, fields)| (*event, fields.as_str()));
        let lines: Vec<_> =
            (lost > self.confessed).then_some((LOST, confession.as_str())).into_iter().chain(lines).collect();
        match self.follow_the_path().and_then(|()| self.append(&lines)) {
            Ok(()) => {
                self.confessed = lost;
                self.kept.fetch_add(records.len() as u64, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    tracing::warn!(
                        "the audit trail is written again; {lost} records were lost since the start"
                    );
                }
                true
            }
            Err(error) => {
                self.lost.fetch_add(records.len() as u64, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    let path = self.path.display();
                    tracing::error!("the audit trail {path} cannot be written, records are lost: {error}");
                }
                false
            }
        }
    }

    /// Begins a new file if ours was moved away.
    fn follow_the_path(&mut self) -> io::Result<()> {
        if same_file(&self.path, &self.file) {
            return Ok(());
        }
        let mut file = open(&self.path)?;
        let size = file.seek(SeekFrom::End(0))?;
        self.file.sync_all()?;
        (self.file, self.size) = (file, size);
        self.append(&[(CONTINUED, "")])
    }

    /// Adds records to the file: all, or none.
    fn append(&mut self, records: &[(&str, &str)]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let (mut lines, mut last) = (String::new(), self.last);
        for (event, fields) in records {
            let seq = last.seq + 1;
            last = Head {
                seq,
                mac: record::write(&mut lines, &self.anchor.key, (seq, &last.mac), event, fields),
            };
        }
        let written =
            self.file.seek(SeekFrom::Start(self.size)).and_then(|_| self.file.write_all(lines.as_bytes()));
        let kept = written.and_then(|()| match self.policy {
            Policy::Required => self.file.sync_data(),
            Policy::BestEffort => Ok(()),
        });
        if let Err(error) = kept {
            // No half record, and none that its login was refused for: the chain goes on where it was.
            let _ = self.file.set_len(self.size);
            return Err(error);
        }
        (self.size, self.last) = (self.size + lines.len() as u64, last);
        self.anchor.note(last)
    }
}

/// A device or a pipe has no end to go on at, and none that could be taken back.
fn open(path: &Path) -> io::Result<File> {
    let file = open_or_create_private(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The end of a file as it was found.
struct Tail {
    /// Up to the end of the last whole line.
    size: u64,
    /// Bytes behind it, of a record that was being written when the power went; they are gone now.
    torn: u64,
    last: Option<Head>,
    /// The last record is not ours, or not our last.
    is_foreign: bool,
}

impl Tail {
    fn of(file: &mut File, anchor: &Anchor) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        let start = size.saturating_sub(LONGEST);
        file.seek(SeekFrom::Start(start))?;
        let mut end = Vec::new();
        file.take(LONGEST).read_to_end(&mut end)?;
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (end.len() - whole) as u64;
        if torn > 0 {
            file.set_len(size - torn)?;
        }
        let lines = end.get(..whole).unwrap_or_default();
        let line = lines.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        let last = line.and_then(|line| record::read(line, &anchor.key));
        let last = last.map(|record| Head { seq: record.seq, mac: record.mac });
        let is_behind = anchor.head.is_some_and(|head| last.is_none_or(|last| last.seq < head.seq));
        Ok(Self {
            size: size - torn,
            torn,
            last,
            is_foreign: line.is_some() && (last.is_none() || is_behind),
        })
    }

    /// Where the chain goes on: nothing is numbered twice, whatever became of the file.
    fn last(&self, noted: Option<Head>) -> Head {
        let known = self.last.into_iter().chain(noted).max_by_key(|head| head.seq);
        known.unwrap_or(Head { seq: 0, mac: NONE_BEFORE })
    }
}

/// Records that are written in one step.
const AT_ONCE: usize = 256;

/// Bytes of the longest record, and some: a claim has at most 64 KiB.
const LONGEST: u64 = 256 * 1024;
