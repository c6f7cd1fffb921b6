//! `scram`: GNU SASL, PostgreSQL's keys and Python against both of our ends, in the clear and bound to TLS.

use std::{net::TcpListener, sync::mpsc, thread};

use countersign_interop::{
    PATIENCE, Place,
    certificate::Pair,
    gateway::{Gateway, countersign},
    net::dial,
    postgres::{Postgres, query},
    process::{Finished, run, run_with_input},
    sasl::{Sasl, log_in, serve, tls_client, tls_server},
    wire::Received,
};

const MECHANISMS: [&str; 4] = ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS"];

#[test]
fn the_table_of_users_lets_our_client_in_bound_to_tls_where_there_is_any() {
    let place = Place::new();
    let gateway = gateway(&table(&place), "");
    let password = place.file("password", PASSWORD);
    for (scheme, answered) in [("tcp", "SCRAM-SHA-512"), ("tls", "SCRAM-SHA-512-PLUS")] {
        let address = format!("{scheme}://alice@127.0.0.1:{}/", gateway.port());
        for handlers in ["file", "scram"] {
            let finished = info(&place, &address, handlers, &password).expect_success();
            finished.expect_text(&format!("client.answered={answered}\n"));
        }
        for stranger in ["mallory", "closed"] {
            let address = address.replace("alice", stranger);
            info(&place, &address, "file", &password)
                .expect_code(77)
                .expect_text("the server refused the login");
        }
        let wrong = place.file("wrong", "Pencil");
        info(&place, &address, "file", &wrong).expect_code(77).expect_text("the server refused the login");
    }
    let bound = "scram(channel-binding=require)";
    let port = gateway.port();
    info(&place, &format!("tls://alice@127.0.0.1:{port}/"), bound, &password).expect_success();
    let open = info(&place, &format!("tcp://alice@127.0.0.1:{port}/"), bound, &password);
    assert_ne!(open.code, 0, "{}", open.all());
    assert!(gateway.log().contains("SCRAM-SHA-512-PLUS"), "the record says how:\n{}", gateway.log());
}

#[test]
fn a_gateway_that_asks_for_hmac_gets_nothing_from_a_password_that_is_for_scram_alone() {
    let place = Place::new();
    let password = place.file("password", PASSWORD);
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})")]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    info(&place, &address, "file", &password).expect_success();
    let finished = info(&place, &address, "scram", &password);
    assert_ne!(finished.code, 0, "{}", finished.all());
}

#[test]
fn foreign_clients_log_in_at_the_gateway() {
    let place = Place::new();
    let gateway = gateway(&table(&place), "");
    let ended = |mechanism: &str, password: &str, lie: bool| {
        let tcp = dial(gateway.tcp());
        if !mechanism.ends_with("-PLUS") {
            let mut client = Sasl::start("client", mechanism, password, None);
            return log_in(&mut { tcp }, mechanism, &mut client);
        }
        let (mut tls, mut binding) = tls_client(tcp, &gateway.root());
        binding[0] ^= u8::from(lie);
        let mut client = Sasl::start("client", mechanism, password, Some(&binding));
        log_in(&mut tls, mechanism, &mut client)
    };
    for mechanism in MECHANISMS {
        let (last, satisfied) = ended(mechanism, PASSWORD, false);
        assert!(matches!(&last, Received::Packet(kind, _) if kind == "hello"), "{mechanism}: {last:?}");
        assert!(satisfied, "{mechanism}: the gateway proves that it knows the password");
        refused(mechanism, ended(mechanism, "Pencil", false));
        if mechanism.ends_with("-PLUS") {
            refused(mechanism, ended(mechanism, PASSWORD, true));
        }
    }
}

#[test]
fn a_foreign_client_is_turned_away_where_the_login_must_be_bound() {
    let place = Place::new();
    let gateway = gateway(&table(&place), ",channel-binding=require");
    let mut client = Sasl::start("client", "SCRAM-SHA-256", PASSWORD, None);
    let (mut tls, _) = tls_client(dial(gateway.tcp()), &gateway.root());
    let (last, _) = log_in(&mut tls, "SCRAM-SHA-256", &mut client);
    assert!(matches!(&last, Received::Packet(kind, _) if kind == "disconnect"), "{last:?}");
}

#[test]
fn our_client_logs_in_at_foreign_servers() {
    let place = Place::new();
    let password = place.file("password", PASSWORD);
    for mechanism in MECHANISMS {
        let (finished, accepted, offered) = visit(&place, mechanism, PASSWORD, &password);
        finished.expect_success().expect_text(&format!("client.answered={mechanism}\n"));
        assert!(accepted && offered.iter().any(|name| name == mechanism), "{mechanism}: {offered:?}");
        // S-34: what is bound is offered where it can be, and only there.
        assert_eq!(offered.iter().any(|name| name.ends_with("-PLUS")), mechanism.ends_with("-PLUS"));
        let (finished, accepted, _) = visit(&place, mechanism, "another word", &password);
        finished.expect_code(77);
        assert!(!accepted, "{mechanism}");
    }
}

#[test]
fn keys_from_postgresql_let_in_as_they_are() {
    let (place, database) = (Place::new(), Postgres::start());
    let _ = query(database.port, "create role alice login password 'pencil'");
    let _ = query(database.port, "create role bob login password 'I\u{ad}X'");
    let lines = query(
        database.port,
        "select rolname || '|' || rolpassword || '|1000' from pg_authid where rolpassword like 'SCRAM-SHA-256$%'",
    );
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let gateway = gateway(&place.file("keys", format!("{lines}\n")), "");
    for (name, password, code) in
        [("alice", "pencil", 0), ("alice", "Pencil", 77), ("bob", "IX", 0), ("carol", "pencil", 77)]
    {
        let address = format!("tcp://{name}@127.0.0.1:{}/", gateway.port());
        let finished = info(&place, &address, "file", &place.file("password", password)).expect_code(code);
        if code == 0 {
            finished.expect_text("client.answered=SCRAM-SHA-256\n");
        }
    }
}

/// A foreign server that knows this password of alice, and our client with that one: how the client ended, and what
/// the server saw.
fn visit(place: &Place, mechanism: &'static str, knows: &str, file: &str) -> (Finished, bool, Vec<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (pair, knows) = (Pair::of_localhost(place, mechanism), knows.to_owned());
    let (seen, login) = mpsc::channel();
    // A client tries the system's authorities, looks at the certificate, and comes back: each on its own connection.
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (pair, knows, seen) = (pair.clone(), knows.clone(), seen.clone());
            thread::spawn(move || {
                tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let served = if mechanism.ends_with("-PLUS") {
                    let Some((mut tls, binding)) = tls_server(tcp, &pair) else { return };
                    let mut server = Sasl::start("server", mechanism, &knows, Some(&binding));
                    serve(&mut tls, mechanism, &mut server)
                } else {
                    serve(&mut { tcp }, mechanism, &mut Sasl::start("server", mechanism, &knows, None))
                };
                // The test may be over when somebody leaves who only looked.
                let _ =
                    Some(served).filter(|(_, offered)| !offered.is_empty()).map(|served| seen.send(served));
            });
        }
    });
    let scheme = if mechanism.ends_with("-PLUS") { "tls" } else { "tcp" };
    let finished = info(place, &format!("{scheme}://alice@127.0.0.1:{port}/"), "file", file);
    let (accepted, offered) = login.recv_timeout(PATIENCE).expect("the server did its part");
    (finished, accepted, offered)
}

fn refused(mechanism: &str, (last, satisfied): (Received, bool)) {
    match &last {
        Received::Packet(kind, reasons) if kind == "disconnect" => {
            assert!(reasons.iter().any(|reason| reason.text() == "authentication failed"), "{last:?}");
        }
        _ => panic!("{mechanism}: {last:?}"),
    }
    assert!(!satisfied, "{mechanism}: nothing is proved to whoever does not know the password");
}

fn info(place: &Place, address: &str, handlers: &str, password: &str) -> Finished {
    let handlers = format!("--challenge-handlers={handlers}");
    run(&mut countersign(
        place,
        &["info", "--trust-on-first-use", &handlers, "--password-file", password, address],
    ))
}

fn gateway(file: &str, options: &str) -> Gateway {
    Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=scram(filename={file}{options})"),
        // Wrong guesses are what this is about.
        "--log-level=info".to_owned(),
    ])
}

/// A table of users with `alice`, and `closed`, who has her password and may not log in.
fn table(place: &Place) -> String {
    let table = place.text("users.sdb");
    run(&mut countersign(place, &["users", "init", &table])).expect_success();
    for name in ["alice", "closed"] {
        let mut add = countersign(place, &["users", "add", "--stdin", &table, name]);
        run_with_input(&mut add, PASSWORD.as_bytes()).expect_success();
    }
    run(&mut countersign(place, &["users", "disable", &table, "closed"])).expect_success();
    table
}

const PASSWORD: &str = "pencil";
