//! `kerberos-password`, `kerberos-ticket` and `gss` with a real KDC, and with Debian's Xpra where it takes part.
//!
//! Xpra 3.1.3 on Python 3: its server's `gss` works, and its client's `kerberos`. The client's `gss` handler and the
//! server's `kerberos-token` end with a type error before a ticket is looked at (`what_debians_xpra_cannot_do`).

use std::{
    io::Write,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use countersign_interop::{
    Place,
    gateway::{Gateway, countersign},
    kdc::{Kdc, OTHER, REALM, Tickets, password},
    net::{dial_unix, free_port, wait_for_tcp, wait_for_unix},
    process::{Daemon, Finished, program, run},
    wire::{self, Received, Value},
    xpra::{self, Session, exit},
};

const GSS: &str = "gss(service=countersign/localhost)";

/// What the client's command ends with when it is refused.
const REFUSED: i32 = 77;

#[test]
fn s_075_the_kdc_judges_passwords_and_locks() {
    let kdc = Kdc::start();
    for (user, more) in [
        ("locked", "modprinc -allow_tix locked"),
        ("over", "modprinc -expire yesterday over"),
        ("stale", "modprinc -pwexpire yesterday stale"),
        ("careful", "modprinc +requires_preauth careful"),
        ("zoë", "modprinc +requires_preauth zoë"),
    ] {
        kdc.admin(REALM, &format!("addprinc -clearpolicy -pw grünes-{user} {user}\n{more}\n"));
    }
    let gate = Gate::start(
        &kdc,
        &["kerberos-password(service=host/localhost)", "kerberos_password(name=principal)"],
    );
    for (user, secret) in [("alice", password("alice", REALM)), ("careful", "grünes-careful".to_owned())] {
        gate.by_password(0, user, &secret).expect_success().expect_text(&format!("user={user}\n"));
        gate.by_password(1, user, &secret).expect_success().expect_text(&format!("user={user}@{REALM}\n"));
    }
    gate.by_password(0, "zoë", "grünes-zoë").expect_success().expect_text("user=zoë\n");
    for (user, secret, reason) in [
        ("alice", "wrong", "wrong_secret"),
        ("alice", &password("alice", OTHER), "wrong_secret"),
        ("careful", "wrong", "wrong_secret"),
        ("nobody-here", "wrong", "unknown_user"),
        ("locked", "grünes-locked", "account_disabled"),
        ("over", "grünes-over", "account_disabled"),
        ("stale", "grünes-stale", "account_disabled"),
        // No way to other realms or kinds of principals by a name.
        (&format!("alice@{OTHER}"), &password("alice", OTHER), "unknown_user"),
        (&format!("alice@{REALM}"), &password("alice", REALM), "unknown_user"),
    ] {
        let refused = gate.by_password(0, user, secret).expect_code(REFUSED);
        refused.expect_text("authentication failed").expect_without(secret);
        gate.expect_reason(reason);
    }
}

#[test]
fn s_075_w23_a_false_kdc_convinces_nobody() {
    let (kdc, false_kdc) = (Kdc::start(), Kdc::start());
    false_kdc.admin(REALM, "cpw -pw chosen-by-mallory alice\n");
    // Whoever sits in the way of the KDC is the KDC, as far as the machine can see.
    let mislead = kdc.configuration("mislead.conf", false_kdc.port(), "");
    let cache = kdc.nobody().by(&mislead);
    cache.try_kinit("alice", "chosen-by-mallory", &[]).expect_success();
    let chains = ["kerberos-password(service=host/localhost)", "kerberos-password"];
    let gate = Gate::start_by(&kdc, &mislead, &chains);
    for door in 0..chains.len() {
        gate.by_password(door, "alice", "chosen-by-mallory").expect_code(REFUSED);
        gate.expect_log("the KDC does not prove itself");
    }
    // The same machine with the keys of the false KDC believes it: it was the keytab that told them apart.
    let fooled =
        Gate::start_by(&kdc, &mislead, &[&format!("kerberos-password(keytab={})", false_kdc.keytab())]);
    fooled.by_password(0, "alice", "chosen-by-mallory").expect_success();
}

#[test]
fn s_075_without_a_keytab_the_gateway_does_not_start() {
    let (kdc, place) = (Kdc::start(), Place::new());
    let absent = place.text("absent");
    for module in [
        format!("kerberos-password(keytab={absent})"),
        format!("gss(service=countersign/localhost,keytab={absent})"),
        format!("gss(service=countersign/elsewhere,keytab={})", kdc.keytab()),
        format!("kerberos-password(service=countersign/elsewhere,keytab={})", kdc.keytab()),
        "gss".to_owned(),
    ] {
        let bind = format!("--bind={},auth={module}", place.text("socket"));
        let mut command = countersign(&place, &["check", &bind]);
        kdc.reach(&mut command);
        let finished = run(&mut command).expect_code(78);
        assert!(finished.all().contains("help: "), "{}", finished.all());
    }
}

#[test]
fn s_081_a_silent_kdc_costs_a_login_its_deadline_and_others_nothing() {
    let kdc = Kdc::start();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("a bound socket").port();
    let configuration = kdc.configuration("silent.conf", port, "");
    let gate = Gate::start_by(&kdc, &configuration, &["kerberos-password(timeout=2s)", GSS]);
    let tickets = kdc.kinit("alice", &password("alice", REALM), &[]);
    thread::scope(|scope| {
        let waits = scope.spawn(|| gate.by_password(0, "alice", "whatever").expect_code(REFUSED));
        let since = Instant::now();
        gate.by_ticket(1, &tickets, "alice").expect_success();
        assert!(since.elapsed() < Duration::from_secs(2));
        let waited = waits.join().expect("a refusal").took;
        assert!(waited < Duration::from_secs(8), "{waited:?}");
    });
    gate.expect_reason("module_failed");
}

#[test]
fn s_075_our_client_and_the_gateway_prove_themselves_to_each_other() {
    let kdc = Kdc::start();
    let chains = [
        GSS,
        "kerberos-ticket(service=xpra@localhost)",
        "gss_auth(service=countersign/localhost,name=principal)",
    ];
    let gate = Gate::start(&kdc, &chains);
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    for (door, mechanism) in [(0, "gss:countersign/localhost"), (1, "kerberos:xpra@localhost")] {
        gate.by_ticket(door, &alice, "alice")
            .expect_success()
            .expect_text("user=alice\n")
            .expect_text(mechanism);
    }
    gate.by_ticket(2, &alice, "alice").expect_success().expect_text(&format!("user=alice@{REALM}\n"));
    // W24: a ticket of alice's is nobody else's way in.
    gate.by_ticket(0, &alice, "bob").expect_code(REFUSED);
    gate.expect_reason("username_mismatch");
    // Who has none is told how to get one.
    gate.by_ticket(0, &kdc.nobody(), "alice").expect_code(79).expect_text("kinit");
}

#[test]
fn s_045_a_server_that_has_not_the_services_key_is_left() {
    let (kdc, place) = (Kdc::start(), Place::new());
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let welcome = wire::packet(&Value::List(vec!["hello".into(), Value::Dict(announced())]));
    let noise = challenge(b"noise");
    for (number, (next, says)) in
        [(&welcome, "without proving"), (&noise, "does not prove that it is countersign/localhost")]
            .iter()
            .enumerate()
    {
        let socket = socket(&place, number);
        let listener = UnixListener::bind(&socket).expect("a socket in the test's own folder");
        let finished = thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("our client");
                wire::read(&mut stream);
                wire::send(&mut stream, &challenge(&[7; 64]));
                wire::read(&mut stream);
                wire::send(&mut stream, next);
                // It may say nothing more than goodbye.
                while let Received::Packet(kind, _) = wire::read(&mut stream) {
                    assert_ne!(kind, "hello", "an answer to what proves nothing");
                }
            });
            let mut command =
                countersign(&place, &["info", "--username", "alice", &format!("unix:{socket}")]);
            alice.carry(&mut command);
            run(&mut command)
        });
        finished.expect_code(1).expect_text(says);
    }
}

#[test]
fn s_075_tickets_of_other_realms_and_principals_name_nobody() {
    let kdc = Kdc::start();
    kdc.admin(REALM, "addprinc -clearpolicy -pw instance alice/admin\n");
    let chains = [
        GSS,
        "gss(service=countersign/localhost,name=principal)",
        "gss(service=countersign/localhost,principal={username}/admin)",
    ];
    let gate = Gate::start(&kdc, &chains);
    let foreign = kdc.kinit(&format!("alice@{OTHER}"), &password("alice", OTHER), &[]);
    let admin = kdc.kinit("alice/admin", "instance", &[]);
    for tickets in [&foreign, &admin] {
        gate.by_ticket(0, tickets, "alice").expect_code(REFUSED);
        gate.expect_reason("unknown_user");
    }
    // The same foreign ticket is good: where whole principals are names, it is another alice.
    gate.by_ticket(1, &foreign, &format!("alice@{OTHER}"))
        .expect_success()
        .expect_text(&format!("user=alice@{OTHER}\n"));
    gate.by_ticket(1, &foreign, "alice").expect_code(REFUSED);
    gate.by_ticket(2, &admin, "alice").expect_success().expect_text("user=alice\n");
}

#[test]
fn s_068_auth_to_local_is_asked_where_it_is_to_be() {
    let kdc = Kdc::start();
    let rules = kdc.configuration("rules.conf", kdc.port(), "");
    let text = std::fs::read_to_string(&rules).expect("a file just written");
    let rule = format!(" {REALM} = {{\n  auth_to_local_names = {{\n   alice = awilson\n  }}\n");
    std::fs::write(&rules, text.replace(&format!(" {REALM} = {{\n  kdc"), &format!("{rule}  kdc")))
        .expect("the same");
    let chains =
        ["gss(service=countersign/localhost,name=auth-to-local)", "kerberos-password(name=auth-to-local)"];
    let gate = Gate::start_by(&kdc, &rules, &chains);
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    for claimed in ["awilson", "alice"] {
        gate.by_ticket(0, &alice, claimed).expect_success().expect_text("user=awilson\n");
    }
    gate.by_password(1, "alice", &password("alice", REALM)).expect_success().expect_text("user=awilson\n");
    let foreign = kdc.kinit(&format!("bob@{OTHER}"), &password("bob", OTHER), &[]);
    gate.by_ticket(0, &foreign, "bob").expect_code(REFUSED);
}

#[test]
fn s_075_a_token_counts_once_and_for_one_service() {
    let kdc = Kdc::start();
    // Whatever the environment says of the replay cache, there is one.
    let gate = Gate::start_with(&[GSS], |command| {
        kdc.reach(command);
        command.env("KRB5RCACHENAME", "none:").env("KRB5RCACHETYPE", "none");
    });
    let socket = gate.socket(0);
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let token = alice.token("countersign/localhost");
    assert!(present(&socket, "alice", &token), "Python's token is as good as ours\n{}", gate.gateway.log());
    assert!(!present(&socket, "alice", &token), "and no second time");
    gate.expect_log("Request is a replay");
    // The keytab has the keys of these services too.
    for other in ["xpra/localhost", "host/localhost"] {
        assert!(!present(&socket, "alice", &alice.token(other)), "{other}");
        gate.expect_log(&format!("Request ticket server {other}@{REALM}"));
    }
    let token = alice.token("countersign/localhost");
    let (mut cut, mut changed) = (token.clone(), token.clone());
    cut.truncate(token.len() / 2);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    for broken in [&cut[..], &changed, b"noise", &[0x60; 4096]] {
        assert!(!present(&socket, "alice", broken), "{} bytes", broken.len());
    }
    assert!(present(&socket, "alice", &token), "the one they were made from\n{}", gate.gateway.log());
}

#[test]
fn s_075_a_ticket_counts_in_its_time() {
    let kdc = Kdc::start();
    // Times are compared with this leeway; it is five minutes where nothing is written.
    let strict = kdc.configuration("strict.conf", kdc.port(), " clockskew = 1\n");
    let gate = Gate::start_by(&kdc, &strict, &[GSS]);
    let brief = kdc.kinit("alice", &password("alice", REALM), &["-l", "8s"]);
    let over = Instant::now() + Duration::from_secs(10);
    let in_time = brief.token("countersign/localhost");
    assert!(present(&gate.socket(0), "alice", &in_time), "{}", gate.gateway.log());
    thread::sleep(over.saturating_duration_since(Instant::now()));
    gate.by_ticket(0, &brief, "alice").expect_code(79).expect_text("expired").expect_text("kinit");
    // A client that does not mind makes a token of now with it: it is the ticket alone that is over.
    brief.pretend_to_last();
    let late = brief.token("countersign/localhost");
    assert!(!present(&gate.socket(0), "alice", &late), "the ticket is over");
    gate.expect_log("Ticket expired");
    // Another ticket, believed to last as falsely, is good until then.
    let fresh = kdc.kinit("bob", &password("bob", REALM), &["-l", "30s"]);
    let _ = fresh.token("countersign/localhost");
    fresh.pretend_to_last();
    let token = fresh.token("countersign/localhost");
    assert!(present(&gate.socket(0), "bob", &token), "{}", gate.gateway.log());
}

#[test]
fn s_035_a_token_is_good_on_the_connection_it_was_made_for() {
    let kdc = Kdc::start();
    let (place, alice) = (Place::new(), kdc.kinit("alice", &password("alice", REALM), &[]));
    let secret = place.file("password", password("alice", REALM));
    let start = |module: &str| {
        let bind = [format!("--bind-ssl=127.0.0.1:0,auth={module}")];
        Gateway::start_with(&bind, |command| kdc.reach(command))
    };
    let login = |port: u16, root: &str, more: &[&str]| {
        let address = format!("tls://alice@localhost:{port}");
        let mut command = countersign(&place, &[&["info", "--ca", root], more, &[&address]].concat());
        alice.carry(&mut command);
        run(&mut command)
    };
    for policy in ["if-sent", "required"] {
        for (module, service) in [("gss", "countersign/localhost"), ("kerberos-ticket", "xpra/localhost")] {
            let gateway = start(&format!("{module}(service={service},channel-binding={policy})"));
            login(gateway.port(), &gateway.root(), &[]).expect_success().expect_text("user=alice\n");
            // Somebody in the middle whom the client takes for the server, with TLS to both.
            let relay = Relay::start(&place, &gateway);
            login(relay.port, &relay.root, &[]).expect_code(REFUSED);
            let recorded = || gateway.log().contains("bound to another connection");
            assert!(gateway.daemon().eventually(recorded), "{}", gateway.log());
        }
    }
    // The relay itself works: a password passes.
    let gateway = start("kerberos-password");
    let relay = Relay::start(&place, &gateway);
    login(relay.port, &relay.root, &["--password-file", &secret]).expect_success();
}

#[test]
fn s_035_a_token_that_is_bound_to_nothing_is_taken_unless_it_may_not_be() {
    let kdc = Kdc::start();
    let (place, alice) = (Place::new(), kdc.kinit("alice", &password("alice", REALM), &[]));
    for (number, (policy, taken)) in [("if-sent", true), ("required", false)].into_iter().enumerate() {
        let bind = [format!(
            "--bind-ssl=127.0.0.1:0,auth=gss(service=countersign/localhost,channel-binding={policy})"
        )];
        let gateway = Gateway::start_with(&bind, |command| kdc.reach(command));
        // Python's GSSAPI binds to nothing, as Xpra has it; socat brings it to where there is something to bind to.
        let inside = socket(&place, number);
        let mut socat = program("socat");
        socat.arg(format!("UNIX-LISTEN:{inside},fork"));
        socat.arg(format!("OPENSSL:localhost:{},verify=0", gateway.port()));
        let socat = Daemon::start(socat);
        wait_for_unix(&socat, inside.as_ref());
        assert_eq!(present(&inside, "alice", &alice.token("countersign/localhost")), taken, "{policy}");
        if !taken {
            let recorded = || gateway.log().contains("the token is not bound to the TLS connection");
            assert!(gateway.daemon().eventually(recorded), "{}", gateway.log());
        }
    }
}

#[test]
fn s_033_tokens_are_asked_for_in_private_only() {
    let kdc = Kdc::start();
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let gateway =
        Gateway::start_with(&[format!("--bind-tcp=127.0.0.1:0,auth={GSS}")], |command| kdc.reach(command));
    let mut command =
        countersign(&Place::new(), &["info", &format!("tcp://alice@localhost:{}", gateway.port())]);
    alice.carry(&mut command);
    let finished = run(&mut command);
    assert!(finished.code != 0 && finished.all().contains("encrypt"), "{}", finished.all());
    assert!(gateway.daemon().eventually(|| gateway.log().contains("not_confidential")), "{}", gateway.log());
    assert!(gateway.log().contains("refused without TLS"), "said at start:\n{}", gateway.log());
}

#[test]
fn xpras_client_logs_in_by_ticket() {
    let kdc = Kdc::start();
    let session = Session::open("by-ticket");
    let place = Place::new();
    let front = place.text("front");
    let arguments = [
        format!("--bind={front},auth=kerberos-token(service=xpra/localhost)"),
        format!("--backend=xpra+unix:{}", session.socket),
    ];
    let gateway = Gateway::start_with(&arguments, |command| kdc.reach(command));
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let address = format!("socket://alice@{front}");
    xpra::expect_answer_of(&session, xpra_info(&address, &alice));
    assert!(gateway.log().contains("kerberos-ticket:kerberos:xpra@localhost"), "{}", gateway.log());
    // Somebody else's ticket, and none.
    xpra_info(&format!("socket://bob@{front}"), &alice).expect_code(exit::CONNECTION_FAILED);
    let bob = kdc.kinit("bob", &password("bob", REALM), &[]);
    xpra::expect_answer_of(&session, xpra_info(&format!("socket://bob@{front}"), &bob));
    xpra_info(&address, &kdc.nobody()).expect_code(exit::PASSWORD_REQUIRED);
}

#[test]
fn our_client_logs_in_at_xpras_server_by_ticket() {
    let (kdc, place) = (Kdc::start(), Place::new());
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let session = Session::start("gss", &["gss:service=xpra/localhost".to_owned()], |command| {
        kdc.reach(command);
    });
    let login = |tickets: &Tickets, handlers: &str| {
        let address = format!("socket://alice@{}", session.socket);
        let mut command =
            countersign(&place, &["info", &format!("--challenge-handlers={handlers}"), &address]);
        tickets.carry(&mut command);
        run(&mut command)
    };
    let log = || session.log();
    let finished = login(&alice, "all");
    assert!(finished.code == 0, "{}\n--- server:\n{}", finished.all(), log());
    login(&kdc.nobody(), "all").expect_code(79).expect_text("kinit");
    // It cannot prove itself, and need not: the socket's owner has verified it. Whoever wants that is told.
    login(&alice, "gss(mutual=always)").expect_code(76).expect_text("mutual=never");
    login(&alice, "gss(service=countersign)").expect_code(76).expect_text("not a service of its own");
}

/// Facts about Debian's 3.1.3 that the tests above leave out, so that a version that is better shows.
#[test]
fn what_debians_xpra_cannot_do() {
    let (kdc, place) = (Kdc::start(), Place::new());
    let alice = kdc.kinit("alice", &password("alice", REALM), &[]);
    let gate = Gate::start(&kdc, &[GSS]);
    let finished = xpra_info(&format!("socket://alice@{}", gate.socket(0)), &alice);
    finished.expect_code(exit::PASSWORD_REQUIRED).expect_text("must be str or None, not bytes");
    let session =
        Session::start("kerberos", &["kerberos-token:service=xpra@localhost".to_owned()], |command| {
            kdc.reach(command);
        });
    let address = format!("socket://alice@{}", session.socket);
    let mut command = countersign(&place, &["info", &address]);
    alice.carry(&mut command);
    run(&mut command).expect_code(REFUSED);
    assert!(session.log().contains("must be str, not bytes"), "{}", session.log());
}

/// A gateway with a Unix socket for each chain, in a realm.
struct Gate {
    gateway: Gateway,
    place: Place,
}

impl Gate {
    fn start(kdc: &Kdc, chains: &[&str]) -> Self {
        Self::start_with(chains, |command| kdc.reach(command))
    }

    fn start_by(kdc: &Kdc, configuration: &str, chains: &[&str]) -> Self {
        Self::start_with(chains, |command| kdc.reach_by(configuration, command))
    }

    fn start_with(chains: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        let place = Place::new();
        let bind =
            |(number, chain): (usize, &&str)| format!("--bind={},auth={chain}", socket(&place, number));
        let arguments: Vec<String> = chains.iter().enumerate().map(bind).collect();
        Self { gateway: Gateway::start_with(&arguments, adjust), place }
    }

    fn socket(&self, door: usize) -> String {
        socket(&self.place, door)
    }

    /// Our client with a password.
    fn by_password(&self, door: usize, user: &str, secret: &str) -> Finished {
        let file = self.place.file("password", secret);
        let address = format!("unix:{}", self.socket(door));
        run(&mut countersign(&self.place, &["info", "--username", user, "--password-file", &file, &address]))
    }

    /// Our client with tickets.
    fn by_ticket(&self, door: usize, tickets: &Tickets, user: &str) -> Finished {
        let address = format!("unix:{}", self.socket(door));
        let mut command = countersign(&self.place, &["info", "--username", user, &address]);
        tickets.carry(&mut command);
        run(&mut command)
    }

    /// Fails the test unless the record of the last refusal says this, which may come after the refusal itself.
    #[track_caller]
    fn expect_log(&self, text: &str) {
        let says = || {
            self.gateway
                .log()
                .lines()
                .rfind(|line| line.contains("auth failure"))
                .is_some_and(|line| line.contains(text))
        };
        assert!(self.gateway.daemon().eventually(says), "`{text}` expected:\n{}", self.gateway.log());
    }

    /// Fails the test unless the last login was refused for this reason.
    #[track_caller]
    fn expect_reason(&self, reason: &str) {
        self.expect_log(&format!(" reason {reason} "));
    }
}

fn socket(place: &Place, number: usize) -> String {
    place.text(&format!("door{number}"))
}

/// A question for a ticket, as a gateway of ours asks it.
fn challenge(salt: &[u8]) -> Vec<u8> {
    let items = ["gss:countersign/localhost", "hmac+sha512", "password"].map(Value::from);
    let head = [Value::from("challenge"), Value::from(salt), Value::Dict(announced())];
    wire::packet(&Value::List(head.into_iter().chain(items).collect()))
}

/// What a gateway of ours says of itself.
fn announced() -> Vec<(Value, Value)> {
    vec![("countersign".into(), "0.1.0".into()), ("version".into(), "6.5".into())]
}

/// Presents a token as Xpra's clients do, and says whether it was taken.
fn present(socket: &str, user: &str, token: &[u8]) -> bool {
    let mut stream = dial_unix(Path::new(socket));
    let caps = wire::with(wire::honest(user), "digest", wire::texts(&["hmac+sha512", "gss"]));
    wire::send(&mut stream, &wire::hello(caps.clone()));
    let challenge = wire::read(&mut stream).challenge();
    assert_eq!(challenge.digest, "gss:countersign/localhost");
    let salt = [7; 32];
    let combined = wire::combined(&challenge, &salt);
    let masks = combined.into_iter().chain(std::iter::repeat(0));
    let masked: Vec<u8> = token.iter().zip(masks).map(|(byte, mask)| byte ^ mask).collect();
    let answer = wire::with(caps, "challenge_response", Value::Bytes(masked));
    let answer = wire::with(answer, "challenge_client_salt", Value::Bytes(salt.to_vec()));
    wire::send(&mut stream, &wire::hello(answer));
    match wire::read(&mut stream) {
        Received::Packet(kind, _) if kind == "hello" => true,
        Received::Packet(kind, items) if kind == "disconnect" => {
            assert!(items.iter().any(|item| item.text() == "authentication failed"), "{items:?}");
            false
        }
        other => panic!("neither in nor out: {other:?}"),
    }
}

fn xpra_info(address: &str, tickets: &Tickets) -> Finished {
    let home = Place::new();
    let mut command = Command::new("xpra");
    command.args(["info", address]).env("HOME", home.path("")).env("XDG_RUNTIME_DIR", home.path(""));
    command.env("LC_ALL", "C.UTF-8").env_remove("DISPLAY").env_remove("XPRA_PASSWORD");
    tickets.carry(&mut command);
    run(&mut command)
}

/// Ends TLS with a certificate for `localhost` of its own and speaks TLS to a gateway.
struct Relay {
    port: u16,
    root: String,
    _socat: Daemon,
}

impl Relay {
    fn start(place: &Place, gateway: &Gateway) -> Self {
        let (key, root, both) = (place.text("relay.key"), place.text("relay.crt"), place.text("relay.pem"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        run(command.args(["-keyout", &key, "-out", &root])).expect_success();
        let mut pem = std::fs::File::create(&both).expect("a file in the test's own folder");
        for part in [&key, &root] {
            pem.write_all(&std::fs::read(part).expect("openssl wrote it")).expect("the same file");
        }
        let port = free_port();
        let mut socat = program("socat");
        socat.arg(format!("OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,cert={both},verify=0"));
        socat.arg(format!("OPENSSL:localhost:{},verify=0", gateway.port()));
        let socat = Daemon::start(socat);
        wait_for_tcp(&socat, port);
        Self { port, root, _socat: socat }
    }
}
