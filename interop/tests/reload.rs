//! `kill -HUP`: the configuration is read again while clients are inside, and what is wrong with it changes nothing.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixDatagram,
    },
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use countersign_interop::{
    PATIENCE, Place,
    certificate::Pair,
    gateway::{Gateway, countersign},
    inside::Session,
    net::{dial, dial_unix, is_over},
    process::run,
    wire,
};
use nix::{
    sys::signal::Signal,
    unistd::{Gid, Uid},
};

#[test]
fn s_096_sessions_go_on_and_new_clients_meet_the_new_configuration() {
    let house = House::open(|site| site.sockets(&[("a", "auth=none"), ("b", "auth=none")]));
    let (mut a, mut b) =
        (Session::begin(dial_unix(&house.path("a"))), Session::begin(dial_unix(&house.path("b"))));
    let made = fs::metadata(house.path("a")).expect("a socket").ino();
    house.write(&house.site.sockets(&[("a", "auth=fail,mode=666"), ("c", "auth=none")]));
    house.reload(TAKEN);
    assert!(house.is_shut("a"), "its chain lets nobody in");
    assert!(!house.path("b").exists(), "it is not wanted any more");
    let mut c = Session::begin(dial_unix(&house.path("c")));
    for session in [&mut a, &mut b, &mut c] {
        session.echoes();
    }
    let kept = fs::metadata(house.path("a")).expect("a socket");
    assert_eq!((kept.ino(), kept.permissions().mode() & 0o777), (made, 0o666), "the same, with its new mode");
    // And back again, with a file that somebody removed meanwhile.
    fs::remove_file(house.path("a")).expect("its file");
    house.write(&house.site.sockets(&[("a", "auth=none"), ("b", "auth=none")]));
    house.reload(TAKEN);
    for mut session in
        [Session::begin(dial_unix(&house.path("a"))), Session::begin(dial_unix(&house.path("b"))), a, b, c]
    {
        session.echoes();
    }
}

#[test]
fn s_096_a_mistake_is_told_of_and_changes_nothing() {
    let house = House::open(|site| {
        site.sockets(&[("a", "auth=none"), ("b", "auth=fail")]) + "bind-tcp = [\"127.0.0.1:0,auth=fail\"]\n"
    });
    let mut session = Session::begin(dial_unix(&house.path("a")));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("its address");
    let fine = house.site.sockets(&[("a", "auth=fail"), ("new", "auth=none")]);
    let tcp = house.listening("tcp:127.0.0.1:", 1);
    let wider = tcp[0].replace("tcp:127.0.0.1", "0.0.0.0");
    let (pair, other) =
        (Pair::of_localhost(&house.site.place, "one"), Pair::of_localhost(&house.site.place, "other"));
    let mistakes = [
        ("bind = [".to_owned(), "countersign.toml"),
        (house.site.sockets(&[("a", "auth=nonee")]), "none"),
        (
            format!("{fine}bind-ssl = [\"127.0.0.1:0,auth=none,ssl-cert=/nonexistent/pair.pem\"]\n"),
            "/nonexistent/pair.pem",
        ),
        (
            format!(
                "{fine}bind-ssl = [\"127.0.0.1:0,auth=none,ssl-cert={},ssl-key={}\"]\n",
                pair.cert, other.key
            ),
            "key",
        ),
        (format!("{fine}bind-tcp = [\"{busy},auth=none,protocol=stream\"]\n"), "in use"),
        (format!("{fine}bind-tcp = [\"{wider},auth=fail\"]\n"), "under an address that overlaps"),
        (format!("control = \"{}\"\n{fine}", house.site.place.text("elsewhere")), "cannot take over"),
        (format!("user = \"{}\"\n{fine}", Uid::current()), "user: it is another one"),
        (format!("group = \"{}\"\n{fine}", Gid::current()), "group: it is another one"),
    ];
    for (text, why) in &mistakes {
        house.write(text);
        let told = house.reload(REFUSED);
        assert!(told.contains(why), "{why}: {told}");
        session.echoes();
        Session::begin(dial_unix(&house.path("a"))).echoes();
        assert!(house.is_shut("b") && !house.path("new").exists(), "{why}");
    }
    house.write(&fine);
    house.reload(TAKEN);
    assert!(house.is_shut("a"));
    Session::begin(dial_unix(&house.path("new"))).echoes();
    session.echoes();
}

/// A new password in the same file and a new certificate count for whoever comes from then on.
#[test]
fn s_096_secrets_certificates_and_limits_are_read_again() {
    let config = |site: &Site, more: &str| {
        let (password, shown) = (site.place.text("password"), site.place.text("shown"));
        format!(
            "bind-tcp = [\"127.0.0.1:0,auth=file(filename={password})\"]\n\
             bind-ssl = [\"127.0.0.1:0,auth=none,protocol=stream,ssl-cert={shown}.crt,ssl-key={shown}.key\"]\n{more}"
        )
    };
    let house = House::open(|site| {
        site.place.file("password", "the first one");
        site.certificate();
        config(site, "")
    });
    let [tcp, tls] = house.listening("tcp:127.0.0.1:", 2).try_into().expect("two sockets");
    let address = tcp.strip_prefix("tcp:").expect("TCP").parse().expect("an address");
    let shows = |pair: &Pair| {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", tls.strip_prefix("tcp:").expect("TCP")]);
        let certificate = fs::read_to_string(&pair.cert).expect("a certificate");
        run(&mut client).stdout.contains(certificate.trim())
    };
    assert!(wire::log_in(&mut dial(address), "alice", b"the first one").is_welcome());
    house.site.place.file("password", "the second one");
    let second = house.site.certificate();
    assert!(!shows(&second));
    house.write(&config(&house.site, "[log]\nlevel = \"debug\"\n[limits]\nmax-unauthenticated = 7\n"));
    house.reload(TAKEN);
    assert!(shows(&second));
    assert!(wire::log_in(&mut dial(address), "alice", b"the second one").is_welcome());
    assert!(!wire::log_in(&mut dial(address), "alice", b"the first one").is_welcome());
    let daemon = house.gateway.daemon();
    assert!(daemon.eventually(|| daemon.output().contains("DEBUG")), "the level of the log follows");
    let (place, state) = (house.gateway.place(), house.gateway.place().text("state"));
    let status = run(&mut countersign(place, &["status", "--json", "--state-dir", &state])).expect_success();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["places"], 7, "{status}");
    assert_eq!(house.listening("tcp:127.0.0.1:", 2).len(), 2, "both ports are kept");
}

/// S-96: two hundred times under a stream of logins, none of which is lost.
#[test]
fn s_096_two_hundred_reloads_under_load_lose_no_login_and_no_descriptor() {
    let configs = |site: &Site| {
        let password = site.place.text("password");
        let config = |sockets: &[(&str, &str)]| {
            let tcp = format!("bind-tcp = [\"127.0.0.1:0,auth=file(filename={password})\"]\n");
            site.sockets(sockets) + &tcp + "[limits]\nmax-per-source = 1000\n"
        };
        [
            config(&[("a", "auth=none"), ("b", "auth=none")]),
            config(&[("a", "auth=peercred"), ("c", "auth=fail")]),
        ]
    };
    let house = House::open(|site| {
        site.place.file("password", "open sesame");
        let [first, _] = configs(site);
        first
    });
    let address = house.listening("tcp:127.0.0.1:", 1);
    let address = address[0].strip_prefix("tcp:").expect("TCP").parse().expect("an address");
    let mut inside = Session::begin(dial_unix(&house.path("b")));
    // Everything that is made once is made.
    house.write(&configs(&house.site)[1]);
    house.reload(TAKEN);
    let before = house.descriptors();
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let crowd: Vec<_> = (0..3)
        .map(|number| {
            let (stop, count, path) = (Arc::clone(&stop), Arc::clone(&count), house.path("a"));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match number {
                        0 => assert!(wire::log_in(&mut dial(address), "alice", b"open sesame").is_welcome()),
                        _ => Session::begin(dial_unix(&path.clone())).echoes(),
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..200 {
        house.write(&configs(&house.site)[round % 2]);
        house.reload(TAKEN);
    }
    let reached = house.gateway.daemon().eventually(|| count.load(Ordering::Relaxed) > 300);
    stop.store(true, Ordering::Relaxed);
    for thread in crowd {
        thread.join().expect("no login is lost");
    }
    assert!(reached, "{} logins", count.load(Ordering::Relaxed));
    inside.echoes();
    let back = house.gateway.daemon().eventually(|| house.descriptors() <= before + 4);
    assert!(back, "{} descriptors, {before} before", house.descriptors());
}

/// What systemd hears (`Type=notify`, `Type=notify-reload`), on a socket as it opens one.
#[test]
fn the_service_manager_hears_of_each_reload_and_of_the_end() {
    let house = House::open(|site| site.sockets(&[("a", "auth=none")]));
    house.write(&house.site.sockets(&[("a", "auth=none"), ("b", "auth=none")]));
    house.gateway.daemon().signal(Signal::SIGHUP);
    let began = house.hear("RELOADING=1\n");
    let micros = began.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("when it began");
    let uptime = fs::read_to_string("/proc/uptime").expect("Linux");
    let uptime: f64 = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds");
    let micros: f64 = micros.parse().expect("a number");
    assert!(micros > 0.0 && micros / 1e6 < uptime + 1.0, "{micros} of {uptime}");
    let ready = house.hear("READY=1\n");
    assert!(ready.contains("STATUS=2 sockets"), "{ready}");
    house.write("bind = [\"nonsense,auth=nobody\"]\n");
    let refused = house.reload(REFUSED);
    assert!(refused.contains("STATUS=2 sockets"), "{refused}");
    house.gateway.daemon().signal(Signal::SIGTERM);
    house.hear("STOPPING=1\n");
    assert_eq!(house.gateway.daemon().wait().code(), Some(0));
}

/// Where a gateway's files are.
struct Site {
    place: Place,
    manager: UnixDatagram,
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    fn write(&self, text: &str) {
        // As editors do: it is never half written.
        let new = self.place.file("new.toml", text);
        fs::rename(new, self.path("countersign.toml")).expect("its own folder");
    }

    /// Unix sockets that say nothing, in this folder.
    fn sockets(&self, sockets: &[(&str, &str)]) -> String {
        let one =
            |(name, auth): &(&str, &str)| format!("\"{},{auth},protocol=stream\"", self.place.text(name));
        format!("bind = [{}]\n", sockets.iter().map(one).collect::<Vec<_>>().join(", "))
    }

    /// Another certificate for localhost, in the same files.
    fn certificate(&self) -> Pair {
        let made = Pair::of_localhost(&self.place, "made");
        fs::rename(&made.cert, self.path("shown.crt")).expect("its own folder");
        fs::rename(&made.key, self.path("shown.key")).expect("its own folder");
        Pair { cert: self.place.text("shown.crt"), key: self.place.text("shown.key") }
    }
}

/// A gateway with a configuration file and a service manager.
struct House {
    site: Site,
    gateway: Gateway,
}

impl House {
    fn open(config: impl FnOnce(&Site) -> String) -> Self {
        let place = Place::new();
        let manager = UnixDatagram::bind(place.path("notify")).expect("a socket");
        manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let site = Site { place, manager };
        site.write(&config(&site));
        let arguments = ["--config", &site.place.text("countersign.toml")];
        let gateway = Gateway::start_with(&arguments, |command| {
            command.env("NOTIFY_SOCKET", site.path("notify"));
        });
        let house = Self { site, gateway };
        house.hear("READY=1\n");
        house
    }

    fn write(&self, text: &str) {
        self.site.write(text);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// What the service manager hears next that begins so.
    fn hear(&self, start: &str) -> String {
        loop {
            let mut message = [0; 4096];
            let length = self.site.manager.recv(&mut message).expect("a word of the gateway's");
            let message = String::from_utf8_lossy(&message[..length]).into_owned();
            if message.starts_with(start) {
                return message;
            }
        }
    }

    /// Has the configuration read again; the service manager hears this of it.
    #[track_caller]
    fn reload(&self, end: &str) -> String {
        self.gateway.daemon().signal(Signal::SIGHUP);
        self.hear("RELOADING=1\n");
        let told = self.hear("READY=1\n");
        assert_eq!(told.contains("was refused: "), end == REFUSED, "{told}\n{}", self.gateway.log());
        told
    }

    /// Whether nobody is let in at a socket.
    fn is_shut(&self, name: &str) -> bool {
        is_over(&mut dial_unix(&self.path(name)))
    }

    /// The first addresses that it says it listens on, and that begin so.
    fn listening(&self, start: &str, count: usize) -> Vec<String> {
        self.gateway.daemon().wait_for("listening", |log| {
            let all =
                log.split("listening on ").skip(1).filter_map(|rest| rest.split(['"', ' ', '\n']).next());
            let found: Vec<_> =
                all.filter(|address| address.starts_with(start)).map(ToOwned::to_owned).collect();
            (found.len() >= count).then_some(found)
        })
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.gateway.daemon().id())).expect("a running process").count()
    }
}

/// The end of a reload: the new configuration holds, or the old one.
const TAKEN: &str = "taken";
const REFUSED: &str = "refused";
