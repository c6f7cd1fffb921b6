//! Importing users: cleartext of Xpra's tables and files becomes verifiers.

use std::{io::Read, path::Path};

use zeroize::Zeroizing;

use super::{
    UserError, UserTable,
    database::{all_rows, open_read_only},
    multifile,
    row::Row,
    verifier::Secrets,
};
use crate::{Secret, Username, sys::files::open_private};

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The names that were added.
    pub added: Vec<String>,
    /// Those of them that have no password there and are therefore disabled here.
    pub disabled: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// A row or line that was left out of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Which: `user "alice"` or `line 3`.
    pub what: String,
    /// Why, without its content.
    pub why: String,
}

impl UserTable {
    /// Adds the users of an Xpra table or password file, or of another table of ours.
    ///
    /// The source may be readable by others: it is about to be given up. Cleartext becomes
    /// verifiers, verifiers are kept; `legacy` as for [`super::NewUser`]. All or nothing is added,
    /// but for what [`Imported::skipped`] lists: names that are taken, lines that are malformed.
    ///
    /// # Errors
    /// The source cannot be read, or the table cannot be written.
    pub fn import(&mut self, source: &Path, legacy: bool) -> Result<Imported, UserError> {
        let mut imported = Imported::default();
        let rows = read(source, &mut imported.skipped)?;
        let transaction = self.connection.unchecked_transaction()?;
        for row in &rows {
            self.import_row(row, legacy, &mut imported)?;
        }
        transaction.commit()?;
        Ok(imported)
    }

    fn import_row(&self, row: &Row, legacy: bool, imported: &mut Imported) -> Result<(), UserError> {
        let prepared = Username::parse(&row.username)
            .map_err(|refusal| refusal.cause.into_owned())
            .and_then(|name| prepare(row, &name, legacy).map(|(row, verifier)| (name, row, verifier)));
        let why = match prepared {
            Ok((name, row, verifier)) => match self.insert(&name, &row, verifier.as_ref()) {
                Ok(()) => {
                    imported.added.push(name.as_str().to_owned());
                    if verifier.is_none() {
                        imported.disabled.push(name.as_str().to_owned());
                    }
                    return Ok(());
                }
                Err(UserError::Taken(_)) => "there is one of that name already".to_owned(),
                Err(error) => return Err(error),
            },
            Err(why) => why,
        };
        imported.skipped.push(Skipped { what: format!("user {:?}", row.username), why });
        Ok(())
    }
}

/// The row to insert, and its verifier if it has a password.
fn prepare(row: &Row, name: &Username, legacy: bool) -> Result<(Row, Option<Zeroizing<String>>), String> {
    row.identity(name.clone())?;
    let secrets =
        row.secrets().map_err(|_| "its password is hashed in a way that is not known here".to_owned())?;
    let verifier = match secrets.cleartext() {
        Some(password) => {
            let derived = Secrets::derive(&Secret::new(password.expose()).into_utf8(), legacy);
            Some(derived.ok_or("the system gives no random bytes")?)
        }
        None => Some(secrets),
    };
    let verifier = verifier.and_then(|secrets| secrets.to_verifier());
    let columns = Row {
        username: name.as_str().to_owned(),
        password: None,
        verifier: None,
        uid: row.uid.clone(),
        gid: row.gid.clone(),
        displays: row.displays.clone(),
        env_options: row.env_options.clone(),
        session_options: row.session_options.clone(),
        disabled: row.disabled || verifier.is_none(),
        expires: row.expires,
    };
    Ok((columns, verifier))
}

/// The rows of a SQLite table or of a text file, told apart by the first bytes.
fn read(source: &Path, skipped: &mut Vec<Skipped>) -> Result<Vec<Row>, UserError> {
    let failed = |error: std::io::Error| UserError::Database(error.to_string());
    let mut file = open_private(source, true)?;
    let mut content = Zeroizing::new(Vec::new());
    file.by_ref().take(SQLITE.len() as u64).read_to_end(&mut content).map_err(failed)?;
    if *content == SQLITE {
        return all_rows(&open_read_only(source, true)?);
    }
    file.take(MAX_TEXT).read_to_end(&mut content).map_err(failed)?;
    let lines = multifile::parse(&Secret::new(content.as_slice()));
    skipped.extend(
        lines
            .malformed
            .iter()
            .map(|(line, why)| Skipped { what: format!("line {line}"), why: (*why).to_owned() }),
    );
    Ok(lines.rows.into_iter().map(|(_, row)| row).collect())
}

/// How every SQLite file begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The largest text file that is imported, in bytes.
const MAX_TEXT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;
    use crate::users::Standing;

    fn check(table: &UserTable, name: &str, password: &str) -> Standing {
        table.check(&Username::parse(name).unwrap(), &Secret::new(password)).unwrap()
    }

    #[test]
    fn s_092_cleartext_of_an_xpra_table_becomes_verifiers() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("xpra.sdb");
        let sql = "CREATE TABLE users (username VARCHAR(255) NOT NULL, password VARCHAR(255), uid VARCHAR(63),
                gid VARCHAR(63), displays VARCHAR(8191), env_options VARCHAR(8191), session_options VARCHAR(8191));
            INSERT INTO users VALUES ('alice','alice secret','1000','1000',':1','A=1','b=2'),
                ('alice','second row',NULL,NULL,NULL,NULL,NULL), ('bob',NULL,NULL,NULL,NULL,NULL,NULL),
                ('no/name','x',NULL,NULL,NULL,NULL,NULL), ('evil','x',NULL,NULL,NULL,'LD_PRELOAD=canary',NULL);";
        Connection::open(&source).unwrap().execute_batch(sql).unwrap();
        let mut table = UserTable::create(&folder.path().join("ours.sdb")).unwrap();
        let imported = table.import(&source, true).unwrap();
        assert_eq!(
            (imported.added, imported.disabled),
            (vec!["alice".into(), "bob".into()], vec!["bob".to_owned()])
        );
        let skipped: Vec<_> = imported.skipped.iter().map(|skipped| skipped.what.as_str()).collect();
        assert_eq!(skipped, ["user \"alice\"", "user \"evil\"", "user \"no/name\""]);
        assert!(!format!("{:?}", imported.skipped).contains("canary"));
        assert_eq!(check(&table, "alice", "alice secret"), Standing::Passes);
        assert_eq!(check(&table, "bob", "None"), Standing::WrongPassword);
        let list = table.list().unwrap();
        assert!(list.iter().all(|user| !user.has_cleartext) && list[1].disabled);
        assert_eq!(list[0].uid.as_deref(), Some("1000"));
    }

    #[test]
    fn a_password_file_is_imported_line_by_line_and_verifiers_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("users.txt");
        let kept = Secrets::derive(&Secret::new("kept"), false).unwrap().to_verifier().unwrap();
        fs::write(&source, format!("alice|secret|1000|1000\nmalformed\ncarol|{}\ndave|$6$x$y\n", *kept))
            .unwrap();
        let mut table = UserTable::create(&folder.path().join("ours.sdb")).unwrap();
        let imported = table.import(&source, false).unwrap();
        assert_eq!(imported.added, ["alice", "carol"]);
        let skipped: Vec<_> = imported.skipped.iter().map(|skipped| skipped.what.as_str()).collect();
        assert_eq!(skipped, ["line 2", "user \"dave\""]);
        assert_eq!(check(&table, "alice", "secret"), Standing::Passes);
        assert_eq!(check(&table, "carol", "kept"), Standing::Passes);
        assert!(table.list().unwrap().iter().all(|user| !user.has_legacy));
        let again = table.import(&source, false).unwrap();
        assert!(again.added.is_empty() && again.skipped.len() == 4);
        assert!(table.import(&folder.path().join("absent"), false).is_err());
    }
}
