//! Files that operators write, each by the module that reads it: accounts, secrets of one-time codes, keys of SCRAM,
//! `authorized_keys`, tables of TCP wrappers. The first byte chooses. Of secrets nothing is told.
#![no_main]

use std::{fs, os::unix::fs::PermissionsExt, sync::LazyLock};

use countersign::{
    Claim, Peer, Verifier,
    modules::{Context, Options, Registry},
    trust::Trust,
};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    context: Context,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let trust = Trust::at(folder.path().join("state"));
    trust.open().expect("a new state directory");
    Place { context: Context::with_trust(trust), folder }
});

fuzz_target!(|input: &[u8]| {
    let Some((choice, content)) = input.split_first() else { return };
    let (module, option) = MODULES[usize::from(*choice) % MODULES.len()];
    // Public keys and rules are none, and may be repeated.
    let secrets = ["multifile", "otp", "scram"].contains(&module);
    let path = PLACE.folder.path().join("table");
    fs::write(&path, content).expect("a file in an own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("an own file");
    let path = path.to_str().expect("UTF-8").to_owned();
    let options = Options::new(module, [(option.to_owned(), path)]);
    let link = match Registry::builtin().link(options, &PLACE.context) {
        Ok(link) => link,
        Err(error) => {
            assert!(!secrets || !error.to_string().contains(SECRET), "{module}: a secret is told");
            return;
        }
    };
    let peers = [Peer::unix(None), Peer::tcp(([192, 0, 2, 1], 5).into(), ([127, 0, 0, 1], 7).into())];
    for name in ["alice", "bob", ""] {
        let claim = Claim::named(name).expect("a name");
        for peer in &peers {
            let refused = match &link.verifier {
                Verifier::Peer(module) => module.check(peer, &claim).err(),
                Verifier::Secret(module) => module.lookup(&claim).err(),
                // Codes are counted, and logins by keys have a target of their own.
                Verifier::Password(_) | Verifier::Exchange(_) => None,
            };
            if let Some(refusal) = refused {
                assert!(!secrets || !refusal.to_string().contains(SECRET), "{module}: a secret is told");
            }
        }
    }
});

const MODULES: [(&str, &str); 6] = [
    ("multifile", "filename"),
    ("otp", "filename"),
    ("scram", "filename"),
    ("ssh-key", "filename"),
    ("hosts", "allow"),
    ("hosts", "deny"),
];

/// Stands in the seeds where a secret stands.
const SECRET: &str = "hunter2hunter2";
