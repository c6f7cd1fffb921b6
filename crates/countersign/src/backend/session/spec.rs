//! Reads `KIND(option=value, option="quoted, value")`.

use super::{
    super::spec::{self, error},
    ROUTERS, Sessions,
};
use crate::{error::ConfigError, helper, options::Options};

/// A router in its written form, and what stands behind it.
///
/// # Errors
/// An unknown router or option, an option without value, and what the router itself finds wrong. No error repeats
/// a value (S-88).
pub(in crate::backend) fn parse(text: &str) -> Result<(Sessions, &str), ConfigError> {
    let end = text.find(['(', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let known = || ROUTERS.iter().map(|router| router.name);
    let router = ROUTERS.iter().find(|router| router.name == name.trim());
    let router = *router.ok_or_else(|| ConfigError::unknown("session routers", name.trim(), known()))?;
    let (inside, behind) = match rest.strip_prefix('(') {
        Some(rest) => spec::enclosed(rest)?,
        None => ("", rest),
    };
    let mut values = Vec::new();
    for part in spec::split(inside, |c| c == ',')?.iter().map(|part| part.trim()) {
        match part.split_once('=') {
            Some((key, value)) => values.push((key.trim().to_owned(), spec::unquoted(value.trim())?)),
            None if part.is_empty() && inside.trim().is_empty() => {}
            // It is not repeated: it may be the rest of a value with a comma in it.
            None => {
                return Err(error(
                    "an option has no value",
                    "write OPTION=VALUE, and \"...\" around a comma",
                ));
            }
        }
    }
    if !behind.is_empty() && !behind.starts_with(',') {
        return Err(error(
            "something follows the closing parenthesis",
            "write session:KIND(...),option=value",
        ));
    }
    let options = Options::new(format!("session:{}", router.name), values);
    let written = text.strip_suffix(behind).unwrap_or(text);
    let ordered_as = helper::Name::of("session", written.as_bytes());
    Ok((Sessions::configure(router, options, ordered_as)?, behind.trim_start_matches(',')))
}

/// Whether a session may be called this: short, printable, and told in a list without harm.
pub(super) fn is_session_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c == '`')
}
