//! Whole configurations: what is refused, what is warned about, and that no error tells a secret.

use std::collections::HashSet;

use super::*;
use crate::{
    Claim, Identity, Peer, Refusal, Secret, Verifier,
    modules::{Context, Module, OptionSpec},
    proto::chain::{CheckPassword, CheckPeer, Entry, LookupSecret},
};

mod sockets;
mod xpra_forms;

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
        (":1,encryption=AES", "its key is missing"),
        (":1,encryption=AES,auth=env", "its key is missing"),
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
    for bind in ["bind=/tmp/x", "bind-tcp=*:1", "bind-ssl=*:1", "bind-ws=*:1", "bind-wss=*:1"] {
        let config = flags(&[&format!("{bind},auth=fail")]).unwrap();
        assert_eq!(modules(&config.sockets[0]), ["fail"], "{bind}");
    }
    for (bind, switch) in [
        ("bind=/a", "auth"),
        ("bind-tcp=*:1", "tcp-auth"),
        ("bind-ssl=*:1", "ssl-auth"),
        ("bind-ws=*:1", "ws-auth"),
        ("bind-wss=*:1", "wss-auth"),
    ] {
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
    let sessions = "backend=\"session:template(path=/run/user/{uid}/app.sock,min-uid=500)\"";
    assert_eq!(warnings(&format!("{sessions},auth=hosts,auth=env")), [Warning::NamesNobody]);
    assert_eq!(warnings(&format!("{sessions},auth=hosts,auth=allow")), [Warning::Idle("allow")]);
}

#[test]
fn s_033_what_an_open_wire_would_show_is_called_by_its_name() {
    let shown = |module| Warning::Cleartext(module).to_string();
    for module in ["pam", "ldap", "kerberos-password"] {
        assert!(shown(module).starts_with(&format!("{module} needs the secret itself, which is refused")));
    }
    for module in ["oauth", "gss", "kerberos-ticket"] {
        assert!(shown(module).starts_with(&format!("{module} needs a token, which is refused")));
        assert!(Registry::builtin().find(module).is_ok());
    }
}

#[test]
fn s_033_a_module_that_needs_the_password_is_warned_about_where_the_wire_may_be_clear() {
    let warned = |bind: &str| {
        flags(&[&format!("{bind},auth=pam")]).unwrap().sockets[0].warnings == [Warning::Cleartext("pam")]
    };
    assert!(
        warned("bind-ws=:1")
            && warned("bind-tcp=*:1")
            && warned("bind-tcp=127.0.0.1:1")
            && warned("bind-tcp=*:1,protocols=plain")
    );
    for confidential in [
        "bind=/a",
        "bind-vsock=any:1",
        "bind-ssl=*:1",
        "bind-wss=*:1",
        "bind-tcp=*:1,require-tls=yes",
        "bind-tcp=*:1,protocols=tls",
    ] {
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
        .filter(|option| !["auth", "backend", "keyfile", "name", "ssl-cert"].contains(&option.spec.name));
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
fn what_this_build_does_not_serve_is_said_so() {
    let error = flags(&["bind-pipe=:1"]).unwrap_err();
    assert!(error.to_string().contains("this build does not have it yet"), "{error}");
    assert!(toml("bind-pipe = 'x'").unwrap_err().to_string().contains("does not have it yet"));
    if !cfg!(feature = "ssh") {
        assert!(toml("bind-ssh = ':1'").unwrap_err().to_string().contains("does not have it yet"));
    }
}

#[cfg(feature = "ssh")]
#[test]
fn a_socket_of_ssh_has_the_chain_that_is_written_and_no_module_that_ssh_cannot_ask() {
    let config = flags(&["bind-ssh=127.0.0.1:0,host-key=/k,auth=none"]).unwrap();
    let socket = &config.sockets[0];
    assert_eq!((socket.place().as_str(), socket.protocol), ("ssh:127.0.0.1:0", Protocol::Ssh));
    assert_eq!(socket.host_key.as_deref(), Some(Path::new("/k")));
    assert_eq!(flags(&["bind-ssh=127.0.0.1:,auth=none"]).unwrap().sockets[0].place(), "ssh:127.0.0.1:22");
    // S-67: without a chain on the loopback only.
    assert!(flags(&["bind-ssh=0.0.0.0:0"]).unwrap_err().to_string().contains("no module is written"));
    for (module, why) in [("u2f(keys=/k)", "no client of SSH"), ("certificate", "come with TLS")] {
        let error = flags(&[&format!("bind-ssh=127.0.0.1:0,auth={module}")]).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    for option in ["protocol=stream", "require-tls=yes", "websocket=yes", "ssl-cert=/c"] {
        let error = flags(&[&format!("bind-ssh=127.0.0.1:0,{option},auth=none")]).unwrap_err();
        assert!(error.to_string().contains("have it"), "{error}");
    }
    assert!(flags(&["bind-tcp=127.0.0.1:0,host-key=/k,auth=none"]).is_err());
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
    Double { name: "peercred", options: &[of("uid"), of("group"), of("cid")], verifier: peer },
    Double { name: "env", options: &[of("name")], verifier: secret },
    Double { name: "file", options: &[of("filename")], verifier: secret },
    Double { name: "multifile", options: &[of("filename")], verifier: secret },
    Double { name: "password", options: &[of("value")], verifier: secret },
    Double { name: "pam", options: &[of("service")], verifier: password },
    Double { name: "ldap", options: &[of("host"), of("username-format")], verifier: password },
];
