//! The rows whose modules ask somebody or something: the TCP wrappers, libpam, a directory, a realm of Kerberos, a table of
//! ours, a security key. Each is put to a server of Xpra in its own words, and to the same service as ours.

use std::{fs, sync::LazyLock};

use nix::unistd::{Uid, User};

use super::{Peer, rows::Prepared};
use crate::{
    Place,
    fido::Key,
    gateway::countersign,
    kdc::{Kdc, REALM, password as kerberos_password},
    modules::{self, Attempt, Case, OTHER, Outcome, RIGHT, Socket, WRONG},
    pam::{Services, matrix},
    process::{must, run, run_with_input},
    slapd::{PEOPLE, Slapd},
};

/// `hosts`: the real library, which is told to read tables of the test's instead of the machine's.
pub(super) fn hosts(place: &Place, _: Peer) -> Prepared {
    let other = Place::new();
    let told = |folder: &Place, case: Case| {
        let mut environment = vec![("XPRA_LIBWRAP", wrappers_of_a_folder(folder))];
        for (name, file) in [("HOSTS_ALLOW_TABLE", "hosts.allow"), ("HOSTS_DENY_TABLE", "hosts.deny")] {
            environment.push((name, folder.text(file)));
        }
        Case { environment, ..case }
    };
    let cases =
        vec![told(place, modules::hosts_allowing(place)), told(&other, modules::hosts_denying(&other))];
    Prepared::asking(other, cases)
}

/// `pam`: libpam with a service of the test's own. A server of Xpra wants an account of the machine behind the name, so
/// there it is the one that runs the tests.
pub(super) fn pam(place: &Place, server: Peer) -> Prepared {
    let services = Services::new();
    let user = if server == Peer::Ours { "alice" } else { me() };
    let names = services.place().file("names", format!("{user}:{RIGHT}:app\n"));
    let matrix = format!("{} passdb={names}", matrix());
    let module = services.chain("app", &format!("auth required {matrix}\naccount required {matrix}\n"), "");
    let mut case = asking(place, "pam", ["pam:service=app", &module], RIGHT);
    case.attempts.iter_mut().for_each(|attempt| attempt.user = user);
    if server != Peer::Ours {
        case.environment = services.environment();
    }
    Prepared::asking(services, vec![case])
}

/// `ldap`: a bind as the one who comes. In Xpra's syntax a value holds no comma, and a directory takes the older
/// separator of a name (RFC 2253, section 4) as well.
pub(super) fn ldap(place: &Place, _: Peer) -> Prepared {
    let slapd = Slapd::start();
    let theirs = format!(
        "ldap:host=localhost,port={},username_format=uid=%username;{}",
        slapd.port,
        PEOPLE.replace(',', ";")
    );
    let url = format!("url=ldap://localhost:{},ca={}", slapd.port, slapd.authority.cert);
    let ours = format!("ldap({url},bind-dn=\"uid={{username}},{PEOPLE}\")");
    let case = asking(place, "ldap", [&theirs, &ours], "alice-word");
    Prepared::asking(slapd, vec![case])
}

/// `kerberos-token`: with a ticket of the realm; with one of a realm that calls itself the same, and whose keys are others;
/// with none. Then somebody with a ticket of his own and another's name.
pub(super) fn kerberos(place: &Place, server: Peer) -> Prepared {
    let (kdc, forger) = (Kdc::start(), Kdc::start());
    let tickets = |kdc: &Kdc, user: &str| kdc.kinit(user, &kerberos_password(user, REALM), &[]).environment();
    // No server of Xpra shows that it has the key of the service.
    let handler = (server != Peer::Ours).then(|| "kerberos(mutual=never)".to_owned());
    let attempt = |environment, outcome| Attempt {
        handler: handler.clone(),
        environment,
        ..Attempt::bare("alice", outcome)
    };
    let environment = kdc.environment(&kdc.own_configuration());
    let modules = ["kerberos-token:service=xpra@localhost", "kerberos-token(service=xpra@localhost)"];
    let realm = Case {
        environment: environment.clone(),
        attempts: vec![
            attempt(tickets(&kdc, "alice"), Outcome::In),
            attempt(tickets(&forger, "alice"), Outcome::Refused),
            attempt(kdc.nobody().environment(), Outcome::NothingToSay),
        ],
        ..asking(place, "kerberos-token", modules, RIGHT)
    };
    let borrowed = Case {
        environment,
        attempts: vec![attempt(tickets(&kdc, "bob"), Outcome::Refused)],
        ..asking(place, ANOTHERS_NAME, modules, RIGHT)
    };
    Prepared::asking((kdc, forger), vec![realm, borrowed])
}

/// `scram`: a table of ours.
pub(super) fn scram(place: &Place, _: Peer) -> Prepared {
    let table = place.text("scram.sdb");
    run(&mut countersign(place, &["users", "init", &table])).expect_success();
    for (user, password) in [("alice", RIGHT), ("bob", OTHER)] {
        let mut add = countersign(place, &["users", "add", "--stdin", &table, user]);
        run_with_input(&mut add, password.as_bytes()).expect_success();
    }
    let modules =
        [format!("scram:filename={}", place.file("right", RIGHT)), format!("scram(filename={table})")];
    Prepared::alone(vec![asking(place, "scram", modules.each_ref().map(String::as_str), RIGHT)])
}

/// `fido2`: a key of ours and one of Python's for each who comes, the latter in the place of one of hardware.
pub(super) fn fido2(place: &Place, _: Peer) -> Prepared {
    let (keys, strangers) = (place.text("keys"), place.text("strangers"));
    let pair = |folder: &str, name: &str| {
        let (ours, theirs) = (place.text(name), Key::new("ES256"));
        let add = ["keys", "add", "alice", "--kind", "fido2", "--keys", folder, "--name"];
        let words = [&add[..], &["ours", "--algorithm", "es256", "--keyfile", &ours]].concat();
        run(&mut countersign(place, &words)).expect_success();
        let words = [&add[..], &["theirs", "--public-key", &theirs.public]].concat();
        run(&mut countersign(place, &words)).expect_success();
        (ours, theirs)
    };
    let (right, wrong) = (pair(&keys, "own-key"), pair(&strangers, "other-key"));
    let listed = run(&mut countersign(place, &["keys", "list", "--json", "--keys", &keys])).expect_success();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let public = listed.as_array().into_iter().flatten().filter_map(|key| key["public_key"].as_str());
    let home = place.path("keys-of-xpra");
    fs::create_dir_all(&home).expect("a folder in the test's own place");
    for (number, key) in public.enumerate() {
        fs::write(home.join(format!("fido2-{number}-pub.hex")), key).expect("a file there");
    }
    let handle = ("XPRA_FIDO2_KEY_HANDLE", "00".repeat(32));
    let attempt = |(ours, theirs): &(String, Key), outcome| Attempt {
        handler: Some(format!("fido2(keyfile={ours})")),
        environment: [theirs.environment(), vec![handle.clone()]].concat(),
        ..Attempt::bare("alice", outcome)
    };
    let case = Case {
        attempts: vec![
            attempt(&right, Outcome::In),
            attempt(&wrong, Outcome::Refused),
            Attempt::bare("alice", Outcome::NothingToSay),
        ],
        environment: vec![("XPRA_USER_CONF_DIRS", place.text("keys-of-xpra"))],
        ..asking(place, "fido2", ["fido2", &format!("fido2(keys={keys})")], RIGHT)
    };
    Prepared::asking((right, wrong), vec![case])
}

/// A module that is asked for a password, as Xpra writes it and as we do.
fn asking(place: &Place, name: &'static str, [theirs, ours]: [&str; 2], right: &str) -> Case {
    let file = |name: &str, password: &str| vec![place.file(name, password)];
    let attempt = |files, outcome| Attempt { files, ..Attempt::bare("alice", outcome) };
    Case {
        name,
        xpra: vec![theirs.to_owned()],
        ours: vec![ours.to_owned()],
        environment: Vec::new(),
        sockets: &[Socket::Tcp, Socket::Unix],
        attempts: vec![
            attempt(file("right", right), Outcome::In),
            attempt(file("wrong", WRONG), Outcome::Refused),
            Attempt::bare("alice", Outcome::NothingToSay),
        ],
    }
}

/// The account that runs the tests.
fn me() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let user = User::from_uid(Uid::effective()).expect("the user database");
        user.expect("an own account").name
    });
    &NAME
}

/// Makes a library that is the TCP wrappers' but for the tables that it reads: those of two variables.
fn wrappers_of_a_folder(place: &Place) -> String {
    let (source, library) = (place.file("wrappers.c", WRAPPERS), place.text("wrappers.so"));
    must(std::process::Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]));
    library
}

const WRAPPERS: &str = r#"
#include <dlfcn.h>
#include <stdlib.h>

int hosts_ctl(char *daemon, char *name, char *address, char *user)
{
    void *real = dlopen("libwrap.so.0", RTLD_NOW);
    if (!real)
        return 0;
    *(char **)dlsym(real, "hosts_allow_table") = getenv("HOSTS_ALLOW_TABLE");
    *(char **)dlsym(real, "hosts_deny_table") = getenv("HOSTS_DENY_TABLE");
    int (*ask)(char *, char *, char *, char *) = dlsym(real, "hosts_ctl");
    return ask(daemon, name, address, user);
}
"#;

/// The chain at which somebody comes with his own ticket and another's name.
pub(super) const ANOTHERS_NAME: &str = "kerberos-token, another's name";
