//! `multifile`: the accounts of a text file, one a line, as Xpra writes them.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Context, Module, OptionSpec, Options,
    secret_file::{SecretFile, Unusable},
};
use crate::{
    ConfigError, Identity, Refusal, Secret, Username, Verifier,
    users::{
        multifile,
        row::Row,
        source::{Account, Accounts, verifier},
    },
};

pub(super) struct Multifile;

impl Module for Multifile {
    fn name(&self) -> &'static str {
        "multifile"
    }

    fn summary(&self) -> &'static str {
        "the accounts of a text file, one a line"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "A line is username|password|uid|gid|displays|env_options|session_options, of which the first two are needed. \
         Blank lines and lines that begin with # say nothing; blanks inside columns count. uid and gid are numbers or \
         names, and nobody where they are missing; displays are separated by commas, options are key=value separated by \
         semicolons.\n\n\
         A password that holds a bar shifts every column: begin the file with the line #!countersign, then \\| stands \
         for a bar, \\\\ for a backslash and \\n for a newline. In place of a password there may be a verifier as \
         `countersign users` keeps it; Argon2id needs cleartext=yes.\n\n\
         The file must exist at start, belong to the user that runs the gateway or to root, be closed to others (chmod \
         600 FILE) and have at most 65536 bytes. It is read again when it changes. A line that is malformed is left out \
         and logged by its number; a name that stands twice, or a column that means nothing, stops the start, and later \
         keeps the last good content in use. `sqlite` is the better choice for more than a few accounts."
    }

    fn example(&self) -> &'static str {
        "multifile(filename=/etc/countersign/users.txt)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let cleartext = options.flag("cleartext", false)?;
        let lines = Lines(SecretFile::from_options(options)?);
        lines.table().map_err(|unusable| unusable.at_start(options))?;
        Ok(verifier(lines, cleartext))
    }
}

/// The accounts of a file. Also for the module `scram`.
pub(super) struct Lines(pub(super) SecretFile<Table>);

pub(super) type Table = BTreeMap<String, Known>;

/// A line whose columns were found good.
pub(super) struct Known {
    identity: Identity,
    pub(super) row: Row,
}

impl Lines {
    /// The accounts of the file as it is now, or was when it was last good.
    pub(super) fn table(&self) -> Result<Arc<Table>, Unusable> {
        self.0.load(|content, before| match (read(&content), before) {
            (Ok(table), _) => Ok(Arc::new(table)),
            (Err(why), None) => Err(why),
            (Err(why), Some(before)) => {
                tracing::error!("multifile: {why}; the accounts read before stay in use");
                Ok(before)
            }
        })
    }
}

impl Accounts for Lines {
    fn find(&self, name: &Username) -> Result<Vec<Account>, Refusal> {
        let table = self.table().map_err(|unusable| unusable.at_login())?;
        let Some(known) = table.get(name.as_str()) else { return Ok(Vec::new()) };
        let damaged = |_| Refusal::module_failed("the verifier is damaged or of an unknown kind");
        let secrets = known.row.secrets().map_err(damaged)?;
        Ok(vec![Account { identity: known.identity.clone(), secrets, closed: None }])
    }
}

/// Reads all lines and judges what they mean. Errors name a line and repeat nothing of it (S-79).
fn read(content: &Secret) -> Result<Table, String> {
    let lines = multifile::parse(content);
    for (line, why) in lines.malformed {
        tracing::warn!("multifile: line {line} is left out: {why}");
    }
    let mut table = Table::new();
    for (line, row) in lines.rows {
        let name = Username::parse(&row.username).map_err(|_| format!("line {line}: the user name"))?;
        let account = Account::from_row(&row, name).map_err(|why| format!("line {line}: {why}"))?;
        let known = Known { identity: account.identity, row };
        if table.insert(known.row.username.clone(), known).is_some() {
            return Err(format!("line {line}: its user name stands in an earlier line"));
        }
    }
    Ok(table)
}

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file with the accounts"),
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
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
    };

    use tempfile::TempDir;

    use super::*;
    use crate::{
        modules::login::{chain, link, login},
        proto::{chain::Link, error::Reason},
        users::verifier::Secrets,
    };

    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn file(content: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        write(&path, content);
        (folder, path)
    }

    fn configured(path: &Path, more: &[(&str, &str)]) -> Result<Link, ConfigError> {
        let mut options = vec![("filename", path.to_str().unwrap())];
        options.extend_from_slice(more);
        link("multifile", &options)
    }

    #[test]
    fn the_line_of_the_claimed_name_logs_in_and_gives_the_identity() {
        let (_folder, path) = file("alice|alice secret|1000|1001|:1, :2|A=1|b=2\nbob|bob secret\n");
        let chain = chain(configured(&path, &[]).unwrap());
        let grant = login(&chain, "alice", "alice secret").end.unwrap();
        let alice = grant.identity().unwrap();
        assert_eq!((alice.name.as_str(), alice.uid, alice.gid), ("alice", Some(1000), Some(1001)));
        assert_eq!(alice.sessions, [":1", ":2"]);
        assert_eq!(login(&chain, "bob", "bob secret").end.unwrap().identity().unwrap().name.as_str(), "bob");
    }

    #[test]
    fn s_026_unknown_wrong_and_empty_look_the_same() {
        let (_folder, path) = file("alice|alice secret\nbob|bob secret\nempty|\n");
        let chain = chain(configured(&path, &[]).unwrap());
        let cases = [
            ("bob", "alice secret", Reason::WrongSecret),
            ("carol", "alice secret", Reason::UnknownUser),
            ("", "alice secret", Reason::UnknownUser),
            ("Alice", "alice secret", Reason::UnknownUser),
            ("empty", "", Reason::AccountDisabled),
        ];
        for (name, secret, reason) in cases {
            let refused = login(&chain, name, secret);
            assert_eq!(refused.seen, ["hmac+sha512 password", "authentication failed"], "{name}");
            assert_eq!(refused.end.unwrap_err().reason, reason, "{name}");
        }
    }

    #[test]
    fn verifiers_stand_in_place_of_passwords() {
        let verifier = Secrets::derive(&Secret::new("secret"), true).unwrap().to_verifier().unwrap();
        let modern = Secrets::derive(&Secret::new("secret"), false).unwrap().to_verifier().unwrap();
        let (_folder, path) = file(&format!("alice|{}|1\nmodern|{}\n", *verifier, *modern));
        let (hmac, clear) =
            (configured(&path, &[]).unwrap(), configured(&path, &[("cleartext", "yes")]).unwrap());
        let (hmac, clear) = (chain(hmac), chain(clear));
        assert!(login(&hmac, "alice", "secret").end.is_ok());
        assert_eq!(login(&hmac, "modern", "secret").end.unwrap_err().reason, Reason::AccountDisabled);
        assert!(login(&hmac, "alice", &verifier).end.is_err());
        assert_eq!(login(&clear, "modern", "secret").seen, ["xor password", "accepted"]);
        assert_eq!(login(&clear, "modern", "wrong").end.unwrap_err().reason, Reason::WrongSecret);
    }

    #[test]
    fn s_079_a_bad_line_stops_the_start_by_its_number_and_without_its_content() {
        let bad = [
            "canary|canary\nbob|x\ncanary|y",
            "a|x\nb|x\nbob|canary|no-such-canary|",
            "a|x\nb|x\nbob|canary|1|1||LD_PRELOAD=canary",
            "a|x\nb|x\nbob|$argon2id$canary",
        ];
        for content in bad {
            let (_folder, path) = file(content);
            let error = configured(&path, &[]).unwrap_err().to_string();
            assert!(
                error.contains("line 3") && !error.contains("|canary") && !error.contains("=canary"),
                "{error}"
            );
        }
        let (_folder, path) = file("alice|x\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(configured(&path, &[]).unwrap_err().fix(), format!("chmod 600 {}", path.display()));
        assert!(configured(&path, &[("insecure", "yes")]).is_ok());
        fs::remove_file(&path).unwrap();
        assert!(configured(&path, &[]).is_err());
    }

    #[test]
    fn a_change_counts_at_once_and_a_bad_one_keeps_the_good_table() {
        let (_folder, path) = file("alice|one\n");
        let chain = chain(configured(&path, &[]).unwrap());
        write(&path, "alice|two\nmalformed\n");
        assert!(login(&chain, "alice", "two").end.is_ok() && login(&chain, "alice", "one").end.is_err());
        write(&path, "alice|three\nalice|four\n");
        for _ in 0..2 {
            assert!(login(&chain, "alice", "two").end.is_ok());
            assert!(login(&chain, "alice", "three").end.is_err());
        }
        write(&path, "alice|five\n");
        assert!(login(&chain, "alice", "five").end.is_ok());
        fs::remove_file(&path).unwrap();
        assert_eq!(login(&chain, "alice", "five").end.unwrap_err().reason, Reason::ModuleFailed);
    }
}
