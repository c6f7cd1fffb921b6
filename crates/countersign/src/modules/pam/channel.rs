//! What the gateway and the worker of one login say to each other: bounded, typed, without a secret in
//! anything that is decoded.
//!
//! Each message has its length in front, four bytes, the highest first. The gateway says the two halves of the
//! [`Task`], then one answer for each question, as it is. The worker says [`Word`]s; the first question is not said, its
//! answer is there before. Where there is to be a session, the gateway says an empty message to a login that
//! passed, which opens it; the end of the channel closes it.

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Secret, sys::pam::Code};

/// The longest message. An answer has up to 4 KiB, a word much less.
pub(super) const MOST_BYTES: usize = 16 * 1024;

/// What the worker is to find out.
#[derive(Debug)]
pub(super) struct Task {
    /// Said by who starts the worker, who may be another process than who asks it.
    pub(super) rules: Rules,
    /// Said by who asks it.
    pub(super) client: Client,
}

/// Who wants to log in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    /// The name that the client claims.
    pub(super) user: String,
    /// Where the client is.
    pub(super) address: Option<IpAddr>,
    /// Who runs it, if the kernel says so.
    pub(super) peer_uid: Option<u32>,
}

/// What holds for every login of a link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) service: String,
    pub(super) directory: Option<PathBuf>,
    pub(super) check_account: bool,
    pub(super) session: bool,
    pub(super) min_uid: u32,
    /// How long PAM may work on a login, and on closing its session.
    pub(super) timeout: Duration,
}

/// What a worker says. After a no it ends, and after a yes where there is no session.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// PAM wants to know more.
    Question(String),
    /// Passed, as this account or, where there is none of the name, as this name.
    Passed { name: String, ids: Option<(u32, u32)> },
    /// The session is open.
    Opened,
    /// PAM said no in this phase.
    Denied(Phase, Code),
    /// PAM said yes, and this account is not let in all the same.
    Unfit(String),
    /// It could not be found out.
    Failed(String),
}

/// The parts of a login that can end with a no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Start,
    Authentication,
    Account,
    Session,
}

/// Sends one message.
pub(super) fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= MOST_BYTES);
    to.write_all(&length.ok_or_else(too_long)?.to_be_bytes())?;
    to.write_all(message)
}

/// Sends what is no secret.
pub(super) fn say(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    send(to, &serde_json::to_vec(what)?)
}

/// Receives one message.
pub(super) fn receive(from: &mut impl Read) -> io::Result<Secret> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= MOST_BYTES);
    let mut message = vec![0; length.ok_or_else(too_long)?];
    let read = from.read_exact(&mut message);
    let message = Secret::new(message);
    read.map(|()| message)
}

/// Receives what is no secret.
pub(super) fn hear<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(receive(from)?.expose())?)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message is longer than 16 KiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The other end is a process that a module of PAM may have taken over.
        #[test]
        fn whatever_the_other_end_says_is_bounded_and_never_a_crash(bytes: Vec<u8>, claimed in 0_u32..40_000) {
            let wire = [&claimed.to_be_bytes()[..], &bytes].concat();
            for wire in [&wire, &bytes] {
                let mut rest = wire.as_slice();
                if let Ok(message) = receive(&mut rest) {
                    prop_assert!(message.expose().len() <= MOST_BYTES);
                    prop_assert_eq!(message.expose().len() + 4 + rest.len(), wire.len());
                }
                let _ = hear::<Word>(&mut wire.as_slice());
                let _ = (hear::<Client>(&mut wire.as_slice()), hear::<Rules>(&mut wire.as_slice()));
            }
        }

        #[test]
        fn words_arrive_as_they_were(name: String, ids: Option<(u32, u32)>, text: String) {
            for word in [Word::Question(text.clone()), Word::Passed { name, ids }, Word::Failed(text)] {
                let mut wire = Vec::new();
                if say(&mut wire, &word).is_ok() {
                    prop_assert_eq!(hear::<Word>(&mut wire.as_slice()).unwrap(), word);
                }
            }
        }
    }

    #[test]
    fn a_message_arrives_as_it_was_and_what_is_too_long_or_cut_does_not() {
        let mut wire = Vec::new();
        send(&mut wire, b"hunter2").unwrap();
        say(&mut wire, &Word::Question("Code: ".into())).unwrap();
        assert!(send(&mut wire, &vec![0; MOST_BYTES + 1]).is_err());
        let mut read = wire.as_slice();
        assert!(receive(&mut read).unwrap().matches(b"hunter2"));
        assert_eq!(hear::<Word>(&mut read).unwrap(), Word::Question("Code: ".into()));
        assert!(receive(&mut read).is_err());
        assert!(receive(&mut &wire[..9]).is_err());
        assert!(receive(&mut &b"\0\0\x40\x01"[..]).is_err(), "16 KiB and a byte");
        assert!(receive(&mut &b"\xff\xff\xff\xff"[..]).is_err());
    }

    #[test]
    fn what_is_no_word_is_an_error() {
        for wrong in [&b"{}"[..], b"", b"null", b"\"Passed\"", b"{\"Passed\":{}}", b"\xff"] {
            let mut wire = Vec::new();
            send(&mut wire, wrong).unwrap();
            assert!(hear::<Word>(&mut wire.as_slice()).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
