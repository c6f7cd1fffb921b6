//! The control socket: the gateway's side.
//!
//! The gateway opens it. Its file is 0600, and the kernel is asked who connects: root
//! and the gateway's own user are answered, everybody else is closed without a word (S-58).

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::Semaphore,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::{
    administer::administer,
    message::{Failure, FailureCode, Request, Response},
    penalties,
    running::Running,
    wire,
};
use crate::{
    Peer,
    sys::{
        accounts::{Account, own_uid},
        files::create_directory,
    },
    trail::Trail,
    transport::{Address, BindError, Listener, Stream, UnixOptions},
};

/// An open control socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: Listener,
    owner: Arc<Served>,
}

#[derive(Debug)]
struct Served {
    gateway: Arc<dyn Running>,
    trail: Option<Trail>,
}

impl ControlSocket {
    /// Makes the socket at `path` for the owner of `gateway`. A missing directory is made, if it is only the last
    /// one.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub async fn open(path: PathBuf, gateway: Arc<dyn Running>) -> Result<Self, BindError> {
        if let Some(directory) = path.parent() {
            // Whatever else is wrong with the directory, binding says.
            let _ = create_directory(directory);
        }
        let listener = Listener::bind(&Address::Unix(path), &UnixOptions::default()).await?;
        Ok(Self { listener, owner: Arc::new(Served { gateway, trail: None }) })
    }

    /// The same, with a record in `trail` of everything that the owner changes.
    #[must_use]
    pub fn recording(self, trail: Option<Trail>) -> Self {
        let owner = Arc::new(Served { gateway: Arc::clone(&self.owner.gateway), trail });
        Self { owner, ..self }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        self.listener.local_address()
    }

    /// Answers until `stop`, and whoever has asked by then still gets the answer, for a second at most.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(AT_ONCE as usize));
        tokio::select! {
            () = self.answer_all(&places) => {}
            () = stop => {}
        }
        drop(self);
        let _ = timeout(LAST_ANSWERS, places.acquire_many(AT_ONCE)).await;
    }

    async fn answer_all(&self, places: &Arc<Semaphore>) {
        loop {
            // Never closed, so never an error.
            let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let owner = Arc::clone(&self.owner);
                    tokio::spawn(async move {
                        if let Err(error) = owner.answer(stream, &peer).await {
                            tracing::debug!("the control socket: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("the control socket: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Served {
    async fn answer(self: Arc<Self>, stream: Stream, peer: &Peer) -> io::Result<()> {
        let Some(uid) = owner(peer) else {
            let who = peer
                .credentials()
                .map_or_else(|| "nobody knows who".to_owned(), |c| format!("uid {}", c.uid));
            tracing::warn!("the control socket: {who} was turned away");
            return Ok(());
        };
        let mut stream = BufReader::with_capacity(wire::ROOM, stream);
        let Some(line) = timeout(DEADLINE, request(&mut stream)).await?? else { return Ok(()) };
        let response = match wire::parse::<Request>(&line) {
            Ok(request) => {
                drop(line);
                spawn_blocking(move || self.decide(request, uid)).await.map_err(io::Error::other)?
            }
            Err(error) => Response::Failed(Failure::new(
                FailureCode::Unacceptable,
                format!("the request: {error}"),
                "use the command of the same version as the gateway",
            )),
        };
        for line in wire::lines(response) {
            timeout(DEADLINE, stream.write_all(&line?)).await??;
        }
        timeout(DEADLINE, stream.flush()).await?
    }

    fn decide(&self, request: Request, uid: u32) -> Response {
        let (word, quiet) = (request.word(), request.only_looks());
        let by = name_of(uid);
        let response = self.answered(request, &by);
        if let (Some(trail), false) = (&self.trail, quiet) {
            let certificate = match &response {
                Response::Entry(entry) => Some(entry.fingerprint.as_str()),
                _ => None,
            };
            let outcome = if matches!(response, Response::Failed(_)) { "failed" } else { "done" };
            trail.note("owner", &Asked { request: word, by: &by, outcome, certificate });
        }
        match &response {
            Response::Failed(failure) => {
                tracing::info!(by, request = word, "the owner's request failed: {failure}")
            }
            Response::Entry(entry) if !quiet => tracing::info!(
                by,
                request = word,
                certificate = entry.fingerprint,
                "the owner changed the entry of {}",
                entry.name.escape_debug()
            ),
            _ if !quiet => tracing::info!(by, request = word, "the owner's request is done"),
            _ => {}
        }
        response
    }
}

impl Served {
    fn answered(&self, request: Request, by: &str) -> Response {
        let gateway = &self.gateway;
        match request {
            Request::Status => Response::Status(Box::new(gateway.status())),
            Request::Sessions => Response::Sessions(gateway.sessions()),
            Request::Kill(which) => Response::Killed(gateway.end(&which)),
            Request::Reload => gateway.reload().map_or_else(Response::Failed, |()| Response::Done),
            Request::Drain { timeout } => gateway
                .drain(timeout.map(Duration::from_secs))
                .map_or_else(Response::Failed, |()| Response::Status(Box::new(gateway.status()))),
            request => penalties::answer(gateway.penalties().as_deref(), &request)
                .unwrap_or_else(|| self.administered(request, by)),
        }
    }

    fn administered(&self, request: Request, by: &str) -> Response {
        // Where no socket asks the store it is opened for its owner, who finds the gateway in their way to it.
        match self.gateway.trust().open() {
            Ok(store) => administer(store, &self.gateway.entrances(), request, by),
            Err(error) => Response::Failed(error.into()),
        }
    }
}

/// What the owner asked for, as the audit trail has it.
#[derive(Serialize)]
struct Asked<'a> {
    request: &'a str,
    by: &'a str,
    outcome: &'a str,
    certificate: Option<&'a str>,
}

/// The uid, if it is root's or ours.
fn owner(peer: &Peer) -> Option<u32> {
    let uid = peer.credentials()?.uid;
    (uid == 0 || uid == own_uid()).then_some(uid)
}

/// One line; `None` if the client left without a word.
async fn request(stream: &mut BufReader<Stream>) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(wire::ROOM));
    stream.take(wire::LONGEST as u64).read_until(b'\n', &mut line).await?;
    Ok(if line.is_empty() { None } else { Some(line) })
}

/// How an account is called in entries and logs.
fn name_of(uid: u32) -> String {
    let account = Account::of_uid(uid).ok().flatten();
    account.map_or_else(|| format!("uid {uid}"), |account| account.name)
}

/// Requests that are answered at the same time.
const AT_ONCE: u32 = 8;
/// How long the other end may take to say or hear a line.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a gateway that has ended goes on answering.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// After a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        control::{Entrance, OpenSession, Owner, Status, Which},
        penalties::Penalties,
        proto::peer::Credentials,
        trust::Trust,
    };

    /// A gateway with nobody inside.
    #[derive(Debug)]
    struct Idle(Trust);

    impl Running for Idle {
        fn trust(&self) -> Trust {
            self.0.clone()
        }

        fn entrances(&self) -> Vec<Entrance> {
            Vec::new()
        }

        fn status(&self) -> Status {
            serde_json::from_str(
                r#"{"version":"","pid":1,"started":0,"draining":false,"reload":null,"sockets":[],"sessions":0,
                    "logging_in":0,"places":1,"given_up":0,"penalised":null,"penalty_refusals":null,
                    "audit_lost":null,"certificate_ends":null}"#,
            )
            .unwrap()
        }

        fn sessions(&self) -> Vec<OpenSession> {
            Vec::new()
        }

        fn end(&self, _: &Which) -> Vec<String> {
            Vec::new()
        }

        fn penalties(&self) -> Option<Arc<Penalties>> {
            None
        }

        fn reload(&self) -> Result<(), Failure> {
            Err(Failure::new(FailureCode::Configuration, "the file: no", "mend it"))
        }

        fn drain(&self, _: Option<Duration>) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn s_058_the_socket_is_its_owners_alone_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let (state, path) = (folder.path().to_owned(), folder.path().join("run/control.sock"));
        let socket = ControlSocket::open(path.clone(), Arc::new(Idle(Trust::at(&state)))).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let served = tokio::spawn(socket.serve(std::future::pending()));
        let asked = spawn_blocking({
            let path = path.clone();
            move || {
                let owner = Owner::reach(&state, Some(path.clone())).unwrap();
                assert!(owner.gateway_runs());
                let listed = owner.ask(Request::List).unwrap();
                assert!(matches!(listed, Response::Entries { first_place_free: true, .. }), "{listed:?}");
                assert!(matches!(owner.ask(Request::Status), Ok(Response::Status(_))));
                assert!(
                    matches!(owner.ask(Request::Sessions), Ok(Response::Sessions(all)) if all.is_empty())
                );
                assert!(matches!(owner.ask(Request::Reload), Ok(Response::Failed(_))));
                // Nonsense is answered with how to mend it, and silence is not a request.
                use std::io::{Read as _, Write as _};
                let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
                stream.write_all(b"{\"lis\":1}\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.contains("failed") && answer.contains("same version"), "{answer}");
                let owner = Owner::reach(&state, None).unwrap();
                let error = owner.ask(Request::List).unwrap_err();
                assert!(error.is_unavailable() && error.fix().contains("--control"), "{error}");
            }
        });
        asked.await.unwrap();
        served.abort();
        let _ = served.await;
        assert!(!path.exists());
    }

    #[test]
    fn s_058_nobody_else_is_an_owner_by_the_kernels_word() {
        let own = rustix::process::geteuid().as_raw();
        let unix = |uid| Peer::unix(Some(Credentials::new(uid, 0)));
        assert_eq!((owner(&unix(0)), owner(&unix(own))), (Some(0), Some(own)));
        assert_eq!((owner(&unix(123_456)), owner(&Peer::unix(None))), (None, None));
        let address = "127.0.0.1:1".parse().unwrap();
        assert_eq!(owner(&Peer::tcp(address, address)), None);
    }
}
