//! The test suite: nextest if it is there, else cargo's own runner; at the end one line that counts.

use std::{
    env,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    process::{Command, Stdio},
    thread,
};

use crate::step::{Failed, cannot_start, cargo, run as step, skipped, succeeds, timed};

/// Builds the commands and examples that the tests run, then runs the suite; `arguments` go to the runner.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failed> {
    // The tests against real programs run the command and the examples, and no test target of theirs builds them.
    step("commands and examples", &mut cargo(["build", "--workspace", "--bins", "--examples"]))?;
    let mut command = if succeeds("cargo", &["nextest", "--version"]) { nextest()? } else { plain() };
    if !arguments.iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(arguments);
    if !succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        skipped("tests with a second local account", "only root can make one");
    }
    let counted = timed("test suite", || counting(&mut command))?;
    eprintln!("{} passed, {} failed", counted.passed, counted.failed);
    if counted.success {
        Ok(())
    } else {
        Err(Failed(format!("test suite: {} test(s) failed", counted.failed)))
    }
}

fn nextest() -> Result<Command, Failed> {
    let mut command = cargo(["nextest", "run", "--no-fail-fast"]);
    // Two for each core: most tests wait, for a server to start or for the pause before a refusal.
    if env::var_os(THREADS).is_none() {
        command.env(THREADS, (2 * thread::available_parallelism()?.get()).to_string());
    }
    if io::stderr().is_terminal() {
        command.arg("--color=always");
    }
    Ok(command)
}

/// How many tests run at a time; an argument `--test-threads` counts more.
const THREADS: &str = "NEXTEST_TEST_THREADS";

fn plain() -> Command {
    cargo(["test", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"])
}

/// What the runner said of itself.
#[derive(Debug, Default)]
struct Counted {
    passed: u64,
    failed: u64,
    success: bool,
}

/// Runs the suite, shows its output as it comes, and reads the counts out of it.
fn counting(command: &mut Command) -> Result<Counted, Failed> {
    // One pipe for both: nextest reports on the error output, cargo's own runner on the other.
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().map_err(|error| cannot_start(command, &error))?;
    // Or the reading end would never see the end: the command holds copies of the writing end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut counted = Counted::default();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        io::stderr().write_all(&line)?;
        counted.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    counted.success = child.wait()?.success();
    Ok(counted)
}

impl Counted {
    /// Takes the counts from `Summary [ 3.0s] 12 tests run: 11 passed, 1 failed` or, added up, from the lines
    /// `test result: ok. 5 passed; 0 failed; ..`.
    fn read(&mut self, line: &str) {
        let line = without_colours(line);
        if line.trim_start().starts_with("Summary [") || line.starts_with("test result: ") {
            self.passed += before(&line, " passed");
            self.failed += before(&line, " failed") + before(&line, " timed out");
        }
    }
}

/// The number that stands before a word, or 0.
fn before(line: &str, word: &str) -> u64 {
    let Some((head, _)) = line.split_once(word) else { return 0 };
    head.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// A line without terminal escapes (`ESC [ .. m`).
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.split_once('m').map_or(part, |(_, rest)| rest)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lines: &[&str]) -> (u64, u64) {
        let mut counted = Counted::default();
        lines.iter().for_each(|line| counted.read(line));
        (counted.passed, counted.failed)
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let line =
            "     Summary [  21.880s] 9 tests run: 6 passed (2 slow), 2 failed, 1 timed out, 3 skipped\n";
        assert_eq!(counts(&["        PASS [ 0.011s] a::b 3 passed\n", line]), (6, 3));
    }

    #[test]
    fn colours_do_not_hide_the_counts() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m7\u{1b}[0m tests run: \u{1b}[1m7\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m\n";
        assert_eq!(counts(&[line]), (7, 0));
    }

    #[test]
    fn the_results_of_cargos_own_runner_are_added_up() {
        let first =
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let second = "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(counts(&[first, "test x ... ok\n", second]), (7, 1));
    }
}
