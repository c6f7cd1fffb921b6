//! Which layer wins, what names are read, and what `check --effective` shows.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, path::Path};

use super::*;
use crate::config::{
    Config, Paths,
    tests::{CANARY, modules, paths, registry, toml},
};

fn config(layers: &Layers) -> Config {
    Config::new(layers, &registry(), &paths()).unwrap()
}

fn file(layers: &mut Layers, name: &str, text: &str) -> Result<(), ConfigError> {
    layers.file(Path::new(name), text)
}

fn environment(layers: &mut Layers, variables: &[(&str, &str)]) -> Result<(), ConfigError> {
    layers.environment(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

const WHOLE: &str = r#"
backend = "unix:/run/app.sock"
bind-tcp = ["0.0.0.0:10000,auth=file(filename=/etc/pw)", "*:10001"]
tcp_auth = ["hosts", "file(filename=/etc/pw)"]
state-dir = "/srv/state"

[limits]
handshake_timeout = 4
login-timeout = "1m"
refusal-delay = 0.5
max-unauthenticated = 1_000

[backends]
db = "tcp:127.0.0.1:5432"

[log]
level = "debug"
format = "json"

[[socket]]
bind-tcp = "*:10002"
auth = ["hosts", "env,name=X"]
backend = "db"
require-tls = true

[[socket]]
bind = "/run/x.sock,mode=660"
protocol = "stream"
auth = "peercred"
"#;

#[test]
fn a_whole_file_becomes_a_configuration() {
    let config = toml(WHOLE).unwrap();
    let [unix, first, second, third] = &config.sockets[..] else { panic!("four sockets") };
    assert_eq!((modules(unix), &*unix.backend.to_string()), (vec!["peercred"], "unix:/run/app.sock"));
    assert_eq!((modules(first), modules(second)), (vec!["file"], vec!["hosts", "file"]));
    assert_eq!((modules(third), &*third.backend.to_string()), (vec!["hosts", "env"], "tcp:127.0.0.1:5432"));
    assert!(third.require_tls() && !second.require_tls());
    assert_eq!(config.state_dir, Path::new("/srv/state"));
    assert_eq!(config.limits.handshake_timeout.as_secs(), 4);
    assert_eq!((config.limits.refusal_delay.as_millis(), config.limits.max_unauthenticated), (500, 1000));
    assert_eq!(first.login_timeout.as_secs(), 60);
    assert_eq!((config.log.level.as_str(), config.log.format), ("debug", crate::config::LogFormat::Json));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_files_in_any_order() {
    let mut layers = Layers::default();
    layers.flag("login-timeout", "3s").unwrap();
    let variables = [
        ("COUNTERSIGN_LIMITS__LOGIN_TIMEOUT", "2s"),
        ("COUNTERSIGN_LIMITS__DRAIN_TIMEOUT", "2s"),
        ("COUNTERSIGN_BIND", "/env"),
        ("COUNTERSIGN_AUTH", "[\"peercred\", \"file(filename=\\\"/a,b\\\")\"]"),
        ("COUNTERSIGN_STATE_DIR", "/env"),
        ("COUNTERSIGN_BACKENDS__DB", "unix:/env"),
        ("COUNTERSIGN_LOG", "trace"),
    ];
    environment(&mut layers, &variables).unwrap();
    file(&mut layers, "a", "bind = '/file'\nauth = 'none'\nbackend = 'DB'\nlimits.login-timeout = '1s'\nlimits.drain-timeout = 1\nlimits.handshake-timeout = 1\nbackends.db = 'unix:/file'\nlog.level = 'off'").unwrap();
    layers.flag("state-dir", "/flag").unwrap();
    let config = config(&layers);
    let seconds = [config.limits.login_timeout, config.limits.drain_timeout, config.limits.handshake_timeout];
    assert_eq!(seconds.map(|limit| limit.as_secs()), [3, 2, 1]);
    assert_eq!(config.sockets[0].address.to_string(), "unix:/env");
    assert_eq!(modules(&config.sockets[0]), ["peercred", "file"]);
    assert_eq!(
        (config.state_dir.as_path(), &*config.sockets[0].backend.to_string()),
        (Path::new("/flag"), "unix:/env")
    );
    assert_eq!(config.log.level, "trace");
}

#[test]
fn later_files_win_sockets_add_up_and_a_chain_stands_in_one_file() {
    let mut layers = Layers::default();
    file(&mut layers, "a", "bind-tcp = ':1'\nstate-dir = '/a'\ntcp-auth = 'env'").unwrap();
    file(&mut layers, "b", "bind-tcp = [':2']\nstate-dir = '/b'\n[[socket]]\nbind-tcp = ':3'").unwrap();
    let config = config(&layers);
    assert_eq!((config.sockets.len(), config.state_dir.as_path()), (3, Path::new("/b")));
    let error = file(&mut layers, "c", "\n tcp-auth = 'file'").unwrap_err();
    assert_eq!(error.to_string(), "c:2:2: tcp-auth: it is given twice, first in a:3:12");
    assert!(file(&mut layers, "d", "state-dir = 'a'\nstate_dir = 'b'").is_err());
    assert!(file(&mut layers, "e", "[backends]\na-b = 'unix:/a'\na_b = 'unix:/b'").is_err());
    layers.flag("state-dir", "/x").unwrap();
    assert!(layers.flag("state-dir", "/y").is_err());
}

#[test]
fn s_065_unknown_names_are_errors_with_place_and_nearest_name() {
    for (text, error, fix) in [
        (
            "\nstate-dri = 'x'",
            "c:2:1: the configuration: there is no `state-dri`",
            "did you mean `state-dir`?",
        ),
        (
            "[limits]\n  logn-timeout = 1",
            "c:2:3: the configuration: there is no `limits.logn-timeout`",
            "did you mean `limits.login-timeout`?",
        ),
        ("[limit]\nx = 1", "c:1:2: the sections: there is no `limit`", "did you mean `limits`?"),
        (
            "[[socket]]\nbind = '/a'\nmod = '600'",
            "c:3:1: a socket: there is no `mod`",
            "did you mean `mode`?",
        ),
        ("[[sokcet]]\nbind = '/a'", "c:1:3: the sections: there is no `sokcet`", "did you mean `socket`?"),
        ("[[socket]]\nmode = '600'", "c:1:1: a socket: its address is missing", ""),
        ("[[socket]]\nbind='/a'\nbind-tcp=':1'", "c:3:1: a socket: it has two addresses", ""),
        ("[socket]\nbind='/a'", "c:1:2: socket: the value is of another kind", ""),
        ("bind = []", "c:1:8: bind: the list is empty", ""),
        ("state-dir = ['a']", "c:1:13: state-dir: the value is of another kind", ""),
        ("bind = '/é'\nlog = 1", "c:2:1: the configuration: an unknown name", "use one of: bind, "),
        ("state-dir = 'a", "c:1:15: TOML: ", ""),
    ] {
        let told = file(&mut Layers::default(), "c", text).unwrap_err();
        assert!(told.to_string().starts_with(error), "{text}: {told}");
        assert!(told.fix().starts_with(fix), "{text}: {}", told.fix());
    }
    for (variable, near) in
        [("COUNTERSIGN_LIMITS__LOGIN_TIMOUT", "limits.login-timeout"), ("COUNTERSIGN_BACKEN", "backend")]
    {
        let error = environment(&mut Layers::default(), &[(variable, "x")]).unwrap_err();
        assert!(error.to_string().starts_with(variable), "{error}");
        assert_eq!(error.fix(), format!("did you mean `{near}`?"));
    }
    assert!(environment(&mut Layers::default(), &[("COUNTERSIGN_NO__SUCH", "x")]).is_err());
    assert!(Layers::default().flag("tcp-aut", "env").unwrap_err().fix().contains("tcp-auth"));
    // What a gateway gives its backends, and what belongs to others.
    let others =
        [("COUNTERSIGN_USER", "x"), ("COUNTERSIGN_CONFIG", "x"), ("COUNTERSIGN_SESSION", "x"), ("PATH", "x")];
    environment(&mut Layers::default(), &others).unwrap();
    let no_text = |name: &str| [(OsString::from(name), OsString::from_vec(vec![0xff]))];
    assert!(Layers::default().environment(no_text("COUNTERSIGN_STATE_DIR")).is_err());
    Layers::default().environment(no_text("LS_COLORS")).unwrap();
}

#[test]
fn errors_of_values_name_the_place_they_were_written_at() {
    for (text, error) in [
        ("bind = ['/a',\n '/b,mod=600']", "c.toml:2:2: the socket: there is no `mod` (at character 4)"),
        ("bind-tcp = '*:1'", "c.toml:1:12: its chain: "),
        ("bind = '/a'\nauth = [\n'evn']", "c.toml:3:1: auth: there is no `evn` (at character 1)"),
        ("bind = '/a'\nlimits.login-timeout = 0", "c.toml:2:24: option login-timeout of limits: "),
        (
            "[[socket]]\nbind = '/a,auth=env'\nauth = 'env'",
            "c.toml:3:8: auth: the socket's address has a chain too",
        ),
        ("[[socket]]\nbind = '/a,mode=600'\nmode = '600'", "c.toml:3:8: option mode: it is given twice"),
        ("[[socket]]\nbind = '/a'\nmode = '999'", "c.toml:2:8: option mode of bind: "),
    ] {
        let told = toml(text).unwrap_err().to_string();
        assert!(told.starts_with(error), "{text}: {told}");
    }
}

#[test]
fn s_088_the_effective_settings_tell_where_each_came_from_and_no_secret() {
    let mut layers = Layers::default();
    file(&mut layers, "c", &format!("bind-tcp = ['*:1,auth=password(value={CANARY})', '*:2,auth=password({CANARY}']\nbackends.x = 'exec:/bin/a {CANARY}'\n[[socket]]\nbind = '/a'\nauth = 'password:value={CANARY}'\nbackend = 'exec:{CANARY}'")).unwrap();
    environment(&mut layers, &[("COUNTERSIGN_TCP_AUTH", &format!("password(value={CANARY})"))]).unwrap();
    layers.flag("backend", &format!("exec:/bin/a {CANARY}")).unwrap();
    let rows: Vec<String> = layers
        .effective(&registry())
        .into_iter()
        .map(|row| format!("{} = {} ({})", row.key, row.value, row.origin))
        .collect();
    for row in [
        "bind-tcp = *:1,auth=password(value=<set>) (c:1:13)",
        "bind-tcp = <set> (c:1:56)",
        "tcp-auth = password(value=<set>) (COUNTERSIGN_TCP_AUTH)",
        "backend = exec:/bin/a (--backend)",
        "limits.login-timeout = 120s (default)",
        "backends.x = exec:/bin/a (c:2:14)",
        "socket[0].bind = /a (c:4:8)",
        "socket[0].auth = password(value=<set>) (c:5:8)",
        "socket[0].backend = <set> (c:6:11)",
    ] {
        assert!(rows.iter().any(|other| other == row), "{row} not in {rows:#?}");
    }
    assert!(!rows.concat().contains(CANARY) && !format!("{layers:?}").contains(CANARY));
}

#[test]
fn the_defaults_of_the_table_are_the_defaults_that_hold() {
    let mut written = Layers::default();
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        written.flag(key.flag, key.default).unwrap();
    }
    let mut bare = Layers::default();
    for layers in [&mut written, &mut bare] {
        layers.flag("bind", "auto").unwrap();
    }
    assert_eq!(format!("{:?}", config(&written)), format!("{:?}", config(&bare)));
}

#[test]
fn the_usual_files_are_read_in_order_and_a_named_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let paths = Paths::new(false, directory.path(), "/run/x", "/var/x");
    let dir = |named: Option<&Path>, variables: Vec<(OsString, OsString)>| {
        let layers = Config::layers(named, &paths, variables)?;
        Config::new(&layers, &registry(), &paths).map(|config| config.state_dir)
    };
    assert!(dir(None, Vec::new()).is_err(), "no file, so no socket");
    std::fs::create_dir(directory.path().join("conf.d")).unwrap();
    write("countersign.toml", "bind = 'auto'\nstate-dir = '/main'");
    write("other.toml", "bind = 'auto'");
    assert_eq!(dir(None, Vec::new()).unwrap(), Path::new("/main"));
    write("conf.d/20-b.toml", "state-dir = '/b'");
    write("conf.d/10-a.toml", "state-dir = '/a'");
    write("conf.d/.30-c.toml", "state-dir = '/hidden'");
    write("conf.d/40-d.toml~", "not toml");
    assert_eq!(dir(None, Vec::new()).unwrap(), Path::new("/b"));
    let other = directory.path().join("other.toml");
    assert_eq!(dir(Some(&other), Vec::new()).unwrap(), Path::new("/var/x"));
    let variable = ("COUNTERSIGN_CONFIG".into(), other.clone().into_os_string());
    assert_eq!(dir(None, vec![variable]).unwrap(), Path::new("/var/x"));
    assert!(dir(Some(&directory.path().join("missing.toml")), Vec::new()).is_err());
}
