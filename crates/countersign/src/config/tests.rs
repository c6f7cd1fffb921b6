//! Whole configurations: what is refused, what is warned about, and that no error tells a secret.

use std::collections::HashSet;

use super::*;
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    modules::{Context, Module, OptionSpec},
    proto::chain::{CheckPassword, CheckPeer, Entry, LookupSecret},
};

/// A value that must not appear in any error, report or debug output.
pub(super) const CANARY: &str = "hunter2-canary";

/// The modules of the tables below, with the options that they document.
pub(super) fn registry() -> Registry {
    DOUBLES.iter().fold(Registry::builtin(), |registry, double| registry.with(double))
}

pub(super) fn paths() -> Paths {
    Paths::new(true, "/etc/countersign", "/run/countersign", "/var/lib/countersign")
}

/// The configuration that flags alone make, each written `name=value`.
pub(super) fn flags(flags: &[&str]) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    for flag in flags {
        let (name, value) = flag.split_once('=').unwrap();
        layers.flag(name, value)?;
    }
    Config::new(&layers, &registry(), &paths())
}

/// The configuration of one file.
pub(super) fn toml(text: &str) -> Result<Config, ConfigError> {
    let mut layers = Layers::default();
    layers.file(Path::new("c.toml"), text)?;
    Config::new(&layers, &registry(), &paths())
}

pub(super) fn told(error: &ConfigError) -> String {
    format!("{error} / {}", error.fix())
}

pub(super) fn modules(socket: &SocketConfig) -> Vec<&'static str> {
    socket.chain.links().iter().map(|link| link.module).collect()
}

#[test]
fn s_065_what_leaves_a_socket_open_in_xpra_is_an_error_here() {
    // W30: each of these means "no authentication" to Xpra.
    for (bind, why) in [
        (":1,auth", "an item has no `=`"),
        (":1,#auth=env", "no comments"),
        (":1,auht=env", "there is no `auht`"),
        (":1,auth=", "a value is missing"),
        (":1,auth=,auth=", "a value is missing"),
        (":1,auth=env,", "an item is empty"),
        (":1,,auth=env", "an item is empty"),
        (":1,auth=evn", "there is no `evn`"),
        (":1,auth=env(nmae=X)", "there is no `nmae`"),
        (":1,auth=env:X", "an item has no `=`"),
        (":1,auth=env(name=X", "a bracket is not closed"),
        (":1,auth=env(name=\"X)", "a quote is not closed"),
        (":1,encryption=AES", "an unknown name"),
    ] {
        for flag in ["bind-tcp", "bind-ssl"] {
            let error = flags(&[&format!("{flag}={bind}")]).unwrap_err();
            assert!(error.to_string().contains(why), "{bind}: {error}");
        }
    }
    // A switch that guards none of the sockets there are.
    let error = flags(&["bind-tcp=:1", "auth=file(filename=/etc/pw)"]).unwrap_err();
    assert!(error.to_string().contains("--auth: auth: no socket of bind is left"), "{error}");
    assert!(flags(&["bind-tcp=:1,auth=hosts", "tcp-auth=env"]).is_err());
    assert!(toml("bind-tcp = \":1\"\ntcp-auth = []").is_err());
}

#[test]
fn s_066_the_chain_of_a_socket_is_the_same_for_each_wire_and_kind() {
    for bind in ["bind=/tmp/x", "bind-tcp=*:1", "bind-ssl=*:1"] {
        let config = flags(&[&format!("{bind},auth=fail")]).unwrap();
        assert_eq!(modules(&config.sockets[0]), ["fail"], "{bind}");
    }
    for (bind, switch) in [("bind=/a", "auth"), ("bind-tcp=*:1", "tcp-auth"), ("bind-ssl=*:1", "ssl-auth")] {
        let config = flags(&[bind, &format!("{switch}=hosts"), &format!("{switch}=env,name=X")]).unwrap();
        assert_eq!(modules(&config.sockets[0]), ["hosts", "env"], "{bind}");
    }
    let config = flags(&["bind-tls=*:1", "tls-auth=hosts", "bind-ssl=*:2,auth=env"]).unwrap();
    assert_eq!(config.sockets.iter().map(modules).collect::<Vec<_>>(), [["hosts"], ["env"]]);
    assert!(config.sockets.iter().all(SocketConfig::require_tls));
}

#[test]
fn s_067_without_a_chain_only_unix_and_loopback_sockets_open_and_each_is_warned_about() {
    use Audience::{FileMode, LocalUsers};
    for (bind, audience) in [
        ("bind=/tmp/x", FileMode),
        ("bind=auto,mode=660", FileMode),
        ("bind=/tmp/x,mode=666", LocalUsers),
        ("bind=@x", LocalUsers),
        ("bind-tcp=:1", LocalUsers),
        ("bind-tcp=[::1]:1", LocalUsers),
        ("bind-ssl=localhost:1", LocalUsers),
    ] {
        let config = flags(&[bind]).unwrap();
        let socket = &config.sockets[0];
        assert_eq!(
            (modules(socket), &*socket.warnings),
            (vec!["none"], &[Warning::NoChain(audience)][..]),
            "{bind}"
        );
        assert!(socket.warnings[0].at_each_connection());
    }
    for bind in ["bind-tcp=*:1", "bind-tcp=[::]:1", "bind-tcp=10.0.0.1:1", "bind-ssl=example.org:1"] {
        let error = flags(&[bind]).unwrap_err();
        assert_eq!(error.fix(), "add auth=NAME, or auth=none to let everybody in", "{bind}");
        let open = flags(&[&format!("{bind},auth=none")]).unwrap();
        assert_eq!(open.sockets[0].warnings, [Warning::Open("none", Audience::Network)], "{bind}");
    }
    assert!(flags(&["bind-tcp=:1"]).unwrap().sockets[0].warnings[0].to_string().contains("every local user"));
}

#[test]
fn s_067_modules_that_prove_nothing_or_refuse_all_are_warned_about() {
    let warnings = |auth: &str| {
        flags(&[&format!("bind-tcp=*:1,require-tls=yes,{auth}")]).unwrap().sockets[0].warnings.clone()
    };
    assert_eq!(warnings("auth=allow"), [Warning::Open("allow", Audience::Network)]);
    assert_eq!(warnings("auth=none,auth=allow"), [Warning::Open("allow", Audience::Network)]);
    assert_eq!(warnings("auth=none,auth=env"), [Warning::Idle("none")]);
    assert_eq!(warnings("auth=env,auth=fail"), [Warning::NobodyGetsIn("fail")]);
    assert_eq!(warnings("auth=reject"), [Warning::NobodyGetsIn("reject")]);
    assert_eq!(warnings("auth=env"), []);
}

#[test]
fn s_033_a_module_that_needs_the_password_is_warned_about_where_the_wire_may_be_clear() {
    let warned = |bind: &str| {
        flags(&[&format!("{bind},auth=pam")]).unwrap().sockets[0].warnings == [Warning::Cleartext("pam")]
    };
    assert!(
        warned("bind-tcp=*:1") && warned("bind-tcp=127.0.0.1:1") && warned("bind-tcp=*:1,protocols=plain")
    );
    for confidential in
        ["bind=/a", "bind-ssl=*:1", "bind-tcp=*:1,require-tls=yes", "bind-tcp=*:1,protocols=tls"]
    {
        assert!(!warned(confidential), "{confidential}");
    }
}

#[test]
fn s_090_a_password_in_an_argument_is_warned_about_and_one_in_a_file_is_not() {
    let exposed =
        |config: &Config| config.sockets[0].warnings.contains(&Warning::SecretInArgument("password"));
    assert!(exposed(&flags(&["bind-tcp=*:1,auth=password(value=x)"]).unwrap()));
    assert!(exposed(&flags(&["bind-tcp=*:1", "tcp-auth=password(value=x)"]).unwrap()));
    assert!(!exposed(&toml("bind-tcp = '*:1,auth=password(value=x)'").unwrap()));
    assert!(!exposed(&flags(&["bind-tcp=*:1,auth=file(filename=/x)"]).unwrap()));
}

#[test]
fn s_088_no_error_and_no_output_repeats_a_value() {
    let module = [
        format!("pasword(value={CANARY})"),
        format!("pasword:value={CANARY}"),
        format!("password(valu={CANARY})"),
        format!("password(value={CANARY},value={CANARY})"),
        format!("password(value={CANARY},username={CANARY},client-username=yes)"),
        format!("password(value=a,client-username={CANARY})"),
        format!("password(value={CANARY}"),
        format!("password(value=\"{CANARY})"),
        format!("password(value=\"a\"{CANARY})"),
        format!("password(value=a\"{CANARY}\")"),
        format!("password(value=\"a\\{CANARY}\")"),
        format!("password(value=a,{CANARY})"),
        format!("password(value=a,{CANARY}=b)"),
        format!("password(value=a){CANARY}"),
        format!("password({CANARY})"),
        format!("password:{CANARY}"),
        format!("password:value=a,{CANARY}"),
        format!("password {CANARY}"),
        format!("password=={CANARY}"),
        format!("password,value={CANARY},x={CANARY}"),
        CANARY.to_owned(),
        format!("{CANARY}(value=x)"),
    ];
    let socket = SOCKET_OPTIONS
        .iter()
        .filter(|option| !["auth", "backend", "name", "ssl-cert"].contains(&option.spec.name));
    let options = socket.map(|option| format!("{}={CANARY}", option.spec.name));
    let binds = module.iter().map(|text| format!("auth={text}")).chain(options).chain([
        format!("{CANARY}=x"),
        format!("mode={CANARY},mode={CANARY}"),
        format!("backend={CANARY}"),
        format!("backend={CANARY}:x"),
        format!("backend=exec:{CANARY}"),
        format!("backend=tcp:{CANARY}"),
        format!("backend=\"exec:/bin/x a,{CANARY}\""),
        format!("backend=\"exec:/bin/x a,{CANARY}=b\""),
        format!("backend=\"tls:h:1,pin={CANARY}\""),
        CANARY.to_owned(),
    ]);
    let mut errors = Vec::new();
    for item in binds {
        for bind in ["bind=/a", "bind-tcp=*:1", "bind-ssl=*:1"] {
            errors.push((item.clone(), flags(&[&format!("{bind},{item}")]).unwrap_err()));
        }
    }
    for text in &module {
        errors.push((text.clone(), flags(&["bind-tcp=*:1", &format!("tcp-auth={text}")]).unwrap_err()));
        let file = format!("bind-tcp = '*:1'\ntcp-auth = '''{text}'''");
        errors.push((text.clone(), toml(&file).unwrap_err()));
    }
    for line in [
        format!("state-dir = {CANARY}"),
        format!("state-dir = \"{CANARY}"),
        format!("state-dir = \"\\{CANARY}\""),
        format!("state-dir = 'a' {CANARY}"),
        format!("state-dir = ['{CANARY}']"),
        format!("state-dir = 1{CANARY}"),
        format!("state-dir = 1.{CANARY}"),
        format!("state-dir = 2026-01-01{CANARY}"),
        format!("state-dir = \"\\u{CANARY}\""),
        format!("state-dir = \"\"\"\n{CANARY}"),
        format!("state-dir = 'a'\n= '{CANARY}'"),
        format!("state-dir {CANARY}"),
        format!("state-dir = {{ a = {CANARY} }}"),
        format!("bind-tcp = [{{ a = '{CANARY}' }}]"),
        format!("tcp-auth = ['{CANARY}'"),
        format!("log.level = '{CANARY}'"),
        format!("log.format = '{CANARY}'"),
        format!("limits.login-timeout = '{CANARY}'"),
        format!("limits.max-unauthenticated = '{CANARY}'"),
        format!("tls-min = '{CANARY}'"),
        format!("backend = '{CANARY}'"),
        format!("backends = '{CANARY}'"),
        format!("state-dirs = '{CANARY}'"),
        format!("[[socket]]\nbind-tcp = '*:1'\nauth = 'env'\nmod = '{CANARY}'"),
        format!("[[socket]]\nbind-tcp = '*:1'\nauth = '{CANARY}'"),
    ] {
        errors.push((line.clone(), toml(&line).unwrap_err()));
    }
    for (written, error) in errors {
        for part in ["hunter", "unter2", "canary"] {
            assert!(
                !told(&error).contains(part) && !format!("{error:?}").contains(part),
                "{written}: {error}"
            );
        }
    }
}

#[test]
fn the_exchange_of_names_is_chosen_only_among_the_links_that_are_there() {
    assert!(flags(&["bind=/a,auth=env,auth=file(filename=/x),identity=file"]).is_ok());
    for wrong in [
        "bind=/a,auth=env,identity=file",
        "bind=/a,auth=env,identity=fiel",
        "bind=/a,identity=file",
        "bind=/a,auth=env(name=A),auth=env(name=B),identity=env",
    ] {
        assert!(flags(&[wrong]).unwrap_err().to_string().contains("option identity"), "{wrong}");
    }
}

#[test]
fn s_065_a_link_is_not_written_twice_and_one_of_another_secret_is_another_link() {
    assert!(flags(&["bind=/a,auth=env,auth=env"]).is_err());
    assert!(flags(&["bind=/a,auth=env,auth=ENV()"]).is_err());
    assert_eq!(modules(&flags(&["bind=/a,auth=env,auth=env(name=X)"]).unwrap().sockets[0]), ["env", "env"]);
}

#[test]
fn a_stream_takes_only_chains_that_ask_nothing() {
    for silent in ["hosts", "none", "peercred", "fail"] {
        assert!(flags(&[&format!("bind=/a,protocol=stream,auth={silent}")]).is_ok(), "{silent}");
    }
    for asking in ["env", "pam", "allow", "reject"] {
        let error = flags(&[&format!("bind=/a,protocol=stream,auth=hosts,auth={asking}")]).unwrap_err();
        assert!(error.to_string().contains("protocol=stream"), "{asking}: {error}");
    }
}

#[test]
fn an_address_and_a_name_are_given_once() {
    for twice in [
        &["bind-tcp=:1", "bind-tcp=127.0.0.1:1"][..],
        &["bind-tcp=:1", "bind-ssl=localhost:1"],
        &["bind=/a", "bind=/a"],
        &["bind-tcp=[::1]:1", "bind-tcp=[0::1]:1"],
        &["bind-tcp=:1,name=a", "bind-tcp=:2,name=a"],
    ] {
        assert!(flags(twice).is_err(), "{twice:?}");
    }
    assert_eq!(flags(&["bind-tcp=:0", "bind-tcp=:0", "bind=none"]).unwrap().sockets.len(), 2);
    assert!(flags(&["bind=none"]).is_err());
    assert!(flags(&[]).unwrap_err().fix().contains("--bind=auto"));
}

#[test]
fn the_options_of_a_socket_become_its_values() {
    let config = flags(&[
        "bind=/a,mode=0640,owner=0,group=root,name=web,protocol=xpra,login-timeout=5s,handshake-timeout=2,backend=tcp:h:1",
        "bind-tcp=*:1,auth=env,protocols=\"plain, tls\",tls-min=1.2,ssl-cert=/c,ssl-key=/k",
        "bind-tcp=*:2,auth=env,protocols=plain",
        "ssl-cert=/all",
        "backend=unix:/run/app",
    ])
    .unwrap();
    let [unix, tcp, plain] = &config.sockets[..] else { panic!("three sockets") };
    assert_eq!((unix.unix.mode, unix.unix.owner, unix.unix.group), (0o640, Some(0), Some(0)));
    assert_eq!(
        (unix.label().as_str(), unix.protocol, &*unix.backend.to_string()),
        ("web", Protocol::Xpra, "tcp:h:1")
    );
    assert_eq!((unix.login_timeout.as_secs(), unix.handshake_timeout.as_secs()), (5, 2));
    assert_eq!(
        (tcp.accepts, tcp.tls.allow_tls12, &*tcp.backend.to_string()),
        (Accepts::PlainAndTls, true, "unix:/run/app")
    );
    assert_eq!(tcp.tls.key.as_deref(), Some(Path::new("/k")));
    assert_eq!((plain.accepts, plain.tls.certificate.as_deref()), (Accepts::Plain, Some(Path::new("/all"))));
    assert_eq!(flags(&["bind=/a,group=0"]).unwrap().sockets[0].unix.mode, 0o660);
}

#[test]
fn options_of_a_socket_that_are_wrong_or_of_no_use_to_it_are_errors() {
    for wrong in [
        "bind=/a,mode=888",
        "bind=/a,mode=1777",
        "bind=/a,mode=6",
        "bind=@a,mode=600",
        "bind=/a,owner=no-such-user-here",
        "bind=/a,group=4294967295",
        "bind=/a,group=-1",
        "bind=/a,protocols=plain,require-tls=yes",
        "bind=/a,ssl-cert=/x",
        "bind=/a,tls-min=1.2",
        "bind-tcp=:1,protocols=plain,ssl-cert=/x",
        "bind=/a,name=a:b",
        "bind=/a,name=\"\"",
        "bind=/a,protocol=rpc",
        "bind=/a,login-timeout=0",
        "bind=/a,login-timeout=never",
        "bind=/a,login-timeout=2d",
        "bind=/a,backend=dbb",
        "bind=/a,backend=tpc:h:1",
        "bind-tcp=:1,mode=600",
        "bind-tcp=:1,protocols=ws",
        "bind-tcp=:1,protocols=\"\"",
        "bind-tcp=:1,protocols=plain,require-tls=yes",
        "bind-tcp=:1,require-tls=perhaps",
        "bind-tcp=:1,tls-min=1.1",
        "bind-tcp=:1,ssl-key=/k",
        "bind-ssl=:1,require-tls=no",
        "bind-ssl=:1,protocols=tls",
        "bind-ssl=:1,starttls=postgres",
        "bind-ssl=:1,protocol=stream,starttls=smtp",
        "bind-tcp=:1,protocol=stream,starttls=postgres",
        "bind=/a,protocol=stream,starttls=postgres",
        "bind-rpc=:1,auth=none,mode=600",
        "bind-rpc=:1,auth=none,group=0",
        "bind-rpc=unix:@a,auth=none,mode=600",
        "bind-rpc=:1,auth=none,protocol=rpc",
        "bind-rpc=:1,auth=none,protocols=tls",
        "bind-rpc=:1,auth=none,require-tls=yes",
        "bind-rpc=:1,auth=none,backend=exec:/bin/cat",
        "bind-rpc=:1,auth=none,backend=xpra+unix:/x",
        "bind-rpc=:1,auth=env",
        "bind-rpc=/a,auth=none",
        "bind-rpc=none",
    ] {
        assert!(flags(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn clients_of_postgres_may_ask_for_tls_where_it_is_required() {
    for socket in [
        "bind-ssl=:1,protocol=stream,auth=none,starttls=postgres",
        "bind=/a,protocol=stream,auth=none,require-tls=yes,starttls=postgres",
        "bind-tcp=:1,protocol=stream,auth=none,require-tls=yes,starttls=Postgres",
    ] {
        let config = flags(&[socket]).unwrap();
        assert_eq!(config.sockets[0].starttls, Some(StartTls::Postgres), "{socket}");
    }
    assert_eq!(flags(&["bind-ssl=:1,protocol=stream,auth=none"]).unwrap().sockets[0].starttls, None);
}

#[test]
fn s_066_a_unix_socket_carries_tls_where_it_says_so_under_the_same_chain() {
    for (options, accepts) in [
        ("", Accepts::Plain),
        (",require-tls=no", Accepts::Plain),
        (",require-tls=yes,ssl-cert=/c,tls-min=1.2", Accepts::Tls),
        (",protocols=tls", Accepts::Tls),
        (",protocols=plain+tls,ssl-cert=/c", Accepts::PlainAndTls),
    ] {
        let config = flags(&[&format!("bind=/a,auth=pam{options}")]).unwrap();
        let socket = &config.sockets[0];
        assert_eq!((socket.accepts, modules(socket)), (accepts, vec!["pam"]), "{options}");
        // S-33: nobody else reads the socket, with TLS or without.
        assert_eq!(socket.warnings, [], "{options}");
    }
}

#[test]
fn s_065_a_chain_of_certificates_on_a_wire_without_tls_is_an_error() {
    for auth in ["certificate", "certificate(ca=/nonexistent)", "hosts,auth=certificate"] {
        for bind in ["bind=/a", "bind-tcp=*:1,protocols=plain"] {
            let error = flags(&[&format!("{bind},auth={auth}")]).unwrap_err();
            assert_eq!(error.fix(), "add require-tls=yes", "{bind} {auth}");
        }
    }
}

#[test]
fn calls_have_sockets_of_their_own() {
    let socket = |text: &str| flags(&[text]).unwrap().sockets.remove(0);
    let unix = socket("bind-rpc=unix:/a,auth=hosts,auth=peercred,mode=660,backend=unix:/b");
    assert_eq!((unix.kind, unix.protocol, unix.accepts), (Kind::Rpc, Protocol::Rpc, Accepts::Tls));
    assert_eq!((unix.place().as_str(), unix.unix.mode), ("rpc:unix:/a", 0o660));
    assert_eq!(modules(&unix), ["hosts", "peercred"]);
    let tcp = socket(
        "bind-rpc=localhost:,auth=hosts,backend=\"tls:h:1,pin=PIN\"".replace("PIN", &"a".repeat(64)).as_str(),
    );
    assert_eq!(tcp.place(), "rpc:127.0.0.1:50051");
    assert!(tcp.tls.allow_tls12, "Multipass's older clients speak 1.2");
    assert!(!socket("bind-rpc=:1,auth=hosts,tls-min=1.3").tls.allow_tls12);
    let usual = socket("bind-rpc=unix:/a");
    assert_eq!((modules(&usual), usual.trusts, usual.first_use.is_some()), (vec!["certificate"], true, true));
    assert!(socket("bind-rpc=:1").first_use.is_none() && socket("bind-rpc=unixbox:1").first_use.is_none());
    let config = flags(&["bind-rpc=auto", "rpc-auth=hosts", "rpc-auth=none"]).unwrap();
    assert_eq!(modules(&config.sockets[0]), ["hosts", "none"]);
    assert_eq!(toml("[[socket]]\nbind-rpc = ':1'\nauth = 'fail'").unwrap().sockets[0].kind, Kind::Rpc);
}

#[test]
fn what_this_build_does_not_serve_is_said_so() {
    for flag in ["bind-ws", "bind-wss", "bind-vsock", "bind-ssh", "bind-pipe", "ws-auth", "ssh-auth"] {
        let error = flags(&[&format!("{flag}=:1")]).unwrap_err();
        assert!(error.to_string().contains("this build does not have it yet"), "{flag}: {error}");
    }
    assert!(toml("bind-ws = ':1'").unwrap_err().to_string().contains("does not have it yet"));
    assert!(toml("[[socket]]\nbind-ws = ':1'").unwrap_err().to_string().contains("does not have it yet"));
}

#[test]
fn every_option_of_a_socket_is_named_once_and_explained() {
    let names: Vec<&str> = SOCKET_OPTIONS.iter().map(|option| option.spec.name).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    let keys: HashSet<&str> = KEYS.iter().flat_map(|key| [key.name, key.flag]).collect();
    assert_eq!(keys.len(), KEYS.len() + KEYS.iter().filter(|key| key.name != key.flag).count());
    for help in SOCKET_OPTIONS.iter().map(|option| option.spec.help).chain(KEYS.iter().map(|key| key.help)) {
        assert!(!help.is_empty() && !help.ends_with('.'), "{help}");
    }
}

struct Double {
    name: &'static str,
    options: &'static [OptionSpec],
    verifier: fn() -> Verifier,
}

impl Module for Double {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        "stands in for the real one"
    }

    fn manual(&self) -> &'static str {
        "for tests"
    }

    fn example(&self) -> &'static str {
        self.name
    }

    fn options(&self) -> &'static [OptionSpec] {
        self.options
    }

    fn configure(&self, options: &mut Options, _: &Context) -> Result<Verifier, ConfigError> {
        for option in self.options {
            options.take(option.name)?;
        }
        Ok((self.verifier)())
    }
}

/// Passes 192.0.2.0/24 and local peers, so that `explain --as` has something to tell apart.
struct Documentation;

impl CheckPeer for Documentation {
    fn check(&self, peer: &Peer, _: &Claim) -> Result<Option<Identity>, Refusal> {
        match peer.address() {
            Some(address) if !address.to_string().starts_with("192.0.2.") => {
                Err(Refusal::peer_denied("the address is not listed"))
            }
            _ => Ok(None),
        }
    }
}

struct Nothing;

impl LookupSecret for Nothing {
    fn lookup(&self, _: &Claim) -> Result<Entry, Refusal> {
        Err(Refusal::unknown_user())
    }
}

impl CheckPassword for Nothing {
    fn check(&self, _: &Peer, _: &Claim, _: &Secret) -> Result<Option<Identity>, Refusal> {
        Err(Refusal::unknown_user())
    }
}

fn peer() -> Verifier {
    Verifier::Peer(Box::new(Documentation))
}

fn secret() -> Verifier {
    Verifier::Secret(Box::new(Nothing))
}

fn password() -> Verifier {
    Verifier::Password(Box::new(Nothing))
}

const fn of(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, "TEXT", "", "for tests")
}

static DOUBLES: [Double; 8] = [
    Double { name: "hosts", options: &[], verifier: peer },
    Double { name: "peercred", options: &[of("uid"), of("group")], verifier: peer },
    Double { name: "env", options: &[of("name")], verifier: secret },
    Double { name: "file", options: &[of("filename")], verifier: secret },
    Double { name: "multifile", options: &[of("filename")], verifier: secret },
    Double { name: "password", options: &[of("value")], verifier: secret },
    Double { name: "pam", options: &[of("service")], verifier: password },
    Double { name: "ldap", options: &[of("host"), of("username-format")], verifier: password },
];

#[test]
fn s_057_the_first_client_comes_in_on_a_unix_socket_as_the_last_link() {
    let socket = |flag: &str| {
        let config = flags(&[flag]).unwrap();
        let socket = config.sockets.into_iter().next().unwrap();
        (socket.trusts, socket.first_use, socket.unix)
    };
    let (trusts, rule, unix) = socket("bind=/run/app.sock,require-tls=yes,group=0,auth=certificate");
    assert!(trusts && rule == Some(crate::trust::FirstUse::for_group(0)));
    assert_eq!((unix.mode, unix.group), (0o666, Some(0)));
    let (_, rule, unix) =
        socket("bind=/run/app.sock,require-tls=yes,mode=660,group=0,auth=hosts,auth=certificate");
    assert!(rule.is_some() && unix.mode == 0o660);
    let (trusts, rule, unix) = socket("bind=/run/app.sock,require-tls=yes,auth=certificate(first-use=no)");
    assert!(trusts && rule.is_none() && unix.mode == 0o600);
    let (trusts, rule, _) = socket("bind-ssl=127.0.0.1:1,auth=certificate");
    assert!(trusts && rule.is_none());
    // An address that only begins like one of a Unix socket (M12).
    let (_, rule, _) = socket("bind-ssl=unixbox:1,auth=certificate");
    assert!(rule.is_none());
    for wrong in [
        "bind=/run/app.sock,auth=certificate",
        "bind-tcp=127.0.0.1:1,protocols=plain,auth=certificate",
        "bind-ssl=127.0.0.1:1,auth=certificate(first-use=yes)",
        "bind=@app,require-tls=yes,auth=certificate(first-use=yes)",
        "bind=/run/app.sock,require-tls=yes,auth=certificate,auth=hosts",
        "bind=/run/app.sock,require-tls=yes,auth=certificate(first-use=perhaps)",
    ] {
        assert!(flags(&[wrong]).is_err(), "{wrong}");
    }
}
