//! A client that is inside, in front of what the gateway has by itself: it says who is there, and then echoes.

use std::io::{BufRead as _, BufReader, Read, Write};

use crate::net::is_over;

/// A session that is open.
#[derive(Debug)]
pub struct Session<S>(BufReader<S>);

impl<S: Read + Write> Session<S> {
    /// Waits until it is in.
    ///
    /// # Panics
    /// It is not let in.
    #[track_caller]
    pub fn begin(stream: S) -> Self {
        let mut session = Self(BufReader::new(stream));
        let mut who = String::new();
        session.0.read_line(&mut who).expect("an answer");
        assert!(who.starts_with('{'), "{who:?}");
        session
    }

    /// Says something and hears it.
    ///
    /// # Panics
    /// The session has ended.
    #[track_caller]
    pub fn echoes(&mut self) {
        self.0.get_mut().write_all(b"still here\n").expect("an open session");
        let mut heard = String::new();
        self.0.read_line(&mut heard).expect("an echo");
        assert_eq!(heard, "still here\n");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It goes on, or something is said.
    #[track_caller]
    pub fn is_over(&mut self) {
        assert!(is_over(&mut self.0), "something is said instead of the end");
    }
}
