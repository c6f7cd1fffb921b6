//! The store in a file: what every store must do, and every damage.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::{
    Username,
    trust::{entry::Way, store::tests::conforms},
};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn with_one(directory: &Path) {
    let store = SqliteStore::open(directory).unwrap();
    let name = Username::parse("alice-in-the-store").unwrap();
    let entry = Entry::new(Fingerprint([7; 32]), name, Way::FirstUse, "uid 1000", 1);
    let change = Change::Admit { entry: &entry, certificate: b"der", by: Admission::First };
    assert_eq!(store.apply(&change).unwrap(), Applied::Made);
}

#[test]
fn it_is_a_store() {
    let folder = folder();
    conforms(&|| Box::new(SqliteStore::open(folder.path()).unwrap()));
}

#[test]
fn s_061_its_files_are_its_owners_alone() {
    let folder = folder();
    with_one(folder.path());
    let store = SqliteStore::open(folder.path()).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
    }
    drop(store);
    fs::set_permissions(folder.path().join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
    let error = SqliteStore::open(folder.path()).unwrap_err();
    assert!(error.fix().starts_with("chmod 600"), "{error}");
}

#[test]
fn s_053_a_store_that_is_gone_cut_altered_foreign_or_too_new_is_never_an_empty_one() {
    type Damage = (&'static str, fn(&Path));
    let damage: [Damage; 6] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("altered", |path| {
            let mut bytes = fs::read(path).unwrap();
            let name = b"alice-in-the-store";
            let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
            bytes[at] = b'm';
            fs::write(path, bytes).unwrap();
        }),
        ("foreign", |path| fs::write(path, b"SQLite format 3 it is not").unwrap()),
        ("too new", |path| {
            let connection = Connection::open(path).unwrap();
            connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        }),
    ];
    for (what, damage) in damage {
        let folder = folder();
        with_one(folder.path());
        damage(&folder.path().join(FILE));
        for _ in 0..2 {
            let opened = SqliteStore::open(folder.path());
            let error = match opened {
                Ok(store) => store.load(&mut |_| {}).expect_err(what),
                Err(error) => error,
            };
            assert!(!error.fix().is_empty(), "{what}: {error}");
        }
    }
}

#[test]
fn s_053_rows_that_vanish_are_missed() {
    let folder = folder();
    with_one(folder.path());
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    connection.execute("DELETE FROM certificates", []).unwrap();
    drop(connection);
    let error = SqliteStore::open(folder.path()).unwrap().load(&mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("0 certificates are left of 1"), "{error}");
}

#[test]
fn a_store_of_an_earlier_version_knows_its_oldest_entry_as_the_first() {
    let folder = folder();
    with_one(folder.path());
    let store = SqliteStore::open(folder.path()).unwrap();
    let name = Username::parse("bob").unwrap();
    let later = Entry::new(Fingerprint([1; 32]), name, Way::Added, "root", 2);
    assert_eq!(store.apply(&Change::AdmitAll(&[(later, b"der".to_vec())])).unwrap(), Applied::Made);
    drop(store);
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    connection.execute("DROP TABLE first", []).unwrap();
    drop(connection);
    let first = SqliteStore::open(folder.path()).unwrap().first().unwrap();
    assert_eq!(first.map(|entry| entry.fingerprint), Some(Fingerprint([7; 32])));
}

#[test]
fn s_053_what_was_set_aside_makes_room_for_a_new_one() {
    let folder = folder();
    let path = folder.path().join(FILE);
    assert_eq!(set_aside(&path, 5).unwrap(), None);
    with_one(folder.path());
    fs::write(&path, b"broken").unwrap();
    fs::write(folder.path().join("state.db-wal"), b"of the broken one").unwrap();
    let aside = set_aside(&path, 5).unwrap().unwrap();
    assert!(!folder.path().join("state.db-wal").exists(), "the next store would take it for its own");
    assert!(matches!(SqliteStore::open(folder.path()), Err(TrustError::Missing(_))));
    SqliteStore::unmark(folder.path()).unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"broken");
    let store = SqliteStore::open(folder.path()).unwrap();
    assert!(!store.load(&mut |_| {}).unwrap().initialised);
}

#[test]
fn s_053_what_a_newer_version_wrote_is_told_from_damage() {
    for (version, is_newer) in
        [(VERSION + 1, true), (i64::from(i32::MAX), true), (VERSION - 1, false), (-1, false)]
    {
        let folder = folder();
        with_one(folder.path());
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
        drop(connection);
        match SqliteStore::open(folder.path()).unwrap_err() {
            TrustError::TooNew { version: found, .. } => assert!(is_newer && found == version),
            TrustError::Damaged { .. } => assert!(!is_newer, "{version}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn s_053_a_store_that_cannot_be_put_aside_whole_is_not_said_to_be() {
    let folder = folder();
    with_one(folder.path());
    fs::write(folder.path().join(format!("{FILE}-wal")), b"log").unwrap();
    fs::create_dir(folder.path().join(format!("{FILE}.aside-5-wal"))).unwrap();
    let error = set_aside(&folder.path().join(FILE), 5).unwrap_err();
    assert!(matches!(error, TrustError::Io { .. }), "{error}");
    let marker = folder.path().join(MARKER);
    fs::remove_file(&marker).unwrap();
    fs::create_dir(&marker).unwrap();
    let error = SqliteStore::unmark(folder.path()).unwrap_err();
    assert!(matches!(error, TrustError::Io { .. }), "{error}");
}

/// Whoever could put a link there would choose which file is the store.
#[test]
fn s_061_a_link_is_not_followed_to_a_store() {
    let folder = folder();
    with_one(folder.path());
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join(FILE), &link).unwrap();
    assert!(connect(&link).is_err() && connect(&folder.path().join(FILE)).is_ok());
}

/// It is no damage, so nobody is told to put a backup back.
#[test]
fn s_054_a_store_that_somebody_else_holds_or_a_full_disk_is_no_damage() {
    use rusqlite::ffi::{SQLITE_BUSY, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_NOTADB};
    let failed = |code| {
        let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        fault(Path::new(FILE), &error)
    };
    for code in [SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR] {
        assert!(matches!(failed(code), TrustError::Io { .. }), "{code}");
    }
    for code in [SQLITE_CORRUPT, SQLITE_NOTADB] {
        assert!(matches!(failed(code), TrustError::Damaged { .. }), "{code}");
    }
}
