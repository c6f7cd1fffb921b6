//! The two tables of TCP wrappers, read as hosts_access(5) and hosts_options(5) describe them.
//!
//! What the system's library skips with a line in its log is an error here, because a rule that is
//! skipped protects nobody. A rule about other daemons is not read beyond its first field: it cannot
//! matter here, and the tables are shared.

use std::fmt;

use super::pattern::{Pattern, Subject, fits};
use crate::Refusal;

/// The rules of one file that may be about us, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    rules: Vec<Rule>,
}

/// Reads the words of a pattern file.
pub(super) type ReadFile<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

impl Table {
    /// Reads a table. `names` are the daemon names that mean us.
    ///
    /// # Errors
    /// Each line that is wrong.
    pub(super) fn parse(text: &str, names: &[String], read: &mut ReadFile<'_>) -> Result<Self, Vec<Mistake>> {
        let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
        for (line, text) in logical_lines(text) {
            match Rule::parse(line, &text, names, read) {
                Ok(rule) => rules.extend(rule),
                Err(why) => mistakes.push(Mistake { line, why }),
            }
        }
        if mistakes.is_empty() { Ok(Self { rules }) } else { Err(mistakes) }
    }

    /// The first rule that matches: its line and what it says.
    ///
    /// # Errors
    /// It depends on the peer's name, and the resolver gave no answer (S-78).
    pub(super) fn first_match(&self, subject: &Subject<'_>) -> Result<Option<(usize, Says)>, Refusal> {
        for rule in &self.rules {
            if rule.matches(subject)? {
                return Ok(Some((rule.line, rule.says)));
            }
        }
        Ok(None)
    }
}

/// What a rule that matches says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// What its file is for.
    AsItsFile,
    /// `: allow`, in whichever file.
    Allow,
    /// `: deny`, in whichever file.
    Deny,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The line's number, counted from 1; of a continued line, the first.
    pub(super) line: usize,
    pub(super) why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    line: usize,
    daemons: List<Daemon>,
    clients: List<Pattern>,
    says: Says,
}

impl Rule {
    /// `None` for a rule about other daemons.
    fn parse(
        line: usize,
        text: &str,
        names: &[String],
        read: &mut ReadFile<'_>,
    ) -> Result<Option<Self>, String> {
        if text.trim_start().starts_with('#') {
            return Err("a comment starts in the first column; here the system's library reads a rule".into());
        }
        let (daemons, rest) = split_field(text).ok_or("there is no colon between daemons and clients")?;
        let (clients, options) = split_field(rest).unwrap_or((rest, ""));
        let daemons = List::parse(daemons, "daemons", &mut |word| Daemon::parse(word, names))?;
        if !daemons.0.iter().take(1).flatten().any(|daemon| daemon.named != Named::Other) {
            return Ok(None);
        }
        let mut file = |path: &str| pattern_file(&read(path)?);
        let clients = List::parse(clients, "clients", &mut |word| Pattern::parse(word, &mut file))?;
        Ok(Some(Self { line, daemons, clients, says: parse_options(options)? }))
    }

    fn matches(&self, subject: &Subject<'_>) -> Result<bool, Refusal> {
        Ok(self.daemons.matches(|daemon| Ok(daemon.matches(subject)))?
            && self.clients.matches(|client| client.matches(subject))?)
    }
}

/// Words with the words between `EXCEPT`s apart: `a EXCEPT b EXCEPT c` is `a` without (`b` without `c`).
#[derive(Debug, PartialEq, Eq)]
struct List<T>(Vec<Vec<T>>);

impl<T> List<T> {
    fn parse(
        text: &str,
        what: &str,
        parse: &mut dyn FnMut(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        let mut groups = vec![Vec::new()];
        for word in text.split([' ', '\t', '\r', ',']).filter(|word| !word.is_empty()) {
            if word.eq_ignore_ascii_case("EXCEPT") {
                groups.push(Vec::new());
                continue;
            }
            let parsed = parse(word).map_err(|why| format!("`{}`: {why}", word.escape_debug()))?;
            groups.last_mut().ok_or("the list is empty")?.push(parsed);
        }
        if groups.iter().any(Vec::is_empty) {
            return Err(format!("a list of {what} is empty"));
        }
        Ok(Self(groups))
    }

    /// Groups are asked in turn until one does not match: after an odd number of matches the list does.
    fn matches(&self, mut test: impl FnMut(&T) -> Result<bool, Refusal>) -> Result<bool, Refusal> {
        for (position, group) in self.0.iter().enumerate() {
            let mut found = false;
            for item in group {
                if test(item)? {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(position % 2 == 1);
            }
        }
        Ok(self.0.len() % 2 == 1)
    }
}

/// A word of a daemon list, judged against our names when it is read.
#[derive(Debug, PartialEq, Eq)]
struct Daemon {
    named: Named,
    /// `daemon@address`: our own end of the connection.
    at: Option<Pattern>,
}

#[derive(Debug, PartialEq, Eq)]
enum Named {
    Us,
    Port(u16),
    Other,
}

impl Daemon {
    fn parse(word: &str, names: &[String]) -> Result<Self, String> {
        let (name, at) = word.split_once('@').map_or((word, None), |(name, at)| (name, Some(at)));
        let named = match name.parse() {
            Ok(port) => Named::Port(port),
            Err(_) if names.iter().any(|own| is_called(own, name)) => Named::Us,
            Err(_) => Named::Other,
        };
        let no_file = &mut |_: &str| Err("a file cannot be named here".into());
        let at = match at {
            Some(at) if named != Named::Other => Some(Pattern::parse(at, no_file)?),
            _ => None,
        };
        if at.as_ref().is_some_and(|at| !at.is_of_addresses()) {
            return Err("our own end of a connection is known by its address: write that".into());
        }
        Ok(Self { named, at })
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        let named = match self.named {
            Named::Us => true,
            Named::Port(port) => subject.local.port() == port,
            Named::Other => false,
        };
        named && self.at.as_ref().is_none_or(|at| at.holds(subject.local.ip().to_canonical()))
    }
}

/// Whether the daemon `own` is meant by a word, which may be a pattern as for hosts.
fn is_called(own: &str, word: &str) -> bool {
    let (own, word) = (own.to_ascii_lowercase(), word.to_ascii_lowercase());
    let longer = own.len() > word.len();
    match word.as_str() {
        "all" | "known" => true,
        _ if word.contains(['*', '?']) => fits(word.as_bytes(), own.as_bytes()),
        _ if word.starts_with('.') => longer && own.ends_with(&word),
        _ if word.ends_with('.') => longer && own.starts_with(&word),
        _ => own == word,
    }
}

fn pattern_file(text: &str) -> Result<Vec<Pattern>, String> {
    let mut no_file = |_: &str| Err("a pattern file cannot name another".into());
    let parse = |(position, word): (usize, &str)| {
        let wrong = |why| format!("its word {}, `{}`: {why}", position + 1, word.escape_debug());
        Pattern::parse(word, &mut no_file).map_err(wrong)
    };
    text.split_ascii_whitespace().enumerate().map(parse).collect()
}

/// The options after the second colon. Two are understood, one needs nothing done.
fn parse_options(text: &str) -> Result<Says, String> {
    let mut says = Says::AsItsFile;
    for option in split_options(text).iter().map(|option| option.trim()).filter(|option| !option.is_empty()) {
        if says != Says::AsItsFile {
            return Err("nothing may follow `allow` or `deny`".into());
        }
        let keyword = option.split([' ', '\t', '=']).next().unwrap_or_default().to_ascii_lowercase();
        says = match keyword.as_str() {
            "allow" if keyword.len() == option.len() => Says::Allow,
            "deny" if keyword.len() == option.len() => Says::Deny,
            // How loudly the library would log; here every decision is recorded.
            "severity" => Says::AsItsFile,
            "spawn" | "twist" | "aclexec" => {
                return Err(format!("`{keyword}` would run a command, which is never done here"));
            }
            _ => {
                return Err(
                    "only `allow`, `deny` and `severity` may follow the clients; commands are not run".into(),
                );
            }
        };
    }
    Ok(says)
}

/// At colons, but not at those behind a backslash.
fn split_options(text: &str) -> Vec<String> {
    let (mut options, mut escaped) = (vec![String::new()], false);
    for c in text.chars() {
        if c == ':' && !escaped {
            options.push(String::new());
        } else if let Some(option) = options.last_mut() {
            option.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    options
}

/// At the first colon that is not inside the brackets of an IPv6 address.
fn split_field(text: &str) -> Option<(&str, &str)> {
    let mut inside = false;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => inside = true,
            b']' => inside = false,
            b':' if !inside => return Some((text.get(..position)?, text.get(position + 1..)?)),
            _ => {}
        }
    }
    None
}

/// Lines that say something, joined where a backslash ends one, with the number of the first. A last
/// line needs no newline.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut physical = text.split('\n').enumerate();
    while let Some((position, first)) = physical.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            match physical.next() {
                Some((_, more)) => line.push_str(more),
                None => break,
            }
        }
        if !line.starts_with('#') && !line.trim().is_empty() {
            lines.push((position + 1, line));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        super::names::{HostName, Resolve},
        *,
    };

    struct Nameless;

    impl Resolve for Nameless {
        fn name_of(&self, _: std::net::IpAddr) -> Result<HostName, Refusal> {
            Ok(HostName::Missing)
        }
    }

    fn table(text: &str) -> Result<Table, Vec<Mistake>> {
        let names = ["countersign".to_owned(), "xpra".to_owned()];
        let mut read = |path: &str| match path {
            "/offices" => Ok("10.0.0. 10.0.1.0/24\n[2001:db8::]/32".to_owned()),
            "/wrong" => Ok("10.0.0. 10.0".to_owned()),
            "/nested" => Ok("/offices".to_owned()),
            _ => Err("it is missing".to_owned()),
        };
        Table::parse(text, &names, &mut read)
    }

    fn matched(text: &str, address: &str) -> Option<(usize, Says)> {
        let local = "192.0.2.1:10000".parse().unwrap();
        let subject = Subject::new(address.parse().unwrap(), local, &Nameless);
        table(text).unwrap().first_match(&subject).unwrap()
    }

    fn line(text: &str, address: &str) -> Option<usize> {
        matched(text, address).map(|(line, _)| line)
    }

    fn mistakes(text: &str) -> Vec<String> {
        table(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_lines_are_counted_as_in_an_editor() {
        let text = "# comment \\\nstill the comment\n\n \t\nsshd: ALL\nxpra: \\\n  10.0.0. \\\n 10.1.\nALL: 10.\nALL:ALL";
        assert_eq!(line(text, "10.0.0.1"), Some(6));
        assert_eq!(line(text, "10.1.0.1"), Some(6));
        assert_eq!(line(text, "10.2.0.1"), Some(9));
        assert_eq!(line(text, "::1"), Some(10));
        assert_eq!(line("", "::1"), None);
    }

    #[test]
    fn both_names_mean_us_and_a_rule_that_leaves_one_out_leaves_us_out() {
        for daemons in
            ["countersign", "XPRA", "ALL", "sshd, xpra", "counter*", "x???", "10000", "ALL EXCEPT sshd"]
        {
            assert_eq!(line(&format!("{daemons}: ALL"), "10.0.0.1"), Some(1), "{daemons}");
        }
        for daemons in ["sshd", "ALL EXCEPT xpra", "countersigns", "22", "xpra EXCEPT 10000"] {
            assert_eq!(line(&format!("{daemons}: ALL"), "10.0.0.1"), None, "{daemons}");
        }
    }

    #[test]
    fn except_nests_to_the_right() {
        let text = "ALL: 10. EXCEPT 10.0. EXCEPT 10.0.0.";
        for (address, expected) in
            [("11.0.0.1", None), ("10.1.0.1", Some(1)), ("10.0.1.1", None), ("10.0.0.1", Some(1))]
        {
            assert_eq!(line(text, address), expected, "{address}");
        }
    }

    #[test]
    fn a_rule_may_be_for_one_of_our_addresses() {
        assert_eq!(line("xpra@192.0.2.0/24: ALL", "10.0.0.1"), Some(1));
        assert_eq!(line("xpra@192.0.3.: ALL", "10.0.0.1"), None);
        assert_eq!(line("sshd@host.example: ALL", "10.0.0.1"), None);
    }

    #[test]
    fn a_pattern_file_stands_for_its_words() {
        assert_eq!(line("ALL: /offices", "10.0.1.9"), Some(1));
        assert_eq!(line("ALL: /offices", "2001:db8::9"), Some(1));
        assert_eq!(line("ALL: ALL EXCEPT /offices", "10.0.0.9"), None);
    }

    #[test]
    fn allow_deny_and_severity_are_understood() {
        assert_eq!(matched("ALL: ALL: ALLOW", "::1"), Some((1, Says::Allow)));
        assert_eq!(matched("ALL: [::]/0 : severity mail.info : deny", "::1"), Some((1, Says::Deny)));
        assert_eq!(matched("ALL: ALL: severity = notice", "::1"), Some((1, Says::AsItsFile)));
        assert_eq!(matched("ALL: ALL:", "::1"), Some((1, Says::AsItsFile)));
    }

    #[test]
    fn s_074_a_rule_that_would_run_a_command_is_a_mistake() {
        for keyword in ["spawn", "twist", "aclexec", "SPAWN"] {
            let found = mistakes(&format!("xpra: 10.\nALL: ALL: {keyword} (/bin/echo a\\:b) & : allow"));
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("line 2: ") && found[0].contains("never done"), "{found:?}");
        }
        assert!(mistakes("ALL: ALL: /usr/bin/mail root")[0].contains("commands are not run"));
        assert!(mistakes("ALL: ALL: setenv A b")[0].contains("commands are not run"));
        assert!(mistakes("ALL: ALL: allow : severity x")[0].contains("nothing may follow"));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "ALL ALL\nALL:\n: ALL\nALL: 10.0.0\nALL: ALL EXCEPT\nxpra@host.example: ALL\n  # ALL: ALL\n\
                    ALL: @office\nALL: /gone\nALL: /wrong\nALL: /nested\nALL: bob@10.\nALL: \u{1b}[2J";
        let found = mistakes(text);
        assert_eq!(found.len(), 13, "{found:#?}");
        for (position, mistake) in found.iter().enumerate() {
            assert!(mistake.starts_with(&format!("line {}: ", position + 1)), "{mistake}");
            assert!(!mistake.contains('\u{1b}'));
        }
        assert!(found[9].contains("its word 2, `10.0`"), "{}", found[9]);
    }

    #[test]
    fn a_rule_about_other_daemons_may_say_what_it_likes() {
        assert_eq!(table("sshd: @office bob@host: spawn x\nin.tftpd@h: 10.0"), Ok(Table::default()));
    }
}
