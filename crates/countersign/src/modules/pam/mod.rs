//! `pam`: accounts of this machine, by whatever its administrator has PAM ask.
//!
//! | file | holds |
//! |---|---|
//! | `service.rs` | whether a service authenticates at all |
//! | `process.rs` | how that process is started, by us or by the privileged helper |
//! | `worker.rs` | the process that talks to PAM for one login, seen from here |
//! | `channel.rs` | what is said between the two |
//! | `login.rs` | what that process does |

mod channel;
mod login;
mod process;
mod service;
mod worker;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use self::{
    channel::{Client, Phase, Rules, Word},
    service::Fault,
    worker::Worker,
};
use super::{
    Context, Module, OptionSpec, Options,
    places::{Place, Places},
};
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Username, Verifier,
    error::ConfigError,
    helper,
    needs::Need,
    proto::{
        chain::{Answer, Ask, CHECKS_AT_ONCE, Exchange, OpenExchange, Verdict},
        error::Reason,
    },
    sys::pam::{self, Code},
};

/// Does the work of a worker, if that is what this process was started for: `Some` is then how to end.
///
/// A gateway that checks with `pam` starts its own program again for each login, so that a module of PAM
/// that crashes or hangs harms that login alone. Call this first in `main`, before there are threads; a
/// program that does not cannot use the module, and is told so when it configures it.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(end) = countersign::modules::run_worker() {
///         return end;
///     }
///     // The daemon.
///     # ExitCode::SUCCESS
/// }
/// ```
#[must_use = "a worker ends with this"]
pub fn run_worker() -> Option<ExitCode> {
    worker::is_ready();
    let mut arguments = env::args_os().skip(1);
    if arguments.next()?.to_str() != Some(worker::ARGUMENT) || arguments.next().is_some() {
        return None;
    }
    Some(if login::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) struct Pam;

impl Module for Pam {
    fn name(&self) -> &'static str {
        "pam"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["sys"]
    }

    fn summary(&self) -> &'static str {
        "checks passwords of this machine's accounts, and what else PAM asks"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "Asks PAM, by the rules in /etc/pam.d/SERVICE, whether the claimed user may come in: authentication first, \
         then the account, which refuses expired and locked ones. The client's password answers PAM's first \
         question; each further question (a one-time code, say) is another challenge, in PAM's own words. So the \
         wire must be private: TLS, SSH or a local socket. Without a service file of that name, or with one that \
         authenticates nobody, the gateway does not start. A service of its own is the clean way, for example \
         /etc/pam.d/countersign with the lines `@include common-auth` and `@include common-account` on Debian, and \
         service=countersign.\n\n\
         Each login has a process of its own for PAM, which is killed with all that it started when timeout is \
         over, the time in which the client is asked not counted; a module of PAM that crashes harms that login \
         alone. At most max-concurrent of them run for a socket; who comes then waits for a turn, which sources take one \
         after the other, and is refused as busy if none comes within ten seconds, or if as many wait for their \
         clients' next answers. The process runs \
         as the gateway's user: checking other accounts than its own against /etc/shadow needs root. PAM sees the client's address (PAM_RHOST), on a local socket the name of who connected \
         (PAM_RUSER), and countersign as the terminal. Its modules' pauses after a failure are left out, because \
         the gateway makes the same one for every refusal, and texts that need no answer go nowhere.\n\n\
         Accounts below min-uid are refused: root and those of the system get in with min-uid=0 only. The identity \
         is the account's name, uid and primary gid as the account database has them. A user whom PAM passes and \
         the database does not know has a name and no numbers, so no daemon per user.\n\n\
         session=yes has PAM open a session too, which may refuse, make a home directory or mount it. The login's \
         process is the one that is in it: it stays, with what the session's modules started, until the client \
         has left or is turned away by a later module, closes the session, and is killed when that takes longer \
         than timeout. It does so as well when the gateway dies or when somebody ends it, as `loginctl \
         terminate-session` does; the client's connection ends with it then. Limits and variables that the session \
         sets are that process's and not the daemon's. At most max-sessions are open for a socket; who comes then \
         is refused as busy."
    }

    fn example(&self) -> &'static str {
        "pam(service=login, timeout=30s)"
    }

    /// Its workers start what PAM's modules start.
    fn needs(&self, _: &Options) -> Vec<Need> {
        vec![Need::Helper]
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        Ok(Verifier::Exchange(Box::new(Service::configure(options)?)))
    }

    fn uses_username(&self) -> bool {
        true
    }
}

/// The configured service.
struct Service {
    rules: Arc<Rules>,
    running: Arc<Places>,
    /// Places apart from those: who has come in takes none from those who want to.
    sessions: Arc<Places>,
}

impl Service {
    fn configure(options: &mut Options) -> Result<Self, ConfigError> {
        let service = options.take("service")?.map_or_else(|| "login".to_owned(), |name| name.to_string());
        let directory = match options.take("confdir")? {
            Some(path) if Path::new(&**path).is_absolute() => Some(PathBuf::from(&**path)),
            Some(_) => {
                let why = "it is no absolute path";
                return Err(options.error("confdir", why, "write confdir=/PATH/TO/DIRECTORY"));
            }
            None => None,
        };
        let timeout = options.duration("timeout", Duration::from_secs(30))?;
        if timeout.is_zero() || timeout > LONGEST {
            let fix = "write a length of time from a moment to ten minutes, as timeout=30s";
            return Err(options.error("timeout", "a check must end", fix));
        }
        let most = options.number("max-concurrent", 32, 1..=CHECKS_AT_ONCE as u64)?;
        let most_sessions = options.number("max-sessions", 1024, 1..=MOST_SESSIONS)?;
        let min_uid = options.number("min-uid", 1000, 0..=u64::from(u32::MAX))?;
        let rules = Rules {
            service,
            directory,
            check_account: options.flag("check-account", true)?,
            session: options.flag("session", false)?,
            min_uid: u32::try_from(min_uid).unwrap_or(u32::MAX),
            timeout,
        };
        check(&rules, options)?;
        let rules = Arc::new(rules);
        if !process::offer(&rules) {
            return Err(options.error("service", helper::UNKNOWN, helper::RESTART));
        }
        let running = Arc::new(Places::new("max-concurrent", most));
        let sessions = Arc::new(Places::new("max-sessions", most_sessions));
        Ok(Self { rules, running, sessions })
    }
}

/// What can be known before the first login: that PAM is there and asks, and that it can be asked.
fn check(rules: &Rules, options: &Options) -> Result<(), ConfigError> {
    let library = pam::Pam::load()?;
    worker::check()?;
    if rules.directory.is_some() && !library.reads_directories() {
        let why = "it needs Linux-PAM 1.4 or newer";
        return Err(options.error("confdir", why, "put the file into /etc/pam.d"));
    }
    let name = &rules.service;
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(options.error("service", "it is no name of a file", "write a file's name in /etc/pam.d"));
    }
    service::check(name, rules.directory.as_deref()).map_err(|fault| match fault {
        Fault::Missing => {
            let fix =
                "write such a file in /etc/pam.d, with an auth and an account line, or name another one";
            options.error("service", "PAM has no service of that name", fix)
        }
        Fault::AsksNothing => {
            let fix = "add an auth line to its file, as `@include common-auth` on Debian";
            options.error("service", "its file has no auth line, so it would ask for nothing", fix)
        }
        Fault::File(fault) => options.error("service", fault.to_string(), fault.fix()),
    })
}

impl OpenExchange for Service {
    fn open(&self, peer: &Peer, claim: &Claim) -> Result<Box<dyn Exchange>, Refusal> {
        let client = claim.username.as_ref().map(|user| Client {
            user: user.to_string(),
            address: peer.address().map(|address| address.ip()),
            peer_uid: peer.credentials().map(|known| known.uid),
        });
        let running = Arc::clone(&self.running);
        let sessions = self.rules.session.then(|| Arc::clone(&self.sessions));
        Ok(Box::new(Login {
            client,
            rules: Arc::clone(&self.rules),
            running,
            sessions,
            worker: None,
            opening: None,
        }))
    }

    fn needs_cleartext(&self) -> bool {
        true
    }

    fn at_once(&self) -> usize {
        self.running.most()
    }
}

/// One login.
struct Login {
    /// `None` for a client that names nobody.
    client: Option<Client>,
    rules: Arc<Rules>,
    running: Arc<Places>,
    /// `None` where there is to be no session.
    sessions: Option<Arc<Places>>,
    worker: Option<Worker>,
    /// Who passed, while the session is being opened, and its place.
    opening: Option<(Identity, Place)>,
}

impl Exchange for Login {
    /// The first question is asked before there is a worker: a stranger who says nothing costs no process,
    /// and PAM's first question, which may depend on the user, shows nobody who exists.
    fn step(&mut self, answer: Option<Answer>) -> Verdict {
        let Some(answer) = answer else { return Verdict::Ask(Ask::Cleartext) };
        self.answered(answer.value.into_utf8())
            .and_then(|word| self.follow(word))
            .unwrap_or_else(Verdict::Refuse)
    }
}

impl Login {
    fn answered(&mut self, answer: Secret) -> Result<Word, Refusal> {
        if answer.is_empty() || answer.expose().contains(&0) {
            return Err(Refusal::new(Reason::WrongSecret, "the answer is empty or holds a NUL byte"));
        }
        if self.worker.is_none() {
            let client = self
                .client
                .take()
                .ok_or_else(|| Refusal::new(Reason::UnknownUser, "the client names no user"))?;
            self.worker = Some(Worker::start(&self.rules, &client, self.running.take()?)?);
        }
        match &mut self.worker {
            Some(worker) => worker.ask(&answer),
            None => Err(Refusal::module_failed("there is no worker")),
        }
    }

    /// What follows from the worker's word.
    fn follow(&mut self, word: Word) -> Result<Verdict, Refusal> {
        match word {
            Word::Question(text) => Ok(Verdict::Ask(Ask::Worded(words(&text)))),
            Word::Opened => self.opened(),
            word => self.passed(judge(word)?),
        }
    }

    /// The worker is done with, unless there is to be a session.
    fn passed(&mut self, identity: Identity) -> Result<Verdict, Refusal> {
        let (Some(sessions), Some(worker)) = (&self.sessions, &mut self.worker) else {
            return Ok(Verdict::Pass(Some(identity)));
        };
        if self.opening.is_some() {
            return Err(Refusal::module_failed(OUT_OF_TURN));
        }
        self.opening = Some((identity, sessions.take()?));
        let word = worker.open_session()?;
        self.follow(word)
    }

    fn opened(&mut self) -> Result<Verdict, Refusal> {
        let ((identity, place), worker) =
            self.opening.take().zip(self.worker.take()).ok_or_else(|| Refusal::module_failed(OUT_OF_TURN))?;
        Ok(Verdict::PassWith(Some(identity), Arc::new(worker.keep(place)?)))
    }
}

/// PAM's words as a prompt, without the colon that a terminal wants.
fn words(text: &str) -> String {
    let text = crate::proto::client::quotable(text);
    text.trim_end_matches(|c: char| c == ':' || c.is_whitespace()).to_owned()
}

/// What a worker's last word means.
fn judge(word: Word) -> Result<Identity, Refusal> {
    match word {
        Word::Passed { name, ids } => {
            let (uid, gid) = ids.unzip();
            // The number that means "unchanged" to setuid(2) is nobody's (S-70).
            if [uid, gid].contains(&Some(u32::MAX)) {
                return Err(Refusal::module_failed("the account has no number that can be used"));
            }
            Ok(Identity::new(Username::parse(&name)?).with_ids(uid, gid))
        }
        Word::Denied(phase, code) => Err(denied(phase, code)),
        Word::Unfit(cause) => Err(Refusal::new(Reason::AccountDisabled, cause)),
        Word::Failed(cause) => Err(Refusal::module_failed(cause)),
        Word::Question(_) | Word::Opened => Err(Refusal::module_failed(OUT_OF_TURN)),
    }
}

/// The reason for what PAM says; the client is told the same for each (S-26).
fn denied(phase: Phase, code: Code) -> Refusal {
    let reason = match (phase, code) {
        (Phase::Authentication, Code::AUTH_ERR) => Reason::WrongSecret,
        (_, Code::USER_UNKNOWN) => Reason::UnknownUser,
        (
            _,
            Code::AUTH_ERR
            | Code::PERM_DENIED
            | Code::MAXTRIES
            | Code::NEW_AUTHTOK_REQD
            | Code::ACCT_EXPIRED
            | Code::CRED_EXPIRED
            | Code::AUTHTOK_EXPIRED,
        )
        | (Phase::Session, _) => Reason::AccountDisabled,
        _ => Reason::ModuleFailed,
    };
    let phase = match phase {
        Phase::Start => "at the start",
        Phase::Authentication => "of the authentication",
        Phase::Account => "of the account",
        Phase::Session => "of the session",
    };
    Refusal::new(reason, format!("PAM says {code} {phase}"))
}

const OUT_OF_TURN: &str = "the worker says what was not its turn to say";

/// A login has ended by then in any gateway.
const LONGEST: Duration = Duration::from_secs(600);

/// Each is a process.
const MOST_SESSIONS: u64 = 65_536;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("service", "NAME", "login", "the file of rules in /etc/pam.d"),
    OptionSpec::new(
        "check-account",
        "yes|no",
        "yes",
        "refuse accounts that are expired or may not log in now",
    ),
    OptionSpec::new("session", "yes|no", "no", "have a session of PAM open while the client is there"),
    OptionSpec::new("min-uid", "NUMBER", "1000", "the lowest user id that gets in; 0 lets root in"),
    OptionSpec::new(
        "timeout",
        "TIME",
        "30s",
        "how long PAM may work on one login, and on closing its session",
    ),
    OptionSpec::new(
        "max-concurrent",
        "NUMBER",
        "32",
        "how many may be asking PAM for this socket at one time",
    ),
    OptionSpec::new("max-sessions", "NUMBER", "1024", "how many sessions may be open for this socket"),
    OptionSpec::new("confdir", "DIR", "", "where the file of rules is, if not in /etc/pam.d"),
];

#[cfg(test)]
mod tests;
