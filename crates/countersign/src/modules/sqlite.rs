//! `sqlite`: the accounts of a SQLite database, Xpra's or ours.

use std::path::PathBuf;

use super::{Context, Module, OptionSpec, Options};
use crate::{
    ConfigError, Refusal, Username, Verifier,
    needs::{self, Need},
    users::{
        database::{Database, Queries},
        source::{Account, Accounts, verifier},
    },
};

pub(super) struct Sqlite;

impl Module for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn summary(&self) -> &'static str {
        "the accounts of an SQLite database, ours or Xpra's"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It reads the table that `countersign users` keeps, and Xpra's as they are. The claimed name selects the rows; \
         where there are several, the row whose password is right gives the ids and sessions. A NULL or empty password \
         is an account that cannot log in. Columns `verifier`, `disabled` and `expires` are read where they exist, and \
         a verifier counts instead of the password.\n\n\
         Passwords are proved by HMAC, which needs the password itself (Xpra's tables) or the entry that \
         `countersign users` adds for it: that entry verifies hmac+sha512 only, and whoever steals it can log in with \
         it. With cleartext=yes the client sends the password itself, only over TLS, SSH or a local socket, and it is \
         checked against Argon2id; then accounts can be kept without that entry (--no-legacy).\n\n\
         password-query takes one `?`, the name; sessions-query takes two, the name and the password, and gives uid, \
         gid, displays, env_options and session_options in that order. The file is opened read-only at each login; it \
         must exist at start, belong to the user that runs the gateway or to root, and be closed to others (chmod 600 \
         FILE)."
    }

    fn example(&self) -> &'static str {
        "sqlite(filename=/etc/countersign/users.sdb)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    /// Whoever reads a database that is being written has to write beside it (`-shm`).
    fn needs(&self, options: &Options) -> Vec<Need> {
        options.written("filename").map(|path| Need::Write(needs::place_of(path))).collect()
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let path =
            options.take("filename")?.map_or_else(|| PathBuf::from(DEFAULT), |path| PathBuf::from(&**path));
        let insecure = options.flag("insecure", false)?;
        let cleartext = options.flag("cleartext", false)?;
        let mut query = |name| options.take(name).map(|query| query.map(|query| query.to_string()));
        let queries = Queries { password: query("password-query")?, sessions: query("sessions-query")? };
        let database = Database::new(path, insecure, queries)
            .map_err(|error| ConfigError::new("module sqlite", error.to_string(), error.fix()))?;
        Ok(verifier(database, cleartext))
    }
}

impl Accounts for Database {
    fn find(&self, name: &Username) -> Result<Vec<Account>, Refusal> {
        Account::from_rows(self.rows(name.as_str()))
    }
}

/// Xpra's default, against the directory that the gateway was started in.
const DEFAULT: &str = "sqlite.sdb";

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "sqlite.sdb", "the database"),
    OptionSpec::new("password-query", "SQL", "", "the SELECT that gives the password of a name"),
    OptionSpec::new("sessions-query", "SQL", "", "the SELECT that gives the sessions of a name and password"),
    OptionSpec::new(
        "cleartext",
        "yes|no",
        "no",
        "let the client send the password itself, over a private wire",
    ),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        Peer, Secret,
        modules::login::{chain, link, login, login_from},
        proto::{chain::Link, error::Reason},
        users::{NewUser, UserTable},
    };

    /// A table as Xpra's tool makes it.
    const XPRA: &str = "CREATE TABLE users (
        username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63), gid VARCHAR(63),
        displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191));";

    fn database(sql: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.sdb");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    fn xpra(rows: &str) -> (TempDir, PathBuf) {
        database(&format!("{XPRA} INSERT INTO users VALUES {rows};"))
    }

    fn ours() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.sdb");
        let mut table = UserTable::create(&path).unwrap();
        for (name, legacy) in [("alice", true), ("modern", false), ("closed", true), ("expired", true)] {
            let mut user = NewUser::new(Username::parse(name).unwrap());
            user.legacy = legacy;
            user.uid = Some("1000".to_owned());
            user.expires = (name == "expired").then_some(1_000_000_000);
            table.add(&user, &Secret::new(format!("{name} secret"))).unwrap();
        }
        table.disable(&Username::parse("closed").unwrap()).unwrap();
        (folder, path)
    }

    fn configured(path: &Path, more: &[(&str, &str)]) -> Result<Link, ConfigError> {
        let mut options = vec![("filename", path.to_str().unwrap())];
        options.extend_from_slice(more);
        link("sqlite", &options)
    }

    #[test]
    fn an_xpra_table_logs_in_as_it_is_and_the_row_that_matched_gives_the_identity() {
        let (_folder, path) = xpra(
            "('alice','alice secret','1000','1001',' :1 ,:2','A=1','b=2'), ('alice','other','2000',NULL,NULL,NULL,NULL),
             ('carol',12345,'','','','','')",
        );
        let chain = chain(configured(&path, &[]).unwrap());
        let identity = |name, secret| login(&chain, name, secret).end.unwrap().identity().unwrap().clone();
        let first = identity("alice", "alice secret");
        assert_eq!((first.name.as_str(), first.uid, first.gid), ("alice", Some(1000), Some(1001)));
        assert_eq!(first.sessions, [":1", ":2"]);
        assert_eq!(identity("alice", "other").uid, Some(2000));
        assert!(identity("carol", "12345").uid != Some(0));
    }

    #[test]
    fn s_026_s_032_unknown_wrong_null_and_empty_look_the_same() {
        let (_folder, path) = xpra(
            "('alice','alice secret',NULL,NULL,NULL,NULL,NULL), ('bob','bob secret',NULL,NULL,NULL,NULL,NULL),
             ('null',NULL,NULL,NULL,NULL,NULL,NULL), ('empty','',NULL,NULL,NULL,NULL,NULL)",
        );
        let chain = chain(configured(&path, &[]).unwrap());
        let cases = [
            ("bob", "alice secret", Reason::WrongSecret),
            ("carol", "alice secret", Reason::UnknownUser),
            ("", "alice secret", Reason::UnknownUser),
            ("x' OR '1'='1", "alice secret", Reason::UnknownUser),
            ("null", "None", Reason::AccountDisabled),
            ("empty", "", Reason::AccountDisabled),
        ];
        for (name, secret, reason) in cases {
            let refused = login(&chain, name, secret);
            assert_eq!(refused.seen, ["hmac+sha512 password", "authentication failed"], "{name}");
            assert_eq!(refused.end.unwrap_err().reason, reason, "{name}");
        }
    }

    #[test]
    fn our_own_table_logs_in_by_hmac_where_the_account_keeps_what_that_needs() {
        let (_folder, path) = ours();
        let chain = chain(configured(&path, &[]).unwrap());
        assert_eq!(login(&chain, "alice", "alice secret").end.unwrap().identity().unwrap().uid, Some(1000));
        for (name, reason) in [
            ("modern", Reason::AccountDisabled),
            ("closed", Reason::AccountDisabled),
            ("expired", Reason::AccountDisabled),
            ("nobody-here", Reason::UnknownUser),
        ] {
            let refused = login(&chain, name, &format!("{name} secret"));
            assert_eq!(refused.seen, ["hmac+sha512 password", "authentication failed"], "{name}");
            assert_eq!(refused.end.unwrap_err().reason, reason, "{name}");
        }
    }

    #[test]
    fn s_026_s_092_cleartext_is_checked_against_argon2id_and_asked_for_in_private_only() {
        let (_folder, path) = ours();
        let chain = chain(configured(&path, &[("cleartext", "yes")]).unwrap());
        for name in ["alice", "modern"] {
            assert_eq!(login(&chain, name, &format!("{name} secret")).seen, ["xor password", "accepted"]);
        }
        let cases = [
            ("alice", "wrong", Reason::WrongSecret),
            ("closed", "wrong", Reason::WrongSecret),
            ("closed", "closed secret", Reason::AccountDisabled),
            ("expired", "expired secret", Reason::AccountDisabled),
            ("nobody-here", "wrong", Reason::UnknownUser),
            ("", "wrong", Reason::UnknownUser),
        ];
        for (name, secret, reason) in cases {
            let refused = login(&chain, name, secret);
            assert_eq!(refused.seen, ["xor password", "authentication failed"], "{name}");
            assert_eq!(refused.end.unwrap_err().reason, reason, "{name}");
        }
        let tcp = "127.0.0.1:1".parse().unwrap();
        let open = login_from(Peer::tcp(tcp, tcp), &chain, "alice", "alice secret");
        assert_eq!(open.end.unwrap_err().reason, Reason::NotConfidential);
        assert_eq!(open.seen.len(), 1);
    }

    #[test]
    fn queries_of_ones_own_read_other_tables_by_position_and_name() {
        let (_folder, path) = database(
            "CREATE TABLE people (login TEXT COLLATE NOCASE, pw TEXT, home TEXT);
             INSERT INTO people VALUES ('Alice', 'alice secret', ':7');",
        );
        let select = "SELECT pw, login AS username FROM people WHERE login = ?";
        let chain_of = |more: &[(&str, &str)]| chain(configured(&path, more).unwrap());
        let plain = chain_of(&[("password_query", select)]);
        let identity = login(&plain, "aLICE", "alice secret").end.unwrap().identity().unwrap().clone();
        assert_eq!(identity.name.as_str(), "Alice");
        assert!(identity.sessions.is_empty());
        let sessions = "SELECT 1000, 1000, home FROM people WHERE login = ? AND pw = ?";
        let both = chain_of(&[("password_query", select), ("sessions_query", sessions)]);
        let identity = login(&both, "alice", "alice secret").end.unwrap().identity().unwrap().clone();
        assert_eq!((identity.uid, identity.sessions), (Some(1000), vec![":7".to_owned()]));
    }

    #[test]
    fn s_073_a_query_that_does_not_fit_or_does_not_only_read_stops_the_start() {
        let (_folder, path) = xpra("('alice','x',NULL,NULL,NULL,NULL,NULL)");
        let bad = [
            ("password-query", "SELECT password FROM users"),
            ("password-query", "SELECT password FROM users WHERE username = ? AND uid = ?"),
            ("password-query", "SELECT password FROM users WHERE username = :name"),
            ("password-query", "SELECT canary FROM users WHERE username = ?"),
            ("password-query", "DELETE FROM users WHERE username = ?"),
            ("password-query", "canary"),
            ("sessions-query", "SELECT uid FROM users WHERE username = ?"),
        ];
        for (option, query) in bad {
            let error = configured(&path, &[(option, query)]).unwrap_err();
            assert!(
                error.to_string().contains(option) && !error.to_string().contains(query) || query == "canary",
                "{error}"
            );
            assert!(error.fix().contains("SELECT"), "{error}");
        }
    }

    #[test]
    fn s_061_s_073_a_file_that_is_absent_foreign_or_open_to_others_stops_the_start() {
        let (folder, path) = xpra("('alice','x',NULL,NULL,NULL,NULL,NULL)");
        assert!(configured(&folder.path().join("absent"), &[]).is_err());
        assert!(!folder.path().join("absent").exists());
        let text = folder.path().join("text");
        fs::write(&text, "no database, but a text").unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!configured(&text, &[]).unwrap_err().fix().contains("SELECT"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(configured(&link, &[("insecure", "yes")]).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(configured(&path, &[]).unwrap_err().fix(), format!("chmod 600 {}", path.display()));
        assert!(configured(&path, &[("insecure", "yes")]).is_ok());
    }

    #[test]
    fn s_073_a_database_that_is_gone_locked_or_odd_refuses_in_time() {
        let (_folder, path) = xpra("('alice','x','no-such-account-here',NULL,NULL,NULL,NULL)");
        let chain = chain(configured(&path, &[]).unwrap());
        let failed = |name| login(&chain, name, "x").end.unwrap_err().reason;
        assert_eq!(failed("alice"), Reason::ModuleFailed);
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let since = std::time::Instant::now();
        assert_eq!(failed("alice"), Reason::ModuleFailed);
        assert!(since.elapsed() < Duration::from_secs(8));
        drop(writer);
        fs::remove_file(&path).unwrap();
        assert_eq!(failed("alice"), Reason::ModuleFailed);
        assert!(!path.exists());
    }
}
