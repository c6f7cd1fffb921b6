//! A text of the configuration in which `{user}`, `{uid}` and `{home}` stand for those of a user.

use super::{super::BackendError, Owner};
use crate::{error::ConfigError, options::Options};

/// Such a text. What a client says is never put in: the name is the proved one, which holds no slash and begins
/// with neither a dot nor a dash (S-69).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    /// # Errors
    /// It holds something else in braces, which would stay there as it is.
    pub(super) fn parse(options: &Options, option: &str, text: &str) -> Result<Self, ConfigError> {
        Self::parse_with(options, option, text, &[])
    }

    /// The same with more that may stand in braces, which [`Pattern::of`] leaves there.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub(super) fn parse_with(
        options: &Options,
        option: &str,
        text: &str,
        more: &[&str],
    ) -> Result<Self, ConfigError> {
        let known = PLACES.iter().chain(more).fold(text.to_owned(), |text, place| text.replace(place, ""));
        if known.contains(['{', '}']) {
            let fix = format!("braces hold one of {}", [&PLACES, more].concat().join(", "));
            return Err(options.error(option, "something else stands in braces", fix));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text for a user.
    ///
    /// # Errors
    /// The user has not what stands there: no account, no home.
    pub(super) fn of(&self, owner: &Owner) -> Result<String, BackendError> {
        let mut text = self.0.clone();
        if text.contains(UID) {
            text = text.replace(UID, &owner.uid()?.to_string());
        }
        if text.contains(HOME) {
            let home = owner.home().and_then(|home| home.to_str());
            let home = home.ok_or_else(|| BackendError::no_session("the user has no home directory"))?;
            text = text.replace(HOME, home);
        }
        // Last, so that a name that looks like a place stays a name.
        Ok(text.replace(USER, owner.name.as_str()))
    }
}

const UID: &str = "{uid}";
const HOME: &str = "{home}";
const USER: &str = "{user}";
const PLACES: [&str; 3] = [USER, UID, HOME];
