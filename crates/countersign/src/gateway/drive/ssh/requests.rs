//! What a client of SSH asks for, turned into [`Event`]s for the driver, which decides.

use std::{pin::Pin, time::Duration};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Error, Pty,
    keys::{Algorithm, Certificate, HashAlg, PublicKey, ssh_key::public::KeyData},
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey},
};
use tokio::{
    io::AsyncWrite,
    sync::{mpsc, oneshot},
};

use crate::{Secret, transport::Inbox};

/// Something that a client wants.
pub(super) enum Event {
    /// To be let in.
    Asks {
        /// As whom.
        user: String,
        attempt: Attempt,
        reply: oneshot::Sender<Auth>,
    },
    /// Its channel stands.
    Opened(Opened),
}

/// One request of a login.
pub(super) enum Attempt {
    /// The method `none`, by which clients ask what there is.
    None,
    Password(Secret),
    /// A dialogue, begun or answered. An answer to no question is empty.
    Interactive(Option<Secret>),
    /// A key or certificate as SSH encodes it, by which the client signed for this session.
    Key(Vec<u8>),
}

impl Attempt {
    /// Whether it can be the last one of a login.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Password(_) | Self::Interactive(Some(_)) | Self::Key(_))
    }
}

/// A channel that is a stream from now on.
pub(super) struct Opened {
    pub(super) id: ChannelId,
    pub(super) purpose: Purpose,
    pub(super) inbox: Inbox,
    pub(super) writer: Pin<Box<dyn AsyncWrite + Send>>,
}

/// What is spoken in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The daemon's own protocol (a shell, or the subsystem `countersign`).
    Bytes,
    /// Xpra's packets (`xpra _proxy ...`).
    Packets,
    /// Our own client's, which waits for its first word (`countersign _relay ...`).
    Relay,
}

impl Purpose {
    /// What a command is for, if it is one of those that clients of ours and of Xpra run. None is ever run.
    fn of(command: &[u8]) -> Option<Self> {
        let command = std::str::from_utf8(command).ok()?;
        let mut words = command.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c)));
        match command.split(' ').next() {
            Some("countersign") if command.split(' ').nth(1) == Some("_relay") => Some(Self::Relay),
            // Xpra's clients write a script around it that looks for the program.
            _ => words.any(|word| word == "_proxy").then_some(Self::Packets),
        }
    }
}

/// What is answered to a command by which a client looks whether Xpra is here, as a machine with it answers: what it
/// prints, and its exit status. Clients of Paramiko go no further without. Nothing is looked for, and nothing run.
fn probed(command: &[u8]) -> Option<(String, u32)> {
    let command = std::str::from_utf8(command).ok()?;
    let wanted = command.strip_prefix("which ").or_else(|| command.strip_prefix("command -v "));
    match (wanted, command) {
        // The name comes back as it was given: what is run next has `_proxy` in it, wherever the program is.
        (Some(program), _) if program.rsplit('/').next() == Some("xpra") => Some((format!("{program}\n"), 0)),
        (Some(_), _) => Some((String::new(), 1)),
        (None, "command") => Some((String::new(), 0)),
        // Which system this is, is nobody's affair; no answer to it means none of those that need another way.
        (None, "echo %OS%" | "echo $OSTYPE") => Some((String::new(), 1)),
        _ => None,
    }
}

/// Whether signatures by this key in this way are looked at. Those of RSA are with SHA-2 only (RFC 8332), and the key
/// has as many bits as one has to have for `ssh-key` on every other socket: with fewer it is too easy to find, and with
/// more somebody unknown decides how long we calculate.
pub(super) fn is_checked(key: &PublicKey, algorithm: &Algorithm) -> bool {
    match (key.key_data(), algorithm) {
        (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }) => {
            let modulus = key.n().as_positive_bytes().unwrap_or_default();
            // Its own count is of whole bytes.
            let unused = modulus.first().map_or(0, |first| first.leading_zeros());
            RSA_BITS.contains(&key.key_size().saturating_sub(unused))
        }
        (KeyData::Rsa(_), _) | (_, Algorithm::Rsa { .. }) => false,
        _ => true,
    }
}

/// The session's end of a connection.
pub(super) struct Requests {
    tell: mpsc::Sender<Event>,
    channel: Option<Half>,
    inbox: Inbox,
    probes: usize,
}

/// A channel, until it is known what for.
struct Half {
    id: ChannelId,
    writer: Option<ChannelWriteHalf<Msg>>,
}

impl Requests {
    pub(super) fn new(tell: mpsc::Sender<Event>) -> Self {
        Self { tell, channel: None, inbox: Inbox::default(), probes: 0 }
    }

    async fn ask(&self, user: &str, attempt: Attempt) -> Result<Auth, Error> {
        let (reply, replied) = oneshot::channel();
        let event = Event::Asks { user: user.to_owned(), attempt, reply };
        // A driver that is gone has decided.
        self.tell.send(event).await.map_err(|_| Error::Disconnect)?;
        replied.await.map_err(|_| Error::Disconnect)
    }

    /// Hands the channel over, once.
    async fn open(&mut self, id: ChannelId, purpose: Purpose, session: &mut Session) -> Result<(), Error> {
        let half = self.channel.as_mut().filter(|half| half.id == id).and_then(|half| half.writer.take());
        let Some(half) = half else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let opened = Opened { id, purpose, inbox: self.inbox.clone(), writer: Box::pin(half.make_writer()) };
        self.tell.send(Event::Opened(opened)).await.map_err(|_| Error::Disconnect)
    }
}

impl Requests {
    /// Answers on a channel that ends with it, so that the next one may be opened.
    fn answer(&mut self, id: ChannelId, answer: (String, u32), session: &mut Session) -> Result<(), Error> {
        let is_idle = self.channel.as_ref().is_some_and(|half| half.id == id && half.writer.is_some());
        self.probes += 1;
        if !is_idle || self.probes > MOST_PROBES {
            return session.channel_failure(id);
        }
        let (printed, status) = answer;
        session.channel_success(id)?;
        if !printed.is_empty() {
            session.data(id, printed.into_bytes())?;
        }
        session.exit_status_request(id, status)?;
        session.eof(id)?;
        session.close(id)?;
        self.channel = None;
        Ok(())
    }
}

impl Handler for Requests {
    type Error = Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        self.ask(user, Attempt::None).await
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        self.ask(user, Attempt::Password(Secret::new(password))).await
    }

    /// Which keys are accepted is told to nobody who does not hold them (S-26); which kinds are, to everybody. It comes
    /// before a signature is checked, of a certificate's key too.
    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(if is_checked(offer.public_key, offer.algorithm) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        self.ask(user, Attempt::Key(key.public_key.to_bytes()?)).await
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Error> {
        self.ask(user, Attempt::Key(certificate.to_bytes()?)).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Error> {
        let answer = response.map(|mut answers| Secret::new(answers.next().unwrap_or_default().to_vec()));
        self.ask(user, Attempt::Interactive(answer)).await
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        if self.channel.is_some() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        }
        let id = channel.id();
        // Its bytes come by `data`, where they are counted.
        let (_, writer) = channel.split();
        self.channel = Some(Half { id, writer: Some(writer) });
        reply.accept().await;
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.open(id, Purpose::Bytes, session).await
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        match Purpose::of(command) {
            Some(purpose) => self.open(id, purpose, session).await,
            None => match probed(command) {
                Some(answer) => self.answer(id, answer, session),
                None => session.channel_failure(id),
            },
        }
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        match name {
            "countersign" => self.open(id, Purpose::Bytes, session).await,
            _ => session.channel_failure(id),
        }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(id)
    }

    /// A daemon that does not read is waited for here, after its client has used up the room it was given.
    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Error> {
        if self.channel.as_ref().is_some_and(|half| half.id == id) {
            self.inbox.put(data);
        }
        if self.inbox.len() > FULL {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The room that a client is given next. Where nobody takes what came, it is the least that makes the client ask
    /// again.
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        if self.inbox.len() > FULL { LEAST } else { WINDOW }
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Error> {
        if self.channel.as_ref().is_some_and(|half| half.id == id) {
            self.inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.channel_eof(id, session).await
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.inbox.end();
    }
}

/// The room that a client has for bytes on their way.
pub(super) const WINDOW: u32 = 1 << 20;

/// Bytes that nobody took, at which the room is no longer renewed. With the room that the client had then, one session
/// holds at most 1.25 MiB.
const FULL: usize = 256 * 1024;

/// Commands of that kind that a client has: Xpra's run five for each place where they look.
const MOST_PROBES: usize = 32;

/// How long a key of RSA is (NIST SP 800-131A: from 2,048 bits on); no longer than our own verifier takes them.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// A room of two bytes is renewed when both were used.
const LEAST: u32 = 2;

/// How long a client waits for its next two bytes while a daemon does not read.
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
#[test]
fn whoever_looks_for_xpra_finds_it_and_nothing_else() {
    let answer = |command: &str| probed(command.as_bytes());
    assert_eq!(answer("which xpra"), Some(("xpra\n".to_owned(), 0)));
    assert_eq!(answer("command -v xpra"), Some(("xpra\n".to_owned(), 0)));
    assert_eq!(answer("which /usr/local/bin/xpra"), Some(("/usr/local/bin/xpra\n".to_owned(), 0)));
    assert_eq!(answer("command"), Some((String::new(), 0)));
    for absent in ["which Xpra_cmd.exe", "which ls", "command -v sh", "which ", "echo %OS%", "echo $OSTYPE"] {
        assert_eq!(answer(absent), Some((String::new(), 1)), "{absent}");
    }
    for other in ["", "which", "ls", "echo x", "echo $OSTYPE; id", "command ls", "xpra", "sh -c 'which xpra'"]
    {
        assert_eq!(answer(other), None, "{other}");
    }
}

#[cfg(test)]
#[test]
fn only_commands_of_known_clients_are_taken() {
    let purpose = |command: &str| Purpose::of(command.as_bytes());
    assert_eq!(purpose("countersign _relay"), Some(Purpose::Relay));
    assert_eq!(purpose("countersign _relay unix:/run/app.sock"), Some(Purpose::Relay));
    assert_eq!(purpose("xpra _proxy :10"), Some(Purpose::Packets));
    let script = "sh -c 'if type \"xpra\" > /dev/null 2>&1; then xpra _proxy; else echo no; fi'";
    assert_eq!(purpose(script), Some(Purpose::Packets));
    for other in ["", "ls", "countersign", "countersign info", "sh -c id", "my_proxy", "echo x_proxy"] {
        assert_eq!(purpose(other), None, "{other}");
    }
    assert_eq!(Purpose::of(&[0xff, b'_']), None);
}

#[cfg(test)]
#[test]
fn rsa_is_looked_at_with_sha_2_and_a_usual_length_alone() {
    use russh::keys::ssh_key::{Mpint, public::RsaPublicKey};
    let rsa_from = |first: u8, bytes: usize| {
        let number = |bytes: &[u8]| Mpint::from_positive_bytes(bytes);
        let modulus = [&[first][..], &vec![1; bytes - 1]].concat();
        let key = RsaPublicKey::new(number(&[1, 0, 1]), number(&modulus)).unwrap();
        PublicKey::new(KeyData::Rsa(key), "")
    };
    let rsa = |bytes| rsa_from(0x80, bytes);
    let by = |hash| Algorithm::Rsa { hash };
    for (bytes, looked_at) in
        [(128, false), (255, false), (256, true), (384, true), (1024, true), (1025, false), (2048, false)]
    {
        for hash in [HashAlg::Sha256, HashAlg::Sha512] {
            assert_eq!(is_checked(&rsa(bytes), &by(Some(hash))), looked_at, "{bytes} bytes");
        }
        assert!(!is_checked(&rsa(bytes), &by(None)), "SHA-1");
        assert!(!is_checked(&rsa(bytes), &Algorithm::Ed25519), "another kind than the key's");
    }
    assert!(!is_checked(&rsa_from(0x7f, 256), &by(Some(HashAlg::Sha256))), "2,047 bits");
}
