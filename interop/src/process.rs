//! Programs: daemons that end with the test, and commands that end by themselves.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::PATIENCE;

/// A command line for [`Daemon::start`]: the system ends the program should the test die without cleaning up.
#[must_use]
pub fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", name]);
    command
}

/// A running program and what it has printed so far. Dropping it ends the whole process group.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Mutex<Child>,
    group: Pid,
    output: Arc<Output>,
}

impl Daemon {
    /// Starts a program (see [`program`]) with no input, both outputs captured, in a process group of its own.
    ///
    /// # Panics
    /// If the program cannot be started: the message says how to install it.
    pub fn start(mut command: Command) -> Self {
        let name = name_of(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let output = Arc::new(Output::default());
        collect(child.stdout.take(), &output);
        collect(child.stderr.take(), &output);
        let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        Self { name, child: Mutex::new(child), group, output }
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything printed so far on both outputs.
    pub fn output(&self) -> String {
        self.output.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the state of an own child")
    }

    /// Waits until the output satisfies `found` and returns what it found.
    pub fn wait_for<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.output.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(value) = found(&text) {
                return value;
            }
            let ended = self.ended();
            assert!(ended.is_none(), "{} ended ({ended:?}) before {what}:\n{text}", self.name);
            assert!(Instant::now() < deadline, "{} did not come to {what}:\n{text}", self.name);
            text = self
                .output
                .grown
                .wait_timeout(text, Duration::from_millis(100))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Whether something comes true while the program runs, within the test's patience.
    pub fn eventually(&self, is_true: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !is_true() {
            if Instant::now() > deadline || self.ended().is_some() {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Sends a signal to the program itself.
    pub fn signal(&self, signal: Signal) {
        kill(self.group, signal).expect("a signal to an own child");
    }

    /// Waits for the end of the program.
    pub fn wait(&self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.output());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(self.group, &mut self.child());
        if thread::panicking() {
            eprintln!("--- {} printed:\n{}", self.name, self.output());
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; 128 and the signal's number if a signal ended it, as shells count.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
    title: String,
}

impl Finished {
    /// Both outputs, for messages and for programs that mix them.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Whether the command succeeded.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of: {}\n{}", self.title, self.all());
        self
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        self.expect_code(0)
    }

    /// Fails the test unless one of the outputs contains this text.
    #[track_caller]
    pub fn expect_text(self, text: &str) -> Self {
        assert!(self.all().contains(text), "`{text}` expected from: {}\n{}", self.title, self.all());
        self
    }

    /// Fails the test if one of the outputs contains this text.
    #[track_caller]
    pub fn expect_without(self, text: &str) -> Self {
        assert!(!self.all().contains(text), "`{text}` must not come from: {}\n{}", self.title, self.all());
        self
    }
}

/// Runs a command without input to its end.
pub fn run(command: &mut Command) -> Finished {
    run_with_input(command, b"")
}

/// Runs a command to its end; its input is written and closed.
///
/// # Panics
/// If it cannot be started, or lasts longer than [`PATIENCE`].
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Finished {
    let title = format!("{command:?}");
    let started = Instant::now();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command);
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let mut stdin = child.stdin.take().expect("a piped input");
    let input = input.to_vec();
    // A program may end without reading its input: that is not the test's failure.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of an own child") {
            break status;
        }
        if started.elapsed() > PATIENCE {
            end(group, &mut child);
            panic!("no end after {PATIENCE:?}: {title}\n{}{}", text_of(stdout), text_of(stderr));
        }
        thread::sleep(Duration::from_millis(5));
    };
    // What it may have left running would keep the outputs open.
    let _ = killpg(group, Signal::SIGKILL);
    drop(writer.join());
    Finished {
        code: code_of(status),
        stdout: text_of(stdout),
        stderr: text_of(stderr),
        took: started.elapsed(),
        title,
    }
}

/// Runs a command of which nothing but success is expected, such as setting up a daemon's files.
pub fn must(command: &mut Command) -> String {
    run(command).expect_success().stdout
}

#[derive(Debug, Default)]
struct Output {
    text: Mutex<String>,
    grown: Condvar,
}

fn spawn(command: &mut Command) -> Child {
    command.process_group(0);
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "{} cannot be started: {error}. `cargo xtask deps` installs what the tests need",
            name_of(command)
        )
    })
}

fn end(group: Pid, child: &mut Child) {
    // TERM first: Xpra and PostgreSQL remove what they made and end their own children.
    let _ = killpg(group, Signal::SIGTERM);
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(10));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

fn collect(stream: Option<impl Read + Send + 'static>, output: &Arc<Output>) {
    let mut stream = stream.expect("a piped output");
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut text = output.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            output.grown.notify_all();
        }
    });
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    let mut stream = stream.expect("a piped output");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    })
}

fn text_of(reader: thread::JoinHandle<io::Result<Vec<u8>>>) -> String {
    let bytes = reader.join().expect("the reader does not panic").unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// The program's own name, without the `setpriv` before it.
fn name_of(command: &Command) -> String {
    let words = command.get_args().skip_while(|word| *word != "--").nth(1);
    words.unwrap_or_else(|| command.get_program()).to_string_lossy().into_owned()
}
