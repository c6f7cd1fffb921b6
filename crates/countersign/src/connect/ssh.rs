//! `ssh://`: the system's own `ssh` logs in at the other machine and runs a program there, whose input and output
//! are the stream.
//!
//! Who the other machine is, and who we are there, is `ssh`'s affair with all that its user has configured. The
//! program is ours ([`relay_for_ssh`]), which reaches a socket of that machine, or Xpra's, which reaches a
//! session. An address chooses host, port, user and socket, in letters that neither `ssh` nor any shell reads as
//! anything else (S-47). [`super::dial`] comes here; [`super::uri`] reads the addresses.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

#[cfg_attr(windows, path = "ssh/absent.rs")]
mod program;

pub(super) use program::Program;

use super::{
    dial::{Dial, Reached},
    error::{Cause, ConnectError},
    relay,
    uri::Uri,
};
use crate::{
    config::Paths,
    error::ConfigError,
    proto::client::FailureKind,
    transport::{self, Address, RELAY_GREETING, Stream},
};

/// What is wanted on the machine that `ssh` logs in at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each has its program there")]
pub enum Wanted {
    /// The socket that a gateway there makes of itself (`--bind=auto`).
    UsualSocket,
    /// The Unix socket at this absolute path.
    Socket(PathBuf),
    /// The Xpra session of this display, as in `10`.
    Display(String),
}

impl Wanted {
    /// Reads the path of an address, decoded and without its first slash.
    pub(super) fn parse(path: &str) -> Result<Self, ConfigError> {
        let display = path.strip_prefix(':').unwrap_or(path);
        let is_display = |c: char| c.is_ascii_digit() || c == '.';
        match path {
            "" => Ok(Self::UsualSocket),
            _ if !display.is_empty() && display.chars().all(is_display) => {
                Ok(Self::Display(display.to_owned()))
            }
            _ if path.contains([',', '=']) => Err(ConfigError::new(
                "address",
                "behind its host stands a socket's path or a display, and nothing else",
                "write ssh://HOST/PATH, and %2C and %3D for , and = in it",
            )),
            _ => Ok(Self::Socket(format!("/{path}").into())),
        }
    }

    /// The command there. Its words hold letters only that are nothing but themselves in every shell.
    fn command(&self) -> String {
        match self {
            Self::UsualSocket => RELAY.to_owned(),
            Self::Socket(path) => {
                let path = path.as_os_str().as_encoded_bytes();
                format!("{RELAY} unix:{}", percent_encode(path, IN_COMMAND))
            }
            Self::Display(number) => format!("xpra _proxy :{number}"),
        }
    }
}

/// What stands behind the host: nothing, `/run/app.sock`, `/10`.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsualSocket => Ok(()),
            Self::Socket(path) => {
                write!(f, "{}", percent_encode(path.as_os_str().as_encoded_bytes(), IN_COMMAND))
            }
            Self::Display(number) => write!(f, "/{number}"),
        }
    }
}

/// Whether `ssh` may be given this as a host or user: a word that is no option, and means nothing to the shell that
/// a `ProxyCommand` of its user may be run by.
pub(super) fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+:@".contains(c);
    !word.is_empty() && !word.starts_with('-') && word.chars().all(plain)
}

impl Dial<'_> {
    /// Logs in by `ssh` and waits until our program has reached its socket. A person may be asked on the way, by
    /// `ssh` itself, which has the terminal and standard error.
    pub(super) async fn reach_by_ssh(&self, wanted: &Wanted) -> Result<Reached, ConnectError> {
        let mut command = vec!["-T".to_owned(), "-a".to_owned(), "-x".to_owned()];
        let Address::Tcp { host, port } = &self.uri.address else {
            return Err(ConnectError::new(Cause::Usage, self.uri.to_string(), "it names no host"));
        };
        if *port != 0 {
            command.extend(["-p".to_owned(), port.to_string()]);
        }
        if let Some(user) = &self.uri.username {
            command.extend(["-l".to_owned(), user.to_string()]);
        }
        command.extend(["--".to_owned(), host.clone(), wanted.command()]);
        let (mut stream, program) = Program::start(&command).map_err(|error| {
            ConnectError::new(Cause::System, "ssh", format!("it cannot be started: {error}"))
                .with_fix("install the client of OpenSSH")
        })?;
        if !matches!(wanted, Wanted::Display(_)) {
            match timeout(PATIENCE, greeted(&mut stream)).await {
                Ok(true) => {}
                Ok(false) => {
                    drop(stream);
                    return Err(program.blame(self.uri).await.unwrap_or_else(|| self.not_greeted()));
                }
                Err(_) => return Err(self.not_greeted()),
            }
        }
        Ok(Reached {
            stream,
            confidential: true,
            verified: true,
            fingerprint: None,
            tls: None,
            shown: None,
            protocol: None,
            channel_binding: None,
            program: Some(program),
        })
    }

    fn not_greeted(&self) -> ConnectError {
        let why = "the program that ssh started there is not the one that was asked for";
        ConnectError::new(Cause::Unreachable, self.uri.to_string(), why)
            .with_fix("look at what the account there starts in place of commands")
    }
}

/// Why a program that has ended is to blame for it; `None` if it is not.
fn blame(uri: &Uri, code: Option<i32>) -> Option<ConnectError> {
    let why = match code {
        Some(0) => return None,
        // ssh(1), exit status: 255 is its own, everything else the program's.
        Some(255) => "ssh did not get in there, and says why above".to_owned(),
        Some(127) => "the program that is needed there is not found".to_owned(),
        Some(code) => format!("the program there ended with code {code}, and says why above"),
        None => "ssh was ended by a signal".to_owned(),
    };
    let fix = match code {
        Some(127) => "install countersign (for a display, xpra) there, where commands of ssh find it",
        Some(255) => "try the same with ssh alone",
        _ => "check the path of the socket, and that the daemon there runs",
    };
    let cause = if code == Some(77) { Cause::Login(FailureKind::Refused) } else { Cause::Unreachable };
    Some(ConnectError::new(cause, uri.to_string(), why).with_fix(fix))
}

/// Reads past whatever the account's own files print, up to our program's first word. `false` if that does not come.
async fn greeted(stream: &mut Stream) -> bool {
    let mut noise = Vec::new();
    while noise.len() < MOST_NOISE {
        match stream.read_buf(&mut noise).await {
            Ok(1..) => {}
            _ => return false,
        }
        if let Some(at) = noise.windows(RELAY_GREETING.len()).position(|window| window == RELAY_GREETING) {
            stream.unread(noise.split_off(at + RELAY_GREETING.len()));
            return true;
        }
    }
    false
}

/// The far end of `ssh://`: reaches a Unix socket of this machine, says so, and passes the bytes between it and
/// `input` and `output`. Without an address it is the socket that a gateway makes of itself, the user's own before
/// the system's.
///
/// # Errors
/// The address is none of a Unix socket, nobody answers there, or a side broke.
pub async fn relay_for_ssh(
    address: Option<&str>,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> Result<(), ConnectError> {
    let address = match address {
        None => usual_socket()?,
        Some(text) => match text.parse()? {
            Uri { address: address @ Address::Unix(_), tls: false, .. } => address,
            _ => return Err(ConfigError::new("address", "it is no socket's", "write unix:/PATH").into()),
        },
    };
    let stream = transport::connect(&address, REACH).await.map_err(|error| {
        ConnectError::new(Cause::Unreachable, address.to_string(), format!("it cannot be reached: {error}"))
            .with_fix("check the path, and that the daemon runs")
    })?;
    let broke = |error| ConnectError::broken(&address, &error);
    output.write_all(RELAY_GREETING).await.map_err(broke)?;
    output.flush().await.map_err(broke)?;
    relay(stream, input, output).await.map_err(broke)
}

fn usual_socket() -> Result<Address, ConfigError> {
    let own = Paths::system()?.runtime_dir().map(|dir| dir.join(SOCKET)).ok();
    let of_system = PathBuf::from("/run/countersign").join(SOCKET);
    let socket = own.filter(|socket| socket.exists()).unwrap_or(of_system);
    Ok(Address::Unix(socket))
}

/// Our program at the other end.
const RELAY: &str = "countersign _relay";

/// The file of `--bind=auto`.
const SOCKET: &str = "countersign.sock";

/// What the files of an account may print before; more is no noise.
const MOST_NOISE: usize = 64 * 1024;

/// How long a person may take over what `ssh` asks; sshd's own patience is two minutes.
const PATIENCE: Duration = Duration::from_secs(180);

const REACH: Duration = Duration::from_secs(10);

/// All that is not a letter, a digit or plain punctuation.
const IN_COMMAND: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_047_a_path_is_one_harmless_word_of_the_command() {
        for (path, command) in [
            ("", "countersign _relay"),
            ("run/app.sock", "countersign _relay unix:/run/app.sock"),
            (
                "run/a b;$(id)`x`'\"\\&|\n",
                "countersign _relay unix:/run/a%20b%3B%24%28id%29%60x%60%27%22%5C%26%7C%0A",
            ),
            ("-o ProxyCommand", "countersign _relay unix:/-o%20ProxyCommand"),
            ("10", "xpra _proxy :10"),
            (":10.0", "xpra _proxy :10.0"),
        ] {
            let wanted = Wanted::parse(path).unwrap();
            assert_eq!(wanted.command(), command, "{path}");
            assert!(wanted.command().chars().all(|c| c.is_ascii_alphanumeric() || " _:/.%-".contains(c)));
        }
        assert!(Wanted::parse("10,ssh=evil").is_err());
    }

    #[test]
    fn s_047_hosts_and_users_are_words_that_are_no_options() {
        for good in ["host", "db.example", "::1", "fe80::1", "10.0.0.1", "alice", "alice@example.org"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "-oProxyCommand=id", "-", "a b", "$(id)", "`id`", "a;b", "a|b", "a'b", "%h", "a\\"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    #[test]
    fn exit_codes_of_ssh_are_told_from_those_of_the_program() {
        let uri: Uri = "ssh://host".parse().unwrap();
        let told = |code| blame(&uri, code).map(|error| (error.exit_code(), error.to_string()));
        assert_eq!(told(Some(0)), None);
        let (code, text) = told(Some(255)).unwrap();
        assert!(code == 69 && text.contains("ssh did not get in"), "{text}");
        let (code, text) = told(Some(127)).unwrap();
        assert!(code == 69 && text.contains("not found"), "{text}");
        assert_eq!(told(Some(77)).unwrap().0, 77);
        assert!(told(None).unwrap().1.contains("signal"));
    }

    #[tokio::test]
    async fn what_an_account_prints_before_the_first_word_is_passed_over() {
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let mut stream = Stream::new(ours);
        theirs.write_all(b"Welcome!\ncountersign relay 1").await.unwrap();
        theirs.write_all(b"\nP\0").await.unwrap();
        assert!(greeted(&mut stream).await);
        let mut rest = [0; 2];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"P\0");
        drop(theirs);
        assert!(!greeted(&mut stream).await);
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let flood = tokio::spawn(async move { while theirs.write_all(&[b'x'; 4096]).await.is_ok() {} });
        assert!(!greeted(&mut Stream::new(ours)).await);
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn the_far_end_says_that_it_reached_its_socket_and_reaches_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let answering = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut heard = String::new();
            socket.read_to_string(&mut heard).await.unwrap();
            socket.write_all(heard.to_uppercase().as_bytes()).await.unwrap();
        });
        let address = format!("unix:{}", path.display());
        let mut output = Vec::new();
        relay_for_ssh(Some(&address), &b"word"[..], &mut output).await.unwrap();
        answering.await.unwrap();
        assert_eq!(output, [RELAY_GREETING, b"WORD"].concat());
        for (address, code) in
            [("tcp://127.0.0.1:1", 2), ("tls+unix:/x", 2), (&*address, 69), ("unix:/nowhere", 69)]
        {
            let mut output = Vec::new();
            let error = relay_for_ssh(Some(address), &b""[..], &mut output).await.unwrap_err();
            assert_eq!((error.exit_code(), output.len()), (code, 0), "{address}: {error}");
        }
    }
}
