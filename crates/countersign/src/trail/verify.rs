//! Whether a trail is whole, and where it is not.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    Key,
    anchor::Head,
    record::{self, NONE_BEFORE, Record},
};

/// What was found in the files of a trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// How many records are as they were written.
    pub records: u64,
    /// The number of the first of them.
    pub first: Option<u64>,
    /// The highest number of them.
    pub last: Option<u64>,
    /// Whether the first one names one before it, which is in a file that was not given.
    pub continues: bool,
    /// What is not as it was written, in the order of the files.
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The file it shows in.
    pub file: PathBuf,
    /// The line in it, from 1; for what is missing the one that should come later.
    pub line: u64,
    /// What it is.
    #[serde(flatten)]
    pub damage: Damage,
}

/// What became of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "damage", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Damage {
    /// The line was edited, or was never one of this trail's.
    Changed,
    /// The line ends in the middle.
    Torn,
    /// Records that were between others are gone.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A record stands behind one that came later.
    Misplaced {
        /// Which.
        seq: u64,
    },
    /// A record is there a second time.
    Repeated {
        /// Which.
        seq: u64,
    },
    /// A record is ours and follows another one than stands before it: two trails in one file.
    Foreign {
        /// Which.
        seq: u64,
    },
    /// Records at the end are gone; the state directory knows of them.
    Cut {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, damage } = self;
        write!(f, "{} line {line}: ", file.display())?;
        match damage {
            Damage::Changed => f.write_str("this record was changed, or is none of this trail"),
            Damage::Torn => f.write_str("this record ends in the middle"),
            Damage::Missing { from, to } if from == to => {
                write!(f, "record {from} is missing before this one")
            }
            Damage::Missing { from, to } => write!(f, "records {from} to {to} are missing before this one"),
            Damage::Misplaced { seq } => write!(f, "record {seq} is not in its place"),
            Damage::Repeated { seq } => write!(f, "record {seq} is here a second time"),
            Damage::Foreign { seq } => write!(f, "record {seq} follows another one than stands before it"),
            Damage::Cut { from, to } if from == to => write!(f, "record {from} was cut off behind this line"),
            Damage::Cut { from, to } => write!(f, "records {from} to {to} were cut off behind this line"),
        }
    }
}

/// Reads the files of one trail, in whatever order they are given. `state_dir` knows how far the trail goes;
/// without it nobody does.
///
/// # Errors
/// A file cannot be read, or none of its first lines is a record of this key's and there are several files, so
/// that their order is unknown.
pub fn verify(files: &[PathBuf], key: &Key, state_dir: Option<&Path>) -> io::Result<Report> {
    // Before the files: what is written meanwhile is then in them and not missing.
    let head = state_dir.and_then(Head::of);
    let mut ordered = Vec::new();
    for file in files {
        ordered.push((first_number(file, key)?, file));
    }
    ordered.sort();
    let mut walk = Walk::default();
    for (_, file) in ordered {
        walk.file(file, key)?;
    }
    Ok(walk.end(head))
}

/// The number of the first record that can be read, by which files are put in order.
fn first_number(file: &Path, key: &Key) -> io::Result<u64> {
    let mut lines = Lines::of(file)?;
    while let Some(line) = lines.next_line()? {
        if let Some(record) = record::read(line.text(), key) {
            return Ok(record.seq);
        }
    }
    Ok(u64::MAX)
}

/// Where a reader of the trail is, and what it has seen.
#[derive(Default)]
struct Walk {
    /// The highest record so far.
    last: Option<Record>,
    first: Option<Record>,
    records: u64,
    /// Lines behind `last` that cannot be read: each stands for a record, or was put in.
    unreadable: u64,
    /// Gaps by their first number: their last number, and where they showed.
    gaps: BTreeMap<u64, (u64, usize, u64)>,
    files: Vec<PathBuf>,
    line: u64,
    findings: Vec<Finding>,
}

impl Walk {
    fn file(&mut self, path: &Path, key: &Key) -> io::Result<()> {
        self.files.push(path.to_owned());
        self.line = 0;
        let mut lines = Lines::of(path)?;
        while let Some(line) = lines.next_line()? {
            self.line += 1;
            match record::read(line.text(), key) {
                Some(record) => self.record(record),
                None => {
                    self.unreadable += 1;
                    self.find(if line.is_torn() { Damage::Torn } else { Damage::Changed });
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, record: Record) {
        let seq = record.seq;
        let Some(last) = self.last else {
            return self.begin(record);
        };
        if seq <= last.seq {
            let damage = if self.fill(seq) { Damage::Misplaced { seq } } else { Damage::Repeated { seq } };
            self.records += u64::from(matches!(damage, Damage::Misplaced { .. }));
            return self.find(damage);
        }
        let between = seq - last.seq - 1;
        if between == 0 && record.prev != last.mac {
            self.find(Damage::Foreign { seq });
        } else if between > self.unreadable {
            // Lines that cannot be read stand for the first of them.
            self.gap(last.seq + self.unreadable + 1, seq - 1);
        }
        self.advance(record);
    }

    /// The first record that can be read. A file begins with one that says so: otherwise what stood before it
    /// is gone.
    fn begin(&mut self, record: Record) {
        self.first = Some(record);
        let begins = record.begins || record.prev == NONE_BEFORE;
        let before = record.seq.saturating_sub(1);
        if !begins && self.unreadable == 0 {
            self.gap(before, before);
        }
        self.advance(record);
    }

    fn advance(&mut self, record: Record) {
        self.records += 1;
        self.unreadable = 0;
        self.last = Some(record);
    }

    fn gap(&mut self, from: u64, to: u64) {
        if from <= to {
            self.gaps.insert(from, (to, self.files.len() - 1, self.line));
        }
    }

    /// Takes a number out of the gap it was missing in.
    fn fill(&mut self, seq: u64) -> bool {
        let Some((&from, &(to, file, line))) = self.gaps.range(..=seq).next_back() else { return false };
        if seq > to {
            return false;
        }
        self.gaps.remove(&from);
        if from < seq {
            self.gaps.insert(from, (seq - 1, file, line));
        }
        if seq < to {
            self.gaps.insert(seq + 1, (to, file, line));
        }
        true
    }

    fn find(&mut self, damage: Damage) {
        let file = self.files.last().cloned().unwrap_or_default();
        self.findings.push(Finding { file, line: self.line, damage });
    }

    fn end(mut self, head: Option<Head>) -> Report {
        // Lines that cannot be read stand for records, here too.
        let seen = self.last.map_or(0, |last| last.seq) + self.unreadable;
        if let Some(head) = head.filter(|head| head.seq > seen) {
            self.find(Damage::Cut { from: seen + 1, to: head.seq });
        }
        for (from, (to, file, line)) in std::mem::take(&mut self.gaps) {
            let file = self.files.get(file).cloned().unwrap_or_default();
            self.findings.push(Finding { file, line, damage: Damage::Missing { from, to } });
        }
        let order =
            |finding: &Finding| (self.files.iter().position(|file| *file == finding.file), finding.line);
        self.findings.sort_by_key(order);
        Report {
            records: self.records,
            first: self.first.map(|first| first.seq),
            last: self.last.map(|last| last.seq),
            continues: self.first.is_some_and(|first| first.prev != NONE_BEFORE),
            findings: self.findings,
        }
    }
}

/// The lines of a file, each bounded.
struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn of(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        Ok(Self { reader: BufReader::new(File::open(path).map_err(named)?), line: Vec::new() })
    }

    fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut self.line)?;
        Ok((read > 0).then_some(Line(&self.line)))
    }
}

struct Line<'a>(&'a [u8]);

impl Line<'_> {
    fn text(&self) -> &[u8] {
        self.0.strip_suffix(b"\n").unwrap_or(self.0)
    }

    fn is_torn(&self) -> bool {
        !self.0.ends_with(b"\n")
    }
}

/// Bytes of a line; what is longer is read as several, none of which is a record.
const LONGEST: u64 = 1 << 20;
