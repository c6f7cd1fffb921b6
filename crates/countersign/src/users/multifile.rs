//! Reading accounts from a text file, one a line: Xpra's `multifile` format.
//!
//! `username|password|uid|gid|displays|env_options|session_options`, of which the first two are
//! needed. A first line `#!countersign` lets `\|`, `\\` and `\n` stand for a bar, a backslash and a
//! newline. Called by the module `multifile` and by the import into a user table.

use zeroize::Zeroizing;

use super::row::Row;
use crate::{Secret, Username};

/// What a file holds: the rows with the number of their line, and what is wrong with other lines.
pub(crate) struct Lines {
    pub(crate) rows: Vec<(usize, Row)>,
    pub(crate) malformed: Vec<(usize, &'static str)>,
}

/// Reads a whole file. Blank lines and those that begin with `#` say nothing.
///
/// What is wrong with a line is told by its number and never by its content (S-79, W43).
pub(crate) fn parse(content: &Secret) -> Lines {
    let escapes =
        content.expose().split(|&byte| byte == b'\n').next().map(<[u8]>::trim_ascii) == Some(ESCAPES);
    let mut lines = Lines { rows: Vec::new(), malformed: Vec::new() };
    for (index, line) in content.expose().split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match row(line, escapes) {
            Ok(row) => lines.rows.push((index + 1, row)),
            Err(why) => lines.malformed.push((index + 1, why)),
        }
    }
    lines
}

fn row(line: &[u8], escapes: bool) -> Result<Row, &'static str> {
    let mut columns = columns(line, escapes)?.into_iter();
    let text = |column: Option<Zeroizing<Vec<u8>>>| match column {
        Some(bytes) => String::from_utf8(bytes.to_vec()).map_err(|_| "a column is no UTF-8 text"),
        None => Ok(String::new()),
    };
    let username = text(columns.next())?;
    let username = Username::parse(&username).map_err(|_| "the user name is not acceptable")?;
    let password = columns.next().ok_or("it has no password column")?;
    Ok(Row {
        username: username.as_str().to_owned(),
        password: Some(Secret::new(password.as_slice())),
        uid: text(columns.next())?,
        gid: text(columns.next())?,
        displays: text(columns.next())?,
        env_options: text(columns.next())?,
        session_options: text(columns.next())?,
        ..Row::default()
    })
}

/// Splits a line at its bars, and takes the escapes back.
fn columns(line: &[u8], escapes: bool) -> Result<Vec<Zeroizing<Vec<u8>>>, &'static str> {
    let mut columns = Vec::new();
    let mut column = Zeroizing::new(Vec::with_capacity(line.len()));
    let mut bytes = line.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'|' => {
                columns.push(std::mem::replace(&mut column, Zeroizing::new(Vec::with_capacity(line.len()))))
            }
            b'\\' if escapes => column.push(match bytes.next() {
                Some(b'|') => b'|',
                Some(b'\\') => b'\\',
                Some(b'n') => b'\n',
                _ => return Err("it has a backslash before another character than `|`, `\\` or `n`"),
            }),
            _ => column.push(byte),
        }
    }
    columns.push(column);
    Ok(columns)
}

/// The first line that switches escapes on. For Xpra it is a comment.
const ESCAPES: &[u8] = b"#!countersign";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Lines {
        parse(&Secret::new(text))
    }

    fn password(row: &Row) -> &[u8] {
        row.password.as_ref().unwrap().expose()
    }

    #[test]
    fn lines_are_read_as_xpra_reads_them_with_columns_three_and_four_honoured() {
        let lines = parsed(
            "# comment\n\n  alice|p #w|1000|1001  \r\nbob | pw\n  # another\ncarol||1|2| :1 ,:2|A=1|b=2|extra\n",
        );
        let rows: Vec<_> = lines.rows.iter().map(|(line, row)| (*line, row.username.as_str())).collect();
        assert_eq!(rows, [(3, "alice"), (4, "bob "), (6, "carol")]);
        let row = |index: usize| &lines.rows[index].1;
        assert_eq!(
            (password(row(0)), row(0).uid.as_str(), row(0).gid.as_str()),
            (&b"p #w"[..], "1000", "1001")
        );
        assert_eq!(password(row(1)), b" pw");
        assert!(password(row(2)).is_empty());
        assert_eq!((row(2).displays.as_str(), row(2).session_options.as_str()), (" :1 ,:2", "b=2"));
        assert!(lines.malformed.is_empty());
    }

    #[test]
    fn escapes_are_taken_back_where_the_first_line_says_so_and_only_there() {
        let escaped = parsed("#!countersign\nal\\|ice|a\\|b\\\\c\\nd|1\nbob|bad\\x\nzoe|end\\\n");
        assert_eq!(escaped.rows[0].1.username, "al|ice");
        assert_eq!(password(&escaped.rows[0].1), b"a|b\\c\nd");
        assert_eq!(escaped.malformed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
        let plain = parsed("alice|a\\\n#!countersign\nbob|b\\n\n");
        assert_eq!((password(&plain.rows[0].1), password(&plain.rows[1].1)), (&b"a\\"[..], &b"b\\n"[..]));
    }

    #[test]
    fn s_079_a_malformed_line_is_told_by_number_without_its_content() {
        let lines = parsed("canary\n|canary\nca/nary|x\nok|x\n.canary|x\n");
        assert_eq!(lines.rows.len(), 1);
        let numbers: Vec<_> = lines.malformed.iter().map(|(line, _)| *line).collect();
        assert_eq!(numbers, [1, 2, 3, 5]);
        assert!(lines.malformed.iter().all(|(_, why)| !why.contains("canary")));
        assert_eq!(parse(&Secret::new(&b"caf\xe9|x\n"[..])).malformed.len(), 1);
    }

    #[test]
    fn passwords_are_bytes_of_any_encoding() {
        let lines = parse(&Secret::new(&b"alice|caf\xe9\n"[..]));
        assert_eq!(password(&lines.rows[0].1), b"caf\xe9");
    }
}
