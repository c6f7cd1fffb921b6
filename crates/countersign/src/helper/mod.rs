//! The privileged helper: a second process of the gateway, from which the first has what it may not do itself.
//!
//! It is split off before anything is listened on, reads the same configuration as root, and knows then what can be
//! asked for. The first process becomes a plain user. What it asks for is one packet: the [`Name`] of something that
//! was configured, 32 bytes, and what that needs to know of one client, at most 16 KiB; with it comes one end of a
//! socket, the [`Line`], for the answer. Whatever else arrives is refused
//! (`docs/decisions/0021-privileged-helper.md`).
//!
//! Modules and backends call [`offer`] where they are configured and [`installed`] where they act; the gateway's start
//! calls the rest.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::sockopt::{Timeout, set_socket_timeout},
};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use crate::sys::privilege;

/// What something configured is called between the two: a digest of all that was configured, so that nothing which
/// differs from it in anything has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; NAME_BYTES]);

impl Name {
    /// The name of a thing of some kind by what was written about it.
    pub(crate) fn of(kind: &str, configured: &[u8]) -> Self {
        let digest = Sha256::new_with_prefix(kind).chain_update([0]).chain_update(configured);
        Self(digest.finalize().into())
    }
}

/// Has the helper do `serve` for whoever asks for `name`. In a process that has a helper, nothing comes of it.
///
/// Whether it will: not if the gateway has started, and the helper has read another configuration ([`UNKNOWN`]).
#[must_use]
pub(crate) fn offer(name: Name, serve: impl Fn(Request) + Send + Sync + 'static) -> bool {
    if let Some(known) = KNOWN.get() {
        return known.contains(&name);
    }
    OFFERS.lock().get_or_insert_default().insert(name, Arc::new(serve));
    true
}

/// From now on nothing can be offered that was not: whoever would do it has read the configuration, or is not there.
pub(crate) fn settle() {
    let known = OFFERS.lock().iter().flatten().map(|(name, _)| *name).collect();
    // Once is enough: nothing is added later.
    let _ = KNOWN.set(known);
}

/// Whether anything was configured that a plain user cannot do.
pub(crate) fn is_wanted() -> bool {
    OFFERS.lock().as_ref().is_some_and(|offers| !offers.is_empty())
}

/// The helper of this process, if it has one. There is one at most, as a process has one user.
pub(crate) fn installed() -> Option<&'static Channel> {
    INSTALLED.get()
}

/// The gateway's end of what it asks the helper by.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Has the process at the other end of `socket` asked from now on.
    pub(crate) fn install(socket: OwnedFd) -> io::Result<()> {
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        INSTALLED.set(Self { socket }).map_err(|_| io::Error::other("there is a helper already"))
    }

    /// Asks for nothing any more, upon which the helper ends.
    pub(crate) fn close(&self) {
        // One that is gone has been closed by it.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The helper is gone, knows nothing of that name, or does not answer within `limit`.
    pub(crate) fn ask(&self, name: Name, about: &impl Serialize, limit: Duration) -> io::Result<Answer> {
        let packet = [&name.0[..], &serde_json::to_vec(about)?].concat();
        if packet.len() > MOST_BYTES {
            return Err(too_long());
        }
        let (ours, theirs) = privilege::packet_pair()?;
        privilege::send(&self.socket, &packet, Some(std::os::fd::AsFd::as_fd(&theirs)))?;
        drop(theirs);
        let line = Line(ours);
        let (text, descriptor) = line.hear(limit)?;
        if text == REFUSED {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the helper knows of no such configuration: it is restarted with the gateway only",
            ));
        }
        Ok(Answer { text, descriptor, line })
    }
}

/// What the helper said.
#[derive(Debug)]
pub(crate) struct Answer {
    text: Vec<u8>,
    /// What came with it.
    pub(crate) descriptor: Option<OwnedFd>,
    /// Kept for as long as what was asked for is wanted.
    pub(crate) line: Line,
}

impl Answer {
    /// Its words.
    ///
    /// # Errors
    /// They are none of this kind.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.text)?)
    }
}

/// What the gateway asks for, in the helper.
#[derive(Debug)]
pub(crate) struct Request {
    about: Vec<u8>,
    /// Where the answer goes.
    pub(crate) line: Line,
}

impl Request {
    /// What it is about. The gateway may have been taken over: whatever this says is judged as a stranger's words.
    ///
    /// # Errors
    /// It is not of this kind.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.about)?)
    }
}

/// One end of the socket of one request.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

impl Line {
    /// Says something, and passes a descriptor on.
    ///
    /// # Errors
    /// Nobody is there to hear it.
    pub(crate) fn say(&self, words: &impl Serialize, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.send(&serde_json::to_vec(words)?, descriptor)
    }

    /// Hears what the other end has to say later.
    ///
    /// # Errors
    /// It is gone, or silent for longer than `limit`.
    pub(crate) fn hear_later<T: DeserializeOwned>(&self, limit: Duration) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.hear(limit)?.0)?)
    }

    /// Waits until the other end is gone, or says something.
    pub(crate) fn until_left(&self) {
        let mut end = [PollFd::new(&self.0, PollFlags::IN)];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut end, None) {}
    }

    /// For waiting together with something else.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    fn send(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if packet.len() > MOST_BYTES {
            return Err(too_long());
        }
        privilege::send(&self.0, packet, descriptor)
    }

    fn hear(&self, limit: Duration) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        // Zero would mean to wait for ever.
        set_socket_timeout(&self.0, Timeout::Recv, Some(limit.max(Duration::from_millis(1))))?;
        let mut room = vec![0; MOST_BYTES];
        match privilege::receive(&self.0, &mut room)? {
            (0, _) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the helper does not answer")),
            (length, descriptor) => {
                room.truncate(length);
                Ok((room, descriptor))
            }
        }
    }
}

/// The helper's work until the gateway is gone. A thread for each request, whose runtime is the current one's.
///
/// # Errors
/// The channel is broken.
pub(crate) fn serve(channel: &OwnedFd, runtime: &tokio::runtime::Handle) -> io::Result<()> {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    loop {
        let mut room = vec![0; MOST_BYTES];
        let (length, line) = match privilege::receive(channel, &mut room) {
            Ok((0, _)) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            received => received?,
        };
        room.truncate(length);
        let Some(line) = line.map(Line) else { continue };
        let known = parse(&room).and_then(|(name, about)| Some((offered(name)?, about.to_vec())));
        let Some((work, about)) = known.filter(|_| RUNNING.load(Ordering::SeqCst) < MOST_REQUESTS) else {
            tracing::warn!("the gateway asks the helper for what is not configured, or for too much");
            let _ = line.send(REFUSED, None);
            continue;
        };
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let runtime = runtime.clone();
        let started = thread::Builder::new().name("request".into()).spawn(move || {
            let _entered = runtime.enter();
            let served = std::panic::AssertUnwindSafe(|| work(Request { about, line }));
            // The line is closed, which the gateway takes for a refusal.
            let _ = std::panic::catch_unwind(served);
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            RUNNING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn offered(name: Name) -> Option<Serve> {
    OFFERS.lock().as_ref()?.get(&name).cloned()
}

/// A packet: what is asked for, and what about.
fn parse(packet: &[u8]) -> Option<(Name, &[u8])> {
    let (name, about) = packet.split_first_chunk()?;
    Some((Name(*name), about))
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a request is longer than 16 KiB")
}

type Serve = Arc<dyn Fn(Request) + Send + Sync>;

static OFFERS: Mutex<Option<HashMap<Name, Serve>>> = Mutex::new(None);
static INSTALLED: OnceLock<Channel> = OnceLock::new();
static KNOWN: OnceLock<HashSet<Name>> = OnceLock::new();

/// Why something cannot be configured that was not at the start.
pub(crate) const UNKNOWN: &str =
    "it is new, and the privileged helper knows what was configured at the start";
/// How to mend that.
pub(crate) const RESTART: &str = "restart the gateway, or write it as it was";

const NAME_BYTES: usize = 32;

/// The longest packet.
const MOST_BYTES: usize = 16 * 1024;

/// Each has a thread for as long as its session lasts.
const MOST_REQUESTS: usize = 8192;

/// The one answer that is no JSON.
const REFUSED: &[u8] = b"?";

/// How long the helper may take to take a request.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A helper in a thread, and its channel.
    fn helper() -> Channel {
        let (ours, theirs) = privilege::packet_pair().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            serve(&theirs, runtime.handle()).unwrap();
        });
        Channel { socket: ours }
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn s_094_what_was_configured_is_served_and_nothing_else() {
        let name = Name::of("test", b"configured");
        let _ = offer(name, |request| {
            let text: String = request.read().unwrap();
            request.line.say(&format!("{text}!"), None).unwrap();
        });
        assert!(is_wanted());
        let helper = helper();
        let answer = helper.ask(name, &"hello", SOON).unwrap();
        assert_eq!(answer.read::<String>().unwrap(), "hello!");
        for other in [Name::of("test", b"Configured"), Name::of("tes", b"tconfigured"), Name::of("", b"")] {
            let refused = helper.ask(other, &"hello", SOON).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        }
        // It panics on words of another kind, and goes on with the next request.
        assert!(helper.ask(name, &7, SOON).is_err());
        assert!(helper.ask(name, &"x".repeat(MOST_BYTES), SOON).is_err());
        assert!(helper.ask(name, &"hello", SOON).is_ok());
    }

    #[test]
    fn s_094_packets_that_nobody_sends_harm_nobody() {
        let name = Name::of("test", b"noise");
        let _ = offer(name, |request| drop(request.line.say(&1, None)));
        let helper = helper();
        let (line, theirs) = privilege::packet_pair().unwrap();
        let too_long = vec![0; MOST_BYTES + 1];
        for noise in [&b"x"[..], &[0; 31], &[0; 32], &[0xff; 4096], &too_long] {
            for line in [None, Some(std::os::fd::AsFd::as_fd(&theirs))] {
                privilege::send(&helper.socket, noise, line).unwrap();
            }
        }
        drop(theirs);
        assert_eq!(helper.ask(name, &(), SOON).unwrap().read::<u8>().unwrap(), 1);
        drop(line);
    }

    proptest! {
        #[test]
        fn s_094_any_packet_is_a_name_and_a_rest_or_nothing(packet: Vec<u8>) {
            match parse(&packet) {
                Some((name, about)) => prop_assert_eq!([&name.0[..], about].concat(), packet),
                None => prop_assert!(packet.len() < NAME_BYTES),
            }
        }
    }
}
