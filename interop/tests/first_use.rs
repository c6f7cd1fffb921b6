//! The first place: one of any number of simultaneous clients has it, and never one from outside.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use countersign_interop::{
    Place,
    account::Account,
    certificate::Pair,
    gateway::Gateway,
    grpc::{Client, Server},
    process::must,
    rpc::{Caller, OK, UNAUTHENTICATED},
};
use tokio::{runtime::Runtime, sync::Barrier};

#[test]
fn s_049_one_of_two_hundred_simultaneous_clients_is_the_first() {
    let server = Server::start();
    let runtime = Runtime::new().expect("a runtime");
    let callers: Arc<[Caller]> = (0..CLIENTS).map(|_| Caller::new()).collect();
    let place = Place::new();
    place.open_to_all();
    let socket = place.path("rpc");
    let own = Pair::of_localhost(&place, "gateway");
    let arguments = [
        format!(
            "--bind-rpc=unix:{},auth=certificate,ssl-cert={},ssl-key={}",
            socket.display(),
            own.cert,
            own.key
        ),
        format!("--backend=unix:{}", server.unix),
        // All of them are of few users, and one that is pushed out has lost.
        "--max-per-source=1000".to_owned(),
    ];
    let race = || runtime.block_on(race(&callers, &socket, Path::new(&own.cert)));
    let outsider = Outsider::knocking_at(&socket, &own.cert, &place);
    for round in 0..ROUNDS {
        let gateway = Gateway::start(&arguments);
        let winner = only_winner(&race(), round);
        let gateway = Gateway::start_in(gateway.stop(), &arguments, |_| {});
        assert_eq!(mode(&socket), 0o666, "round {round}");
        assert_eq!(only_winner(&race(), round), winner, "after the restart of round {round}");
        drop(gateway);
    }
    if let Some(outsider) = outsider {
        outsider.was_never_let_in();
    }
}

#[test]
fn s_052_the_kernel_keeps_outsiders_away_until_an_insider_has_come() {
    let (Some(mut insider), Some(outsider), Some(group)) =
        (Account::create(), Account::create(), Account::create())
    else {
        return;
    };
    must(Command::new("usermod").args(["-aG", &group.name, &insider.name]));
    insider.groups.push(group.gid);
    let (server, place) = (Server::start(), Place::new());
    place.open_to_all();
    let socket = place.path("rpc");
    let arguments = [
        format!("--bind-rpc=unix:{},group={},auth=certificate", socket.display(), group.name),
        format!("--backend=unix:{}", server.unix),
    ];
    let gateway = Gateway::start(&arguments);
    assert_eq!((mode(&socket), owners(&socket)), (0o660, (0, group.gid)));
    let root = place.file_with_mode("root.crt", std::fs::read(gateway.root()).expect("the root"), 0o644);
    let target = format!("unix:{}", socket.display());
    let client = |account: &Account, name: &str| {
        let pair = Pair::of_client(&place, name);
        pair.give_to(account);
        Client::run_by(account, &target, &root, &pair)
    };
    let mut outside = client(&outsider, "outside");
    assert_eq!(outside.code(&["echo", "x", "--patience", "5"]), "UNAVAILABLE");
    let mut inside = client(&insider, "inside");
    assert_eq!(inside.code(&["echo", "x"]), "OK", "{}", gateway.log());
    assert_eq!(mode(&socket), 0o666);
    // A channel that was refused would wait before it tries again.
    let mut outside = client(&outsider, "outside");
    let refused = outside.call(&["echo", "x"]);
    assert_eq!(refused["code"], "UNAUTHENTICATED", "{refused}");
    let details = refused["details"].as_str().unwrap_or_default();
    assert!(details.contains("authenticate") && !details.contains("first here was"), "{refused}");
    // Another insider, who is locked out by the first one, is told who that is (M5).
    let told = client(&insider, "second").call(&["echo", "x"]);
    let details = told["details"].as_str().unwrap_or_default();
    let first = format!("first here was {} (uid {}), ", insider.name, insider.uid);
    assert!(told["code"] == "UNAUTHENTICATED" && details.starts_with(&first), "{told}");
    let refused = outside.call(&["authenticate", "a long passphrase"]);
    assert!(!refused["details"].as_str().unwrap_or_default().contains("first here was"), "{refused}");
    assert_eq!(refused["code"], "FAILED_PRECONDITION");
    assert_eq!(inside.code(&["set", "local.passphrase", "a long passphrase"]), "OK");
    assert_eq!(outside.code(&["authenticate", "a wrong passphrase"]), "INVALID_ARGUMENT");
    assert_eq!(outside.code(&["authenticate", "a long passphrase"]), "OK");
    assert_eq!(outside.code(&["echo", "x"]), "OK");

    // The same after a restart, from the first moment.
    let gateway = Gateway::start_in(gateway.stop(), &arguments, |_| {});
    assert_eq!(mode(&socket), 0o666);
    for (account, name) in [(&outsider, "outside"), (&insider, "inside")] {
        let pair =
            Pair { cert: place.text(&format!("{name}.pem")), key: place.text(&format!("{name}_key.pem")) };
        assert_eq!(Client::run_by(account, &target, &root, &pair).code(&["echo", "x"]), "OK", "{name}");
    }
    drop(gateway);
}

/// Another local account that connects and calls without pause, whatever state the gateway is in.
struct Outsider {
    client: Client,
    end: PathBuf,
    _account: Account,
}

impl Outsider {
    fn knocking_at(socket: &Path, root: &str, place: &Place) -> Option<Self> {
        let account = Account::create()?;
        let (pair, end) = (Pair::of_client(place, "outsider"), place.path("end"));
        pair.give_to(&account);
        let mut client = Client::run_by(&account, &format!("unix:{}", socket.display()), root, &pair);
        client.begin(&["knock", "--until", end.to_str().expect("a UTF-8 path")]);
        Some(Self { client, end, _account: account })
    }

    fn was_never_let_in(mut self) {
        std::fs::write(&self.end, "").expect("a file in the test's own folder");
        let codes = self.client.end();
        let count = |code: &str| codes[code].as_u64().unwrap_or_default();
        assert_eq!(count("OK"), 0, "{codes}");
        assert!(
            count("UNAVAILABLE") > 0 && count("UNAUTHENTICATED") > 0,
            "it knocked before and after: {codes}"
        );
    }
}

/// Everybody connects, and when all of them are ready, everybody calls. Their statuses, in the callers' order.
async fn race(callers: &Arc<[Caller]>, socket: &Path, root: &Path) -> Vec<Option<u32>> {
    let barrier = Arc::new(Barrier::new(callers.len()));
    let tasks: Vec<_> = (0..callers.len())
        .map(|number| {
            let (callers, barrier) = (Arc::clone(callers), Arc::clone(&barrier));
            let (socket, root) = (socket.to_owned(), root.to_owned());
            tokio::spawn(async move {
                let line = callers[number].connect(&socket, &root).await;
                barrier.wait().await;
                line.expect("the handshake needs no acceptance").call("/lab.Lab/Echo", b"").await
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.expect("a caller does not panic"));
    }
    statuses
}

#[track_caller]
fn only_winner(statuses: &[Option<u32>], round: usize) -> usize {
    let winners: Vec<_> = (0..statuses.len()).filter(|&number| statuses[number] == Some(OK)).collect();
    assert_eq!(winners.len(), 1, "the winners of round {round}: {statuses:?}");
    let refused = statuses.iter().filter(|&&status| status == Some(UNAUTHENTICATED)).count();
    assert_eq!(refused, statuses.len() - 1, "in round {round} everybody else is refused: {statuses:?}");
    winners[0]
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a socket").permissions().mode() & 0o7777
}

fn owners(path: &Path) -> (u32, u32) {
    let metadata = path.metadata().expect("a socket");
    (metadata.uid(), metadata.gid())
}

const CLIENTS: usize = 200;
const ROUNDS: usize = 50;
