//! The options of one thing that is configured by name (a module, a handler, a socket), between the
//! parser that read them and the code that takes them.
#![forbid(unsafe_code)]

use std::{fmt, path::PathBuf, time::Duration};

use zeroize::Zeroizing;

use crate::{Secret, error::ConfigError};

/// One option that a module has, for `--help`, the manual and the checks.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its key, with dashes: `client-username`.
    pub name: &'static str,
    /// What stands for its value in a manual: `FILE`, `yes|no`.
    pub value: &'static str,
    /// What holds if it is not given; empty if nothing does.
    pub default: &'static str,
    /// What it does, in one sentence without a full stop.
    pub help: &'static str,
}

impl OptionSpec {
    /// An option, as its module's table lists it.
    pub const fn new(
        name: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { name, value, default, help }
    }
}

/// The options that were written for one module.
///
/// The module takes each out; what is left at the end is an unknown option, which is an error
/// (S-65, W02). Keys are compared with `_` as `-`. Values are never printed.
pub struct Options {
    module: String,
    values: Vec<(String, Zeroizing<String>)>,
}

impl Options {
    /// The options of `module` as they were written, in order.
    pub fn new(module: impl Into<String>, values: impl IntoIterator<Item = (String, String)>) -> Self {
        let values =
            values.into_iter().map(|(key, value)| (canonical(&key), Zeroizing::new(value))).collect();
        Self { module: module.into(), values }
    }

    /// The module's name as it was written.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// Takes the value of an option that may be given once.
    ///
    /// # Errors
    /// It is given twice.
    pub fn take(&mut self, name: &str) -> Result<Option<Zeroizing<String>>, ConfigError> {
        let mut found = self.take_all(name);
        if found.len() > 1 {
            return Err(self.error(name, "it is given twice", "write it once"));
        }
        Ok(found.pop())
    }

    /// Takes every value of an option that may be repeated, in order.
    pub fn take_all(&mut self, name: &str) -> Vec<Zeroizing<String>> {
        let (found, rest) = std::mem::take(&mut self.values).into_iter().partition(|(key, _)| key == name);
        self.values = rest;
        let found: Vec<(String, Zeroizing<String>)> = found;
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes a text that must be there and not empty.
    ///
    /// # Errors
    /// It is missing, empty, or given twice.
    pub fn required(&mut self, name: &str) -> Result<Zeroizing<String>, ConfigError> {
        let fix = format!("write {}({name}=...)", self.module);
        match self.take(name)? {
            Some(value) if !value.is_empty() => Ok(value),
            Some(_) => Err(self.error(name, "its value is empty", fix)),
            None => Err(self.error(name, "it is required and missing", fix)),
        }
    }

    /// Takes a secret that must be there and not empty.
    ///
    /// # Errors
    /// As [`Options::required`].
    pub fn secret(&mut self, name: &str) -> Result<Secret, ConfigError> {
        let mut value = self.required(name)?;
        Ok(Secret::new(std::mem::take(&mut *value)))
    }

    /// Takes a path. Relative ones are against the directory the gateway was started in.
    ///
    /// # Errors
    /// As [`Options::required`], if there is no default.
    pub fn path(&mut self, name: &str) -> Result<PathBuf, ConfigError> {
        Ok(PathBuf::from(&**self.required(name)?))
    }

    /// Takes a yes or no. Case does not matter; `true`, `1`, `on` and `false`, `0`, `off` are read too.
    ///
    /// # Errors
    /// Any other word: an unclear answer is never taken as a no.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.take(name)? else { return Ok(default) };
        match value.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "1" | "on" => Ok(true),
            "no" | "false" | "0" | "off" => Ok(false),
            _ => Err(self.error(name, "it is neither yes nor no", format!("write {name}=yes or {name}=no"))),
        }
    }

    /// The values of this name that were not taken yet. They may be secret.
    pub fn written<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.values.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a value of this name that was not taken yet.
    pub fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(key, _)| key == name)
    }

    /// Takes one of two words; the first is what holds without any.
    ///
    /// # Errors
    /// Any other word.
    pub fn choice(&mut self, name: &str, words: [&'static str; 2]) -> Result<&'static str, ConfigError> {
        let [default, other] = words;
        match self.take(name)?.as_deref().map(|word| word.trim()) {
            None => Ok(default),
            Some(word) => words.into_iter().find(|known| *known == word).ok_or_else(|| {
                let why = format!("it is neither {default} nor {other}");
                self.error(name, why, format!("write {name}={other} or leave it out"))
            }),
        }
    }

    /// Takes a whole number within `range`.
    ///
    /// # Errors
    /// It is no number, or out of range.
    pub fn number(
        &mut self,
        name: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(value) = self.take(name)? else { return Ok(default) };
        value.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let fix = format!("write a number from {} to {}", range.start(), range.end());
            self.error(name, "it is no number in the range", fix)
        })
    }

    /// Takes a length of time: a number of seconds, or a number with `ms`, `s`, `m`, `h` or `d`.
    ///
    /// # Errors
    /// It is none.
    pub fn duration(&mut self, name: &str, default: Duration) -> Result<Duration, ConfigError> {
        let Some(value) = self.take(name)? else { return Ok(default) };
        parse_duration(&value).ok_or_else(|| {
            self.error(name, "it is no length of time", format!("write seconds, or a unit as in {name}=1m"))
        })
    }

    /// An error about the option `name` of this module.
    pub fn error(
        &self,
        name: &str,
        why: impl Into<std::borrow::Cow<'static, str>>,
        fix: impl Into<std::borrow::Cow<'static, str>>,
    ) -> ConfigError {
        ConfigError::new(format!("option {name} of {}", self.module), why, fix)
    }

    /// Everything must have been taken.
    ///
    /// # Errors
    /// An option that the module does not have, with the nearest of `known`.
    pub fn finish(self, known: &[&str]) -> Result<(), ConfigError> {
        match self.values.first() {
            None => Ok(()),
            Some((key, _)) => {
                let what = format!("options of {}", self.module);
                Err(ConfigError::unknown(what, key, known.iter().copied()))
            }
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.values.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Options").field("module", &self.module).field("keys", &keys).finish()
    }
}

/// `10`, `1.5s`, `250ms`, `2m`, `1h`, `7d`. A bare number is seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    let number: f64 = number.trim().parse().ok().filter(|number| *number >= 0.0)?;
    Duration::try_from_secs_f64(number * seconds).ok()
}

fn canonical(key: &str) -> String {
    key.trim().to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(values: &[(&str, &str)]) -> Options {
        Options::new("file", values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn s_088_neither_debug_nor_errors_repeat_a_value() {
        let mut given = options(&[("filename", "hunter2"), ("verify", "hunter2"), ("count", "hunter2")]);
        assert!(!format!("{given:?}").contains("hunter2"));
        let errors = [
            given.flag("verify", false).unwrap_err(),
            given.number("count", 1, 0..=9).unwrap_err(),
            given.finish(&["filenames"]).unwrap_err(),
        ];
        for error in errors {
            assert!(!format!("{error}{}", error.fix()).contains("hunter2"));
        }
    }

    #[test]
    fn s_065_what_is_unknown_repeated_or_unclear_is_an_error() {
        let unknown = options(&[("filname", "x")]).finish(&["filename", "strip"]).unwrap_err();
        assert_eq!(unknown.fix(), "did you mean `filename`?");
        assert!(options(&[("a", "1"), ("a", "2")]).take("a").is_err());
        assert!(options(&[("a", "maybe")]).flag("a", true).is_err());
        assert!(options(&[("a", "")]).required("a").is_err());
        assert!(options(&[]).required("a").is_err());
    }

    #[test]
    fn keys_are_read_with_either_dash_and_any_case() {
        assert!(options(&[("Client_Username", "yes")]).flag("client-username", false).unwrap());
    }

    #[test]
    fn lengths_of_time_have_units() {
        for (text, millis) in
            [("10", 10_000), ("1.5s", 1500), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1", "1 week", "nan", "1e400"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
