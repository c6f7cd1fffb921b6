//! A daemon of one user, for tests of sessions: on a Unix socket it tells each client who it is and what it was
//! started with, as one line of JSON, and then sends back what it hears.
//!
//! `user-daemon SOCKET [DELAY_MS [COUNT_FILE]]`: the socket is there after the delay; each start adds a line to the
//! file.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Duration,
};

use nix::unistd::{getgroups, getpgrp, getpid, getresgid, getresuid, getsid};
use serde_json::json;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let socket = words.first().expect("the path of a socket");
    let told = format!("{}\n", story(socket));
    if let Some(file) = words.get(2) {
        let mut file =
            fs::OpenOptions::new().append(true).create(true).open(file).expect("the file of starts");
        file.write_all(b"started\n").expect("a line");
    }
    let delay = words.get(1).map_or(0, |delay| delay.parse().expect("milliseconds"));
    thread::sleep(Duration::from_millis(delay));
    // What an earlier daemon left.
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("a socket");
    for client in listener.incoming() {
        let (client, told) = (client.expect("a client"), told.clone());
        thread::spawn(move || serve(client, &told));
    }
}

fn serve(mut client: UnixStream, told: &str) {
    let mut heard = [0; 4096];
    // A client that only looks whether somebody is there leaves at once.
    if client.write_all(told.as_bytes()).is_err() {
        return;
    }
    while let Ok(length) = client.read(&mut heard) {
        if length == 0 || client.write_all(&heard[..length]).is_err() {
            return;
        }
    }
}

/// Who this is, by everything that the system knows.
fn story(socket: &str) -> serde_json::Value {
    let (uids, gids) = (getresuid().expect("uids"), getresgid().expect("gids"));
    let groups: Vec<u32> = getgroups().expect("groups").iter().map(|group| group.as_raw()).collect();
    // Reading the list opens one itself.
    let open = fs::read_dir("/proc/self/fd").expect("descriptors");
    let open: Vec<String> =
        open.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    json!({
        "uids": [uids.real.as_raw(), uids.effective.as_raw(), uids.saved.as_raw()],
        "gids": [gids.real.as_raw(), gids.effective.as_raw(), gids.saved.as_raw()],
        "groups": groups,
        "directory": env::current_dir().expect("a directory"),
        "environment": env::vars().collect::<BTreeMap<_, _>>(),
        "descriptors": open.len() - 1,
        "leads": getsid(None).ok() == Some(getpid()) && getpgrp() == getpid(),
        "pid": getpid().as_raw(),
        "socket": socket,
    })
}
