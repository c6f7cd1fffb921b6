//! The certificates that the sockets show: made or read at start, and looked at again while they serve.
//!
//! [`super::plan`] asks for one for each socket with TLS. Whatever is renewed is shown from the next
//! connection on; those that are open stay (S-42).

use std::{
    convert::Infallible,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    config::{Accepts, Config, Protocol, SocketConfig, StartTls, TlsOptions},
    control::Entrance,
    error::ConfigError,
    sys::accounts::host_name,
    transport::{
        Address,
        tls::{Fingerprint, OldestVersion, ServerTls},
    },
    trust::ServerIdentity,
};

/// All of a gateway's. Our own is among them when the first socket needs it.
#[derive(Debug)]
pub(super) struct Certificates {
    state_dir: PathBuf,
    /// The sockets that show our own, as clients may call them (M18).
    hosts: Vec<String>,
    shown: Vec<Shown>,
    entrances: watch::Sender<Vec<Entrance>>,
    /// How long they are not looked at.
    pub(super) pause: Duration,
    due: Option<Instant>,
}

/// One certificate, and who shows it.
#[derive(Debug)]
struct Shown {
    /// The operator's files: the certificate, and the key where it is in another one.
    files: Option<(PathBuf, Option<PathBuf>)>,
    identity: ServerIdentity,
    sockets: Vec<Arc<ServerTls>>,
}

impl Certificates {
    /// Those of the sockets of `config`, none of which is read yet.
    pub(super) fn of(config: &Config) -> Self {
        let own =
            |socket: &&SocketConfig| socket.accepts != Accepts::Plain && socket.tls.certificate.is_none();
        let hosts = config.sockets.iter().filter(own).filter_map(|socket| match &socket.address {
            Address::Tcp { host, .. } => Some(host.clone()),
            _ => None,
        });
        // On all of its addresses a machine is called by its name.
        let one = |host: &String| !host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        let hosts = hosts.filter(one).chain([host_name()]).collect();
        let (state_dir, entrances) = (config.state_dir.clone(), watch::Sender::default());
        Self { state_dir, hosts, shown: Vec::new(), entrances, pause: PAUSE, due: None }
    }

    /// What `socket` needs to speak TLS.
    ///
    /// # Errors
    /// As [`ServerIdentity::open_for`] and [`ServerIdentity::from_files`].
    pub(super) fn tls(&mut self, socket: &SocketConfig) -> Result<Arc<ServerTls>, ConfigError> {
        let oldest = if socket.tls.allow_tls12 { OldestVersion::Tls12 } else { OldestVersion::Tls13 };
        let shown = self.shown(&socket.tls)?;
        let key = shown.identity.certified_key();
        let spoken: &[&str] = match (socket.protocol, socket.starttls) {
            (Protocol::Rpc, _) => &["h2"],
            // Its clients from version 17 on insist on the name where they start TLS at once.
            (_, Some(StartTls::Postgres)) => &["postgresql"],
            _ => &[],
        };
        let tls = ServerTls::speaking(key, oldest, spoken)?;
        // Whoever is not accepted yet finds the way in at the same address.
        let enrols = socket.trusts && socket.protocol != Protocol::Rpc;
        let tls = Arc::new(if enrols { tls.enrolling() } else { tls });
        shown.sockets.push(Arc::clone(&tls));
        Ok(tls)
    }

    /// Where invited clients can enrol, with the keys of the time: the sockets that ask the trust store,
    /// those that others than this machine reach first.
    ///
    /// # Errors
    /// As [`Certificates::tls`].
    pub(super) fn entrances<'a>(
        &mut self,
        config: &Config,
        addresses: impl Iterator<Item = &'a Address>,
    ) -> Result<Vec<Entrance>, ConfigError> {
        let mut found = Vec::new();
        for (socket, address) in config.sockets.iter().zip(addresses).filter(|(socket, _)| socket.trusts) {
            let Some(key) = self.shown(&socket.tls)?.identity.key_fingerprint() else { continue };
            found.push(Entrance::new(&*socket.trust_place.socket, address, key));
        }
        Entrance::sort(&mut found);
        Ok(found)
    }

    /// When the first of those that are shown ends, in seconds since 1970.
    pub(super) fn end(&self) -> Option<i64> {
        let ends = self.shown.iter().map(|shown| shown.identity.not_after());
        let since_1970 = ends.min()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_1970.as_secs()).ok()
    }

    /// From now on clients are invited to these.
    pub(super) fn invite_to(&self, entrances: Vec<Entrance>) -> watch::Receiver<Vec<Entrance>> {
        self.entrances.send_replace(entrances);
        self.entrances.subscribe()
    }

    /// Takes the place of those that were shown before the configuration was read again.
    pub(super) fn succeed(&mut self, old: &mut Self, entrances: Vec<Entrance>) {
        self.pause = old.pause;
        std::mem::swap(&mut self.entrances, &mut old.entrances);
        self.invite_to(entrances);
    }

    /// Looks at all of them every now and then, until it is dropped.
    pub(super) async fn keep(&mut self) -> Infallible {
        loop {
            // Whoever waits here may be asked for something else meanwhile, and wait again.
            sleep_until(*self.due.get_or_insert_with(|| Instant::now() + self.pause)).await;
            self.renew(SystemTime::now()).await;
            self.due = None;
        }
    }

    /// Renews those that are due at `now` and reads the operator's again. One that cannot be had, or
    /// does not fit its key, is told of, and the old one stays.
    async fn renew(&mut self, now: SystemTime) {
        for shown in &mut self.shown {
            let old = shown.identity.key_fingerprint();
            if let Err(error) = shown.renew(now).await {
                tracing::warn!("the certificate that is shown stays as it is: {error} ({})", error.fix());
            }
            invite_to(&self.entrances, old, shown.identity.key_fingerprint());
            if shown.identity.not_after() < now + SOON {
                let fingerprint = shown.identity.fingerprint();
                let days = shown.identity.not_after().duration_since(now).unwrap_or_default().as_secs() / DAY;
                tracing::warn!(%fingerprint, "the certificate that is shown ends in {days} days");
            }
        }
    }

    fn shown(&mut self, options: &TlsOptions) -> Result<&mut Shown, ConfigError> {
        let files = options.certificate.clone().map(|certificate| (certificate, options.key.clone()));
        let position = match self.shown.iter().position(|shown| shown.files == files) {
            Some(known) => known,
            None => {
                let identity = self.read(files.as_ref())?;
                self.shown.push(Shown { files, identity, sockets: Vec::new() });
                self.shown.len() - 1
            }
        };
        let missing = || ConfigError::new("the gateway's certificate", "it was not made", "start again");
        self.shown.get_mut(position).ok_or_else(missing)
    }

    fn read(&self, files: Option<&(PathBuf, Option<PathBuf>)>) -> Result<ServerIdentity, ConfigError> {
        if let Some((certificate, key)) = files {
            return ServerIdentity::from_files(certificate, key.as_ref().unwrap_or(certificate));
        }
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        let identity = ServerIdentity::open_for(&self.state_dir, &hosts, SystemTime::now())?;
        tracing::info!(fingerprint = %identity.fingerprint(), "the gateway's certificate");
        Ok(identity)
    }
}

impl Shown {
    async fn renew(&mut self, now: SystemTime) -> Result<(), ConfigError> {
        let identity = self.identity.clone();
        let lost = |error: tokio::task::JoinError| {
            ConfigError::new("the gateway's certificate", error.to_string(), "look at the gateway's log")
        };
        let Some(next) = spawn_blocking(move || identity.renewed(now)).await.map_err(lost)?? else {
            return Ok(());
        };
        for socket in &self.sockets {
            socket.replace(next.certified_key())?;
        }
        tracing::info!(old = %self.identity.fingerprint(), new = %next.fingerprint(), "another certificate is shown");
        self.identity = next;
        Ok(())
    }
}

/// What is invited to from now on is the key that is shown, which an operator's new files may bring.
fn invite_to(entrances: &watch::Sender<Vec<Entrance>>, old: Option<Fingerprint>, new: Option<Fingerprint>) {
    let (Some(old), Some(new)) = (old, new) else { return };
    entrances.send_modify(|entrances| {
        for entrance in entrances.iter_mut().filter(|entrance| entrance.server == old) {
            entrance.server = new;
        }
    });
}

/// More often than daily, for the clock of a machine that sleeps stands still.
const PAUSE: Duration = Duration::from_secs(6 * 60 * 60);
/// Our own are renewed as early, so that this is said of them only if it fails.
const SOON: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::UnixStream,
        time::sleep,
    };

    use super::*;
    use crate::{
        Peer,
        config::{Layers, Paths},
        gateway::Gateway,
        modules::Registry,
        transport::{
            Stream,
            tls::{ClientTls, ENROLMENT, Trust as Known},
        },
    };

    fn config(folder: &Path, sockets: &[(&str, &str)]) -> Config {
        let mut layers = Layers::default();
        for (kind, text) in sockets {
            layers.flag(kind, text).unwrap();
        }
        layers.flag("state-dir", folder.join("state").to_str().unwrap()).unwrap();
        layers.flag("control", folder.join("control").to_str().unwrap()).unwrap();
        let paths = Paths::new(true, "/nonexistent", "/nonexistent", "/nonexistent");
        Config::new(&layers, &Registry::builtin(), &paths).unwrap()
    }

    /// Puts a new pair into the operator's files.
    fn write_pair(certificate: &Path, key: &Path) -> Fingerprint {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(certificate, made.cert.pem()).unwrap();
        fs::write(key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        Fingerprint::of_certificate(made.cert.der())
    }

    /// A connection as both ends have it, and the certificate that was shown on it.
    async fn meet(server: &ServerTls, protocol: &str) -> (Stream, Stream, Fingerprint) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = ClientTls::new(&Known::Unverified, None, OldestVersion::Tls13).unwrap();
        let client = client.speaking(&[protocol]);
        let soon = Instant::now() + Duration::from_secs(5);
        let (accepted, connected) = tokio::join!(
            server.accept(Stream::new(ours), Peer::unix(None), soon),
            client.connect(Stream::new(theirs), "localhost", soon)
        );
        let connected = connected.unwrap();
        let shown = Fingerprint(connected.certificate().fingerprint);
        (accepted.unwrap().0, connected.into_stream_of_judged_server(), shown)
    }

    /// M18: what shows its own certificate or none is called what it likes.
    #[test]
    fn the_gateways_own_certificate_is_for_what_its_sockets_are_called() {
        let folder = tempfile::tempdir().unwrap();
        let pair = folder.path().join("pair.pem");
        let theirs = format!("tls.example:1,auth=reject,ssl-cert={}", pair.display());
        let config = config(
            folder.path(),
            &[
                ("bind-rpc", "gate.example:1"),
                ("bind-rpc", "*:2"),
                ("bind-tls", "[2001:db8::1]:3,auth=reject"),
                ("bind-tls", "[::]:4,auth=reject"),
                ("bind-tcp", "192.0.2.1:5,auth=reject"),
                ("bind-tcp", "192.0.2.2:6,auth=reject,protocols=plain"),
                ("bind-tls", &theirs),
            ],
        );
        let machine = host_name();
        let expected = ["gate.example", "2001:db8::1", "192.0.2.1", machine.as_str()];
        let found = Certificates::of(&config).hosts;
        assert!(expected.iter().all(|host| found.iter().any(|one| one == host)), "{found:?}");
        assert_eq!(found.len(), expected.len(), "{found:?}");
    }

    #[tokio::test]
    async fn s_042_new_files_are_shown_on_every_kind_of_socket_and_open_connections_stay() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let first = write_pair(&cert, &key);
        let files = format!("ssl-cert={},ssl-key={}", cert.display(), key.display());
        let at = |name: &str| format!("{},require-tls=yes,{files}", folder.path().join(name).display());
        let config = config(
            folder.path(),
            &[
                ("bind", &format!("{},auth=reject", at("plain"))),
                ("bind", &format!("{},auth=certificate", at("trusting"))),
                ("bind-rpc", &format!("unix:{},{files}", folder.path().join("calls").display())),
            ],
        );
        let mut certificates = Certificates::of(&config);
        let tls: Vec<_> = config.sockets.iter().map(|socket| certificates.tls(socket).unwrap()).collect();
        assert_eq!(certificates.shown.len(), 1);
        // A server without protocols of its own lets clients name theirs; one for enrolment knows two kinds.
        let kinds = [(&tls[0], "other"), (&tls[1], "other"), (&tls[1], ENROLMENT), (&tls[2], "h2")];
        let mut open = Vec::new();
        for (tls, protocol) in kinds {
            let (ours, theirs, shown) = meet(tls, protocol).await;
            assert_eq!(shown, first, "{protocol}");
            open.push((ours, theirs));
        }
        certificates.renew(SystemTime::now()).await;
        assert_eq!(meet(&tls[0], "other").await.2, first, "nothing has changed");
        let second = write_pair(&cert, &key);
        certificates.renew(SystemTime::now()).await;
        for (tls, protocol) in kinds {
            assert_eq!(meet(tls, protocol).await.2, second, "{protocol}");
        }
        // A certificate without its key, then no certificate at all.
        write_pair(&cert, &folder.path().join("elsewhere.pem"));
        certificates.renew(SystemTime::now()).await;
        fs::remove_file(&cert).unwrap();
        certificates.renew(SystemTime::now()).await;
        for (tls, protocol) in kinds {
            assert_eq!(meet(tls, protocol).await.2, second, "{protocol}");
        }
        for (mut ours, mut theirs) in open {
            theirs.write_all(b"x").await.unwrap();
            theirs.flush().await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test]
    async fn s_042_our_own_is_renewed_while_it_is_shown_unless_it_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &[("bind-rpc", "localhost:1")]);
        let mut certificates = Certificates::of(&config);
        let tls = certificates.tls(&config.sockets[0]).unwrap();
        let (first, start) = (meet(&tls, "h2").await.2, SystemTime::now());
        let after = |days| start + Duration::from_secs(days * DAY);
        certificates.renew(after(334)).await;
        assert_eq!(meet(&tls, "h2").await.2, first);
        let root = folder.path().join("state/tls/root.pem");
        let kept = fs::read(&root).unwrap();
        fs::write(&root, "damaged").unwrap();
        certificates.renew(after(336)).await;
        assert_eq!(meet(&tls, "h2").await.2, first, "no certificate without the root");
        fs::write(&root, kept).unwrap();
        certificates.renew(after(336)).await;
        let second = meet(&tls, "h2").await.2;
        assert_ne!(second, first);
        assert!(certificates.shown[0].identity.not_after() > after(700));
        certificates.renew(after(337)).await;
        assert_eq!(meet(&tls, "h2").await.2, second);
    }

    #[tokio::test]
    async fn s_042_a_gateway_shows_and_invites_to_the_operators_new_key_without_a_restart() {
        use crate::control::{Owner, Request, Response};
        let folder = tempfile::tempdir().unwrap();
        let (door, pair) = (folder.path().join("door"), folder.path().join("pair.pem"));
        let write = || {
            let key = folder.path().join("key.pem");
            write_pair(&pair, &key);
            let both = [fs::read(&pair).unwrap(), fs::read(&key).unwrap()].concat();
            fs::rename(key, &pair).unwrap();
            fs::write(&pair, both).unwrap();
        };
        write();
        let socket = format!("unix:{},ssl-cert={}", door.display(), pair.display());
        let config = config(folder.path(), &[("bind-rpc", &socket)]);
        let mut gateway = Gateway::open(&config).await.unwrap();
        gateway.certificates.pause = Duration::from_millis(10);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let running = tokio::spawn(gateway.run(stopped, std::future::pending()));
        let shown = async || {
            let client = ClientTls::new(&Known::Unverified, None, OldestVersion::Tls13).unwrap();
            let stream = Stream::new(UnixStream::connect(&door).await.unwrap());
            let soon = Instant::now() + Duration::from_secs(5);
            client.connect(stream, "localhost", soon).await.unwrap().key_fingerprint().unwrap()
        };
        let first = shown().await;
        write();
        let patience = Instant::now() + Duration::from_secs(5);
        while shown().await == first && Instant::now() < patience {
            sleep(Duration::from_millis(20)).await;
        }
        let second = shown().await;
        assert_ne!(second, first);
        let state = folder.path().join("state");
        let control = folder.path().join("control");
        let invited = spawn_blocking(move || {
            let owner = Owner::reach(&state, Some(control)).unwrap();
            owner.ask(Request::Invite {
                name: "alice".into(),
                expires: crate::trust::now() + 600,
                entry_expires: None,
                scope: crate::trust::Scope::default(),
                address: None,
                pin: None,
            })
        });
        let Response::Invited { token, .. } = invited.await.unwrap().unwrap() else { panic!("no token") };
        let token: crate::trust::Token = std::str::from_utf8(token.expose()).unwrap().parse().unwrap();
        assert_eq!(token.server(), second);
        stop.send(()).unwrap();
        running.await.unwrap();
    }
}
