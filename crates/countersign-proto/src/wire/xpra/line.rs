//! The one line of plain text that a server writes while it knows no encoder of the client.

use super::WireError;

/// A refusal for a peer whose packets cannot be read, as modern servers write it. Controls in `reason` are left out,
/// so it stays one line.
#[must_use]
pub fn plain_text(reason: &str) -> Vec<u8> {
    let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
    format!("disconnect {reason}\n").into_bytes()
}

/// Reads such a line: the reason, and how many bytes it took. `None`: its end has not come.
pub(super) fn read(input: &[u8]) -> Result<Option<(String, usize)>, WireError> {
    let Some(end) = input.iter().take(LONGEST).position(|byte| *byte == b'\n') else {
        return if input.len() >= LONGEST { Err(WireError::LongLine) } else { Ok(None) };
    };
    let line = String::from_utf8_lossy(input.get(..end).unwrap_or_default());
    let reason =
        line.strip_prefix("disconnect").map_or(&*line, |rest| rest.strip_prefix(':').unwrap_or(rest));
    // It is shown to a person (S-46).
    let reason = reason.trim().chars().filter(|c| !c.is_control()).collect();
    Ok(Some((reason, end.saturating_add(1))))
}

const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::{LONGEST, plain_text, read};
    use crate::wire::xpra::WireError;

    #[test]
    fn both_forms_of_the_line_are_read() {
        for line in ["disconnect: no such thing\n", "disconnect no such thing\n", "no such thing\r\n"] {
            assert_eq!(read(line.as_bytes()).unwrap(), Some(("no such thing".to_owned(), line.len())));
        }
        assert_eq!(read(b"disconnect no such").unwrap(), None);
        assert_eq!(read(&plain_text("two\nlines")).unwrap(), Some(("twolines".to_owned(), 20)));
    }

    #[test]
    fn s_046_controls_are_not_shown() {
        assert_eq!(read(b"disconnect \x1b[2Jno\xff\n").unwrap().unwrap().0, "[2Jno\u{fffd}");
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        assert_eq!(read(&[b'a'; LONGEST]), Err(WireError::LongLine));
        assert_eq!(read(&[b'a'; LONGEST - 1]), Ok(None));
    }
}
