//! What the handlers `u2f` and `fido2` have in common: which key is asked, and what it signs.

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Sources;
use crate::{
    Secret,
    error::ConfigError,
    keys::{
        APP_ID, Authenticator, ClientData, KeyError, KeyFile, Kind, Signing, client_data, device::Device,
        unhex,
    },
    options::{OptionSpec, Options},
    proto::{
        challenge::{Challenge, Response},
        client::{Exchange, Failure, Means, OpenExchange, Question, Responder},
    },
};

/// Takes the options of the handler of this kind. `None` where no key was ever made ready.
pub(super) fn configure(
    kind: Kind,
    options: &mut Options,
    sources: &mut Sources,
) -> Result<Option<Responder>, ConfigError> {
    let app_id = options.take("app-id")?.map_or_else(|| APP_ID.to_owned(), |id| id.to_string());
    let origin = options.take("origin")?.map(|origin| origin.to_string());
    if origin.as_ref().is_some_and(|origin| client_data(&[], origin).is_none()) {
        return Err(options.error(
            "origin",
            "it is empty or holds other than ASCII signs",
            "write the server's address",
        ));
    }
    let patience = options.duration("timeout", PATIENCE)?;
    let mut path = |name| -> Result<Option<PathBuf>, ConfigError> {
        let path = options.take(name)?.map(|path| PathBuf::from(&**path));
        match path {
            Some(empty) if empty.as_os_str().is_empty() => {
                Err(options.error(name, "its value is empty", format!("write {name}=FILE")))
            }
            path => Ok(path),
        }
    };
    let (file, handle) = (path("keyfile")?, path("key-handle")?);
    let variable = format!("COUNTERSIGN_{}_KEY_HANDLE", kind.name().to_uppercase());
    let signs = match (file, handle, sources.variable(&variable)) {
        (Some(_), Some(_), _) => {
            let fix = "leave one of the two out";
            return Err(options.error("key-handle", "keyfile leaves it without use", fix));
        }
        (Some(file), None, _) => Signs::File(KeyFile::at(file)),
        (None, Some(handle), _) => Signs::Device(Handle::In(handle), patience),
        (None, None, Some(text)) => {
            Signs::Device(Handle::Text(text.to_string_lossy().into_owned()), patience)
        }
        (None, None, None) => {
            let folders = folders(sources);
            if !folders.iter().any(|folder| holds_handle(folder, kind)) {
                return Ok(None);
            }
            Signs::Device(Handle::Among(folders), patience)
        }
    };
    let token = Token { kind, app_id, origin, signs };
    Ok(Some(Responder::new(kind.name(), Means::Exchange(Box::new(token)))))
}

/// A key, and what it signs for.
#[derive(Clone)]
struct Token {
    kind: Kind,
    app_id: String,
    origin: Option<String>,
    signs: Signs,
}

/// What holds the private key.
#[derive(Clone)]
enum Signs {
    File(KeyFile),
    Device(Handle, Duration),
}

/// Where it stands by which a device knows its key.
#[derive(Clone)]
enum Handle {
    Text(String),
    In(PathBuf),
    Among(Vec<PathBuf>),
}

impl OpenExchange for Token {
    fn mechanisms(&self) -> &[&'static str] {
        match self.kind {
            Kind::U2f => &["u2f"],
            Kind::Fido2 => &["fido2"],
        }
    }

    fn open(&self, _: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl Exchange for Token {
    fn step(&mut self, challenge: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        let address = &question.server.address;
        let origin = self.origin.as_ref().unwrap_or(address).as_bytes().to_vec();
        let data = ClientData::read(&origin, &challenge.salt, false).map_err(|why| {
            Failure::unusable(format!("the address of the server: {why}"), "give the handler origin=")
        })?;
        let handle = match &self.signs {
            Signs::File(_) => Vec::new(),
            Signs::Device(handle, _) => match handle.find(self.kind, host(address))? {
                Some(handle) => handle,
                None => return Ok(None),
            },
        };
        let signing =
            Signing { kind: self.kind, app_id: &self.app_id, client_data_hash: data.hash, handle: &handle };
        let signed = match &mut self.signs {
            Signs::File(file) => file.sign(&signing),
            Signs::Device(_, patience) => Device::find(*patience).and_then(|mut device| {
                if std::io::stderr().is_terminal() {
                    eprintln!("Touch the security key to log in at {address}");
                }
                device.sign(&signing)
            }),
        };
        let assertion =
            signed.map_err(|error: KeyError| Failure::unusable(error.to_string(), error.fix()))?;
        Ok(Some(Response::new(Secret::new(assertion.to_bytes()), origin)))
    }
}

impl Handle {
    fn find(&self, kind: Kind, host: &str) -> Result<Option<Vec<u8>>, Failure> {
        let read = |path: &Path| {
            let unusable = |why: &str| {
                let fix = "write what `countersign keys add` gave as the handle";
                Failure::unusable(format!("key handle {}: {why}", path.display()), fix)
            };
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(|error| unusable(&error.to_string()))?;
            let read = file.take(MOST_BYTES).read_to_string(&mut text);
            read.map_err(|error| unusable(&error.to_string()))?;
            unhex(text.trim()).map(Some).ok_or_else(|| unusable("it is not written in hexadecimal digits"))
        };
        match self {
            Self::Text(text) => unhex(text.trim()).map(Some).ok_or_else(|| {
                let why = format!("the key handle for {kind}: it is not written in hexadecimal digits");
                Failure::unusable(why, "write what `countersign keys add` gave as the handle")
            }),
            Self::In(path) => read(path),
            Self::Among(folders) => {
                // The one for this server first, wherever it is.
                let names = [format!("{kind}-keyhandle-{host}.hex"), format!("{kind}-keyhandle.hex")];
                let paths = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
                paths.into_iter().find(|path| path.is_file()).map_or(Ok(None), |path| read(&path))
            }
        }
    }
}

/// The user's configuration folders: ours, then Xpra's.
fn folders(sources: &Sources) -> Vec<PathBuf> {
    let home = sources.variable("HOME").map(PathBuf::from);
    let config = sources.variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let under = config.iter().flat_map(|config| ["countersign", "xpra"].map(|name| config.join(name)));
    under.chain(home.iter().map(|home| home.join(".xpra"))).collect()
}

fn holds_handle(folder: &Path, kind: Kind) -> bool {
    let begins = format!("{kind}-keyhandle");
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(&begins) && name.ends_with(".hex"))
    })
}

/// The host of an address, as far as it can stand in a file's name.
fn host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    if host.contains('/') { "" } else { host }
}

/// How long a person is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Twice the longest handle.
const MOST_BYTES: u64 = 1024;

pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("key-handle", "FILE", "", "the file with the handle of the device's key"),
    OptionSpec::new("keyfile", "FILE", "", "a key in a file, in place of a device"),
    OptionSpec::new("app-id", "TEXT", APP_ID, "the application that the key was registered for"),
    OptionSpec::new(
        "origin",
        "TEXT",
        "",
        "the server that is signed for, in place of the address that is dialled",
    ),
    OptionSpec::new("timeout", "TIME", "30s", "how long a device waits to be touched"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Algorithm, Assertion, NewKey, Registered},
        proto::{client::Server, mechanism::Mechanism},
    };

    fn responder(
        kind: Kind,
        options: &[(&str, &str)],
        home: Option<&Path>,
    ) -> Result<Option<Responder>, ConfigError> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let home = home.map(|home| home.as_os_str().to_owned());
        let mut sources = Sources::nowhere().with_env(move |name| home.clone().filter(|_| name == "HOME"));
        configure(kind, &mut Options::new(kind.name(), options), &mut sources)
    }

    fn key(folder: &tempfile::TempDir) -> (String, Registered) {
        let path = folder.path().join("key");
        let new = NewKey { kind: Kind::U2f, app_id: APP_ID, user: "alice", algorithm: Algorithm::Es256 };
        let made = KeyFile::at(&path).register(&new).unwrap();
        (path.to_str().unwrap().to_owned(), made)
    }

    fn answer(responder: &Responder) -> Result<Option<Response>, Failure> {
        let Means::Exchange(source) = &responder.means else { panic!("it has its own rounds") };
        let challenge =
            Challenge::new(vec![7; 64], Mechanism::Other("u2f:xor".to_owned()), "hmac+sha512", "");
        let server = Server::new("tls://app.example:443", true, true);
        let question = Question::new(&server, None, &challenge);
        source.open(&question)?.unwrap().step(&challenge, &question)
    }

    #[test]
    fn s_076_a_key_signs_the_challenge_for_the_server_that_is_dialled() {
        let folder = tempfile::tempdir().unwrap();
        let (path, made) = key(&folder);
        for (more, origin) in [(None, "tls://app.example:443"), (Some(("origin", "laptop")), "laptop")] {
            let options: Vec<_> = [("keyfile", path.as_str())].into_iter().chain(more).collect();
            let response = answer(&responder(Kind::U2f, &options, None).unwrap().unwrap()).unwrap().unwrap();
            assert_eq!(response.client_salt, origin.as_bytes());
            let assertion = Assertion::parse(response.value.expose()).unwrap();
            let signed_for = |origin: &str| {
                let data = ClientData::read(origin.as_bytes(), &[7; 64], false).unwrap();
                made.key.verifies(&assertion.signed(APP_ID, &data.hash), &assertion.signature)
            };
            assert!(signed_for(origin) && !signed_for("tls://another.example:443"));
        }
    }

    #[test]
    fn nothing_is_offered_unless_a_key_was_made_ready() {
        let home = tempfile::tempdir().unwrap();
        for kind in [Kind::U2f, Kind::Fido2] {
            assert!(responder(kind, &[], None).unwrap().is_none());
            assert!(responder(kind, &[], Some(home.path())).unwrap().is_none());
        }
        let folder = home.path().join(".config/countersign");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("u2f-keyhandle.hex"), "0102\n").unwrap();
        assert!(responder(Kind::U2f, &[], Some(home.path())).unwrap().is_some());
        assert!(responder(Kind::Fido2, &[], Some(home.path())).unwrap().is_none());
        assert!(responder(Kind::U2f, &[("keyfile", "a"), ("key-handle", "b")], None).is_err());
        for empty in ["keyfile", "key-handle", "origin"] {
            assert!(responder(Kind::U2f, &[(empty, "")], None).is_err(), "{empty}");
        }
    }

    #[test]
    fn the_handle_for_this_server_comes_before_the_one_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().join("ours"), folder.path().join("xpra")];
        folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let among = Handle::Among(folders.to_vec());
        let find = |host| among.find(Kind::U2f, host).unwrap();
        assert_eq!(find("app.example"), None);
        std::fs::write(folders[0].join("u2f-keyhandle.hex"), "01").unwrap();
        std::fs::write(folders[1].join("u2f-keyhandle-app.example.hex"), "02\n").unwrap();
        assert_eq!((find("app.example"), find("other.example")), (Some(vec![2]), Some(vec![1])));
        let odd = Handle::Text("zz".to_owned()).find(Kind::U2f, "").unwrap_err().to_string();
        assert!(!odd.contains("zz"), "{odd}");
        assert_eq!(host("tls://app.example:443/x"), "app.example");
        assert_eq!(host("tls://[::1]:443"), "::1");
        assert_eq!(host("unix:///run/app"), "");
    }

    #[test]
    fn a_key_that_cannot_sign_ends_the_login_with_a_word_about_it() {
        let responder = responder(Kind::Fido2, &[("keyfile", "/nonexistent/key")], None).unwrap().unwrap();
        let failure = answer(&responder).unwrap_err().to_string();
        assert!(failure.starts_with("security key: /nonexistent/key"), "{failure}");
    }
}
