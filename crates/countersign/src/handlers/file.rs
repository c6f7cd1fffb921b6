//! `file`: the password in a file.

use std::{io::Read as _, path::PathBuf};

use zeroize::Zeroizing;

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::client::{Failure, ProvideSecret, Provided, Question, Responder},
    sys::files,
};

pub(super) struct File;

impl Handler for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn summary(&self) -> &'static str {
        "the password in a file"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The whole file is the password, as Xpra has it: a newline at its end counts, unless strip=yes. A file \
         answers one question; where --password-file is given several times, the files answer in that order. A file \
         that others can read, or that is missing or empty, ends the login with a word about how to mend it rather \
         than being skipped."
    }

    fn example(&self) -> &'static str {
        "file(filename=/home/alice/.app-password, strip=yes)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        let paths = match options.take("filename")? {
            Some(path) if path.is_empty() => {
                return Err(options.error("filename", "its value is empty", "write file(filename=FILE)"));
            }
            Some(path) => vec![PathBuf::from(&**path)],
            None => sources.password_files.drain(..).collect(),
        };
        let (strip, insecure) = (options.flag("strip", false)?, options.flag("insecure", false)?);
        let files = Files { paths, strip, insecure };
        Ok((!files.paths.is_empty()).then(|| Responder::secret("file", files)))
    }
}

/// Files that answer one question each, read when they are needed.
struct Files {
    paths: Vec<PathBuf>,
    strip: bool,
    insecure: bool,
}

impl ProvideSecret for Files {
    fn provide(&self, question: &Question<'_>) -> Result<Option<Provided>, Failure> {
        let Some(path) = self.paths.get(question.turn) else { return Ok(None) };
        let unusable = |why: &str, fix: String| {
            Failure::unusable(format!("password file {}: {why}", path.display()), fix)
        };
        let file = files::open_private(path, self.insecure)
            .map_err(|fault| Failure::unusable(format!("password file {fault}"), fault.fix()))?;
        let mut content = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 1));
        file.take(MOST_BYTES as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| unusable(&format!("it cannot be read: {error}"), "try again".to_owned()))?;
        if self.strip && content.last() == Some(&b'\n') {
            content.pop();
        }
        match content.len() {
            0 => Err(unusable("it is empty", "write the password into it".to_owned())),
            1..=MOST_BYTES => Ok(Some(Provided::Bytes(Secret::new(std::mem::take(&mut *content))))),
            _ => Err(unusable("it is larger than 64 KiB", "check that it is the right file".to_owned())),
        }
    }

    fn turns(&self) -> usize {
        self.paths.len()
    }
}

/// The longest password, as on the server's side.
const MOST_BYTES: usize = 65_536;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file; without it, those of --password-file in order"),
    OptionSpec::new("strip", "yes|no", "no", "leave one newline at the end of the file out"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::proto::{
        challenge::Challenge,
        client::{FailureKind, Means, Server},
        mechanism::{Hash, Mechanism},
    };

    fn provide(responder: &Responder, turn: usize) -> Result<Option<Secret>, Failure> {
        let Means::Secret(source) = &responder.means else { panic!("it holds secrets") };
        let challenge = Challenge::new(vec![7; 64], Mechanism::Hmac(Hash::Sha512), "hmac+sha512", "password");
        let server = Server::new("unix:/run/app", true, true);
        let question = Question::new(&server, None, &challenge).at(turn + 1, turn);
        source.provide(&question).map(|provided| {
            provided.map(|provided| match provided {
                Provided::Bytes(secret) | Provided::Text(secret) => secret,
            })
        })
    }

    fn responder(options: &[(&str, &str)], sources: &mut Sources) -> Responder {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        File.configure(&mut Options::new("file", options), sources).unwrap().unwrap()
    }

    fn write(folder: &tempfile::TempDir, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn several_files_answer_in_order_and_the_whole_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let one = write(&folder, "one", b"one\n", 0o600);
        let two = write(&folder, "two", b"\xe9", 0o400);
        let mut sources = Sources::nowhere().with_password_file(&one).with_password_file(two);
        let both = responder(&[], &mut sources);
        assert!(provide(&both, 0).unwrap().unwrap().matches(b"one\n"));
        assert!(provide(&both, 1).unwrap().unwrap().matches(b"\xe9"));
        assert!(provide(&both, 2).unwrap().is_none());
        let path = one.to_str().unwrap();
        let stripped = responder(&[("filename", path), ("strip", "yes")], &mut sources);
        assert!(provide(&stripped, 0).unwrap().unwrap().matches(b"one"));
    }

    #[test]
    fn s_061_a_file_that_others_can_read_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let open = write(&folder, "open", b"one", 0o644);
        let path = open.to_str().unwrap();
        let failure = provide(&responder(&[("filename", path)], &mut Sources::nowhere()), 0).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NoCredential);
        assert_eq!(failure.fix.unwrap(), format!("chmod 600 {path}"));
        let allowed = responder(&[("filename", path), ("insecure", "yes")], &mut Sources::nowhere());
        assert!(provide(&allowed, 0).unwrap().is_some());
    }

    #[test]
    fn s_032_missing_empty_and_endless_files_end_the_login() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [
            folder.path().join("missing"),
            write(&folder, "empty", b"", 0o600),
            write(&folder, "long", &[b'x'; 65_537], 0o600),
        ];
        for path in paths {
            let mut sources = Sources::nowhere().with_password_file(&path);
            let failure = provide(&responder(&[], &mut sources), 0).unwrap_err();
            assert!(failure.cause.contains(path.to_str().unwrap()) && failure.fix.is_some());
        }
    }
}
