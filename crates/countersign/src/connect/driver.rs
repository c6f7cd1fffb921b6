//! The one thing to call: an address in, a stream of a server that let us in out.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::sign::CertifiedKey;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    dial::{Dial, Reached, ServerTrust},
    error::{Cause, ConnectError},
    identity::{OwnIdentity, Shows},
    login::{self, AUTH, COUNTERSIGN, Login, Unfinished, Welcomed, Words},
    person::{Nobody, Person},
    succession::Succession,
    uri::Uri,
};
use crate::{
    Claim, Username, handlers,
    proto::{
        client::{Conversation, Failure, FailureKind, Responder, Server, Settings, quotable},
        mechanism::Mechanism,
        peer::TlsFacts,
        wire::xpra::{self, Encoder, ServerHello},
    },
    transport::{Encryption, Stream, tls::Fingerprint},
};

/// Logs in at one server, as often as it is asked to.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use countersign::{connect::Connector, handlers::{Registry, Sources}};
/// let sources = Sources::new().with_password_file("/etc/app/password");
/// let connected = Connector::new("tls://alice@app.example:10000".parse()?)
///     .with_handlers(Registry::builtin().all(sources)?)
///     .connect()
///     .await?;
/// println!("in by {:?}", connected.server.answered);
/// let mut stream = connected.stream; // bytes to and from the daemon
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector {
    uri: Uri,
    username: Option<Username>,
    responders: Option<Arc<[Responder]>>,
    trust: ServerTrust,
    shows: Option<Shows>,
    person: Arc<dyn Person>,
    settings: Settings,
    require_encryption: bool,
    request: Option<String>,
    silent: bool,
    encryption: Option<Encryption>,
}

/// What a server is told, beside the login.
struct Saying<'a> {
    words: Words,
    /// The encoders to try, in order.
    encoders: &'a [Encoder],
    /// What the daemon is to hear first.
    first: &'a [u8],
}

/// A server that let us in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// What follows the login. Our own gateway's is the daemon's bytes; an Xpra server's begins
    /// with the packet that ended the login, so that an Xpra program can go on from there.
    pub stream: Stream,
    /// What is known of the server.
    pub server: ServerFacts,
}

/// What is known of a server after a login.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Its address, without user or password.
    pub address: String,
    /// Whether it proved to be the server of that address.
    pub verified: bool,
    /// Whether nobody but the two ends can read the bytes.
    pub confidential: bool,
    /// SHA-256 of its public key, with TLS.
    pub fingerprint: Option<Fingerprint>,
    /// TLS version and cipher, with TLS.
    pub tls: Option<TlsFacts>,
    /// Whether the system's `ssh` carries the bytes, and answers for the machine.
    pub ssh: bool,
    /// Whether Xpra's AES is spoken.
    pub aes: bool,
    /// SHA-256 of the certificate that it asked us for and was shown.
    pub shown: Option<Fingerprint>,
    /// The version of countersign it runs, by its own word; `None` for Xpra's servers.
    pub countersign: Option<String>,
    /// Whether the stream is the daemon's bytes rather than Xpra's packets.
    pub is_stream: bool,
    /// The mechanisms that were answered, in order; none if it asked nothing.
    pub answered: Vec<Mechanism>,
    /// The encoder that it reads.
    pub encoder: Encoder,
    /// Its hello: the answer to a request, or what the session can do.
    pub hello: ServerHello,
}

impl Connector {
    /// A client of the server at `uri`, which answers from the address, the environment and a person.
    pub fn new(uri: Uri) -> Self {
        Self {
            username: uri.username.clone(),
            uri,
            responders: None,
            trust: ServerTrust::default(),
            shows: None,
            person: Arc::new(Nobody),
            settings: Settings::default(),
            require_encryption: false,
            request: None,
            silent: false,
            encryption: None,
        }
    }

    /// Answers with these responders, in order, and no others ([`handlers::Registry`]).
    #[must_use]
    pub fn with_handlers(mut self, responders: Arc<[Responder]>) -> Self {
        self.responders = Some(responders);
        self
    }

    /// Logs in as `username`, whatever the address says.
    #[must_use]
    pub fn with_username(mut self, username: Option<Username>) -> Self {
        self.username = username;
        self
    }

    /// Knows TLS servers in this way. By default by the system's authorities, then by the user's
    /// known servers; a server that nobody knows is refused unless the [`Person`] accepts it.
    #[must_use]
    pub fn with_trust(mut self, trust: ServerTrust) -> Self {
        self.trust = trust;
        self
    }

    /// Shows this certificate to a TLS server that is known and asks for one.
    #[must_use]
    pub fn with_identity(mut self, identity: Arc<CertifiedKey>) -> Self {
        self.shows = Some(Shows::Given(identity));
        self
    }

    /// Shows the user's own certificate to such a server, and makes it if there is none yet.
    #[must_use]
    pub fn with_own_identity(mut self, own: OwnIdentity) -> Self {
        self.shows = Some(Shows::Own(own));
        self
    }

    /// Tells and asks this person.
    #[must_use]
    pub fn with_person(mut self, person: Arc<dyn Person>) -> Self {
        self.person = person;
        self
    }

    /// Leaves a server that asks for nothing (S-45).
    #[must_use]
    pub fn requiring_auth(mut self, require: bool) -> Self {
        self.settings = self.settings.requiring_auth(require);
        self
    }

    /// Never connects over plain TCP (S-44).
    #[must_use]
    pub fn requiring_encryption(mut self, require: bool) -> Self {
        self.require_encryption = require;
        self
    }

    /// Asks for this in place of a session: `info`, `version`.
    #[must_use]
    pub fn requesting(mut self, request: impl Into<String>) -> Self {
        self.request = Some(request.into());
        self
    }

    /// Says nothing of a login, for a server whose socket has `protocol=stream`: it lets in by what the
    /// transport proves, such as our certificate, or closes the connection without a word. A request is not
    /// made there, and no handler asked.
    #[must_use]
    pub fn saying_nothing(mut self, silent: bool) -> Self {
        self.silent = silent;
        self
    }

    /// Encrypts as Xpra does, on these terms: a server that does not is left. The wire is then as good as any for a
    /// password, and nothing protects what it carries from being altered.
    #[must_use]
    pub fn with_encryption(mut self, terms: Option<Encryption>) -> Self {
        self.encryption = terms;
        self
    }

    /// Whether nothing is said of a login.
    pub fn says_nothing(&self) -> bool {
        self.silent
    }

    pub(super) fn requires_auth(&self) -> bool {
        self.settings.require_auth
    }

    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Connects and logs in.
    ///
    /// Servers read different encoders. One that cannot read the first is asked again in the next,
    /// over a new connection, before anything of the login was said.
    ///
    /// # Errors
    /// The server cannot be reached or verified, or the login fails.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        self.connect_and_say(&[]).await
    }

    /// Connects, logs in, and says `first` to the daemon: behind the last answer where the server is our
    /// own, so that it waits for no other way there and back, and after the login elsewhere. A server that
    /// refuses the login throws it away.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_and_say(&self, first: &[u8]) -> Result<Connected, ConnectError> {
        let uuid = login::random(16).iter().map(|byte| format!("{byte:02x}")).collect();
        let words = Words::Own { version: XPRA_VERSION, uuid, request: self.request.clone() };
        self.connect_saying(Saying { words, encoders: &Encoder::ALL, first }).await
    }

    /// Connects and logs in for another client, which said `hello` and will go on with the stream:
    /// the server hears that hello, with our login in it, in the encoder that the client reads, and `first` as
    /// [`Connector::connect_and_say`] has it.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn connect_for(&self, hello: xpra::Hello, first: &[u8]) -> Result<Connected, ConnectError> {
        let encoder = hello.encoder;
        let words = Words::Of(Box::new(hello));
        self.connect_saying(Saying { words, encoders: &[encoder], first }).await
    }

    async fn connect_saying(&self, saying: Saying<'_>) -> Result<Connected, ConnectError> {
        let Saying { words, encoders, first } = &saying;
        self.judge_wire()?;
        if self.silent {
            return self.connect_silently(first).await;
        }
        let responders = match &self.responders {
            Some(responders) => Arc::clone(responders),
            None => {
                let sources = handlers::Sources::new().with_address_password(self.uri.password.clone());
                handlers::Registry::builtin().all(sources)?
            }
        };
        let mut last_words = String::new();
        for &encoder in *encoders {
            let mut reached = self.reach().await?;
            let Reached { confidential, verified, .. } = reached;
            tracing::debug!(target: AUTH, confidential, verified, encoder = encoder.name(), "reached {}", self.uri);
            let conversation = self.conversation(&reached, Arc::clone(&responders));
            let stream = &mut reached.stream;
            match (Login { stream, conversation, encoder, words, first, ventured: false }).run().await {
                Ok(welcomed) => {
                    self.renew(&reached).await;
                    let said = welcomed.said;
                    let mut connected = self.connected(reached, welcomed, encoder);
                    if !said {
                        let broke = |error| ConnectError::broken(&self.uri, &error);
                        connected.stream.write_all(first).await.map_err(broke)?;
                        connected.stream.flush().await.map_err(broke)?;
                    }
                    return Ok(connected);
                }
                Err(Unfinished::Failed(failure)) => {
                    let kind = failure.kind;
                    let error = ConnectError::login(&self.uri, &hinted(failure));
                    return match self.next_for(&reached).filter(|_| kind == FailureKind::Refused) {
                        Some(both) => self.connect_as_next(&both, saying, error).await,
                        None => Err(error),
                    };
                }
                Err(Unfinished::Unreadable(said)) if said.is_empty() && self.dial().showed_own(&reached) => {
                    return Box::pin(self.showing_nothing().connect_saying(saying)).await;
                }
                Err(Unfinished::Unreadable(said)) => {
                    if let Some(error) = without(reached, &self.uri).await {
                        return Err(error);
                    }
                    tracing::debug!(encoder = encoder.name(), "the server does not read this encoder");
                    last_words = said;
                }
            }
        }
        Err(ConnectError::login(&self.uri, &unreadable(&last_words)))
    }

    /// The server, under what it is to be spoken to with.
    async fn reach(&self) -> Result<Reached, ConnectError> {
        let reached = self.dial().reach().await?;
        let Some(terms) = &self.encryption else { return Ok(reached) };
        Ok(Reached { stream: reached.stream.under(terms.clone()), confidential: true, ..reached })
    }

    /// S-44: what plain TCP means is said, and refused where that is wanted, before it is used.
    fn judge_wire(&self) -> Result<(), ConnectError> {
        if self.uri.password.is_some() {
            self.person.tell(
                "the password in the address can be read by everybody on this machine: use --password-file, \
                 XPRA_PASSWORD or the prompt",
            );
        }
        if self.silent && self.encryption.is_some() {
            let why = "encryption is agreed upon in packets, and none are spoken";
            let error = ConnectError::new(Cause::Usage, self.uri.to_string(), why);
            return Err(error.with_fix("use tls:// with --protocol stream"));
        }
        let is_tcp = matches!(self.uri.address, crate::transport::Address::Tcp { .. });
        let open = is_tcp && !self.uri.tls && self.uri.ssh.is_none() && self.encryption.is_none();
        // The same kind of stream inside TLS.
        let encrypted = if self.uri.websocket.is_some() { "wss://" } else { "tls://" };
        if open && self.require_encryption {
            let why = "the connection would not be encrypted, and that is required";
            let fix = format!(
                "use {encrypted} or the server's Unix socket, or --encryption where the server has it"
            );
            return Err(ConnectError::new(Cause::Unverified, self.uri.to_string(), why).with_fix(fix));
        }
        if open && self.uri.is_remote() {
            self.person.tell(&format!(
                "{}: the connection is not encrypted: the server is not verified, and whoever listens can try \
                 passwords against the answer. Use {encrypted} where the server has it",
                self.uri
            ));
        }
        Ok(())
    }

    /// The same for a server that hung up when it saw our own certificate. Xpra's from 6.x on ask for one, need none,
    /// and take none that no authority vouches for. A certificate that somebody chose is shown or nothing is.
    fn showing_nothing(&self) -> Self {
        tracing::debug!(server = %self.uri, "the server does not want our certificate");
        Self { shows: None, ..self.clone() }
    }

    /// The next certificate, where a server that refused the present one may know that.
    fn next_for(&self, refusing: &Reached) -> Option<Succession> {
        let (Some(Shows::Own(own)), Some(shown)) = (&self.shows, refusing.shown) else { return None };
        own.refused(shown, &*self.person, SystemTime::now()).ok().flatten()
    }

    /// Logs in once more, showing the next certificate; `refused` is how it ended with the present one.
    async fn connect_as_next(
        &self,
        both: &Succession,
        saying: Saying<'_>,
        refused: ConnectError,
    ) -> Result<Connected, ConnectError> {
        let next = self.clone().with_identity(both.next.certified_key());
        let connected = Box::pin(next.connect_saying(saying)).await.map_err(|_| refused)?;
        both.accepted_by(&self.uri.to_string())?;
        Ok(connected)
    }

    /// Tells a server that knows our certificate of the next one, if that one comes to its end. The
    /// login is over and good: what goes wrong here is tried again at the next one.
    pub(super) async fn renew(&self, reached: &Reached) {
        let (Some(Shows::Own(own)), Some(shown)) = (&self.shows, reached.shown) else { return };
        let renewal = async {
            let both = own.succession(shown, &*self.person, SystemTime::now())?;
            let Some(both) = both else { return Ok(()) };
            let calls = self.clone().with_identity(both.next.certified_key()).calls().await?;
            calls.renew(&both.present.certified_key()).await?;
            tracing::info!(server = %self.uri, certificate = %both.next.fingerprint(), "the server has our next certificate");
            both.accepted_by(&self.uri.to_string())
        };
        let done: Result<Result<(), ConnectError>, _> = timeout(RENEWAL, renewal).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("the server does not have our next certificate yet: {error}"),
            Err(_) => tracing::debug!("the server does not have our next certificate yet: it took too long"),
        }
    }

    pub(super) fn dial(&self) -> Dial<'_> {
        let Self { uri, trust, person, .. } = self;
        Dial { uri, trust, shows: self.shows.as_ref(), person, protocols: &[] }
    }

    fn conversation(&self, reached: &Reached, responders: Arc<[Responder]>) -> Conversation {
        let mut claim = Claim::anonymous();
        claim.username.clone_from(&self.username);
        claim.display.clone_from(&self.uri.display);
        let server = Server::new(self.uri.to_string(), reached.confidential, reached.verified)
            .bound_by(reached.channel_binding.clone());
        Conversation::new(claim, responders, Arc::new(server), self.settings, login::fill)
    }

    fn connected(&self, reached: Reached, welcomed: Welcomed, encoder: Encoder) -> Connected {
        let Reached { mut stream, confidential, verified, fingerprint, tls, shown, program, .. } = reached;
        if let Some(program) = program {
            program.let_go();
        }
        let Welcomed { hello, answered, packet, rest, .. } = welcomed;
        let says = |name| hello.caps().find(name);
        let countersign = says(COUNTERSIGN).and_then(|version| version.to_text()).map(|text| quotable(&text));
        let is_stream = countersign.is_some() && says("stream").and_then(|v| v.as_bool()) == Some(true);
        stream.unread(rest);
        if !is_stream {
            stream.unread(packet.clone());
        } else if let Some(sealed) = stream.sealed() {
            sealed.carry_bytes();
        }
        let server = ServerFacts {
            address: self.uri.to_string(),
            verified,
            confidential,
            fingerprint,
            tls,
            ssh: self.uri.ssh.is_some(),
            aes: self.encryption.is_some(),
            shown,
            countersign,
            is_stream,
            answered,
            encoder,
            hello,
        };
        Connected { stream, server }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("uri", &self.uri)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Why the program that carried a stream is to blame for its end.
async fn without(reached: Reached, uri: &Uri) -> Option<ConnectError> {
    let Reached { stream, program, .. } = reached;
    drop(stream);
    program?.blame(uri).await
}

/// A server that understood no encoder.
fn unreadable(words: &str) -> Failure {
    let cause = match words {
        "" => "the server closed the connection without a word".into(),
        words => format!("the server does not understand this client (it says: \"{}\")", quotable(words)),
    };
    let kind = if words.is_empty() { FailureKind::Closed } else { FailureKind::Misbehaved };
    let fix = "check that the address is a countersign or Xpra server's";
    Failure::new(kind, cause).with_fix(format!("{fix}; {STREAM}"))
}

/// A daemon behind a socket that is told nothing answers a hello with silence or with words of its own.
fn hinted(failure: Failure) -> Failure {
    let odd = matches!(failure.kind, FailureKind::Closed | FailureKind::Misbehaved | FailureKind::Timeout);
    if odd && failure.fix.is_none() { failure.with_fix(STREAM) } else { failure }
}

const STREAM: &str = "if its socket has protocol=stream, add --protocol stream";

/// How long a login may take longer because of a renewal.
const RENEWAL: Duration = Duration::from_secs(5);

/// The version of Xpra's protocol that is claimed. Servers refuse what is below their floor, 3.0 at
/// most, and pass everything above (`docs/protocol/xpra.md`, the hello).
const XPRA_VERSION: &str = "6.5";
