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
    ///
    /// It is repeated only where there is such a one. Otherwise it may be the tail of a secret that
    /// has a comma in it (S-88).
    pub fn unknown<'a>(
        what: impl Into<Cow<'static, str>>,
        word: &str,
        right: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Self {
        if let Some(near) = nearest(word, right.clone()) {
            let why = format!("there is no `{}`", word.escape_debug());
            return Self::new(what, why, format!("did you mean `{near}`?"));
        }
        let right: Vec<&str> = right.into_iter().collect();
        Self::new(what, "an unknown name", format!("use one of: {}", right.join(", ")))
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

/// The word of `right` that somebody who typed `word` most likely meant. Nobody means one of them
/// by more than 40 bytes, and comparing is work in proportion to both lengths.
pub fn nearest<'a>(word: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 40 {
        return None;
    }
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
    fn s_088_the_nearest_right_word_is_named_and_a_far_one_lists_them_all_unrepeated() {
        let modules = ["env", "exec", "file", "hosts", "password", "peercred"];
        for (typed, meant) in
            [("pasword", "password"), ("Flie", "file"), ("peercreds", "peercred"), ("envv", "env")]
        {
            assert_eq!(nearest(typed, modules), Some(meant));
        }
        let error = ConfigError::unknown("auth", "zzzzz", modules);
        assert_eq!(error.to_string(), "auth: an unknown name");
        assert_eq!(error.fix(), "use one of: env, exec, file, hosts, password, peercred");
    }
}
