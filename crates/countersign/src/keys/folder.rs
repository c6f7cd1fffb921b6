//! The public keys of each user, as files that only the owner of the gateway writes.
//!
//! `DIR/USER/KIND-NAME-pub.hex` holds one key in hexadecimal digits, as Xpra's tool writes it; any name
//! that begins with the kind and ends in `-pub.hex` is read. Nothing in there is secret, so all that counts
//! is who can change it.

use std::{
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use super::{Kind, PublicKey};
use crate::{ConfigError, Username, sys::files};

/// A folder with a folder of keys for each user.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
}

/// A key of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KnownKey {
    /// Whose it is.
    pub user: String,
    /// What the user calls it.
    pub name: String,
    /// Which module it is for.
    #[serde(serialize_with = "as_text")]
    pub kind: Kind,
    /// Its public half.
    #[serde(flatten, serialize_with = "public")]
    pub key: PublicKey,
    /// Its file.
    pub file: PathBuf,
}

impl KeyFolder {
    /// The folder at `path`. Nothing is looked at yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys of a user, by name; none for a user who has none. A file that cannot be used is left out
    /// and logged: the other keys of its user still count.
    ///
    /// # Errors
    /// The folder cannot be read, or others could put a key into it.
    pub fn keys_of(&self, user: &Username) -> Result<Vec<KnownKey>, ConfigError> {
        let folder = self.path.join(user.as_str());
        let unreadable = |error: io::Error| failed(&folder, format!("it cannot be read: {error}"));
        // S-68: on a disk that does not tell `A` from `a` the folder of another spelling is another's.
        match fs::canonicalize(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
            Ok(real) if real.file_name() != folder.file_name() => return Ok(Vec::new()),
            Ok(_) => {}
        }
        let mut keys = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)?.take(MOST_FILES) {
            let file = entry.map_err(unreadable)?.path();
            let Some((kind, name)) = file.file_name().and_then(|name| parts(name.to_str()?)) else {
                continue;
            };
            let name = name.to_owned();
            match read(&file, kind) {
                Ok(key) => keys.push(KnownKey { user: user.as_str().to_owned(), name, kind, key, file }),
                Err(error) => tracing::error!("{error}. {}", error.fix()),
            }
        }
        keys.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        Ok(keys)
    }

    /// The keys of all users, by user and name.
    ///
    /// # Errors
    /// As [`KeyFolder::keys_of`].
    pub fn all(&self) -> Result<Vec<KnownKey>, ConfigError> {
        let unreadable = |error: io::Error| failed(&self.path, format!("it cannot be read: {error}"));
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let mut users = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name();
            users.extend(name.to_str().and_then(|name| Username::parse(name).ok()));
        }
        users.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        let keys: Result<Vec<_>, _> = users.iter().map(|user| self.keys_of(user)).collect();
        Ok(keys?.concat())
    }

    /// Keeps a key of a user.
    ///
    /// # Errors
    /// The user has one of that name, or that key for that module, or the file cannot be made.
    pub fn add(
        &self,
        user: &Username,
        kind: Kind,
        name: &KeyName,
        key: &PublicKey,
    ) -> Result<PathBuf, ConfigError> {
        if let Some(same) = self.keys_of(user)?.iter().find(|known| known.kind == kind && known.key == *key) {
            let fix = "there is nothing to do";
            return Err(ConfigError::new(format!("key {}", same.name), "it is this key already", fix));
        }
        let folder = self.path.join(user.as_str());
        let made = make_directory(&self.path).and_then(|()| make_directory(&folder));
        made.map_err(|error| failed(&folder, format!("it cannot be made: {error}")))?;
        let file = folder.join(format!("{kind}-{name}-pub.hex"));
        let written = files::create_unforged(&file).and_then(|mut opened| {
            io::Write::write_all(&mut opened, format!("{}\n", key.to_hex()).as_bytes())?;
            opened.sync_all()
        });
        match written {
            Ok(()) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ConfigError::new(
                format!("key {name}"),
                "the user has one of that name",
                "give another --name",
            )),
            Err(error) => Err(failed(&file, format!("it cannot be written: {error}"))),
        }
    }

    /// Forgets a key of a user.
    ///
    /// # Errors
    /// There is none of that name, several kinds of it, or its file cannot be removed.
    pub fn remove(&self, user: &Username, kind: Option<Kind>, name: &str) -> Result<KnownKey, ConfigError> {
        let mut found = self.keys_of(user)?;
        found.retain(|known| known.name == name && kind.is_none_or(|kind| kind == known.kind));
        let what = || format!("key {name} of {user}");
        match <[KnownKey; 1]>::try_from(found) {
            Ok([known]) => {
                let gone = fs::remove_file(&known.file);
                gone.map_err(|error| failed(&known.file, format!("it cannot be removed: {error}")))?;
                Ok(known)
            }
            Err(none) if none.is_empty() => {
                Err(ConfigError::new(what(), "there is none", format!("see `countersign keys list {user}`")))
            }
            Err(_) => Err(ConfigError::new(what(), "there is one of each kind", "say which with --kind")),
        }
    }
}

/// What a user calls a key: 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl FromStr for KeyName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= 64 && text.chars().all(sign) {
            return Ok(Self(text.to_owned()));
        }
        Err("a key's name has 1 to 64 letters, digits, dots, dashes and underscores")
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kind and name of a key by its file's name.
fn parts(file: &str) -> Option<(Kind, &str)> {
    let rest = file.strip_suffix("-pub.hex")?;
    let kind = [Kind::U2f, Kind::Fido2].into_iter().find(|kind| rest.starts_with(kind.name()))?;
    let name = rest.strip_prefix(kind.name())?.trim_start_matches('-');
    Some((kind, if name.is_empty() { kind.name() } else { name }))
}

fn read(file: &Path, kind: Kind) -> Result<PublicKey, ConfigError> {
    let opened = files::open_unforged(file)
        .map_err(|fault| ConfigError::new(format!("key {}", file.display()), fault.why(), fault.fix()))?;
    let mut text = String::new();
    let read = opened.take(MOST_BYTES).read_to_string(&mut text);
    read.map_err(|error| failed(file, format!("it cannot be read: {error}")))?;
    let key = PublicKey::from_hex(&text).map_err(|why| failed(file, why.to_owned()))?;
    if kind == Kind::U2f && key.algorithm() != super::Algorithm::Es256 {
        return Err(failed(file, "u2f knows keys of P-256 only".to_owned()));
    }
    Ok(key)
}

/// Makes a directory that all may look into, unless it is there: the gateway may run as another user than
/// whoever adds keys, and a private umask would keep it out.
fn make_directory(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match files::create_unforged_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn failed(path: &Path, why: String) -> ConfigError {
    ConfigError::new(format!("keys {}", path.display()), why, "look at the file, or register the key again")
}

fn as_text<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

fn public<S: Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap as _;
    let mut map = serializer.serialize_map(Some(3))?;
    map.serialize_entry("algorithm", key.algorithm().name())?;
    map.serialize_entry("fingerprint", &key.fingerprint())?;
    map.serialize_entry("public_key", &key.to_hex())?;
    map.end()
}

/// Files of one user that are looked at; each costs a signature's check at a login.
const MOST_FILES: usize = 64;

/// Twice what a whole `SubjectPublicKeyInfo` takes.
const MOST_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn key() -> PublicKey {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::generate().unwrap();
        PublicKey::new(super::super::Algorithm::EdDsa, pair.public_key().as_ref()).unwrap()
    }

    #[test]
    fn keys_are_kept_found_and_forgotten_by_user_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::at(folder.path().join("keys"));
        assert!(keys.all().unwrap().is_empty() && keys.keys_of(&name("alice")).unwrap().is_empty());
        let (one, two, three) = (key(), key(), key());
        let add = |user, text: &str, key| keys.add(&name(user), Kind::Fido2, &text.parse().unwrap(), key);
        add("alice", "blue", &one).unwrap();
        add("alice", "a.red-one", &two).unwrap();
        add("bob", "blue", &one).unwrap();
        assert!(add("alice", "blue", &three).is_err(), "the name is taken");
        assert!(add("alice", "green", &one).is_err(), "the key is there");
        let listed: Vec<_> = keys.all().unwrap().into_iter().map(|key| (key.user, key.name)).collect();
        let expected = [("alice", "a.red-one"), ("alice", "blue"), ("bob", "blue")];
        assert_eq!(listed, expected.map(|(user, name)| (user.to_owned(), name.to_owned())));
        assert_eq!(keys.remove(&name("alice"), None, "blue").unwrap().key, one);
        assert!(keys.remove(&name("alice"), None, "blue").is_err());
        assert!(keys.remove(&name("alice"), Some(Kind::U2f), "a.red-one").is_err());
        assert_eq!(keys.keys_of(&name("alice")).unwrap().len(), 1);
        assert_eq!(keys.keys_of(&name("bob")).unwrap().len(), 1);
        for bad in ["", "-a", ".a", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn files_of_xpras_tool_are_read_by_their_names() {
        assert_eq!(parts("u2f-pub.hex"), Some((Kind::U2f, "u2f")));
        assert_eq!(parts("u2f-laptop-pub.hex"), Some((Kind::U2f, "laptop")));
        assert_eq!(parts("fido2-key-1-pub.hex"), Some((Kind::Fido2, "key-1")));
        for other in ["u2f-keyhandle.hex", "pub.hex", "ssh-a-pub.hex", "u2f-a-pub.hex.bak"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn s_061_keys_that_others_can_change_or_that_are_none_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::at(folder.path());
        let alice = name("alice");
        let good = keys.add(&alice, Kind::Fido2, &"good".parse().unwrap(), &key()).unwrap();
        let bad = keys.add(&alice, Kind::Fido2, &"bad".parse().unwrap(), &key()).unwrap();
        let count = || keys.keys_of(&alice).unwrap().len();
        assert_eq!(count(), 2);
        fs::set_permissions(&bad, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(count(), 1);
        fs::set_permissions(&bad, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&bad, "no key").unwrap();
        assert_eq!(count(), 1);
        // An Ed25519 key is none for u2f.
        fs::rename(&good, good.with_file_name("u2f-x-pub.hex")).unwrap();
        assert_eq!(count(), 0);
        fs::rename(good.with_file_name("u2f-x-pub.hex"), &good).unwrap();
        fs::set_permissions(folder.path().join("alice"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(count(), 0);
    }

    #[test]
    fn s_068_a_folder_of_another_spelling_or_behind_a_link_is_not_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::at(folder.path());
        keys.add(&name("alice"), Kind::Fido2, &"x".parse().unwrap(), &key()).unwrap();
        std::os::unix::fs::symlink(folder.path().join("alice"), folder.path().join("bob")).unwrap();
        assert!(keys.keys_of(&name("bob")).unwrap().is_empty());
        assert!(keys.keys_of(&name("Alice")).unwrap().is_empty());
    }
}
