//! The one table of settings: what each is called, and what it does.

use super::super::{
    backends,
    kind::NOT_YET,
    spec::{ModuleSpec, SocketSpec, canonical},
};
use crate::{
    error::{ConfigError, nearest},
    modules::Registry,
};

/// A setting: what it is called in a file, in the environment and as a flag.
#[derive(Debug)]
#[non_exhaustive]
pub struct Key {
    /// Its name in a file, after its section and a dot. In the environment the dot is `__`.
    pub name: &'static str,
    /// The flag without its dashes.
    pub flag: &'static str,
    /// Whether it may be repeated.
    pub form: Form,
    /// What stands for its value in a manual.
    pub value: &'static str,
    /// What holds if it is not written; empty if nothing does.
    pub default: &'static str,
    /// What it does, in one sentence without a full stop.
    pub help: &'static str,
}

impl Key {
    pub(super) fn masked(&self, text: &str, registry: &Registry) -> String {
        match self.form {
            Form::Chain => masked_module(text, registry),
            Form::List if self.value == "SOCKET" => masked_socket(text, registry),
            Form::One if self.name == "backend" => backends::masked(text).into_owned(),
            Form::One | Form::List => text.to_owned(),
        }
    }
}

/// How often a [`Key`] may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Once.
    One,
    /// Any number of times: files add up.
    List,
    /// Any number of times, in order, in one place.
    Chain,
}

/// The key of that name, whatever the case and the dashes.
pub(in crate::config) fn find(
    name: &str,
    of: fn(&Key) -> &'static str,
    among: &'static str,
) -> Result<&'static Key, ConfigError> {
    let wanted = canonical(name);
    let wanted = ALIASES.iter().find(|(alias, _)| *alias == wanted).map_or(&*wanted, |(_, name)| name);
    if NOT_SERVED.contains(&wanted) {
        return Err(ConfigError::new(
            wanted.to_owned(),
            NOT_YET,
            "use bind, bind-tcp, bind-ssl, bind-ws, bind-wss, bind-vsock or bind-rpc",
        ));
    }
    KEYS.iter()
        .find(|key| of(key) == wanted)
        .ok_or_else(|| ConfigError::unknown(among, wanted, KEYS.iter().map(of)))
}

pub(super) fn near_key(name: &str) -> Option<&'static str> {
    nearest(name, KEYS.iter().map(|key| key.name))
}

pub(super) fn masked_socket(text: &str, registry: &Registry) -> String {
    SocketSpec::parse(text, registry).map_or_else(|_| "<set>".to_owned(), |spec| spec.to_string())
}

pub(super) fn masked_module(text: &str, registry: &Registry) -> String {
    ModuleSpec::parse(text, registry).map_or_else(|_| "<set>".to_owned(), |spec| spec.to_string())
}

/// Every setting but `[backends]` and `[[socket]]`, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    list("bind", "bind", "SOCKET", "a Unix socket: PATH, @NAME, DIR/, auto or none, with its options"),
    list("bind-tcp", "bind-tcp", "SOCKET", "a TCP socket, [HOST]:PORT, with its options"),
    list("bind-ssl", "bind-ssl", "SOCKET", "a TLS socket, [HOST]:PORT, with its options"),
    list("bind-ws", "bind-ws", "SOCKET", "a WebSocket, [HOST]:PORT, with its options"),
    list("bind-wss", "bind-wss", "SOCKET", "a WebSocket in TLS, [HOST]:PORT, with its options"),
    list("bind-ssh", "bind-ssh", "SOCKET", "a socket of SSH, [HOST]:PORT, with its options"),
    list(
        "bind-vsock",
        "bind-vsock",
        "SOCKET",
        "a vsock socket, CID:PORT (a number, any, host or hypervisor), with its options",
    ),
    list(
        "bind-rpc",
        "bind-rpc",
        "SOCKET",
        "a socket of gRPC calls: unix:PATH, auto or [HOST]:PORT, with its options",
    ),
    chain("auth", "a module of the chain of Unix sockets without auth="),
    chain("tcp-auth", "a module of the chain of TCP sockets without auth="),
    chain("ssl-auth", "a module of the chain of TLS sockets without auth="),
    chain("ws-auth", "a module of the chain of WebSockets without auth="),
    chain("wss-auth", "a module of the chain of WebSockets in TLS without auth="),
    chain("ssh-auth", "a module of the chain of sockets of SSH without auth="),
    chain("vsock-auth", "a module of the chain of vsock sockets without auth="),
    chain("rpc-auth", "a module of the chain of sockets of calls without auth="),
    one("backend", "backend", "BACKEND", "builtin:whoami", "the daemon behind every socket without its own"),
    one("state-dir", "state-dir", "DIR", "", "where the state is kept"),
    one(
        "control",
        "control",
        "PATH|none",
        "",
        "the socket of the owner's commands [default: control.sock in the runtime directory, or in DIR]",
    ),
    one(
        "admin",
        "admin",
        "HOST:PORT|PATH",
        "none",
        "where /metrics, /livez and /readyz are read over HTTP, on this machine only",
    ),
    one(
        "user",
        "user",
        "NAME",
        "",
        "whom a gateway of root's becomes when its sockets are open [default: countersign, where there is that account]",
    ),
    one(
        "sandbox",
        "sandbox",
        "on|off|required",
        "on",
        "hold the process to the files and calls that it needs; required: in full, or do not start",
    ),
    one("group", "group", "NAME", "", "its group, if not the user's own"),
    one("ssl-cert", "ssl-cert", "FILE", "", "the certificate of every socket without its own, in PEM"),
    one("ssl-key", "ssl-key", "FILE", "", "the key of that certificate, if it is in another file"),
    one("tls-min", "tls-min", "1.2|1.3", "1.3", "the oldest version of TLS that is spoken"),
    one(
        "limits.handshake-timeout",
        "handshake-timeout",
        "TIME",
        "10s",
        "when a client's first message is due",
    ),
    one("limits.login-timeout", "login-timeout", "TIME", "120s", "when a login must have succeeded"),
    one("limits.refusal-delay", "refusal-delay", "TIME", "1s", "how long every refusal takes, at most 8s"),
    one(
        "limits.drain-timeout",
        "drain-timeout",
        "TIME",
        "30s",
        "how long sessions may go on after the end is asked",
    ),
    one(
        "limits.max-unauthenticated",
        "max-unauthenticated",
        "NUMBER",
        "4096",
        "clients that may be logging in; from half of them on some are dropped at random",
    ),
    one(
        "limits.max-per-source",
        "max-per-source",
        "NUMBER",
        "20",
        "how many of them may be of one IPv4 address, one IPv6 /64 or one uid",
    ),
    one(
        "limits.penalties",
        "penalties",
        "yes|no",
        "yes",
        "count failed logins at every socket, and refuse for a while who has many",
    ),
    one(
        "limits.penalty-min",
        "penalty-min",
        "TIME",
        "15s",
        "from which penalty on a name is refused at its source, and from four times that on the source",
    ),
    one("limits.penalty-max", "penalty-max", "TIME", "10m", "the longest penalty"),
    list(
        "limits.penalty-exempt",
        "penalty-exempt",
        "SOURCE",
        "never counted or penalised by where it comes from, a proxy for example: an address, a network or uid:UID",
    ),
    one(
        "log.level",
        "log-level",
        "LEVEL",
        "info",
        "how much is logged: off, error, warn, info, debug, trace",
    ),
    one(
        "audit.file",
        "audit-file",
        "FILE",
        "",
        "the audit trail, chained so that no change of it goes unseen",
    ),
    one(
        "audit.policy",
        "audit",
        "required|best-effort",
        "",
        "required: nobody gets in without a record on the disk [default: best-effort, with a file]",
    ),
    one("log.format", "log-format", "auto|text|json", "auto", "text for people, json for programs"),
];

const fn list(name: &'static str, flag: &'static str, value: &'static str, help: &'static str) -> Key {
    Key { name, flag, form: Form::List, value, default: "", help }
}

const fn chain(name: &'static str, help: &'static str) -> Key {
    Key { name, flag: name, form: Form::Chain, value: "MODULE", default: "", help }
}

const fn one(
    name: &'static str,
    flag: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, flag, form: Form::One, value, default, help }
}

/// Other spellings of keys.
const ALIASES: [(&str, &str); 2] = [("bind-tls", "bind-ssl"), ("tls-auth", "ssl-auth")];

/// Sockets and switches of the design that are known words and not served.
const NOT_SERVED: [&str; 1] = ["bind-pipe"];
