//! Xpra's syntax row by row (`docs/protocol/xpra.md`, sockets): what each text means here, or the error and its
//! repair. The grammar itself has its tests in `spec/tests.rs`, addresses of clients theirs in `connect/uri/tests.rs`.

use super::*;

/// The place and the chain of each socket, or the error with its repair.
fn meaning(texts: &[&str]) -> Result<String, String> {
    let config = flags(texts).map_err(|error| told(&error))?;
    let socket = |socket: &SocketConfig| format!("{} {}", socket.place(), modules(socket).join("+"));
    Ok(config.sockets.iter().map(socket).collect::<Vec<_>>().join(" "))
}

/// `Err` has a part of what is wrong, and a part of the repair.
type Row<'a> = (&'a [&'a str], Result<&'a str, (&'a str, &'a str)>);

#[track_caller]
fn holds(rows: &[Row<'_>]) {
    for (texts, expected) in rows {
        match (meaning(texts), expected) {
            (Ok(meaning), Ok(expected)) => assert_eq!(meaning, *expected, "{texts:?}"),
            (Err(error), Err((why, fix))) => {
                assert!(error.contains(why) && error.contains(fix), "{texts:?}: {error}");
                assert!(!error.contains(CANARY), "{texts:?}: {error}");
            }
            (found, _) => panic!("{texts:?}: {found:?}"),
        }
    }
}

/// `--bind*`: each form of an address, and each form of what follows it.
#[test]
fn s_065_every_form_of_a_socket_means_what_xpra_means_or_is_an_error() {
    const FORM: &str = "write HOST:PORT, :PORT for 127.0.0.1, *:PORT for all";
    let port = Err(("the port is no number from 0 to 65535", FORM));
    holds(&[
        (&["bind=auto"], Ok("unix:/run/countersign/countersign.sock none")),
        (&["bind=noabstract"], Ok("unix:/run/countersign/countersign.sock none")),
        (&["bind=@name"], Ok("unix:@name none")),
        (&["bind=/run/app/"], Ok("unix:/run/app/countersign.sock none")),
        (&["bind=/run/app.sock,auth=env"], Ok("unix:/run/app.sock env")),
        (&["bind=none", "bind-tcp=:1"], Ok("tcp:127.0.0.1:1 none")),
        (&["bind=none"], Err(("there is no socket", "--bind=auto"))),
        (&["bind=/a", "bind=/b"], Ok("unix:/a none unix:/b none")),
        (&["bind-tcp=:"], Ok("tcp:127.0.0.1:14500 none")),
        (&["bind-ssl=:"], Ok("tls:127.0.0.1:443 none")),
        (&["bind-ws=:"], Ok("ws:127.0.0.1:80 none")),
        (&["bind-wss=:"], Ok("wss:127.0.0.1:443 none")),
        (&["bind-tcp=:10000"], Ok("tcp:127.0.0.1:10000 none")),
        (&["bind-tcp=host:,auth=env"], Ok("tcp:host:14500 env")),
        (&["bind-tcp=[::1]:10000"], Ok("tcp:[::1]:10000 none")),
        (&["bind-tcp=::1:10000"], Ok("tcp:[::1]:10000 none")),
        (&["bind-tcp=::1:443"], Err(("can be read in two ways", "[::1]:443"))),
        (&["bind-tcp=*:10000,auth=env"], Ok("tcp:0.0.0.0:10000 env")),
        (&["bind-tcp=127.0.0.1:0"], Ok("tcp:127.0.0.1:0 none")),
        (&["bind-tcp=10000"], Err(("`:` and a port are missing", FORM))),
        (&["bind-tcp=host"], Err(("`:` and a port are missing", FORM))),
        (&["bind-tcp="], Err(("the address is missing", "write the address first"))),
        (&["bind-tcp=a:-1"], port),
        (&["bind-tcp=a:65536"], port),
        (&["bind-tcp=a:1e3"], port),
        (&["bind-tcp=: 80 "], port),
        (&["bind-tcp=:８０"], port),
        (&["bind-tcp=:1", "bind-tcp=127.0.0.1:1"], Err(("it is given twice", "write each address once"))),
        (&["bind-tcp=:1,auth=hosts,auth=env"], Ok("tcp:127.0.0.1:1 hosts+env")),
        (&["bind-tcp=:1, auth = env "], Ok("tcp:127.0.0.1:1 env")),
        // W30: what Xpra drops, and opens the socket.
        (&["bind-tcp=:1,auth"], Err(("no `=` and no value (at character 4)", "write key=value"))),
        (&["bind-tcp=:1,#auth=env"], Err(("no comments here", "remove the item"))),
        (&["bind-tcp=:1,auht=env"], Err(("there is no `auht`", "did you mean `auth`?"))),
        (&["bind-tcp=:1,auth="], Err(("a value is missing", "write key=value"))),
        (&["bind-tcp=:1,"], Err(("an item is empty", "write key=value"))),
        (&["bind-vsock=any:10000,auth=env"], Ok("vsock:any:10000 env")),
        (&["bind-vsock=AUTO:10000,auth=env"], Ok("vsock:any:10000 env")),
        (&["bind-vsock=host:10000,auth=env"], Ok("vsock:2:10000 env")),
        (&["bind-vsock=hypervisor:10000,auth=env"], Ok("vsock:0:10000 env")),
        (&["bind-vsock=3:10000,auth=peercred(cid=4)"], Ok("vsock:3:10000 peercred")),
        (&["bind-vsock=3:any,auth=env"], Ok("vsock:3:4294967295 env")),
        (&["bind-vsock=1:10000"], Ok("vsock:1:10000 none")),
        (&["bind-vsock=any:10000"], Err(("no module is written", "auth=none to let everybody in"))),
        (&["bind-vsock=3"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (&["bind-vsock=3:"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (&["bind-vsock=:10000"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (&["bind-vsock=3:host"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (&["bind-vsock=-1:1"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (&["bind-vsock=3:4294967295"], Err(("it is no machine and port of vsock", "write CID:PORT"))),
        (
            &["bind-vsock=3:1,auth=env,mode=600"],
            Err(("only sockets of bind and bind-rpc have it", "remove it")),
        ),
        (&["bind-vsock=3:1,auth=env,require-tls=yes"], Err(("only sockets of", "remove it"))),
        (&["bind-vsock=3:1,auth=certificate"], Err(("", ""))),
        (&["bind-vsock=3:1,auth=env", "bind-vsock=3:1,auth=env"], Err(("it is given twice", "write each"))),
        // Not among our sockets.
        (&["bind-quic=:1"], Err(("there is no `bind-quic`", ""))),
        (&["bind-rfb=:1"], Err(("bind-rfb", ""))),
        (&["bind-rdp=:1"], Err(("bind-rdp", ""))),
    ]);
    let warned = flags(&["bind-tcp=::1:10000,auth=env"]).unwrap();
    assert_eq!(warned.sockets[0].warnings, [Warning::Ipv6WithoutBrackets]);
}

/// `auth=`: each form, on a socket and in the switch of its type.
#[test]
fn s_065_every_form_of_a_module_means_the_same_on_a_socket_and_in_a_switch() {
    for (module, chain) in [
        ("env", "env"),
        ("env()", "env"),
        ("env:name=X", "env"),
        ("env(name=X)", "env"),
        ("file:filename=/etc/pw", "file"),
        ("file(filename=/etc/pw, prompt=PIN)", "file"),
        // Two options of the colon form, and a value with a colon.
        ("file:filename=p:prompt=PIN", "file"),
        ("password:value=a:b=c", "password"),
        // What Xpra reads as the name of a module.
        ("file,filename=/etc/pw", "file"),
        ("file:filename=/etc/pw,prompt=PIN", "file"),
        ("FILE(filename=/etc/pw)", "file"),
        (" file (filename=/etc/pw) ", "file"),
    ] {
        for (bind, switch) in [("bind=/a", "auth"), ("bind-tcp=*:1", "tcp-auth")] {
            let (on_socket, in_switch) = (format!("{bind},auth={module}"), format!("{switch}={module}"));
            assert_eq!(modules(&flags(&[&on_socket]).unwrap().sockets[0]), [chain], "{on_socket}");
            assert_eq!(modules(&flags(&[bind, &in_switch]).unwrap().sockets[0]), [chain], "{in_switch}");
        }
    }
    for (module, why, fix) in [
        ("file(x)", "an item has no `=`", "write key=value"),
        ("file(filename=/etc/pw", "a bracket is not closed", "in quotes"),
        ("sysbase", "an unknown name", "use one of: "),
        // W11: the rest of a password is never taken for something else, nor repeated (W19).
        (&format!("password:value=a,{CANARY}"), "an item has no `=`", "in quotes: key=\"a,b\""),
        (&format!("pasword(value={CANARY})"), "there is no `pasword`", "did you mean `password`?"),
    ] {
        let (on_socket, in_switch) = (format!("bind-tcp=*:1,auth={module}"), format!("tcp-auth={module}"));
        holds(&[(&[&on_socket], Err((why, fix))), (&["bind-tcp=*:1", &in_switch], Err((why, fix)))]);
    }
    // On a socket the comma also ends what belongs to the module.
    holds(&[
        (&["bind-tcp=*:1,auth=file,filename=/etc/pw,require-tls=yes,prompt=PIN"], Ok("tcp:0.0.0.0:1 file")),
        (
            &["bind=/a,auth=env,name=X"],
            Err(("the socket and env both have an option name", "auth=env(name=...)")),
        ),
        (&["bind=/a,name=door,auth=env(name=X)"], Ok("unix:/a env")),
    ]);
}

/// Every name that the page, the manual and the versions of Xpra have for a module.
#[test]
fn every_name_of_a_module_is_read() {
    let registry = Registry::builtin();
    for (written, name) in [
        ("tcp hosts", "hosts"),
        ("tcp hosts()", "hosts"),
        ("TCP_Hosts", "hosts"),
        ("tcp-hosts", "hosts"),
        ("hosts", "hosts"),
        ("kerberos-ticket", "kerberos-ticket"),
        ("kerberos_token:prompt=x", "kerberos-ticket"),
        ("gss_auth", "gss"),
        ("gss", "gss"),
        ("kerberos_password", "kerberos-password"),
        ("sys", "pam"),
        ("ldap3", "ldap"),
        ("mysql", "sql"),
        ("keycloak", "oauth"),
        ("http_header", "http-header"),
    ] {
        let spec = ModuleSpec::parse(written, &registry).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(spec.name(), name, "{written}");
    }
    for same in "allow none fail reject env password multifile file pam win32 sqlite peercred exec u2f fido2 sql capability \
                 otp oauth scram ratelimit"
        .split_whitespace()
    {
        assert_eq!(ModuleSpec::parse(same, &registry).unwrap().name(), same);
    }
    for wrong in ["tcp", "tcp  hosts x", "file hosts", "tcp hosts env"] {
        assert!(ModuleSpec::parse(wrong, &registry).is_err(), "{wrong}");
    }
}

/// `--auth`, `--tcp-auth` and the like: the chain of each socket of the type without its own.
#[test]
fn s_066_every_switch_guards_the_sockets_of_its_type_and_no_other() {
    for (bind, place, switch) in SWITCHES {
        let (first, second) = (format!("{switch}=hosts"), format!("{switch}=env,name=X"));
        let chain = Ok(format!("{place} hosts+env"));
        assert_eq!(meaning(&[bind, &first, &second]), chain, "repeated, {switch} is a chain");
        let own = format!("{bind},auth=fail");
        let other = meaning(&[&own, &first]).unwrap_err();
        assert!(other.contains("is left that it would guard"), "{switch}: {other}");
        for (_, _, foreign) in SWITCHES.iter().filter(|(_, _, foreign)| foreign != switch) {
            let error = meaning(&[&own, &format!("{foreign}=hosts")]).unwrap_err();
            assert!(
                error.contains("remove it, or use the switch of the sockets you have"),
                "{foreign}: {error}"
            );
        }
        // No fallback from an empty chain of its own to the switch, and none to no authentication (W30).
        assert!(meaning(&[&format!("{bind},auth="), &first]).is_err(), "{switch}");
        assert!(meaning(&[bind, &format!("{switch}=")]).is_err(), "{switch}");
    }
    holds(&[
        (&["bind-tls=*:1", "tls-auth=hosts"], Ok("tls:0.0.0.0:1 hosts")),
        (&["bind-tcp=:1", "quic-auth=hosts"], Err(("quic-auth", ""))),
        (&["bind-tcp=:1", "rfb-auth=hosts"], Err(("rfb-auth", ""))),
        (&["bind-tcp=:1", "rdp-auth=hosts"], Err(("rdp-auth", ""))),
    ]);
}

const SWITCHES: &[(&str, &str, &str)] = &[
    ("bind=/a", "unix:/a", "auth"),
    ("bind-tcp=*:1", "tcp:0.0.0.0:1", "tcp-auth"),
    ("bind-ssl=*:1", "tls:0.0.0.0:1", "ssl-auth"),
    ("bind-ws=*:1", "ws:0.0.0.0:1", "ws-auth"),
    ("bind-wss=*:1", "wss:0.0.0.0:1", "wss-auth"),
    ("bind-vsock=any:1", "vsock:any:1", "vsock-auth"),
];

/// The grammar as it is documented, and each of its rules.
#[test]
fn s_065_each_rule_of_the_grammar_holds() {
    let one = |text: &str| {
        let spec = ModuleSpec::parse(text, &registry()).unwrap_or_else(|error| panic!("{text}: {error}"));
        spec.options().fold(spec.name().to_owned(), |line, (key, value)| format!("{line} {key}={value}"))
    };
    for (text, meaning) in [
        // A colon starts an option only before the name of one.
        ("peercred:uid=$UID:fred", "peercred uid=$UID:fred"),
        ("multifile:filename=C:\\a", "multifile filename=C:\\a"),
        ("file:filename=p:prompt=PIN", "file filename=p prompt=PIN"),
        // Brackets nest and hold quotes; a backslash escapes in quotes alone.
        ("password(value=f(g(x),y))", "password value=f(g(x),y)"),
        ("password(value=\"a)b,c\")", "password value=a)b,c"),
        ("password(value=\"a\\\"b\\\\c\")", "password value=a\"b\\c"),
        ("file(filename=C:\\dir\\pw)", "file filename=C:\\dir\\pw"),
    ] {
        assert_eq!(one(text), meaning, "{text}");
    }
    let masked = format!("bind-tcp=*:1,auth=password(value={CANARY},value={CANARY})");
    holds(&[
        (&["bind-tcp=*:1,auth=env(X=1)"], Err(("(at character 14)", "use one of: name"))),
        (&["bind-tcp=*:1,auth=env(nmae=1)"], Err(("there is no `nmae`", "did you mean `name`?"))),
        (&[&masked], Err(("password", "write it once"))),
        (&["bind-tcp=*:1,auth=env,login-timeout=1s,login-timeout=2s"], Err(("given twice", "write it once"))),
        (&["bind-tcp=*:1,auth=env(name=\"X)"], Err(("a quote is not closed", "close it"))),
        (&["bind-tcp=*:1,auth=env)"], Err(("a bracket is closed that was not opened", "in quotes"))),
        // S-67: a network socket without a chain does not open.
        (&["bind-tcp=*:1"], Err(("no module is written", "auth=none to let everybody in"))),
        (&["bind-tcp=*:1,auth=none"], Ok("tcp:0.0.0.0:1 none")),
    ]);
}
