//! One gateway after another on the sockets of a service manager, and daemons that die: what clients see of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::{fd::AsRawFd as _, unix::net::UnixListener},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use countersign_interop::{
    Place,
    gateway::Gateway,
    inside::Session,
    net::{dial, dial_unix, is_over},
};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::Signal,
};

/// S-97: with socket activation nobody is turned away while gateways come and go, and who is inside stays until it leaves.
#[test]
fn s_097_the_next_gateway_takes_the_sockets_and_refuses_no_connection() {
    let place = Place::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("its address");
    let bind = format!("--bind-tcp={address},auth=none,protocol=stream,name=front");
    let start = || {
        let gateway = Gateway::start_with(&[&bind], |command| inherit(command, &tcp));
        gateway.daemon().wait_for("its socket", |log| log.contains("listening on tcp:").then_some(()));
        gateway
    };
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut gateway = start();
    let crowd: Vec<_> = (0..3)
        .map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    Session::begin(dial(address)).echoes();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..4 {
        let mut inside = Session::begin(dial(address));
        gateway.daemon().signal(Signal::SIGTERM);
        // Both at once, as in a restart without a pause.
        let next = start();
        inside.echoes();
        let before = count.load(Ordering::Relaxed);
        assert!(next.daemon().eventually(|| count.load(Ordering::Relaxed) > before + 20));
        drop(inside);
        assert_eq!(gateway.daemon().wait().code(), Some(0), "every session ended by itself");
        gateway = next;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in crowd {
        thread.join().expect("nobody was refused or cut");
    }
    drop(place);
}

/// S-86: a daemon that dies in the middle ends its own sessions, and the next client finds it again.
#[test]
fn s_086_a_daemon_that_dies_in_the_middle_ends_its_sessions_and_is_found_again() {
    let place = Place::new();
    let (door, behind) = (place.path("door"), place.path("behind"));
    let gateway = Gateway::start(&[
        format!("--bind={},auth=none,protocol=stream", door.display()),
        format!("--backend=unix:{}", behind.display()),
    ]);
    for _ in 0..3 {
        let daemon = UnixListener::bind(&behind).expect("its socket");
        let mut client = dial_unix(&door);
        client.write_all(b"half a ques").expect("an open session");
        let (mut session, _) = daemon.accept().expect("the gateway");
        session.read_exact(&mut [0; 11]).expect("what the client said");
        session.write_all(b"half an ans").expect("an open session");
        drop((session, daemon));
        std::fs::remove_file(&behind).expect("its file");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("the end");
        assert_eq!(heard, b"half an ans", "all that there was, then the end");
        drop(client);
        // Nobody is behind: the client is told so by the end.
        assert!(is_over(&mut dial_unix(&door)));
    }
    assert!(gateway.daemon().ended().is_none());
}

/// Hands a listening socket to the program, as a service manager does.
fn inherit(command: &mut Command, socket: &TcpListener) {
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor for the child");
    let script = format!(r#"LISTEN_PID=$$ exec "$0" "$@" 3<&{}"#, socket.as_raw_fd());
    let (program, arguments): (_, Vec<_>) =
        (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned).collect());
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(program).args(arguments);
    shell.envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "front")]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    *command = shell;
}
