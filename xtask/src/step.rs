//! One step of a run: announced, timed, and stopped at when it fails.

use std::{
    env, error,
    ffi::OsStr,
    fmt, fs,
    io::{self, Write as _},
    process::Command,
    time::{Duration, Instant},
};

/// Why a run stopped, in a line for whoever started it.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Failed {}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Announces a step, runs its command with our own output, and says how long it took.
pub(crate) fn run(title: &str, command: &mut Command) -> Result<(), Failed> {
    timed(title, || {
        let status = command.status().map_err(|error| cannot_start(command, &error))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failed(format!("{title}: {} ({status})", text_of(command))))
        }
    })
}

/// The same for a command that talks much: its output is shown only if it fails.
pub(crate) fn run_quietly(title: &str, command: &mut Command) -> Result<(), Failed> {
    timed(title, || {
        let output = command.output().map_err(|error| cannot_start(command, &error))?;
        if output.status.success() {
            return Ok(());
        }
        io::stderr().write_all(&output.stdout)?;
        io::stderr().write_all(&output.stderr)?;
        Err(Failed(format!("{title}: {} ({})", text_of(command), output.status)))
    })
}

/// Announces and times any piece of work.
pub(crate) fn timed<T>(title: &str, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    eprintln!("==> {title}");
    let started = Instant::now();
    let result = work()?;
    eprintln!("    {title}: done in {}", seconds(started.elapsed()));
    Ok(result)
}

/// Says why a step was left out.
pub(crate) fn skipped(title: &str, reason: &str) {
    eprintln!("==> {title}: skipped, {reason}");
}

/// A cargo command, run by the cargo that runs us.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Whether a program can be found on the search path or among those of the administrator.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path).chain(administrator).any(|folder| folder.join(program).is_file())
}

/// Whether a program runs and ends with success; its output is dropped.
pub(crate) fn succeeds<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Whether any crate of the workspace has features, so that their combinations differ.
pub(crate) fn has_features() -> Result<bool, Failed> {
    for entry in fs::read_dir("crates")? {
        let manifest = fs::read_to_string(entry?.path().join("Cargo.toml"))?;
        if manifest.lines().any(|line| line.trim() == "[features]") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is said when a command could not even be started.
pub(crate) fn cannot_start(command: &Command, error: &io::Error) -> Failed {
    Failed(format!("{} cannot be started: {error}", command.get_program().to_string_lossy()))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn text_of(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
