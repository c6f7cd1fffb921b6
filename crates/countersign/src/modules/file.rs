//! `file`: one password for everybody, which is the whole content of a file.

use std::sync::Arc;

use super::{Context, Module, OptionSpec, Options, secret_file::SecretFile};
use crate::{
    Claim, ConfigError, Refusal, Secret, Verifier,
    proto::{
        chain::{Entry, LookupSecret},
        mechanism::hmac::StoredSecret,
    },
};

pub(super) struct File;

impl Module for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn summary(&self) -> &'static str {
        "one password for everybody, the content of a file"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The whole file is the password, the newline at its end included: `echo secret > FILE` makes a password \
         that ends in a newline, and a client that types `secret` does not pass. Write the file with `printf %s`, \
         give clients the identical file, or set strip=newline. 1 to 65536 bytes.\n\n\
         Everybody who knows the password passes, whatever name they claim: it proves no name. The file must belong \
         to the user that runs the gateway or to root, with nothing for group and others (chmod 600 FILE); a \
         symbolic link is not followed. It must exist at start and is read again when it changes; while it is gone, \
         nobody passes."
    }

    fn example(&self) -> &'static str {
        "file(filename=/etc/countersign/password.txt)"
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        let strip = match options.take("strip")?.as_deref().map(String::as_str) {
            None => false,
            Some("newline") => true,
            Some(_) => {
                return Err(options.error("strip", "only a newline can be left out", "write strip=newline"));
            }
        };
        let content = Content { file: SecretFile::from_options(options)?, strip };
        let secret = content.secret().map_err(|unusable| unusable.at_start(options))?;
        if secret.expose().ends_with(b"\n") {
            tracing::warn!(
                "the password file ends in a newline, which is part of the password; see strip=newline"
            );
        }
        Ok(Verifier::Secret(Box::new(content)))
    }
}

struct Content {
    file: SecretFile<Secret>,
    strip: bool,
}

impl Content {
    fn secret(&self) -> Result<Arc<Secret>, super::secret_file::Unusable> {
        self.file.load(|content, _| {
            let secret = if self.strip { without_line_end(&content) } else { content };
            // S-32: what is empty would be proved by an empty answer.
            if secret.is_empty() {
                return Err("nothing is left of it without the newline".to_owned());
            }
            Ok(Arc::new(secret))
        })
    }
}

impl LookupSecret for Content {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        let secret = self.secret().map_err(|unusable| unusable.at_login())?;
        Ok(Entry::gate(StoredSecret::Cleartext(Secret::new(secret.expose()))))
    }
}

/// Without one `\n` or `\r\n` at its end.
fn without_line_end(content: &Secret) -> Secret {
    let bytes = content.expose();
    let line = bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Secret::new(line.unwrap_or(bytes))
}

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file that holds the password and nothing else"),
    OptionSpec::new("strip", "newline", "", "leave one line end at the end of the file out"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;
    use crate::{
        modules::login::{chain, link, login},
        proto::error::Reason,
    };

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn configured(path: &Path, more: &[(&str, &str)]) -> Result<crate::proto::chain::Link, ConfigError> {
        let mut options = vec![("filename", path.to_str().unwrap())];
        options.extend_from_slice(more);
        link("file", &options)
    }

    #[test]
    fn the_whole_file_logs_in_and_names_nobody_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write(&path, b"correct-horse\n", 0o600);
        let chain = chain(configured(&path, &[]).unwrap());
        let right = login(&chain, "anyone", "correct-horse\n");
        assert!(right.end.unwrap().identity().is_none());
        for wrong in ["correct-horse", "", "correct-horse\n\n"] {
            let wrong = login(&chain, "anyone", wrong);
            assert_eq!(wrong.seen, ["hmac+sha512 password", "authentication failed"]);
            assert_eq!(wrong.end.unwrap_err().reason, Reason::WrongSecret);
        }
    }

    #[test]
    fn strip_newline_leaves_exactly_one_line_end_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, password) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\n\n", "secret\n"),
            ("secret", "secret"),
        ] {
            write(&path, content.as_bytes(), 0o600);
            let chain = chain(configured(&path, &[("strip", "newline")]).unwrap());
            assert!(login(&chain, "", password).end.is_ok(), "{content:?}");
        }
        write(&path, b"\n", 0o600);
        assert!(configured(&path, &[("strip", "newline")]).is_err());
        assert!(configured(&path, &[("strip", "blanks")]).is_err());
    }

    #[test]
    fn s_032_s_079_a_file_that_is_absent_empty_huge_or_open_to_others_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(configured(&path, &[]).is_err());
        for bad in [&b""[..], &[b'x'; 65_537]] {
            write(&path, bad, 0o600);
            assert!(configured(&path, &[]).is_err(), "{}", bad.len());
        }
        write(&path, &[b'x'; 65_536], 0o600);
        assert!(configured(&path, &[]).is_ok());
        write(&path, b"canary", 0o644);
        let error = configured(&path, &[]).unwrap_err();
        assert_eq!(error.fix(), format!("chmod 600 {}", path.display()));
        assert!(!error.to_string().contains("canary"));
        assert!(configured(&path, &[("insecure", "yes")]).is_ok());
    }

    #[test]
    fn s_079_a_change_counts_at_once_and_a_file_that_is_gone_or_opened_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write(&path, b"first", 0o600);
        let chain = chain(configured(&path, &[]).unwrap());
        assert!(login(&chain, "", "first").end.is_ok());
        // Same length, same inode, written within the same tick of the clock.
        write(&path, b"other", 0o600);
        assert!(login(&chain, "", "other").end.is_ok());
        assert!(login(&chain, "", "first").end.is_err());
        write(&path, b"other", 0o666);
        assert_eq!(login(&chain, "", "other").end.unwrap_err().reason, Reason::ModuleFailed);
        fs::remove_file(&path).unwrap();
        let gone = login(&chain, "", "other");
        assert_eq!(gone.seen, ["hmac+sha512 password", "authentication failed"]);
        assert_eq!(gone.end.unwrap_err().reason, Reason::ModuleFailed);
        write(&path, b"again", 0o600);
        assert!(login(&chain, "", "again").end.is_ok());
    }

    #[test]
    fn a_settled_file_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write(&path, b"first", 0o600);
        let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let mut options = Options::new("file", [("filename".to_owned(), path)]);
        let content = Content { file: SecretFile::from_options(&mut options).unwrap(), strip: false };
        assert!(Arc::ptr_eq(&content.secret().unwrap(), &content.secret().unwrap()));
    }
}
