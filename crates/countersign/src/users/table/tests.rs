//! Tables of users in files, from making one to forgetting somebody.

use std::{fs, os::unix::fs::PermissionsExt};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn table() -> (tempfile::TempDir, PathBuf, UserTable) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.sdb");
    let table = UserTable::create(&path).unwrap();
    (folder, path, table)
}

#[test]
fn s_062_s_092_a_new_table_is_for_us_alone_whole_and_replaces_nothing() {
    let (folder, path, _) = table();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(matches!(UserTable::create(&path), Err(UserError::Exists(_))));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(matches!(UserTable::create(&link), Err(UserError::Exists(_))));
    assert!(UserTable::create(&folder.path().join("no/such/folder")).is_err());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(UserTable::create(&folder.path().join("other")), Err(UserError::File(_))));
}

#[test]
fn users_are_added_checked_changed_closed_and_removed() {
    let (_folder, path, mut table) = table();
    let (alice, bob) = (name("alice"), name("bob"));
    table.add(&NewUser::new(alice.clone()), &Secret::new("one")).unwrap();
    let check = |table: &UserTable, password: &str| table.check(&alice, &Secret::new(password)).unwrap();
    assert_eq!(check(&table, "one"), Standing::Passes);
    assert_eq!(check(&table, "two"), Standing::WrongPassword);
    table.set_password(&alice, &Secret::new("two"), false).unwrap();
    let other = UserTable::open_read_only(&path).unwrap();
    assert_eq!((check(&other, "one"), check(&other, "two")), (Standing::WrongPassword, Standing::Passes));
    table.disable(&alice).unwrap();
    assert!(matches!(check(&table, "two"), Standing::Closed(_)));
    assert_eq!(check(&table, "one"), Standing::WrongPassword);
    table.enable(&alice).unwrap();
    assert_eq!(check(&table, "two"), Standing::Passes);
    assert!(matches!(table.add(&NewUser::new(alice.clone()), &Secret::new("x")), Err(UserError::Taken(_))));
    assert!(matches!(table.remove(&bob), Err(UserError::Unknown(_))));
    table.remove(&alice).unwrap();
    assert!(matches!(table.check(&alice, &Secret::new("two")), Err(UserError::Unknown(_))));
    assert!(matches!(table.disable(&alice), Err(UserError::Unknown(_))));
    assert!(table.list().unwrap().is_empty());
}

#[test]
fn s_088_s_092_neither_the_file_nor_a_listing_holds_a_password() {
    let (_folder, path, mut table) = table();
    let mut modern = NewUser::new(name("modern"));
    modern.legacy = false;
    modern.uid = Some("1000".to_owned());
    modern.expires = Some(4_000_000_000);
    table.add(&NewUser::new(name("alice")), &Secret::new("canary-password")).unwrap();
    table.add(&modern, &Secret::new("canary-password")).unwrap();
    let list = table.list().unwrap();
    let facts: Vec<_> =
        list.iter().map(|user| (user.has_argon2, user.has_legacy, user.has_cleartext)).collect();
    assert_eq!(facts, [(true, true, false), (true, false, false)]);
    assert_eq!((list[1].uid.as_deref(), list[1].expires), (Some("1000"), Some(4_000_000_000)));
    assert!(!format!("{list:?}{table:?}").contains('$'));
    let file = fs::read(&path).unwrap();
    let hex: String = "canary-password".bytes().map(|byte| format!("{byte:02x}")).collect();
    for spelling in ["canary-password", &hex, &STANDARD.encode("canary-password")] {
        assert!(!file.windows(spelling.len()).any(|window| window == spelling.as_bytes()), "{spelling}");
    }
}

#[test]
fn a_forgotten_verifier_does_not_stay_in_the_file() {
    let (_folder, path, mut table) = table();
    table.add(&NewUser::new(name("alice")), &Secret::new("one")).unwrap();
    let verifier: String =
        table.connection.query_row("SELECT verifier FROM users", [], |row| row.get(0)).unwrap();
    table.set_password(&name("alice"), &Secret::new("two"), false).unwrap();
    table.remove(&name("alice")).unwrap();
    let file = fs::read(&path).unwrap();
    let part = &verifier.as_bytes()[40..72];
    assert!(!file.windows(part.len()).any(|window| window == part));
}

#[test]
fn s_032_s_070_what_a_login_would_refuse_is_refused_when_it_is_written() {
    let (_folder, _, mut table) = table();
    let secret = Secret::new("x");
    assert!(matches!(table.add(&NewUser::new(name("a")), &Secret::new("")), Err(UserError::EmptyPassword)));
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let bad: [fn(&mut NewUser); 3] = [
        |user| user.uid = Some("no-such-account-here".to_owned()),
        |user| user.gid = Some("-1".to_owned()),
        |user| user.displays = vec![":1,:2".to_owned()],
    ];
    for change in bad {
        let mut user = NewUser::new(name("a"));
        change(&mut user);
        assert!(matches!(table.add(&user, &secret), Err(UserError::Column { .. })));
    }
    for environment in [pair("LD_PRELOAD", "x"), pair("A", "1;LD_PRELOAD=x")] {
        let mut user = NewUser::new(name("a"));
        user.environment = environment;
        assert!(matches!(table.add(&user, &secret), Err(UserError::Column { .. })));
    }
    assert!(table.list().unwrap().is_empty());
}

#[test]
fn other_databases_and_open_ones_are_not_opened() {
    let (folder, path, _) = table();
    let xpra = folder.path().join("xpra.sdb");
    Connection::open(&xpra).unwrap().execute_batch("CREATE TABLE users (username, password)").unwrap();
    fs::set_permissions(&xpra, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(UserTable::open(&xpra), Err(UserError::NotATable(_))));
    assert!(matches!(UserTable::open(&folder.path().join("absent")), Err(UserError::File(_))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = UserTable::open(&path).unwrap_err();
    assert_eq!(error.fix(), format!("chmod 600 {}", path.display()));
}

/// What somebody leaves who is killed while the change goes to the disk: copied out of a change that is under way.
#[test]
fn s_097_a_change_that_was_cut_off_is_taken_back_before_anybody_reads() {
    let (folder, path, mut table) = table();
    table.add(&NewUser::new(name("alice")), &Secret::new("open sesame")).unwrap();
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE users SET disabled = 1").unwrap();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
                INSERT INTO users (username, verifier) SELECT 'u' || i, hex(zeroblob(200)) FROM n";
    writer.execute_batch(many).unwrap();
    let cut = folder.path().join("cut");
    fs::create_dir(&cut).unwrap();
    fs::set_permissions(&cut, fs::Permissions::from_mode(0o700)).unwrap();
    for suffix in ["", "-journal"] {
        let file = |path: &std::path::Path| format!("{}{suffix}", path.display());
        fs::copy(file(&path), file(&cut.join("users.db"))).unwrap();
    }
    let left = UserTable::open_read_only(&cut.join("users.db")).unwrap().list().unwrap();
    assert_eq!(left.len(), 1);
    assert!(!cut.join("users.db-journal").exists());
}
