//! Sockets in folders of all kinds: what is made, what is refused, what is left alone.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::{UnixDatagram, UnixStream as StdStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

fn with_mode(mode: u32) -> UnixOptions {
    UnixOptions { mode, ..UnixOptions::default() }
}

fn bound(path: &Path) -> Result<(Option<Node>, StdListener), BindError> {
    bind(&Address::Unix(path.to_owned()), &UnixOptions::default())
}

fn refused(path: &Path) -> BindError {
    bound(path).err().unwrap()
}

/// A socket that nobody listens on, and never did: one that was closed lives on for a moment in the
/// children that other tests fork.
fn leave_dead(path: &Path) {
    new_socket().unwrap().bind(&SockAddr::unix(path).unwrap()).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn s_059_the_mode_is_never_wider_than_it_will_be() {
    let folder = folder();
    let path = folder.path().join("s");
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (path, stop) = (path.clone(), Arc::clone(&stop));
        move || {
            let mut seen = std::collections::BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                if let Ok(meta) = fs::symlink_metadata(&path) {
                    seen.insert(meta.mode() & 0o777);
                }
            }
            seen
        }
    });
    for start in 0..100 {
        let (node, listener) = bind(&Address::Unix(path.clone()), &with_mode(0o620)).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o620, "start {start}");
        drop((node, listener));
    }
    stop.store(true, Ordering::Relaxed);
    let seen = watcher.join().unwrap();
    assert!(seen.iter().all(|mode| mode & !0o620 == 0), "{seen:?}");
}

#[test]
fn s_059_nobody_can_connect_before_the_socket_has_its_mode() {
    let folder = folder();
    let path = folder.path().join("s");
    let socket = new_socket().unwrap();
    narrow(&socket, Mode::from_raw_mode(0o600)).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(StdStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn mode_owner_and_group_are_what_was_asked_for() {
    let folder = folder();
    let path = folder.path().join("s");
    let (owner, group) = if is_root() {
        (12345, 23456)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    let options = UnixOptions { mode: 0o666, owner: Some(owner), group: Some(group) };
    let (node, _listener) = bind(&Address::Unix(path.clone()), &options).unwrap();
    let meta = fs::symlink_metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o666, owner, group));
    node.as_ref().unwrap().set_mode(0o600).unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::remove_file(&path).unwrap();
    assert!(node.unwrap().set_mode(0o666).is_err());
}

#[test]
fn s_060_a_dead_socket_of_ours_is_replaced_and_ours_alone_is_removed_at_the_end() {
    let folder = folder();
    let path = folder.path().join("s");
    leave_dead(&path);
    let (node, listener) = bound(&path).unwrap();
    assert!(StdStream::connect(&path).is_ok());
    drop((node, listener));
    assert!(!path.exists());

    let made = bound(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    drop(made);
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
}

#[test]
fn s_060_what_is_not_a_dead_socket_of_ours_stays_untouched() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir(at("directory")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    leave_dead(&at("dead"));
    symlink(at("dead"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    for (name, what) in [
        ("file", "a file"),
        ("directory", "a directory"),
        ("fifo", "a FIFO"),
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
    ] {
        let error = refused(&at(name));
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
        assert!(error.to_string().ends_with(&format!("there is {what} at this path")), "{error}");
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "content");
    assert!(at("directory").is_dir() && !at("nowhere").exists());
    assert!(fs::symlink_metadata(at("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(at("dead")).unwrap().file_type().is_socket());
    assert!(fs::symlink_metadata(at("link")).unwrap().file_type().is_symlink());
    if is_root() {
        std::os::unix::fs::lchown(at("dead"), Some(12345), None).unwrap();
        assert!(refused(&at("dead")).to_string().contains("an abandoned socket of uid 12345"));
        assert!(at("dead").exists());
    }
}

#[test]
fn s_064_the_second_daemon_gives_up_and_names_the_first() {
    let folder = folder();
    let path = folder.path().join("s");
    let first = bound(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let expected = format!("process {} listens there already", std::process::id());
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(StdStream::connect(&path).is_ok());
    drop(first);

    let _datagrams = UnixDatagram::bind(&path).unwrap();
    assert_eq!(refused(&path).kind(), io::ErrorKind::AddrInUse);

    let name = Address::Abstract(format!("countersign-test-twice-{}", std::process::id()));
    let _first = bind(&name, &UnixOptions::default()).unwrap();
    let error = bind(&name, &UnixOptions::default()).err().unwrap();
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[test]
fn s_064_of_many_daemons_that_start_at_once_over_a_dead_socket_one_wins() {
    let folder = folder();
    let path = folder.path().join("s");
    for _ in 0..20 {
        leave_dead(&path);
        let starts: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn({
                    let path = path.clone();
                    move || bound(&path)
                })
            })
            .collect();
        let ends: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1);
        assert!(StdStream::connect(&path).is_ok());
        assert!(
            ends.iter().filter_map(|end| end.as_ref().err()).all(|e| e.kind() == io::ErrorKind::AddrInUse)
        );
    }
}

#[test]
fn s_061_a_directory_that_others_control_is_refused() {
    let folder = folder();
    let path = folder.path().join("s");
    for mode in [0o777, 0o775, 0o757] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.fix(), format!("run: chmod go-w {}", folder.path().display()));
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    assert!(bound(&path).is_ok());
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(folder.path(), Some(12345), None).unwrap();
        assert!(refused(&path).to_string().contains("belongs to uid 12345"));
    }
    assert_eq!(refused(&folder.path().join("missing/s")).kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_path_that_no_socket_can_have_is_an_error() {
    let folder = folder();
    assert!(refused(&folder.path().join("x".repeat(120))).to_string().contains("107 bytes"));
    assert_eq!(refused(Path::new("/")).kind(), io::ErrorKind::InvalidInput);
    assert_eq!(refused(Path::new("")).kind(), io::ErrorKind::InvalidInput);
}
