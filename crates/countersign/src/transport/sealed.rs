//! Xpra's encryption over any [`Stream`]: plain packets inside, encrypted ones outside.
//!
//! Called by the gateway's driver and by the client. Both see the packets as they would be without it: what an
//! announcement in a hello or a challenge changes is done here, so that the stream may be handed over like any other.

use std::{
    fmt,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    task::spawn_blocking,
};

use super::Stream;
use crate::proto::{
    Secret,
    wire::xpra::{
        Caps, WireError,
        cipher::{Cipher, Framing, Key, Mode, Opener, Parameters, Sealer, key_material},
    },
};

/// What one end knows before anything is said: the cipher, and the key material that both ends share.
#[derive(Clone)]
pub struct Encryption {
    cipher: Cipher,
    material: Arc<Secret>,
}

impl Encryption {
    /// The key is what `content` holds without the ends of lines around it. `None`: that is nothing.
    pub fn new(cipher: Cipher, content: &Secret) -> Option<Self> {
        Some(Self { cipher, material: Arc::new(key_material(content)?) })
    }

    /// The cipher.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Stretches the key aside, and never for more peers at once than there are cores (S-38).
    async fn derive(&self, parameters: Parameters) -> io::Result<Key> {
        let place = Arc::clone(&STRETCHING).acquire_owned().await.map_err(io::Error::other)?;
        let material = Arc::clone(&self.material);
        let derived = spawn_blocking(move || {
            let key = parameters.derive(&material);
            drop(place);
            key
        });
        derived.await.map_err(io::Error::other)
    }
}

/// A stream of encrypted packets as one of plain ones. Until the first announcement both are the same.
pub struct Sealed {
    stream: Box<Stream>,
    terms: Encryption,
    /// How the other end wants to be written to, once it said so.
    theirs: Option<Parameters>,
    sealer: Sealer,
    opener: Opener,
    /// The other end has announced and waits for what this end announces: until then it has nothing to say.
    is_due: bool,
    /// Bytes that came and were not decrypted yet.
    raw: Vec<u8>,
    /// Bytes that were, and were not read yet: of one packet at most.
    plain: Vec<u8>,
    /// Bytes on their way, as far as the stream below has not taken them.
    out: Vec<u8>,
}

/// Why two ends do not agree about encryption.
#[derive(Debug)]
#[non_exhaustive]
pub enum Disagreement {
    /// The other end announces none.
    None,
    /// It announces what is not spoken.
    Unspoken(WireError),
    /// It announces another mode than the only one that is spoken.
    OtherMode(Mode),
    /// The work could not be done.
    Lost(io::Error),
}

impl Sealed {
    /// Over this stream, on these terms.
    pub fn new(stream: Stream, terms: Encryption) -> Self {
        Self {
            stream: Box::new(stream),
            terms,
            theirs: None,
            sealer: Sealer::default(),
            opener: Opener::default(),
            is_due: false,
            raw: Vec::new(),
            plain: Vec::new(),
            out: Vec::new(),
        }
    }

    /// What carries it.
    pub fn carrier(&self) -> &Stream {
        &self.stream
    }

    /// Whether the other end has announced how it wants to be written to.
    pub fn is_agreed(&self) -> bool {
        self.theirs.is_some()
    }

    /// Takes what the other end announces: from here on it is written to in that way. Later words without an
    /// announcement change nothing.
    ///
    /// # Errors
    /// As [`Disagreement`] says.
    pub async fn heed(&mut self, caps: &Caps) -> Result<(), Disagreement> {
        let Some(theirs) = Parameters::read(caps).map_err(Disagreement::Unspoken)? else {
            return if self.is_agreed() { Ok(()) } else { Err(Disagreement::None) };
        };
        if !self.terms.cipher.takes(&theirs) {
            return Err(Disagreement::OtherMode(theirs.mode()));
        }
        let key = self.terms.derive(theirs.clone()).await.map_err(Disagreement::Lost)?;
        self.sealer.rekey(&key).map_err(Disagreement::Unspoken)?;
        self.is_due = !self.opener.is_keyed();
        self.theirs = Some(theirs);
        Ok(())
    }

    /// `caps` with how this end wants to be written to, which it expects from here on.
    ///
    /// # Errors
    /// The system has no random bytes, or the other end is in the middle of a packet.
    pub async fn announce(&mut self, caps: Caps) -> io::Result<Caps> {
        let mut random = [0; Parameters::RANDOM];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let ours = match &self.theirs {
            Some(theirs) => theirs.answered(&random),
            None => Parameters::offered(self.terms.cipher.mode.unwrap_or(Mode::Cbc), &random),
        };
        let key = self.terms.derive(ours.clone()).await?;
        let block = self.theirs.as_ref().map(Parameters::block);
        self.opener.rekey(&key.padded_to(block)).map_err(invalid)?;
        self.is_due = false;
        Ok(ours.announce(caps))
    }

    /// Passes bytes from here on that know nothing of packets. The other end does so too.
    pub fn carry_bytes(&mut self) {
        self.sealer.frame(Framing::Bytes);
        self.opener.frame(Framing::Bytes);
    }

    /// Reads what comes as it is from here on, with what could not be decrypted.
    pub fn read_in_clear(&mut self) {
        let mut refused = self.opener.refused();
        refused.append(&mut self.raw);
        (self.raw, self.opener, self.is_due) = (refused, Opener::default(), false);
    }

    /// Gives the stream below what is on its way.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let taken = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.out))?;
            if taken == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.out.drain(..taken);
        }
        // An idle connection keeps no buffer.
        self.out = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Sealed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.plain.is_empty() || buf.remaining() == 0 {
                let take = this.plain.len().min(buf.remaining());
                buf.put_slice(this.plain.get(..take).unwrap_or_default());
                this.plain.drain(..take);
                if this.plain.is_empty() {
                    this.plain = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if !this.raw.is_empty() {
                if this.is_due {
                    return Poll::Ready(Err(invalid(WireError::Unencrypted)));
                }
                // What is wrong stays, and is wrong at the next try too.
                let taken = this.opener.open(&this.raw, &mut this.plain).map_err(invalid)?;
                this.raw.drain(..taken);
                continue;
            }
            this.raw = Vec::new();
            let mut space = [const { std::mem::MaybeUninit::uninit() }; READ];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(match this.opener.is_between() {
                    true => Ok(()),
                    // A cut stream must not look like a whole one.
                    false => Err(ErrorKind::UnexpectedEof.into()),
                });
            }
            this.raw.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        let piece = plain.get(..LARGEST_PIECE).unwrap_or(plain);
        if let Err(error) = this.sealer.seal(piece, &mut this.out) {
            this.out.clear();
            return Poll::Ready(Err(invalid(error)));
        }
        // What is not taken now is on its way all the same: the next write or flush goes on with it.
        match this.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(piece.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut *this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut *this.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("stream", &self.stream).finish_non_exhaustive()
    }
}

fn invalid(error: WireError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Places for those whose keys are being stretched.
static STRETCHING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)))
});

/// Bytes that are read at once.
const READ: usize = 8 * 1024;

/// Bytes that are encrypted at once.
const LARGEST_PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
    use tokio::net::UnixStream;

    use super::*;

    fn terms(key: &str) -> Encryption {
        Encryption::new(Cipher::default(), &Secret::new(key)).unwrap()
    }

    /// Two ends that have announced to each other what they want.
    async fn agreed(keys: [&str; 2]) -> [Sealed; 2] {
        let (near, far) = UnixStream::pair().unwrap();
        let mut near = Sealed::new(Stream::new(near), terms(keys[0]));
        let mut far = Sealed::new(Stream::new(far), terms(keys[1]));
        let announced = near.announce(Caps::default()).await.unwrap();
        far.heed(&announced).await.unwrap();
        let announced = far.announce(Caps::default()).await.unwrap();
        near.heed(&announced).await.unwrap();
        [near, far]
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[b'P', 0x10, 0, 0][..], &size, payload].concat()
    }

    #[tokio::test]
    async fn packets_and_bytes_pass_both_ways_at_once() {
        for bytes in [false, true] {
            let [mut near, mut far] = agreed(["key", "key\n"]).await;
            let mut sent = Vec::new();
            for size in 1..1500 {
                sent.extend(packet(&vec![7; size]));
            }
            if bytes {
                near.carry_bytes();
                far.carry_bytes();
            }
            let talk = |end: Sealed, sent: Vec<u8>| async move {
                let (mut from, mut to) = split(end);
                let upward = tokio::spawn(async move {
                    to.write_all(&sent).await.unwrap();
                    to.shutdown().await.unwrap();
                    to
                });
                let mut read = Vec::new();
                from.read_to_end(&mut read).await.unwrap();
                upward.await.unwrap();
                read
            };
            let (left, right) = tokio::join!(talk(near, sent.clone()), talk(far, sent.clone()));
            assert!(left == sent && right == sent);
        }
    }

    #[tokio::test]
    async fn another_key_is_invalid_data_or_garbage_and_a_cut_is_no_end() {
        let [mut near, mut far] = agreed(["key", "other key"]).await;
        near.write_all(&packet(&[7; 100])).await.unwrap();
        drop(near);
        let mut read = Vec::new();
        assert_eq!(far.read_to_end(&mut read).await.unwrap_err().kind(), ErrorKind::InvalidData);

        let [mut near, mut far] = agreed(["key", "key"]).await;
        near.write_all(&packet(&[7; 100])[..50]).await.unwrap();
        drop(near);
        let mut read = Vec::new();
        assert_eq!(far.read_to_end(&mut read).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn s_038_nothing_is_read_in_clear_between_the_two_announcements() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (mut near, client) =
            (Sealed::new(Stream::new(near), terms("key")), UnixStream::pair().unwrap().0);
        let announced =
            Sealed::new(Stream::new(client), terms("key")).announce(Caps::default()).await.unwrap();
        near.heed(&announced).await.unwrap();
        far.write_all(&packet(&[7; 100])).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn what_came_in_clear_can_be_read_in_clear() {
        for step in [1, 3, 40] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut near = Sealed::new(Stream::new(near), terms("key"));
            near.announce(Caps::default()).await.unwrap();
            let words = tokio::spawn(async move {
                for piece in b"disconnect: not like this\n".chunks(step) {
                    far.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let error = near.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            near.read_in_clear();
            words.await.unwrap();
            let mut text = String::new();
            near.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, "disconnect: not like this\n");
        }
    }
}
