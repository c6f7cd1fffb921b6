//! The store and its copy: what every store must do, and what becomes of either that is damaged, behind or gone.

use std::{fs, os::unix::fs::PermissionsExt as _};

use rusqlite::Connection;

use super::*;
use crate::{
    Username,
    trust::{
        TrustStore,
        entry::{Revocation, Way},
        store::{Admission, tests::conforms},
    },
};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn entry(byte: u8) -> Entry {
    let name = Username::parse(&format!("user-{byte}")).unwrap();
    Entry::new(Fingerprint([byte; 32]), name, Way::Added, "root", 1)
}

fn admit(store: &dyn Store, byte: u8) -> Result<Applied, TrustError> {
    store.apply(&Change::Admit { entry: &entry(byte), certificate: b"der", by: Admission::Owner })
}

/// A store with one accepted and one revoked certificate.
fn with_two(directory: &Path) {
    let store = Twofold::open(directory).unwrap();
    assert_eq!(admit(&store, 1).unwrap(), Applied::Made);
    assert_eq!(admit(&store, 2).unwrap(), Applied::Made);
    let mut revoked = entry(2);
    revoked.revoked = Some(Revocation::new(5, "lost"));
    assert_eq!(store.apply(&Change::Amend(&revoked)).unwrap(), Applied::Made);
}

fn assert_two(store: &TrustStore) {
    assert!(!store.is_pristine());
    assert_eq!(store.standing(&[1; 32]), crate::trust::Standing::Accepted);
    assert_eq!(store.standing(&[2; 32]), crate::trust::Standing::Revoked);
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(6).position(|window| window == b"user-2").unwrap();
    bytes[at] = b'm';
    fs::write(path, bytes).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_is_a_store_and_so_is_its_copy_alone() {
    let folder = folder();
    conforms(&|| Box::new(Twofold::open(folder.path()).unwrap()));
    let (store, copy) = (folder.path().join(FILE), folder.path().join(COPY));
    let all = |path: &Path| SqliteStore::at(path.to_owned()).unwrap().entries().unwrap();
    assert_eq!(all(&store), all(&copy));
    for name in names(folder.path()) {
        let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
}

#[test]
fn s_053_a_store_that_is_damaged_or_gone_comes_back_whole_from_its_copy() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("cut", |path| fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap()),
        ("altered", damage),
        ("foreign", |path| fs::write(path, "no store").unwrap()),
    ];
    for (what, damage) in damages {
        let folder = folder();
        with_two(folder.path());
        damage(&folder.path().join(FILE));
        assert_two(&TrustStore::open(folder.path()).expect(what));
        let kept = names(folder.path()).iter().any(|name| name.starts_with("state.db.aside-"));
        assert_eq!(kept, what != "gone", "what could be of use is kept");
        // From now on it is as before: two whole files.
        assert_two(&TrustStore::open(folder.path()).expect(what));
        fs::remove_file(folder.path().join(COPY)).unwrap();
        assert_two(&TrustStore::open(folder.path()).expect(what));
        assert!(folder.path().join(COPY).exists());
    }
}

#[test]
fn s_053_nothing_is_taken_from_a_copy_that_is_damaged_or_in_which_nobody_was_accepted() {
    let folder = folder();
    with_two(folder.path());
    damage(&folder.path().join(FILE));
    damage(&folder.path().join(COPY));
    for _ in 0..2 {
        let error = TrustStore::open(folder.path()).unwrap_err();
        assert!(error.fix().contains("trust reset"), "{error}");
    }
    let folder = self::folder();
    drop(Twofold::open(folder.path()).unwrap());
    fs::write(folder.path().join(FILE), "no store").unwrap();
    TrustStore::open(folder.path()).unwrap_err();
    // The mark that there was a store may be gone with it.
    let folder = self::folder();
    with_two(folder.path());
    fs::remove_file(folder.path().join(FILE)).unwrap();
    fs::remove_file(folder.path().join("state.made")).unwrap();
    assert_two(&TrustStore::open(folder.path()).unwrap());
}

/// SQLite takes a log that was cut for one that ends there: what was revoked last would be accepted again.
#[test]
fn s_053_a_store_that_lost_its_last_changes_has_them_again() {
    for lost in [1, 3] {
        let folder = folder();
        with_two(folder.path());
        let old = fs::read(folder.path().join(FILE)).unwrap();
        let store = Twofold::open(folder.path()).unwrap();
        for byte in 3..3 + lost {
            assert_eq!(admit(&store, byte).unwrap(), Applied::Made);
        }
        drop(store);
        fs::write(folder.path().join(FILE), old).unwrap();
        let store = TrustStore::open(folder.path()).unwrap();
        for byte in 3..3 + lost {
            assert_eq!(store.standing(&[byte; 32]), crate::trust::Standing::Accepted);
        }
        assert_two(&store);
        // One is what a kill leaves, which is nothing to keep.
        let kept = names(folder.path()).iter().any(|name| name.contains("aside"));
        assert_eq!(kept, lost > 1);
    }
}

#[test]
fn a_copy_that_is_damaged_behind_or_of_another_store_is_made_anew() {
    let folder = folder();
    with_two(folder.path());
    let copy = folder.path().join(COPY);
    let old = fs::read(&copy).unwrap();
    let store = Twofold::open(folder.path()).unwrap();
    assert_eq!(admit(&store, 3).unwrap(), Applied::Made);
    drop(store);
    for damaged in [old, b"no store".to_vec()] {
        fs::write(&copy, damaged).unwrap();
        drop(Twofold::open(folder.path()).unwrap());
        assert_eq!(SqliteStore::at(copy.clone()).unwrap().entries().unwrap().len(), 3);
    }
    // It shows in the middle: the change is made nevertheless, in a new one too.
    let connection = Connection::open(&copy).unwrap();
    connection.execute_batch("DROP TABLE certificates").unwrap();
    drop(connection);
    let store = Twofold::open(folder.path()).unwrap();
    assert_eq!(admit(&store, 4).unwrap(), Applied::Made);
    drop(store);
    assert_eq!(SqliteStore::at(copy).unwrap().entries().unwrap().len(), 4);
}

#[test]
fn s_054_a_change_that_one_of_them_has_no_room_for_is_in_neither() {
    for full in [FILE, COPY] {
        let folder = folder();
        with_two(folder.path());
        let store = Twofold::open(folder.path()).unwrap();
        let pages = |store: &SqliteStore, pages: u32| {
            store.looking(|connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            })
        };
        let limit = |limit: u32| match full {
            FILE => pages(&store.store, limit).unwrap(),
            _ => pages(store.copy.lock().as_ref().unwrap(), limit).unwrap(),
        };
        limit(1);
        let large = Entry::new(Fingerprint([9; 32]), Username::parse("late").unwrap(), Way::Added, "root", 1);
        let big = vec![7; 100_000];
        let change = Change::Admit { entry: &large, certificate: &big, by: Admission::Owner };
        let refused = store.apply(&change).unwrap_err();
        assert!(matches!(refused, TrustError::Io { .. }), "{full}: {refused}");
        assert_eq!(store.entry(&large.fingerprint).unwrap(), None);
        let copy = store.copy.lock().as_ref().map(|copy| copy.entry(&large.fingerprint).unwrap());
        assert_eq!(copy, Some(None), "{full}");
        limit(1 << 20);
        assert_eq!(store.apply(&change).unwrap(), Applied::Made, "{full}");
        assert_eq!(store.apply(&Change::Forget(&large.fingerprint)).unwrap(), Applied::Made);
    }
}

#[test]
fn s_077_a_code_that_was_used_stays_used_when_the_owner_begins_anew() {
    let folder = folder();
    with_two(folder.path());
    let store = TrustStore::open(folder.path()).unwrap();
    assert!(store.raise("otp:alice", 7).unwrap());
    drop(store);
    assert!(TrustStore::reset_in(folder.path()).unwrap().is_some());
    let store = TrustStore::open(folder.path()).unwrap();
    assert!(store.is_pristine() && !store.raise("otp:alice", 7).unwrap());
    drop(store);
    fs::write(folder.path().join(FILE), "no store").unwrap();
    TrustStore::reset_in(folder.path()).unwrap();
    assert_eq!(TrustStore::open(folder.path()).unwrap().mark("otp:alice").unwrap(), Some(7), "by the copy");
}
