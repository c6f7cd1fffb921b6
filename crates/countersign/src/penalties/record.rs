//! The penalties as a file keeps them over a restart: lines of text, whole or not at all.
//!
//! ```text
//! countersign penalties 1
//! key 9f86...                                    names are hashed with it
//! at 1763800000                                  when this was written, in seconds since 1970
//! source 192.0.2.7 60000 enforced                what is left of a source's penalty, in milliseconds
//! name 192.0.2.7 0123456789abcdef 15000 enforced the same for a name there
//! row 0123456789abcdef 101                       an account's failures in a row
//! end
//! ```
//!
//! Wrong secrets are not written, nor what they hash to: they are often right ones elsewhere.

use std::{fmt::Write as _, str::SplitAsciiWhitespace, time::Duration};

use super::{
    Source,
    ledger::{Account, Kept, Left, Who},
};
use crate::source::hex;

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What names are hashed with.
    pub(super) key: [u8; 32],
    /// When, in seconds since 1970.
    pub(super) at: u64,
    pub(super) kept: Kept,
}

impl Record {
    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEAD}\nkey {}\nat {}\n", hex(&self.key), self.at);
        // Writing to a text cannot fail.
        for (source, left) in &self.kept.sources {
            let _ = writeln!(text, "source {source} {}", Shown(left));
        }
        for (Who { source, account }, left) in &self.kept.names {
            let _ = writeln!(text, "name {source} {:016x} {}", account.0, Shown(left));
        }
        for (account, row) in &self.kept.rows {
            let _ = writeln!(text, "row {:016x} {row}", account.0);
        }
        text.push_str(END);
        text
    }

    /// Reads what [`Record::to_text`] wrote; `None` if a byte of its form is wrong, or its end is missing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix(END)?.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let key = key(lines.next()?.strip_prefix("key ")?)?;
        let at = lines.next()?.strip_prefix("at ")?.parse().ok()?;
        let mut kept = Kept::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            match words.next()? {
                "source" => kept.sources.push((source(&mut words)?, left(&mut words)?)),
                "name" => {
                    let who = Who { source: source(&mut words)?, account: account(&mut words)? };
                    kept.names.push((who, left(&mut words)?));
                }
                "row" => kept.rows.push((account(&mut words)?, words.next()?.parse().ok()?)),
                _ => return None,
            }
            if words.next().is_some() {
                return None;
            }
        }
        Some(Self { key, at, kept })
    }
}

/// What is left of a penalty, in words.
struct Shown<'a>(&'a Left);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Left { left, enforced } = self.0;
        write!(f, "{} {}", left.as_millis(), if *enforced { ENFORCED } else { COUNTED })
    }
}

fn source(words: &mut SplitAsciiWhitespace<'_>) -> Option<Source> {
    words.next()?.parse().ok()
}

fn account(words: &mut SplitAsciiWhitespace<'_>) -> Option<Account> {
    u64::from_str_radix(words.next()?, 16).ok().map(Account)
}

fn left(words: &mut SplitAsciiWhitespace<'_>) -> Option<Left> {
    let left = Duration::from_millis(words.next()?.parse().ok()?);
    let enforced = match words.next()? {
        ENFORCED => true,
        COUNTED => false,
        _ => return None,
    };
    Some(Left { left, enforced })
}

fn key(digits: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (position, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    Some(key)
}

const HEAD: &str = "countersign penalties 1";
const END: &str = "end\n";
const ENFORCED: &str = "enforced";
const COUNTED: &str = "counted";

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let left = |seconds, enforced| Left { left: Duration::from_secs(seconds), enforced };
        let at = |text: &str| text.parse::<Source>().unwrap();
        let who = |text, account| Who { source: at(text), account: Account(account) };
        let kept = Kept {
            sources: vec![
                (at("192.0.2.7"), left(60, true)),
                (at("2001:db8::/64"), left(5, false)),
                (at("local"), left(1, false)),
                (at("certificate:0123456789abcdef"), left(2, false)),
            ],
            names: vec![(who("uid:1000", 7), left(15, true)), (who("192.0.2.7", u64::MAX), left(5, false))],
            rows: vec![(Account(7), 101)],
        };
        Record { key: [0xa5; 32], at: 1_763_800_000, kept }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::parse(&record().to_text()), Some(record()));
        let empty = Record { kept: Kept::default(), ..record() };
        assert_eq!(Record::parse(&empty.to_text()), Some(empty));
    }

    #[test]
    fn s_027_a_record_that_was_cut_or_altered_is_not_taken_for_a_whole_one() {
        let text = record().to_text();
        for end in 0..text.len() {
            assert_eq!(Record::parse(&text[..end]), None, "cut at {end}");
        }
        for (from, to) in [
            ("penalties 1", "penalties 2"),
            ("a5a5", "a5"),
            ("a5a5", "zzzz"),
            ("60000", "-1"),
            ("enforced", "enforced twice"),
            ("counted", "perhaps"),
            ("row", "column"),
            ("192.0.2.7", "192.0.2.0/24"),
            (" 101", ""),
        ] {
            assert_eq!(Record::parse(&text.replacen(from, to, 1)), None, "{from} as {to}");
        }
    }
}
