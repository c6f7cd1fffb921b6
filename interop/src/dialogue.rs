//! A program that answers each line with a line, for as long as the test has something to ask it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
};

use crate::PATIENCE;

/// A running program with both of its ends in our hands. Dropping it ends the program.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
    complaints: Option<thread::JoinHandle<String>>,
}

impl Dialogue {
    /// Starts a program.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} cannot be started: {error}. `cargo xtask deps` installs what the tests need")
        });
        let questions = child.stdin.take().expect("a piped input");
        let stdout = BufReader::new(child.stdout.take().expect("a piped output"));
        let mut stderr = child.stderr.take().expect("a piped output");
        let (say, answers) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            // What came before an error is still worth showing.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, questions, answers, complaints: Some(complaints) }
    }

    /// Asks and waits for the answer.
    ///
    /// # Panics
    /// If the program ends or says nothing for longer than the test's patience.
    #[track_caller]
    pub fn ask(&mut self, question: &str) -> String {
        self.begin(question);
        self.answer(question)
    }

    /// Asks; [`Self::answer`] waits for the answer.
    ///
    /// # Panics
    /// If the program does not listen any more.
    #[track_caller]
    pub fn begin(&mut self, question: &str) {
        let written = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        if let Err(error) = written {
            panic!("`{question}` cannot be asked: {error}\n{}", self.end());
        }
    }

    /// The next answer; `question` is for the message only.
    ///
    /// # Panics
    /// If the program ends or says nothing for longer than the test's patience.
    #[track_caller]
    pub fn answer(&mut self, question: &str) -> String {
        match self.answers.recv_timeout(2 * PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("no answer to `{question}`\n{}", self.end()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the end instead of an answer to `{question}`\n{}", self.end())
            }
        }
    }

    /// Ends the program and returns what it complained about.
    fn end(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.complaints.take().map(|reader| reader.join().unwrap_or_default()).unwrap_or_default()
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.end();
    }
}
