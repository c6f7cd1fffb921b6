//! What is wrong with a configuration, told so that it can be mended.

use std::{borrow::Cow, fmt};

/// A configuration that is refused, before any socket is opened (exit code 78).
///
/// It reads `what: why. how to fix it.` and never repeats the value of an option, which may be a
/// secret (`docs/security.md`, S-88).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    what: Cow<'static, str>,
    why: Cow<'static, str>,
    fix: Cow<'static, str>,
}

impl ConfigError {
    /// `what` names the thing (a socket, a module, a key), `why` what is wrong with it, `fix` what
    /// to do. None of them ends with a full stop.
    pub fn new(
        what: impl Into<Cow<'static, str>>,
        why: impl Into<Cow<'static, str>>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// An unknown word, with the nearest of the right ones.
    pub fn unknown<'a>(
        what: impl Into<Cow<'static, str>>,
        word: &str,
        right: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Self {
        let why = format!("there is no `{}`", word.escape_debug());
        let fix = match nearest(word, right.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of: {}", right.into_iter().collect::<Vec<_>>().join(", ")),
        };
        Self::new(what, why, fix)
    }

    /// The same error, said of the larger thing `outer` that holds it.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.what = format!("{outer}: {}", self.what).into();
        self
    }

    /// How to mend it.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

/// `what: why`; [`ConfigError::fix`] belongs on a line of its own.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for ConfigError {}

/// The word of `right` that somebody who typed `word` most likely meant.
pub fn nearest<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    right
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_right_word_is_named_and_a_far_one_lists_them_all() {
        let modules = ["env", "exec", "file", "hosts", "password", "peercred"];
        for (typed, meant) in
            [("pasword", "password"), ("Flie", "file"), ("peercreds", "peercred"), ("envv", "env")]
        {
            assert_eq!(nearest(typed, modules), Some(meant));
        }
        let error = ConfigError::unknown("auth", "zzzzz", modules);
        assert_eq!(error.to_string(), "auth: there is no `zzzzz`");
        assert_eq!(error.fix(), "use one of: env, exec, file, hosts, password, peercred");
    }
}
