//! `scram`: passwords proved by SCRAM, against keys that cannot log in.

use std::{
    io::Read as _,
    path::Path,
    sync::{Arc, OnceLock},
};

use super::{Context, Module, OptionSpec, Options, multifile::Lines, secret_file::SecretFile};
use crate::{
    ConfigError, Secret, Verifier,
    needs::{self, Need},
    proto::mechanism::{Hash, scram::NEW_ITERATIONS},
    sys::files,
    trust::{Trust, durable},
    users::{
        database::{Database, Queries},
        scram::{Terms, verifier},
    },
};

pub(super) struct Scram;

impl Module for Scram {
    fn name(&self) -> &'static str {
        "scram"
    }

    fn summary(&self) -> &'static str {
        "passwords proved by SCRAM, both ends to each other, against keys that cannot log in"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "The strongest of Xpra's mechanisms for passwords (RFC 5802, RFC 7677, SHA-512 and SHA-256): who listens \
         learns nothing, a stolen table does not log in, and the client finds out whether the server knows the \
         password. On TLS 1.3 the login is bound to its session (-PLUS, RFC 9266), so that nobody can sit in between. \
         Our client answers with the password of any of its sources; of Xpra's clients none can.\n\n\
         The file is the table that `countersign users` keeps, or a text file in the form of `multifile` with the \
         keys in the password column, as PostgreSQL writes them: \
         alice|SCRAM-SHA-256$4096:SALT$STORED:SERVER|1000. Passwords in the clear are not used: \
         `countersign users import` turns them into keys. Of a text file, those hashes are asked for that all of its \
         accounts had keys of at start.\n\n\
         A name that nobody has is asked like any other, with a salt of its own that stays the same; what it is made \
         from is kept in the state directory (decoy.key). iterations= is what such names are told: that of the table's \
         new passwords, or of the first account of a text file.\n\n\
         channel-binding=require turns everything but TLS 1.3 away, a gateway behind something else that ends TLS \
         included. With prefer, a client that could bind the login and was talked out of it is still refused.\n\n\
         Messages of SCRAM name the user once more; with username= the client has to log in under that name."
    }

    fn example(&self) -> &'static str {
        "scram(filename=/etc/countersign/users.sdb)"
    }

    fn uses_username(&self) -> bool {
        true
    }

    /// Whoever reads a database that is being written has to write beside it (`-shm`).
    fn needs(&self, options: &Options) -> Vec<Need> {
        options.written("filename").map(|path| Need::Write(needs::place_of(path))).collect()
    }

    fn configure(&self, options: &mut Options, context: &Context) -> Result<Verifier, ConfigError> {
        let path = options.path("filename")?;
        let insecure = options.flag("insecure", false)?;
        let require_binding = options.choice("channel-binding", ["prefer", "require"])? == "require";
        let told = options.take("iterations")?;
        let told = told.map(|count| iterations(options, &count)).transpose()?;
        let key = decoy_key(context.trust.clone());
        let terms = |hashes, (count, salt)| Terms {
            hashes,
            require_binding,
            decoy: (told.unwrap_or(count), salt),
            key,
        };
        if is_database(&path, insecure, options)? {
            let database = Database::new(path, insecure, Queries::default())
                .map_err(|error| ConfigError::new("module scram", error.to_string(), error.fix()))?;
            return Ok(verifier(database, terms(BOTH.to_vec(), (NEW_ITERATIONS, 16))));
        }
        let lines = Lines(SecretFile::new(path, insecure));
        let (hashes, likeness) = survey(&lines, options)?;
        Ok(verifier(lines, terms(hashes, likeness)))
    }
}

fn iterations(options: &Options, text: &str) -> Result<u32, ConfigError> {
    use crate::proto::mechanism::scram::ITERATIONS;
    text.trim().parse().ok().filter(|count| ITERATIONS.contains(count)).ok_or_else(|| {
        options.error("iterations", "it is no number in the range", "write a number from 4096 to 10000000")
    })
}

/// Whether the file is an SQLite database. It is judged as one that holds secrets either way.
fn is_database(path: &Path, insecure: bool, options: &Options) -> Result<bool, ConfigError> {
    let fault = |why: String, fix: String| options.error("filename", why, fix);
    let file = files::open_private(path, insecure).map_err(|it| fault(it.to_string(), it.fix()))?;
    let mut start = Vec::new();
    file.take(SQLITE.len() as u64)
        .read_to_end(&mut start)
        .map_err(|error| fault(format!("it cannot be read: {error}"), "try again".to_owned()))?;
    Ok(start == SQLITE)
}

/// The hashes that every account of the file has keys of, and iterations and salt of the first.
fn survey(lines: &Lines, options: &Options) -> Result<(Vec<Hash>, (u32, usize)), ConfigError> {
    let table = lines.table().map_err(|unusable| unusable.at_start(options))?;
    let mut hashes = BOTH.to_vec();
    for known in table.values() {
        let held: Vec<Hash> =
            known.row.secrets().map_or(Vec::new(), |secrets| secrets.scram_hashes().collect());
        hashes.retain(|hash| held.contains(hash));
    }
    let first = table.values().next().zip(hashes.first());
    let first = first.and_then(|(known, hash)| known.row.secrets().ok()?.into_scram(*hash));
    let first = first.ok_or_else(|| {
        let why = "an account has no keys for scram, or they have no hash in common";
        options.error(
            "filename",
            why,
            "make keys with `countersign users import`, or take them from PostgreSQL",
        )
    })?;
    Ok((hashes, (first.iterations(), first.salt_length())))
}

/// What the salts of unknown names are made from, read or made when it is first needed: kept in the
/// state directory, for a salt that changed with a restart would tell that its name is unknown.
fn decoy_key(trust: Option<Trust>) -> Box<dyn Fn() -> Arc<Secret> + Send + Sync> {
    let held = OnceLock::new();
    Box::new(move || {
        let kept = || {
            let path = trust.as_ref()?.directory().join("decoy.key");
            let (fresh, length) = (random(), random().expose().len());
            // Of several that make it at once, one succeeds, and all read what it made.
            let made = durable::create(&path, fresh.expose(), 0o600);
            let key = durable::read_private(&path).ok().map(Secret::new);
            if let (None, Err(error)) = (&key, made) {
                tracing::warn!(
                    "{}: {error}; salts of unknown names change with the next start",
                    path.display()
                );
            }
            key.filter(|key| key.expose().len() == length)
        };
        Arc::clone(held.get_or_init(|| Arc::new(kept().unwrap_or_else(random))))
    })
}

/// 32 random bytes of the system.
#[expect(clippy::expect_used, reason = "no login may go on without randomness")]
fn random() -> Secret {
    let mut bytes = vec![0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    Secret::new(bytes)
}

/// The hashes that new passwords have keys of.
const BOTH: [Hash; 2] = [Hash::Sha512, Hash::Sha256];

/// How a database begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What can be set.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the table of users, or the text file with the keys"),
    OptionSpec::new(
        "channel-binding",
        "prefer|require",
        "prefer",
        "take only logins that are bound to TLS 1.3",
    ),
    OptionSpec::new("iterations", "NUMBER", "", "what a name that nobody has is told"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tempfile::TempDir;

    use super::*;
    use crate::{
        Chain, Peer, Username,
        modules::{
            Registry,
            login::{Login, chain, link, meet},
        },
        proto::{
            client::{Failure, ProvideSecret, Provided, Question, Responder},
            error::Reason,
            mechanism::scram::Keys,
            peer::TlsFacts,
        },
        users::{NewUser, UserTable},
    };

    struct Knows(&'static str);

    impl ProvideSecret for Knows {
        fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
            Ok(Some(Provided::Text(Secret::new(self.0))))
        }
    }

    fn over_tls() -> Peer {
        let address = "192.0.2.1:1".parse().unwrap();
        Peer::tcp(address, address).encrypted(TlsFacts::default(), None, Some(b"session".as_slice().into()))
    }

    fn in_the_clear() -> Peer {
        let address = "192.0.2.1:1".parse().unwrap();
        Peer::tcp(address, address)
    }

    fn login(peer: Peer, chain: &Arc<Chain>, name: &str, secret: &'static str) -> Login {
        meet(peer, chain, name, vec![Responder::secret("knows", Knows(secret))])
    }

    fn keys(password: &str, hash: Hash) -> String {
        Keys::derive(hash, &Secret::new(password), b"0123456789abcdef", 4096).to_text()
    }

    fn file(content: &str) -> (TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let text = path.to_str().unwrap().to_owned();
        (folder, text)
    }

    fn configured(path: &str, more: &[(&str, &str)]) -> Arc<Chain> {
        chain(link("scram", &[&[("filename", path)], more].concat()).unwrap())
    }

    fn table() -> (TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.sdb");
        let mut table = UserTable::create(&path).unwrap();
        for name in ["alice", "closed"] {
            let mut user = NewUser::new(Username::parse(name).unwrap());
            (user.uid, user.legacy) = (Some("1000".to_owned()), false);
            table.add(&user, &Secret::new("pässword")).unwrap();
        }
        table.disable(&Username::parse("closed").unwrap()).unwrap();
        let text = path.to_str().unwrap().to_owned();
        (folder, text)
    }

    #[test]
    fn the_table_of_users_lets_in_by_sha_512_and_bound_to_tls_where_there_is_any() {
        let (_folder, path) = table();
        let chain = configured(&path, &[]);
        let grant = login(over_tls(), &chain, "alice", "pässword").end.unwrap();
        let identity = grant.identity().unwrap();
        assert_eq!((identity.name.as_str(), identity.uid), ("alice", Some(1000)));
        assert_eq!(grant.proofs()[0].mechanism.as_ref().unwrap().name(), "SCRAM-SHA-512-PLUS");
        let grant = login(in_the_clear(), &chain, "alice", "pässword").end.unwrap();
        assert_eq!(grant.proofs()[0].mechanism.as_ref().unwrap().name(), "SCRAM-SHA-512");
        let wrong = login(over_tls(), &chain, "alice", "password").end.unwrap_err();
        assert_eq!(wrong.reason, Reason::WrongSecret);
        let closed = login(over_tls(), &chain, "closed", "pässword").end.unwrap_err();
        assert_eq!(closed.reason, Reason::AccountDisabled);
    }

    #[test]
    fn s_026_unknown_closed_and_wrong_are_asked_alike_and_refused_after_the_proof() {
        let (_folder, path) = table();
        let chain = configured(&path, &[]);
        let seen = |name, secret| login(over_tls(), &chain, name, secret).seen;
        let alike = seen("alice", "wrong");
        assert_eq!(alike.len(), 3);
        for (name, secret) in
            [("closed", "pässword"), ("closed", "wrong"), ("mallory", "pässword"), ("", "pässword")]
        {
            assert_eq!(seen(name, secret), alike, "{name}");
        }
    }

    #[test]
    fn s_026_what_an_unknown_name_is_told_stays_the_same_and_has_the_likeness_of_an_account() {
        let (folder, path) = file(&format!("alice|{}\n", keys("one", Hash::Sha256)));
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        // Each of these is a gateway that was started anew.
        let told = |name: &str, state: &Path| {
            let context = Context::with_trust(Trust::at(state));
            let options = Options::new("scram", [("filename".to_owned(), path.clone())]);
            let chain = chain(Registry::builtin().link(options, &context).unwrap());
            first_words(&chain, name)
        };
        let (unknown, alice) = (told("mallory", &state), told("alice", &state));
        assert_eq!(unknown, told("mallory", &state));
        assert_ne!(unknown.0, told("mallor", &state).0);
        assert_ne!(unknown.0, told("mallory", &folder.path().join("nowhere")).0);
        assert_eq!((unknown.0.len(), unknown.1.as_str()), (alice.0.len(), "4096"));
        let mode = fs::metadata(state.join("decoy.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    /// The salt and the iterations that a name is told.
    fn first_words(chain: &Arc<Chain>, name: &str) -> (String, String) {
        use crate::proto::{
            Claim,
            challenge::{Hello, Offer, Response},
            server::{Action, ClientMessage, Conversation, Settings},
        };
        let now = std::time::Instant::now();
        let random = |bytes: &mut [u8]| bytes.fill(1);
        let (chain, peer) = (Arc::clone(chain), Arc::new(in_the_clear()));
        let mut server = Conversation::new(chain, peer, Settings::default(), random, now);
        let offer = Offer::new(vec!["SCRAM-SHA-256".to_owned()], vec!["hmac+sha512".to_owned()]);
        let hello = || Hello::new(Claim::named(name).unwrap(), offer.clone());
        server.handle(now, ClientMessage::Hello(Box::new(hello())));
        loop {
            match server.poll() {
                Some(Action::Check(check)) => server.handle_checked(now, check.run()),
                Some(Action::Challenge(challenge)) if challenge.mechanism.name().ends_with("first") => {
                    if let Some(words) =
                        String::from_utf8(challenge.salt).ok().filter(|it| it.starts_with("r="))
                    {
                        let fields: Vec<&str> = words.split(',').collect();
                        return (fields[1][2..].to_owned(), fields[2][2..].to_owned());
                    }
                    let first = Response::new(Secret::new(format!("n,,n={name},r=abc")), Vec::new());
                    let hello = hello().with_response(Some(first));
                    server.handle(now, ClientMessage::Hello(Box::new(hello)));
                }
                other => panic!("expected a message, saw {other:?}"),
            }
        }
    }

    #[test]
    fn a_text_file_is_asked_for_what_all_of_its_accounts_have() {
        let (sha256, sha512) = (keys("one", Hash::Sha256), keys("one", Hash::Sha512));
        let (_folder, path) = file(&format!("alice|{sha256}|1000\nbob|{sha512} {sha256}\n"));
        let chain = configured(&path, &[]);
        for name in ["alice", "bob"] {
            let grant = login(in_the_clear(), &chain, name, "one").end.unwrap();
            assert_eq!(grant.proofs()[0].mechanism.as_ref().unwrap().name(), "SCRAM-SHA-256");
        }
        for unusable in [
            format!("alice|{sha256}\nbob|{sha512}\n"),
            format!("alice|{sha256}\nbob|cleartext\n"),
            "alice|SCRAM-SHA-256$4096:damaged\n".to_owned(),
        ] {
            let (_folder, path) = file(&unusable);
            assert!(link("scram", &[("filename", &path)]).is_err(), "{unusable}");
        }
    }

    #[test]
    fn s_045_with_channel_binding_required_nothing_else_is_asked_or_answered() {
        let (_folder, path) = table();
        let chain = configured(&path, &[("channel-binding", "require")]);
        assert!(login(over_tls(), &chain, "alice", "pässword").end.is_ok());
        let refused = login(in_the_clear(), &chain, "alice", "pässword");
        assert_eq!((refused.seen.len(), refused.end.unwrap_err().reason), (1, Reason::PeerDenied));
        assert!(link("scram", &[("filename", &path), ("channel-binding", "no")]).is_err());
        assert!(link("scram", &[("filename", &path), ("iterations", "100")]).is_err());
    }

    #[test]
    fn a_client_without_scram_is_told_that_there_is_nothing_in_common() {
        let (_folder, path) = table();
        let login = meet(in_the_clear(), &configured(&path, &[]), "alice", vec![]);
        assert_eq!(login.end.unwrap_err().reason, Reason::NoCommonMechanism);
    }
}
