//! What trust costs: judging a certificate beside 1, 10,000 and a million accepted ones, opening such
//! a store, and letting certificates in.
//!
//! `cargo bench -p countersign --bench trust`. Stores are made in a temporary folder, a million entries
//! in one step. A check is what a connection with a certificate costs: the SHA-256 of the certificate
//! that was shown, the look-up, and the identity. What it costs depends on what the caches hold of the store,
//! so stores are compared with the caches alike: after other work has used them, as the handshake before every
//! check does (`USED` MiB are read in between); and full of the one entry that is asked for again and again. Then
//! not alike, as the worst that can be measured: certificates in a random order, each once before any is shown
//! again, without anything in between, where one entry never leaves the nearest cache and a million are in none;
//! the same for the look-up alone, by fingerprints that are there. Last, the check as part of a connection: TLS
//! handshake, check and grant, both ends in one thread.
//! The stores take turns, and the median of the rounds is shown. Opening and checking are done in processes of
//! their own, and the memory of the first is read. `ENTRIES` and `ROUNDS` change the sizes.
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use countersign::{
    Peer, Secret, Username,
    config::Protocol,
    gateway::drive::Acceptor,
    modules::Context,
    proto::peer::{Certificate, TlsFacts},
    transport::{
        Stream,
        tls::{ClientTls, Fingerprint, OldestVersion, ServerTls, Trust, certified_key},
    },
    trust::{Entry, NewInvitation, NewPassphrase, Newcomer, Place, ServerIdentity, TrustStore, Way},
};

mod process;

use process::{number, resident};

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["open", directory] => open(directory),
        ["check", directories @ ..] => check(directories),
        // `cargo test --benches` runs this too; there is nothing to measure then.
        _ if words.contains(&"--test") => {}
        _ => measure(),
    }
}

fn measure() {
    let most = number("ENTRIES", 1_000_000);
    let stores: Vec<Filled> = [1, 10_000, most].into_iter().map(Filled::with).collect();
    println!("opening");
    for filled in &stores {
        opening(filled);
    }
    println!("letting a connection in by its certificate");
    connecting(&stores);
    println!("checking a certificate that was shown");
    let program = env::current_exe().expect("this program");
    let directories = stores.iter().map(|filled| filled.folder.path());
    assert!(Command::new(program).arg("check").args(directories).status().expect("it runs").success());
    println!("letting certificates in");
    enrolling();
}

/// A store with some entries, on disk.
struct Filled {
    folder: tempfile::TempDir,
    entries: u64,
}

impl Filled {
    fn with(entries: u64) -> Self {
        let folder = private_folder();
        let store = TrustStore::open(folder.path()).expect("a new store");
        let mut many: Vec<(Entry, Vec<u8>)> = (0..entries)
            .map(|number| {
                let der = certificate(number);
                let name = Username::parse(&format!("user-{number}")).expect("a name");
                (Entry::new(Fingerprint::of_certificate(&der), name, Way::Imported, "bench", 1), der)
            })
            .collect();
        many.sort_by_key(|(entry, _)| entry.fingerprint.0);
        store.add_all(many).expect("they are kept");
        Self { folder, entries }
    }
}

/// As long as Multipass's, and no other's.
fn certificate(number: u64) -> Vec<u8> {
    let mut der = vec![0x5a; 450];
    der[..8].copy_from_slice(&number.to_le_bytes());
    der
}

fn opening(filled: &Filled) {
    let program = env::current_exe().expect("this program");
    let mut seconds = Vec::new();
    let mut memory = 0.0_f64;
    for _ in 0..number("ROUNDS", 5) {
        let done = Command::new(&program).arg("open").arg(filled.folder.path()).output().expect("it runs");
        let text = String::from_utf8(done.stdout).expect("text");
        let (took, kib) = text.trim().split_once(' ').expect("two numbers");
        seconds.push(took.parse().expect("a number"));
        memory = memory.max(kib.parse().expect("a number"));
    }
    println!(
        "  {:>9} entries: {:.3} s, {:.0} MiB resident",
        filled.entries,
        median(&mut seconds),
        memory / 1024.0
    );
}

fn open(directory: &str) {
    let start = Instant::now();
    let store = TrustStore::open(Path::new(directory)).expect("it opens");
    let took = start.elapsed().as_secs_f64();
    println!("{took} {}", resident(std::process::id()));
    drop(store);
}

/// Connections of clients with real certificates, which every store accepts beside its other entries.
fn connecting(stores: &[Filled]) {
    const CLIENTS: usize = 64;
    let clients: Vec<(ClientTls, Vec<u8>)> = (0..CLIENTS).map(|_| client()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let identity = private_folder();
    let identity =
        ServerIdentity::open(identity.path(), "localhost", SystemTime::now()).expect("a certificate");
    let tls =
        Arc::new(ServerTls::new(identity.certified_key(), OldestVersion::Tls13).expect("it speaks TLS"));
    let acceptors: Vec<Acceptor> = stores
        .iter()
        .map(|filled| {
            let trust = countersign::trust::Trust::at(filled.folder.path());
            let store = trust.open().expect("it opens");
            let entry = |der: &[u8]| {
                let name = Username::parse("client").expect("a name");
                Entry::new(Fingerprint::of_certificate(der), name, Way::Added, "bench", 1)
            };
            store.add_all(clients.iter().map(|(_, der)| (entry(der), der.clone())).collect()).expect("added");
            let acceptor = Acceptor::within(&["certificate"], &Context::with_trust(trust)).expect("a chain");
            acceptor.with_protocol(Protocol::Stream).requiring_tls(Arc::clone(&tls))
        })
        .collect();
    let mut microseconds: Vec<Vec<f64>> = vec![Vec::new(); stores.len()];
    for _ in 0..number("ROUNDS", 5) * 4 {
        for (acceptor, results) in acceptors.iter().zip(&mut microseconds) {
            let start = Instant::now();
            for (client, _) in &clients {
                runtime.block_on(connect(acceptor, client));
            }
            results.push(start.elapsed().as_secs_f64() * 1e6 / CLIENTS as f64);
        }
    }
    let medians: Vec<f64> = microseconds.iter_mut().map(|results| median(results)).collect();
    for (filled, took) in stores.iter().zip(&medians) {
        println!(
            "  {:>9} entries: {took:.0} us a connection, {:.2} of one entry's",
            filled.entries,
            took / medians[0]
        );
    }
}

fn client() -> (ClientTls, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a certificate");
    let pem = made.cert.pem() + &made.signing_key.serialize_pem();
    let identity = certified_key("client", pem.as_bytes(), pem.as_bytes()).expect("a pair");
    let tls =
        ClientTls::new(&Trust::Unverified, Some(identity), OldestVersion::Tls13).expect("it speaks TLS");
    (tls, made.cert.der().to_vec())
}

async fn connect(acceptor: &Acceptor, client: &ClientTls) {
    let (near, far) = tokio::net::UnixStream::pair().expect("two ends");
    let deadline = Instant::now() + Duration::from_secs(10);
    let (connected, admitted) = tokio::join!(
        client.connect(Stream::new(near), "localhost", deadline),
        acceptor.accept(Stream::new(far), Peer::unix(None)),
    );
    drop(connected.expect("a handshake"));
    assert!(admitted.expect("it is let in").grant.identity().is_some());
}

/// In a process of its own too: memory that was used before is laid out in another way.
fn check(directories: &[&str]) {
    let opened: Vec<Opened> = directories.iter().map(|directory| Opened::at(Path::new(directory))).collect();
    checking(&opened);
}

/// A store and how many of its entries are [`certificate`]s.
struct Opened {
    store: TrustStore,
    entries: u64,
    place: Place,
}

impl Opened {
    fn at(directory: &Path) -> Self {
        let store = TrustStore::open(directory).expect("it opens");
        let place = Place::new("rpc", "tcp:127.0.0.1:1");
        let is_there = |number: &u64| {
            let fingerprint = Fingerprint::of_certificate(&certificate(*number)).0;
            store.judge(&fingerprint, &place).is_ok()
        };
        let entries = (0..).take_while(is_there).count() as u64;
        // The first sight of each is noted to be written down; that is once a minute and not every time.
        store.flush().expect("they are written down");
        Self { store, entries, place }
    }
}

fn checking(opened: &[Opened]) {
    after_other_work(opened);
    again_and_again(opened);
    in_a_row(opened);
}

/// One check at a time, of another certificate each, when everything else has been in the caches since.
fn after_other_work(opened: &[Opened]) {
    let used = vec![1_u64; number("USED", 256) as usize * (1 << 20) / size_of::<u64>()];
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); opened.len()];
    for turn in 0..number("ROUNDS", 5) * 80 {
        for (one, took) in opened.iter().zip(&mut took) {
            let der = one.certificate(turn);
            std::hint::black_box(used.iter().sum::<u64>());
            let start = Instant::now();
            one.check(&der);
            took.push(start.elapsed().as_secs_f64() * 1e9);
        }
    }
    show("a check after other work", opened, &mut took);
}

/// The certificate of one client that comes back.
fn again_and_again(opened: &[Opened]) {
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); opened.len()];
    for turn in 0..number("ROUNDS", 5) * 8 {
        for (one, took) in opened.iter().zip(&mut took) {
            let der = one.certificate(turn);
            took.push(each((0..SHOWN).map(|_| &der), |der| one.check(der)));
        }
    }
    show("a check of one that comes back", opened, &mut took);
}

/// Many certificates one after the other, spread over all of the store.
fn in_a_row(opened: &[Opened]) {
    let mut whole: Vec<Vec<f64>> = vec![Vec::new(); opened.len()];
    let mut alone = whole.clone();
    let mut turn = 0;
    for _ in 0..number("ROUNDS", 5) * 8 {
        for ((one, whole), alone) in opened.iter().zip(&mut whole).zip(&mut alone) {
            let mut shown = || -> Vec<Vec<u8>> {
                turn += SHOWN;
                (turn..turn + SHOWN).map(|step| one.certificate(step)).collect()
            };
            whole.push(each(shown().iter(), |der| one.check(der)));
            let fingerprints: Vec<[u8; 32]> =
                shown().iter().map(|der| Fingerprint::of_certificate(der).0).collect();
            alone.push(each(fingerprints.iter(), |fingerprint| one.judge(fingerprint)));
        }
    }
    show("a check in a row of others", opened, &mut whole);
    show("its look-up alone", opened, &mut alone);
}

impl Opened {
    fn certificate(&self, turn: u64) -> Vec<u8> {
        certificate(turn.wrapping_mul(STRIDE) % self.entries)
    }

    fn check(&self, der: &[u8]) {
        self.judge(&Certificate::new(der).fingerprint);
    }

    fn judge(&self, fingerprint: &[u8; 32]) {
        std::hint::black_box(self.store.judge(fingerprint, &self.place).expect("it is accepted"));
    }
}

/// Nanoseconds that each of [`SHOWN`] takes.
fn each<T>(of: impl Iterator<Item = T>, work: impl FnMut(T)) -> f64 {
    let start = Instant::now();
    of.for_each(work);
    start.elapsed().as_secs_f64() * 1e9 / SHOWN as f64
}

fn show(what: &str, opened: &[Opened], nanoseconds: &mut [Vec<f64>]) {
    let medians: Vec<f64> = nanoseconds.iter_mut().map(|results| median(results)).collect();
    for (one, took) in opened.iter().zip(&medians) {
        println!(
            "  {:>9} entries: {took:.0} ns {what}, {:.2} of one entry's",
            one.entries,
            took / medians[0]
        );
    }
}

fn enrolling() {
    let folder = private_folder();
    let store = TrustStore::open(folder.path()).expect("a new store");
    store
        .set_passphrase(Some(&NewPassphrase::new(Secret::new("a passphrase to enrol with"))), "bench")
        .expect("set");
    for threads in [1, 4] {
        let most = 40 * threads;
        let took = by(&store, threads, most, |store, newcomer, _| {
            store.enrol_by_passphrase(newcomer, &Secret::new("a passphrase to enrol with")).is_ok()
        });
        println!("  by passphrase, {threads} at once: {:.0} a second", most as f64 / took);
        let tokens: Vec<Secret> = (0..10 * most)
            .map(|_| {
                let name = Username::parse("invited").expect("a name");
                let new = NewInvitation::new(name, i64::MAX, Fingerprint([0; 32]), "tls://bench:1");
                Secret::new(store.invite(new, "bench").expect("invited").1.expose().as_bytes())
            })
            .collect();
        let took = by(&store, threads, 10 * most, |store, newcomer, number| {
            store.enrol_by_token(newcomer, &tokens[number]).is_ok()
        });
        println!("  by invitation, {threads} at once: {:.0} a second", 10.0 * most as f64 / took);
    }
}

/// Seconds that `most` enrolments of clients at addresses of their own take.
fn by(
    store: &TrustStore,
    threads: usize,
    most: usize,
    enrol: impl Fn(&TrustStore, &Newcomer, usize) -> bool + Sync,
) -> f64 {
    static CLIENTS: AtomicUsize = AtomicUsize::new(1 << 24);
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= most {
                        break;
                    }
                    let client = CLIENTS.fetch_add(1, Ordering::Relaxed) as u32;
                    let address = (std::net::Ipv4Addr::from(client), 1).into();
                    let certificate = Certificate::new(&certificate(u64::from(client) << 32));
                    let peer =
                        Peer::tcp(address, address).encrypted(TlsFacts::default(), Some(certificate), None);
                    let newcomer = Newcomer::of(&Arc::new(peer)).expect("it has a certificate");
                    assert!(enrol(store, &newcomer, number));
                }
            });
        }
    });
    start.elapsed().as_secs_f64()
}

fn private_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("ours alone");
    folder
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// An odd number without small factors, so that steps of it reach every entry.
const STRIDE: u64 = 2_654_435_761;

/// Checks that are measured together.
const SHOWN: u64 = 10_000;
