//! The list behind `--challenge-handlers=`: `NAME`, `NAME(key=value, key="quoted, value")`, commas.

use super::SWITCH;
use crate::{error::ConfigError, options::Options};

/// The entries of a list, in order, with their options.
///
/// # Errors
/// An empty entry, an option without a value, a parenthesis or quotation mark without its partner,
/// something behind a closing one.
pub(super) fn parse(list: &str) -> Result<Vec<Options>, ConfigError> {
    let mut rest = list;
    let mut entries = Vec::new();
    loop {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        if name.trim().is_empty() {
            return Err(wrong("an entry has no name"));
        }
        let (options, tail) = match tail.strip_prefix('(') {
            Some(inside) => parse_options(inside)?,
            None => (Vec::new(), tail),
        };
        entries.push(Options::new(name.trim(), options));
        match tail.trim_start() {
            "" => return Ok(entries),
            more => rest = more.strip_prefix(',').ok_or_else(|| wrong("a comma is missing"))?,
        }
    }
}

/// Options as they are written, in order.
type Pairs = Vec<(String, String)>;

/// The options up to the closing parenthesis, and what follows that.
fn parse_options(inside: &str) -> Result<(Pairs, &str), ConfigError> {
    let mut rest = inside.trim_start();
    let mut options = Vec::new();
    while !rest.starts_with(')') {
        let (key, tail) =
            rest.split_once('=').ok_or_else(|| wrong("an option has no value, or a `)` is missing"))?;
        if key.contains([',', '(', ')', '"']) || key.trim().is_empty() {
            return Err(wrong("an option has no value"));
        }
        let (value, tail) = parse_value(tail.trim_start())?;
        options.push((key.trim().to_owned(), value));
        rest = match tail.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => tail,
        };
    }
    Ok((options, rest.get(1..).unwrap_or_default()))
}

/// A value, quoted or up to the next comma or parenthesis, and what follows it and blanks.
fn parse_value(text: &str) -> Result<(String, &str), ConfigError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ')']).ok_or_else(|| wrong("a `)` is missing"))?;
        let (value, tail) = text.split_at(end);
        return Ok((value.trim().to_owned(), tail));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let tail = quoted.get(at + 1..).unwrap_or_default().trim_start();
                let ends = tail.starts_with([',', ')']);
                return if ends { Ok((value, tail)) } else { Err(wrong("something follows a closing `\"`")) };
            }
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    Err(wrong("a closing `\"` is missing"))
}

fn wrong(why: &'static str) -> ConfigError {
    ConfigError::new(SWITCH, why, "write NAME,NAME(option=value, option=\"quoted, value\")")
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_options_and_quotation_are_read() {
        let list = r#"file(filename="a, \"b\")\\"), env( name = X ,),prompt"#;
        let mut entries = parse(list).unwrap();
        let names: Vec<&str> = entries.iter().map(|entry| entry.module()).collect();
        assert_eq!(names, ["file", "env", "prompt"]);
        assert_eq!(entries[0].take("filename").unwrap().unwrap().as_str(), r#"a, "b")\"#);
        assert_eq!(entries[1].take("name").unwrap().unwrap().as_str(), "X");
    }

    #[test]
    fn s_065_what_is_not_a_list_is_refused_without_repeating_it() {
        for bad in [
            "",
            ",",
            "file,",
            "file,,env",
            "(x=y)",
            "file(",
            "file(x",
            "file(x)",
            "file(x=y",
            "file(=y)",
            "file(x=\"y)",
            "file(x=\"y\"z)",
            "file(x=y)z",
            "file(x=y))",
            "file(x,y=hunter2)",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{bad}");
        }
    }
}
