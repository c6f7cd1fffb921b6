//! Sessions that a table of users lists, by whichever router reads it.

use super::*;

/// What the rows of a table say, by whichever router reads it.
async fn judge_table(router: impl Fn(&str) -> String, folder: &Path) {
    let uid = own_uid();
    let work = folder.join("work-socket");
    let row = |uid: &str, displays: &str| router(&format!("{uid}|{displays}"));
    let own = uid.to_string();
    let displays = format!(":10, {}, mail=unix:{}, tcp:127.0.0.1:1", work.display(), work.display());
    let all = row(&own, &displays);
    for wanted in ["10", ":10", "work-socket", "mail"] {
        open(&all, &me(Some(wanted))).await.unwrap();
    }
    let list = open(&all, &me(None)).await.unwrap_err();
    assert!(list.contains("you have `:10`, `work-socket`, `mail`, `tcp:127.0.0.1:1` ["), "{list}");
    // One session, with no name asked for; what means nothing or holds a password is left out.
    let displays = "tcp://me:hunter2@127.0.0.1:1/, ssl:h:1, unix:relative, :11, :10";
    open(&row(&own, displays), &me(None)).await.unwrap();
    // Without a uid of its own the row says nothing against the login's.
    open(&row("", ":10"), &me(None)).await.unwrap();
    let cases = [
        (row(&own, ""), me(None), "you have no session here"),
        (row(&(uid + 1).to_string(), ":10"), me(None), "you have no session here [the chain and the router"),
        (row(&own, ":10"), grant(Some(("other", Some(uid))), None), "you have no session here"),
        (row(&own, ":10"), grant(Some(("ME", Some(uid))), None), "you have no session here"),
        (row(&own, "tcp:127.0.0.1:1"), me(None), "the service is not available"),
    ];
    for (backend, grant, told) in cases {
        let refused = open(&backend, &grant).await.unwrap_err();
        assert!(refused.starts_with(told), "{told}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    // A name that no link gave a uid takes the table's, and its rules hold for it.
    open(&row(&own, ":10"), &grant(Some(("me", None)), None)).await.unwrap();
    let system = row(&own, ":10").replace("min-uid=0", &format!("min-uid={}", uid + 1));
    let refused = open(&system, &grant(Some(("me", None)), None)).await.unwrap_err();
    assert!(refused.contains("is below min-uid"), "{refused}");
}

fn private(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_displays_of_a_multifile_are_sessions() {
    let (folder, _sockets) = folder(&[&xpra_name("10"), "work-socket"]);
    let count = std::cell::Cell::new(0);
    let router = |row: &str| {
        count.set(count.get() + 1);
        let file = folder.path().join(format!("users-{}", count.get()));
        private(&file, &format!("bob|word|12345|1|:99\nme|word|{}\n", row.replacen('|', "|1|", 1)));
        let (file, dirs) = (file.display(), folder.path().display());
        format!("session:multifile(filename={file},socket-dirs={dirs},min-uid=0)")
    };
    judge_table(router, folder.path()).await;
    let absent = "session:multifile(filename=/nonexistent/users)".parse::<Backend>().unwrap_err();
    assert!(absent.to_string().contains("/nonexistent/users"), "{absent}");
}

#[tokio::test]
async fn the_displays_of_a_sqlite_table_are_sessions() {
    let (folder, _sockets) = folder(&[&xpra_name("10"), "work-socket"]);
    let count = std::cell::Cell::new(0);
    let router = |row: &str| {
        count.set(count.get() + 1);
        let file = folder.path().join(format!("users-{}.db", count.get()));
        private(&file, "");
        let (uid, displays) = row.split_once('|').unwrap();
        let table = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), \
                     gid VARCHAR(63), displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191))";
        let database = rusqlite::Connection::open(&file).unwrap();
        database.execute(table, []).unwrap();
        let add = "INSERT INTO users (username, password, uid, displays) VALUES (?, 'word', ?, ?)";
        database.execute(add, ["bob", "12345", ":99"]).unwrap();
        database.execute(add, ["me", uid, displays]).unwrap();
        let (file, dirs) = (file.display(), folder.path().display());
        format!("session:sqlite(filename={file},socket-dirs={dirs},min-uid=0)")
    };
    judge_table(router, folder.path()).await;
}
