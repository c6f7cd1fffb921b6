//! `psql` through `countersign connect --listen`, through the gateway, to a real PostgreSQL.

use std::process::Command;

use countersign_interop::{
    Place,
    certificate::Pair,
    gateway::{Door, Gateway},
    postgres::{Postgres, psql, query},
    process::{must, run},
};

#[test]
fn psql_works_over_tcp_and_over_the_unix_socket_of_the_database() {
    let place = Place::new();
    let password = place.file("password", "a word for the database");
    let database = Postgres::start();
    for backend in [format!("tcp:127.0.0.1:{}", database.port), format!("unix:{}", database.socket)] {
        let gateway = Gateway::start(&[
            format!("--bind-tcp=127.0.0.1:0,auth=file(filename={password})"),
            format!("--backend={backend}"),
        ]);
        let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
        let door = Door::open(&address, &[format!("--password-file={password}")]);
        assert_eq!(query(door.port, "select 6 * 7"), "42", "over {backend}");
        // More than any buffer on the way, in both directions.
        let sum =
            query(door.port, "select md5(string_agg(repeat('x', 100), ',')) from generate_series(1, 100000)");
        assert_eq!(
            sum,
            query(
                database.port,
                "select md5(string_agg(repeat('x', 100), ',')) from generate_series(1, 100000)"
            )
        );
        let rows = query(door.port, "select repeat('y', 1000) from generate_series(1, 20000)");
        assert_eq!(rows.len(), 20_000 * 1001 - 1, "every row arrives over {backend}");
    }
}

#[test]
fn psql_meets_a_closed_door_with_the_wrong_password() {
    let place = Place::new();
    let database = Postgres::start();
    let gateway = Gateway::start(&[
        format!("--bind-tcp=127.0.0.1:0,auth=file(filename={})", place.file("password", "the right one")),
        format!("--backend=tcp:127.0.0.1:{}", database.port),
    ]);
    let address = format!("tcp://alice@127.0.0.1:{}/", gateway.port());
    let door = Door::open(&address, &[format!("--password-file={}", place.file("wrong", "a wrong one"))]);
    let mut command = Command::new("psql");
    command.args(["-X", "-h", "127.0.0.1", "-U", "postgres", "-c", "select 1", "-p", &door.port.to_string()]);
    let finished = run(command.current_dir("/"));
    assert_ne!(finished.code, 0, "{}", finished.all());
    assert!(door.log().contains("authentication failed"), "the door says why:\n{}", door.log());
}

#[test]
fn psql_asks_the_gateway_for_tls_as_it_asks_a_database() {
    let (place, database) = (Place::new(), Postgres::start());
    let own = Pair::of_localhost(&place, "gateway");
    let Pair { cert, key } = &own;
    let gateway = Gateway::start(&[
        format!(
            "--bind-ssl=127.0.0.1:0,protocol=stream,starttls=postgres,auth=none,ssl-cert={cert},ssl-key={key}"
        ),
        format!("--backend=unix:{}", database.socket),
    ]);
    let server = format!("host=localhost hostaddr=127.0.0.1 port={}", gateway.port());
    for mode in ["prefer", "require", "verify-full"] {
        let connection = format!("{server} sslmode={mode} sslrootcert={cert}");
        assert_eq!(must(&mut psql(&connection, "select 6 * 7")), "42\n", "{mode}");
    }
    // Clients from version 17 on may start TLS at once, and insist on the protocol's name then.
    for way in [["-starttls", "postgres"].as_slice(), &[]] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("localhost:{}", gateway.port()), "-CAfile", cert]);
        let shown = run(command.args(["-verify_return_error", "-alpn", "postgresql"]).args(way));
        shown.expect_success().expect_text("ALPN protocol: postgresql");
    }
    let clear = run(&mut psql(&format!("{server} sslmode=disable"), "select 6 * 7"));
    assert_ne!(clear.code, 0, "nothing passes in the clear: {}", clear.all());
}
